"""Defines the observers to which a finetune reports its progress."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Observer", "ReportEpochs", "Titled", "Unwatched", "report_epoch"]


class Observer(Protocol):
    """Protocol of objects that follow the progress of a finetune; `nbtune.display` has one that draws it."""

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of `total` units."""

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Report that one unit is done; a fit passes the losses and metrics of the epoch."""


class Unwatched:
    """Observer that ignores all reports."""

    def stage(self, name: str, total: int) -> None:
        """Ignore the stage."""

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Ignore the unit."""


class Titled:
    """Observer that forwards everything to another one, with a title before the name of each stage.

    Parameters
    ----------
    observer
        The observer to forward to.
    title
        What the stages are about.
    """

    def __init__(self, observer: Observer, title: str) -> None:
        self._observer, self._title = observer, title

    def stage(self, name: str, total: int) -> None:
        """Forward the stage with its title."""
        self._observer.stage(f"{self._title}: {name}", total)

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Forward the unit."""
        self._observer.advance(log)


class ReportEpochs:
    """torchkeras callback that reports each epoch to an observer.

    Parameters
    ----------
    observer
        Notified of each epoch.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def on_validation_epoch_end(self, model: Any) -> None:
        """Report the epoch; called by torchkeras."""
        report_epoch(self._observer, model)


def report_epoch(observer: Observer, model: Any) -> None:
    """Report the losses and metrics of a model's last epoch to an observer."""
    observer.advance({name: values[-1] for name, values in model.history.items()})
