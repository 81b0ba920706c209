"""Adapts Accelerate to the fit loop: an Accelerator for notebooks, and batches as a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DataLoaderConfiguration, send_to_device
from torch.utils.data import IterableDataset

__all__ = ["EachEpoch", "accelerator_for", "restored_state", "send_each"]


@contextmanager
def restored_state() -> Iterator[None]:
    """Restore Accelerate's process-wide state at the end of the block, because the user's own Accelerators share it."""
    shared = [state._shared_state for state in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in shared]
    try:
        yield
    finally:
        for state, values in zip(shared, before, strict=True):
            state.clear()
            state.update(values)


def accelerator_for(device: str, mixed_precision: str, accumulation: int) -> Accelerator:
    """Create an Accelerator that leaves the network on its device.

    Accelerate keeps the first device and precision for the whole process and refuses others. A notebook is one process
    for days, so when either changes, the state is reset as Accelerate's own tests do it.

    Parameters
    ----------
    device
        Type of the network's device.
    mixed_precision
        As Accelerate takes it.
    accumulation
        Batches per optimizer step.
    """
    held = AcceleratorState._shared_state
    if held and (held.get("_mixed_precision") not in (None, mixed_precision) or held["device"].type != device):
        AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        mixed_precision=mixed_precision,
        cpu=device == "cpu",
        gradient_accumulation_steps=accumulation,
        device_placement=False,
        dataloader_config=DataLoaderConfiguration(dispatch_batches=False),
    )


def send_each(batches: Iterable[Any], device: torch.device) -> Iterator[Any]:
    """Return an iterator over the batches, each moved to the device when its turn comes."""
    return (send_to_device(batch, device, non_blocking=device.type == "cuda") for batch in batches)


class EachEpoch(IterableDataset[Any]):
    """Any iterable of batches as a dataset; one pass over it is one epoch."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)
