"""Puts a matplotlib figure into HTML, so that it stays in the saved notebook."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["embedded"]


def embedded(figure: Figure, what: str) -> str:
    """Return a figure as an image in HTML.

    Parameters
    ----------
    figure
        Drawn.
    what
        What it shows, for who can't see it.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    image = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(what)}" style="max-width:100%;margin-top:.5em" src="data:image/png;base64,{image}">'
