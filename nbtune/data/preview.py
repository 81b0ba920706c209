"""Looks at a data set before it is learned: its format, some examples token by token, how long they are, what would be cut."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from nbtune.data.detection import FACTS, kind_of
from nbtune.data.encoding import Example, encode, pieces
from nbtune.data.examples import read_examples
from nbtune.data.fact_rows import Row, read_facts
from nbtune.data.reading import Reading
from nbtune.data.turns import Turns, encode_conversation
from nbtune.errors import NbtuneError

__all__ = ["Preview", "look"]

_SHOWN = 5
_MEASURED = 1000  # rows whose tokens are counted


@dataclass(frozen=True)
class Preview:
    """What was seen.

    Parameters
    ----------
    format
        Its name, such as ``"Alpaca"``.
    rows
        Rows in all.
    bad
        Those that can't be used: number, from 1, and reason.
    examples
        Some of them, token by token; see `nbtune.data.encoding.pieces`.
    measured
        How many of the rows were encoded: 1,000 drawn at random where there are more.
    drawn
        Whether these are a random sample of the rows.
    lengths
        Tokens of each example in these.
    cut
        How many of these would be cut.
    without_room
        Those of these that do not fit into the context: number, from 1, and reason.
    context
        Most tokens that the model reads.
    """

    format: str
    rows: int
    bad: tuple[tuple[int, str], ...]
    examples: list[Example]
    measured: int
    drawn: bool
    lengths: list[int]
    cut: int
    without_room: tuple[tuple[int, str], ...]
    context: int


def look(rows: Any, reading: Reading, tokenizer: PreTrainedTokenizerBase, *, context: int) -> Preview:
    """Look at rows as `nbtune.data.rows.read_rows` returns them.

    Raises
    ------
    NbtuneError
        When they are of no known format, or none of them can be used.
    """
    if kind_of(rows, reading) == FACTS:
        reading.check_unused()
        return _facts(read_facts(rows), tokenizer, context)
    examples = read_examples(rows, replace(reading, skip_bad=True))
    seen = [
        (number, _encoded(tokenizer, messages, reading, context))
        for number, messages in _some(list(zip(examples.numbers, examples.conversations, strict=True)))
    ]
    usable = [turns for _, turns in seen if isinstance(turns, Turns)]
    return Preview(
        format=examples.format,
        rows=len(examples.conversations) + len(examples.bad),
        bad=examples.bad,
        examples=[pieces(tokenizer, one) for turns in usable[:_SHOWN] for one in turns.examples][:_SHOWN],
        measured=len(seen),
        drawn=len(seen) < len(examples.conversations),
        lengths=[len(one.input_ids) for turns in usable for one in turns.examples],
        cut=sum(turns.cut for turns in usable),
        without_room=tuple(sorted((number, reason) for number, reason in seen if isinstance(reason, str))),
        context=context,
    )


def _facts(rows: list[Row], tokenizer: PreTrainedTokenizerBase, context: int) -> Preview:
    """Look at facts, asked in the longest of the user's own wordings, or by their bare keyword."""
    seen, long = [], []
    for number, row in _some(list(enumerate(rows, start=1))):
        asked = max((row.keyword, *(prompt.replace("{x}", row.keyword) for prompt in row.prompts)), key=len)
        try:
            seen.append(encode(tokenizer, asked, row.answer, context=context))
        except NbtuneError as error:
            long.append((number, str(error)))
    return Preview(
        format="facts (keyword and answer)",
        rows=len(rows),
        bad=(),
        examples=[pieces(tokenizer, one) for one in seen[:_SHOWN]],
        measured=len(seen) + len(long),
        drawn=len(seen) + len(long) < len(rows),
        lengths=[len(one.input_ids) for one in seen],
        cut=0,
        without_room=tuple(sorted(long)),
        context=context,
    )


def _some(rows: list[Any]) -> list[Any]:
    return rows if len(rows) <= _MEASURED else random.Random(0).sample(rows, _MEASURED)


def _encoded(tokenizer: PreTrainedTokenizerBase, messages: Any, reading: Reading, context: int) -> Turns | str:
    """Encode a conversation, or say why it can't be."""
    try:
        return encode_conversation(tokenizer, messages, reading, context=context)
    except NbtuneError as error:
        return str(error)
