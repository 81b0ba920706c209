"""Keeps one attention kernel out of training: its gradients are not always numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["sound_attention"]


@contextmanager
def sound_attention() -> Iterator[None]:
    """Let PyTorch choose among the attention kernels but cuDNN's, which it prefers on an H100 or H200 in 16 bits.

    With a mask, as padding makes one, the backward pass of cuDNN's gives NaN for some lengths while the loss is right
    (https://github.com/pytorch/pytorch/issues/196678). Afterwards it is as it was.
    """
    enabled: bool = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(enabled)
