"""Turns a data source into rows: a variable of the notebook, a file, a folder or a dataset on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbtune.data.files import FILES, read_file
from nbtune.data.formats import FORMATS
from nbtune.errors import NbtuneError, first_line
from nbtune.paths import given_path

__all__ = ["read_rows"]

_FACT, _BESIDE_FACT = {"keyword", "answer"}, {"prompts", "probes", "extend"}
_OPTIONAL_COLUMNS = {"input", "context", "category", "history", "system"}  # columns that a format may have in addition to its own
_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_EXPECTED = "give a mapping keyword -> answer, rows, a DataFrame, a Dataset, the name of a dataset, or a file that ends in"


def read_rows(source: Any) -> Mapping[Any, Any] | Sequence[Any]:
    """Return the rows of a data source; a mapping of keyword to answer is returned as it is.

    Parameters
    ----------
    source
        A mapping of keyword to answer; rows, each a mapping; a single row; a mapping of columns, each a list; a pandas or polars
        DataFrame; a `datasets.Dataset`; a `datasets.DatasetDict`, of which the split ``train`` is taken, or the first one if there is no
        ``train``; the path of a file, see `nbtune.data.files`; or the name of a dataset on the hub, or of a folder, for
        `datasets.load_dataset`.

    Returns
    -------
    sequence of mapping, or mapping
        The rows, or the mapping of keyword to answer.

    Raises
    ------
    NbtuneError
        When the source is none of these, can't be read, or is empty.
    """
    if isinstance(source, (str, Path)):
        source = _named(str(source))
    if isinstance(source, Mapping) and source and all(hasattr(split, "column_names") for split in source.values()):
        source = source["train"] if "train" in source else next(iter(source.values()))
    if hasattr(source, "with_format"):  # a Dataset, which may give its rows as arrays or tables
        source = _plain(source)
    if hasattr(source, "to_dicts"):  # a polars DataFrame
        source = source.to_dicts()
    elif hasattr(source, "to_dict") and hasattr(source, "columns"):  # a pandas DataFrame
        source = source.rename(columns=str).to_dict("records")
    if isinstance(source, Mapping):
        source = _by_columns(source) or ([source] if _is_row(source) else _one_split(source))
    if not isinstance(source, Mapping) and (isinstance(source, (str, bytes)) or not isinstance(source, Iterable)):
        raise NbtuneError(f"Can't learn from a {type(source).__name__}: {_EXPECTED} {', '.join(FILES)}.")
    rows: Any = source if hasattr(source, "__getitem__") and hasattr(source, "__len__") else list(source)
    if not len(rows):
        once = " An iterator can be read only once: make a list of it." if isinstance(source, Iterator) else ""
        raise NbtuneError(f"There is nothing to learn: the data is empty.{once}")
    found: Mapping[Any, Any] | Sequence[Any] = rows
    return found


def _plain(source: Any) -> Any:
    """Return a dataset that gives its rows as plain Python; its chosen columns, and a function that makes the rows, stay."""
    format_ = getattr(source, "format", None)  # a streaming dataset has none
    if format_ is None:
        return source.with_format(None)
    return source if format_["type"] == "custom" else source.with_format(None, columns=format_["columns"])


def _one_split(source: Mapping[Any, Any]) -> Any:
    """Return the rows below ``train``, or below the only key, of a mapping of lists of rows; any other mapping as it is."""
    lists = all(isinstance(rows, list) and rows and all(isinstance(row, Mapping) for row in rows) for rows in source.values())
    if source and lists and ("train" in source or len(source) == 1):
        return source.get("train") or next(iter(source.values()))
    return source


def _is_row(source: Mapping[Any, Any]) -> bool:
    """Return whether a mapping is a single row: its keys are columns, not keywords."""
    if _FACT <= set(source) <= _FACT | _BESIDE_FACT:
        return True
    for form in FORMATS:
        own = set(form.columns)
        if own <= set(source) <= own | _OPTIONAL_COLUMNS:
            return len(own) > 1 or not isinstance(source[form.columns[0]], str)  # a list of turns, not an answer
    return False


def _by_columns(source: Mapping[Any, Any]) -> list[Mapping[str, Any]]:
    """Return the rows of a mapping of columns, such as a slice of a Dataset or JSON written by pandas; none for any other mapping."""
    numbered = (isinstance(column, Mapping) and all(str(key).isdigit() for key in column) for column in source.values())
    cells = [list(column.values()) if so else column for so, column in zip(numbered, source.values(), strict=True)]
    if not all(isinstance(column, list) for column in cells) or len({len(column) for column in cells}) != 1:
        return []
    if any(isinstance(cell, Mapping) for column in cells for cell in column):  # the turns of a single row
        return []
    rows: list[Mapping[str, Any]] = [dict(zip(map(str, source), row, strict=True)) for row in zip(*cells, strict=True)]
    return rows if len(cells) > 1 or all(isinstance(cell, list) for cell in cells[0]) else []


def _named(name: str) -> Any:
    path = given_path(name)
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError:  # a text that is too long for a file name
        is_file = is_folder = False
    if path.suffix.lower() in FILES or is_file:
        return read_file(path)
    if not is_folder and not _HUB.fullmatch(name):
        raise NbtuneError(f"Can't learn from {name!r}: {_EXPECTED} {', '.join(FILES)}.")
    import datasets

    try:
        return datasets.load_dataset(str(path) if is_folder else name)
    except Exception as error:  # of many types: from the hub, the network, a builder or a parser
        reason = first_line(error).rstrip(".")
        raise NbtuneError(f"The data set {name!r} can't be read ({reason}). Or {_EXPECTED} {', '.join(FILES)}.") from None
