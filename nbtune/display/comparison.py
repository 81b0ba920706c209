"""Draws the reply of the base beside that of an adapter."""

from __future__ import annotations

from html import escape

from nbtune.display.shown import Shown

__all__ = ["comparison"]

_CELL = "padding:4px 12px;text-align:left;vertical-align:top;white-space:pre-wrap;width:50%"


def comparison(base: str, tuned: str) -> Shown:
    """Return two replies side by side; in a terminal, one above the other.

    Parameters
    ----------
    base, tuned
        The replies of the base and of the adapter.
    """
    heads = "".join(f'<th style="{_CELL}">{title}</th>' for title in ("base", "tuned"))
    cells = "".join(f'<td style="{_CELL}">{escape(reply)}</td>' for reply in (base, tuned))
    table = f'<table style="width:100%;max-width:60em"><tr>{heads}</tr><tr>{cells}</tr></table>'
    return Shown(f"base:  {base}\ntuned: {tuned}", table)
