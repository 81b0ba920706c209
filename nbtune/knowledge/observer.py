"""How a finetune reports its progress to whoever watches."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Observer", "Unwatched"]


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
