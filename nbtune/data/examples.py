"""Reads examples: conversations in any format of the table, with the rows that can't be used named and counted."""

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

__all__ = ["Examples", "of_val", "read_examples", "refuse_bad", "split"]

_NAMED = 5  # rows that can't be used are named one by one, up to so many


@dataclass(frozen=True)
class Examples:
    """Conversations, the numbers of their rows, from 1, the format they came in, and the rows that could not be used, with the reason."""

    format: str
    conversations: list[Conversation]
    numbers: list[int]
    bad: tuple[tuple[int, str], ...] = ()

    def only(self, places: Sequence[int]) -> Examples:
        """Return some of the conversations."""
        return replace(self, conversations=[self.conversations[at] for at in places], numbers=[self.numbers[at] for at in places])


def read_examples(rows: Any, reading: Reading) -> Examples:
    """Read examples.

    Parameters
    ----------
    rows
        As `nbtune.data.rows.read_rows` returns them.
    reading
        How.

    Raises
    ------
    NbtuneError
        When the columns are of no known format, or a row can't be used and is not to be skipped: named by number and reason.
    """
    form, columns = kind_of(rows, reading), columns_of(rows)
    if form == FACTS and ("keyword" in columns or isinstance(rows, Mapping)):
        raise NbtuneError(
            "Keyword and answer are facts: expected examples, such as rows with prompt and response. "
            "Name the columns with --prompt-column and --response-column to read them as that."
        )
    if not isinstance(form, Format):
        known = {column for known in FORMATS for column in known.columns} | {"keyword", "answer"}
        hint = next((hint for column in columns if column not in known and (hint := did_you_mean(column, known))), "")
        raise NbtuneError(
            f"The columns {', '.join(columns) or 'of a row'} are of no known format.{hint} Known are keyword and answer; "
            f"{'; '.join(form.name for form in FORMATS)}. Rename the columns of facts to keyword and answer; those of examples can also be "
            "named with --prompt-column and --response-column."
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
        except (ValueError, TypeError, AttributeError, LookupError) as error:  # laid out otherwise than the format's name says
            bad.append((number, f"it is not as {form.name} is laid out ({first_line(error)})"))
    refuse_bad(bad, len(conversations), reading)
    return Examples(form.name, conversations, numbers, tuple(bad))


def refuse_bad(bad: Sequence[tuple[int, str]], good: int, reading: Reading) -> None:
    """Raise for rows that can't be used, unless they are to be skipped and some are left."""
    if not bad or (reading.skip_bad and good):
        return
    named = "; ".join(f"row {number}: {reason}" for number, reason in bad[:_NAMED])
    more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    way_out = "Fix them, or go on without them with --skip-bad." if good else "No row is left to learn from."
    raise NbtuneError(f"{len(bad)} of {len(bad) + good} rows can't be used: {named}{more}. {way_out}")


@contextmanager
def of_val() -> Iterator[None]:
    """Say of an error that it is about the examples of ``--val``."""
    try:
        yield
    except NbtuneError as error:
        raise NbtuneError(f"--val: {error}") from None


def split(examples: Examples, reading: Reading, seed: int) -> tuple[Examples, Examples | None]:
    """Part examples into what is trained and what is held out, as `reading.val` says.

    Raises
    ------
    NbtuneError
        When nothing would be left to train, or what is held out can't be read.
    """
    if reading.val is None:
        return examples, None
    if not isinstance(reading.val, (int, float)):
        with of_val():
            return examples, read_examples(read_rows(reading.val), replace(reading, val=None))
    order = list(range(len(examples.conversations)))
    random.Random(seed).shuffle(order)
    count = max(1, round(len(order) * reading.val))
    if count >= len(order):
        raise NbtuneError(f"--val {reading.val} of {len(order)} examples leaves none to train: give more examples, or a smaller share.")
    return examples.only(order[count:]), replace(examples.only(order[:count]), bad=())  # told of once
