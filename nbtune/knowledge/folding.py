"""Brings texts and keywords to one spelling, in which they are compared."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["bare", "fold", "wording_key"]

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
