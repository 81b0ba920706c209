"""A box to type a question in, where Enter sends.

Core ipywidgets tell what a box holds, and not which key was pressed: a line break that was added at the end is Enter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipywidgets import Layout, Textarea

__all__ = ["PromptBox", "entered"]

_NEW_LINE = "\\\n"


class PromptBox(Textarea):
    """A text area of several lines that sends what it holds.

    Parameters
    ----------
    send
        Called when Enter was pressed; `value` has no line break at its end then.
    """

    def __init__(self, send: Callable[[], None], **options: Any) -> None:
        super().__init__(rows=3, continuous_update=True, layout=Layout(width="99%"), **options)
        self._on_enter = send
        self.observe(self._typed, "value")

    def _typed(self, change: Any) -> None:
        text = entered(change["old"], change["new"])
        if text is None:
            return
        self.value = text
        if not change["new"].endswith(_NEW_LINE):
            self._on_enter()


def entered(old: str, new: str) -> str | None:
    """Say what Enter makes of a text: what is to be sent, or what stays in the box where a backslash asked for a new line.

    Parameters
    ----------
    old, new
        What the box held before, and what it holds now; keys that are typed fast come together, a backslash and its line
        break among them.

    Returns
    -------
    str or None
        None where Enter was not pressed at the end: keys, a paste of several lines, a line break in the middle.
    """
    whole, plain = new.replace(_NEW_LINE, ""), new.replace(_NEW_LINE, "\n")
    if not new.endswith("\n") or (old.endswith("\n") and not plain.startswith(old)):
        return None
    if new.endswith(_NEW_LINE):
        return plain
    return plain[:-1] if old.count("\n") + 1 in (whole.count("\n"), plain.count("\n")) else None
