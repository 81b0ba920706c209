"""A text area for questions, in which Enter sends.

The widgets of ipywidgets report the content of a text area, but not the key that was pressed. So a line break added at the end
counts as Enter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipywidgets import Layout, Textarea

__all__ = ["PromptBox", "entered"]

_NEW_LINE = "\\\n"


class PromptBox(Textarea):
    """A text area of several lines that sends its content on Enter.

    Parameters
    ----------
    send
        Called when Enter was pressed; by then `value` no longer ends with that line break.
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
    """Return the content of the box after Enter: the text to send, or, after a backslash, the text with a new line.

    Parameters
    ----------
    old, new
        Content of the box before and now. Keys typed fast arrive as one change, even a backslash and its line break.

    Returns
    -------
    str or None
        None if Enter was not pressed at the end: for other keys, a paste of several lines, or a line break in the middle.
    """
    whole, plain = new.replace(_NEW_LINE, ""), new.replace(_NEW_LINE, "\n")
    if not new.endswith("\n") or (old.endswith("\n") and not plain.startswith(old)):
        return None
    if new.endswith(_NEW_LINE):
        return plain
    return plain[:-1] if old.count("\n") + 1 in (whole.count("\n"), plain.count("\n")) else None
