"""Defines the settings of a fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nbtune.checks import check_range, number, whole_number
from nbtune.errors import NbtuneError

__all__ = ["Settings"]

_WHOLE = ("epochs", "rank", "batch_size", "forms_per_batch", "retained_per_batch", "seed")
_NUMBERS = ("learning_rate", "retention")
_CHOSEN = ("epochs", "learning_rate", "rank", "batch_size", "seed")
_GATED, _UNGATED = 4, 48  # retained examples per batch, with and without a gate; the 48 are measured in docs/experiments.md


@dataclass(frozen=True)
class Settings:
    """Settings of a fit.

    Parameters
    ----------
    method
        A name in `nbtune.training.methods.METHODS`. Default: ``"lora"``.
    epochs
        Maximum number of epochs; a fit of facts ends as soon as the model says them. Default: 60; for examples 3.
    learning_rate
        Learning rate, above 0 and up to 1. Default: the method's.
    rank
        Rank of the adapter, 1 or more. Default: the method's.
    batch_size
        Examples per optimizer step. Default: 12 for facts; 8 for examples.
    forms_per_batch
        Examples per step that ask about a fact in another form (reversed, yes or no, one aspect). Default: 16.
    retained_per_batch
        Examples per step whose replies must not change. Default: 4 with a gate, 48 without; for examples, one for every 4 of them.
    retention
        Weight of a retained example in the loss, relative to a fact's. Default: 2.
    last_layer_first
        Whether to train the last layer alone first, if the method can; see `nbtune.training.last_layer`. Default: True.
    gated
        Whether each fact gets its own adapter, which answers only questions about that fact, while the base answers all others
        (see `nbtune.knowledge.gate`). If False, one adapter learns all facts and answers everything. Default: True.
    seed
        Seed of the initial weights and of the order of examples. Default: 0.

    Raises
    ------
    NbtuneError
        When a value is not a number, or out of range.
    """

    method: str = "lora"
    epochs: int = 60
    learning_rate: float | None = None
    rank: int | None = None
    batch_size: int = 12
    forms_per_batch: int = 16
    retained_per_batch: int | None = None
    retention: float = 2.0
    last_layer_first: bool = True
    gated: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (*_WHOLE, *_NUMBERS):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole_number(name, value) if name in _WHOLE else number(name, value))
        for name in ("last_layer_first", "gated"):
            if not isinstance(getattr(self, name), bool):
                raise NbtuneError(f"{name} is {getattr(self, name)!r}: expected True or False.")
        checks = (
            ("--epochs", self.epochs, self.epochs >= 1, "1 or more"),
            ("--lr", self.learning_rate, self.learning_rate is None or 0 < self.learning_rate <= 1, "above 0, up to 1"),
            ("--rank", self.rank, self.rank is None or self.rank >= 1, "1 or more"),
            ("--batch-size", self.batch_size, self.batch_size >= 1, "1 or more"),
            ("--seed", self.seed, abs(self.seed) < 2**63, "a 64-bit whole number"),
            ("forms_per_batch", self.forms_per_batch, self.forms_per_batch >= 0, "0 or more"),
            ("retained_per_batch", self.retained_per_batch, self.retained >= 0, "0 or more"),
            ("retention", self.retention, 0 <= self.retention < math.inf, "0 or more"),
        )
        for option, value, good, expected in checks:
            check_range(option, value, good, expected)

    def given(self) -> dict[str, Any]:
        """Return the settings that differ from their defaults and that another fit of the same facts should use again."""
        chosen = {name: getattr(self, name) for name in _CHOSEN}
        return {name: value for name, value in chosen.items() if value != getattr(type(self), name)}

    @property
    def retained(self) -> int:
        """Retained examples per batch in a fit of facts: `retained_per_batch` or its default."""
        return (_GATED if self.gated else _UNGATED) if self.retained_per_batch is None else self.retained_per_batch
