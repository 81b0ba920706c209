"""The errors that users meet, each shown in one line, and what words them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from nbtune.inert import inert

__all__ = [
    "Interrupted",
    "NbtuneError",
    "check_choice",
    "check_range",
    "close_match",
    "did_you_mean",
    "disk_reason",
    "first_line",
    "interrupts_in_a_line",
]


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


def check_choice(option: str, value: str, choices: Collection[str]) -> None:
    """Refuse a value that is none of the choices.

    Parameters
    ----------
    option
        The option's name, for the message.
    value, choices
        What was given, and what can be.

    Raises
    ------
    NbtuneError
        With the choices, and the closest of them.
    """
    if value not in choices:
        raise NbtuneError(f"{option} {value} is unknown: use {' or '.join(choices)}.{did_you_mean(value, choices)}")


def check_range(option: str, value: float | None, inside: bool, expected: str) -> None:
    """Refuse a number outside its range.

    Parameters
    ----------
    option
        The option's name, for the message.
    value, inside
        What was given, and whether that is allowed.
    expected
        The range in words.

    Raises
    ------
    NbtuneError
        With the range.
    """
    if not inside:
        raise NbtuneError(f"{option} {value} is out of range: expected {expected}.")


def close_match(given: str, known: Iterable[str]) -> str | None:
    """Return the known name that is likeliest meant by what a user typed; None when nothing is close."""
    names = list(known)
    begun = [name for name in names if len(given) > 3 and name.startswith(given)]  # such as --temp
    return next(iter(begun or difflib.get_close_matches(given, names, n=1, cutoff=0.6)), None)


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return a hint such as ``" Did you mean --epochs?"``, or an empty text when nothing is close."""
    close = close_match(given, known)
    return f" Did you mean {close}?" if close else ""


def disk_reason(error: BaseException) -> str:
    """Return why the disk refused, without the error's number and the path."""
    return str(getattr(error, "strerror", None) or error)


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says; the name of its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
