"""Checks the values of options that users give, and refuses bad ones in one line."""

from __future__ import annotations

from collections.abc import Collection
from operator import index
from typing import Any

from nbtune.errors import NbtuneError, did_you_mean

__all__ = ["check_choice", "check_known", "check_range", "check_text", "number", "whole_number"]

_IN_PYTHON = {"lr": "learning_rate", "as": "kind"}  # options whose name in Python is not that of the magics


def check_known(given: Collection[str], known: Collection[str]) -> None:
    """Check that all options exist.

    Raises
    ------
    NbtuneError
        When one does not; the message suggests the closest that does.
    """
    unknown = next((option for option in given if option not in known), None)
    if unknown is not None:
        meant = _IN_PYTHON.get(unknown)
        hint = f" Did you mean {meant}?" if meant in known else did_you_mean(unknown, known)
        raise NbtuneError(f"There is no option {unknown!r}.{hint}")


def check_choice(option: str, value: Any, choices: Collection[str]) -> None:
    """Check that a value is one of the choices.

    Parameters
    ----------
    option
        The option's name, for the message.
    value, choices
        The given value, and the valid ones.

    Raises
    ------
    NbtuneError
        When it is not; the message lists the choices and suggests the closest.
    """
    if not isinstance(value, str) or value not in choices:
        raise NbtuneError(f"{option} {value} is unknown: use {' or '.join(choices)}.{did_you_mean(str(value), choices)}")


def check_range(option: str, value: float | None, inside: bool, expected: str) -> None:
    """Check that a number is inside its range.

    Parameters
    ----------
    option
        The option's name, for the message.
    value, inside
        The given number, and whether it is inside.
    expected
        The range in words.

    Raises
    ------
    NbtuneError
        When it is not; the message names the range.
    """
    if not inside:
        raise NbtuneError(f"{option} {value} is out of range: expected {expected}.")


def check_text(option: str, value: Any) -> None:
    """Check that a value is a text.

    Raises
    ------
    NbtuneError
        When it is not.
    """
    if not isinstance(value, str):
        raise NbtuneError(f"{option} is {value!r} ({type(value).__name__}): expected text.")


def number(option: str, value: Any) -> float:
    """Return a number as a float, because numbers of NumPy can't be saved.

    Raises
    ------
    NbtuneError
        When it is not a number.
    """
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise NbtuneError(f"{option} {value!r} is not a number.") from None


def whole_number(option: str, value: Any) -> int:
    """Return a whole number as an int, because numbers of NumPy can't be saved.

    Raises
    ------
    NbtuneError
        When it is not a whole number.
    """
    try:
        return index(value)
    except TypeError:
        raise NbtuneError(f"{option} {value!r} is not a whole number.") from None
