"""What a finetune returns, and the error when a fact was not learned."""

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
    """What a finetune did.

    Parameters
    ----------
    facts
        What was taught, with standing and scores.
    report
        The proof.
    history
        One row per epoch: fact, attempt, epoch, train_loss, train_said, train_held, lr; None where nothing was fitted.
    adapter
        Name of the adapter.
    version
        Its new version's number; 0 when the facts did not take.
    folder
        Where the version is; None when the facts did not take.
    rewordings
        What the model itself wrote for each keyword, where it was asked to.
    examples
        How many examples it was trained on, where it was trained on examples; there are no facts then.
    notes
        What else there is to say of these: how many were cut, or left out.
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
        """Whether every fact is verified."""
        return all(fact.standing != FAILED for fact in self.facts)


class FactNotLearned(NbtuneError):
    """A fact did not take; nothing was changed. The proof is in `result`."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:  # as a pool of processes needs it
        return type(self), (str(self), self.result)
