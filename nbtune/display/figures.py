"""Puts a matplotlib figure into HTML, so that it stays in the saved notebook and is read on light and on dark."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

from nbtune.display.style import AXES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["embedded"]


def embedded(figure: Figure, what: str) -> str:
    """Return a figure as an image in HTML.

    Parameters
    ----------
    figure
        Drawn. Its background is left out, and its axes and words get a grey that is read on light and dark.
    what
        What it shows, for who can't see it.
    """
    for axes in figure.axes:
        axes.tick_params(colors=AXES)
        axes.xaxis.label.set_color(AXES)
        axes.yaxis.label.set_color(AXES)
        axes.spines[:].set_color(AXES)
    for words in (words for legend in figure.legends for words in legend.get_texts()):
        words.set_color(AXES)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, transparent=True)
    image = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(what)}" style="max-width:100%;margin-top:.5em" src="data:image/png;base64,{image}">'
