"""Encodes conversations for training: marks all assistant turns as trained, or only the last, and cuts what is too long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from nbtune.chat_template import chat_ids, reply_ids
from nbtune.data.encoding import IGNORED, Encoded
from nbtune.data.formats import Conversation
from nbtune.data.reading import Reading
from nbtune.errors import NbtuneError

__all__ = ["Turns", "encode_conversation"]

_HALF = "\ufffd"  # decoded from an incomplete character, whose other tokens are missing


@dataclass(frozen=True)
class Turns:
    """The training examples of one conversation, a single one if its turns can be trained together; and whether anything was cut."""

    examples: list[Encoded]
    cut: bool


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Conversation, reading: Reading, *, context: int, one_example_per_turn: bool = False
) -> Turns:
    """Encode a conversation.

    Parameters
    ----------
    tokenizer
        A tokenizer with a chat template.
    messages
        The conversation, which ends with a reply.
    reading
        Which turns are trained, and their maximum length. If a reply with the messages before it is too long, the oldest rounds are
        left out first; then the end of the reply is cut, to half of the context at least; then the end of the question.
    context
        Maximum number of tokens of an example.
    one_example_per_turn
        Whether each turn must be an example of its own, as for a model with an encoder, which gives a single reply to its input.
        Default: False.

    Returns
    -------
    Turns
        The examples, and whether anything was cut.

    Raises
    ------
    NbtuneError
        When a question does not fit even after all cuts.
    """
    replies = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    if reading.turns == "all" and len(replies) > 1 and not one_example_per_turn:
        together = _together(tokenizer, messages, replies, reading, context)
        if together is not None:
            return Turns([_with_inputs(together, reading)], cut=False)
    chosen = replies if reading.turns == "all" else replies[-1:]
    encoded, cuts = zip(*(_reply(tokenizer, messages[:at], messages[at]["content"], reading, context) for at in chosen), strict=True)
    # Without cuts the last example contains all of the user's words: only its inputs are trained, so that each word is trained once.
    reads_all = 0 if any(cuts) else len(encoded) - 1
    return Turns([*encoded[:reads_all], *(_with_inputs(one, reading) for one in encoded[reads_all:])], any(cuts))


def _together(
    tokenizer: PreTrainedTokenizerBase, messages: Conversation, replies: list[int], reading: Reading, context: int
) -> Encoded | None:
    """Encode all turns as one example; None if the template writes older turns differently, or the example is too long."""
    tokens: list[int] = []
    labels: list[int] = []
    for at in replies:
        opening, body = reply_ids(tokenizer, messages[:at], messages[at]["content"])
        long = len(opening) > (reading.max_source_length or context) or len(body) > (reading.max_target_length or context)
        if opening[: len(tokens)] != tokens or long or len(opening) + len(body) > context:
            return None
        labels += [IGNORED] * (len(opening) - len(tokens)) + body
        tokens = opening + body
    return Encoded(tokens, labels)


def _reply(tokenizer: PreTrainedTokenizerBase, before: Conversation, reply: str, reading: Reading, context: int) -> tuple[Encoded, bool]:
    """Return one reply encoded with the messages before it, and whether anything was cut."""
    opening, whole = reply_ids(tokenizer, before, reply)
    source, left = reading.max_source_length or context, before
    body = whole[: reading.max_target_length or context]
    while len(opening) > min(source, context - len(body)) and (fewer := _without_oldest(left)):
        left, opening = fewer, chat_ids(tokenizer, fewer)
    body = body[: max(context // 2, context - min(source, len(opening)))]
    while len(opening) > (room := min(source, context - len(body))):
        limited = reading.max_source_length is not None and room == source
        left = _shortened(tokenizer, left, len(opening) - room, "raise --max-source-length, or " if limited else "")
        opening = chat_ids(tokenizer, left)
    return Encoded(opening + body, [IGNORED] * len(opening) + body), left is not before or len(body) < len(whole)


def _without_oldest(before: Conversation) -> Conversation:
    """Return the messages without the oldest round; an empty list if only the question is left."""
    first = 1 if before[0]["role"] == "system" else 0
    return [*before[:first], *before[first + 2 :]] if len(before) > first + 2 else []


def _shortened(tokenizer: PreTrainedTokenizerBase, before: Conversation, excess: int, way_out: str) -> Conversation:
    """Return the messages with that many tokens cut from the end of the question."""
    words: Any = tokenizer(before[-1]["content"], add_special_tokens=False)["input_ids"]
    left = tokenizer.decode(words[:-excess]).rstrip(_HALF)  # whole characters only, so that the text gets shorter each time
    if not left.strip():
        raise NbtuneError(f"a question does not fit: {way_out}shorten the system prompt")
    return [*before[:-1], {"role": "user", "content": left}]


def _with_inputs(example: Encoded, reading: Reading) -> Encoded:
    if not reading.train_on_inputs:
        return example
    return Encoded(example.input_ids, [IGNORED, *example.input_ids[1:]])  # nothing predicts the first token
