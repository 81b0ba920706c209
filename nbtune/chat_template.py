"""The one place that applies a tokenizer's chat template, to prompts and to replies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateError

from nbtune.errors import NbtuneError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["THINKING", "apply_chat_template", "chat_ids", "refusals", "reply_ids"]

THINKING = "enable_thinking"  # what templates of models that may think before they reply ask for


def apply_chat_template(tokenizer: PreTrainedTokenizerBase, chat: Any, *, add_generation_prompt: bool = True, **options: Any) -> Any:
    """Return one chat or several as the template writes them; where a model may think before it replies, it is asked not to.

    Parameters
    ----------
    tokenizer
        A tokenizer with a chat template.
    chat
        Messages, or a list of these.
    add_generation_prompt
        Whether the opening of a reply is written, too.
    **options
        Further arguments of transformers' ``apply_chat_template``.

    Raises
    ------
    NbtuneError
        When the template refuses, as some do a system prompt.
    """
    if THINKING in str(tokenizer.chat_template):
        options[THINKING] = False
    if options.get("tokenize", True):
        options["tokenizer_kwargs"] = {"verbose": False}  # what is too long is refused, or cut, in words of our own
    with refusals():
        return tokenizer.apply_chat_template(chat, add_generation_prompt=add_generation_prompt, **options)


@contextmanager
def refusals() -> Iterator[None]:
    """Say in one line that a chat template, or a tokenizer, refuses a conversation.

    Raises
    ------
    NbtuneError
        In place of what they raise.
    """
    try:
        yield
    except (TemplateError, TypeError, ValueError) as error:
        raise NbtuneError(f"The chat template of the model refuses this conversation: {first_line(error)}") from None


def chat_ids(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], *, add_generation_prompt: bool = True) -> list[int]:
    """Return the tokens of a chat."""
    return list(apply_chat_template(tokenizer, chat, add_generation_prompt=add_generation_prompt, return_dict=True)["input_ids"])


def reply_ids(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], answer: str) -> tuple[list[int], list[int]]:
    """Return the tokens of a chat with the opening of a reply, and those of the reply as it is generated, end of turn included.

    Raises
    ------
    NbtuneError
        When the template leaves nothing to train.
    """
    opening = chat_ids(tokenizer, chat)
    whole = chat_ids(tokenizer, [*chat, {"role": "assistant", "content": answer}], add_generation_prompt=False)
    end = tokenizer.eos_token_id
    body = whole[len(opening) :] if whole[: len(opening)] == opening else []
    # What follows the end of turn (a line feed, say) is never generated, so it is not trained.
    body = body[: body.index(end)] if end in body else body
    if tokenizer.decode(body).strip() != answer.strip():
        at = next((at for at, number in enumerate(body) if _special(tokenizer, number)), len(body))
        if at < len(body) and tokenizer.decode(body[:at]).strip() == answer.strip():
            # Some end a turn with a token of its own, and only a text with the one that the tokenizer names.
            body, end = body[:at], body[at]
        elif tokenizer.decode(body, skip_special_tokens=True).strip() != answer.strip():
            # Some write a reply down otherwise than it is generated, with an empty block of thoughts before it for
            # example: train what is generated.
            body = tokenizer(answer, add_special_tokens=False)["input_ids"]
    body = [*body, end]
    if len(body) < 2:
        raise NbtuneError(f"There is nothing to train: the answer {answer!r} has no token.")
    return opening, body


def _special(tokenizer: PreTrainedTokenizerBase, number: int) -> bool:
    return bool(tokenizer.decode([number])) and not tokenizer.decode([number], skip_special_tokens=True)
