"""Output that looks right everywhere: plain text for terminals, escaped HTML for notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from IPython.display import display

from nbtune.display.style import CELL

__all__ = ["Shown", "in_notebook", "show", "table", "text_block"]


class Shown:
    """One piece of output in both forms.

    Parameters
    ----------
    text
        For terminals and logs.
    html
        For notebooks; everything that came from a model or a user is escaped in it.
    """

    def __init__(self, text: str, html: str) -> None:
        self.text, self.html = text, html

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": self.text, "text/html": self.html}


def in_notebook() -> bool:
    """Say whether output goes to a front end that draws HTML and updates what it drew."""
    from IPython.core.getipython import get_ipython

    return hasattr(get_ipython(), "kernel")


def show(shown: Shown) -> None:
    """Draw it: HTML in a notebook, print in a terminal."""
    if in_notebook():
        display(shown)
    else:
        print(shown.text)


def text_block(text: str) -> str:
    """Return text as HTML that shows it as typed; nothing in it is active."""
    return f'<div style="white-space:pre-wrap;font-family:inherit;line-height:1.5">{escape(text)}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Shown:
    """Lay out a table.

    Parameters
    ----------
    header
        Column titles.
    rows
        Cells as text.
    """
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(_width(row[i]) for row in [list(header), *rows]) for i in range(len(header))]
    lines = ["  ".join(_pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [list(header), *rows]]
    head = "".join(f'<th style="{CELL}">{escape(title)}</th>' for title in header)
    body = "".join("<tr>" + "".join(f'<td style="{CELL}">{escape(cell)}</td>' for cell in row) + "</tr>" for row in rows)
    return Shown("\n".join(lines), f'<table style="font-size:0.95em"><tr>{head}</tr>{body}</table>')


def _width(text: str) -> int:
    """Return how many columns a terminal gives to a text; Chinese characters take two."""
    return sum(2 if character >= "\u2e80" else 1 for character in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
