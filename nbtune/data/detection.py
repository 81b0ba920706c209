"""Tells what rows are: facts, or examples, and in which format; what most of the rows are counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from nbtune.data.formats import Format, find_format
from nbtune.data.reading import Reading

__all__ = ["FACTS", "columns_of", "kind_of"]

FACTS = "facts"  # rows with keyword and answer, or a mapping of one to the other


def kind_of(rows: Any, reading: Reading) -> Format | str | None:
    """Return what rows are.

    Parameters
    ----------
    rows
        As `nbtune.data.rows.read_rows` returns them.
    reading
        Columns that are named make rows examples, whatever else is in them.

    Returns
    -------
    Format, str or None
        The format of examples, or `FACTS`; None where the columns are of no known format.

    Raises
    ------
    NbtuneError
        When a named column is not there.
    """
    layouts = _layouts(rows)
    if not layouts:  # reading them as facts names what is wrong
        return FACTS
    if reading.columns:
        return find_format(columns_of(rows), reading)
    kinds: Counter[Format | str] = Counter()
    for columns, count in layouts.items():
        if (kind := _kind(columns, reading)) is not None:
            kinds[kind] += count
    return kinds.most_common(1)[0][0] if kinds else None


def columns_of(rows: Any) -> list[str]:
    """Return the columns of all rows; none for a mapping of keyword to answer."""
    return list(dict.fromkeys(column for columns in _layouts(rows) for column in columns))


def _layouts(rows: Any) -> Counter[tuple[str, ...]]:
    """Count the rows of the same columns."""
    if isinstance(rows, Mapping):
        return Counter()
    if hasattr(rows, "column_names"):  # a `datasets.Dataset`, which takes its time to hand on rows
        return Counter({tuple(rows.column_names): len(rows)})
    return Counter(tuple(map(str, row)) for row in rows if isinstance(row, Mapping))


def _kind(columns: Sequence[str], reading: Reading) -> Format | str | None:
    known = find_format(columns, reading)
    names = {"keyword", "answer"} & set(columns)
    return FACTS if len(names) == 2 or ("keyword" in names and known is None) else known
