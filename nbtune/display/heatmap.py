"""Draws shares between 0 and 1 as a heat map, with the value in each cell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from nbtune.display.shown import Shown, table
from nbtune.display.style import CELL

__all__ = ["heat_map"]

# Cividis (Nuñez et al. 2018), from 0 to 1: looks alike with and without colour blindness.
_SCALE = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838")
_LIGHT_FROM = 6  # from this step on, black text is easier to read than white
_NONE = "–"


def heat_map(rows: Mapping[str, Sequence[float]], columns: Sequence[str]) -> Shown:
    """Return a heat map of shares.

    Parameters
    ----------
    rows
        Title of each row, and its shares; NaN where nothing was asked.
    columns
        Column titles.
    """
    text = table(("", *columns), [(title, *map(_figure, shares)) for title, shares in rows.items()]).text
    head = "".join(f'<th style="{CELL}">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><td style="{CELL}">{escape(title)}</td>{"".join(_cell(share) for share in shares)}</tr>' for title, shares in rows.items()
    )
    return Shown(text, f'<table style="font-size:.95em;border-spacing:2px;border-collapse:separate"><tr><th></th>{head}</tr>{body}</table>')


def _cell(share: float) -> str:
    if math.isnan(share):
        return f'<td style="{CELL};text-align:center">{_NONE}</td>'
    step = round(share * (len(_SCALE) - 1))
    text = "#000" if step >= _LIGHT_FROM else "#fff"
    return f'<td style="{CELL};text-align:center;background:{_SCALE[step]};color:{text};border-radius:3px">{_figure(share)}</td>'


def _figure(share: float) -> str:
    return _NONE if math.isnan(share) else f"{share:.2f}"
