"""Applies a tokenizer's chat template to prompts and to replies; no other module does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateError

from nbtune.errors import NbtuneError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["THINKING", "apply_chat_template", "chat_ids", "refusals", "reply_ids"]

THINKING = "enable_thinking"  # argument of templates for models that may think before they reply


def apply_chat_template(tokenizer: PreTrainedTokenizerBase, chat: Any, *, add_generation_prompt: bool = True, **options: Any) -> Any:
    """Return one or several chats as the template writes them; a model that may think before it replies is told not to.

    Parameters
    ----------
    tokenizer
        A tokenizer with a chat template.
    chat
        The messages of one chat, or a list of chats.
    add_generation_prompt
        Whether to add the opening of a reply. Default: True.
    **options
        Further arguments of transformers' ``apply_chat_template``.

    Returns
    -------
    Any
        What transformers returns for these options: token ids, text or tensors.

    Raises
    ------
    NbtuneError
        When the template refuses the chat, as some refuse a system prompt.
    """
    if THINKING in str(tokenizer.chat_template):
        options[THINKING] = False
    if options.get("tokenize", True):
        options["tokenizer_kwargs"] = {"verbose": False}  # no warning about long input: we refuse or cut it ourselves
    with refusals():
        return tokenizer.apply_chat_template(chat, add_generation_prompt=add_generation_prompt, **options)


@contextmanager
def refusals() -> Iterator[None]:
    """Report in one line that a chat template or a tokenizer refuses a conversation inside the block.

    Raises
    ------
    NbtuneError
        In place of the error of the template or tokenizer.
    """
    try:
        yield
    except (TemplateError, TypeError, ValueError) as error:
        raise NbtuneError(f"The model's chat template rejects this conversation: {first_line(error)}") from None


def chat_ids(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], *, add_generation_prompt: bool = True) -> list[int]:
    """Return the token ids of a chat."""
    return list(apply_chat_template(tokenizer, chat, add_generation_prompt=add_generation_prompt, return_dict=True)["input_ids"])


def reply_ids(tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]], answer: str) -> tuple[list[int], list[int]]:
    """Return the token ids of a chat up to the opening of a reply, and those of the reply as it is generated, end of turn included.

    Raises
    ------
    NbtuneError
        When the template leaves nothing to train.
    """
    opening = chat_ids(tokenizer, chat)
    whole = chat_ids(tokenizer, [*chat, {"role": "assistant", "content": answer}], add_generation_prompt=False)
    end = tokenizer.eos_token_id
    body = whole[len(opening) :] if whole[: len(opening)] == opening else []
    # Tokens after the end of turn, such as a line feed, are never generated, so they are not trained.
    body = body[: body.index(end)] if end in body else body
    if tokenizer.decode(body).strip() != answer.strip():
        at = next((at for at, number in enumerate(body) if _special(tokenizer, number)), len(body))
        if at < len(body) and tokenizer.decode(body[:at]).strip() == answer.strip():
            # Some templates end a turn with another special token than the tokenizer's end-of-text token.
            body, end = body[:at], body[at]
        elif tokenizer.decode(body, skip_special_tokens=True).strip() != answer.strip():
            # Some templates write a reply differently from how it is generated, for example after an empty thinking block:
            # train what is generated.
            body = tokenizer(answer, add_special_tokens=False)["input_ids"]
    body = [*body, end]
    if len(body) < 2:
        raise NbtuneError(f"There is nothing to train: the answer {answer!r} has no tokens.")
    return opening, body


def _special(tokenizer: PreTrainedTokenizerBase, number: int) -> bool:
    return bool(tokenizer.decode([number])) and not tokenizer.decode([number], skip_special_tokens=True)
