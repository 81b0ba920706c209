"""Merges an adapter into copies of the weights that it adapts, so that replies are not computed through PEFT's layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch

__all__ = ["MergedWeights"]

_MERGE_AT_REPLY = 2  # the reply at which the sums are made: they do not pay for the first one alone
_MOST_BYTES = 2**29  # most memory for the sums


class MergedWeights:
    """MergedWeights of one LoRA adapter and the weights that it adapts, which take the place of these weights from the second reply on.

    The base's weights are set aside, not changed: the very same tensors are put back.
    """

    def __init__(self) -> None:
        self._replies = 0
        self._weights: list[tuple[torch.nn.Parameter, torch.Tensor, torch.Tensor]] = []
        self._in_place = False

    def prepare(self, base: torch.nn.Module, layers: Sequence[Any], label: str) -> bool:
        """Count one more reply, and return whether the sums can compute it; the second reply makes them.

        Parameters
        ----------
        base
            The model whose weights are adapted.
        layers
            PEFT's layers, to be switched off while the sums are in place.
        label
            PEFT's name for the adapter, the same in every call.
        """
        self._replies += 1
        if self._replies == _MERGE_AT_REPLY and _can_merge(base, layers, label):
            with suppress(RuntimeError):  # if memory is full, PEFT's layers stay in use
                self._weights = _merge(layers, label)
        return bool(self._weights)

    def put_in(self) -> None:
        """Put the sums in the place of the base's weights."""
        self._in_place = True  # set first: an interrupt may leave only some of the sums in place
        for weight, _, merged in self._weights:
            weight.data = merged

    def take_out(self) -> None:
        """Put the base's weights back if the sums are in their place."""
        if self._in_place:
            for weight, own, _ in self._weights:
                weight.data = own
            self._in_place = False


def _merge(layers: Sequence[Any], label: str) -> list[tuple[torch.nn.Parameter, torch.Tensor, torch.Tensor]]:
    adapted = [(layer, layer.get_base_layer().weight) for layer in layers if label in layer.lora_A]
    with torch.no_grad():
        return [(weight, weight.data, weight.data + layer.get_delta_weight(label)) for layer, weight in adapted]


def _can_merge(base: torch.nn.Module, layers: Sequence[Any], label: str) -> bool:
    """Return whether sums give what the layers compute, and are small enough to be kept.

    This holds for a plain LoRA in single precision; in 16 bits, rounding would lose part of what the adapter learned. A weight that
    several modules of the base share is refused: it could have only one sum, but may have several adapters.
    """
    from peft.tuners.lora import Linear

    if not all(type(layer) is Linear and label not in layer.lora_variant and not layer.lora_bias.get(label) for layer in layers):
        return False
    weights = [layer.get_base_layer().weight for layer in layers if label in layer.lora_A]
    places = Counter(id(weight) for module in base.modules() for weight in module.parameters(recurse=False))
    alone = all(weight.dtype == torch.float32 and places[id(weight)] == 1 for weight in weights)
    return alone and 0 < sum(weight.nbytes for weight in weights) <= _MOST_BYTES
