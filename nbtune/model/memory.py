"""Reports in one line that the memory of the device is full, and frees the memory that failed work still holds."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nbtune.errors import NbtuneError

__all__ = ["release", "within_memory"]

# Messages of errors for which torch has no type: from a CPU (on Windows "not enough"), from Apple's GPUs and from CUDA's libraries.
_SAID = ("can't allocate memory", "not enough memory", "out of memory", "Invalid buffer size", "_ALLOC_FAILED")


def release(error: BaseException) -> None:
    """Release the tensors of work that ended with an error.

    A notebook keeps its last error, and with it the variables of every call that the error passed through.
    """
    traceback.clear_frames(error.__traceback__)


@contextmanager
def within_memory(otherwise: str) -> Iterator[None]:
    """Raise a one-line error instead of torch's when memory runs out inside the block.

    Parameters
    ----------
    otherwise
        Message of that error: what does not fit, and what to do.

    Raises
    ------
    NbtuneError
        When torch can't allocate memory.
    """
    try:
        yield
    except RuntimeError as error:  # a device's OutOfMemoryError is a RuntimeError, too
        if not isinstance(error, torch.OutOfMemoryError) and not any(said in str(error) for said in _SAID):
            raise
        release(error)
        raise NbtuneError(otherwise) from None
