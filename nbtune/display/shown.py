"""Makes output in two forms: plain text for terminals, and escaped HTML for notebooks."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from IPython.display import display

from nbtune.display.style import CELL, MUTED
from nbtune.inert import inert

__all__ = ["Shown", "counted", "in_notebook", "muted", "say", "show", "table", "text_block"]

_ENDLESS = 10_000  # width in characters where the output need not fit
_NO_FORMULAS = "mathjax_ignore tex2jax_ignore"  # classes that MathJax skips, from version 3 on and before
_FEW = 3  # maximum number of columns that stay readable with wrapped cells


class Shown:
    """One piece of output in both forms.

    Parameters
    ----------
    text
        For terminals and logs; control characters in it are made visible.
    html
        For notebooks; everything that comes from a model or a user must already be escaped. Front ends do not typeset text between
        dollar signs as formulas.
    """

    def __init__(self, text: str, html: str) -> None:
        self.text, self.html = inert(text), html

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        # A blank line would end the HTML for a reader of Markdown, as nbconvert writes it, who takes what follows for Markdown.
        html = self.html.replace("\n", "&#10;")
        return {"text/plain": self.text, "text/html": f'<div class="{_NO_FORMULAS}">{html}</div>'}


def in_notebook() -> bool:
    """Return whether output goes to a front end that renders HTML and can update a display."""
    from IPython.core.getipython import get_ipython

    return hasattr(get_ipython(), "kernel")


def show(shown: Shown) -> None:
    """Show output: as HTML in a notebook, as text in a terminal."""
    if in_notebook():
        display(shown)
    else:
        say(shown.text)


def say(text: str, end: str = "\n") -> None:
    """Print text, with question marks for characters that the terminal can't encode: an error here would lose finished work."""
    try:
        print(text, end=end, flush=True)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding
        print(text.encode(encoding, "replace").decode(encoding), end=end, flush=True)


def counted(number: int, what: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def text_block(text: str) -> str:
    """Return text as HTML that shows it as typed, with all markup escaped."""
    return f'<div style="white-space:pre-wrap;font-family:inherit;line-height:1.5">{escape(text)}</div>'


def muted(text: str) -> Shown:
    """Return a small line of text, such as what a reply cost."""
    return Shown(text, f'<div style="{MUTED}">{escape(text)}</div>')


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Shown:
    """Return a table.

    Parameters
    ----------
    header
        Column titles.
    rows
        Cells as text.
    """
    rows = [[str(cell) for cell in row] for row in rows]
    head = "".join(f'<th style="{CELL}">{escape(title)}</th>' for title in header)
    body = "".join("<tr>" + "".join(f'<td style="{CELL}">{escape(cell)}</td>' for cell in row) + "</tr>" for row in rows)
    return Shown(_columns(header, rows), f'<table style="font-size:.9em"><tr>{head}</tr>{body}</table>')


def _columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return cells in aligned columns; in a narrow terminal, cells are wrapped, or each row becomes a block of its own."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(header))
    for title in header:
        columns.add_column(Text(title), overflow="fold")
    for row in rows:
        columns.add_row(*map(Text, row))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() and not in_notebook() else _ENDLESS
    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False)  # otherwise rich would also display it
    if len(header) > _FEW and console.measure(columns, options=console.options.update(width=_ENDLESS)).maximum > width:
        return "\n\n".join(_columns(("", ""), list(zip(header, row, strict=True))) for row in rows)
    with console.capture() as drawn:
        console.print(columns)
    return "\n".join(line.rstrip() for line in drawn.get().splitlines())
