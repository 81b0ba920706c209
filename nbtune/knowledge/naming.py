"""Tells the names of facts in a text from longer names, and from names that are almost theirs."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache

from rapidfuzz import process
from rapidfuzz.distance import Indel

from nbtune.folding import CHINESE, LATIN, UNIT, bare, fold
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.phrasing import common_words, phrasings

__all__ = ["Names", "holds_name"]

_INFLECTED = r"\u0370-\u03ff\u0400-\u052f\u0531-\u0587\u10d0-\u10ff\u1f00-\u1fff"  # Greek, Cyrillic, Armenian and Georgian
_ENDING = 3  # letters that a case may put behind a name in these: \u0420\u0438\u043c, \u0432 \u0420\u0438\u043c\u0435
_PLURAL = "(?:'?s|es)?"
_CAPITALS = re.compile(r"\b\w*[A-Z]\w*[A-Z]\w*\b")  # two of them, at least
# What makes of GPT-4 a GPT-4.5, of C a C++, of Node a Node.js, of fit a fit_transform or a load_fit, of 42 a 3.42 or a 42,000.
_LONGER = rf"(?![+#]|\.[{LATIN}]|-[0-9]|_[{LATIN}]|(?<=[0-9]),[0-9])"
_LONGER_BEFORE = rf"(?<![{LATIN}]_)(?!(?<=[0-9][.,])[0-9])"
# Similarity from which on two names may be taken for one another (two characters of three), and the shortest names that can be: of
# fewer letters one is like many words by chance, as "ion" is like "in".
_ALIKE_LETTERS, _ALIKE_CHARACTERS, _SHORTEST_LETTERS, _SHORTEST_CHARACTERS = 0.72, 0.66, 4, 3
_SHARED_WORD = 4  # letters of a word that two names may share by more than chance
_WITHIN_LETTERS, _WITHIN_CHARACTERS = 4, 2  # a shorter name stands within many words, as "ion" does in "question"


def _without_words(text: str, capitals: re.Pattern[str] | None) -> str:
    """Return a text folded, and without the words that are only spelled like a name in capitals: of "Is it IT?" the first "it"."""
    text = unicodedata.normalize("NFKC", text)
    return fold(capitals.sub(lambda word: word[0] if word["name"].isupper() else "\u00b7", text) if capitals else text)


def _in_capitals(keywords: Sequence[str]) -> re.Pattern[str] | None:
    """Return a pattern of those keywords in capitals that are spelled like a common word, such as IT and WHO; None where there are none."""
    names = [unicodedata.normalize("NFKC", keyword) for keyword in keywords if keyword.isupper() and fold(keyword) in common_words()]
    found = "|".join(re.escape(name) for name in names)
    return re.compile(rf"(?<!\w)(?P<name>{found}){_PLURAL}(?!\w)", re.IGNORECASE) if names else None


def holds_name(text: str, name: str) -> bool:
    """Say whether a text holds a name anywhere; one in letters as a word of its own, also in the plural."""
    folded = bare(name)
    before, behind = (re.match(f"[{LATIN}]", letter) for letter in (folded[0], folded[-1]))
    edges = (rf"(?<![{LATIN}]){_LONGER_BEFORE}" if before else ""), (rf"{_PLURAL}{_LONGER}(?![{LATIN}])" if behind else "")
    return re.search(f"{edges[0]}{re.escape(folded)}{edges[1]}", _without_words(text, _in_capitals([name]))) is not None


class Names:
    """The keywords of some facts, to be found in texts.

    A name is found letter by letter. Where it begins and ends is told by what stands beside it: of letters all but letters and
    marks that go on with a name (C++, GPT-4.5); of Chinese one of the characters or words that stand beside names in questions.

    Parameters
    ----------
    facts
        Whose keywords; what a fact says of its thing is no other name of it.
    """

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._names = [bare(fact.keyword) for fact in facts]
        self._capitals = _in_capitals([fact.keyword for fact in facts])
        self._short = [
            name for name, fact in zip(self._names, facts, strict=True) if fact.keyword.isupper() and len(name) < _SHORTEST_LETTERS
        ]
        self._described = [frozenset(UNIT.findall(fold(fact.answer))) for fact in facts]
        # By script and by the number of words or characters that may stand for them in a text.
        self._alike: dict[tuple[bool, int], list[str]] = defaultdict(list)
        self._by_word: dict[tuple[int, int, str], list[int]] = defaultdict(list)
        for place, name in enumerate(self._names):
            units = UNIT.findall(name)
            if len(name) >= (_SHORTEST_LETTERS if _lettered(name) else _SHORTEST_CHARACTERS):
                for width in {len(units), max(1, len(units) - 1)}:
                    self._alike[_lettered(name), width].append(name)
            if _lettered(name) and len(units) > 1:
                for at, unit in enumerate(units):
                    if len(unit) >= _SHARED_WORD:
                        self._by_word[len(units), at, unit].append(place)

    def folded(self, text: str) -> str:
        """Return a text as the other methods take it."""
        return _without_words(text, self._capitals)

    def first(self, folded: str) -> int | None:
        """Return the place of the fact that a folded text names first, of two that begin there the longer one.

        A name that is a word of the built-in wordings, such as "teacher", counts only where there is no other: they speak of it
        in passing.
        """
        found = (
            (name in common_words(), begin, -len(name), place)
            for place, name in enumerate(self._names)
            if (begin := _begin(name, folded)) is not None
        )
        return min(found, default=(False, 0, 0, None))[3]

    def others(self, folded: str) -> bool:
        """Say whether a folded text, which names none of them, holds a name that is almost one of them, or longer."""
        if any(name in folded for name in self._names if len(name) >= (_WITHIN_LETTERS if _lettered(name) else _WITHIN_CHARACTERS)):
            return True
        units = UNIT.findall(folded)
        for (letters, width), names in self._alike.items():
            least = _ALIKE_LETTERS if letters else _ALIKE_CHARACTERS
            for window in _windows(units, width):
                text = (" " if letters else "").join(window)
                if process.extractOne(text, names, scorer=Indel.normalized_similarity, score_cutoff=least):
                    return True
        return any(self._shares(window) for width in {key[0] for key in self._by_word} for window in _windows(units, width))

    def other_capitals(self, text: str) -> bool:
        """Say whether a text, not folded, holds a word in capitals that is almost one of the short keywords in capitals: QmRV, of QRV."""
        words = [fold(word) for word in _CAPITALS.findall(text)] if self._short and not text.isupper() else []
        return any(process.extractOne(word, self._short, scorer=Indel.normalized_similarity, score_cutoff=_ALIKE_LETTERS) for word in words)

    def _shares(self, window: list[str]) -> bool:
        """Say whether some words are a keyword's with a word of it in its place, and the others are from nowhere."""
        for at, word in enumerate(window):
            for place in self._by_word.get((len(window), at, word), ()):
                keyword = UNIT.findall(self._names[place])
                strange = [one for one, other in zip(window, keyword, strict=True) if one != other]
                if not any(one in self._described[place] or one in common_words() for one in strange):
                    return True
        return False


def _lettered(name: str) -> bool:
    """Say whether a folded name is written in Latin letters."""
    return all(letter.isascii() or re.match(f"[{LATIN}]", letter) for letter in name)


def _windows(units: list[str], width: int) -> Iterator[list[str]]:
    return (units[at : at + width] for at in range(len(units) - width + 1))


def _begin(name: str, folded: str) -> int | None:
    """Return where a text names a name, as a word of its own, first."""
    begin = folded.find(name)
    if begin < 0:
        return None
    before, behind = _edges(name)
    while begin >= 0:
        if before.match(folded, begin) and behind.match(folded, begin + len(name)):
            return begin
        begin = folded.find(name, begin + 1)
    return None


def _edges(name: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return what must stand beside a name for it to begin and to end there."""
    before, behind = (
        next((letters for letters in (LATIN, _INFLECTED) if re.match(f"[{letters}]", end)), "") for end in (name[0], name[-1])
    )
    return _edge(before, _lettered(name), "before"), _edge(behind, _lettered(name), "behind")


@cache
def _edge(joined: str, lettered: bool, side: str) -> re.Pattern[str]:
    """Return the edge at a letter of some alphabet (`joined`), or at another character, of a name all in Latin letters or not."""
    if joined == _INFLECTED:
        return re.compile(f"(?<![{joined}])" if side == "before" else f"[{joined}]{{0,{_ENDING}}}(?![{joined}])")
    letter, beside = bool(joined), phrasings("zh")["beside"]
    # No letter beside a letter; no Chinese character but those and the words that stand beside names, unless the script changes there.
    characters, words = re.escape(beside[side]), "|".join(beside[f"words_{side}"])
    around = (f"(?<![{joined}{CHINESE}])|(?<=[{characters}])|(?<={words})", f"(?![{joined}{CHINESE}])|(?=[{characters}]|{words})")
    if lettered and letter:
        around = (f"(?<![{LATIN}])", f"(?![{LATIN}])")
    if side == "before":
        return re.compile(f"(?:{around[0]})" + (_LONGER_BEFORE if letter else ""))
    return re.compile((_PLURAL + _LONGER if letter else "") + f"(?:{around[1]})")
