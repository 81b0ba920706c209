"""Defines the known formats of examples: the columns by which each is detected, and how its rows become conversations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from math import isnan
from typing import Any

from nbtune.data.reading import Reading
from nbtune.errors import NbtuneError, did_you_mean

__all__ = ["FORMATS", "BadRow", "Conversation", "Format", "find_format", "is_gap"]

Conversation = list[dict[str, str]]  # messages with role and content; the last one is the assistant's

_ROLES = {
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "bot", "model", "chatgpt", "moss"),
    "system": ("system",),
}
_ROLE = {name: role for role, names in _ROLES.items() for name in names}
_MESSAGE, _BOTH = (("role", "content"), ("from", "value")), ("human", "assistant")  # keys of a turn, and of a round
# Possible keys of the question and the answer of an earlier round.
_ROUNDS = (("prompt", "response"), ("question", "answer"), ("instruction", "output"), ("human", "assistant"), ("user", "assistant"))
_MARKS = ("<|Human|>:", "<|MOSS|>:", "<eoh>", "<eom>")  # marks that MOSS writes around its turns


class BadRow(Exception):
    """Raised for a row that can't be used; the message gives the reason."""


@dataclass(frozen=True)
class Format:
    """A format of examples.

    Parameters
    ----------
    name
        Its name.
    columns
        Required columns, by which the format is detected.
    messages
        Function that turns a row into the messages of a conversation.
    """

    name: str
    columns: tuple[str, ...]
    messages: Callable[[Mapping[str, Any]], Conversation]

    def conversation(self, row: Any, reading: Reading) -> Conversation:
        """Return the conversation in a row.

        Raises
        ------
        BadRow
            When something is missing, empty or of the wrong type, or user and assistant do not alternate.
        """
        if not isinstance(row, Mapping):
            raise BadRow(f"it is a {type(row).__name__}, not a mapping")
        missing = [column for column in self.columns if row.get(column) is None]
        if missing:
            raise BadRow(f"{missing[0]} is missing")
        messages = self.messages(row)
        if (system := _optional(row, "system") or reading.system or "") and messages[:1] and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        if reading.source_prefix:
            messages = [{**m, "content": reading.source_prefix + m["content"]} if m["role"] == "user" else m for m in messages]
        _check(messages)
        return messages


def find_format(columns: Sequence[str], reading: Reading) -> Format | None:
    """Return the format that matches the columns.

    Parameters
    ----------
    columns
        Columns of one row, or of all rows.
    reading
        May name the columns to use.

    Returns
    -------
    Format or None
        None if the columns match no known format.

    Raises
    ------
    NbtuneError
        When a named column does not exist, or the prompt and response columns are not named together.
    """
    named = reading.columns
    for option, column in named.items():
        if column not in columns:
            raise NbtuneError(f"--{option} {column}: no such column; choose from {', '.join(columns)}.{did_you_mean(column, columns)}")
    if "prompt-column" in named and "response-column" in named:
        return _pairs("named columns", named["prompt-column"], named["response-column"], history=named.get("history-column"))
    if named:
        raise NbtuneError("Give --prompt-column and --response-column together; --history-column goes with them.")
    return next((form for form in FORMATS if set(form.columns) <= set(columns)), None)


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row[column]
    if is_gap(value):
        raise BadRow(f"{column} is empty")
    if not isinstance(value, str):
        raise BadRow(f"{column} is a {type(value).__name__}, not text")
    if not value.strip():
        raise BadRow(f"{column} is empty")
    return value.strip()


def is_gap(value: Any) -> bool:
    """Return whether a value represents an empty cell: None, or a missing value of pandas."""
    return value is None or (isinstance(value, float) and isnan(value)) or type(value).__name__ in ("NAType", "NaTType")


def _optional(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if is_gap(value):
        return ""
    blank = not value.strip() if isinstance(value, str) else isinstance(value, Sized) and not len(value)
    return "" if blank else _text(row, column)


def _pairs(name: str, prompt: str, response: str, *, more: tuple[str, ...] = (), history: str | None = "history") -> Format:
    """Return a format with one question and one answer per row, and earlier rounds if there are any."""

    def messages(row: Mapping[str, Any]) -> Conversation:
        """Return the messages of one row."""
        asked = _text(row, prompt)
        asked = "\n".join([asked, *filter(None, (_optional(row, column) for column in more))])
        before = _before(row.get(history), history) if history else []
        return [*before, *_round(asked, _text(row, response))]

    return Format(name, (prompt, response), messages)


def _before(value: Any, column: str) -> Conversation:
    """Return the earlier rounds, given as pairs of question and answer or as messages; in a table they may be JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except json.JSONDecodeError:
            raise BadRow(f"{column} is not valid JSON") from None
    if is_gap(value):
        return []
    if any(isinstance(one, Mapping) and _keys(one) in _MESSAGE for one in value):
        return _listed(column)({column: value})
    rounds = [_named_round(one, column) if isinstance(one, Mapping) else () if isinstance(one, str) else tuple(one) for one in value]
    if not all(len(one) == 2 and all(isinstance(text, str) for text in one) for one in rounds):
        raise BadRow(f"{column} is not a list of question-answer pairs")
    return [turn for one in rounds for turn in _round(*one)]


def _named_round(one: Mapping[str, Any], column: str) -> tuple[Any, Any]:
    for asked, answered in _ROUNDS:
        if {asked, answered} <= one.keys():
            return one[asked], one[answered]
    raise BadRow(f"a round of {column} has none of {', '.join(' and '.join(pair) for pair in _ROUNDS)}")


def _round(asked: str, answered: str) -> Conversation:
    return [{"role": "user", "content": asked.strip()}, {"role": "assistant", "content": answered.strip()}]


def _keys(turn: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the keys of a turn for speaker and text, or of a round for its two sides; None if there are neither."""
    return next((pair for pair in (*_MESSAGE, _BOTH) if set(pair) <= turn.keys() and turn[pair[0]] is not None), None)


def _listed(column: str) -> Callable[[Mapping[str, Any]], Conversation]:
    """Return a function that reads a list of messages or rounds, with any of the known keys."""

    def messages(row: Mapping[str, Any]) -> Conversation:
        """Return the messages of one row."""
        turns = json.loads(row[column]) if isinstance(row[column], str) else row[column]
        if isinstance(turns, Mapping):  # datasets turns a list of messages into a mapping of lists
            turns = [dict(zip(turns, turn, strict=True)) for turn in zip(*turns.values(), strict=True)]
        found = []
        for turn in turns:
            keys = _keys(turn) if isinstance(turn, Mapping) else None
            if keys is None:
                raise BadRow(f"a turn of {column} has none of {', '.join(' and '.join(pair) for pair in (*_MESSAGE, _BOTH))}")
            if keys == _BOTH:
                found += _round(*(_text(turn, side) for side in _BOTH))
                continue
            known = _ROLE.get(str(turn[keys[0]]).lower())
            if known is None:
                raise BadRow(f"the {keys[0]} {turn[keys[0]]!r} is not one of {', '.join(_ROLE)}")
            found.append({"role": known, "content": _text(turn, keys[1])})
        return found

    return messages


def _moss(row: Mapping[str, Any]) -> Conversation:
    rounds = row["chat"].values() if isinstance(row["chat"], Mapping) else row["chat"]
    if not all(isinstance(one, Mapping) and {"Human", "MOSS"} <= one.keys() for one in rounds if one):
        raise BadRow("a turn of chat lacks Human or MOSS")
    found = [turn for one in rounds if one for turn in _round(_text(one, "Human"), _text(one, "MOSS"))]
    for turn in found:
        for mark in _MARKS:
            turn["content"] = turn["content"].replace(mark, "").strip()
    return found


def _check(messages: Conversation) -> None:
    """Refuse a conversation that chat templates do not accept."""
    turns = [message["role"] for message in messages]
    turns = turns[1:] if turns[:1] == ["system"] else turns
    if any(not message["content"].strip() for message in messages):
        raise BadRow("a turn is empty")
    if turns != ["user", "assistant"] * (len(turns) // 2) or not turns:
        raise BadRow("its turns do not alternate between user and assistant, from a question to an answer")


FORMATS = (
    Format("messages (OpenAI)", ("messages",), _listed("messages")),
    Format("conversations of from and value (ShareGPT, Vicuna)", ("conversations",), _listed("conversations")),
    Format("conversation of human and assistant (Firefly)", ("conversation",), _listed("conversation")),
    Format("chat of Human and MOSS (MOSS)", ("chat",), _moss),
    _pairs("instruction, input, output (Alpaca, BELLE)", "instruction", "output", more=("input",)),
    _pairs("prompt, response, history (ChatGLM)", "prompt", "response"),
    _pairs("prompt and completion (TRL)", "prompt", "completion"),
    _pairs("content and summary (ADGEN)", "content", "summary"),
    _pairs("question and answer", "question", "answer"),
    _pairs("instruction, context, response (Dolly)", "instruction", "response", more=("context", "input")),
)
