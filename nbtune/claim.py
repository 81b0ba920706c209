"""Lets one cell or panel at a time use the model, and tells the others who is using it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nbtune.errors import NbtuneError

__all__ = ["BY_A_CELL", "Claim"]

BY_A_CELL = "A cell is using the model: wait, or interrupt it."
_GLANCE = 0.2  # seconds to wait: a panel that only reads the model's state has freed it by then


class Claim:
    """A lock on the model, with a message that says who holds it; others wait only briefly before they are refused."""

    def __init__(self) -> None:
        self._lock, self._holder = threading.Lock(), ""

    def take(self, refusal: str) -> None:
        """Claim the model; any thread may free it.

        Parameters
        ----------
        refusal
            Message for others who try to claim it meanwhile: who is using the model, and what to do.

        Raises
        ------
        NbtuneError
            When the model is already claimed.
        """
        if not self._lock.acquire(timeout=_GLANCE):
            raise NbtuneError(self._holder)
        self._holder = refusal

    def free(self) -> None:
        """Let others use the model."""
        self._lock.release()

    @contextmanager
    def held(self, refusal: str = BY_A_CELL) -> Iterator[None]:
        """Claim the model inside the block; see `take`."""
        self.take(refusal)
        try:
            yield
        finally:
            self.free()
