"""The public API: a language model that chats, is taught facts, proves them, and takes them back."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

from nbtune.chat_template import chat_ids
from nbtune.checks import check_known, check_range, check_text, whole_number
from nbtune.data.encoding import IGNORED, Example, encode, pieces
from nbtune.data.examples import read_examples
from nbtune.data.preview import Preview, preview_rows
from nbtune.data.reading import TRAINING, Reading
from nbtune.data.rows import read_rows
from nbtune.errors import NbtuneError
from nbtune.imports import FIT_MODULES, import_modules, without_gc
from nbtune.knowledge.active import ActiveAdapter
from nbtune.knowledge.asking import answer
from nbtune.knowledge.evaluation import Evaluation, check_target, evaluate, save_predictions
from nbtune.knowledge.exporting import Export
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.facts_file import write_facts
from nbtune.knowledge.observer import Observer, Unwatched
from nbtune.knowledge.planning import FactOptions, facts_of, plan
from nbtune.knowledge.proof import Proof, standings
from nbtune.knowledge.result import Result
from nbtune.knowledge.settings import Settings
from nbtune.knowledge.store import Store
from nbtune.knowledge.teaching import Teaching, still_retainable
from nbtune.knowledge.tracking import tracked
from nbtune.knowledge.tuning import Tuning
from nbtune.model.arguments import has_encoder
from nbtune.model.exporting import check_folder
from nbtune.model.generation import Chat, Reply, check_room, generate, user_words
from nbtune.model.loading import LoadedModel, load_model
from nbtune.model.memory import within_memory
from nbtune.model.prompt_cache import PromptCache
from nbtune.model.sampling import DEFAULT_NEW_TOKENS, Sampling, seeded
from nbtune.paths import check_writable
from nbtune.tiny import BUILT_IN

__all__ = ["LanguageModel", "load"]

DEFAULT_ADAPTER, EXAMPLES_ADAPTER = "facts", "examples"
_ROLES = {"system", "user", "assistant"}
_FULL = (
    "The device is out of memory: nothing was changed. Try a smaller --batch-size, shorter texts (for examples "
    "--max-source-length, --max-target-length), or load the model with --dtype bfloat16 or --quantize nf4."
)


class LanguageModel:
    """A language model with at most one adapter in use.

    Created by `load`. Adapters are kept in `store`; the base weights are held in memory once and never changed.

    Parameters
    ----------
    loaded
        The base model.
    store
        Folder of adapters, created by the first finetune.
    """

    def __init__(self, loaded: LoadedModel, store: str | Path = "nbtune_adapters") -> None:
        self._loaded = loaded
        self._active = ActiveAdapter(loaded, store)
        self._host = self._active.host
        self._cache = PromptCache()

    @property
    def store(self) -> Store:
        """The store of adapters."""
        return self._active.store

    @property
    def adapter(self) -> str | None:
        """Name of the adapter in use; None if there is none, so that the base answers."""
        return self._active.name

    @property
    def source(self) -> str:
        """The name, folder or hub id that the model was loaded from."""
        return self._loaded.source

    @property
    def model(self) -> Any:
        """The transformers model, or the PEFT model around it while an adapter is in use; it does not apply the gate."""
        if not self._active.version.adapters:
            self._host.clear()
        return self._host.net

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, with its chat template."""
        return self._loaded.tokenizer

    @property
    def context(self) -> int:
        """Context length: the maximum number of tokens of prompt and reply together."""
        return self._loaded.context

    @property
    def plain(self) -> bool:
        """Whether the model came without a chat template and got a plain one; see `nbtune.model.loading`."""
        return self._loaded.plain

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts of the adapter in use, in the order in which they were taught."""
        return self._active.version.facts

    @property
    def examples(self) -> int:
        """Number of examples that the adapter in use was trained on; 0 if it was taught facts."""
        return self._active.version.examples

    @property
    def version(self) -> int:
        """Version number of the adapter in use; 0 for the base."""
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
        """Ask a question and return the text of the reply.

        Parameters
        ----------
        prompt
            The question.
        history
            Earlier messages of the conversation. Default: none.
        system
            System prompt. Default: none.
        on_text
            Function that is called with each new piece of the reply. Default: none.
        **sampling
            Fields of `nbtune.Sampling`. Default: greedy.

        Returns
        -------
        str
            The reply.

        Raises
        ------
        KeyboardInterrupt
            At Ctrl-C; `reply` returns what was said so far instead.
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
        """Ask a question as `chat` does, and return the reply with its statistics.

        Parameters and errors are those of `chat`, except that Ctrl-C raises nothing.

        Returns
        -------
        Reply
            The text, why it is incomplete if it is, and how fast it came. After Ctrl-C it holds what was said so far, and is not
            `finished`.

        Notes
        -----
        Tokens that were already read for this conversation are not read again, and the answer of a fact is verified in one pass
        (speculative decoding; see `nbtune.model.drafting`).
        """
        chosen, chat = _sampling(sampling), _chat(prompt, history, system)
        ((side, _),) = self._host.group_by_side([user_words(chat)]).items()
        weights = (None if self._host.bypassed else side, self._host.stamp)
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
        """Return the latest rounds of a conversation that leave room for the next question and its reply.

        Parameters
        ----------
        history
            Messages, alternately a question and its reply.
        prompt, system
            The question that follows, and the system prompt.
        max_new_tokens
            Maximum length of the reply in tokens. Default: 512. At most a quarter of the context is reserved for the reply.

        Returns
        -------
        list of dict
            All messages if they fit. Otherwise as many of the latest rounds as fit into half of the room that the question leaves, so
            that the rounds that follow fit, too.
        """
        kept = list(history)
        room = self.context - min(max_new_tokens or DEFAULT_NEW_TOKENS, self.context // 4)
        while len(kept) > 1 and len(self._cache.prompts.tokenize(self.tokenizer, _chat(prompt, kept, system))) > room:
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
        """Ask many questions in batches; the replies are the same as when they are asked one at a time.

        Parameters
        ----------
        prompts
            The questions.
        history, system, **sampling
            As for `chat`.
        observer
            Notified of each reply.

        Returns
        -------
        list of str
            One reply per prompt, in order.

        Raises
        ------
        NbtuneError
            When `prompts` is a single text, a prompt is empty or too long, or an option is out of range.
        """
        if isinstance(prompts, str) or not isinstance(prompts, Iterable):
            raise NbtuneError(f"prompts is not a list of questions ({type(prompts).__name__}): ask a single one with chat.")
        history = list(history or ())
        chosen, chats = _sampling(sampling), [_chat(prompt, history, system) for prompt in prompts]
        check_room(self.tokenizer, chats, self.context)
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
        """Teach facts, prove them, and save them as a new version of an adapter; or train an adapter on examples.

        A keyword that was taught before gets the new answer instead of the old one. Examples are conversations in any format of
        `nbtune.data.formats`. They are trained from the base, and replace what the adapter was trained on before.

        Parameters
        ----------
        source
            A mapping of keyword to answer, rows, a DataFrame, a Dataset, a file, or the name of a dataset; see
            `nbtune.data.rows.read_rows`. Rows with ``keyword`` and ``answer`` are facts.
        name
            Name of the adapter. Default: for facts the adapter in use, or ``"facts"`` if there is none or it was trained on examples;
            for examples ``"examples"``.
        recipe
            ``"default"``, or ``"reference"`` for the recipe that nbtune is compared with. Default: ``"default"``.
        prompts, probes
            Questions to train on and to test with; ``{x}`` stands for the keyword. Default: the built-in phrasings.
        extend
            Whether to use the built-in phrasings in addition to `prompts` and `probes`. Default: False.
        retain
            Questions whose replies must not change. They are trained to keep them, and the finetune fails if one changes. Prompts and
            probes of the facts are refused here. Default: none.
        rewordings
            Number of further wordings of each keyword to request from the model itself; the usable ones are trained. Default: 0.
        log_with
            ``"tensorboard"``, ``"trackio"`` or ``"wandb"``: where to log each epoch and the scores. Default: nowhere.
        observer
            Notified of progress.
        **settings
            Fields of `nbtune.Settings`: method, epochs, learning_rate, rank, ...; and for examples those of
            `nbtune.data.reading.Reading`: val, turns, prompt_column, ...

        Returns
        -------
        Result
            The proof, the history, and the location of the new version.

        Raises
        ------
        FactNotLearned
            When a trained prompt does not get the answer, or a reply that had to stay has changed. Nothing is kept.
        NbtuneError
            For input that can't be used; raised before any work.
        """
        task = plan(source, FactOptions(recipe, prompts, probes, extend, retain, rewordings), settings)
        default = EXAMPLES_ADAPTER if isinstance(task, Tuning) else (None if self.examples else self.adapter) or DEFAULT_ADAPTER
        name = default if name is None else name
        Store.check_name(name)
        if log_with is not None:
            with tracked(observer or Unwatched(), log_with, name) as watched:
                result = self._run(task, name, watched)
                watched.log(result.report.scores())
                return result
        return self._run(task, name, observer)

    def probe(self, keyword: str | None = None, *, observer: Observer | None = None) -> Result:
        """Repeat all test questions about the facts, and compare the replies with those of the base.

        Parameters
        ----------
        keyword
            Keyword of a single fact. Default: all facts.
        observer
            Notified of progress.

        Returns
        -------
        Result
            The facts with their current standing, and the report, in which ``before`` is the reply of the base.

        Raises
        ------
        NbtuneError
            When no adapter is in use, it holds no facts, or there is no such fact.
        """
        name = self._active.required()
        facts = self.facts if keyword is None else (self._active.fact(keyword),)
        if not facts:
            raise NbtuneError(f"The adapter {name!r} has no facts to ask about.")
        self._active.check_answering()
        beside = [fact for fact in self.facts if fact not in facts]
        started, proof, watched = time.perf_counter(), Proof(facts, beside=beside), observer or Unwatched()
        with within_memory(_FULL):
            with self.base():
                proof.ask_before(self._host, self._loaded, watched)
            report = replace(proof.ask_after(self._host, self._loaded, watched), seconds=time.perf_counter() - started)
        return Result(standings(facts, report), report, None, name, self.version, self._active.version.folder)

    def rebuild(self, source: Any = None, *, observer: Observer | None = None) -> Result:
        """Train the adapter in use again from scratch, from its facts only.

        Parameters
        ----------
        source
            Facts to use instead, such as an edited file of ``%nbtune facts --save``; facts that it does not contain are forgotten.
            Default: the adapter's own facts.
        observer
            Notified of progress.

        Returns
        -------
        Result
            As `finetune` returns it.

        Raises
        ------
        FactNotLearned
            When a fact is not learned. Nothing is changed.
        NbtuneError
            When no adapter is in use, or there are no facts.
        """
        name = self._active.required()
        self._active.catch_up(name)
        facts = self.facts
        if source is not None:
            facts = facts_of(source)
        if not facts:
            raise NbtuneError(f"The adapter {name!r} has no facts to rebuild it from.")
        return self._relearn(name, facts, observer)

    def save_facts(self, path: str | Path) -> Path:
        """Write the facts to a YAML file that can be edited and diffed, and that `finetune` and `rebuild` read.

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
            When there are no facts, the name has another ending, or the file can't be written.
        """
        return write_facts(self.facts, path)

    def preview(self, source: Any, **how: Any) -> Preview:
        """Preview how a source would be read: its format, some examples token by token, their lengths, and what would be cut.

        Parameters
        ----------
        source
            As for `finetune`.
        **how
            Fields of `nbtune.data.reading.Reading`.

        Returns
        -------
        Preview
            The preview; ``%nbtune data`` draws it.

        Raises
        ------
        NbtuneError
            For a source in no known format, or without a usable row.
        """
        each = has_encoder(self.model)
        return preview_rows(read_rows(source), _reading(how), self.tokenizer, context=self.context, one_example_per_turn=each)

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
            Examples, as for `finetune`; the last turn of each is the expected reply.
        limit
            Maximum number of examples to ask, drawn at random with a fixed seed. Default: all.
        max_new_tokens
            Maximum length of a reply in tokens. Default: 128.
        save
            A ``.csv`` or ``.jsonl`` file to write the predictions to. Default: none.
        observer
            Notified of progress.
        **how
            Fields of `nbtune.data.reading.Reading` that concern how rows are read.

        Returns
        -------
        Evaluation
            The predictions and the scores, as DataFrames.

        Raises
        ------
        NbtuneError
            For examples that can't be used, an option that only concerns training, another file type, or a missing package; raised before
            any work.
        """
        for option, value in (("--limit", limit), ("--max-new-tokens", max_new_tokens)):
            check_range(option, value, value is None or whole_number(option, value) >= 1, "1 or more")
        trained = min(TRAINING & how.keys(), default=None)
        if trained is not None:
            raise NbtuneError(f"{trained} is for training: an evaluation asks only the last turn of each example, so leave it out.")
        target = None if save is None else check_target(save)
        examples = read_examples(read_rows(source), _reading(how))
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
            Keyword of a fact that was taught; or, together with `answer`, of a new fact.
        answer
            Answer of the new fact, to see what would be trained. Default: none.
        **own
            prompts, probes and extend of the new fact, as for `finetune`.

        Returns
        -------
        list of Example
            One example per trained prompt; see `nbtune.data.encoding.pieces`.

        Raises
        ------
        NbtuneError
            When no such fact was taught, or the new fact is not valid.
        """
        check_known(own, ("prompts", "probes", "extend"))
        fact = self._active.fact(keyword) if answer is None else Fact.new(keyword, answer, **own)
        return [pieces(self.tokenizer, encode(self.tokenizer, prompt, fact.answer, context=self.context)) for prompt in fact.prompts]

    def use(self, name: str | None) -> None:
        """Answer with this adapter from now on, or with the base if `name` is None.

        Raises
        ------
        NbtuneError
            When there is no such adapter, its files are damaged, or it belongs to another base model.
        """
        self._active.use(name)

    def undo(self, name: str | None = None) -> int:
        """Go back to the version before the current one, and return its number; 0 is the base.

        If files of a version are damaged, it goes back to the newest intact version before it.

        Parameters
        ----------
        name
            Name of the adapter. Default: the one in use.

        Raises
        ------
        NbtuneError
            When no adapter is in use, it has no version left, or it belongs to another model. Nothing is changed then.
        """
        return self._active.undo(name or self._active.required())

    def redo(self, name: str | None = None) -> int:
        """Revert an undo: go to the newest version that was made from the current one, and return its number.

        Parameters
        ----------
        name
            Name of the adapter. Default: the one in use.

        Raises
        ------
        NbtuneError
            When no adapter is in use, nothing was undone, or it belongs to another model. Nothing is changed then.
        """
        return self._active.redo(name or self._active.required())

    def forget(self, *keywords: str, observer: Observer | None = None) -> int:
        """Forget facts, in one new version: the model answers about them as the base does, and keeps the other facts.

        With a gate, the adapters of these facts are left out and nothing is trained. Without a gate, the other facts are trained again.

        Parameters
        ----------
        *keywords
            One or more keywords of facts.
        observer
            Notified of progress.

        Returns
        -------
        int
            Number of the new version.

        Raises
        ------
        NbtuneError
            When no adapter is in use, or no such fact was taught. Without a gate also FactNotLearned, when the other facts could not be
            learned again.
        """
        if not keywords:
            raise NbtuneError("Forget what? Give one or more keywords.")
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
        """Answer with the base inside the block."""
        with self._host.answering(None):
            yield

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """Answer with another adapter inside the block, or with the base if `name` is None.

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
        """Write the model, with everything that the adapter in use has learned, for other programs.

        Other programs have no gate. So facts are trained once more, all of them into one adapter that is also trained to keep the
        base's replies about other things; the adapter in use does not change. The model that was written is read back and asked
        about the facts before it is put in place.

        Parameters
        ----------
        folder
            A new or empty folder.
        kind
            ``"transformers"``: the merged model. ``"peft"``: only the adapter. ``"gguf"``: the merged model as llama.cpp's converter
            writes it, with a Modelfile for Ollama. Default: ``"transformers"``.
        max_shard_size
            Maximum size of a file of weights. Default: ``"5GB"``.
        observer
            Notified of progress.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FactNotLearned
            When a trained prompt does not get the answer after this training. Nothing is written.
        NbtuneError
            When the folder is not empty, the written model answers differently, llama.cpp is missing or refuses the model, or the disk
            refuses to write.
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
        """Write the model as `export` does, and upload it to the Hugging Face hub, with a model card.

        Parameters
        ----------
        repository
            OWNER/NAME; the repository is created if it does not exist.
        private
            Whether a new repository is private. Default: False.
        kind, max_shard_size, observer
            As for `export`.

        Returns
        -------
        str
            Address of the repository.

        Raises
        ------
        NbtuneError
            As for `export`; and when nobody is logged in, or the hub refuses the upload.
        """
        from nbtune.model.hub import check_hub, upload

        check_hub(repository)
        with tempfile.TemporaryDirectory() as place:
            written = self.export(Path(place) / "model", kind=kind, max_shard_size=max_shard_size, observer=observer)
            return upload(written, repository, private=private)

    def _draft(self, side: int | None) -> list[int]:
        """Return the answer of the fact that the question is about, as draft tokens for the reply; empty if there is no such fact."""
        if side is None or self._host.bypassed or not self._active.version.gated or not self.facts:
            return []
        fact = self.facts[side]
        return [label for label in encode(self.tokenizer, fact.keyword, fact.answer, context=self.context).labels if label != IGNORED]

    def _run(self, task: Teaching | Tuning, name: str, observer: Observer | None, *, from_scratch: bool = False) -> Result:
        """Train an adapter, from its present state or from scratch; a failure restores what was in use before."""
        check_writable(self.store.folder / name)
        active = self._active
        with active.restored_on_failure():
            if from_scratch:
                active.put(name, active.without_facts())
            else:
                active.catch_up(name)
            import_modules(FIT_MODULES)
            self._cache = PromptCache()  # other weights will answer, and the fit can use its memory
            with within_memory(_FULL), seeded(task.settings.seed, self._loaded.model.device):
                result, committed = task.give(self._host, self._loaded, self.store, name, active.version, observer or Unwatched())
            active.adopt(name, committed)
            return result

    def _relearn(self, name: str, facts: tuple[Fact, ...], observer: Observer | None) -> Result:
        """Train an adapter from scratch on these facts."""
        version = self._active.version
        settings = Settings(method=version.method or Settings.method, gated=version.gated, **version.settings)
        return self._run(Teaching(facts, settings, retain=still_retainable(version.retain, facts)), name, observer, from_scratch=True)


def _sampling(options: Mapping[str, Any]) -> Sampling:
    check_known(options, [field.name for field in fields(Sampling)])
    return Sampling(**options)


def _reading(options: Mapping[str, Any]) -> Reading:
    check_known(options, [field.name for field in fields(Reading)])
    return Reading(**options)


def _chat(prompt: str, history: Chat | None, system: str | None) -> Chat:
    check_text("The prompt", prompt)
    if system is not None:
        check_text("system", system)
    if not prompt.strip():
        raise NbtuneError("The prompt is empty: write a question.")
    history = list(history or ())
    said = [message.get(key) if isinstance(message, Mapping) else None for message in history for key in ("role", "content")]
    if not all(isinstance(text, str) for text in said) or not set(said[::2]) <= _ROLES:
        raise NbtuneError(
            'history is not a list of messages by user, assistant and system, such as [{"role": "user", "content": "Hi"}, ...].'
        )
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, *history, {"role": "user", "content": prompt}]


def load(source: str | Path = BUILT_IN, *, store: str | Path = "nbtune_adapters", **options: Any) -> LanguageModel:
    """Load a model.

    Parameters
    ----------
    source
        ``"tiny"`` for the built-in model, a folder, or a hub id.
    store
        Folder of adapters. Default: ``nbtune_adapters`` in the working directory, created by the
        first finetune.
    **options
        dtype, device, quantize, revision, chat_template, trust_remote_code; see
        `nbtune.model.loading.load_model`.

    Returns
    -------
    LanguageModel
        The model, with no adapter in use.

    Raises
    ------
    NbtuneError
        As for `nbtune.model.loading.load_model`.
    """
    check_known(options, set(signature(load_model).parameters) - {"source"})
    with without_gc():  # loading imports the model's class
        return LanguageModel(load_model(source, **options), store)
