"""Draws the preview of a data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from nbtune.display.figures import embedded
from nbtune.display.shown import Shown
from nbtune.display.style import BAD, LOSS
from nbtune.display.tokens import token_view

if TYPE_CHECKING:
    from nbtune.data.preview import Preview

__all__ = ["preview_card"]

_BARS, _BIN = "▁▂▃▄▅▆▇█", 24
_NAMED = 5


def preview_card(preview: Preview) -> Shown:
    """Return a preview drawn with its format, the lengths in tokens, what can't be used or would be cut, and some examples.

    Parameters
    ----------
    preview
        A preview, as returned by `nbtune.LanguageModel.preview`.
    """
    lengths = sorted(preview.lengths)
    drawn = f" (of {preview.measured:,} rows drawn at random)" if preview.drawn else ""
    lines = [f"{preview.rows:,} rows: {preview.format}"]
    if lengths:
        middle = lengths[len(lengths) // 2]
        lines.append(f"tokens: {lengths[0]} to {lengths[-1]}, half of them up to {middle}; the model reads {preview.context}{drawn}")
    if preview.cut:
        lines.append(f"{preview.cut:,} would be cut{drawn}")
    if preview.bad:
        lines.append(f"{len(preview.bad):,} rows can't be used (--skip-bad goes on without them): {_named(preview.bad)}")
    if preview.without_room:
        lines.append(f"{len(preview.without_room):,} rows can't be used{drawn}: {_named(preview.without_room)}")
    tokens = token_view(preview.examples)
    text = "\n".join([*lines, *([_sparkline(lengths)] if lengths else []), tokens.text])
    words = "".join(f"<div>{escape(line)}</div>" for line in lines)
    return Shown(text, f'<div style="max-width:60em">{words}{_histogram(preview)}{tokens.html}</div>')


def _named(rows: Sequence[tuple[int, str]]) -> str:
    return "; ".join(f"row {number}: {reason}" for number, reason in rows[:_NAMED])


def _sparkline(lengths: list[int]) -> str:
    """Return a histogram of the lengths as one line of text, for terminals."""
    width = max(1, math.ceil((lengths[-1] + 1) / _BIN))
    counts = [0] * _BIN
    for length in lengths:
        counts[length // width] += 1
    most = max(counts)
    return "0 " + "".join(_BARS[round(count / most * (len(_BARS) - 1))] if count else " " for count in counts) + f" {width * _BIN} tokens"


def _histogram(preview: Preview) -> str:
    if not preview.lengths:
        return ""
    from matplotlib.figure import Figure  # not pyplot, which would register the figure with the notebook

    figure = Figure(figsize=(6.4, 1.8), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(preview.lengths, bins=_BIN, color=LOSS)
    if max(preview.lengths) >= preview.context:
        axes.axvline(preview.context, color=BAD, linestyle="--")
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("tokens of an example")
    axes.set_ylabel("examples")
    return embedded(figure, "lengths of the examples in tokens")
