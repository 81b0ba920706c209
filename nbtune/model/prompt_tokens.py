"""Tokenizes conversations in such a way that the next turn tokenizes only what is new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbtune.chat_template import apply_chat_template, chat_ids, refusals

if TYPE_CHECKING:
    from transformers import AddedToken, PreTrainedTokenizerBase

__all__ = ["PromptTokens"]


@dataclass(frozen=True)
class _Known:
    """A prompt as text and as tokens, with the places where it can be cut: before each of its added tokens.

    A cut is a tuple: the number of characters before the added token, of tokens before it, and of characters up to its end.
    """

    text: str
    tokens: list[int]
    cuts: tuple[tuple[int, int, int], ...]

    def cut_for(self, text: str) -> tuple[int, int, int]:
        """Return the last cut for which another text is equal up to the end of the added token; zeros if there is none."""
        return next((cut for cut in reversed(self.cuts) if text.startswith(self.text[: cut[2]])), (0, 0, 0))


class PromptTokens:
    """Tokenizer of prompts that reuses the tokens of the last prompt, up to a place where it can be cut.

    It can be cut before each added token, such as those of a chat template. Tokenizers find added tokens before anything else (except
    those that are matched in the normalized text, or as whole words only), and tokenize the text between two of them separately.
    Text that begins with an added token therefore has the same tokens alone and as part of the prompt.
    """

    def __init__(self) -> None:
        self._known = _Known("", [], ())

    def tokenize(self, tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]]) -> list[int]:
        """Return the tokens of a chat, including the opening of the reply.

        Parameters
        ----------
        tokenizer
            The tokenizer, the same one in every call. If it can't tell where its tokens are in the text, nothing is reused.
        chat
            The messages.

        Raises
        ------
        NbtuneError
            When the template or the tokenizer refuses.
        """
        if not getattr(tokenizer, "is_fast", False):
            return chat_ids(tokenizer, chat)
        known, text = self._known, apply_chat_template(tokenizer, chat, tokenize=False)
        characters, count, _ = cut = known.cut_for(text)
        with refusals():
            new = tokenizer(text[characters:], add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        added = tokenizer.added_tokens_decoder
        cuts = [*known.cuts[: known.cuts.index(cut) + 1]] if cut in known.cuts else []
        for at, (token, (begin, end)) in enumerate(zip(new["input_ids"], new["offset_mapping"], strict=True)):
            begin, end = characters + begin, characters + end
            if at and token in added and _can_be_cut(added[token], text[begin:end]):
                cuts.append((begin, count + at, end))
        self._known = _Known(text, [*known.tokens[:count], *new["input_ids"]], tuple(cuts))  # one step: Ctrl-C leaves the old or the new
        return self._known.tokens


def _can_be_cut(token: AddedToken, text: str) -> bool:
    """Return whether a prompt can be cut before an added token, given the text at its place.

    The text must hold the token itself: an unknown character, or a piece of a word, may be read as the same token.
    """
    return token.content in text and not (token.normalized or token.single_word)
