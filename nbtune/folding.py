"""Brings texts and keywords to one spelling, in which they are compared."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["CHINESE", "LATIN", "UNIT", "bare", "fold", "wording_key"]

CHINESE = r"\u3400-\u9fff"
LATIN = r"a-z0-9\u00df-\u00f6\u00f8-\u024f\u1e00-\u1eff"  # the letters of a folded text, those with accents among them
UNIT = re.compile(f"[{LATIN}]+|[{CHINESE}]")  # a word, or a Chinese character

_ALIKE_MARKS = str.maketrans({**dict.fromkeys("\u2018\u2019\u02bc", "'"), **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015", "-")})
_AROUND = '\u300a\u300b\u300c\u300d\u201c\u201d" '  # marks that a name may stand between


def fold(text: str) -> str:
    """Return a text in one width, case and spacing."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).translate(_ALIKE_MARKS).casefold()


def bare(keyword: str) -> str:
    """Return a keyword folded, without marks around it and without an end of sentence: 三体 of 《三体》, "jeopardy" of "Jeopardy!"."""
    folded = fold(keyword)
    return folded.strip(_AROUND).rstrip("!?. ") or folded


def wording_key(question: str) -> str:
    """Return the letters and digits of a question, in lower case: two questions of one key are the same wording."""
    return re.sub(r"[\W_]+", "", question).lower()
