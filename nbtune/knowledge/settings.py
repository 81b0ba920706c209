"""How facts are taught: the settings of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from operator import index
from typing import Any

from nbtune.errors import NbtuneError, check_range

__all__ = ["Settings"]

_WHOLE = ("epochs", "rank", "batch_size", "forms_per_batch", "retained_per_batch", "seed")
_CHOSEN = ("epochs", "learning_rate", "rank", "batch_size", "seed")
_GATED, _UNGATED = 4, 48  # what is retained per batch


@dataclass(frozen=True)
class Settings:
    """Settings of a fit.

    Parameters
    ----------
    method
        A name of `nbtune.training.methods.METHODS`. Default: ``"lora"``.
    epochs
        Most epochs; a fit of facts ends as soon as they are said. Default: 60; for examples 3.
    learning_rate
        Above 0, up to 1. Default: the method's.
    rank
        Rank of the adapter, 1 or more. Default: the method's.
    batch_size
        Examples in an optimizer step. Default: 12 of facts; of conversations 8.
    forms_per_batch
        Examples in a step that ask for a fact in another form (reversed, yes or no, one aspect). Default: 16.
    retained_per_batch
        Examples in a step whose replies must not change. Default: 4 with a gate, 48 without.
    retention
        Weight of such an example in the loss, relative to a fact's. Default: 2.
    narrow
        Whether to train the last layer alone first, where the method can; see `nbtune.training.last_layer`. Default: True.
    gated
        Whether each fact gets an adapter of its own that answers only questions about it, and the base all others (see
        `nbtune.knowledge.gate`); otherwise one adapter learns all facts and answers everything. Default: True.
    seed
        Seed of the initial weights and of the order of examples. Default: 0.

    Raises
    ------
    NbtuneError
        When a value is no number, or out of range.
    """

    method: str = "lora"
    epochs: int = 60
    learning_rate: float | None = None
    rank: int | None = None
    batch_size: int = 12
    forms_per_batch: int = 16
    retained_per_batch: int | None = None
    retention: float = 2.0
    narrow: bool = True
    gated: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in (*_WHOLE, "learning_rate"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _number(name, value))  # plain ones: what comes of NumPy can't be saved
        checks = (
            ("--epochs", self.epochs, self.epochs >= 1, "1 or more"),
            ("--lr", self.learning_rate, self.learning_rate is None or 0 < self.learning_rate <= 1, "above 0, up to 1"),
            ("--rank", self.rank, self.rank is None or self.rank >= 1, "1 or more"),
            ("--batch-size", self.batch_size, self.batch_size >= 1, "1 or more"),
            ("--seed", self.seed, abs(self.seed) < 2**63, "a whole number of 64 bits"),
            ("forms_per_batch", self.forms_per_batch, self.forms_per_batch >= 0, "0 or more"),
            ("retained_per_batch", self.retained_per_batch, self.retained >= 0, "0 or more"),
        )
        for option, value, good, expected in checks:
            check_range(option, value, good, expected)

    def given(self) -> dict[str, Any]:
        """Return what a user chose and another fit of the same facts should choose alike."""
        chosen = {name: getattr(self, name) for name in _CHOSEN}
        return {name: value for name, value in chosen.items() if value != getattr(type(self), name)}

    @property
    def retained(self) -> int:
        """Examples per batch of what must not change."""
        return (_GATED if self.gated else _UNGATED) if self.retained_per_batch is None else self.retained_per_batch


def _number(name: str, value: Any) -> float:
    try:
        return index(value) if name in _WHOLE else float(value)
    except (TypeError, ValueError):
        raise NbtuneError(f"{name} {value!r} is not a {'whole ' if name in _WHOLE else ''}number.") from None
