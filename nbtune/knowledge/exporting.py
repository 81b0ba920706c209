"""Writes what the model says to a folder that other programs read, and asks again what was written before it is put in place."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nbtune.errors import NbtuneError, check_choice
from nbtune.knowledge.asking import ask
from nbtune.knowledge.model_card import model_card
from nbtune.knowledge.observer import Observer
from nbtune.knowledge.phrasing import phrasings
from nbtune.knowledge.scoring import same
from nbtune.knowledge.settings import Settings
from nbtune.knowledge.teaching import Teaching, still_elsewhere
from nbtune.knowledge.version import Version
from nbtune.model.adapters import AdapterHost
from nbtune.model.arguments import has_encoder
from nbtune.model.exporting import placed, read_adapter, write_adapter, write_model
from nbtune.model.gguf import GGUF, check_tokenizer, find_converter, read_gguf, write_gguf
from nbtune.model.loading import LoadedModel, load_model, quiet
from nbtune.model.modelfile import modelfile

__all__ = ["Export"]

_KINDS = ("transformers", "peft", "gguf")
_SIZE = re.compile(r"\d+(\.\d+)?[KMGT]?B")
_FEW = 4  # one in so many may be answered otherwise after rounding
_OTHERS = 8  # questions about nothing that was taught, of each language
_Probe = tuple[str, str]  # a question, and the reply that was given just before


@dataclass(frozen=True)
class Export:
    """What to write.

    Parameters
    ----------
    kind
        ``"transformers"``: the model with all that was learned merged in. ``"peft"``: one adapter for it, without the model.
        ``"gguf"``: the merged model for llama.cpp, with a Modelfile for Ollama.
    max_shard_size
        Largest file of weights.
    """

    kind: str = "transformers"
    max_shard_size: str = "5GB"

    def __post_init__(self) -> None:
        check_choice("--as", self.kind, _KINDS)
        if not _SIZE.fullmatch(self.max_shard_size):
            raise NbtuneError(f"--max-shard-size {self.max_shard_size} is not a size: expected such as 500MB or 2GB.")

    def write(self, host: AdapterHost, loaded: LoadedModel, version: Version, name: str, target: Path, observer: Observer) -> Path:
        """Write a version.

        Parameters
        ----------
        host, loaded
            The model, with the version on it. Afterwards something else may be on the host.
        version, name
            What to write, and its name.
        target
            A new or empty folder.
        observer
            Told of progress.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FactNotLearned
            When the facts have to be learned once more, for there is no gate outside of nbtune, and one did not take.
        NbtuneError
            When there is no adapter to write, what was written answers otherwise, the disk refuses, or llama.cpp does. Nothing is
            in place then.
        """
        quantized = bool(getattr(host.base, "is_quantized", False))
        self._check(version, quantized, encoded=has_encoder(host.base))
        converter = _asked_converter(loaded, observer) if self.kind == "gguf" else None
        ollama = modelfile(loaded.tokenizer, loaded.model.generation_config.eos_token_id or [], GGUF) if converter else ""
        answers = [fact.answer for fact in version.facts]
        gated = version.gated and bool(version.facts)
        probes = _learned_once_more(host, loaded, version, observer) if gated else []
        with quiet():
            merged = None if self.kind == "peft" else host.merged()
        halved = merged is not None and merged.dtype != torch.float32
        if not gated:  # where products were rounded before, or weights are now, what is merged is asked itself
            itself = halved or (quantized and merged is not None)
            probes = _said_now(AdapterHost(merged) if itself else host, loaded, version, answers, observer)
        rounded = halved or self.kind == "gguf"
        held = {prompt for fact in version.facts for prompt in fact.prompts} if rounded else {question for question, _ in probes}
        card = model_card(name, replace(version, base=loaded.source, gated=False), self.kind)
        with placed(target) as folder, quiet():
            if merged is None:
                write_adapter(host.extract() if gated else version.adapters[0], folder)
                host.attach([read_adapter(folder)])
                _compare(probes, held, answers, host, loaded, observer)
            elif converter:
                write_gguf(converter, merged, loaded, folder)
                (folder / "Modelfile").write_text(ollama, encoding="utf-8")
                written = replace(loaded, model=read_gguf(folder), replies={})
                _compare(probes, held, answers, AdapterHost(written.model), written, observer)
            else:
                write_model(merged, loaded.tokenizer, folder, self.max_shard_size, loaded.place)
                same_way = {"dtype": str(merged.dtype).removeprefix("torch."), "device": str(merged.device)}
                del merged  # two models are enough
                written = load_model(folder, trust_remote_code=loaded.runs_own_code, **same_way)
                _compare(probes, held, answers, AdapterHost(written.model), written, observer)
            (folder / "README.md").write_text(card, encoding="utf-8")
        return target

    def _check(self, version: Version, quantized: bool, *, encoded: bool) -> None:
        """Refuse what can't be written this way."""
        from nbtune.training.methods import find_method

        if self.kind == "peft" and not version.adapters:
            raise NbtuneError("No adapter is in use, so there is none to write: teach something first, or use --as transformers.")
        if self.kind == "peft" and quantized:
            raise NbtuneError("An adapter over quantised weights fits no other base: --as transformers merges it in full precision.")
        if self.kind == "gguf" and encoded:
            raise NbtuneError("A model with an encoder is not written as GGUF, which Ollama would not serve: use --as transformers.")
        if self.kind != "peft" and version.adapters and find_method(version.method).virtual:
            raise NbtuneError(f"What {version.method} trains can't be merged into weights: use --as peft.")


def _asked_converter(loaded: LoadedModel, observer: Observer) -> Path:
    """Return llama.cpp's converter, once it has read the tokenizer: nothing is learned for a model that it refuses."""
    converter = find_converter()
    observer.stage("llama.cpp reads the tokenizer", 1)
    with quiet():
        check_tokenizer(converter, loaded)
    observer.advance()
    return converter


def _learned_once_more(host: AdapterHost, loaded: LoadedModel, version: Version, observer: Observer) -> list[_Probe]:
    """Put one adapter on the host that needs no gate, and return what it says right of the facts."""
    settings = Settings(method=version.method, gated=False, **version.settings)
    report = Teaching(version.facts, settings, retain=still_elsewhere(version.retain, version.facts)).merge(host, loaded, observer)
    return [(asked.prompt, asked.after) for asked in report.asked if asked.keyword and asked.right]


def _said_now(host: AdapterHost, loaded: LoadedModel, version: Version, answers: list[str], observer: Observer) -> list[_Probe]:
    """Ask about the facts of an adapter without a gate, or what it was trained on, and about other things."""
    questions = [prompt for fact in version.facts for prompt in (*fact.prompts, *fact.probes)]
    questions += version.asked
    questions += [question for language in ("en", "zh") for question in phrasings(language)["probe_unrelated"][:_OTHERS]]
    observer.stage("asking before", len(questions))
    replies = ask(host, loaded, questions, answers=answers, observer=observer)
    return list(zip(questions, replies, strict=True))


def _compare(
    probes: list[_Probe], held: Collection[str], answers: list[str], host: AdapterHost, loaded: LoadedModel, observer: Observer
) -> None:
    """Refuse what was written if it answers one of the questions to be held otherwise, or more than a few of the others.

    Weights that were rounded to 16 bits answer some questions otherwise; those that were put in the wrong place, nearly all.
    `answers` say how long a reply may be, as when it was asked before.
    """
    questions, expected = [question for question, _ in probes], [reply for _, reply in probes]
    observer.stage("asking what was written", len(probes))
    found = ask(host, loaded, questions, expected=expected, answers=answers, observer=observer)
    changed = [place for place, reply in enumerate(found) if not same(reply, expected[place])]
    others = sum(question not in held for question in questions)
    if any(questions[place] in held for place in changed) or len(changed) > others // _FEW:
        question = questions[changed[0]]
        raise NbtuneError(
            f"What was written answers {len(changed)} of {len(probes)} questions otherwise, such as {question!r} with "
            f"{found[changed[0]]!r} in place of {expected[changed[0]]!r}: nothing is kept."
        )
