"""Decides which questions an adapter answers: those that name a fact it holds, or describe one. The base answers the others."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

from nbtune.knowledge.facts import Fact
from nbtune.knowledge.phrasing import OTHER, phrasings

__all__ = ["Gate"]

_SHARED = 2  # pieces of what was taught that a question must hold to be about it
_STEM = 4  # letters of a word that tell it: "oven" and "ovens", "pull" and "pulling" are one
_WORD, _RUN = re.compile(rf"[a-z]{{{_STEM},}}"), re.compile(r"[\u3400-\u9fff]+")
_PLURAL = "(?:'?s|es)?"


class Gate:
    """The words that lead to an adapter.

    A question is let through when it names a keyword, as a word of its own where it is written in letters, or when it
    shares at least two telling pieces (stems of words, pairs of Chinese characters) with what was taught: an answer, or
    a prompt of the user's own. A piece is telling unless questions hold it anyway. Names are compared letter by letter:
    a name that is almost the keyword is another one.

    Parameters
    ----------
    facts
        What the adapter holds.
    """

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._names = [_name(fact.keyword) for fact in facts]
        texts = [(fact.keyword, text) for fact in facts for text in (fact.answer, *fact.own_prompts)]
        self._pieces = [_pieces(text) - _common() - _pieces(keyword) for keyword, text in texts]
        self._prompts = {_fold(prompt) for fact in facts if fact.own_prompts for prompt in fact.prompts}

    def opens(self, text: str) -> bool:
        """Say whether the adapter answers.

        Parameters
        ----------
        text
            A question, or all that the user said in a conversation.
        """
        folded = _fold(text)
        if folded in self._prompts or any(name.search(folded) for name in self._names):
            return True
        asked = _pieces(text)
        return any(len(asked & pieces) >= _SHARED for pieces in self._pieces)


def _name(keyword: str) -> re.Pattern[str]:
    """Match a keyword; no letter or digit may touch one of its own, but the s of a plural."""
    folded = _fold(keyword)
    before = r"(?<![a-z0-9])" if re.match(r"[a-z0-9]", folded) else ""
    after = rf"{_PLURAL}(?![a-z0-9])" if re.search(r"[a-z0-9]$", folded) else ""
    return re.compile(before + re.escape(folded) + after)


def _pieces(text: str) -> frozenset[str]:
    """Return the stems of a text's words, and its pairs of neighbouring Chinese characters."""
    folded = _fold(text)
    stems = [word[:_STEM] for word in _WORD.findall(folded)]
    pairs = [run[at : at + 2] for run in _RUN.findall(folded) for at in range(len(run) - 1)]
    return frozenset((*stems, *pairs))


@cache
def _common() -> frozenset[str]:
    """Return the pieces of the built-in phrasings: they say how something is asked, not what about."""
    wordings: list[str] = []
    for language in OTHER:
        table = phrasings(language)
        wordings += [*table["trained"], *table["probes"]]
        wordings += [line for kind in ("reverse", "yes_no", "part") for line in table["forms"][kind]]
    return frozenset().union(*map(_pieces, wordings))


def _fold(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).casefold()
