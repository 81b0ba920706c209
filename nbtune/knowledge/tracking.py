"""Logs a finetune to an experiment tracker, through Accelerate's class for it."""

from __future__ import annotations

import importlib.util
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from nbtune.errors import NbtuneError, check_choice, first_line
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
    begin
        Begins the run and returns Accelerate's tracker, when the work begins: what is refused before that leaves no empty run.
        Where the tracker fails later on, a warning says so, and the fit goes on.
    """

    def __init__(self, observer: Observer, begin: Callable[[], Any]) -> None:
        self._observer, self._step = observer, 0
        self._begin: Callable[[], Any] | None = begin
        self._tracker: Any = None

    def stage(self, name: str, total: int) -> None:
        """Begin a stage."""
        if self._begin is not None:
            self._tracker, self._begin = self._begin(), None
        self._observer.stage(name, total)

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Go on by one."""
        self._observer.advance(log)
        if log:
            self._step += 1
            self.log({key: value for key, value in log.items() if key != "epoch"})

    def log(self, figures: Mapping[str, float]) -> None:
        """Log figures at the present step, but for those that are not numbers."""
        self._tell("log", {key: float(value) for key, value in figures.items() if not math.isnan(value)}, step=self._step)

    def finish(self) -> None:
        """End the run."""
        with suppress(KeyboardInterrupt):  # of a run that uploads for long: what was taught is saved by then
            self._tell("finish")

    def _tell(self, what: str, *arguments: Any, **options: Any) -> None:
        if self._tracker is None:
            return
        try:
            getattr(self._tracker, what)(*arguments, **options)
        except Exception as error:  # a tracker's failure costs no fit
            warnings.warn(f"{self._tracker.name} failed ({error}): no more is logged.", stacklevel=2)
            self._tracker = None


def _begun(name: str, run: str) -> Any:
    """Return Accelerate's tracker, begun."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # which asks it whether this is the main process
    kind = LOGGER_TYPE_TO_CLASS[name]
    try:
        tracker = kind(f"{run}-{time.strftime('%Y%m%d-%H%M%S')}", logging_dir=_FOLDER) if kind.requires_logging_directory else kind(run)
        if hasattr(tracker, "start"):  # older ones start when they are made
            tracker.start()
    except Exception as error:  # a file in the way, nobody logged in: each tracker has errors of its own
        raise NbtuneError(f"--log-with {name} did not begin: {first_line(error)}") from None
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
        For an unknown tracker, or one that is not installed. Where the work begins, for one that does not begin.
    """
    check_choice("--log-with", tracker, _TRACKERS)
    if importlib.util.find_spec(tracker) is None:
        raise NbtuneError(f"--log-with {tracker} needs a package: pip install {tracker}.")
    watched = Tracked(observer, lambda: _begun(tracker, run))
    try:
        yield watched
    finally:
        watched.finish()
