"""Teaches facts to an adapter: fits until the model says every one of them and nothing else changed."""

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

_ATTEMPTS = 3  # with other learning rates, where the user gave none
_FASTEST = 3.0  # times the method's learning rate: what all layers begin with at most, behind attempts in the last one
_HALVED_AFTER = 6  # epochs after which the learning rate is half of what it was; it goes on as 1 / (1 + epoch / so many)


def inject(
    host: AdapterHost,
    loaded: LoadedModel,
    facts: Sequence[Fact],
    settings: Settings,
    observer: Observer,
    retain: Sequence[str] = (),
) -> tuple[pd.DataFrame, int]:
    """Fit one adapter to the base, in place of what is on the host.

    Parameters
    ----------
    host, loaded
        The model.
    facts
        What to teach.
    settings
        How.
    observer
        Told of every stage and epoch.
    retain
        Questions of the user's whose replies must stay.

    Returns
    -------
    tuple
        The history, one row per epoch of every attempt, and the number of optimizer steps.

    Notes
    -----
    Without a learning rate of the user's, a fit that does not get there is tried again: with a higher rate where the
    loss falls too slowly, with a lower one where it rises, and at last in all layers where it was in the last one.
    """
    host.clear()
    material = gather(host, loaded, facts, retain, settings, observer)
    observer.stage("reading what is learned", 1)
    return _learn(host, loaded, material.lesson(loaded, settings, len(facts)), settings, observer)


def _learn(host: AdapterHost, loaded: LoadedModel, lesson: Lesson, settings: Settings, observer: Observer) -> tuple[pd.DataFrame, int]:
    """Fit, again with another learning rate where it does not get there."""
    import pandas as pd

    from nbtune.training.last_layer import last_layer_targets
    from nbtune.training.methods import find_method
    from nbtune.training.step_runner import LossNotFinite

    method = find_method(settings.method)
    rate, histories, steps = settings.learning_rate or method.learning_rate, [], 0
    for attempt in range(1, _ATTEMPTS + 1):
        torch.manual_seed(settings.seed)
        host.clear()
        targets = last_layer_targets(host.base) if settings.narrow and method.narrow is not None and attempt < _ATTEMPTS else None
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
        if targets and attempt == _ATTEMPTS - 1:  # a rate of the last layer alone says little of all of them
            rate = min(rate, _FASTEST * method.learning_rate)
        lesson.begin()
    joined = pd.concat(histories, ignore_index=True)
    return joined.assign(epoch=range(1, len(joined) + 1)), steps


def _narrowed(host: AdapterHost, lesson: Lesson) -> Any:
    """Return what has to run in a step: the last layer where nothing below is adapted, after reading what reaches it."""
    from nbtune.training.last_layer import last_layer_of, read_below

    last = last_layer_of(host.net, lesson.examples, lesson.pad)
    if last is not None and not lesson.examples[0].below:  # nothing below changes from one attempt to the next
        lesson.examples = read_below(host.base, lesson.examples, lesson.pad)
    elif last is None and lesson.examples[0].below:
        lesson.examples = [replace(example, below=None) for example in lesson.examples]
    return last if lesson.examples[0].below else host.net


def fit(
    host: AdapterHost, net: Any, lesson: Lesson, method: Method, rate: float, epochs: int, stop: StopWhenSaid
) -> tuple[pd.DataFrame, int]:
    """Fit once with one learning rate, which falls.

    Parameters
    ----------
    host
        Holds the adapter that was begun.
    net
        What has to run in a step: the model, or its last layer.
    lesson, method, rate, epochs
        What is learned, and how.
    stop
        Ends it sooner.

    Returns
    -------
    tuple
        The history and the number of optimizer steps.
    """
    from nbtune.training.keras_model import KerasModel

    optimizer = method.optimizer(host.net, rate)
    model = KerasModel(
        net,
        metrics_dict={"said": _Marks(lesson), "held": _Held(lesson)},
        optimizer=optimizer,
        lr_scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step / (_HALVED_AFTER * lesson.steps))),
        dropout=False,  # what is fitted is what is proved, and as the layers below the last one were read
        **method.hooks(host.net),
    )
    history = model.fit(lesson, epochs=epochs, patience=None, callbacks=[stop], gradient_accumulation_steps=PARTS)
    return history, model.steps


def check(loaded: LoadedModel, facts: Sequence[Fact], settings: Settings) -> None:
    """Refuse what can't be taught, before any work.

    Raises
    ------
    NbtuneError
        For a method that does not exist or does not fit the model, or a fact that is longer than the context.
    """
    from nbtune.training.methods import find_method

    method = find_method(settings.method)
    method.check(loaded.model)
    room = method.room(loaded.context, settings.rank)
    for fact in facts:
        try:
            for prompt in fact.prompts:
                encode(loaded.tokenizer, prompt, fact.answer, context=room)
        except NbtuneError as error:
            raise NbtuneError(f"The fact {fact.keyword!r} can't be taught: {error}") from None


class _Marks(torch.nn.Module):
    """Metric: share of the fact examples that were right when last seen; what is seen is marked in the lesson."""

    def __init__(self, lesson: Lesson) -> None:
        super().__init__()
        self._lesson = lesson

    def forward(self, logits: torch.Tensor, batch: Batch) -> float:
        """Mark one batch."""
        self._lesson.mark(batch["places"], rows_right(logits, batch), batch["lengths"])
        return self.compute()

    def compute(self) -> float:
        """Return the share."""
        return self._lesson.share("facts")

    def reset(self) -> None:
        """Begin a new epoch: marks stay until an example is seen again."""


class _Held(_Marks):
    """Metric: share of the retained examples that were right when last seen."""

    def forward(self, logits: torch.Tensor, batch: Batch) -> float:  # noqa: ARG002 - marked already
        """Read what `_Marks` marked."""
        return self.compute()

    def compute(self) -> float:
        """Return the share."""
        return self._lesson.share("retained")
