"""Reads facts (keyword and answer) from rows, and refuses rows that can't be facts."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nbtune.data.formats import is_gap
from nbtune.data.rows import read_rows
from nbtune.errors import NbtuneError, close_match
from nbtune.folding import keyword_key

__all__ = ["Row", "read_facts"]

_NEEDED = ("keyword", "answer")
_FLAGS = {"": False, "false": False, "0": False, "0.0": False, "true": True, "1": True, "1.0": True}


@dataclass(frozen=True)
class Row:
    """One fact as read from a source; `prompts`, `probes` and `extend` are arguments of `Fact.new`."""

    keyword: str
    answer: str
    prompts: tuple[str, ...] = ()
    probes: tuple[str, ...] = ()
    extend: bool = False


def read_facts(source: Any) -> list[Row]:
    """Read facts from a source.

    Parameters
    ----------
    source
        A source that `nbtune.data.rows.read_rows` takes: a mapping of keyword to answer; or rows with ``keyword`` and ``answer``, and
        optionally lists of ``prompts`` and ``probes``, and ``extend``.

    Returns
    -------
    list of Row
        The facts in the order of the source, stripped of surrounding white space.

    Raises
    ------
    NbtuneError
        When the source is empty, a value is empty or not a text, a keyword appears twice, or ``keyword`` or ``answer`` is missing. The
        message names rows by number, from 1.
    """
    source = read_rows(source)
    if isinstance(source, Mapping):
        named: list[tuple[str, Mapping[str, Any]]] = [
            (f"fact {key!r}", {"keyword": key, "answer": answer}) for key, answer in source.items()
        ]
    else:
        named = [(f"row {number}", _mapping(number, row)) for number, row in enumerate(source, start=1)]
    rows = [_row(place, fields) for place, fields in named]
    seen: dict[str, str] = {}
    for row in rows:
        same = keyword_key(row.keyword)
        if same in seen:  # a question that names one names both
            also = "" if seen[same] == row.keyword else f", also as {seen[same]!r}"
            raise NbtuneError(f"The keyword {row.keyword!r} appears twice{also}: one keyword has one answer.")
        seen[same] = row.keyword
    return rows


def _mapping(number: int, row: Any) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise NbtuneError(f"Row {number} is a {type(row).__name__}: expected a mapping with keyword and answer.")
    for wanted in _NEEDED:
        if wanted not in row:
            names = [str(name) for name in row]
            close = close_match(wanted, names)
            hint = f" Is it {close}? Then rename that column." if close else ""
            raise NbtuneError(f"Row {number} has no {wanted!r}: its columns are {', '.join(names) or 'none'}.{hint}")
    return row


def _row(place: str, fields: Mapping[str, Any]) -> Row:
    return Row(
        _text(fields["keyword"], f"the keyword of {place}"),
        _text(fields["answer"], f"the answer of {place}"),
        _texts(fields.get("prompts"), f"the prompts of {place}"),
        _texts(fields.get("probes"), f"the probes of {place}"),
        _flag(fields.get("extend"), f"the extend of {place}"),
    )


def _flag(value: Any, what: str) -> bool:
    """Return a truth value; files and NumPy have several spellings of it."""
    spelt = "" if value is None or is_gap(value) else str(value).strip().lower()
    if spelt not in _FLAGS:
        raise NbtuneError(f"{what[0].upper()}{what[1:]} is {reprlib.repr(value)}: expected true or false.")
    return _FLAGS[spelt]


def _texts(values: Any, what: str) -> tuple[str, ...]:
    if is_gap(values) or (isinstance(values, str) and not values):
        return ()
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise NbtuneError(f"{what[0].upper()}{what[1:]} are a {type(values).__name__}: expected a list of texts.")
    return tuple(_text(value, f"one of {what}") for value in values)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str) and not is_gap(value):
        given = f"{reprlib.repr(value)} ({type(value).__name__})"
        raise NbtuneError(f"{what[0].upper()}{what[1:]} is {given}: expected text; put it in quotes.")
    if is_gap(value) or not value.strip():
        raise NbtuneError(f"{what[0].upper()}{what[1:]} is empty.")
    return str(value).strip()
