"""Finds out how a model is called: the arguments of its forward, and whether it has an encoder, recurrent layers or a way of its own."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from transformers import GenerationMixin

__all__ = ["forward_arguments", "has_encoder", "prepares_inputs", "recurrent"]


def forward_arguments(net: torch.nn.Module) -> frozenset[str]:
    """Return the argument names of the model's forward, without regard to wrappers around the model."""
    inner: Any = getattr(net, "module", net)  # DistributedDataParallel
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    return _parameters(type(inner))  # type: ignore[arg-type]


@cache
def _parameters(kind: type[torch.nn.Module]) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)


def has_encoder(net: Any) -> bool:
    """Return whether a model reads the prompt in an encoder and generates the reply in a separate decoder, as T5 does."""
    return bool(getattr(getattr(net, "config", None), "is_encoder_decoder", False))


def prepares_inputs(net: Any) -> bool:
    """Return whether a model changes how ``generate`` calls it, as Phi-3 does, which reads everything again at a certain length."""
    model = net.get_base_model() if hasattr(net, "get_base_model") else net
    return type(model).prepare_inputs_for_generation is not GenerationMixin.prepare_inputs_for_generation


def recurrent(net: Any) -> bool:
    """Return whether some layers keep a state instead of keys and values, as the Mamba and convolution layers of hybrid models do."""
    config = net.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
    return any("attention" not in kind or "linear" in kind for kind in kinds)
