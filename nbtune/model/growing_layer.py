"""Keeps one layer's keys and values with spare room, so that earlier tokens need not be copied each time a new one is added."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

__all__ = ["GrowingLayer"]

_ROOM = 256  # spare room, in tokens


class GrowingLayer(DynamicLayer):
    """A layer of a ``DynamicCache`` that writes new keys and values into spare room after the old ones.

    The old ones are copied only when the room is full. The results are equal to those of ``DynamicLayer``, which concatenates old
    and new in every pass, so that a reply of n tokens to a conversation of m tokens copies n times m tokens.

    Parameters
    ----------
    layer
        Keys and values read so far, of at least one token; they are copied into larger memory.
    """

    def __init__(self, layer: DynamicLayer) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
        self.keys, self.values = layer.keys, layer.values
        self._make_room(_ROOM)

    def wasteful(self) -> bool:
        """Return whether most of the memory is unused, as after a long conversation was cut back to its beginning."""
        return bool(self._all_keys.shape[-2] > 2 * (self.get_seq_length() + _ROOM))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add keys and values, each of shape (rows, heads, new tokens, size), and return all of them (hook of transformers)."""
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        if not self._fits(end):
            self._make_room(key_states.shape[-2] + _ROOM)
        self._all_keys[..., begin:end, :] = key_states
        self._all_values[..., begin:end, :] = value_states
        self.keys, self.values = self._all_keys[..., :end, :], self._all_values[..., :end, :]
        return self.keys, self.values

    def _fits(self, length: int) -> bool:
        # For a beam search, transformers replaces `keys` and `values` by tensors that are not part of this memory.
        return length <= self._all_keys.shape[-2] and self.keys.data_ptr() == self._all_keys.data_ptr()

    def _make_room(self, room: int) -> None:
        self._all_keys, self.keys = _with_room(self.keys, room)
        self._all_values, self.values = _with_room(self.values, room)


def _with_room(states: torch.Tensor, room: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return new memory with room for more tokens, and a view of its beginning, into which the states were copied."""
    *rows, length, size = states.shape
    whole = states.new_empty(*rows, length + room, size)
    begin = whole[..., :length, :]
    begin.copy_(states)
    return whole, begin
