"""Detects whether rows are facts or examples, and in which format; the most frequent kind of row decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nbtune.data.formats import Format, find_format
from nbtune.data.reading import Reading

__all__ = ["FACTS", "columns_of", "kind_of"]

FACTS = "facts"  # rows with keyword and answer, or a mapping of keyword to answer


def kind_of(rows: Any, reading: Reading) -> Format | str | None:
    """Return the kind of rows: facts, or examples in a certain format.

    Parameters
    ----------
    rows
        Rows, as returned by `nbtune.data.rows.read_rows`.
    reading
        If it names columns, the rows are examples, whatever other columns they have.

    Returns
    -------
    Format, str or None
        The format of the examples, or `FACTS`; None if the columns match no known format.

    Raises
    ------
    NbtuneError
        When a named column does not exist, or the prompt and response columns are not named together.
    """
    layouts = _layouts(rows)
    if not layouts:  # a mapping, or rows that are not mappings: reading them as facts reports what is wrong
        return FACTS
    if reading.columns:
        return find_format(columns_of(rows), reading)
    kinds: Counter[Format | str] = Counter()
    for columns, count in layouts.items():
        if (kind := _kind(columns, reading)) is not None:
            kinds[kind] += count
    return kinds.most_common(1)[0][0] if kinds else None


def columns_of(rows: Any) -> list[str]:
    """Return all columns that occur in the rows; an empty list for a mapping of keyword to answer."""
    return list(dict.fromkeys(column for columns in _layouts(rows) for column in columns))


def _layouts(rows: Any) -> Counter[tuple[str, ...]]:
    """Count the rows that have the same columns."""
    if isinstance(rows, Mapping):
        return Counter()
    if hasattr(rows, "column_names"):  # a `datasets.Dataset`, which is slow to iterate over
        return Counter({tuple(rows[0]): len(rows)})  # without columns that its format hides
    return Counter(tuple(map(str, row)) for row in rows if isinstance(row, Mapping))


def _kind(columns: Sequence[str], reading: Reading) -> Format | str | None:
    known = find_format(columns, reading)
    names = {"keyword", "answer"} & set(columns)
    return FACTS if len(names) == 2 or ("keyword" in names and known is None) else known
