"""The one set of colours: told apart by colour-blind people (Okabe and Ito), readable on light and dark."""

from __future__ import annotations

__all__ = ["AXES", "BAD", "BORDER", "BUBBLE", "CELL", "GOOD", "HELD", "LOSS", "MUTED", "OWN_BUBBLE", "SPECIAL", "UNTRAINED"]

GOOD, BAD, LOSS, HELD, SPECIAL, UNTRAINED = "#009E73", "#D55E00", "#0072B2", "#E69F00", "#CC79A7", "#888888"
AXES = "#808080"  # of pictures, which can't know the theme: as far from white as from JupyterLab's dark

# JupyterLab's own colours where there are any; elsewhere a shade that fits light and dark alike.
BORDER = "var(--jp-border-color2, rgba(127,127,127,.4))"
BUBBLE = "var(--jp-layout-color2, rgba(127,127,127,.15))"
OWN_BUBBLE = "rgba(0,114,178,.28)"  # LOSS, as a tint

# Styles: colours and fonts are inherited.
CELL = "padding:2px 6px;text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:break-word"
MUTED = "opacity:.7;font-size:.9em"
