"""Decides which fact, if any, a question is about: the adapter of that fact answers it, or else the base."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, cached_property

from nbtune.folding import CHINESE, UNIT, fold, unmarked
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.naming import Names
from nbtune.knowledge.phrasing import asked_about, common_words, wordings

__all__ = ["Gate"]

_OTHER = -1  # the question is about another name
_SHARED = 2  # telling pieces that a question must share with what was taught about a fact
_NAME = 4  # maximum words of a name
_REFERRING = {"their", "theirs", "them", "they", "these", "those", "such", "another", "else"}  # added to the words of built-in wordings
_STEM = 4  # letters in the stem of a word, so that "oven" and "ovens", "pull" and "pulling" match
_WORD, _RUN = re.compile(rf"[a-z]{{{_STEM},}}"), re.compile(f"[{CHINESE}]+")


class Gate:
    """Assigns questions to facts.

    A question is about a fact if it names the keyword, or if it shares at least two telling pieces (word stems or pairs of
    Chinese characters) with the answer, or with one of the user's own prompts that does not name the keyword. A piece is telling
    unless it is part of the keyword or of the built-in wordings. A longer name that contains the keyword, or a name similar to
    the keyword, is another name, whatever else the question says.

    Parameters
    ----------
    facts
        The facts that were taught. They are analyzed at the first question, so that switching adapters stays fast.
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
        return {unmarked(self._names.folded(prompt)): place for place, fact in own for prompt in fact.prompts}

    def find(self, text: str) -> int | None:
        """Return the index of the fact that a question is about.

        Parameters
        ----------
        text
            A question, or everything the user said in a conversation. Lines are checked from last to first until one is about
            a fact, is about a name similar to a keyword, or asks for another thing in a built-in wording; that line decides.

        Returns
        -------
        int or None
            The index among `facts`; None if the question is about none of them.
        """
        text = text.strip()
        whole = unmarked(self._names.folded(text))
        if whole in self._prompts:
            return self._prompts[whole]
        for line in dict.fromkeys((*(line.strip() for line in reversed(text.splitlines())), text)):
            words = self._names.folded(line)
            place = self._prompts.get(unmarked(words), self._asked(line, words))
            if place is not None:
                return None if place == _OTHER else place
            if line != text and _goes_elsewhere(line):
                return None
        return None

    def _asked(self, line: str, folded: str) -> int | None:
        """Return the index of the fact that a line is about, `_OTHER` for another name, or None if the line does not say."""
        named = self._names.first(folded)
        if named is not None:
            return named
        if self._names.has_similar_name(folded) or self._names.has_similar_capitals(line):
            return _OTHER
        asked = _pieces(folded)
        shared, place = max(((len(asked & pieces), -place) for place, pieces in self._pieces), default=(0, 0))
        return -place if shared >= _SHARED else None


def _goes_elsewhere(line: str) -> bool:
    """Return whether a line about no fact asks for another thing in a built-in wording, and so ends the earlier topic.

    "What is a red lamp?" does; "what is the price?" and "and who made it?" may continue the topic.
    """
    about = fold(asked_about(line))
    words = UNIT.findall(re.sub("^an? ", "", about))
    return bool(words) and about.isascii() and len(words) <= _NAME and not (common_words() | _REFERRING).intersection(words)


def _descriptions(fact: Fact) -> list[str]:
    """Return the user's own prompts that describe the thing without naming its keyword."""
    if not fact.own_prompts:
        return []
    name = Names([fact])
    return [prompt for prompt in fact.own_prompts if "{x}" not in prompt and name.first(name.folded(prompt)) is None]


def _pieces(folded: str) -> frozenset[str]:
    """Return the word stems of a text and its pairs of neighbouring Chinese characters."""
    stems = [word[:_STEM] for word in _WORD.findall(folded)]
    pairs = [run[at : at + 2] for run in _RUN.findall(folded) for at in range(len(run) - 1)]
    return frozenset((*stems, *pairs))


@cache
def _common() -> frozenset[str]:
    """Return the pieces of the built-in wordings, which show how something is asked, not what it is about."""
    return frozenset().union(*(_pieces(fold(wording)) for wording in wordings()))
