"""Keeps what was computed of a conversation, so that its next turn reads only what is new: its tokens, keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from nbtune.model.growing_layer import GrowingLayer
from nbtune.model.prompt_tokens import PromptTokens

__all__ = ["PromptCache", "can_be_cut"]

_MOST_BYTES = 2**29  # of all that is kept; above it the oldest goes
_STRIDED = ("cpu", "cuda")  # elsewhere attention has had errors where keys do not lie in memory without gaps


@dataclass(frozen=True)
class _Kept:
    stamp: int
    tokens: list[int]
    cache: DynamicCache

    @property
    def size(self) -> int:
        """Bytes of keys and values, the room behind them included."""
        return sum(tensor.untyped_storage().nbytes() for layer in self.cache.layers for tensor in (layer.keys, layer.values))


class PromptCache:
    """The last conversation with each set of weights that answers.

    What is kept belongs to the weights it was computed with. Whoever asks says which these are by two things: `side`, for
    which one conversation is kept, and `stamp`, which changes when the weights of that side do.
    """

    def __init__(self) -> None:
        self.prompts = PromptTokens()
        self._kept: dict[int | None, _Kept] = {}

    def take(self, side: int | None, stamp: int, tokens: list[int]) -> DynamicCache | None:
        """Return keys and values of as many of the first tokens as are known, and keep them no longer.

        Parameters
        ----------
        side, stamp
            The weights that answer.
        tokens
            The prompt. At least its last token is left to be read.

        Returns
        -------
        DynamicCache or None
            None where no beginning is known.
        """
        kept = self._kept.pop(side, None)
        if kept is None or kept.stamp != stamp:
            return None
        pairs = zip(kept.tokens, tokens[:-1], strict=False)
        same = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(kept.tokens), len(tokens) - 1))
        if same == 0:
            return None
        if same < len(kept.tokens):
            kept.cache.crop(same - len(kept.tokens))  # below zero: so many fewer
        return kept.cache

    def keep(self, side: int | None, stamp: int, tokens: list[int], cache: Any) -> None:
        """Keep what was computed for a conversation, unless it is too large, or can't be cut back to a beginning.

        Room for the next turn is made now, when the reply is out, so that its first token does not wait for it. What was kept
        under another stamp goes, and where all together are too large, the oldest.

        Parameters
        ----------
        side, stamp
            The weights that answered.
        tokens
            The conversation, the reply included.
        cache
            What ``generate`` returned as ``past_key_values``.
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
    """Say whether a beginning of what is kept can be kept alone: a sliding window or a recurrent state has lost it."""
    return type(cache) is DynamicCache and all(
        type(layer) in (DynamicLayer, GrowingLayer) and layer.is_initialized for layer in cache.layers
    )


def _make_room(cache: DynamicCache) -> None:
    """Give each layer room for what comes, one after the other, so that no second copy of all is in memory."""
    for at, layer in enumerate(cache.layers):
        if layer.device.type in _STRIDED and (not isinstance(layer, GrowingLayer) or layer.wasteful()):
            cache.layers[at] = GrowingLayer(layer)
