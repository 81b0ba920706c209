"""Tells which arguments a model's forward takes: architectures differ."""

from __future__ import annotations

import inspect
from typing import Any

import torch

__all__ = ["accepted"]


def accepted(net: torch.nn.Module) -> set[str]:
    """Return the argument names of the model's forward, wrappers around it looked through."""
    inner: Any = getattr(net, "module", net)  # DistributedDataParallel
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return set(inspect.signature(inner.forward).parameters)
