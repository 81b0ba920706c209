"""Reads facts, keyword to answer, from what a user has at hand, and refuses what can't be one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nbtune.errors import NbtuneError, did_you_mean

__all__ = ["read_facts"]

_KEYWORD, _ANSWER = ("keyword", "question"), ("answer",)


def read_facts(source: Any) -> dict[str, str]:
    """Turn a source into a mapping of keyword to answer.

    Parameters
    ----------
    source
        A mapping of keyword to answer; or rows, each a mapping with ``keyword`` (or ``question``)
        and ``answer``; or a pandas DataFrame or `datasets.Dataset` with such columns.

    Returns
    -------
    dict of str to str
        Stripped of surrounding white space, in the order given.

    Raises
    ------
    NbtuneError
        When there is nothing in it, a text is empty or not a text, a keyword stands twice, or the
        columns are others. Rows are named by number, from 1.
    """
    if isinstance(source, Mapping):
        pairs = [(f"fact {key!r}", key, answer) for key, answer in source.items()]
    else:
        pairs = [_pair(number, row) for number, row in enumerate(_rows(source), start=1)]
    if not pairs:
        raise NbtuneError("There is nothing to learn: the data is empty.")
    facts: dict[str, str] = {}
    for place, keyword, answer in pairs:
        key = _text(keyword, f"the keyword of {place}")
        if key in facts:
            raise NbtuneError(f"The keyword {key!r} stands twice: one keyword has one answer.")
        facts[key] = _text(answer, f"the answer of {place}")
    return facts


def _rows(source: Any) -> Iterable[Any]:
    if hasattr(source, "to_dict") and hasattr(source, "columns"):  # a pandas DataFrame
        rows: list[Any] = source.to_dict("records")
        return rows
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes)):
        return source
    raise NbtuneError(
        f"Can't read facts from a {type(source).__name__}: give a mapping keyword -> answer, or rows with keyword and answer."
    )


def _pair(number: int, row: Any) -> tuple[str, Any, Any]:
    if not isinstance(row, Mapping):
        raise NbtuneError(f"Row {number} is a {type(row).__name__}: expected a mapping with keyword and answer.")
    found = []
    for wanted in (_KEYWORD, _ANSWER):
        column = next((name for name in wanted if name in row), None)
        if column is None:
            names = [str(name) for name in row]
            hint = did_you_mean(wanted[0], names).replace("Did you mean", "Is it").replace(".", "?")
            raise NbtuneError(f"Row {number} has no {wanted[0]!r}: its columns are {', '.join(names) or 'none'}.{hint}")
        found.append(row[column])
    return f"row {number}", found[0], found[1]


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise NbtuneError(f"{what[0].upper()}{what[1:]} is a {type(value).__name__}: expected text.")
    if not value.strip():
        raise NbtuneError(f"{what[0].upper()}{what[1:]} is empty.")
    return value.strip()
