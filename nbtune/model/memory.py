"""Reports in one line that the memory of the device is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nbtune.errors import NbtuneError, release

__all__ = ["within_memory"]

# Messages of errors for which torch has no type: from a CPU (on Windows "not enough"), from Apple's GPUs and from CUDA's libraries.
_SAID = ("can't allocate memory", "not enough memory", "out of memory", "Invalid buffer size", "_ALLOC_FAILED")


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
