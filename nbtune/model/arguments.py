"""Tells how a model is called: which arguments its forward takes, and whether it has an encoder."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch

__all__ = ["accepted", "has_encoder"]


def accepted(net: torch.nn.Module) -> frozenset[str]:
    """Return the argument names of the model's forward, wrappers around it looked through."""
    inner: Any = getattr(net, "module", net)  # DistributedDataParallel
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return _parameters(type(inner))  # type: ignore[arg-type]


@cache
def _parameters(kind: type[torch.nn.Module]) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)


def has_encoder(net: Any) -> bool:
    """Say whether a model reads what is asked in an encoder, and begins its reply anew in a decoder, as T5 does."""
    return bool(getattr(getattr(net, "config", None), "is_encoder_decoder", False))
