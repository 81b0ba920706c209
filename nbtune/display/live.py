"""Draws live output: a reply while it is generated, and the progress of a finetune."""

from __future__ import annotations

import sys
import time
from html import escape
from typing import Any

from IPython.display import DisplayHandle, display
from tqdm import tqdm

from nbtune.display.curve import FIGURES
from nbtune.display.shown import Shown, in_notebook, muted, say, text_block
from nbtune.inert import inert

__all__ = ["LiveProgress", "LiveReply"]

_INTERVAL = 0.1  # seconds between redraws; front ends flicker if it is shorter


class LiveReply:
    """A reply that is shown while it is generated, in a single display that is updated.

    Parameters
    ----------
    growing
        False shows the reply in a notebook only when it is complete, for front ends that can't update a display. Default: True.
    """

    def __init__(self, *, growing: bool = True) -> None:
        self._text, self._drawn, self._growing = "", 0.0, growing
        self._handle: DisplayHandle | None = None

    def wait(self, for_what: str) -> None:
        """Show what the reply is waiting for; in a notebook the reply later replaces this text."""
        if in_notebook() and self._growing:
            self._handle = display(muted(for_what), display_id=True)
        elif not in_notebook() and sys.stdout.isatty():
            say(inert(for_what))

    def add(self, piece: str) -> None:
        """Show another piece of the reply."""
        self._text += piece
        if not in_notebook():
            say(inert(piece), end="")
        elif self._growing and time.monotonic() - self._drawn >= _INTERVAL:
            self._draw()

    def close(self, note: str = "") -> None:
        """Show the whole reply, followed by a note, such as that it was cut short; without any of these, show nothing."""
        if not (self._text or note or self._handle):
            return
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
    """Observer of a finetune that draws a progress bar with the stage, the time, and the latest losses and shares.

    Parameters
    ----------
    growing
        False draws no bar in a notebook, only the outcome; see `LiveReply`. Default: True.
    """

    def __init__(self, *, growing: bool = True) -> None:
        self._growing = growing
        self._bar: tqdm[Any] | None = None
        self._handle: DisplayHandle | None = None
        self._drawn = 0.0

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of `total` units."""
        self.close()
        # tqdm draws the bar in a terminal. In a notebook we draw it, because tqdm's widget would leave
        # an empty box in the saved notebook.
        self._bar = tqdm(total=total, desc=inert(name), leave=False, disable=None if not in_notebook() else True, unit="")
        self._name, self._total, self._done, self._started = name, total, 0, time.monotonic()
        self._log: dict[str, float] = {}
        self._draw()

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Advance by one unit, and show the latest losses and shares."""
        self._done += 1
        self._log = log or self._log
        if self._bar is not None:
            self._bar.update()
            if log:
                self._bar.set_postfix_str(_figures(log), refresh=False)
        if time.monotonic() - self._drawn >= _INTERVAL:
            self._draw()

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def clear(self) -> None:
        """Close the bar, and leave nothing of it in the notebook."""
        self.close()
        if self._handle is not None:
            self._handle.update(Shown("", ""))

    def finish(self, shown: Shown) -> None:
        """Replace the bar with the outcome."""
        self.close()
        if not in_notebook():
            say(shown.text)
        elif self._handle is None:
            display(shown)
        else:
            self._handle.update(shown)

    def _draw(self) -> None:
        if not in_notebook() or not self._growing:
            return
        self._drawn = time.monotonic()
        seconds = self._drawn - self._started
        figures = _figures(self._log)
        line = f"{self._name} {self._done}/{self._total} · {seconds:.0f} s" + (f" · {figures}" if figures else "")
        bar = f'<progress max="{self._total}" value="{self._done}" style="width:16em"></progress> {escape(line)}'
        shown = Shown(line, f'<div style="font-variant-numeric:tabular-nums">{bar}</div>')
        self._handle = _redrawn(self._handle, shown)


def _redrawn(handle: DisplayHandle | None, shown: Shown) -> DisplayHandle | None:
    """Show output in an existing display, or in a new one if `handle` is None; return the display."""
    if handle is None:
        return display(shown, display_id=True)
    handle.update(shown)
    return handle


def _figures(log: dict[str, float]) -> str:
    return " · ".join(f"{FIGURES[key]} {value:.3g}" for key, value in log.items() if key in FIGURES)
