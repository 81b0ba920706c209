"""Keeps the tokens, keys and values of a conversation, so that its next turn reads only what is new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from nbtune.model.growing_layer import GrowingLayer
from nbtune.model.prompt_tokens import PromptTokens

__all__ = ["PromptCache", "can_be_cut"]

_MOST_BYTES = 2**29  # limit for all conversations together; beyond it the oldest is dropped
_STRIDED = ("cpu", "cuda")  # on other devices, attention has had errors with keys that are not contiguous in memory


@dataclass(frozen=True)
class _Kept:
    stamp: int
    tokens: list[int]
    cache: DynamicCache

    @property
    def size(self) -> int:
        """Bytes of keys and values, including spare room."""
        return sum(tensor.untyped_storage().nbytes() for layer in self.cache.layers for tensor in (layer.keys, layer.values))


class PromptCache:
    """Cache of the last conversation with each set of weights that answers.

    Keys and values are valid only for the weights they were computed with. Callers identify these by two values: `side`, for each
    of which one conversation is kept, and `stamp`, which changes when the weights of that side change.
    """

    def __init__(self) -> None:
        self.prompts = PromptTokens()
        self._kept: dict[int | None, _Kept] = {}

    def take(self, side: int | None, stamp: int, tokens: list[int]) -> DynamicCache | None:
        """Return the keys and values of as many of the first tokens as are known, and remove them from the cache.

        Parameters
        ----------
        side, stamp
            The weights that answer.
        tokens
            The prompt. At least its last token is left to be read.

        Returns
        -------
        DynamicCache or None
            None if no beginning of the prompt is known.
        """
        kept = self._kept.pop(side, None)
        if kept is None or kept.stamp != stamp:
            return None
        pairs = zip(kept.tokens, tokens[:-1], strict=False)
        same = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(kept.tokens), len(tokens) - 1))
        if same == 0:
            return None
        if same < len(kept.tokens):
            kept.cache.crop(same - len(kept.tokens))  # a negative length: the number of tokens to remove
        return kept.cache

    def keep(self, side: int | None, stamp: int, tokens: list[int], cache: Any) -> None:
        """Keep the keys and values of a conversation, unless they are too large or can't be cut back to a beginning.

        Room for the next turn is made now, after the reply, so that the first token of that turn does not wait for it.
        Conversations kept under another stamp are dropped, and the oldest ones if all together are too large.

        Parameters
        ----------
        side, stamp
            The weights that answered.
        tokens
            Tokens of the conversation, including the reply.
        cache
            The ``past_key_values`` that ``generate`` returned.
        """
        if not can_be_cut(cache):
            return
        self._kept = {other: kept for other, kept in self._kept.items() if kept.stamp == stamp and other != side}
        new = _Kept(stamp, tokens[: cache.get_seq_length()], cache)
        if new.size > _MOST_BYTES:
            return
        _make_room(cache)
        self._kept[side] = new
        while sum(kept.size for kept in self._kept.values()) > _MOST_BYTES:
            del self._kept[next(iter(self._kept))]


def can_be_cut(cache: Any) -> bool:
    """Return whether a key/value cache can be cut back to a beginning: a sliding window or a recurrent state has lost it."""
    return type(cache) is DynamicCache and all(
        type(layer) in (DynamicLayer, GrowingLayer) and layer.is_initialized for layer in cache.layers
    )


def _make_room(cache: DynamicCache) -> None:
    """Give each layer room for more tokens, one layer at a time, so that memory never holds a second copy of all layers."""
    for at, layer in enumerate(cache.layers):
        if layer.device.type in _STRIDED and (not isinstance(layer, GrowingLayer) or layer.wasteful()):
            cache.layers[at] = GrowingLayer(layer)
