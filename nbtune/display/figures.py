"""Embeds a matplotlib figure in HTML, so that it stays in the saved notebook and is readable on light and dark themes."""

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
    """Return a figure as an HTML image.

    Parameters
    ----------
    figure
        The finished figure. Its axes and text are recoloured in a grey that is readable on light and dark; the image has no background.
    what
        A description of the figure, used as alternative text.
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
