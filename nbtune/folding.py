"""Normalizes texts and keywords so that they can be compared."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["CHINESE", "LATIN", "UNIT", "aligned", "fold", "keyword_key", "unmarked", "visible", "wording_key"]

CHINESE = r"\u3400-\u9fff"
LATIN = r"a-z0-9\u00df-\u00f6\u00f8-\u024f\u1e00-\u1eff"  # Latin letters of a folded text, also with accents, and digits
UNIT = re.compile(f"[{LATIN}]+|[{CHINESE}]")  # a word or a Chinese character

_ALIKE_MARKS = str.maketrans({**dict.fromkeys("\u2018\u2019\u02bc", "'"), **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015", "-")})
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
_AROUND = '\u300a\u300b\u300c\u300d\u201c\u201d" '  # marks that may enclose a name


def visible(text: str) -> str:
    """Return a text without zero-width spaces and soft hyphens, which come with text that is copied from a page."""
    return text.translate(_INVISIBLE)


def fold(text: str) -> str:
    """Return a text with character width, case, spacing, apostrophes and hyphens normalized."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", visible(text))).translate(_ALIKE_MARKS).casefold()


def aligned(text: str) -> str:
    """Return a text with ordinary quotes and half-width characters, each in its place: a match in it is one in the original."""
    narrow = (unicodedata.normalize("NFKC", character) for character in text)
    return "".join(new if len(new) == 1 else old for old, new in zip(text, narrow, strict=True)).translate(_ALIKE_MARKS)


def unmarked(question: str) -> str:
    """Return a folded or aligned question without final punctuation."""
    return question.rstrip("?!.\u3002\u2026 ")


def keyword_key(keyword: str) -> str:
    """Return a keyword folded, without enclosing or final punctuation: 三体 for 《三体》, "jeopardy" for "Jeopardy!"."""
    folded = fold(keyword)
    return folded.strip(_AROUND).rstrip("!?. ") or folded


def wording_key(question: str) -> str:
    """Return a question in lower case without spaces and punctuation, except ``+`` and ``#``: C, C++ and C# are three names.

    Two questions with the same key are the same wording.
    """
    return re.sub(r"[^\w+#]|_", "", question).lower()
