"""Names the modules of a model that a method adapts or copies."""

from __future__ import annotations

from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

__all__ = ["TargetModules", "all_layers", "all_modules", "last_blocks"]

TargetModules = list[str] | str
_MAMBA = ["in_proj", "x_proj"]
_HYBRIDS = ("falcon_h1", "nemotron_h")  # families with some Mamba layers
# Where one parameter holds all experts of a layer, PEFT matches these names to it and adapts every expert of every layer.
_MLP = {"gate_proj", "up_proj", "down_proj"}


def all_layers(model: Any) -> list[str]:
    """Return the names of the linear layers to adapt.

    The head, routers, and layers whose weights the model reads directly, past PEFT, are left out. PEFT's own "all-linear" is
    not used: for a family with experts, PEFT 0.19 takes it apart into its letters (target modules i, l, a, e, ...).
    """
    if "mamba" in model.config.model_type:
        return _MAMBA
    head, linear = model.get_output_embeddings(), (torch.nn.Linear, Conv1D)
    leaves = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, linear) and module is not head and not type(module).__name__.endswith("Router")
    }
    if any(name.endswith(".experts.gate_up_proj") for name, _ in model.named_parameters()):
        leaves -= _MLP
    return sorted(leaves - {"out_proj"} if model.config.model_type in _HYBRIDS else leaves)


def _blocks(model: Any) -> list[str]:
    """Return the names of a model's blocks (the items of its largest module list), in order."""
    lists = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.ModuleList)}
    longest = max(lists, key=lambda name: sum(p.numel() for p in lists[name].parameters()))
    return [f"{longest}.{number}" for number in range(len(lists[longest]))]


def last_blocks(model: Any, count: int) -> list[str]:
    """Return the names of the last `count` blocks."""
    return _blocks(model)[-count:]


def all_modules(model: Any, rank: int) -> list[str]:  # noqa: ARG001 - a signature shared with `last_blocks`
    """Return the names of the blocks and of all other modules with weights, except embeddings tied to the head.

    Tied embeddings are left out because embeddings and head need different changes.
    """
    blocks = _blocks(model)
    shared = {id(model.get_input_embeddings().weight)}
    outside = [
        name
        for name, module in model.named_modules()
        if not any(name == block or name.startswith(f"{block}.") for block in blocks)
        and list(module.parameters(recurse=False))
        and not (model.config.get_text_config().tie_word_embeddings and {id(p) for p in module.parameters(recurse=False)} & shared)
    ]
    return [*outside, *blocks]
