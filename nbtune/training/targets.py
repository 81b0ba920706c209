"""Names the modules of a model that a method adapts, or copies."""

from __future__ import annotations

from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

__all__ = ["TargetModules", "all_layers", "everything", "last_blocks"]

TargetModules = list[str] | str
_MAMBA = ["in_proj", "x_proj"]
_HYBRIDS = ("falcon_h1", "nemotron_h")  # some of their layers are Mamba's
# Where the experts of a layer are one parameter, PEFT takes these names for theirs, and adapts every expert of every layer.
_MLP = {"gate_proj", "up_proj", "down_proj"}


def all_layers(model: Any) -> list[str]:
    """Return the names that linear layers have, but for the head's, routers', and those whose weights a family reads past PEFT.

    PEFT's own word for them, "all-linear", is spelt out by PEFT 0.19 where a family has experts: target modules i, l, a, e, ...
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
    """Return the names of a model's blocks, in order."""
    lists = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.ModuleList)}
    longest = max(lists, key=lambda name: sum(p.numel() for p in lists[name].parameters()))
    return [f"{longest}.{number}" for number in range(len(lists[longest]))]


def last_blocks(model: Any, count: int) -> list[str]:
    """Return the last blocks, as many as the rank says."""
    return _blocks(model)[-count:]


def everything(model: Any, rank: int) -> list[str]:  # noqa: ARG001 - as the others of its kind
    """Return all that holds weights, but for embeddings that are the head, too: what each of them needs is not the same."""
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
