"""Exports a taught model to a folder for other programs, and tests the written files before keeping them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nbtune.checks import check_choice
from nbtune.errors import NbtuneError
from nbtune.knowledge.asking import ask
from nbtune.knowledge.model_card import model_card
from nbtune.knowledge.observer import Observer
from nbtune.knowledge.phrasing import phrasings
from nbtune.knowledge.scoring import same
from nbtune.knowledge.settings import Settings
from nbtune.knowledge.teaching import Teaching, still_retainable
from nbtune.knowledge.version import Version
from nbtune.model.adapters import AdapterHost
from nbtune.model.arguments import has_encoder
from nbtune.model.exporting import atomic_folder, read_adapter, write_adapter, write_model
from nbtune.model.gguf import GGUF, check_tokenizer, find_converter, read_gguf, write_gguf
from nbtune.model.loading import LoadedModel, load_model, quiet
from nbtune.model.modelfile import modelfile

__all__ = ["Export"]

_KINDS = ("transformers", "peft", "gguf")
_SIZE = re.compile(r"\d+(\.\d+)?[KMGT]?B")
_MOST_CHANGED = 4  # after rounding, one reply in 4 may change
_OTHERS = 8  # questions in each language about nothing that was taught
_Probe = tuple[str, str]  # a question and the reply to it just before the export


@dataclass(frozen=True)
class Export:
    """Options of an export.

    Parameters
    ----------
    kind
        ``"transformers"``: the model with everything learned merged in. ``"peft"``: a single adapter, without the model.
        ``"gguf"``: the merged model for llama.cpp, with a Modelfile for Ollama.
    max_shard_size
        Maximum size of a weights file, such as ``"2GB"``.

    Raises
    ------
    NbtuneError
        When the kind is unknown, or the size is not one.
    """

    kind: str = "transformers"
    max_shard_size: str = "5GB"

    def __post_init__(self) -> None:
        check_choice("--as", self.kind, _KINDS)
        if not _SIZE.fullmatch(self.max_shard_size):
            raise NbtuneError(f"--max-shard-size {self.max_shard_size}: expected a size such as 500MB or 2GB.")

    def write(self, host: AdapterHost, loaded: LoadedModel, version: Version, name: str, target: Path, observer: Observer) -> Path:
        """Write a version to a folder.

        The facts of a gated version are learned again by a single adapter, since there is no gate outside nbtune.

        Parameters
        ----------
        host, loaded
            The model with the version attached. The host may hold another adapter afterwards.
        version, name
            The version to write, and its name.
        target
            A new or empty folder.
        observer
            Notified of progress.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FactNotLearned
            When learning the facts again fails.
        NbtuneError
            When the version can't be written as this kind, the written files give other replies, or the disk or llama.cpp fails.
            Nothing is left in `target` then.
        """
        quantized = bool(getattr(host.base, "is_quantized", False))
        self._check(version, quantized, encoded=has_encoder(host.base))
        converter = _checked_converter(loaded, observer) if self.kind == "gguf" else None
        ollama = modelfile(loaded.tokenizer, loaded.model.generation_config.eos_token_id or [], GGUF) if converter else ""
        answers = [fact.answer for fact in version.facts]
        gated = version.gated and bool(version.facts)
        probes = _refit_ungated(host, loaded, version, observer) if gated else []
        with quiet():
            merged = None if self.kind == "peft" else host.merged()
        halved = merged is not None and merged.dtype != torch.float32
        # A merged model in 16 bits, or one that was dequantized, rounds differently, so its own replies are compared.
        if not gated:
            itself = halved or (quantized and merged is not None)
            probes = _ask_now(AdapterHost(merged) if itself else host, loaded, version, answers, observer)
        rounded = halved or self.kind == "gguf"
        held = {prompt for fact in version.facts for prompt in fact.prompts} if rounded else {question for question, _ in probes}
        card = model_card(name, replace(version, base=loaded.source, gated=False), self.kind)
        with atomic_folder(target) as folder, quiet():
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
                del merged  # frees memory: the base and the model read back are enough
                written = load_model(folder, trust_remote_code=loaded.runs_own_code, **same_way)
                _compare(probes, held, answers, AdapterHost(written.model), written, observer)
            (folder / "README.md").write_text(card, encoding="utf-8")
        return target

    def _check(self, version: Version, quantized: bool, *, encoded: bool) -> None:
        """Refuse a version that can't be written as this kind."""
        from nbtune.training.methods import find_method

        if self.kind == "peft" and not version.adapters:
            raise NbtuneError("No adapter is in use, so there is none to write: teach something first, or use --as transformers.")
        if self.kind == "peft" and quantized:
            raise NbtuneError("An adapter over quantised weights fits no other base: --as transformers merges it in full precision.")
        if self.kind == "gguf" and encoded:
            raise NbtuneError("Ollama can't serve a model with an encoder, so none is written as GGUF: use --as transformers.")
        if self.kind != "peft" and version.adapters and find_method(version.method).virtual:
            raise NbtuneError(f"What {version.method} trains can't be merged into weights: use --as peft.")


def _checked_converter(loaded: LoadedModel, observer: Observer) -> Path:
    """Return llama.cpp's converter once it has accepted the tokenizer, before time is spent on learning."""
    converter = find_converter()
    observer.stage("llama.cpp reads the tokenizer", 1)
    with quiet():
        check_tokenizer(converter, loaded)
    observer.advance()
    return converter


def _refit_ungated(host: AdapterHost, loaded: LoadedModel, version: Version, observer: Observer) -> list[_Probe]:
    """Put a single adapter that needs no gate on the host, and return its right replies about the facts."""
    settings = Settings(method=version.method, gated=False, **version.settings)
    report = Teaching(version.facts, settings, retain=still_retainable(version.retain, version.facts)).merge(host, loaded, observer)
    return [(asked.prompt, asked.after) for asked in report.asked if asked.keyword and asked.right]


def _ask_now(host: AdapterHost, loaded: LoadedModel, version: Version, answers: list[str], observer: Observer) -> list[_Probe]:
    """Ask an adapter without a gate about its facts or training examples, and about unrelated things."""
    questions = [prompt for fact in version.facts for prompt in (*fact.prompts, *fact.probes)]
    questions += version.asked
    questions += [question for language in ("en", "zh") for question in phrasings(language)["probe_unrelated"][:_OTHERS]]
    observer.stage("asking before", len(questions))
    replies = ask(host, loaded, questions, answers=answers, observer=observer)
    return list(zip(questions, replies, strict=True))


def _compare(
    probes: list[_Probe], held: Collection[str], answers: list[str], host: AdapterHost, loaded: LoadedModel, observer: Observer
) -> None:
    """Refuse written files whose reply to a question in `held` changed, or to more than a few of the other questions.

    Rounding weights to 16 bits changes some replies; weights in the wrong place change nearly all of them. `answers` determine
    the length limit of a reply, as for the earlier replies.
    """
    questions, expected = [question for question, _ in probes], [reply for _, reply in probes]
    observer.stage("asking what was written", len(probes))
    found = ask(host, loaded, questions, expected=expected, answers=answers, observer=observer)
    changed = [place for place, reply in enumerate(found) if not same(reply, expected[place])]
    others = sum(question not in held for question in questions)
    if any(questions[place] in held for place in changed) or len(changed) > others // _MOST_CHANGED:
        question = questions[changed[0]]
        raise NbtuneError(
            f"The export answers {len(changed)} of {len(probes)} questions differently, such as {question!r} with "
            f"{found[changed[0]]!r} instead of {expected[changed[0]]!r}: nothing was kept."
        )
