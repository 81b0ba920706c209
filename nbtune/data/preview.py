"""Looks at a data set before it is learned: its format, some examples token by token, how long they are, what would be cut."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from nbtune.data.detection import FACTS, kind_of
from nbtune.data.encoding import Example, encode, pieces
from nbtune.data.examples import read_examples
from nbtune.data.fact_rows import read_facts
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
        Its name.
    rows
        Rows in all.
    bad
        Those that can't be used: number, from 1, and reason.
    examples
        Some of them, token by token; see `nbtune.data.encoding.pieces`.
    measured
        How many of the rows were encoded: 1,000 drawn at random where there are more.
    lengths
        Tokens of each example in these.
    drawn
        Whether there are more than were encoded.
    cut
        How many of these would be cut.
    without_room
        Those of these that can't be used, for a question has no room: number and reason.
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
        facts = read_facts(rows)
        encoded = [encode(tokenizer, fact.keyword, fact.answer, context=context) for fact in _some(facts)]
        shown = [pieces(tokenizer, one) for one in encoded[:_SHOWN]]
        lengths, drawn = [len(one.input_ids) for one in encoded], len(encoded) < len(facts)
        return Preview("facts (keyword and answer)", len(facts), (), shown, len(encoded), drawn, lengths, 0, (), context)
    examples = read_examples(rows, replace(reading, skip_bad=True))
    seen = [
        (number, _encoded(tokenizer, messages, reading, context))
        for number, messages in _some(list(zip(examples.numbers, examples.conversations, strict=True)))
    ]
    usable = [turns for _, turns in seen if isinstance(turns, Turns)]
    return Preview(
        examples.format,
        len(examples.conversations) + len(examples.bad),
        examples.bad,
        [pieces(tokenizer, one) for turns in usable[:_SHOWN] for one in turns.examples][:_SHOWN],
        len(seen),
        len(seen) < len(examples.conversations),
        [len(one.input_ids) for turns in usable for one in turns.examples],
        sum(turns.cut for turns in usable),
        tuple(sorted((number, reason) for number, reason in seen if isinstance(reason, str))),
        context,
    )


def _some(rows: list[Any]) -> list[Any]:
    return rows if len(rows) <= _MEASURED else random.Random(0).sample(rows, _MEASURED)


def _encoded(tokenizer: PreTrainedTokenizerBase, messages: Any, reading: Reading, context: int) -> Turns | str:
    """Encode a conversation, or say why it can't be."""
    try:
        return encode_conversation(tokenizer, messages, reading, context=context)
    except NbtuneError as error:
        return str(error)
