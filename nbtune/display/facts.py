"""Draws the ledger: the facts that were taught, with standing and scores."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from nbtune.display.shown import Shown, table
from nbtune.display.style import MUTED

if TYPE_CHECKING:
    from nbtune.knowledge.facts import Fact

__all__ = ["SCORES", "facts_table", "row_of"]

SCORES = ("reliability", "generalization", "portability")
_LONGEST = 60  # maximum number of characters shown of an answer


def facts_table(facts: Sequence[Fact], adapter: str) -> Shown:
    """Return a table of facts.

    Parameters
    ----------
    facts
        Facts, as in `nbtune.LanguageModel.facts`.
    adapter
        Name of the adapter that holds them.
    """
    rows = table(("keyword", "answer", "standing", *SCORES, "taught"), map(row_of, facts))
    held = f"held by the adapter {adapter}"
    return Shown(f"{rows.text}\n{held}", f'{rows.html}<div style="{MUTED}">{escape(held)}</div>')


def row_of(fact: Fact) -> tuple[str, ...]:
    """Return the table row of a fact, as text: keyword, answer, standing, each of `SCORES`, and the time it was taught."""
    answer = fact.answer if len(fact.answer) <= _LONGEST else fact.answer[: _LONGEST - 1] + "…"
    scores = (f"{(fact.scores or {}).get(score, float('nan')):.2f}" for score in SCORES)
    return fact.keyword, answer, fact.standing, *scores, fact.taught.replace("T", " ").replace("+00:00", " UTC")
