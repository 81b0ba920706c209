"""Displays a panel: as widgets while a kernel runs, and as HTML and text of its present state everywhere else."""

from __future__ import annotations

from typing import Any

from nbtune.display.shown import Shown

__all__ = ["ShownPanel"]

_VIEW = "application/vnd.jupyter.widget-view+json"


class ShownPanel(Shown):
    """The output of a cell that opens a panel.

    Parameters
    ----------
    box
        The panel's widget.
    state
        The panel without widgets: shown by a saved notebook on GitHub or after nbconvert.
    """

    def __init__(self, box: Any, state: Shown) -> None:
        super().__init__(state.text, state.html)
        self._box = box

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}
        return {_VIEW: view, **super()._repr_mimebundle_(include, exclude)}
