"""Output that grows: a reply as it is generated, and the progress of a finetune."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import Any

from IPython.display import DisplayHandle, display
from tqdm import tqdm

from nbtune.display.curve import FIGURES
from nbtune.display.shown import Shown, in_notebook, say, text_block
from nbtune.inert import inert

__all__ = ["LiveProgress", "LiveReply"]

_INTERVAL = 0.1  # seconds between redraws; faster than that a front end flickers


class LiveReply:
    """Draws a reply while it is generated, in one display that is updated.

    Parameters
    ----------
    growing
        False draws it once, when it is whole, for front ends that do not update what they drew. Default: True.
    """

    def __init__(self, *, growing: bool = True) -> None:
        self._text, self._drawn, self._growing = "", 0.0, growing
        self._handle: DisplayHandle | None = None

    def wait(self, for_what: str) -> None:
        """Say what the reply waits for; in a notebook the reply takes its place."""
        if in_notebook() and self._growing:
            self._handle = display(Shown(for_what, f'<div style="opacity:0.7">{escape(for_what)}</div>'), display_id=True)
        elif not in_notebook() and sys.stdout.isatty():
            say(inert(for_what))

    def add(self, piece: str) -> None:
        """Show one more piece of text."""
        self._text += piece
        if not in_notebook():
            say(inert(piece), end="")
        elif self._growing and time.monotonic() - self._drawn >= _INTERVAL:
            self._draw()

    def close(self, note: str = "") -> None:
        """Show all of it, with a note when it was cut short."""
        if not in_notebook():
            say(f"\n{note}" if note else "")
            return
        self._text = f"{self._text}\n{note}" if note else self._text
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        shown = Shown(self._text, text_block(self._text))
        self._handle = _redrawn(self._handle, shown)


class LiveProgress:
    """Watches a finetune: a bar with the stage, the epoch, the loss and how much is said already.

    Parameters
    ----------
    growing
        False draws no bar, only the outcome, as for `LiveReply`. Default: True.
    """

    def __init__(self, *, growing: bool = True) -> None:
        self._growing = growing
        self._bar: tqdm[Any] | None = None
        self._handle: DisplayHandle | None = None
        self._drawn = 0.0

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of so many units."""
        self.close()
        # The bar keeps count and time; in a notebook it is drawn by us, since its widget would leave
        # an empty box in the saved notebook.
        self._bar = tqdm(total=total, desc=inert(name), leave=False, disable=None if not in_notebook() else True, unit="")
        self._name, self._total, self._done, self._started = name, total, 0, time.monotonic()
        self._draw({})

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Go on by one unit."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
            if log:
                self._bar.set_postfix_str(_figures(log), refresh=False)
        if time.monotonic() - self._drawn >= _INTERVAL:
            self._draw(log or {})

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def clear(self) -> None:
        """Take the bar away, and leave nothing in the notebook where it was."""
        self.close()
        if self._handle is not None:
            self._handle.update(Shown("", ""))

    def finish(self, shown: Shown) -> None:
        """Put the outcome where the bar was."""
        self.close()
        if not in_notebook():
            say(shown.text)
        elif self._handle is None:
            display(shown)
        else:
            self._handle.update(shown)

    def _draw(self, log: dict[str, float]) -> None:
        if not in_notebook() or not self._growing:
            return
        self._drawn = time.monotonic()
        seconds = self._drawn - self._started
        figures = _figures(log)
        line = f"{self._name} {self._done}/{self._total} · {seconds:.0f} s" + (f" · {figures}" if figures else "")
        bar = f'<progress max="{self._total}" value="{self._done}" style="width:16em"></progress> {escape(line)}'
        shown = Shown(line, f'<div style="font-variant-numeric:tabular-nums">{bar}</div>')
        self._handle = _redrawn(self._handle, shown)


def _redrawn(handle: DisplayHandle | None, shown: Shown) -> DisplayHandle | None:
    """Show it in a display that is there already, or in a new one."""
    if handle is None:
        return display(shown, display_id=True)
    handle.update(shown)
    return handle


def _figures(log: dict[str, float]) -> str:
    return " · ".join(f"{FIGURES[key]} {value:.3g}" for key, value in log.items() if key in FIGURES)
