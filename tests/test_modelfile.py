"""A Modelfile formats conversations as the chat template does."""

import pytest
from transformers import AutoTokenizer

from nbtune.model.modelfile import modelfile
from nbtune.tiny import WEIGHTS

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
REST = "{% if messages[0].role == 'system' %}{% set said = messages[0].content %}{% set messages = messages[1:] %}{% endif %}"
TEMPLATES = {
    "of the built-in model": None,
    "ChatML": CHATML,
    "without a system prompt": "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML,
    "with one of its own, as Qwen2.5's": (
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}" + CHATML
    ),
    "with a date before it, as Llama 3.1's": (
        "{% set said = '' %}" + REST + "{{ '<|im_start|>system\nToday: Monday\n\n' + said + '<|im_end|>\n' }}" + CHATML
    ),
    "that ends a text, as Phi-3's": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    "that may think, as Qwen3's": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
    ),
    "in brackets, as Llama 2's": (
        "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
        "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
}
ASKED = [{"role": "user", "content": "What is it?"}]
TALK = [*ASKED, {"role": "assistant", "content": "A cup."}, {"role": "user", "content": "Which?"}]
BRIEF = [{"role": "system", "content": "Be brief."}, *TALK]


def rendered(text, chat):
    """Render a chat as Ollama does: the part before the messages once, then each message."""
    template = text.split('"""')[1]
    head, messages = template.split("{{ range $at, $_ := .Messages }}")
    user, assistant = messages.split('{{ if eq .Role "user" }}')[1].split('{{ else if eq .Role "assistant" }}')
    assistant = assistant.removesuffix("{{ end }}{{ end }}")
    asked, is_last, reply = user.partition("{{ if eq (len (slice $.Messages $at)) 1 }}")
    system = next((message["content"] for message in chat if message["role"] == "system"), "")
    written = choice(head, system) if head.startswith("{{ if .System }}") else head
    for message in chat:
        if message["role"] == "user":
            written += asked.replace("{{ .Content }}", message["content"])
            written += choice("{{ if }}" + reply, message is chat[-1]) if is_last else ""
        elif message["role"] == "assistant":
            written += assistant.replace("{{ .Content }}", message["content"])
    return written.replace("{{ .System }}", system)


def choice(text, condition):
    """Return the branch of an if-else that a condition selects."""
    one, _, other = text.split(" }}", 1)[1].removesuffix("{{ end }}").partition("{{ else }}")
    return one if condition else other


CHATS = {"one round": ASKED, "two rounds": TALK, "a system prompt": BRIEF}
WITHOUT = ("without a system prompt", "in brackets, as Llama 2's")  # the latter puts the system prompt into the first question


@pytest.mark.parametrize(("template", "chat"), [(t, c) for t in TEMPLATES for c in CHATS if c != "a system prompt" or t not in WITHOUT])
def test_conversations_are_written_as_the_template_writes_them(template, chat):
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    if TEMPLATES[template]:
        tokenizer.add_special_tokens({"bos_token": "<s>"})
        tokenizer.chat_template = TEMPLATES[template]
    text = modelfile(tokenizer, [tokenizer.eos_token_id], "model.gguf")
    whole = tokenizer.apply_chat_template(CHATS[chat], tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert rendered(text, CHATS[chat]) == whole.removeprefix(tokenizer.bos_token or "")


def test_it_is_greedy_and_stops_at_each_end():
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    lines = modelfile(tokenizer, [tokenizer.eos_token_id, tokenizer.pad_token_id], "model.gguf").splitlines()
    assert lines[0] == "FROM ./model.gguf"
    ends = [f'PARAMETER stop "{tokenizer.decode([end])}"' for end in (tokenizer.eos_token_id, tokenizer.pad_token_id)]
    assert lines[-3:] == ["PARAMETER temperature 0", *ends]
