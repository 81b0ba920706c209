"""Says in one line that the memory of the device is full, and lets go of what failed work holds of it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nbtune.errors import NbtuneError

__all__ = ["release", "within_memory"]

# Where torch raises no kind of its own: of a CPU's memory (on Windows "not enough"), of Apple's, and of CUDA's libraries.
_SAID = ("can't allocate memory", "not enough memory", "out of memory", "Invalid buffer size", "_ALLOC_FAILED")


def release(error: BaseException) -> None:
    """Let go of the tensors of the work that an error ended: a notebook keeps its last error, and each call that it passed through."""
    traceback.clear_frames(error.__traceback__)


@contextmanager
def within_memory(otherwise: str) -> Iterator[None]:
    """Raise an error of one line, instead of torch's, when the memory is full.

    Parameters
    ----------
    otherwise
        That line: what does not fit, and what to do.

    Raises
    ------
    NbtuneError
        When torch gets no more memory.
    """
    try:
        yield
    except RuntimeError as error:  # a device's OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and not any(said in str(error) for said in _SAID):
            raise
        release(error)
        raise NbtuneError(otherwise) from None
