"""Tells which fact a question is about, by its name or by its description: that fact's adapter answers, and else the base."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache

from nbtune.knowledge.facts import Fact
from nbtune.knowledge.phrasing import OTHER, phrasings

__all__ = ["Gate"]

_OTHER = -1  # another name
_SHARED = 2  # pieces of what was taught that a question must hold to be about it
_STEM = 4  # letters of a word that tell it: "oven" and "ovens", "pull" and "pulling" are one
_CHINESE = r"\u3400-\u9fff"
_WORD, _RUN, _UNIT = re.compile(rf"[a-z]{{{_STEM},}}"), re.compile(f"[{_CHINESE}]+"), re.compile(f"[a-z0-9]+|[{_CHINESE}]")
_PLURAL = "(?:'?s|es)?"
# Similarity from which on two names may be taken for one another (two characters of three), and letters of a name that can be.
_ALIKE_LETTERS, _ALIKE_CHARACTERS, _SHORTEST_ALIKE = 0.72, 0.66, 3


class Gate:
    """The words that lead to facts.

    A question is about a fact when it names the keyword, or when it shares at least two telling pieces (stems of words,
    pairs of Chinese characters) with what was taught: the answer, or a prompt of the user's own. A piece is telling
    unless questions hold it anyway. Names are compared letter by letter: a keyword within a longer name, and a name that
    is almost the keyword, is another name, whatever else the question says. Where a name begins and ends is told by what
    stands beside it: in letters a space or a mark; in Chinese one of the characters that stand beside names in questions.

    Parameters
    ----------
    facts
        What was taught.
    """

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._names = [_Name(fact.keyword, fact.answer) for fact in facts]
        texts = [(place, text) for place, fact in enumerate(facts) for text in (fact.answer, *fact.own_prompts)]
        self._pieces = [(place, _pieces(text) - _common() - _pieces(facts[place].keyword)) for place, text in texts]
        self._prompts = {_fold(prompt): place for place, fact in enumerate(facts) if fact.own_prompts for prompt in fact.prompts}

    def find(self, text: str) -> int | None:
        """Say which fact is asked about.

        Parameters
        ----------
        text
            A question, or all that the user said in a conversation, a line each: the last line that is about a fact, or
            about a name that is almost a keyword, decides.

        Returns
        -------
        int or None
            The fact's place among `facts`; None where it is none of them.
        """
        whole = _fold(text)
        if whole in self._prompts:
            return self._prompts[whole]
        for words in (*reversed(text.splitlines()), whole):
            place = self._asked(_fold(words))
            if place is not None:
                return None if place == _OTHER else place
        return None

    def _asked(self, folded: str) -> int | None:
        """Return the place of the fact, or that it is about another name; None where nothing is told."""
        named = [(*span, place) for place, name in enumerate(self._names) if (span := name.named_in(folded))]
        if named:  # the first name in it; of two that begin there the longer one
            return min(named, key=lambda found: (found[0], -found[1]))[2]
        if any(name.resembled_in(folded) for name in self._names):
            return _OTHER
        asked = _pieces(folded)
        shared, place = max(((len(asked & pieces), -place) for place, pieces in self._pieces), default=(0, 0))
        return -place if shared >= _SHARED else None


class _Name:
    """A keyword, to be told from longer names and from similar ones; what it is described with is no name."""

    def __init__(self, keyword: str, answer: str) -> None:
        self._folded = _fold(keyword)
        self._units, self._described = _UNIT.findall(self._folded), frozenset(_UNIT.findall(_fold(answer)))
        self._within = re.compile(_edge(self._folded[0], "before") + re.escape(self._folded) + _edge(self._folded[-1], "behind"))

    def named_in(self, folded: str) -> tuple[int, int] | None:
        """Return where a text names it first: from which letter to which."""
        found = self._within.search(folded)
        return found.span() if found else None

    def resembled_in(self, folded: str) -> bool:
        """Say whether a text, which does not name it, holds a name that is almost it."""
        if self._folded in folded:
            return True
        if len(self._folded) < _SHORTEST_ALIKE:
            return False
        units, size = _UNIT.findall(folded), len(self._units)
        joint = " " if self._folded.isascii() else ""
        windows = [units[at : at + width] for width in {size, max(1, size - 1)} for at in range(len(units) - width + 1)]
        return any(_alike(joint.join(window), self._folded) or self._shared_by(window) for window in windows)

    def _shared_by(self, window: list[str]) -> bool:
        """Say whether some words are the keyword's with one word of it in its place, and the others are from nowhere."""
        if len(self._units) != len(window) or not self._folded.isascii():
            return False
        same = [one == other for one, other in zip(window, self._units, strict=True)]
        strange = [word for word, is_same in zip(window, same, strict=True) if not is_same]
        kept = [word for word, is_same in zip(window, same, strict=True) if is_same and len(word) >= _STEM]
        return bool(kept) and not any(word in self._described or word in _words() for word in strange)


def _edge(letter: str, side: str) -> str:
    """Return what must stand beside the first or the last letter of a name, for the name to begin or end there."""
    joined = "a-z0-9" if re.match(r"[a-z0-9]", letter) else ""
    beside = re.escape(phrasings("zh")["beside"][side])
    # No Chinese character but those that stand beside names, and no letter beside a letter.
    if side == "before":
        return rf"(?:(?<![{joined}{_CHINESE}])|(?<=[{beside}]))"
    plural = _PLURAL if joined else ""
    return rf"{plural}(?:(?![{joined}{_CHINESE}])|(?=[{beside}]))"


def _alike(one: str, other: str) -> bool:
    least = _ALIKE_LETTERS if other.isascii() else _ALIKE_CHARACTERS
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return matcher.quick_ratio() >= least and matcher.ratio() >= least


def _pieces(text: str) -> frozenset[str]:
    """Return the stems of a text's words, and its pairs of neighbouring Chinese characters."""
    folded = _fold(text)
    stems = [word[:_STEM] for word in _WORD.findall(folded)]
    pairs = [run[at : at + 2] for run in _RUN.findall(folded) for at in range(len(run) - 1)]
    return frozenset((*stems, *pairs))


@cache
def _common() -> frozenset[str]:
    """Return the pieces of the built-in phrasings: they say how something is asked, not what about."""
    return frozenset().union(*map(_pieces, _wordings()))


@cache
def _words() -> frozenset[str]:
    """Return the words of the built-in phrasings."""
    return frozenset(unit for wording in _wordings() for unit in _UNIT.findall(_fold(wording)))


def _wordings() -> list[str]:
    wordings: list[str] = []
    for language in OTHER:
        table = phrasings(language)
        wordings += [*table["trained"], *table["probes"]]
        wordings += [line for kind in ("reverse", "yes_no", "part") for line in table["forms"][kind]]
    return wordings


def _fold(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).casefold()
