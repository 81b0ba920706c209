"""Lets one cell or panel use the model at a time, and tells the others which one has it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from nbtune.errors import NbtuneError

__all__ = ["BY_A_CELL", "Claim"]

BY_A_CELL = "A cell is using the model: wait, or interrupt it."
_GLANCE = 0.2  # seconds: who only looks at the model is gone by then


class Claim:
    """A lock that is hardly waited for, with the line that says who holds it."""

    def __init__(self) -> None:
        self._lock, self._holder = threading.Lock(), ""

    def take(self, refusal: str) -> None:
        """Claim the model; any thread may free it.

        Parameters
        ----------
        refusal
            What others are told meanwhile: who uses the model, and what to do.

        Raises
        ------
        NbtuneError
            While another has it.
        """
        if not self._lock.acquire(timeout=_GLANCE):
            raise NbtuneError(self._holder)
        self._holder = refusal

    def free(self) -> None:
        """Let others use it."""
        self._lock.release()

    @contextmanager
    def held(self, refusal: str = BY_A_CELL) -> Iterator[None]:
        """Have it inside the block; see `take`."""
        self.take(refusal)
        try:
            yield
        finally:
            self.free()
