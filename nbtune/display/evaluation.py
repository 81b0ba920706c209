"""Draws the evaluation of a data set: the scores of base and adapter side by side, and the worst examples."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from nbtune.display.shown import Shown, table

if TYPE_CHECKING:
    from nbtune.knowledge.evaluation import Evaluation

__all__ = ["evaluation_card"]

_WORST = 5
_ALL_RIGHT = 100.0  # chrF of a perfect reply


def evaluation_card(evaluation: Evaluation) -> Shown:
    """Return an evaluation drawn as tables.

    Parameters
    ----------
    evaluation
        An evaluation, as returned by `nbtune.LanguageModel.evaluate`.
    """
    found, ways = evaluation.scores, list(evaluation.scores.columns)
    figures = table(("0 to 100", *ways), [(metric, *(f"{found.loc[metric, way]:.1f}" for way in ways)) for metric in found.index])
    tuned = f" · tuned: the adapter {evaluation.adapter}" if evaluation.adapter else ""
    skipped = f" · {evaluation.skipped:,} skipped" if evaluation.skipped else ""
    title = f"{len(evaluation.predictions):,} examples, {evaluation.seconds:.1f} s{tuned}{skipped}"
    worst = evaluation.worst(_WORST)
    if (worst["chrF"] == _ALL_RIGHT).all():
        return Shown(f"{title}\n{figures.text}", f"<div>{escape(title)}</div>{figures.html}")
    columns = ("prompt", "expected", ways[-1], "chrF")
    rows = [(*(str(row[column]) for column in columns[:-1]), f"{row['chrF']:.1f}") for row in worst.to_dict("records")]
    examples = table(columns, [tuple(cell.replace("\n", " ") for cell in row) for row in rows])
    return Shown(
        f"{title}\n{figures.text}\nthe worst of them\n{examples.text}",
        f"<div>{escape(title)}</div>{figures.html}<details><summary>the worst of them</summary>{examples.html}</details>",
    )
