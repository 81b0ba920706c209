"""Turns a conversation into tokens, so that its next turn tokenizes only what is new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbtune.chat_template import chat_ids, written

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PromptTokens"]


class PromptTokens:
    """The last prompt as text and as tokens, and where it can be cut: before each added token, such as those of a chat template.

    Tokenizers take these out of a text before all else (but those that are looked for in the normalized text, or as whole words
    only), and what lies between two of them is tokenized apart. So what follows a cut, the added token first, has the tokens that
    it has in the whole.
    """

    def __init__(self) -> None:
        self._text = ""
        self._tokens: list[int] = []
        self._cuts: list[tuple[int, int, int]] = []  # of each: characters and tokens before it, and characters with it

    def of(self, tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]]) -> list[int]:
        """Return the tokens of a chat, the opening of the reply included.

        Parameters
        ----------
        tokenizer
            Always the same one. One that can't say where its tokens lie in the text tokenizes all of it.
        chat
            Messages.
        """
        if not tokenizer.is_fast:
            return chat_ids(tokenizer, chat)
        text: str = written(tokenizer, chat, tokenize=False)
        while self._cuts and not text.startswith(self._text[: self._cuts[-1][2]]):
            self._cuts.pop()
        characters, count, _ = self._cuts[-1] if self._cuts else (0, 0, 0)
        new = tokenizer(text[characters:], add_special_tokens=False, return_offsets_mapping=True)
        added = {number for number, token in tokenizer.added_tokens_decoder.items() if not (token.normalized or token.single_word)}
        found = enumerate(zip(new["input_ids"], new["offset_mapping"], strict=True))
        self._cuts += [(characters + begin, count + at, characters + end) for at, (token, (begin, end)) in found if at and token in added]
        self._text, self._tokens = text, [*self._tokens[:count], *new["input_ids"]]
        return self._tokens
