"""Defines the result of a finetune, and the error for a fact that was not learned."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbtune.errors import NbtuneError
from nbtune.knowledge.facts import FAILED, Fact
from nbtune.knowledge.rewording import Rewordings
from nbtune.knowledge.scoring import Report

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FactNotLearned", "Result"]


@dataclass(frozen=True)
class Result:
    """Result of a finetune.

    Parameters
    ----------
    facts
        The facts that were taught, with standing and scores.
    report
        The proof.
    history
        One row per epoch: fact, attempt, epoch, train_loss, train_said, train_held, lr; for examples, attempt, epoch, train_loss, lr
        and, with held-out examples, val_loss. None if nothing was fitted.
    adapter
        Name of the adapter.
    version
        Number of the new version; 0 if the facts were not learned.
    folder
        Folder of the version; None if the facts were not learned.
    rewordings
        For each keyword the model's own wordings, if they were asked for.
    examples
        Number of examples, if the adapter was trained on examples instead of facts.
    notes
        Further remarks about the examples, such as how many were cut or left out.
    """

    facts: tuple[Fact, ...]
    report: Report
    history: pd.DataFrame | None
    adapter: str
    version: int = 0
    folder: Path | None = None
    rewordings: dict[str, Rewordings] = field(default_factory=dict)
    examples: int = 0
    notes: tuple[str, ...] = ()

    @property
    def learned(self) -> bool:
        """Whether no fact failed; also True for a finetune on examples, which has no facts."""
        return all(fact.standing != FAILED for fact in self.facts)


class FactNotLearned(NbtuneError):
    """Error for a fact that was not learned, or that changed a retained reply; nothing was saved. The proof is in `result`."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:  # a pool of processes pickles errors
        return type(self), (str(self), self.result)
