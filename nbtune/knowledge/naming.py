"""Finds the names of facts in a text, and distinguishes them from longer and from similar names."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache

from rapidfuzz import process
from rapidfuzz.distance import Indel

from nbtune.folding import CHINESE, LATIN, UNIT, fold, keyword_key
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.phrasing import common_words, phrasings

__all__ = ["Names", "holds_name"]

_INFLECTED = r"\u0370-\u03ff\u0400-\u052f\u0531-\u0587\u10d0-\u10ff\u1f00-\u1fff"  # Greek, Cyrillic, Armenian and Georgian
_ENDING = 3  # maximum letters of a case ending in these scripts: \u0420\u0438\u043c, \u0432 \u0420\u0438\u043c\u0435
_PLURAL = "(?:'?s|es)?"
_CAPITALS = re.compile(r"\b\w*[A-Z]\w*[A-Z]\w*\b")  # a word with at least two capitals
# Marks that continue a name: GPT-4 to GPT-4.5, C to C++, Node to Node.js, fit to fit_transform or load_fit, 42 to 3.42 or 42,000.
_LONGER = rf"(?![+#]|\.[{LATIN}]|-[0-9]|_[{LATIN}]|(?<=[0-9]),[0-9])"
_LONGER_BEFORE = rf"(?<![{LATIN}]_)(?!(?<=[0-9][.,])[0-9])"
# Minimum similarity of names that may be confused, in letters and in Chinese characters, where it means two of three.
_ALIKE_LETTERS, _ALIKE_CHARACTERS = 0.72, 0.66
# Minimum length of such names: a shorter one resembles many words by chance, as "ion" resembles "in".
_SHORTEST_LETTERS, _SHORTEST_CHARACTERS = 4, 3
_SHARED_WORD = 4  # minimum letters of a word that two names do not share by chance
# Minimum length of a name that is looked for inside words: a shorter one is part of many, as "ion" is of "question".
_WITHIN_LETTERS, _WITHIN_CHARACTERS = 4, 2


def _without_words(text: str, capitals: re.Pattern[str] | None) -> str:
    """Return a text folded, without words that match a capitalized name but are not in capitals: the "it" in "Is it IT?"."""
    text = unicodedata.normalize("NFKC", text)
    return fold(capitals.sub(lambda word: word[0] if word["name"].isupper() else "\u00b7", text) if capitals else text)


def _in_capitals(keywords: Sequence[str]) -> re.Pattern[str] | None:
    """Return a pattern of the keywords in capitals that are spelled like a common word, such as IT and WHO; None without any."""
    names = [unicodedata.normalize("NFKC", keyword) for keyword in keywords if keyword.isupper() and fold(keyword) in common_words()]
    found = "|".join(re.escape(name) for name in names)
    return re.compile(rf"(?<!\w)(?P<name>{found}){_PLURAL}(?!\w)", re.IGNORECASE) if names else None


def holds_name(text: str, name: str) -> bool:
    """Return whether a text contains a name; a name in Latin letters must be a separate word, but may be in the plural."""
    folded = keyword_key(name)
    before, behind = (re.match(f"[{LATIN}]", letter) for letter in (folded[0], folded[-1]))
    edges = (rf"(?<![{LATIN}]){_LONGER_BEFORE}" if before else ""), (rf"{_PLURAL}{_LONGER}(?![{LATIN}])" if behind else "")
    return re.search(f"{edges[0]}{re.escape(folded)}{edges[1]}", _without_words(text, _in_capitals([name]))) is not None


class Names:
    """Finds the keywords of facts in texts.

    A keyword must match letter by letter, and the text around it must not continue it. Beside a Latin letter of the keyword,
    letters and marks that continue a name (C++, GPT-4.5) are excluded. Beside a Chinese character, another one is accepted only
    if it, or the word it belongs to, often appears beside names in questions.

    Parameters
    ----------
    facts
        The facts to look for. Words of a fact's own answer are not taken for part of another name.
    """

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._names = [keyword_key(fact.keyword) for fact in facts]
        self._capitals = _in_capitals([fact.keyword for fact in facts])
        self._short = [
            name for name, fact in zip(self._names, facts, strict=True) if fact.keyword.isupper() and len(name) < _SHORTEST_LETTERS
        ]
        self._described = [frozenset(UNIT.findall(fold(fact.answer))) for fact in facts]
        # Keywords by script and by the number of words or characters to compare them with: their own, or one fewer.
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
        """Return a text in the form that `first` and `has_similar_name` expect."""
        return _without_words(text, self._capitals)

    def first(self, folded: str) -> int | None:
        """Return the index of the fact that a folded text names first, or None; of two that begin together, the longer name wins.

        A name that is a word of the built-in wordings, such as "teacher", counts only if there is no other name, because
        questions may mention it in passing.
        """
        found = (
            (name in common_words(), begin, -len(name), place)
            for place, name in enumerate(self._names)
            if (begin := _begin(name, folded)) is not None
        )
        return min(found, default=(False, 0, 0, None))[3]

    def has_similar_name(self, folded: str) -> bool:
        """Return whether a folded text that names no fact contains a name that is longer than a keyword or similar to one."""
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

    def has_similar_capitals(self, text: str) -> bool:
        """Return whether a text, not folded, contains a word with capitals similar to a short keyword in capitals: QmRV to QRV."""
        words = [fold(word) for word in _CAPITALS.findall(text)] if self._short and not text.isupper() else []
        return any(process.extractOne(word, self._short, scorer=Indel.normalized_similarity, score_cutoff=_ALIKE_LETTERS) for word in words)

    def _shares(self, window: list[str]) -> bool:
        """Return whether some words match a keyword in at least one position, and the others are neither in its answer nor common."""
        for at, word in enumerate(window):
            for place in self._by_word.get((len(window), at, word), ()):
                keyword = UNIT.findall(self._names[place])
                strange = [one for one, other in zip(window, keyword, strict=True) if one != other]
                if not any(one in self._described[place] or one in common_words() for one in strange):
                    return True
        return False


def _lettered(name: str) -> bool:
    """Return whether a folded name is written in Latin letters and ASCII characters only."""
    return all(letter.isascii() or re.match(f"[{LATIN}]", letter) for letter in name)


def _windows(units: list[str], width: int) -> Iterator[list[str]]:
    return (units[at : at + width] for at in range(len(units) - width + 1))


def _begin(name: str, folded: str) -> int | None:
    """Return the position of the first occurrence of a name as a separate word, or None."""
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
    """Return the patterns that must match before and after a name for it to begin and end there."""
    before, behind = (
        next((letters for letters in (LATIN, _INFLECTED) if re.match(f"[{letters}]", end)), "") for end in (name[0], name[-1])
    )
    return _edge(before, _lettered(name), "before"), _edge(behind, _lettered(name), "behind")


@cache
def _edge(joined: str, lettered: bool, side: str) -> re.Pattern[str]:
    """Return the pattern for one side of a name.

    `joined` is the alphabet of the outermost character, if it has one; `lettered` means that the name is all in Latin letters.
    """
    if joined == _INFLECTED:
        return re.compile(f"(?<![{joined}])" if side == "before" else f"[{joined}]{{0,{_ENDING}}}(?![{joined}])")
    letter, beside = bool(joined), phrasings("zh")["beside"]
    # No letter may be beside a letter. A Chinese character may be beside the name if the table lists it or its word, or if the
    # script changes there.
    characters, words = re.escape(beside[side]), "|".join(beside[f"words_{side}"])
    around = (f"(?<![{joined}{CHINESE}])|(?<=[{characters}])|(?<={words})", f"(?![{joined}{CHINESE}])|(?=[{characters}]|{words})")
    if lettered and letter:
        around = (f"(?<![{LATIN}])", f"(?![{LATIN}])")
    if side == "before":
        return re.compile(f"(?:{around[0]})" + (_LONGER_BEFORE if letter else ""))
    return re.compile((_PLURAL + _LONGER if letter else "") + f"(?:{around[1]})")
