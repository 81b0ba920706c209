"""The errors that users meet, each shown in one line, and what words them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from nbtune.inert import inert

__all__ = ["Interrupted", "NbtuneError", "did_you_mean", "disk_reason", "first_line", "interrupts_in_a_line"]


class NbtuneError(Exception):
    """Something the user can mend: the message says what was wrong, what was expected, what to do.

    IPython calls `_render_traceback_`, so a notebook shows the message alone, while the cell still
    fails for Run All, nbval and nbclient. Plain Python shows the usual traceback.
    """

    def _render_traceback_(self) -> list[str]:
        return [inert(f"{type(self).__name__}: {self}")]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: it ends the cell as always, and a notebook shows what became of the work in place of a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


@contextmanager
def interrupts_in_a_line() -> Iterator[None]:
    """Say of Ctrl-C inside the block only that it came, where nothing more is said of it."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted("stopped.") from None


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return a hint such as ``" Did you mean --epochs?"``, or nothing when nothing is close.

    Parameters
    ----------
    given
        What the user typed.
    known
        What would have been understood.
    """
    names = list(known)
    begun = [name for name in names if len(given) > 3 and name.startswith(given)]  # such as --temp
    close = begun or difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""


def disk_reason(error: BaseException) -> str:
    """Return why the disk refused, without the error's number and the path."""
    return str(getattr(error, "strerror", None) or error)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; the name of its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
