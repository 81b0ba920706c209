"""Says in one line that the memory of the device is full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nbtune.errors import NbtuneError

__all__ = ["within_memory"]

_SAID = ("can't allocate memory", "out of memory")  # where torch raises no kind of its own: of a CPU's, or of Apple's, memory


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
        raise NbtuneError(otherwise) from None
