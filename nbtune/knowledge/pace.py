"""Decides while a fit runs whether it is done, and whether its learning rate is the right one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbtune.knowledge.asking import examples_said
from nbtune.knowledge.lesson import Lesson
from nbtune.knowledge.observer import Observer, report_epoch
from nbtune.model.loading import LoadedModel

__all__ = ["SAMPLE", "StopWhenSaid"]

# A fit may end when so many of the fact examples were right when last seen, then every one of them is, and so many of their
# other forms and of what is retained.
_SAID, _SHARES = 0.95, {"forms": 0.9, "retained": 0.9}
SAMPLE = 3  # one in so many of the other forms, and of what is retained, is asked at a time: enough to tell their share
_TRIES = 8  # so often may the other forms or what is retained fall short once every fact is said; then the proof has the word
# It is slow when so many epochs did not bring the loss below this share of the first, and rises when the loss is so
# many times the least so far (and that it is noise can be ruled out).
_PATIENCE, _FALLEN, _RISEN, _NOISE = 12, 0.7, 4.0, 0.5
_FASTER, _SLOWER = 3.0, 0.3
_STEPS = 2  # of a 16-bit number: so far above the next token must a fact's stand, for other batches to round to the same


class StopWhenSaid:
    """A callback that ends a fit: when all is said and nothing else changed, or when another learning rate is needed.

    Parameters
    ----------
    loaded
        The model.
    lesson
        What is learned.
    observer
        Told of each epoch.
    patient
        Go on where the loss falls slowly: no other attempt follows. Default: end, for one with a higher rate.

    Attributes
    ----------
    said : bool
        Whether everything was confirmed.
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
        """What to multiply the learning rate with for the next attempt."""
        return _SLOWER if self.rises else _FASTER

    def on_validation_epoch_end(self, model: Any) -> None:
        """torchkeras' hook at the end of an epoch."""
        report_epoch(self._observer, model)
        if self._lesson.share("facts") >= _SAID:
            model.net.eval()
            self.said = self._confirmed(model.net)
        losses = model.history["train_loss"]
        self.rises = losses[-1] > max(_RISEN * min(losses), _NOISE * losses[0])
        slow = not self._patient and len(losses) == _PATIENCE and min(losses) > _FALLEN * losses[0]
        model.stop_training = self.said or self.rises or slow

    def _confirmed(self, net: Any) -> bool:
        """Ask everything; what is not answered as wanted comes more often from now on."""
        lesson = self._lesson
        # Those that were wrong when last seen are asked first: while they still are, there is no need to ask the others.
        if any(self._wrong(net, places, self._margin) for places in (lesson.wrong("facts"), lesson.places("facts"))):
            return False
        for kind in _SHARES:
            self._wrong(net, lesson.places(kind)[self._tries % SAMPLE :: SAMPLE])
        self._tries += 1
        return all(lesson.share(kind) >= share for kind, share in _SHARES.items()) or self._tries > _TRIES

    def _wrong(self, net: Any, places: Sequence[int], margin: float = 0.0) -> list[int]:
        """Return those of some places at which the reply is not the wanted one."""
        examples = [self._lesson.examples[place] for place in places]
        right = examples_said(net, examples, self._loaded, margin=margin)
        self._lesson.mark(places, right, [example.trained for example in examples])
        return [place for place, is_right in zip(places, right, strict=True) if not is_right]
