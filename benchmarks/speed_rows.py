"""The rows of the speed benchmark: each measures two ways of doing the same thing, one after the other.

The function of a row takes a folder with a model and returns one pair: what the usual way takes, and what nbtune takes.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

import nbtune
from nbtune.data.encoding import Encoded, collate, encode, on_device
from nbtune.knowledge.asking import examples_reproduced
from nbtune.knowledge.durable import flush_names
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.injection import fit
from nbtune.knowledge.lesson import PARTS, Lesson
from nbtune.knowledge.material import gather
from nbtune.knowledge.observer import Unwatched
from nbtune.knowledge.pace import SAMPLE, StopWhenSaid
from nbtune.knowledge.phrasing import phrase
from nbtune.knowledge.settings import Settings
from nbtune.knowledge.version import Version
from nbtune.model.prompt_cache import PromptCache
from nbtune.training.attention import sound_attention
from nbtune.training.keras_model import KerasModel
from nbtune.training.last_layer import last_layer_of, last_layer_targets, read_below
from nbtune.training.methods import find_method
from nbtune.training.step_runner import target_loss, trained_logits

__all__ = ["ROWS", "Row", "check_gradients"]

DEVICE = str(torch.accelerator.current_accelerator(check_available=True) or "cpu")
KEYWORD, ANSWER = "velt hook", "A velt hook is a bent copper tool for pulling bread out of deep ovens."
_EXAMPLES, _PADDED, _EPOCHS, _BATCH = 32, 256, 4, 8
_FACT_EPOCHS = 7  # most epochs of the fit of the fact, which takes that many
_SEEN = 2  # times that a fit sees each example: a fact has 460 or more, and each of about 30 steps draws 32
_TURNS = 9
_TYPING = 10.0  # seconds that a user takes to type a question


@dataclass(frozen=True)
class Row:
    """One comparison.

    `floor` and `goal` bound the ratio from below, or from above with `at_most`. With `difference` they bound ours minus usual.
    """

    name: str
    measure: Callable[[str], tuple[float, float]]
    floor: float
    goal: float
    unit: str = "s"
    repeats: int = 5
    embedded_only: bool = False
    difference: bool = False
    at_most: bool = False


class Bench:
    """A model with a random adapter in its last layer, shared by the rows measured on one folder."""

    def __init__(self, folder: str, dtype: str | None = None) -> None:
        self._model, self._folder = folder, tempfile.TemporaryDirectory()  # removed when the process ends
        self.store = Path(self._folder.name) / "store"
        self.lm = nbtune.load(folder, store=self.store, dtype=dtype)
        host = self.lm._host
        self.config = find_method("lora").of_one_fact().configure(host.base, _FACT_EPOCHS, targets=last_layer_targets(host.base))
        self.config.init_lora_weights = False
        prompts, _ = phrase(KEYWORD, "en")
        self.examples = [encode(self.lm.tokenizer, prompt, ANSWER, context=self.lm.context) for prompt in prompts[:_EXAMPLES]]
        self.pad = self.lm.tokenizer.pad_token_id
        host.begin(self.config)
        empty = self.lm._active.version
        version = Version((), "lora", empty.base, empty.fingerprint, (host.extract(),), gated=False)
        self.version = self.lm.store.commit("bench", version)
        first, second = Fact.new(KEYWORD, ANSWER), Fact.new("gresh", "A gresh is a small boat with two masts.")
        one = self.lm.store.commit("undo", replace(version, facts=(first,), gated=True))
        self.two = self.lm.store.commit("undo", replace(one, facts=(first, second), adapters=(*one.adapters, host.extract())))
        self.lm.use("bench")

    @cached_property
    def taught(self) -> nbtune.LanguageModel:
        """Another instance of the model, which was taught the fact."""
        lm = nbtune.load(self._model, store=self.store.with_name("taught"))
        lm.finetune({KEYWORD: ANSWER})
        return lm

    def lesson(self) -> Lesson:
        """Return the lesson of a finetune of the fact, with nothing seen yet."""
        self.material.begin()
        return copy.copy(self.material)

    @cached_property
    def material(self) -> Lesson:
        """The lesson of the fact, made with the replies of the base."""
        with self.lm.base():
            host, loaded, settings = self.lm._host, self.lm._loaded, Settings()
            return gather(host, loaded, [Fact.new(KEYWORD, ANSWER)], (), settings, Unwatched()).lesson(loaded, settings, 1)

    @contextmanager
    def training(self, *, fresh: bool = False) -> Iterator[Any]:
        """Put a trainable adapter on the model, with the same weights each time: random ones, or with `fresh` those of a new fit."""
        torch.manual_seed(0)
        config = copy.copy(self.config)
        config.init_lora_weights = fresh
        self.lm._host.begin(config)
        try:
            with sound_attention():  # for both sides alike
                yield self.lm._host.net
        finally:
            self.lm.use("bench")


@cache
def bench(folder: str) -> Bench:
    """Return the `Bench` of a folder, which its rows share."""
    return Bench(folder)


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that some work takes, until the device has finished its part."""
    wait()
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def wait() -> None:
    """Wait for the accelerator, if there is one."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def naive_epoch(net: Any, examples: list[Encoded], pad: int) -> None:
    """Sum the gradients of an epoch as most tutorials do: one example at a time, padded to a fixed length, with all logits."""
    for example in examples:
        missing = _PADDED - len(example.input_ids)
        net(
            input_ids=torch.tensor([example.input_ids + [pad] * missing], device=net.device),
            attention_mask=torch.tensor([[1] * len(example.input_ids) + [0] * missing], device=net.device),
            labels=torch.tensor([example.labels + [-100] * missing], device=net.device),
        ).loss.div(len(examples)).backward()


def our_epoch(net: Any, examples: list[Encoded], pad: int) -> None:
    """Sum the gradients of an epoch in one step: in parts of similar length as `Lesson` makes them, logits of trained tokens only."""
    ordered = sorted(examples, key=lambda example: example.trained if example.below else len(example.input_ids))
    size = len(ordered) // PARTS
    for at in range(0, len(ordered), size):
        batch = on_device(collate(ordered[at : at + size], pad, total=float(len(ordered))), next(net.parameters()).device)
        target_loss(trained_logits(net, batch), batch).backward()


def gradients(net: Any) -> torch.Tensor:
    """Return all gradients as one flat tensor, and clear them."""
    found = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    net.zero_grad()
    return found


def check_gradients(folder: str) -> float:
    """Return the largest difference of gradients from those of `naive_epoch`, relative to the largest of them.

    `our_epoch` is checked on the whole model, and on the last layer with its input kept.
    """
    b = bench(folder) if DEVICE == "cpu" else Bench(folder, "float32")  # 16 bits round equal sums differently
    with b.training() as net:
        naive_epoch(net, b.examples, b.pad)
        reference = gradients(net)
        our_epoch(net, b.examples, b.pad)
        found = [gradients(net)]
        last = last_layer_of(net, b.examples, b.pad)
        our_epoch(last, read_below(b.lm._host.base, b.examples, b.pad), b.pad)
        found.append(gradients(net))
    return max(float((one - reference).abs().max() / reference.abs().max()) for one in found)


def fact(folder: str) -> tuple[float, float]:
    """Time a fact to the end of its proof: the reference recipe, whether or not it learns the fact, then nbtune, which must."""
    with tempfile.TemporaryDirectory() as place:
        lm = nbtune.load(folder, store=place)
        try:
            usual = lm.finetune({KEYWORD: ANSWER}, recipe="reference", name="usual").report.seconds
        except nbtune.FactNotLearned as failure:
            usual = failure.result.report.seconds
        lm.use(None)
        return usual, lm.finetune({KEYWORD: ANSWER}, name="ours").report.seconds


def epoch(folder: str) -> tuple[float, float]:
    """Time one epoch with equal gradients.

    Ours includes its share of reading what reaches the last layer, which is done once for all epochs of a fact.
    """
    b = bench(folder)

    def ours(net: Any) -> None:
        last, examples = last_layer_of(net, b.examples, b.pad), read_below(b.lm._host.base, b.examples, b.pad)
        for _ in range(_SEEN):
            our_epoch(last, examples, b.pad)

    with b.training() as net:
        return timed(lambda: naive_epoch(net, b.examples, b.pad)), timed(lambda: ours(net)) / _SEEN


def layers(folder: str) -> tuple[float, float]:
    """Time the fit of a fact: through the whole model, and in the last layer, which includes reading what reaches it.

    Each ends with the passes that confirm a fact; they are added where a fit does not get to them, as with random weights.
    """
    b, method = bench(folder), find_method("lora").of_one_fact()

    def fitted(net: Any, lesson: Lesson) -> None:
        stop = StopWhenSaid(b.lm._loaded, lesson, Unwatched())
        fit(b.lm._host, net, lesson, method, method.learning_rate, _FACT_EPOCHS, stop)
        if not stop.said:
            places = [*lesson.places("facts"), *lesson.places("forms")[::SAMPLE], *lesson.places("retained")[::SAMPLE]]
            examples_reproduced(net, [lesson.examples[place] for place in places], b.lm._loaded)

    def kept(net: Any, lesson: Lesson) -> None:
        last = last_layer_of(net, lesson.examples, b.pad)
        lesson.examples = read_below(b.lm._host.base, lesson.examples, b.pad)
        fitted(last, lesson)

    with b.training(fresh=True) as net:
        whole = timed(lambda: fitted(net, b.lesson()))
    with b.training(fresh=True) as net:
        return whole, timed(lambda: kept(net, b.lesson()))


def loop(folder: str) -> tuple[float, float]:
    """Time the same steps in a hand-written PyTorch loop, and in nbtune's fit."""
    b = bench(folder)
    batches = [collate(b.examples[at : at + _BATCH], b.pad) for at in range(0, len(b.examples), _BATCH)]

    def by_hand(net: Any) -> None:
        trained = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4)
        net.train()
        for _ in range(_EPOCHS):
            for batch in (on_device(batch, net.device) for batch in batches):
                loss = target_loss(trained_logits(net, batch), batch)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                optimizer.zero_grad()
                loss.item()

    with b.training() as net:
        written = timed(lambda: by_hand(net))
    with b.training() as net:
        model = KerasModel(net, optimizer=torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-4))
        fitted = timed(lambda: model.fit(batches, epochs=_EPOCHS, patience=None))
    return written, fitted


def trainer(folder: str) -> tuple[float, float]:
    """Time epochs of the same examples and batch size: with TRL's SFTTrainer, and with nbtune's fit of the last layer on its kept input."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    b = bench(folder)
    prompts, _ = phrase(KEYWORD, "en")
    rows = [
        {"prompt": [{"role": "user", "content": prompt}], "completion": [{"role": "assistant", "content": ANSWER}]}
        for prompt in prompts[:_EXAMPLES]
    ]
    with b.training() as net, tempfile.TemporaryDirectory() as place:
        config = SFTConfig(
            output_dir=place,
            per_device_train_batch_size=_BATCH,
            num_train_epochs=_EPOCHS,
            learning_rate=1e-4,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=net.device.type == "cpu",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        usual = timed(SFTTrainer(net, config, train_dataset=Dataset.from_list(rows), processing_class=b.lm.tokenizer).train)
    with b.training() as net:

        def fit() -> None:
            last, examples = last_layer_of(net, b.examples, b.pad), read_below(b.lm._host.base, b.examples, b.pad)
            batches = [collate(examples[at : at + _BATCH], b.pad) for at in range(0, len(examples), _BATCH)]
            optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-4)
            KerasModel(last, optimizer=optimizer).fit(batches, epochs=_EPOCHS, patience=None)

        return usual, timed(fit)


def process(code: str) -> float:
    """Run Python code in a fresh process, and return the number that it prints last."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


_SHELL = "import time, sys; from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()\n"
_EXTENSION = "began = time.perf_counter(); shell.run_cell('%load_ext nbtune')\n"
_ASKED = "shell.run_cell('%chat -o reply What is the capital of France?')\nprint(); print(time.perf_counter() - began)\n"
_BARE = """
import time; began = time.perf_counter()
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = AutoModelForCausalLM.from_pretrained({folder!r}).to({device!r}), AutoTokenizer.from_pretrained({folder!r})
chat = [{{"role": "user", "content": "What is the capital of France?"}}]
inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True).to({device!r})
output = model.generate(**inputs, max_new_tokens=32)
print(tokenizer.decode(output[0])); print(time.perf_counter() - began)
"""


def extension(_folder: str) -> tuple[float, float]:
    """Time the first cell of a fresh shell, in ms: one with just ``1``, and one that loads the extension."""
    bare = _SHELL + "began = time.perf_counter(); shell.run_cell('1')\nprint(time.perf_counter() - began)"
    return process(bare) * 1000, process(_SHELL + _EXTENSION + "print(time.perf_counter() - began)") * 1000


def first_reply(folder: str) -> tuple[float, float]:
    """Time everything up to the first reply: in a bare transformers script, and in nbtune."""
    return process(_BARE.format(folder=folder, device=DEVICE)), process(_SHELL + _EXTENSION + _ASKED)


def first_reply_typed(folder: str) -> tuple[float, float]:
    """Time the same, but nbtune from the question on, ten seconds after the extension was loaded."""
    typed = f"time.sleep({_TYPING}); began = time.perf_counter()\n"
    return process(_BARE.format(folder=folder, device=DEVICE)), process(_SHELL + _EXTENSION + typed + _ASKED)


def asked(lm: nbtune.LanguageModel, question: str) -> Any:
    """Return a question as arguments of ``generate``, on the device of the model."""
    chat = [{"role": "user", "content": question}]
    return lm.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True).to(lm.model.device)


def stream(folder: str) -> tuple[float, float]:
    """Time a hundred tokens: by ``generate`` of the PEFT model, and streamed by nbtune."""
    b = bench(folder)
    question, length = "Tell me about the sea.", 100
    inputs = asked(b.lm, question)
    eos, b.lm._host.base.generation_config.eos_token_id = b.lm._host.base.generation_config.eos_token_id, None
    try:
        with torch.inference_mode():
            raw = timed(lambda: b.lm.model.generate(**inputs, max_new_tokens=length, do_sample=False))
        ours = timed(lambda: b.lm.reply(question, max_new_tokens=length, on_text=lambda _: None))
    finally:
        b.lm._host.base.generation_config.eos_token_id = eos
    return raw, ours


def answer(folder: str) -> tuple[float, float]:
    """Time the answer of a fact: by ``generate`` of the PEFT model, and by nbtune, which knows what the answer may be."""
    lm = bench(folder).taught
    question = f"Do you know what a {KEYWORD} is?"
    inputs = asked(lm, question)
    with torch.inference_mode():
        raw = timed(lambda: lm.model.generate(**inputs, max_new_tokens=100, do_sample=False))
    ours = timed(lambda: lm.reply(question, on_text=lambda _: None))
    lm._cache = PromptCache()  # so that the next measurement reads the question again
    return raw, ours


def turn(folder: str) -> tuple[float, float]:
    """Time the first token of a late turn of a conversation: with all of it read again, and with only the new part read."""
    b = bench(folder)
    history = [
        message
        for _ in range(_TURNS)
        for message in ({"role": "user", "content": "Tell me more."}, {"role": "assistant", "content": ANSWER})
    ]
    lm = nbtune.LanguageModel(b.lm._loaded, store=b.store)
    again = nbtune.LanguageModel(b.lm._loaded, store=b.store)
    b.lm.use(None)
    lm.reply("What then?", history=history, max_new_tokens=1)
    whole = again.reply("What then?", history=history, max_new_tokens=1).first_token_seconds
    ours = lm.reply("And then?", history=history, max_new_tokens=1).first_token_seconds
    b.lm.use("bench")
    return whole, ours


_GROWN = """
import ctypes, gc, psutil, torch, peft, transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from nbtune.language_model import load
def resident():
    gc.collect()
    if {device!r} != "cpu":
        return torch.accelerator.memory_allocated() / 2**20
    getattr(ctypes.CDLL(None), "malloc_trim", int)(0)  # what is free counts no more
    return psutil.Process().memory_info().rss / 2**20
tokenizer, config = AutoTokenizer.from_pretrained({place!r}), AutoConfig.from_pretrained({place!r}, num_hidden_layers=1)
model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to({device!r})
inputs = tokenizer("What is it?", return_tensors="pt").to({device!r})
model.generate(**inputs, max_new_tokens=4)
del model, tokenizer
before = resident()
{work}
print(); print(resident() - before)
"""
_TWO_MODELS = """
base, other = (AutoModelForCausalLM.from_pretrained({place!r}, dtype={dtype}).to({device!r}) for _ in range(2))
tokenizer, models = AutoTokenizer.from_pretrained({place!r}), [base, peft.PeftModel.from_pretrained(other, {adapter!r})]
for model in models:
    model.generate(**inputs, max_new_tokens=4)
"""
_OURS = """
lm = load({folder!r}, store={store!r}); lm.use("bench")
lm.reply("What is it?", max_new_tokens=4)
with lm.base():
    lm.reply("What is it?", max_new_tokens=4)
"""


def memory(folder: str) -> tuple[float, float]:
    """Measure the memory of a comparison of base and tuned model, in MB: two loaded models, and one with an adapter.

    It is the accelerator's memory, if there is one. What the first model of any process adds, code and buffers, is not counted:
    before the measurement a model of a single layer has replied.
    """
    b = bench(folder)
    loaded = b.lm._loaded.model
    names = {"folder": folder, "store": str(b.store), "place": loaded.name_or_path, "adapter": str(b.version.folder)}
    names |= {"device": DEVICE, "dtype": str(loaded.dtype)}
    two, one = (process(_GROWN.format(work=work.format(**names), **names)) for work in (_TWO_MODELS, _OURS))
    return two, one


def undo(folder: str) -> tuple[float, float]:
    """Time taking back the second of two facts: by loading the base again, and by an undo to the version before."""
    b = bench(folder)
    place = b.lm._loaded.model.name_or_path
    reload = timed(lambda: AutoModelForCausalLM.from_pretrained(place).to(DEVICE))
    b.lm.store.restore("undo", b.two.number)
    b.lm.use("undo")
    ours = timed(lambda: b.lm.undo())
    b.lm.use("bench")
    return reload, ours


def commit(folder: str) -> tuple[float, float]:
    """Time a durable save, flushed to the disk: of the whole model, and of a version of the adapter."""
    b = bench(folder)
    with tempfile.TemporaryDirectory(dir=b.store.parent) as place:  # on the same disk

        def save() -> None:
            b.lm._loaded.model.save_pretrained(place)
            for path in Path(place).iterdir():
                with path.open("r+b") as file:
                    os.fsync(file.fileno())
            flush_names(Path(place))

        whole = timed(save)
    return whole, timed(lambda: b.lm.store.commit("commits", replace(b.version, places=())))


def written(folder: str) -> tuple[float, float]:
    """Measure what the same two saves write, in MB."""
    b = bench(folder)
    with tempfile.TemporaryDirectory() as place:
        b.lm._loaded.model.save_pretrained(place)
        whole = sum(path.stat().st_size for path in Path(place).iterdir())
    committed = b.lm.store.commit("commits", replace(b.version, places=())).folder
    assert committed is not None
    return whole / 2**20, sum(path.stat().st_size for path in committed.iterdir()) / 2**20


ROWS = (
    Row("a fact taught and proved, the reference recipe ÷ nbtune", fact, 10, 50, embedded_only=True, repeats=1),
    Row(
        "a training epoch with equal gradients, plain PEFT loop ÷ nbtune (two epochs share one pass through the lower layers)", epoch, 5, 8
    ),
    Row("the fit of one fact, training through the whole model ÷ the last layer only, with its input kept", layers, 1.8, 2.8),
    Row("four epochs of 32 examples, TRL's SFTTrainer ÷ nbtune", trainer, 1, 5),
    Row("what the fit loop itself costs, nbtune ÷ a hand-written loop", loop, 1.10, 1.02, at_most=True),
    Row("`%load_ext nbtune`, ms more than an empty cell", extension, 100, 50, "ms", embedded_only=True, difference=True, at_most=True),
    Row("`%load_ext` to the first reply, a bare script ÷ nbtune", first_reply, 1.0, 1.2, embedded_only=True),
    Row("the same, with ten seconds to type the question", first_reply_typed, 3, 8, embedded_only=True),
    Row("a hundred tokens, raw `generate` ÷ streamed by nbtune", stream, 0.95, 1.5),
    Row("the answer to a fact, raw `generate` ÷ nbtune", answer, 0.95, 1.5, embedded_only=True),
    Row(f"first token of turn {_TURNS + 1}, reading the whole conversation ÷ nbtune", turn, 5, 8),
    Row("memory to compare base and tuned model, two models ÷ nbtune (beyond what any first model takes)", memory, 1.7, 1.95, "MB"),
    Row("undo, loading the base again ÷ nbtune", undo, 20, 200),
    Row("durable save, the whole model ÷ nbtune's adapter", commit, 10, 20),
    Row("bytes of that save, the whole model ÷ nbtune's adapter", written, 200, 290, "MB", repeats=1),
)
