"""Declares the options for reading and training examples, for the magics that take a data set."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from IPython.core.magic_arguments import argument, argument_group

__all__ = ["asking_options", "reading_of", "reading_options"]

_Options = tuple[tuple[str, dict[str, Any]], ...]
_ASKING: _Options = (
    ("--prompt-column", {"metavar": "C", "help": "Column with the questions. Default: detected from the format."}),
    ("--response-column", {"metavar": "C", "help": "Column with the answers."}),
    ("--history-column", {"metavar": "C", "help": "Column with earlier turns, as pairs of question and answer."}),
    ("--system", {"metavar": "TEXT", "help": "A system prompt for examples that have none."}),
    ("--source-prefix", {"metavar": "TEXT", "help": "Put before each question."}),
    (
        "--skip-bad",
        {"action": "store_true", "help": "Skip rows that can't be used. Default: name them and stop."},
    ),
)
_TRAINING: _Options = (
    ("--turns", {"metavar": "T", "help": "Assistant turns to train on: `all` (default) or `last`."}),
    ("--train-on-inputs", {"action": "store_true", "help": "Also train on the user's words."}),
    (
        "--max-source-length",
        {
            "type": int,
            "metavar": "N",
            "help": "Maximum tokens before a reply: the oldest rounds are cut first, then the end of the question.",
        },
    ),
    ("--max-target-length", {"type": int, "metavar": "N", "help": "Maximum tokens in a reply."}),
)


def reading_options(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Declare all options for examples on a magic, in an argument group; options that are declared below join this group."""
    return _declared((*_ASKING, *_TRAINING), magic)


def asking_options(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Declare the options that matter when examples are asked but not trained."""
    return _declared(_ASKING, magic)


def _declared(options: _Options, magic: Callable[..., Any]) -> Callable[..., Any]:
    for name, settings in reversed(options):
        magic = argument(name, **settings)(magic)
    grouped: Callable[..., Any] = argument_group("examples")(magic)
    return grouped


def reading_of(options: Namespace) -> dict[str, Any]:
    """Return the options for examples that were given, by field of `nbtune.data.reading.Reading`."""
    names = [name.removeprefix("--").replace("-", "_") for name, _ in (*_ASKING, *_TRAINING)]
    given = {name: getattr(options, name, None) for name in names}
    return {name: value for name, value in given.items() if value is not None and value is not False}
