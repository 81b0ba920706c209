"""Logs a finetune to an experiment tracker, through Accelerate's tracker classes."""

from __future__ import annotations

import importlib.util
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from nbtune.checks import check_choice
from nbtune.errors import NbtuneError, first_line
from nbtune.knowledge.observer import Observer

__all__ = ["Tracked", "tracked"]

_TRACKERS = ("tensorboard", "trackio", "wandb")
_FOLDER = "runs"  # TensorBoard's usual folder


class Tracked:
    """Observer that forwards everything to another one, and also sends the figures of each epoch to a tracker.

    If the tracker fails later on, there is a warning and the fit continues.

    Parameters
    ----------
    observer
        The observer to forward to.
    begin
        Starts the run and returns Accelerate's tracker. Called at the first stage, so that a finetune refused before that
        leaves no empty run.
    """

    def __init__(self, observer: Observer, begin: Callable[[], Any]) -> None:
        self._observer, self._step = observer, 0
        self._begin: Callable[[], Any] | None = begin
        self._tracker: Any = None

    def stage(self, name: str, total: int) -> None:
        """Forward the stage; start the run first if it is the first stage."""
        if self._begin is not None:
            self._tracker, self._begin = self._begin(), None
        self._observer.stage(name, total)

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Forward the unit, and log the figures of an epoch."""
        self._observer.advance(log)
        if log:
            self._step += 1
            self.log({key: value for key, value in log.items() if key != "epoch"})

    def log(self, figures: Mapping[str, float]) -> None:
        """Log figures at the current step, except NaN."""
        self._tell("log", {key: float(value) for key, value in figures.items() if not math.isnan(value)}, step=self._step)

    def finish(self) -> None:
        """End the run."""
        with suppress(KeyboardInterrupt):  # Ctrl-C during a long upload: what was taught is already saved
            self._tell("finish")

    def _tell(self, what: str, *arguments: Any, **options: Any) -> None:
        if self._tracker is None:
            return
        try:
            getattr(self._tracker, what)(*arguments, **options)
        except Exception as error:  # a failing tracker must not end the fit
            warnings.warn(f"{self._tracker.name} failed ({error}): logging has stopped.", stacklevel=2)
            self._tracker = None


def _start_tracker(name: str, run: str) -> Any:
    """Start a run and return Accelerate's tracker for it."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # trackers need it to know whether this is the main process
    kind = LOGGER_TYPE_TO_CLASS[name]
    try:
        tracker = kind(f"{run}-{time.strftime('%Y%m%d-%H%M%S')}", logging_dir=_FOLDER) if kind.requires_logging_directory else kind(run)
        if hasattr(tracker, "start"):  # older trackers start in their constructor
            tracker.start()
    except Exception as error:  # a file in the way, no login: each tracker has its own errors
        raise NbtuneError(f"--log-with {name} did not start: {first_line(error)}") from None
    return tracker


@contextmanager
def tracked(observer: Observer, tracker: str, run: str) -> Iterator[Tracked]:
    """Log the finetune inside the block to a tracker.

    Parameters
    ----------
    observer
        The observer to forward to.
    tracker
        ``"tensorboard"``, ``"trackio"`` or ``"wandb"``.
    run
        Name of the run.

    Yields
    ------
    Tracked
        The observer to give to the finetune.

    Raises
    ------
    NbtuneError
        When the tracker is unknown or not installed; at the first stage, when its run can't be started.
    """
    check_choice("--log-with", tracker, _TRACKERS)
    if importlib.util.find_spec(tracker) is None:
        raise NbtuneError(f"--log-with {tracker} needs a package: pip install {tracker}.")
    watched = Tracked(observer, lambda: _start_tracker(tracker, run))
    try:
        yield watched
    finally:
        watched.finish()
