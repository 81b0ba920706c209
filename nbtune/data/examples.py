"""Reads examples (conversations in any known format) from rows, and reports the rows that can't be used."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from nbtune.data.detection import FACTS, columns_of, kind_of
from nbtune.data.formats import FORMATS, BadRow, Conversation, Format
from nbtune.data.reading import Reading
from nbtune.data.rows import read_rows
from nbtune.errors import NbtuneError, did_you_mean, first_line

__all__ = ["Examples", "read_examples", "refuse_bad", "split", "val_errors"]

_NAMED = 5  # maximum number of unusable rows that an error message names


@dataclass(frozen=True)
class Examples:
    """Conversations read from a data set.

    Parameters
    ----------
    format
        Name of the format they were in.
    conversations
        The conversations.
    numbers
        Row number of each conversation, from 1.
    bad
        Rows that could not be used: row number and reason.
    """

    format: str
    conversations: list[Conversation]
    numbers: list[int]
    bad: tuple[tuple[int, str], ...] = ()

    def only(self, places: Sequence[int]) -> Examples:
        """Return the examples with only the conversations at these indices."""
        return replace(self, conversations=[self.conversations[at] for at in places], numbers=[self.numbers[at] for at in places])


def read_examples(rows: Any, reading: Reading) -> Examples:
    """Read examples.

    Parameters
    ----------
    rows
        Rows, as returned by `nbtune.data.rows.read_rows`.
    reading
        How to read them.

    Returns
    -------
    found : Examples
        The conversations, and the rows that were skipped.

    Raises
    ------
    NbtuneError
        When the rows are facts or in no known format; when a row can't be used and such rows are not skipped; or when no row is left.
        The message names rows by number and gives the reason.
    """
    form, columns = kind_of(rows, reading), columns_of(rows)
    if form == FACTS and ("keyword" in columns or isinstance(rows, Mapping)):
        named = "" if isinstance(rows, Mapping) else " To use them as examples, add --prompt-column and --response-column."
        raise NbtuneError(f"Keywords with answers are facts: expected examples, such as rows with prompt and response.{named}")
    if not isinstance(form, Format):
        known = {column for known in FORMATS for column in known.columns} | {"keyword", "answer"}
        hint = next((hint for column in columns if column not in known and (hint := did_you_mean(column, known))), "")
        raise NbtuneError(
            f"The columns {', '.join(columns) or 'of a row'} match no known format.{hint} Known formats: keyword and answer; "
            f"{'; '.join(form.name for form in FORMATS)}. Rename the columns of facts to keyword and answer; for examples, "
            "--prompt-column and --response-column also work."
        )
    return _read(rows, form, reading)


def _read(rows: Sequence[Any], form: Format, reading: Reading) -> Examples:
    conversations, numbers, bad = [], [], []
    for number, row in enumerate(rows, start=1):
        try:
            conversations.append(form.conversation(row, reading))
            numbers.append(number)
        except BadRow as reason:
            bad.append((number, str(reason)))
        except (ValueError, TypeError, AttributeError, LookupError) as error:  # the columns are those of the format, but not their contents
            bad.append((number, f"it does not match {form.name} ({first_line(error)})"))
    refuse_bad(bad, len(conversations), reading)
    return Examples(form.name, conversations, numbers, tuple(bad))


def refuse_bad(bad: Sequence[tuple[int, str]], good: int, reading: Reading) -> None:
    """Raise an error for rows that can't be used, unless such rows are skipped and at least one `good` row is left.

    Raises
    ------
    NbtuneError
        Names the first of these rows, with the reasons.
    """
    if not bad or (reading.skip_bad and good):
        return
    named = "; ".join(f"row {number}: {reason}" for number, reason in bad[:_NAMED])
    more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    way_out = "Fix them, or go on without them with --skip-bad." if good else "No rows are left to learn from."
    raise NbtuneError(f"{len(bad)} of {len(bad) + good} rows can't be used: {named}{more}. {way_out}")


@contextmanager
def val_errors() -> Iterator[None]:
    """Put ``--val`` in front of the message of any `NbtuneError` raised inside the block."""
    try:
        yield
    except NbtuneError as error:
        raise NbtuneError(f"--val: {error}") from None


def split(examples: Examples, reading: Reading, seed: int) -> tuple[Examples, Examples | None]:
    """Return the examples to train on, and the held-out ones if `reading.val` asks for any.

    Raises
    ------
    NbtuneError
        When no example would be left to train on, or the held-out source can't be read.
    """
    if reading.val is None:
        return examples, None
    if not isinstance(reading.val, (int, float)):
        with val_errors():
            return examples, read_examples(read_rows(reading.val), replace(reading, val=None))
    order = list(range(len(examples.conversations)))
    random.Random(seed).shuffle(order)
    count = max(1, round(len(order) * reading.val))
    if count >= len(order):
        raise NbtuneError(f"--val {reading.val} of {len(order)} examples leaves none to train on: give more examples, or a smaller share.")
    return examples.only(order[count:]), replace(examples.only(order[:count]), bad=())  # report them once
