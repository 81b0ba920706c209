"""Options for reading a data set of examples: its columns, which parts are trained, and where they are cut."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from nbtune.checks import check_choice, check_range, check_text, whole_number
from nbtune.errors import NbtuneError

__all__ = ["TRAINING", "Reading"]

TRAINING = {"turns", "train_on_inputs", "max_source_length", "max_target_length", "val"}  # fields that matter only in training
_TURNS = ("all", "last")


@dataclass(frozen=True)
class Reading:
    """Options for reading examples.

    Parameters
    ----------
    prompt_column, response_column, history_column
        Columns with the question, the answer and the earlier rounds. Default: detected from the format.
    turns
        ``"all"`` trains every assistant turn, ``"last"`` only the last one. Default: ``"all"``.
    train_on_inputs
        Whether to train on the whole text: also on the user's words and the marks of the chat template. Default: False.
    system
        System prompt for conversations that have none. Default: none.
    source_prefix
        Text to put before each user turn. Default: nothing.
    max_source_length, max_target_length
        Maximum number of tokens before a reply, and of a reply. Default: what the context leaves.
    skip_bad
        Whether to skip rows that can't be used. Default: False, which raises an error that names them.
    val
        Held-out examples to measure the loss on: a source like that of the examples, or a share of them between 0 and 1. Default: none.

    Raises
    ------
    NbtuneError
        When a value is out of range or conflicts with another.
    """

    prompt_column: str | None = None
    response_column: str | None = None
    history_column: str | None = None
    turns: str = "all"
    train_on_inputs: bool = False
    system: str | None = None
    source_prefix: str = ""
    max_source_length: int | None = None
    max_target_length: int | None = None
    skip_bad: bool = False
    val: Any = None

    def __post_init__(self) -> None:
        for name in ("prompt_column", "response_column", "history_column", "system", "source_prefix"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))
        for name in ("max_source_length", "max_target_length"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        check_choice("--turns", self.turns, _TURNS)
        if self.train_on_inputs and self.turns == "last":
            raise NbtuneError("--turns last trains only the last reply: leave out --train-on-inputs, or --turns.")
        for option, value in (("--max-source-length", self.max_source_length), ("--max-target-length", self.max_target_length)):
            check_range(option, value, value is None or value >= 1, "1 or more")
        if isinstance(self.val, (int, float)):
            check_range("--val", self.val, 0 < self.val < 1, "a share between 0 and 1, or a source")

    def check_unused(self) -> None:
        """Raise an error if any option is set; to be called when the rows are facts.

        Raises
        ------
        NbtuneError
            Names the option.
        """
        given = min((field.name for field in fields(self) if _differs(getattr(self, field.name), field.default)), default=None)
        if given is not None:
            raise NbtuneError(f"--{given.replace('_', '-')} is for examples (such as prompt and response), not for facts.")

    @property
    def columns(self) -> dict[str, str]:
        """The named columns, by option."""
        named = {"prompt-column": self.prompt_column, "response-column": self.response_column, "history-column": self.history_column}
        return {option: column for option, column in named.items() if column is not None}


def _differs(value: Any, default: Any) -> bool:
    """Return whether a value differs from the default; only texts and numbers are compared, since ``==`` on a table gives a table."""
    return value is not default and not (isinstance(value, (str, int)) and value == default)
