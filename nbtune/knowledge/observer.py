"""How a finetune reports its progress to whoever watches."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Observer", "ReportEpochs", "Titled", "Unwatched", "report_epoch"]


class Observer(Protocol):
    """Watches a finetune; `nbtune.display` has one that draws progress."""

    def stage(self, name: str, total: int) -> None:
        """Say that a stage of so many units begins."""

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Say that one unit is done; a fit hands on the epoch's losses and metrics."""


class Unwatched:
    """The observer of a finetune that nobody watches."""

    def stage(self, name: str, total: int) -> None:
        """Begin a stage."""

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Go on by one."""


class Titled:
    """Hands everything on to an observer, with a title before the name of each stage.

    Parameters
    ----------
    observer
        Who watches.
    title
        What the stages are about.
    """

    def __init__(self, observer: Observer, title: str) -> None:
        self._observer, self._title = observer, title

    def stage(self, name: str, total: int) -> None:
        """Begin a stage."""
        self._observer.stage(f"{self._title}: {name}", total)

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Go on by one."""
        self._observer.advance(log)


class ReportEpochs:
    """A callback of torchkeras' that tells an observer of each epoch.

    Parameters
    ----------
    observer
        Who watches.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def on_validation_epoch_end(self, model: Any) -> None:
        """torchkeras' hook at the end of an epoch."""
        report_epoch(self._observer, model)


def report_epoch(observer: Observer, model: Any) -> None:
    """Tell an observer of the losses and metrics of a model's last epoch."""
    observer.advance({name: values[-1] for name, values in model.history.items()})
