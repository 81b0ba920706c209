"""Fits an adapter until the model gives the answer of every fact and its other replies stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from nbtune.data.encoding import Batch, encode
from nbtune.errors import NbtuneError
from nbtune.knowledge.asking import rows_right
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.lesson import PARTS, Lesson
from nbtune.knowledge.material import gather
from nbtune.knowledge.observer import Observer
from nbtune.knowledge.pace import StopWhenSaid
from nbtune.knowledge.settings import Settings
from nbtune.model.adapters import AdapterHost
from nbtune.model.loading import LoadedModel

if TYPE_CHECKING:
    import pandas as pd

    from nbtune.training.methods import Method

__all__ = ["check", "fit", "inject"]

_ATTEMPTS = 3  # with different learning rates, unless the user gave one
_FASTEST = 3.0  # maximum rate, in multiples of the method's, for all layers after attempts in the last layer
_HALVED_AFTER = 6  # epochs until the learning rate is halved; it falls as 1 / (1 + epoch / 6), measured in docs/experiments.md


def inject(
    host: AdapterHost,
    loaded: LoadedModel,
    facts: Sequence[Fact],
    settings: Settings,
    observer: Observer,
    retain: Sequence[str] = (),
) -> tuple[pd.DataFrame, int]:
    """Fit one adapter on the base, replacing whatever is on the host.

    Parameters
    ----------
    host, loaded
        The model.
    facts
        The facts to teach.
    settings
        Settings of the fit.
    observer
        Notified of every stage and epoch.
    retain
        The user's questions whose replies must not change.

    Returns
    -------
    tuple
        The history, one row per epoch of every attempt, and the number of optimizer steps.

    Raises
    ------
    LossNotFinite
        When the loss is not finite in the last attempt, or with a learning rate given by the user.

    Notes
    -----
    Unless the user gave a learning rate, a failed fit is repeated: with a lower rate if the loss rose, else with a higher one.
    If the earlier attempts trained the last layer alone, the last attempt trains all layers.
    """
    host.clear()
    material = gather(host, loaded, facts, retain, settings, observer)
    observer.stage("reading what is learned", 1)
    return _learn(host, loaded, material.lesson(loaded, settings, len(facts)), settings, observer)


def _learn(host: AdapterHost, loaded: LoadedModel, lesson: Lesson, settings: Settings, observer: Observer) -> tuple[pd.DataFrame, int]:
    """Fit, and repeat with another learning rate if the fit does not succeed."""
    import pandas as pd

    from nbtune.training.last_layer import last_layer_targets
    from nbtune.training.methods import find_method
    from nbtune.training.step_runner import LossNotFinite

    method = find_method(settings.method)
    rate, histories, steps = settings.learning_rate or method.learning_rate, [], 0
    for attempt in range(1, _ATTEMPTS + 1):
        torch.manual_seed(settings.seed)
        host.clear()
        targets = (
            last_layer_targets(host.base)
            if settings.last_layer_first and method.last_layer_overrides is not None and attempt < _ATTEMPTS
            else None
        )
        chosen = method.of_one_fact() if targets and settings.gated and settings.rank is None else method
        host.begin(chosen.configure(host.base, settings.epochs * lesson.steps, settings.rank, targets))
        net = _narrowed(host, lesson)
        observer.stage("learning" if attempt == 1 else f"learning, attempt {attempt}, learning rate {rate:.1e}", settings.epochs)
        stop = StopWhenSaid(loaded, lesson, observer, patient=settings.learning_rate is not None)
        try:
            history, taken = fit(host, net, lesson, chosen, rate, settings.epochs, stop)
            histories.append(history.assign(attempt=attempt))
            steps += taken
        except LossNotFinite:
            if attempt == _ATTEMPTS or settings.learning_rate is not None:
                raise
            stop.rises = True
        if stop.said or settings.learning_rate is not None:
            break
        rate *= stop.factor
        if targets and attempt == _ATTEMPTS - 1:  # a rate found for the last layer alone may be too high for all layers
            rate = min(rate, _FASTEST * method.learning_rate)
        lesson.begin()
    joined = pd.concat(histories, ignore_index=True)
    return joined.assign(epoch=range(1, len(joined) + 1)), steps


def _narrowed(host: AdapterHost, lesson: Lesson) -> Any:
    """Return the module to run in a step: the last layer alone if nothing below it is adapted, else the model.

    For the last layer, its inputs are computed once and stored in the examples.
    """
    from nbtune.training.last_layer import last_layer_of, read_below

    last = last_layer_of(host.net, lesson.examples, lesson.pad)
    if last is not None and not lesson.examples[0].below:  # once for all attempts: the layers below never change
        lesson.examples = read_below(host.base, lesson.examples, lesson.pad)
    elif last is None and lesson.examples[0].below:
        lesson.examples = [replace(example, below=None) for example in lesson.examples]
    return last if lesson.examples[0].below else host.net


def fit(
    host: AdapterHost, net: Any, lesson: Lesson, method: Method, rate: float, epochs: int, stop: StopWhenSaid
) -> tuple[pd.DataFrame, int]:
    """Run one attempt, with a learning rate that falls.

    Parameters
    ----------
    host
        The host with the adapter to train.
    net
        The module to run in a step: the model, or its last layer.
    lesson
        The training examples.
    method, rate, epochs
        Method, initial learning rate and maximum number of epochs.
    stop
        Callback that can end the fit early.

    Returns
    -------
    tuple
        The history and the number of optimizer steps.
    """
    from nbtune.training.keras_model import KerasModel

    optimizer = method.optimizer(host.net, rate)
    model = KerasModel(
        net,
        metrics_dict={"said": _FactShare(lesson), "held": _RetainedShare(lesson)},
        optimizer=optimizer,
        lr_scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step / (_HALVED_AFTER * lesson.steps))),
        dropout=False,  # as in the proof, and as when the layers below the last one were read
        **method.hooks(host.net),
    )
    history = model.fit(lesson, epochs=epochs, patience=None, callbacks=[stop], gradient_accumulation_steps=PARTS)
    return history, model.steps


def check(loaded: LoadedModel, facts: Sequence[Fact], settings: Settings) -> None:
    """Check before any work that the facts can be taught this way.

    Raises
    ------
    NbtuneError
        When the method does not exist or does not fit the model, or a fact is longer than the context.
    """
    from nbtune.training.methods import find_method

    method = find_method(settings.method)
    method.check(loaded.model, settings.rank)
    room = method.room(loaded.context, settings.rank)
    for fact in facts:
        try:
            for prompt in fact.prompts:
                encode(loaded.tokenizer, prompt, fact.answer, context=room)
        except NbtuneError as error:
            raise NbtuneError(f"The fact {fact.keyword!r} can't be taught: {error}") from None


class _FactShare(torch.nn.Module):
    """Metric: share of the fact examples that were right when last seen; marks all examples in the lesson."""

    def __init__(self, lesson: Lesson) -> None:
        super().__init__()
        self._lesson = lesson

    def forward(self, logits: torch.Tensor, batch: Batch) -> float:
        """Mark one batch and return the share."""
        self._lesson.mark(batch["places"], rows_right(logits, batch), batch["lengths"])
        return self.compute()

    def compute(self) -> float:
        """Return the share."""
        return self._lesson.share("facts")

    def reset(self) -> None:
        """Do nothing at the end of an epoch: a mark stays until its example is seen again."""


class _RetainedShare(_FactShare):
    """Metric: share of the retained examples that were right when last seen."""

    def forward(self, logits: torch.Tensor, batch: Batch) -> float:  # noqa: ARG002 - marked already
        """Return the share; `_FactShare` has marked the batch already."""
        return self.compute()

    def compute(self) -> float:
        """Return the share."""
        return self._lesson.share("retained")
