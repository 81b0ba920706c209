"""Trains an adapter on examples, asks it a sample of questions before and after, and commits the new version."""

from __future__ import annotations

import itertools
import math
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from nbtune.data.encoding import Batch, Encoded
from nbtune.data.examples import Examples, refuse_bad, split, val_errors
from nbtune.data.reading import Reading
from nbtune.data.turns import encode_conversation
from nbtune.errors import NbtuneError, disk_reason
from nbtune.knowledge.asking import ask
from nbtune.knowledge.lesson import retention_targets
from nbtune.knowledge.observer import Observer, ReportEpochs
from nbtune.knowledge.phrasing import phrasings
from nbtune.knowledge.result import Result
from nbtune.knowledge.settings import Settings
from nbtune.knowledge.spot_checks import SpotChecks, main_language
from nbtune.knowledge.store import Store
from nbtune.knowledge.version import Version
from nbtune.model.adapters import AdapterHost
from nbtune.model.arguments import has_encoder
from nbtune.model.loading import LoadedModel

if TYPE_CHECKING:
    import pandas as pd

    from nbtune.training.batches import Batches

__all__ = ["EXAMPLE_SETTINGS", "Tuning"]

EXAMPLE_SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 8}  # defaults for examples
_RETAINED_SHARE = 4  # examples per retained question
_FEW = 0.5  # below this share of right trained examples, a note suggests more epochs
_PATIENCE = 2  # epochs without a lower loss on the held-out examples before training stops


@dataclass(frozen=True)
class Tuning:
    """Task of training on examples.

    Parameters
    ----------
    examples
        Conversations.
    reading
        Which turns are trained, and which examples are held out.
    settings
        Settings of the fit.
    """

    examples: Examples
    reading: Reading
    settings: Settings

    def give(
        self, host: AdapterHost, loaded: LoadedModel, store: Store, name: str, start: Version, observer: Observer
    ) -> tuple[Result, Version]:
        """Train from the base, score a sample of replies, and commit a version that replaces any earlier examples.

        Parameters
        ----------
        host, loaded
            The model. Afterwards the new version is attached.
        store, name
            Store and adapter name of the new version.
        start
            The current version; it must not hold facts.
        observer
            Notified of progress.

        Returns
        -------
        tuple
            The result and the new version.

        Raises
        ------
        NbtuneError
            Before any training, when the adapter holds facts, the method does not exist or does not fit the model, or examples
            can't be used with these options. Later, when the loss is not finite, or the version can't be saved.
        """
        from nbtune.training.methods import find_method

        method = find_method(self.settings.method)
        method.check(loaded.model, self.settings.rank)
        if self.reading.train_on_inputs and has_encoder(loaded.model):
            raise NbtuneError("--train-on-inputs needs a model without an encoder: this one writes only replies.")
        if start.facts:
            raise NbtuneError(f"The adapter {name!r} holds facts, which examples would replace: give another --name.")
        started = time.perf_counter()
        train, held = split(self.examples, self.reading, self.settings.seed)
        room = method.room(loaded.context, self.settings.rank)
        train, encoded, cut = self._encoded(train, loaded, room, observer)
        with val_errors():
            held, measured, held_cut = self._encoded(held, loaded, room, observer) if held else (None, [], 0)
        checks = SpotChecks(train.conversations, held.conversations if held else [], loaded, room, self.settings.seed)
        host.disable()
        before = checks.ask(host, "asking before", observer)
        encoded += self._retained(train, len(encoded), host, loaded, observer)
        history, steps = self._fit(host, loaded, encoded, measured, observer)
        adapter = host.extract()
        host.attach([adapter])  # the replies shown are those of the saved adapter
        report = checks.report(before, checks.ask(host, "asking after", observer))
        report = replace(report, seconds=time.perf_counter() - started, steps=steps, adapter_bytes=adapter.bytes)
        version = Version(
            facts=(),
            method=self.settings.method,
            base=loaded.source,
            fingerprint=start.fingerprint,
            adapters=(adapter,),
            gated=False,
            report={name: score for name, score in report.scores().items() if not math.isnan(score)},
            examples=len(train.conversations),
            asked=checks.trained_questions(),
        )
        committed = store.commit(name, version, start.number)
        skipped = len(train.bad) + (len(held.bad) if held else 0)
        rows = "row skipped" if skipped == 1 else "rows skipped"
        notes = [f"{count} {what}" for count, what in ((cut + held_cut, "cut to fit"), (skipped, rows)) if count]
        if report.reliability < _FEW:
            notes.append("few are reproduced: try more --epochs")
        done = Result((), report, history, name, committed.number, committed.folder, examples=len(train.conversations), notes=tuple(notes))
        return done, committed

    def _encoded(self, examples: Examples, loaded: LoadedModel, room: int, observer: Observer) -> tuple[Examples, list[Encoded], int]:
        """Encode the examples to at most `room` tokens; return the usable ones, their encodings, and how many were cut."""
        observer.stage("reading examples", len(examples.conversations))
        encoded, good, bad, cut = [], [], [], 0
        each = has_encoder(loaded.model)
        for at, messages in enumerate(examples.conversations):
            try:
                turns = encode_conversation(loaded.tokenizer, messages, self.reading, context=room, one_example_per_turn=each)
            except NbtuneError as error:
                bad.append((examples.numbers[at], str(error)))
            else:
                good.append(at)
                encoded += turns.examples
                cut += turns.cut
            observer.advance()
        refuse_bad(sorted(bad), len(good), self.reading)
        return replace(examples.only(good), bad=(*examples.bad, *bad)), encoded, cut

    def _retained(self, train: Examples, count: int, host: AdapterHost, loaded: LoadedModel, observer: Observer) -> list[Encoded]:
        """Return unrelated questions with the base's replies to retain, repeated to reach their share of the examples."""
        settings = self.settings
        per_batch = settings.retained_per_batch
        wanted = math.ceil(count / _RETAINED_SHARE) if per_batch is None else per_batch * math.ceil(count / settings.batch_size)
        questions = phrasings(main_language(train.conversations))["retained_unrelated"]
        questions = random.Random(settings.seed).sample(questions, min(wanted, len(questions)))
        observer.stage("asking what must stay", len(questions))
        replies = ask(host, loaded, questions, observer=observer, recall=True)
        pairs = [(question, reply) for question, reply in zip(questions, replies, strict=True) if reply.strip()]
        return list(itertools.islice(itertools.cycle(retention_targets(loaded, pairs, weight=settings.retention)), wanted))

    def _fit(
        self, host: AdapterHost, loaded: LoadedModel, encoded: Sequence[Encoded], measured: Sequence[Encoded], observer: Observer
    ) -> tuple[pd.DataFrame, int]:
        from nbtune.training.batches import Batches
        from nbtune.training.keras_model import KerasModel
        from nbtune.training.methods import find_method

        settings, method, pad = self.settings, find_method(self.settings.method), loaded.tokenizer.pad_token_id
        train = Batches(encoded, settings.batch_size, pad, settings.seed)
        torch.manual_seed(settings.seed)
        steps = settings.epochs * len(train)
        host.clear()  # gives the layers the base's own names again
        host.begin(method.configure(host.base, steps, settings.rank))
        optimizer = method.optimizer(host.net, settings.learning_rate or method.examples_rate)
        model = KerasModel(
            host.net,
            optimizer=optimizer,
            lr_scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps)),
            metrics_dict={},
            dropout=False,  # the adapter is trained on the base as it answers, without dropout
            **method.hooks(host.net),
        )
        observer.stage("training", steps + settings.epochs)  # each epoch reports one more unit, with its losses
        with _scratch() if measured else nullcontext(Path()) as place:
            history = model.fit(
                _Counted(train, observer),
                Batches(measured, settings.batch_size, pad) if measured else None,
                epochs=settings.epochs,
                ckpt_path=place / "best.safetensors" if measured else None,
                patience=_PATIENCE if measured else None,
                callbacks=[ReportEpochs(observer)],
            )
        if measured:
            method.after_restore(host.net)
        return history.assign(attempt=1), model.steps


@contextmanager
def _scratch() -> Iterator[Path]:
    """Provide a temporary folder for the checkpoint of the best epoch."""
    try:
        with tempfile.TemporaryDirectory() as place:
            yield Path(place)
    except (OSError, SafetensorError) as error:
        raise NbtuneError(
            f"The best epoch could not be kept in the temporary folder ({disk_reason(error)}): free some space, or set TMPDIR to another."
        ) from None


@dataclass
class _Counted:
    """Batches that report each one to an observer."""

    batches: Batches
    observer: Observer

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            yield batch
            self.observer.advance()
