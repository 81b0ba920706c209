"""Adds an adapter to the weights that it adapts, beside the base's own, so that a reply is not computed through PEFT's layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch

__all__ = ["Sums"]

_SETTLED = 2  # the reply from which on sums are worth their making
_MOST_BYTES = 2**29  # of the sums


class Sums:
    """The sums of one LoRA and the weights that it adapts, from its second reply on, and the way there and back.

    The base's weights are put aside, not changed: what comes back are the very same tensors.
    """

    def __init__(self) -> None:
        self._replies = 0
        self._weights: list[tuple[torch.nn.Parameter, torch.Tensor, torch.Tensor]] = []
        self._in_place = False

    def ready(self, base: torch.nn.Module, layers: Sequence[Any], label: str) -> bool:
        """Say whether they compute the reply that comes, always by the same adapter.

        Parameters
        ----------
        base
            The model whose weights they are.
        layers
            PEFT's, to be switched off while the sums are in place.
        label
            PEFT's name for the adapter.
        """
        self._replies += 1
        if self._replies == _SETTLED and _possible(base, layers, label):
            with suppress(RuntimeError):  # where the memory is full, PEFT's layers go on
                self._weights = _made(layers, label)
        return bool(self._weights)

    def put_in(self) -> None:
        """Let the layers compute with the sums."""
        self._in_place = True  # before the first: an interrupt may leave some of them there
        for weight, _, merged in self._weights:
            weight.data = merged

    def take_out(self) -> None:
        """Let them compute with the base's weights; nothing happens where they do."""
        if self._in_place:
            for weight, own, _ in self._weights:
                weight.data = own
            self._in_place = False


def _made(layers: Sequence[Any], label: str) -> list[tuple[torch.nn.Parameter, torch.Tensor, torch.Tensor]]:
    adapted = [(layer, layer.get_base_layer().weight) for layer in layers if label in layer.lora_A]
    with torch.no_grad():
        return [(weight, weight.data, weight.data + layer.get_delta_weight(label)) for layer, weight in adapted]


def _possible(base: torch.nn.Module, layers: Sequence[Any], label: str) -> bool:
    """Say whether sums are what the layers compute: of a plain LoRA in single precision, and small enough to be kept.

    In 16 bits they would be rounded, and what the adapter learned with them. A weight that stands in several places of the base
    has one sum, and perhaps several adapters.
    """
    from peft.tuners.lora import Linear

    if not all(type(layer) is Linear and label not in layer.lora_variant and not layer.lora_bias.get(label) for layer in layers):
        return False
    weights = [layer.get_base_layer().weight for layer in layers if label in layer.lora_A]
    places = Counter(id(weight) for module in base.modules() for weight in module.parameters(recurse=False))
    alone = all(weight.dtype == torch.float32 and places[id(weight)] == 1 for weight in weights)
    return alone and 0 < sum(weight.nbytes for weight in weights) <= _MOST_BYTES
