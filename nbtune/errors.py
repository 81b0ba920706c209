"""Defines the errors shown to users, each in one line, and helpers for their messages."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from nbtune.inert import inert

__all__ = [
    "Interrupted",
    "NbtuneError",
    "close_match",
    "did_you_mean",
    "disk_reason",
    "first_line",
    "interrupts_in_a_line",
    "release",
]


class NbtuneError(Exception):
    """An error that the user can fix: the message says what was wrong, what was expected and what to do.

    IPython calls `_render_traceback_`, so a notebook shows only the message, while the cell still
    fails for Run All, nbval and nbclient. Plain Python shows the usual traceback.
    """

    def _render_traceback_(self) -> list[str]:
        return [inert(f"{type(self).__name__}: {self}")]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: it ends the cell as usual, but instead of a traceback a notebook shows what became of the work."""

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


@contextmanager
def interrupts_in_a_line() -> Iterator[None]:
    """Report Ctrl-C inside the block in one line; an `Interrupted` that already says more is passed on.

    Raises
    ------
    Interrupted
        In place of a plain KeyboardInterrupt.
    """
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted("stopped.") from None


def release(error: BaseException | None) -> None:
    """Free the objects that an error holds: a notebook keeps its last error, with the variables of every call it passed through."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def close_match(given: str, known: Iterable[str]) -> str | None:
    """Return the known name that a user most likely meant, or None when no name is close."""
    names = list(known)
    begun = [name for name in names if len(given) > 3 and name.startswith(given)]  # such as --temp
    return next(iter(begun or difflib.get_close_matches(given, names, n=1, cutoff=0.6)), None)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return a hint such as ``" Did you mean --epochs?"``, or an empty string when no name is close."""
    close = close_match(given, known)
    return f" Did you mean {close}?" if close else ""


def disk_reason(error: BaseException) -> str:
    """Return the reason of a disk error, without its number and the path."""
    return str(getattr(error, "strerror", None) or error)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
