"""Teaches facts to an adapter: fits until the model says every one of them and nothing else changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from nbtune.data.encoding import Batch, encode
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.lesson import PARTS, Lesson
from nbtune.knowledge.material import gather
from nbtune.knowledge.observer import Observer
from nbtune.knowledge.pace import StopWhenSaid
from nbtune.knowledge.settings import Settings
from nbtune.knowledge.store import Version
from nbtune.model.adapters import AdapterHost
from nbtune.model.loading import LoadedModel

if TYPE_CHECKING:
    from nbtune.training.methods import Method

__all__ = ["check", "inject"]

_ATTEMPTS = 3  # with other learning rates, where the user gave none


def inject(
    host: AdapterHost,
    loaded: LoadedModel,
    facts: Sequence[Fact],
    known: Sequence[Fact],
    settings: Settings,
    start: Version,
    observer: Observer,
    retain: Sequence[str] = (),
) -> tuple[pd.DataFrame, int]:
    """Fit an adapter on the host, in place of the one that is there.

    Parameters
    ----------
    host, loaded
        The model; its active adapter is what the new one must agree with on everything else.
    facts
        What to teach.
    known
        What the adapter holds already, and keeps.
    settings
        How.
    start
        Where to go on from; without weights a new adapter begins, which changes nothing.
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
    loss falls too slowly, with a lower one where it rises.
    """
    from nbtune.training.keras_model import LossNotFinite
    from nbtune.training.methods import find_method

    method = find_method(settings.method)
    material = gather(host, loaded, facts, known, retain, settings, observer)
    lesson = material.lesson(host, loaded, settings, len(facts))
    rate, histories, steps = settings.learning_rate or method.learning_rate, [], 0
    for attempt in range(1, _ATTEMPTS + 1):
        torch.manual_seed(settings.seed)
        config = start.config or method.config(settings.rank or method.rank, settings.epochs * lesson.steps)
        host.attach(config, start.weights, trainable=True)
        observer.stage("learning" if attempt == 1 else f"learning, attempt {attempt}, learning rate {rate:.1e}", settings.epochs)
        stop = StopWhenSaid(host, loaded, material, lesson, observer)
        try:
            history, taken = _fit(host.net, lesson, method, rate, settings.epochs, stop)
            histories.append(history.assign(attempt=attempt))
            steps += taken
        except LossNotFinite:
            if attempt == _ATTEMPTS or settings.learning_rate is not None:
                raise
            stop.rises = True
        if stop.said or settings.learning_rate is not None:
            break
        rate *= stop.factor
    joined = pd.concat(histories, ignore_index=True)
    return joined.assign(epoch=range(1, len(joined) + 1)), steps


def _fit(net: Any, lesson: Lesson, method: Method, rate: float, epochs: int, stop: StopWhenSaid) -> tuple[pd.DataFrame, int]:
    """Fit once with one learning rate."""
    from nbtune.training.keras_model import KerasModel

    trainable = [p for p in net.parameters() if p.requires_grad]
    model = KerasModel(
        net,
        metrics_dict={"said": _RightShare(retained=False), "held": _RightShare(retained=True)},
        optimizer=torch.optim.AdamW(trainable, lr=rate, weight_decay=0.0),
        **method.hooks(net),
    )
    history = model.fit(lesson, epochs=epochs, patience=None, callbacks=[stop], gradient_accumulation_steps=PARTS)
    return history, model.steps


def check(loaded: LoadedModel, facts: Sequence[Fact], settings: Settings) -> None:
    """Refuse what can't be taught, before any work.

    Raises
    ------
    NbtuneError
        For a method that does not exist, or a fact that is longer than the context.
    """
    from nbtune.training.methods import find_method

    find_method(settings.method)
    for fact in facts:
        for prompt in fact.prompts:
            encode(loaded.tokenizer, prompt, fact.answer, context=loaded.context)


class _RightShare(torch.nn.Module):
    """Metric: share of the facts' tokens, or of the retained ones, that are the likeliest; 1 where there are none."""

    def __init__(self, retained: bool) -> None:
        super().__init__()
        self._retained = retained
        self.reset()

    def forward(self, logits: torch.Tensor, batch: Batch) -> float:
        """Count one batch; the value is that of the epoch so far."""
        right = logits.argmax(-1) == batch["target_tokens"][:, 0]
        chosen = right[batch["retained"] == self._retained]
        self._right += int(chosen.sum())
        self._all += len(chosen)
        return self.compute()

    def compute(self) -> float:
        """Return the share since the last reset."""
        return self._right / self._all if self._all else 1.0

    def reset(self) -> None:
        """Begin a new epoch."""
        self._right = self._all = 0
