"""Logs a finetune to an experiment tracker, through Accelerate's class for it."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nbtune.errors import NbtuneError, did_you_mean
from nbtune.knowledge.observer import Observer

__all__ = ["Tracked", "tracked"]

_TRACKERS = ("tensorboard", "trackio", "wandb")
_FOLDER = "runs"  # where TensorBoard looks by itself


class Tracked:
    """Hands everything on to an observer, and the figures of each epoch to a tracker, too.

    Parameters
    ----------
    observer
        Who watches.
    tracker
        Accelerate's name of the tracker; it begins with the first figures.
    run
        Name of the run.
    """

    def __init__(self, observer: Observer, tracker: str, run: str) -> None:
        self._observer, self._name, self._run = observer, tracker, run
        self._tracker: Any = None
        self._step = 0

    def stage(self, name: str, total: int) -> None:
        """Begin a stage."""
        self._observer.stage(name, total)

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Go on by one."""
        self._observer.advance(log)
        if log:
            self._step += 1
            self.log({key: value for key, value in log.items() if key != "epoch"})

    def log(self, figures: Mapping[str, float]) -> None:
        """Log figures at the present step, but for those that are not numbers."""
        if self._tracker is None:
            self._tracker = self._begun()
        self._tracker.log({key: float(value) for key, value in figures.items() if not math.isnan(value)}, step=self._step)

    def finish(self) -> None:
        """End the run, if it began."""
        if self._tracker is not None:
            self._tracker.finish()

    def _begun(self) -> Any:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        kind = LOGGER_TYPE_TO_CLASS[self._name]
        if kind.requires_logging_directory:
            tracker = kind(f"{self._run}-{time.strftime('%Y%m%d-%H%M%S')}", logging_dir=_FOLDER)
        else:
            tracker = kind(self._run)
        if hasattr(tracker, "start"):  # older ones start when they are made
            tracker.start()
        return tracker


@contextmanager
def tracked(observer: Observer, tracker: str, run: str) -> Iterator[Tracked]:
    """Track what happens inside the block.

    Parameters
    ----------
    observer
        Who watches.
    tracker
        ``"tensorboard"``, ``"trackio"`` or ``"wandb"``.
    run
        Name of the run.

    Raises
    ------
    NbtuneError
        For an unknown tracker, or one that is not installed.
    """
    if tracker not in _TRACKERS:
        raise NbtuneError(f"--log-with {tracker} is unknown: use {', '.join(_TRACKERS)}.{did_you_mean(tracker, _TRACKERS)}")
    if importlib.util.find_spec(tracker) is None:
        raise NbtuneError(f"--log-with {tracker} needs a package: pip install {tracker}.")
    watched = Tracked(observer, tracker, run)
    try:
        yield watched
    finally:
        watched.finish()
