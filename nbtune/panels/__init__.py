"""The panels package: widgets that do what the magics do, on the same session."""

from __future__ import annotations

import threading
from typing import Any

from IPython.display import display
from ipywidgets import Layout, Tab

from nbtune.display.shown import Shown
from nbtune.panels.chat import ChatPanel
from nbtune.panels.facts import FactsPanel
from nbtune.panels.finetune import FinetunePanel
from nbtune.panels.jobs import Jobs
from nbtune.panels.model import ModelPanel
from nbtune.panels.panel import Desk, Panel
from nbtune.panels.shown import ShownPanel
from nbtune.session import Nbtune

__all__ = ["Panels"]

_FINETUNE = 1  # index of the finetune tab


class Panels:
    """The panels of one notebook: created once, and displayed each time they are opened.

    Parameters
    ----------
    shell
        Reports when a cell has run, and holds the notebook's variables.
    session
        The session that the panels show and change.
    """

    def __init__(self, shell: Any, session: Nbtune) -> None:
        self._shell, self._session = shell, session
        self._refreshing = threading.RLock()
        self.jobs = Jobs(session, self.refresh)
        desk = Desk(session, shell.user_ns, self.jobs, self._teach)
        self.chat, self.finetune, self.facts, self.model = ChatPanel(desk), FinetunePanel(desk), FactsPanel(desk), ModelPanel(desk)
        self.tabs = Tab([panel.box for panel in self._all.values()], layout=Layout(width="99%"))
        session.observe(self._relabel, "language")
        session.imports.on_import.append(self.refresh)
        shell.events.register("post_run_cell", self._after_cell)
        self._relabel()

    @property
    def _all(self) -> dict[str, Panel]:
        return {"chat": self.chat, "finetune": self.finetune, "facts": self.facts, "model": self.model}

    def show(self, name: str = "") -> None:
        """Display one panel, or all of them as tabs; each keeps its state.

        Parameters
        ----------
        name
            ``"chat"``, ``"finetune"``, ``"facts"`` or ``"model"``. Default: all.
        """
        self.refresh()
        if name:
            display(ShownPanel(self._all[name].box, self._all[name].state()))
            return
        states = {panel.say(key): panel.state() for key, panel in self._all.items()}
        text = "\n\n".join(f"{title}\n{state.text}" for title, state in states.items())
        html = "".join(f"<div><b>{title}</b></div>{state.html}" for title, state in states.items())
        display(ShownPanel(self.tabs, Shown(text, html)))

    def refresh(self) -> None:
        """Update all panels to the present state of the session; any thread may call this."""
        with self._refreshing:
            for panel in self._all.values():
                panel.refresh()

    def close(self) -> None:
        """Stop the running job, stop following the session, and close all widgets."""
        self.jobs.stop()
        self._session.unobserve(self._relabel, "language")
        self._session.imports.on_import.remove(self.refresh)
        self._shell.events.unregister("post_run_cell", self._after_cell)
        _close(self.tabs)
        for panel in self._all.values():
            panel.stop.close()  # not every panel has it in its box

    def _after_cell(self, _result: Any) -> None:
        self.refresh()

    def _teach(self, row: dict[str, Any]) -> None:
        self.finetune.teach(row)
        self.tabs.selected_index = _FINETUNE

    def _relabel(self, _change: Any = None) -> None:
        for place, (key, panel) in enumerate(self._all.items()):
            panel.relabel()
            self.tabs.set_title(place, panel.say(key))
        self.refresh()


def _close(widget: Any) -> None:
    """Close a widget and all its children: ipywidgets keeps a reference to every open widget."""
    for child in getattr(widget, "children", ()):
        _close(child)
    for part in ("layout", "style"):
        if hasattr(widget, part):
            getattr(widget, part).close()
    widget.close()
