"""Turns a conversation into tokens, so that its next turn tokenizes only what is new."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nbtune.chat_template import apply_chat_template, chat_ids, refusals

if TYPE_CHECKING:
    from transformers import AddedToken, PreTrainedTokenizerBase

__all__ = ["PromptTokens"]


@dataclass(frozen=True)
class _Known:
    """A prompt as text and as tokens; `cuts` are, of each added token, the characters and tokens before it, and the characters with it."""

    text: str
    tokens: list[int]
    cuts: tuple[tuple[int, int, int], ...]

    def cut_for(self, text: str) -> tuple[int, int, int]:
        """Return the last cut before which, and whose added token, another text is the same."""
        return next((cut for cut in reversed(self.cuts) if text.startswith(self.text[: cut[2]])), (0, 0, 0))


class PromptTokens:
    """The last prompt as text and as tokens, and where it can be cut: before each added token, such as those of a chat template.

    Tokenizers take these out of a text before all else (but those that are looked for in the normalized text, or as whole words
    only), and what lies between two of them is tokenized apart. So what follows a cut, the added token first, has the tokens that
    it has in the whole.
    """

    def __init__(self) -> None:
        self._known = _Known("", [], ())

    def of(self, tokenizer: PreTrainedTokenizerBase, chat: list[dict[str, str]]) -> list[int]:
        """Return the tokens of a chat, the opening of the reply included.

        Parameters
        ----------
        tokenizer
            Always the same one. One that can't say where its tokens lie in the text tokenizes all of it.
        chat
            Messages.

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
        self._known = _Known(text, [*known.tokens[:count], *new["input_ids"]], tuple(cuts))  # at once: Ctrl-C leaves the one or the other
        return self._known.tokens


def _can_be_cut(token: AddedToken, text: str) -> bool:
    """Say whether a text can be cut before an added token, which an unknown character, or a piece of a word, may be read as, too."""
    return token.content in text and not (token.normalized or token.single_word)
