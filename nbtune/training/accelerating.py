"""What the fit loop needs of Accelerate: an Accelerator for a notebook, and batches it can go through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, send_to_device
from torch.utils.data import IterableDataset

__all__ = ["EachEpoch", "accelerator_for", "send_each"]


def accelerator_for(device: str, mixed_precision: str, accumulation: int) -> Accelerator:
    """Make an Accelerator that leaves the network where it is.

    Accelerate keeps the first device and precision for the whole process and refuses others; a notebook is one
    process for days, so its state is reset in the way its own tests do.
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
    """Hand on batches one by one, on the device."""
    return (send_to_device(batch, device, non_blocking=device.type == "cuda") for batch in batches)


class EachEpoch(IterableDataset[Any]):
    """Any iterable of batches as a dataset, gone through once an epoch."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)
