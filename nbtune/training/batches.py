"""Batches of examples of similar length, which need little padding."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from nbtune.data.encoding import Batch, Encoded, collate

__all__ = ["Batches"]

_NEIGHBOURS = 16  # batches per window; shuffled examples are sorted by length within a window


class Batches:
    """Batches of examples; each iteration over them is one epoch.

    Parameters
    ----------
    examples
        Examples to train on or to measure.
    size
        Examples per batch.
    pad
        Padding token.
    seed
        Seed of the order, which differs from epoch to epoch. Default: always sorted by length, with losses whose mean over
        the batches is that over the examples.
    """

    def __init__(self, examples: Sequence[Encoded], size: int, pad: int, seed: int | None = None) -> None:
        self._examples, self._size, self._pad = sorted(examples, key=_length), size, pad
        self._rng = None if seed is None else random.Random(seed)

    def __len__(self) -> int:
        return math.ceil(len(self._examples) / self._size)

    def __iter__(self) -> Iterator[Batch]:
        if self._rng is not None:
            yield from (collate(batch, self._pad) for batch in self._shuffled(self._rng))
            return
        # The last batch may be smaller: with this divisor the mean over the batches is the mean over the examples.
        total = sum(example.weight for example in self._examples) / max(1, len(self))
        yield from (collate(batch, self._pad, total) for batch in self._cut(self._examples))

    def _cut(self, examples: list[Encoded]) -> list[list[Encoded]]:
        return [examples[at : at + self._size] for at in range(0, len(examples), self._size)]

    def _shuffled(self, rng: random.Random) -> list[list[Encoded]]:
        order, window = list(self._examples), self._size * _NEIGHBOURS
        rng.shuffle(order)
        near = [example for at in range(0, len(order), window) for example in sorted(order[at : at + window], key=_length)]
        batches = self._cut(near)
        rng.shuffle(batches)
        return batches


def _length(example: Encoded) -> int:
    return len(example.input_ids)
