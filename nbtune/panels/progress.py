"""Shows the progress of a fit in a panel: stage, epoch, loss and shares, time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from typing import Any

from nbtune.display.curve import FIGURES, curves
from nbtune.display.style import MUTED

__all__ = ["Progress"]

_INTERVAL = 0.2  # seconds between redraws
_FITS = ("learning", "training")  # first words of the stages that fit: one counts epochs, the other steps
_FROM = 3  # epochs or steps after which the time left is estimated


class Progress:
    """An observer that draws into a widget.

    Parameters
    ----------
    widget
        An HTML widget.
    say
        Function that returns the label of a key.
    """

    def __init__(self, widget: Any, say: Callable[..., str]) -> None:
        self._widget, self._say = widget, say
        self._drawn = 0.0
        self._history: dict[str, list[float]] = {}

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of `total` units."""
        self._name, self._total, self._done, self._began = name, total, 0, time.monotonic()
        own = name.rpartition(": ")[2]  # without the fact that it is about, if there are several
        self._fits, self._by_epoch = own.startswith(_FITS), own.startswith(_FITS[0])
        if self._fits:
            self._history = {}
        self._show()

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Count one unit, and record its figures."""
        self._done += 1
        for figure in FIGURES:
            if log and figure in log:
                self._history.setdefault(figure, []).append(log[figure])
        if time.monotonic() - self._drawn >= _INTERVAL:
            self._show()

    def _show(self) -> None:
        self._drawn = time.monotonic()
        seconds, unit = self._drawn - self._began, f"{self._say('epoch')} " if self._by_epoch else ""
        line = f"{self._title()} · {unit}{self._done}/{self._total} · {seconds:.0f} s"
        if self._fits and self._done >= _FROM:
            line += f" · {self._say('left', x=round(seconds / self._done * (self._total - self._done)))}"
        bar = f'<progress max="{self._total}" value="{self._done}" style="width:16em;max-width:100%"></progress>'
        labels = {figure: self._say(figure) for figure in FIGURES}
        self._widget.value = (
            f'<div style="font-variant-numeric:tabular-nums">{bar} <span style="{MUTED}">{escape(line)}</span></div>'
            f"{curves(self._history, labels)}"
        )

    def _title(self) -> str:
        """Return the stage's name in the session's language, after the fact that it is about, if there are several."""
        before, colon, name = self._name.rpartition(": ")
        try:
            return f"{before}{colon}{self._say(name)}"
        except KeyError:  # names of later attempts hold numbers and have no label
            return self._name
