"""Decides during a fit whether it is done, and whether it needs another learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbtune.knowledge.asking import examples_reproduced
from nbtune.knowledge.lesson import Lesson
from nbtune.knowledge.observer import Observer, report_epoch
from nbtune.model.loading import LoadedModel

__all__ = ["SAMPLE", "StopWhenSaid"]

# Everything is checked once 95 % of the fact examples were right when last seen. The fit may end if every fact example then
# is right, and 90 % of the other forms and of the retained examples.
_SAID, _SHARES = 0.95, {"forms": 0.9, "retained": 0.9}
SAMPLE = 3  # one in 3 of the other forms and of the retained examples is asked per check; measured in docs/experiments.md
_TRIES = 8  # checks that other forms or retained examples may fail while all facts are right; the next one ends the fit for the proof
# A fit is slow if 12 epochs did not bring the loss below 0.7 of the first. The loss rises if it is above 4 times its
# minimum so far and above half of the first loss, which rules out noise.
_PATIENCE, _FALLEN, _RISEN, _NOISE = 12, 0.7, 4.0, 0.5
_FASTER, _SLOWER = 3.0, 0.3
_STEPS = 2  # lead of a fact's token over the next one, in rounding steps of 16-bit numbers, so that it holds in other batches


class StopWhenSaid:
    """Callback that ends a fit when everything is learned and kept, or when another learning rate is needed.

    Parameters
    ----------
    loaded
        The model.
    lesson
        The training examples.
    observer
        Notified of each epoch.
    patient
        Whether to continue although the loss falls slowly, because no other attempt follows. Default: False, so that an
        attempt with a higher rate can follow.

    Attributes
    ----------
    said : bool
        Whether every fact was confirmed, and with them the other forms and retained examples, unless these failed 8 checks before.
    rises : bool
        Whether the loss rises instead of falling.
    """

    def __init__(self, loaded: LoadedModel, lesson: Lesson, observer: Observer, *, patient: bool = False) -> None:
        self._loaded, self._lesson, self._observer, self._patient = loaded, lesson, observer, patient
        self._margin = _STEPS * loaded.rounding
        self.said = self.rises = False
        self._tries = 0

    @property
    def factor(self) -> float:
        """Factor by which to multiply the learning rate for the next attempt."""
        return _SLOWER if self.rises else _FASTER

    def on_validation_epoch_end(self, model: Any) -> None:
        """Report the epoch and decide whether to stop; called by torchkeras."""
        report_epoch(self._observer, model)
        if self._lesson.share("facts") >= _SAID:
            model.net.eval()
            self.said = self._confirmed(model.net)
        losses = model.history["train_loss"]
        self.rises = losses[-1] > max(_RISEN * min(losses), _NOISE * losses[0])
        slow = not self._patient and len(losses) == _PATIENCE and min(losses) > _FALLEN * losses[0]
        model.stop_training = self.said or self.rises or slow

    def _confirmed(self, net: Any) -> bool:
        """Return whether the replies are good enough to end the fit; examples with wrong replies are trained more often from now on."""
        lesson = self._lesson
        # Examples that were wrong when last seen come first: while one still is, the others need no check.
        if any(self._wrong(net, places, self._margin) for places in (lesson.wrong("facts"), lesson.places("facts"))):
            return False
        for kind in _SHARES:
            self._wrong(net, lesson.places(kind)[self._tries % SAMPLE :: SAMPLE])
        self._tries += 1
        return all(lesson.share(kind) >= share for kind, share in _SHARES.items()) or self._tries > _TRIES

    def _wrong(self, net: Any, places: Sequence[int], margin: float = 0.0) -> list[int]:
        """Return the indices, among those given, of the examples whose reply is wrong."""
        examples = [self._lesson.examples[place] for place in places]
        right = examples_reproduced(net, examples, self._loaded, margin=margin)
        self._lesson.mark(places, right, [example.trained for example in examples])
        return [place for place, is_right in zip(places, right, strict=True) if not is_right]
