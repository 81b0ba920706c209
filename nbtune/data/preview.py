"""Previews a data set before training: its format, some examples token by token, their lengths, and what would be cut."""

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

__all__ = ["Preview", "preview_rows"]

_SHOWN = 5
_MEASURED = 1000  # maximum number of rows that are encoded


@dataclass(frozen=True)
class Preview:
    """Preview of a data set: its format, its unusable rows, and a sample of its rows encoded for training.

    Parameters
    ----------
    format
        Name of the format, such as ``"prompt and completion (TRL)"``.
    rows
        Total number of rows.
    bad
        Rows that can't be used: row number, from 1, and reason.
    examples
        Up to five examples, token by token; see `nbtune.data.encoding.pieces`.
    measured
        Number of rows that were encoded: all usable ones, or 1,000 drawn at random if there are more.
    drawn
        Whether the encoded rows are a random sample.
    lengths
        Number of tokens of each example made from the encoded rows.
    cut
        Number of encoded rows that would be cut.
    without_room
        Rows of the sample that do not fit into the context: row number, from 1, and reason.
    context
        Maximum number of tokens that the model reads.
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


def preview_rows(
    rows: Any, reading: Reading, tokenizer: PreTrainedTokenizerBase, *, context: int, one_example_per_turn: bool = False
) -> Preview:
    """Return a preview of rows as `nbtune.data.rows.read_rows` returns them.

    Raises
    ------
    NbtuneError
        When the rows are in no known format or none of them can be used; for facts, when one can't be used or `reading` sets an option.
    """
    if kind_of(rows, reading) == FACTS:
        reading.check_unused()
        return _facts(read_facts(rows), tokenizer, context)
    examples = read_examples(rows, replace(reading, skip_bad=True))
    seen = [
        (number, _encoded(tokenizer, messages, reading, context, one_example_per_turn))
        for number, messages in _sample(list(zip(examples.numbers, examples.conversations, strict=True)))
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
    """Preview facts, each encoded with the longest of its keyword and the user's own prompts."""
    seen, long = [], []
    for number, row in _sample(list(enumerate(rows, start=1))):
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


def _sample(rows: list[Any]) -> list[Any]:
    return rows if len(rows) <= _MEASURED else random.Random(0).sample(rows, _MEASURED)


def _encoded(tokenizer: PreTrainedTokenizerBase, messages: Any, reading: Reading, context: int, one_example_per_turn: bool) -> Turns | str:
    """Return a conversation encoded, or the reason why it can't be encoded."""
    try:
        return encode_conversation(tokenizer, messages, reading, context=context, one_example_per_turn=one_example_per_turn)
    except NbtuneError as error:
        return str(error)
