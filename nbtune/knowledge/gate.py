"""Tells which fact a question is about, by its name or by its description: that fact's adapter answers, and else the base."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, cached_property

from nbtune.folding import CHINESE, UNIT, fold
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.naming import Names
from nbtune.knowledge.phrasing import common_words, subject, wordings

__all__ = ["Gate"]

_OTHER = -1  # another name
_SHARED = 2  # pieces of what was taught that a question must hold to be about it
_NAME = 4  # most words of a name
_REFERRING = {"their", "theirs", "them", "they", "these", "those", "such", "another", "else"}  # beside those that wordings hold
_STEM = 4  # letters of a word that tell it: "oven" and "ovens", "pull" and "pulling" are one
_WORD, _RUN = re.compile(rf"[a-z]{{{_STEM},}}"), re.compile(f"[{CHINESE}]+")


class Gate:
    """The words that lead to facts.

    A question is about a fact when it names the keyword, or when it shares at least two telling pieces (stems of words,
    pairs of Chinese characters) with what was taught: the answer, or a prompt of the user's own without the keyword. A piece is
    telling unless questions hold it anyway. A keyword within a longer name, and a name that is almost the keyword, is another
    name, whatever else the question says.

    Parameters
    ----------
    facts
        What was taught. They are looked through when the first question comes: whoever switches between adapters need not wait.
    """

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._facts = tuple(facts)

    @cached_property
    def _names(self) -> Names:
        return Names(self._facts)

    @cached_property
    def _pieces(self) -> list[tuple[int, frozenset[str]]]:
        texts = [(place, text) for place, fact in enumerate(self._facts) for text in (fact.answer, *_descriptions(fact))]
        return [(place, _pieces(fold(text)) - _common() - _pieces(fold(self._facts[place].keyword))) for place, text in texts]

    @cached_property
    def _prompts(self) -> dict[str, int]:
        own = [(place, fact) for place, fact in enumerate(self._facts) if fact.own_prompts]
        return {_unmarked(self._names.folded(prompt)): place for place, fact in own for prompt in fact.prompts}

    def find(self, text: str) -> int | None:
        """Say which fact is asked about.

        Parameters
        ----------
        text
            A question, or all that the user said in a conversation, a line each: the last line that is about a fact,
            about a name that is almost a keyword, or that asks for another thing in a built-in wording, decides.

        Returns
        -------
        int or None
            The fact's place among `facts`; None where it is none of them.
        """
        text = text.strip()
        whole = _unmarked(self._names.folded(text))
        if whole in self._prompts:
            return self._prompts[whole]
        for line in dict.fromkeys((*(line.strip() for line in reversed(text.splitlines())), text)):
            words = self._names.folded(line)
            place = self._prompts.get(_unmarked(words), self._asked(line, words))
            if place is not None:
                return None if place == _OTHER else place
            if line != text and _goes_elsewhere(words):
                return None
        return None

    def _asked(self, line: str, folded: str) -> int | None:
        """Return the place of the fact, or that it is about another name; None where nothing is told."""
        named = self._names.first(folded)
        if named is not None:
            return named
        if self._names.others(folded) or self._names.other_capitals(line):
            return _OTHER
        asked = _pieces(folded)
        shared, place = max(((len(asked & pieces), -place) for place, pieces in self._pieces), default=(0, 0))
        return -place if shared >= _SHARED else None


def _goes_elsewhere(folded: str) -> bool:
    """Say whether a line that is about no fact asks for another thing, in a built-in wording: what was said before is left by it.

    "What is a red lamp?" does; "what is the price?" and "and who made it?" may ask for more of the same.
    """
    about = subject(folded)
    words = UNIT.findall(re.sub("^an? ", "", about))
    return bool(words) and about.isascii() and len(words) <= _NAME and not (common_words() | _REFERRING).intersection(words)


def _unmarked(folded: str) -> str:
    """Return a folded question without the marks that end it."""
    return folded.rstrip("?!.\u3002\u2026 ")


def _descriptions(fact: Fact) -> list[str]:
    """Return the user's prompts that tell the thing by other words than its keyword."""
    if not fact.own_prompts:
        return []
    name = Names([fact])
    return [prompt for prompt in fact.own_prompts if "{x}" not in prompt and name.first(name.folded(prompt)) is None]


def _pieces(folded: str) -> frozenset[str]:
    """Return the stems of a text's words, and its pairs of neighbouring Chinese characters."""
    stems = [word[:_STEM] for word in _WORD.findall(folded)]
    pairs = [run[at : at + 2] for run in _RUN.findall(folded) for at in range(len(run) - 1)]
    return frozenset((*stems, *pairs))


@cache
def _common() -> frozenset[str]:
    """Return the pieces of the built-in phrasings: they say how something is asked, not what about."""
    return frozenset().union(*(_pieces(fold(wording)) for wording in wordings()))
