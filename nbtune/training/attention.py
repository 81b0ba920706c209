"""Keeps cuDNN's attention kernel out of training, because its gradients can be NaN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["sound_attention"]


@contextmanager
def sound_attention() -> Iterator[None]:
    """Exclude cuDNN's attention kernel inside the block; PyTorch prefers it on an H100 or H200 in 16 bits.

    With a mask, as padding makes one, its backward pass gives NaN for some lengths although the loss is right
    (https://github.com/pytorch/pytorch/issues/196678). The setting is restored afterwards.
    """
    enabled: bool = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)
