"""Reads rows from a file: YAML, JSON, JSON lines, CSV, TSV, Excel, Parquet or text of turns, chosen by the file's extension."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from nbtune.errors import NbtuneError, disk_reason, first_line

__all__ = ["FILES", "read_file", "read_json", "read_turns"]

_TURN = re.compile(r"(user|assistant|system)\s*[:：]", re.IGNORECASE)
_UTF8 = "utf-8-sig"  # with or without the byte order mark that some editors and spreadsheets write


class _Loader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys; PyYAML's own keeps the last one, which would silently drop a fact."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Read a mapping, before merge keys (``<<``) are applied; PyYAML's hook."""
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, Any]] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} appears twice", problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node


def _yaml(path: Path) -> Any:
    return yaml.load(path.read_text(encoding=_UTF8), _Loader)  # noqa: S506 - a subclass of SafeLoader


def read_json(text: str) -> Any:
    """Read a JSON value, refusing duplicate keys.

    Parameters
    ----------
    text
        A single JSON value.

    Returns
    -------
    Any
        The value.

    Raises
    ------
    ValueError
        When the text is not JSON, or a key appears twice in an object.
    """
    return json.loads(text, object_pairs_hook=_without_duplicates)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of the members of a JSON object; the `object_pairs_hook` of `json.loads`."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return found


def _json(path: Path) -> Any:
    try:
        return read_json(path.read_text(encoding=_UTF8))
    except json.JSONDecodeError as whole:
        if not whole.msg.startswith("Extra data"):
            raise
        try:
            return _json_lines(path)  # many data sets use this extension for JSON lines
        except json.JSONDecodeError as line:
            raise (line if line.lineno > 1 else whole) from None


def _json_lines(path: Path) -> Any:
    rows = []
    for number, line in enumerate(path.read_text(encoding=_UTF8).split("\n"), start=1):
        try:
            rows += [read_json(line)] if line.strip() else []
        except ValueError as error:
            error.lineno = number  # type: ignore[attr-defined]
            raise
    return rows


def _turns(path: Path) -> Any:
    return read_turns(path.read_text(encoding=_UTF8))


def read_turns(text: str) -> list[dict[str, Any]]:
    """Read conversations written as text: ``user:`` or ``assistant:`` before each turn, an empty line between conversations.

    Parameters
    ----------
    text
        The conversations. A line without such a mark continues the turn. A conversation may begin with ``system:``.

    Returns
    -------
    list of dict
        One row per conversation, with a list of ``messages``.

    Raises
    ------
    ValueError
        When there is text before the first turn.
    """
    rows: list[list[dict[str, str]]] = [[]]
    for number, line in enumerate(text.rstrip().split("\n"), start=1):
        line = line if rows[-1] else line.lstrip()  # the first turn may be indented
        mark = _TURN.match(line)
        if mark:
            role = mark[1].lower()
            # A conversation begins at a system turn, or at a user turn after an empty line, unless only a system turn is before it.
            # Other empty lines belong to their turn.
            ended = bool(rows[-1]) and rows[-1][-1]["content"].endswith("\n") and rows[-1][-1]["role"] != "system"
            if rows[-1] and (role == "system" or (role == "user" and ended)):
                rows.append([])
            rows[-1].append({"role": role, "content": line[mark.end() :].strip()})
        elif rows[-1]:
            rows[-1][-1]["content"] += "\n" + line.rstrip()
        elif line.strip():
            error = ValueError("there is text before the first user: or assistant:")
            error.lineno = number  # type: ignore[attr-defined]
            raise error
    return [{"messages": [{**turn, "content": turn["content"].strip()} for turn in row]} for row in rows if row]


def _table(path: Path, *, reader: str, **options: Any) -> Any:
    import pandas as pd  # slow to import

    if reader == "read_csv":
        options["skipinitialspace"] = True
        if "sep" not in options and _semicolons(path):
            options["sep"] = ";"
    frame = getattr(pd, reader)(path, **options).rename(columns=lambda name: name.strip() if isinstance(name, str) else name)
    if reader == "read_csv" and not isinstance(frame.index, pd.RangeIndex):  # pandas took the first column for row labels
        raise ValueError("every row has more cells than the header: put double quotes around text that contains the separator")
    return frame.to_dict("records")


def _semicolons(path: Path) -> bool:
    """Return whether the heading is separated by semicolons, as Excel writes it in countries with a decimal comma."""
    with path.open(encoding=_UTF8) as file:
        heading = file.readline()
    return ";" in heading and "," not in heading


_TEXT: dict[str, Any] = {"dtype": str, "keep_default_na": False}  # cells stay text, and an empty cell is an empty string
_READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    ".yaml": ("YAML in UTF-8", _yaml),
    ".yml": ("YAML in UTF-8", _yaml),
    ".json": ("JSON in UTF-8", _json),
    ".jsonl": ("JSON lines in UTF-8", _json_lines),
    ".csv": ("CSV in UTF-8", partial(_table, reader="read_csv", **_TEXT)),
    ".tsv": ("tab-separated UTF-8", partial(_table, reader="read_csv", sep="\t", **_TEXT)),
    ".xlsx": ("Excel", partial(_table, reader="read_excel", **_TEXT)),
    ".txt": ("user: and assistant: turns in UTF-8", _turns),
    ".parquet": ("Parquet", partial(_table, reader="read_parquet")),
}
FILES = tuple(_READERS)


def read_file(path: Path) -> Any:
    """Read rows, or a mapping of keyword to answer, from a file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    list or mapping
        Its contents.

    Raises
    ------
    NbtuneError
        When the extension is unknown, the file can't be read, or it contains neither rows nor a mapping.
    """
    kind, read = _READERS.get(path.suffix.lower(), ("", None))
    if read is None:
        raise NbtuneError(
            f"Can't learn from {str(path)!r}: give a mapping keyword -> answer, rows, or a file that ends in {', '.join(FILES)}."
        )
    try:
        found = read(path)
    except OSError as error:
        raise NbtuneError(f"{path} can't be read ({disk_reason(error)}).") from None
    except ImportError as error:
        raise NbtuneError(f"{path} can't be read without another package: {first_line(error)}") from None
    # UnicodeDecodeError and the errors of pandas are ValueErrors; KeyError and BadZipFile come from invalid Excel files.
    except (ValueError, KeyError, zipfile.BadZipFile, yaml.YAMLError) as error:
        reason = first_line(error).rstrip(".")
        raise NbtuneError(f"{path} can't be read as {kind}{_line(error)} ({reason}): expected rows, such as keyword and answer.") from None
    if not isinstance(found, (list, Mapping)):
        raise NbtuneError(f"{path} is not a list of rows: expected rows, such as keyword and answer.")
    return found


def _line(error: Exception) -> str:
    """Return ``", line N"`` if the error knows its line, else an empty string."""
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else getattr(error, "lineno", None)
    return f", line {line}" if line else ""
