"""The labels of the panels, in English and Chinese."""

from __future__ import annotations

__all__ = ["label"]

_LANGUAGES = ("en", "zh")
_LABELS: dict[str, tuple[str, str]] = {
    # panels
    "chat": ("Chat", "对话"),
    "finetune": ("Finetune", "微调"),
    "facts": ("Facts", "知识"),
    "model": ("Model", "模型"),
    # what a job does
    "importing": ("importing what is needed", "正在导入所需模块"),
    "loading": ("loading {x}", "正在加载 {x}"),
    "answering": ("answering", "正在回答"),
    "teaching": ("teaching {x}", "正在教 {x}"),
    "previewing": ("previewing {x}", "正在预览 {x}"),
    "probing": ("probing {x}", "正在检验 {x}"),
    "forgetting": ("forgetting {x}", "正在忘记 {x}"),
    "undoing": ("undoing", "正在撤销"),
    "redoing": ("redoing", "正在重做"),
    "rebuilding": ("rebuilding the adapter", "正在重建适配器"),
    "exporting": ("writing {x}", "正在写入 {x}"),
    "switching": ("switching to {x}", "正在切换到 {x}"),
    "stopping": ("stopping …", "正在停止……"),
    "stopped": ("Stopped.", "已停止。"),
    "unchanged": ("Stopped: nothing was changed.", "已停止：没有任何改变。"),
    # chat
    "send": ("Send", "发送"),
    "stop": ("Stop", "停止"),
    "new": ("New conversation", "新对话"),
    "answers": ("answers", "由谁回答"),
    "in use": ("in use: {x}", "当前：{x}"),
    "base": ("base", "原模型"),
    "tuned": ("tuned", "微调后"),
    "compare": ("compare side by side", "并排比较"),
    "prompt": (
        "Ask something. Enter sends; for a new line type \\ and then Enter. Pasting lines does not send them.",
        "请输入问题。按 Enter 发送；先输入 \\ 再按 Enter 则换行。粘贴的多行文字不会立即发送。",
    ),
    "no conversation": ("Nothing was asked yet.", "还没有提问。"),
    "interrupted": ("stopped here", "在此停止"),
    "cut: limit": ("cut at the maximum length", "达到最大长度，在此截断"),
    "cut: context": ("cut: the context is full", "上下文已满，在此截断"),
    "left out": ("the oldest rounds were left out, to fit into the context", "为了放得下，省去了最早的几轮对话"),
    "settings": ("Settings", "设置"),
    "system": ("system prompt", "系统提示词"),
    "temperature": ("temperature", "温度"),
    "top_p": ("top-p", "top-p"),
    "max_new_tokens": ("max new tokens", "最大生成长度（词元）"),
    "seed": ("seed", "随机种子"),
    "copy": ("Copy the last reply", "复制上一个回答"),
    "teach": ("Teach this", "教它正确答案"),
    "keyword": ("keyword", "关键词"),
    "answer": ("answer", "答案"),
    "to finetune": ("To the finetune panel", "填入微调面板"),
    "handed on": (
        "In the finetune panel now: press Start there (`%nbtune panel finetune` shows it).",
        "已填入微调面板：请在该面板点击“开始”（`%nbtune panel finetune` 可显示该面板）。",
    ),
    # finetune
    "a fact": ("a fact", "一条知识"),
    "data": ("data", "数据"),
    "source": ("variable or file", "变量或文件"),
    "method": ("method", "方法"),
    "epochs": ("epochs", "训练轮数"),
    "learning_rate": ("learning rate", "学习率"),
    "name": ("adapter", "适配器"),
    "rank": ("rank", "秩"),
    "batch_size": ("batch size", "批次大小"),
    "rewordings": ("rewordings", "改写问法数"),
    "val": ("val share", "验证比例"),
    "more": ("More settings", "更多设置"),
    "default": ("default", "默认"),
    "preview": ("Preview", "预览"),
    "start": ("Start", "开始"),
    "undo": ("Undo", "撤销"),
    "redo": ("Redo", "重做"),
    "no lesson": ("Nothing was taught here yet.", "这里还没有教过什么。"),
    "left": ("at most {x} s left", "最多还需 {x} 秒"),
    "epoch": ("epoch", "训练轮"),
    "train_loss": ("loss", "损失"),
    "val_loss": ("val loss", "验证损失"),
    "train_said": ("said", "答对率"),
    "train_held": ("held", "保持率"),
    "asking before": ("asking before", "训练前提问"),
    "asking after": ("asking after", "训练后提问"),
    "learning": ("learning", "学习中"),
    "training": ("training", "训练中"),
    "asking what must stay": ("asking what must stay", "检查须保持不变的回答"),
    "reading what is learned": ("reading what is learned", "读入要学的内容"),
    "reading examples": ("reading examples", "读取样本"),
    "asking for other wordings": ("asking for other wordings", "让模型改写问法"),
    "back": ("Back at {x}.", "已回到{x}。"),
    "again": ("Restored {x}.", "已恢复到{x}。"),
    "version": ("version {x}", "版本 {x}"),
    "the base": ("the base", "原模型"),
    # facts
    "filter": ("filter", "筛选"),
    "standing": ("standing", "状态"),
    "verified": ("verified", "已验证"),
    "failed": ("failed", "失败"),
    "reliability": ("reliability", "可靠性"),
    "generalization": ("generalization", "泛化"),
    "portability": ("portability", "可迁移性"),
    "taught": ("taught", "学习时间"),
    "probe": ("Probe again", "重新检验"),
    "edit": ("Edit", "编辑"),
    "forget": ("Forget", "忘记"),
    "rebuild": ("Rebuild", "重建"),
    "file": ("file", "文件"),
    "export": ("Export", "导出"),
    "import": ("Import", "导入"),
    "no facts": ("No facts are in use.", "当前没有使用中的知识。"),
    "no match": ("No fact matches the filter.", "没有符合筛选的知识。"),
    "written": ("{x} written.", "已写入 {x}。"),
    "forgotten": ("Forgotten: {x}.", "已忘记：{x}。"),
    "pages": ("{x} facts", "{x} 条知识"),
    "marked": ("{x} selected", "已选 {x} 条"),
    "heat map": ("Share of correct replies", "答对的比例"),
    "trained prompts": ("trained prompts", "训练问法"),
    "held-out": ("held-out phrasings", "未训练的问法"),
    "other forms": ("in another form", "换一种形式"),
    "near miss": ("near misses", "近似名称"),
    # model
    "what": ("model", "模型"),
    "name or folder": ("name or folder", "名称或文件夹"),
    "source or folder": ("tiny, a folder, or a hub id", "tiny、文件夹或 Hub 模型 ID"),
    "dtype": ("dtype", "数据类型"),
    "load": ("Load", "加载"),
    "use": ("Use", "使用"),
    "use none": ("Use none", "停用适配器"),
    "loaded": ("Loaded: {x}.", "已加载：{x}。"),
    "not loaded": ("{x} (loaded at the first question)", "{x}（第一次提问时加载）"),
    "parameters": ("parameters", "参数量"),
    "context": ("context", "上下文"),
    "chat template": ("chat template", "对话模板"),
    "memory": ("memory of the process", "进程内存"),
    "adapter": ("adapter", "适配器"),
    "store": ("store", "适配器目录"),
    "none": ("none (the base answers)", "无（原模型回答）"),
}


def label(key: str, language: str, **filled: object) -> str:
    """Return a label.

    Parameters
    ----------
    key
        Key of the table.
    language
        ``"en"`` or ``"zh"``.
    **filled
        Values of the label's fields.

    Raises
    ------
    KeyError
        If there is no such label.
    """
    return _LABELS[key][_LANGUAGES.index(language)].format(**filled)
