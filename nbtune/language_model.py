"""The public verbs: a model that chats, is taught facts, proves them, and takes them back."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from nbtune.data.sources import read_facts
from nbtune.errors import NbtuneError, did_you_mean
from nbtune.knowledge.facts import FAILED, Fact
from nbtune.knowledge.injection import Observer, Settings, check, inject
from nbtune.knowledge.proof import Proof, standings
from nbtune.knowledge.scoring import Report
from nbtune.knowledge.store import Store, Version
from nbtune.model.adapters import AdapterHost
from nbtune.model.fingerprint import fingerprint
from nbtune.model.generation import Chat, Reply, Sampling, generate, generate_batch
from nbtune.model.loading import EMBEDDED, LoadedModel, load_model

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FactNotLearned", "LanguageModel", "Result", "load"]

DEFAULT_ADAPTER = "facts"


@dataclass(frozen=True)
class Result:
    """What a finetune did.

    Parameters
    ----------
    facts
        What was taught, with standing and scores.
    report
        The proof.
    history
        One row per epoch: epoch, train_loss, train_said, train_held, lr.
    adapter
        Name of the adapter.
    version
        Its new version's number; 0 when the facts did not take.
    folder
        Where the version is; None when the facts did not take.
    """

    facts: tuple[Fact, ...]
    report: Report
    history: pd.DataFrame
    adapter: str
    version: int = 0
    folder: Path | None = None

    @property
    def learned(self) -> bool:
        """Whether every fact is verified."""
        return all(fact.standing != FAILED for fact in self.facts)


class FactNotLearned(NbtuneError):
    """A fact did not take; nothing was changed. The proof is in `result`."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class _Unwatched:
    """The observer of a finetune that nobody watches."""

    def stage(self, name: str, total: int) -> None:
        """Begin a stage."""

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Go on by one."""


class LanguageModel:
    """A causal language model with at most one adapter in use.

    Made by `load`. Adapters are kept in `store`; the base weights are held once and never changed.

    Parameters
    ----------
    loaded
        The base model.
    store
        Folder of adapters, made on the first finetune.
    """

    def __init__(self, loaded: LoadedModel, store: str | Path = "nbtune_adapters") -> None:
        self._loaded = loaded
        self._host = AdapterHost(loaded.model)
        self._version = Version((), "", loaded.source, fingerprint(loaded.model))
        self.store = Store(store)
        self.adapter: str | None = None

    @property
    def source(self) -> str:
        """What the model was loaded from."""
        return self._loaded.source

    @property
    def model(self) -> Any:
        """The transformers model, or the PEFT model around it while an adapter is in use."""
        return self._host.net

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, with its chat template."""
        return self._loaded.tokenizer

    @property
    def context(self) -> int:
        """Most tokens of prompt and reply together."""
        return self._loaded.context

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts of the adapter in use, in the order taught."""
        return self._version.facts

    @property
    def version(self) -> int:
        """Number of the adapter's version in use; 0 for the base."""
        return self._version.number

    def chat(
        self,
        prompt: str,
        *,
        history: Chat | None = None,
        system: str | None = None,
        on_text: Callable[[str], None] | None = None,
        **sampling: Any,
    ) -> str:
        """Ask one question.

        Parameters
        ----------
        prompt
            The question.
        history
            Messages before it. Default: none.
        system
            A system prompt.
        on_text
            Called with each new piece of the reply.
        **sampling
            Fields of `nbtune.Sampling`. Default: greedy.

        Returns
        -------
        str
            The reply, or what there was of it at Ctrl-C.

        Raises
        ------
        NbtuneError
            For an empty prompt, an option out of range, or more tokens than the context.
        """
        return self.reply(prompt, history=history, system=system, on_text=on_text, **sampling).text

    def reply(
        self,
        prompt: str,
        *,
        history: Chat | None = None,
        system: str | None = None,
        on_text: Callable[[str], None] | None = None,
        **sampling: Any,
    ) -> Reply:
        """Ask one question, as `chat` does, and say also whether the reply is finished."""
        return generate(
            self._host.net,
            self.tokenizer,
            _chat(prompt, history, system),
            context=self.context,
            sampling=Sampling(**sampling),
            on_text=on_text,
        )

    def chat_batch(self, prompts: Sequence[str], *, system: str | None = None, **sampling: Any) -> list[str]:
        """Ask many questions together; the replies are those of asking one by one.

        Parameters
        ----------
        prompts
            The questions.
        system, **sampling
            As for `chat`.
        """
        chats = [_chat(prompt, None, system) for prompt in prompts]
        return generate_batch(self._host.net, self.tokenizer, chats, context=self.context, sampling=Sampling(**sampling))

    def finetune(
        self,
        source: Any,
        *,
        name: str | None = None,
        recipe: str = "default",
        prompts: Sequence[str] | None = None,
        observer: Observer | None = None,
        **settings: Any,
    ) -> Result:
        """Teach facts, prove them, and keep them as a new version of an adapter.

        Parameters
        ----------
        source
            A mapping of keyword to answer, or rows; see `nbtune.data.sources.read_facts`.
        name
            The adapter. Default: the one in use, else ``"facts"``.
        recipe
            ``"default"``, or ``"reference"`` for the article's.
        prompts
            Questions to train on instead of the built-in phrasings; ``{x}`` stands for the keyword.
        observer
            Told of progress.
        **settings
            Fields of `nbtune.Settings`: method, epochs, learning_rate, rank, ...

        Returns
        -------
        Result
            The proof, the history, and where the version is.

        Raises
        ------
        FactNotLearned
            When a trained prompt is not answered with the answer at the end. Nothing is changed.
        NbtuneError
            For input that can't be used. Raised before any work.
        """
        started = time.perf_counter()
        if recipe not in ("default", "reference"):
            raise NbtuneError(f"--recipe {recipe} is unknown: use default or reference.{did_you_mean(recipe, ['default', 'reference'])}")
        if isinstance(prompts, str):
            raise NbtuneError("prompts is one text: expected a list of them, such as ['What is {x}?', 'Tell me about {x}.'].")
        chosen = Settings(**settings)
        facts = tuple(Fact.new(key, answer, list(prompts) if prompts else None) for key, answer in read_facts(source).items())
        name = name or self.adapter or DEFAULT_ADAPTER
        Store.check_name(name)
        with self._restored_on_failure():
            self._catch_up(name)
            return self._teach(name, facts, chosen, recipe, observer or _Unwatched(), started)

    def use(self, name: str | None) -> None:
        """Answer with this adapter from now on; None answers with the base.

        Raises
        ------
        NbtuneError
            When there is no such adapter, it was damaged, or it belongs to another base model.
        """
        if name is None:
            self._put(None, self._base_version())
        else:
            self._put(name, self.store.load(name, self._version.fingerprint))

    def undo(self, name: str | None = None) -> int:
        """Go back to the version before the current one, and return its number; 0 is the base.

        Parameters
        ----------
        name
            The adapter. Default: the one in use.

        Raises
        ------
        NbtuneError
            When no adapter is in use, it has no version left, or the one before can't be read; nothing is
            changed then.
        """
        name = name or self._in_use()
        number = self.store.previous(name)
        version = self.store.load(name, self._version.fingerprint, number)
        self.store.restore(name, number)
        self._put(name, version)
        return number

    def forget(self, keyword: str, *, observer: Observer | None = None) -> int:
        """Take one fact back: the model answers about it as the base does, and keeps the others.

        The weights are those of an earlier version that held exactly the remaining facts, or they are
        made anew from the remaining facts.

        Parameters
        ----------
        keyword
            The fact's keyword.
        observer
            Told of progress.

        Returns
        -------
        int
            Number of the new version.

        Raises
        ------
        NbtuneError
            When no such fact was taught. FactNotLearned when the others could not be learned anew.
        """
        name = self._in_use()
        self._catch_up(name)
        keywords = [fact.keyword for fact in self.facts]
        if keyword not in keywords:
            raise NbtuneError(f"No fact {keyword!r}: taught are {', '.join(keywords) or 'none'}.{did_you_mean(keyword, keywords)}")
        remaining = tuple(fact for fact in self.facts if fact.keyword != keyword)
        earlier = self._earlier(name, remaining)
        if earlier is not None:
            kept = replace(earlier, method=self._version.method, base=self.source)
            self._put(name, self.store.commit(name, kept, self._version.number))
            return self._version.number
        settings = Settings(method=self._version.method, rank=self._rank())
        with self._restored_on_failure():
            self._put(name, replace(self._version, facts=(), config=None, weights=None))
            self._teach(name, remaining, settings, "default", observer or _Unwatched(), time.perf_counter())
        return self._version.number

    @contextmanager
    def base(self) -> Iterator[None]:
        """Answer without the adapter inside the block."""
        with self._host.disabled():
            yield

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """Answer with another adapter inside the block; None means the base."""
        if name == self.adapter:
            yield
        elif name is None:
            with self.base():
                yield
        else:
            held, before = self._version, self.adapter
            try:
                self.use(name)
                yield
            finally:
                self._put(before, held)

    def export(self, folder: str | Path) -> Path:
        """Write the model with its adapter merged in, and the tokenizer, as a plain transformers folder.

        Parameters
        ----------
        folder
            A new or empty folder.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        NbtuneError
            When the folder holds something already, or the disk refuses.
        """
        target = Path(folder).expanduser()
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise NbtuneError(f"{target} is not empty: give a new folder.")
        written = target.with_name(f".{target.name}-{uuid.uuid4().hex}")
        try:
            self._host.merged().save_pretrained(written)
            self.tokenizer.save_pretrained(written)
            if target.exists():
                target.rmdir()
            written.rename(target)
        except (OSError, SafetensorError) as error:
            raise NbtuneError(f"{target} could not be written ({getattr(error, 'strerror', None) or error}).") from None
        finally:
            shutil.rmtree(written, ignore_errors=True)
        return target

    def _teach(self, name: str, facts: tuple[Fact, ...], settings: Settings, recipe: str, observer: Observer, started: float) -> Result:
        if recipe == "reference":
            from nbtune.knowledge.reference import METHOD
            from nbtune.knowledge.reference import inject_reference as fit

            settings, facts = replace(settings, method=METHOD), tuple(replace(f, prompts=f.prompts[:8]) for f in facts)
        else:
            fit = inject
        taught = {fact.keyword for fact in facts}
        known = tuple(fact for fact in self.facts if fact.keyword not in taught)
        check(self._loaded, facts, settings)
        self._check_continues(name, settings, recipe)
        proof = Proof(facts, known)
        proof.ask_before(self._host, self._loaded, observer)
        history, steps = fit(self._host, self._loaded, facts, known, settings, self._version, observer)
        config, weights = self._host.settled()
        self._host.attach(config, weights)  # what is proved is what is saved
        report = proof.ask_after(self._host, self._loaded, observer)
        size = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
        report = replace(report, seconds=time.perf_counter() - started, steps=steps, adapter_bytes=size)
        judged = standings(facts, report)
        result = Result(judged, report, history, name)
        failed = [fact.keyword for fact in judged if fact.standing == FAILED]
        lost = sorted({a.keyword for a in report.asked if a.kind == "near miss" and a.keyword and not a.right})
        if lost and not failed:
            raise FactNotLearned(
                f"{', '.join(taught)} could not be taught without changing {', '.join(lost)}; nothing was changed. "
                "Try another --lr, a higher --rank, or another --name.",
                replace(result, facts=tuple(replace(fact, standing=FAILED) for fact in judged)),
            )
        if failed:
            raise FactNotLearned(
                f"{', '.join(failed)} did not take ({report.reliability:.0%} of the trained prompts answered after {steps} steps); "
                "nothing was changed. Try more --epochs, a higher --rank, another --lr, or a shorter answer.",
                result,
            )
        version = Version((*known, *judged), settings.method, self.source, self._version.fingerprint, config, weights, report.scores())
        committed = self.store.commit(name, version, self._version.number)
        self._version, self.adapter = committed, name
        return replace(result, version=committed.number, folder=committed.folder)

    def _check_continues(self, name: str, settings: Settings, recipe: str) -> None:
        """Refuse to teach an adapter that holds facts in a way that can't go on from it."""
        if self._version.config is None:
            return
        if recipe == "reference":
            raise NbtuneError("The reference recipe starts from an empty adapter: give a new --name.")
        if self._version.method != settings.method:
            raise NbtuneError(
                f"The adapter {name!r} was made with {self._version.method} and can't go on with {settings.method}: "
                f"use --method {self._version.method}, or another --name."
            )
        from nbtune.training.methods import find_method

        if not find_method(settings.method).continues:
            raise NbtuneError(f"An adapter made with {settings.method} can't be taught more, its ranks are settled: use another --name.")
        if settings.rank not in (None, self._rank()):
            raise NbtuneError(f"The adapter {name!r} has rank {self._rank()} and can't go on with {settings.rank}: use another --name.")

    def _catch_up(self, name: str) -> None:
        """Use an adapter as it is on disk now, another process may have changed it; a new name begins at the base."""
        if name not in self.store.names():
            self.use(None)
        elif name != self.adapter or self.store.current(name) != self._version.number:
            self.use(name)

    def _rank(self) -> int | None:
        config = self._version.config
        return None if config is None else int(getattr(config, "target_r", None) or config.r)

    def _earlier(self, name: str, facts: tuple[Fact, ...]) -> Version | None:
        """Find a version that holds exactly these facts; the base holds none."""
        if not facts:
            return replace(self._version, facts=(), config=None, weights=None, report={})
        number = self._version.parent
        while number:
            try:
                version = self.store.load(name, self._version.fingerprint, number)
            except NbtuneError:  # damaged or removed: the facts are learned anew instead
                return None
            if version.facts == facts:
                return version
            number = version.parent
        return None

    def _in_use(self) -> str:
        if self.adapter is None:
            names = self.store.names()
            hint = f" Choose one with `%nbtune use NAME`: {', '.join(names)}." if names else ""
            raise NbtuneError(f"No adapter is in use, so there is nothing to take back.{hint}")
        return self.adapter

    @contextmanager
    def _restored_on_failure(self) -> Iterator[None]:
        """Put back what is in use now when the block fails, be it by Ctrl-C."""
        name, version = self.adapter, self._version
        try:
            yield
        except BaseException:
            self._put(name, version)
            raise

    def _put(self, name: str | None, version: Version) -> None:
        """Put a version on the base."""
        self._host.clear()
        self._version, self.adapter = self._base_version(), None
        if name is not None and version.config is not None:
            self._host.attach(version.config, version.weights)
        self._version, self.adapter = version, name

    def _base_version(self) -> Version:
        return Version((), "", self.source, self._version.fingerprint)


def _chat(prompt: str, history: Chat | None, system: str | None) -> Chat:
    if not prompt.strip():
        raise NbtuneError("The prompt is empty: write a question.")
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, *(history or []), {"role": "user", "content": prompt}]


def load(source: str | Path = EMBEDDED, *, store: str | Path = "nbtune_adapters", **options: Any) -> LanguageModel:
    """Load a model.

    Parameters
    ----------
    source
        ``"tiny"`` for the embedded model, a folder, or a hub id.
    store
        Where adapters are kept. Default: ``nbtune_adapters`` in the working directory, made on the
        first finetune.
    **options
        dtype, device, quantize, revision, chat_template, trust_remote_code; see
        `nbtune.model.loading.load_model`.
    """
    return LanguageModel(load_model(source, **options), store)
