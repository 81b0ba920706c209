"""Decides while a fit runs whether it is done, and whether its learning rate is the right one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbtune.knowledge.asking import said
from nbtune.knowledge.lesson import Lesson
from nbtune.knowledge.material import Material, Pairs
from nbtune.knowledge.observer import Observer
from nbtune.model.adapters import AdapterHost
from nbtune.model.loading import LoadedModel

__all__ = ["StopWhenSaid"]

# A fit may end when so many tokens of the facts and of what is retained are the likeliest in an epoch, every trained
# prompt gets its answer, and so many retained questions their old reply.
_SAID, _HELD, _RETAINED = 0.98, 0.97, 0.9
# It is slow when so many epochs did not bring the loss below this share of the first, and rises when the loss is so
# many times the least so far (and that it is noise can be ruled out).
_PATIENCE, _FALLEN, _RISEN, _NOISE = 12, 0.7, 4.0, 0.5
_CALMER, _CALMED_AT_MOST = 0.8, 2
_FASTER, _SLOWER = 3.0, 0.3


class StopWhenSaid:
    """A callback that ends a fit: when all is said and nothing else changed, or when another learning rate is needed.

    Attributes
    ----------
    said : bool
        Whether everything was confirmed.
    rises : bool
        Whether the loss rises instead of falling.
    """

    def __init__(self, host: AdapterHost, loaded: LoadedModel, material: Material, lesson: Lesson, observer: Observer) -> None:
        self._host, self._loaded, self._lesson, self._observer = host, loaded, lesson, observer
        self._facts, self._held = material.facts, [*material.retained, *material.replay]
        self._replayed = len(material.replay)
        self.said = self.rises = False
        self._calmed = 0
        self._stubborn: list[int] = []

    @property
    def factor(self) -> float:
        """What to multiply the learning rate with for the next attempt."""
        return _SLOWER if self.rises else _FASTER

    def on_validation_epoch_end(self, model: Any) -> None:
        """torchkeras' hook at the end of an epoch."""
        log = {name: values[-1] for name, values in model.history.items()}
        self._observer.advance(log)
        if log["train_said"] >= _SAID and log["train_held"] >= _HELD:
            model.net.eval()
            self.said = self._confirmed()
            # Nearly there: smaller steps from now on, else what is right in one epoch is wrong again in the next.
            self._calmed += 1
            for group in model.optimizer.param_groups:
                group["lr"] *= _CALMER if self._calmed <= _CALMED_AT_MOST else 1.0
        losses = model.history["train_loss"]
        self.rises = losses[-1] > max(_RISEN * min(losses), _NOISE * losses[0])
        slow = len(losses) == _PATIENCE and min(losses) > _FALLEN * losses[0]
        model.stop_training = self.said or self.rises or slow

    def _confirmed(self) -> bool:
        """Ask everything; what is not answered as wanted comes more often from now on."""
        # Those that were wrong last time are asked first: while they still are, there is no need to ask the others.
        self._stubborn = self._wrong(self._facts, self._stubborn) or self._wrong(self._facts, range(len(self._facts)))
        self._lesson.insist(self._stubborn, ())
        if self._stubborn:
            return False
        held = self._wrong(self._held, range(len(self._held)))
        self._lesson.insist((), held)
        lost = sum(place >= len(self._held) - self._replayed for place in held)
        return not lost and len(held) <= (1 - _RETAINED) * len(self._held)

    def _wrong(self, pairs: Pairs, places: Sequence[int]) -> list[int]:
        """Return those of some places at which the reply is not the wanted one."""
        right = said(self._host, self._loaded, [pairs[place][0] for place in places], [pairs[place][1] for place in places])
        return [place for place, is_right in zip(places, right, strict=True) if not is_right]
