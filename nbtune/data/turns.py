"""Encodes conversations: every turn of the assistant's is trained, or the last one, and what is too long is cut."""

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

_HALF = "\ufffd"  # what the first tokens of a character of several are decoded to


@dataclass(frozen=True)
class Turns:
    """A conversation as examples to train: one where its turns can be trained together; and whether something was cut."""

    examples: list[Encoded]
    cut: bool


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Conversation, reading: Reading, *, context: int, apart: bool = False
) -> Turns:
    """Encode a conversation.

    Parameters
    ----------
    tokenizer
        A tokenizer with a chat template.
    messages
        From a question to an answer.
    reading
        Which turns are trained, and how long they may be. Of what is too long the oldest rounds are left out first, then
        the end of the question, and the end of the reply.
    context
        Most tokens that the model was built for.
    apart
        Whether each turn must be an example of its own, because the model replies once to what it has read. Default: no.

    Raises
    ------
    NbtuneError
        When a question has no room even after all cuts.
    """
    replies = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    limited = reading.max_source_length is not None or reading.max_target_length is not None
    if reading.turns == "all" and len(replies) > 1 and not limited and not apart:
        together = _together(tokenizer, messages, replies, context)
        if together is not None:
            return Turns([_with_inputs(together, reading)], cut=False)
    chosen = replies if reading.turns == "all" else replies[-1:]
    encoded, cuts = zip(*(_reply(tokenizer, messages[:at], messages[at]["content"], reading, context) for at in chosen), strict=True)
    reads_all = 0 if any(cuts) else len(encoded) - 1  # the last one does, where nothing was left out: the user's words are trained once
    return Turns([*encoded[:reads_all], *(_with_inputs(one, reading) for one in encoded[reads_all:])], any(cuts))


def _together(tokenizer: PreTrainedTokenizerBase, messages: Conversation, replies: list[int], context: int) -> Encoded | None:
    """Encode all turns at once; None where the template writes an old turn otherwise than when it was said, or it is too long."""
    tokens: list[int] = []
    labels: list[int] = []
    for at in replies:
        opening, body = reply_ids(tokenizer, messages[:at], messages[at]["content"])
        if opening[: len(tokens)] != tokens or len(opening) + len(body) > context:
            return None
        labels += [IGNORED] * (len(opening) - len(tokens)) + body
        tokens = opening + body
    return Encoded(tokens, labels)


def _reply(tokenizer: PreTrainedTokenizerBase, before: Conversation, reply: str, reading: Reading, context: int) -> tuple[Encoded, bool]:
    """Encode one reply with what was said before; the flag says whether something was cut."""
    opening, whole = reply_ids(tokenizer, before, reply)
    source, left = reading.max_source_length or context, before
    body = whole[: reading.max_target_length or context]
    while len(opening) > min(source, context - len(body)) and (fewer := _without_oldest(left)):
        left, opening = fewer, chat_ids(tokenizer, fewer)
    body = body[: max(context // 2, context - min(source, len(opening)))]
    while len(opening) > (room := min(source, context - len(body))):
        left = _shortened(tokenizer, left, len(opening) - room)
        opening = chat_ids(tokenizer, left)
    return Encoded(opening + body, [IGNORED] * len(opening) + body), left is not before or len(body) < len(whole)


def _without_oldest(before: Conversation) -> Conversation:
    """Leave out the oldest round; nothing is returned where there is only the question."""
    first = 1 if before[0]["role"] == "system" else 0
    return [*before[:first], *before[first + 2 :]] if len(before) > first + 2 else []


def _shortened(tokenizer: PreTrainedTokenizerBase, before: Conversation, excess: int) -> Conversation:
    """Leave out the end of the question."""
    words: Any = tokenizer(before[-1]["content"], add_special_tokens=False)["input_ids"]
    left = tokenizer.decode(words[:-excess]).rstrip(_HALF)  # whole characters alone, so that it gets shorter each time
    if not left.strip():
        raise NbtuneError("a question has no room: raise --max-source-length, or shorten the system prompt")
    return [*before[:-1], {"role": "user", "content": left}]


def _with_inputs(example: Encoded, reading: Reading) -> Encoded:
    if not reading.train_on_inputs:
        return example
    return Encoded(example.input_ids, [IGNORED, *example.input_ids[1:]])  # nothing stands before the first token
