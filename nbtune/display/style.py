"""Defines the colours and styles: distinguishable for colour-blind people (Okabe and Ito), readable on light and dark."""

from __future__ import annotations

__all__ = ["AXES", "BAD", "BORDER", "BUBBLE", "CELL", "GOOD", "HELD", "LOSS", "MUTED", "OWN_BUBBLE", "SPECIAL", "UNTRAINED"]

GOOD, BAD, LOSS, HELD, SPECIAL, UNTRAINED = "#009E73", "#D55E00", "#0072B2", "#E69F00", "#CC79A7", "#888888"
AXES = "#808080"  # images can't know the theme: this grey is as far from white as from JupyterLab's dark background

# JupyterLab's own colours where they are defined; elsewhere a shade that suits light and dark alike.
BORDER = "var(--jp-border-color2, rgba(127,127,127,.4))"
BUBBLE = "var(--jp-layout-color2, rgba(127,127,127,.15))"
OWN_BUBBLE = "rgba(0,114,178,.28)"  # a tint of LOSS

# Styles without colours and fonts, which are inherited.
CELL = "padding:2px 6px;text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:break-word"
MUTED = "opacity:.7;font-size:.9em"
