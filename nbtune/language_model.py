"""The public verbs: a model that chats, is taught facts, proves them, and takes them back."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbtune.chat_template import chat_ids
from nbtune.data.encoding import IGNORED, Example, encode, pieces
from nbtune.data.examples import read_examples
from nbtune.data.preview import Preview, look
from nbtune.data.reading import TRAINING, Reading
from nbtune.data.rows import read_rows
from nbtune.errors import NbtuneError, check_range
from nbtune.imports import FIT_MODULES, import_modules, uncollected
from nbtune.knowledge.active import ActiveAdapter
from nbtune.knowledge.asking import answer
from nbtune.knowledge.evaluation import Evaluation, check_target, evaluate, save_predictions
from nbtune.knowledge.exporting import Export
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.facts_file import write_facts
from nbtune.knowledge.observer import Observer, Unwatched
from nbtune.knowledge.planning import Wishes, facts_of, plan
from nbtune.knowledge.proof import Proof, standings
from nbtune.knowledge.result import Result
from nbtune.knowledge.settings import Settings
from nbtune.knowledge.store import Store
from nbtune.knowledge.teaching import Teaching, still_elsewhere
from nbtune.knowledge.tracking import tracked
from nbtune.knowledge.tuning import Tuning
from nbtune.model.exporting import check_folder
from nbtune.model.generation import Chat, Reply, generate, user_words
from nbtune.model.loading import LoadedModel, load_model
from nbtune.model.memory import within_memory
from nbtune.model.prompt_cache import PromptCache
from nbtune.model.sampling import DEFAULT_NEW_TOKENS, Sampling, seeded
from nbtune.paths import check_writable
from nbtune.tiny import BUILT_IN

__all__ = ["LanguageModel", "load"]

DEFAULT_ADAPTER, EXAMPLES_ADAPTER = "facts", "examples"
_FULL = (
    "The memory of the device is full: nothing was changed. Try a smaller --batch-size, shorter texts (for examples "
    "--max-source-length, --max-target-length), or load the model with --dtype bfloat16 or --quantize nf4."
)


class LanguageModel:
    """A language model with at most one adapter in use.

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
        self._active = ActiveAdapter(loaded, store)
        self._host = self._active.host
        self._cache = PromptCache()

    @property
    def store(self) -> Store:
        """Where adapters are kept."""
        return self._active.store

    @property
    def adapter(self) -> str | None:
        """Name of the adapter in use; None while the base answers."""
        return self._active.name

    @property
    def source(self) -> str:
        """What the model was loaded from."""
        return self._loaded.source

    @property
    def model(self) -> Any:
        """The transformers model, or the PEFT model around it while an adapter is in use; it knows of no gate."""
        if not self._active.version.adapters:
            self._host.clear()
        return self._host.net

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, with its chat template."""
        return self._loaded.tokenizer

    @property
    def context(self) -> int:
        """Context length: the most tokens that prompt and reply have together."""
        return self._loaded.context

    @property
    def plain(self) -> bool:
        """Whether the model came without a chat template, so that turns are written down plainly; see `nbtune.model.loading`."""
        return self._loaded.plain

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts of the adapter in use, in the order taught."""
        return self._active.version.facts

    @property
    def examples(self) -> int:
        """How many examples the adapter in use was trained on; 0 where it was taught facts."""
        return self._active.version.examples

    @property
    def version(self) -> int:
        """Number of the adapter's version in use; 0 for the base."""
        return self._active.version.number

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
            The reply.

        Raises
        ------
        KeyboardInterrupt
            At Ctrl-C; `reply` returns what was said until then.
        NbtuneError
            When the prompt is empty or does not fit into the context, or an option is out of range.
        """
        reply = self.reply(prompt, history=history, system=system, on_text=on_text, **sampling)
        if not reply.finished:
            raise KeyboardInterrupt
        return reply.text

    def reply(
        self,
        prompt: str,
        *,
        history: Chat | None = None,
        system: str | None = None,
        on_text: Callable[[str], None] | None = None,
        **sampling: Any,
    ) -> Reply:
        """Ask one question, as `chat` does, and return the reply with its statistics.

        Parameters are those of `chat`, and so are errors, but that Ctrl-C raises nothing.

        Returns
        -------
        Reply
            The text, why it ends there, and how fast it came. At Ctrl-C it is what was said until then, and not `finished`.

        Notes
        -----
        Tokens that were read for this conversation before are not read again, and the answer of a fact is verified in one pass
        (speculative decoding; see `nbtune.model.drafting`).
        """
        chosen, chat = Sampling(**sampling), _chat(prompt, history, system)
        ((side, _),) = self._host.sides([user_words(chat)]).items()
        weights = (None if self._host.silent else side, self._host.stamp)
        with within_memory(_FULL), self._host.answering(side), self._host.merged_weights():
            return generate(
                self._host.net,
                self.tokenizer,
                chat,
                context=self.context,
                sampling=chosen,
                on_text=on_text,
                cache=self._cache,
                weights=weights,
                draft=self._draft(side),
            )

    def latest(self, history: Chat, prompt: str, system: str | None = None, max_new_tokens: int | None = None) -> Chat:
        """Return the latest rounds of a conversation, where all of it leaves no room for a reply.

        Parameters
        ----------
        history
            Messages, a question and its reply by turns.
        prompt, system
            The question that follows, and a system prompt.
        max_new_tokens
            Length limit of the reply. Default: 512. A quarter of the context is room enough.

        Returns
        -------
        list of dict
            All messages; or the last ones, as many as fill half of the room that the question leaves, so that the next rounds fit, too.
        """
        kept = list(history)
        room = self.context - min(max_new_tokens or DEFAULT_NEW_TOKENS, self.context // 4)
        while len(kept) > 1 and len(self._cache.prompts.of(self.tokenizer, _chat(prompt, kept, system))) > room:
            if len(kept) == len(history):
                alone = len(chat_ids(self.tokenizer, _chat(prompt, None, system)))
                room = max(alone, (alone + room) // 2)
            kept = kept[2:]
        return kept

    def chat_batch(
        self,
        prompts: Sequence[str],
        *,
        history: Chat | None = None,
        system: str | None = None,
        observer: Observer | None = None,
        **sampling: Any,
    ) -> list[str]:
        """Ask many questions in batches; the replies are those of asking one at a time.

        Parameters
        ----------
        prompts
            The questions.
        history, system, **sampling
            As for `chat`.
        observer
            Told of each reply.

        Returns
        -------
        list of str
            A reply for each prompt, in order.

        Raises
        ------
        NbtuneError
            When `prompts` is a single text, a prompt is empty or too long, or an option is out of range.
        """
        if isinstance(prompts, str):
            raise NbtuneError("prompts is one text: give a list of questions, or ask with chat.")
        history = list(history or ())
        chosen, chats = Sampling(**sampling), [_chat(prompt, history, system) for prompt in prompts]
        watched = observer or Unwatched()
        watched.stage("answering", len(chats))
        with within_memory(_FULL):
            return answer(self._host, self._loaded, chats, chosen, watched)

    def finetune(
        self,
        source: Any,
        *,
        name: str | None = None,
        recipe: str = "default",
        prompts: Sequence[str] | None = None,
        probes: Sequence[str] | None = None,
        extend: bool = False,
        retain: Sequence[str] = (),
        rewordings: int = 0,
        log_with: str | None = None,
        observer: Observer | None = None,
        **settings: Any,
    ) -> Result:
        """Teach facts, prove them, and keep them as a new version of an adapter; or train an adapter on examples.

        A keyword that was taught before gets the new answer instead of the old one. Examples, conversations in any format of
        `nbtune.data.formats`, are trained from the base, in place of what the adapter was trained on before.

        Parameters
        ----------
        source
            A mapping of keyword to answer, rows, a DataFrame, a Dataset, a file, or the name of a dataset; see
            `nbtune.data.rows.read_rows`. Rows with ``keyword`` and ``answer`` are facts.
        name
            The adapter. Default: the one in use, else ``"facts"``; for examples ``"examples"``.
        recipe
            ``"default"``, or ``"reference"`` for the recipe that ours is measured against.
        prompts, probes
            Questions to train on and to test with, in place of the built-in phrasings; ``{x}`` stands for the keyword.
            Default: the built-in ones.
        extend
            Use the built-in phrasings beside `prompts` and `probes`. Default: False.
        retain
            Questions whose replies must not change. They are trained to stay, and the finetune fails if one changes; one of the
            facts' own prompts or probes is refused. Default: none.
        rewordings
            How many further wordings of each keyword to ask the model itself for; the usable ones are trained. Default: 0.
        log_with
            ``"tensorboard"``, ``"trackio"`` or ``"wandb"``: log each epoch and the scores there. Default: nowhere.
        observer
            Told of progress.
        **settings
            Fields of `nbtune.Settings`: method, epochs, learning_rate, rank, ...; and for examples those of
            `nbtune.data.reading.Reading`: val, turns, prompt_column, ...

        Returns
        -------
        Result
            The proof, the history, and where the version is.

        Raises
        ------
        FactNotLearned
            When a trained prompt is not answered with the answer, or a reply changed that had to stay. Nothing is kept.
        NbtuneError
            For input that can't be used. Raised before any work.
        """
        task = plan(source, Wishes(recipe, prompts, probes, extend, retain, rewordings), settings)
        default = EXAMPLES_ADAPTER if isinstance(task, Tuning) else (None if self.examples else self.adapter) or DEFAULT_ADAPTER
        name = name or default
        Store.check_name(name)
        if log_with is not None:
            with tracked(observer or Unwatched(), log_with, name) as watched:
                result = self._taught(task, name, watched)
                watched.log(result.report.scores())
                return result
        return self._taught(task, name, observer)

    def probe(self, keyword: str | None = None, *, observer: Observer | None = None) -> Result:
        """Ask everything about the facts again, now, and compare with the base.

        Parameters
        ----------
        keyword
            One fact. Default: all.
        observer
            Told of progress.

        Returns
        -------
        Result
            The facts with their present standing, and the report; its ``before`` is the base's.

        Raises
        ------
        NbtuneError
            When nothing was taught, or no such fact.
        """
        name = self._active.required()
        facts = self.facts if keyword is None else (self._active.fact(keyword),)
        if not facts:
            raise NbtuneError(f"The adapter {name!r} holds no fact to ask about.")
        self._active.check_answering()
        beside = [fact for fact in self.facts if fact not in facts]
        started, proof, watched = time.perf_counter(), Proof(facts, beside=beside), observer or Unwatched()
        with within_memory(_FULL):
            with self.base():
                proof.ask_before(self._host, self._loaded, watched)
            report = replace(proof.ask_after(self._host, self._loaded, watched), seconds=time.perf_counter() - started)
        return Result(standings(facts, report), report, None, name, self.version, self._active.version.folder)

    def rebuild(self, source: Any = None, *, observer: Observer | None = None) -> Result:
        """Make the adapter in use anew, from its facts alone.

        Parameters
        ----------
        source
            Facts instead of its own, such as the edited file of ``%nbtune facts --save``; what is not in it is forgotten.
            Default: its own.
        observer
            Told of progress.

        Returns
        -------
        Result
            As `finetune` returns it.

        Raises
        ------
        FactNotLearned
            When one of them did not take. Nothing is changed.
        NbtuneError
            When there is no fact.
        """
        name = self._active.required()
        self._active.catch_up(name)
        facts = self.facts
        if source is not None:
            facts = facts_of(source)
        if not facts:
            raise NbtuneError(f"The adapter {name!r} holds no fact to make it from.")
        return self._relearn(name, facts, observer)

    def save_facts(self, path: str | Path) -> Path:
        """Write the facts to a YAML file that a person can edit and diff; `finetune` and `rebuild` read it.

        Parameters
        ----------
        path
            The file, ending in ``.yaml`` or ``.yml``.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        NbtuneError
            When there is no fact, the name ends otherwise, or the file can't be written.
        """
        return write_facts(self.facts, path)

    def preview(self, source: Any, **how: Any) -> Preview:
        """Show how a source would be read: its format, some examples token by token, their lengths, what would be cut.

        Parameters
        ----------
        source
            As for `finetune`.
        **how
            Fields of `nbtune.data.reading.Reading`.

        Returns
        -------
        Preview
            It shows itself in a notebook.

        Raises
        ------
        NbtuneError
            For a source that `finetune` would not take.
        """
        return look(read_rows(source), Reading(**how), self.tokenizer, context=self.context)

    def evaluate(
        self,
        source: Any,
        *,
        limit: int | None = None,
        max_new_tokens: int = 128,
        save: str | Path | None = None,
        observer: Observer | None = None,
        **how: Any,
    ) -> Evaluation:
        """Answer examples with the base and with the adapter in use, and score both.

        Parameters
        ----------
        source
            Examples, as for `finetune`; the last turn of each is what is wanted.
        limit
            The most examples to ask, drawn at random, always the same ones. Default: all.
        max_new_tokens
            Length limit of a reply in tokens. Default: 128.
        save
            Write the predictions to this ``.csv`` or ``.jsonl`` file.
        observer
            Told of progress.
        **how
            Fields of `nbtune.data.reading.Reading` that say how a row is read.

        Returns
        -------
        Evaluation
            The predictions and the scores, as DataFrames.

        Raises
        ------
        NbtuneError
            For examples that can't be used, an option of training, a file of another kind, or a package that is missing. Raised before
            any work.
        """
        for option, value in (("--limit", limit), ("--max-new-tokens", max_new_tokens)):
            check_range(option, value, value is None or value >= 1, "1 or more")
        trained = min(TRAINING & how.keys(), default=None)
        if trained is not None:
            raise NbtuneError(f"{trained} says what is trained of examples: an evaluation asks their last turn, and takes no such option.")
        target = None if save is None else check_target(save)
        examples = read_examples(read_rows(source), Reading(**how))
        if limit is not None and limit < len(examples.conversations):
            examples = examples.only(random.Random(0).sample(range(len(examples.conversations)), limit))
        with self._active.restored_on_failure(), within_memory(_FULL):
            found = evaluate(self._host, self._loaded, examples, self.adapter, max_new_tokens, observer or Unwatched())
        if target is not None:
            save_predictions(found, target)
        return found

    def tokens(self, keyword: str, answer: str | None = None, **own: Any) -> list[Example]:
        """Return the training examples of a fact, token by token.

        Parameters
        ----------
        keyword
            A fact that was taught.
        answer
            With it, a fact that was not: what would be trained.
        **own
            prompts, probes and extend of such a fact, as for `finetune`.

        Returns
        -------
        list of Example
            One per trained prompt; see `nbtune.data.encoding.pieces`.

        Raises
        ------
        NbtuneError
            When no such fact was taught, or a new one can't be.
        """
        fact = self._active.fact(keyword) if answer is None else Fact.new(keyword, answer, **own)
        return [pieces(self.tokenizer, encode(self.tokenizer, prompt, fact.answer, context=self.context)) for prompt in fact.prompts]

    def use(self, name: str | None) -> None:
        """Answer with this adapter from now on; None answers with the base.

        Raises
        ------
        NbtuneError
            When there is no such adapter, it was damaged, or it belongs to another base model.
        """
        self._active.use(name)

    def undo(self, name: str | None = None) -> int:
        """Go back to the version before the current one, and return its number; 0 is the base.

        Where a file was damaged, it goes back to the newest version before it that is whole.

        Parameters
        ----------
        name
            The adapter. Default: the one in use.

        Raises
        ------
        NbtuneError
            When no adapter is in use, it has no version left, or it belongs to another model; nothing is changed then.
        """
        return self._active.undo(name or self._active.required())

    def redo(self, name: str | None = None) -> int:
        """Take an undo back: go on to the newest version that was made from the current one, and return its number.

        Parameters
        ----------
        name
            The adapter. Default: the one in use.

        Raises
        ------
        NbtuneError
            When no adapter is in use, nothing was undone, or it belongs to another model; nothing is changed then.
        """
        return self._active.redo(name or self._active.required())

    def forget(self, *keywords: str, observer: Observer | None = None) -> int:
        """Take facts back, as one new version: the model answers about them as the base does, and keeps the others.

        Behind the gate the facts' adapters are left out, and nothing has to be learned.

        Parameters
        ----------
        *keywords
            The facts' keywords, one or more.
        observer
            Told of progress.

        Returns
        -------
        int
            Number of the new version.

        Raises
        ------
        NbtuneError
            When no such fact was taught. Without a gate also FactNotLearned, when the others could not be learned anew.
        """
        name = self._active.required()
        self._active.catch_up(name)
        gone = {self._active.fact(keyword).keyword for keyword in keywords}
        version = self._active.version
        remaining = version.without(gone)
        if version.gated or not remaining.facts:
            self._active.put(name, self.store.commit(name, remaining, version.number))
        else:
            self._relearn(name, remaining.facts, observer)
        return self.version

    @contextmanager
    def base(self) -> Iterator[None]:
        """Answer without the adapter inside the block."""
        with self._host.answering(None):
            yield

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """Answer with another adapter inside the block; None means the base.

        Raises
        ------
        NbtuneError
            As `use`.
        """
        if name == self.adapter:
            yield
        elif name is None:
            with self.base():
                yield
        else:
            before, held = self.adapter, self._active.version
            try:
                self.use(name)
                yield
            finally:
                self._active.put(before, held)

    def export(
        self, folder: str | Path, *, kind: str = "transformers", max_shard_size: str = "5GB", observer: Observer | None = None
    ) -> Path:
        """Write the model with all that the adapter in use learned, for other programs.

        There is no gate in such a folder, so that facts are learned once more, all of them by one adapter that is also held
        to the base's replies about other things; the adapter in use stays as it is. What was written is read back and asked about
        the facts before it is put in place.

        Parameters
        ----------
        folder
            A new or empty folder.
        kind
            ``"transformers"``: the model, merged. ``"peft"``: the adapter alone. ``"gguf"``: the merged model as llama.cpp's converter
            writes it, with a Modelfile for Ollama.
        max_shard_size
            Largest file of weights.
        observer
            Told of progress.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FactNotLearned
            When a trained prompt is not answered with the answer then. Nothing is written.
        NbtuneError
            When the folder holds something already, what was written answers otherwise, llama.cpp is not there or refuses, or the disk
            does.
        """
        self._active.check_answering()
        export, target = Export(kind, max_shard_size), check_folder(folder)
        name, version = self.adapter, self._active.version
        self._cache = PromptCache()
        try:
            with within_memory(_FULL):
                return export.write(self._host, self._loaded, version, name or self.source, target, observer or Unwatched())
        finally:
            self._active.put(name, version)

    def push(
        self,
        repository: str,
        *,
        private: bool = False,
        kind: str = "transformers",
        max_shard_size: str = "5GB",
        observer: Observer | None = None,
    ) -> str:
        """Write the model as `export` does, and put it on the Hugging Face hub, with a model card.

        Parameters
        ----------
        repository
            OWNER/NAME; it is made where there is none.
        private
            Whether a new repository is private.
        kind, max_shard_size, observer
            As for `export`.

        Returns
        -------
        str
            Its address.

        Raises
        ------
        NbtuneError
            As `export` does; and when nobody is logged in, or the hub refuses.
        """
        from nbtune.model.hub import check_hub, upload

        check_hub(repository)
        with tempfile.TemporaryDirectory() as place:
            written = self.export(Path(place) / "model", kind=kind, max_shard_size=max_shard_size, observer=observer)
            return upload(written, repository, private=private)

    def _draft(self, side: int | None) -> list[int]:
        """Return the tokens of the answer that may come."""
        if side is None or self._host.silent or not self._active.version.gated or not self.facts:
            return []
        fact = self.facts[side]
        return [label for label in encode(self.tokenizer, fact.keyword, fact.answer, context=self.context).labels if label != IGNORED]

    def _taught(self, task: Teaching | Tuning, name: str, observer: Observer | None) -> Result:
        check_writable(self.store.folder / name)
        with self._active.restored_on_failure():
            self._active.catch_up(name)
            return self._give(task, name, observer)

    def _give(self, teaching: Teaching | Tuning, name: str, observer: Observer | None) -> Result:
        active = self._active
        import_modules(FIT_MODULES)
        self._cache = PromptCache()  # other weights will answer: its memory is of use now
        with within_memory(_FULL), seeded(teaching.settings.seed, self._loaded.model.device):
            result, committed = teaching.give(self._host, self._loaded, self.store, name, active.version, observer or Unwatched())
        active.name, active.version = name, committed
        return result

    def _relearn(self, name: str, facts: tuple[Fact, ...], observer: Observer | None) -> Result:
        """Make an adapter anew that holds these facts."""
        check_writable(self.store.folder / name)
        version = self._active.version
        settings = Settings(method=version.method or Settings.method, gated=version.gated, **version.settings)
        with self._active.restored_on_failure():
            self._active.put(name, self._active.emptied())
            return self._give(Teaching(facts, settings, retain=still_elsewhere(version.retain, facts)), name, observer)


def _chat(prompt: str, history: Chat | None, system: str | None) -> Chat:
    if not prompt.strip():
        raise NbtuneError("The prompt is empty: write a question.")
    history = list(history or ())
    said = [message.get(key) if isinstance(message, Mapping) else None for message in history for key in ("role", "content")]
    if not all(isinstance(text, str) for text in said):
        raise NbtuneError('history is not a list of messages: expected such as [{"role": "user", "content": "Hi"}, ...].')
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, *history, {"role": "user", "content": prompt}]


def load(source: str | Path = BUILT_IN, *, store: str | Path = "nbtune_adapters", **options: Any) -> LanguageModel:
    """Load a model.

    Parameters
    ----------
    source
        ``"tiny"`` for the built-in model, a folder, or a hub id.
    store
        Where adapters are kept. Default: ``nbtune_adapters`` in the working directory, made on the
        first finetune.
    **options
        dtype, device, quantize, revision, chat_template, trust_remote_code; see
        `nbtune.model.loading.load_model`.

    Returns
    -------
    LanguageModel
        With the base answering.

    Raises
    ------
    NbtuneError
        As `nbtune.model.loading.load_model`.
    """
    with uncollected():  # it imports the model's class
        return LanguageModel(load_model(source, **options), store)
