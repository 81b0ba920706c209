"""Phrases questions about a fact, to train and to test, and questions about other things, whose replies must not change."""

from __future__ import annotations

import itertools
import random
import re
import string
import tomllib
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nbtune.folding import UNIT, aligned, fold, keyword_key, unmarked

__all__ = [
    "OTHER",
    "Surroundings",
    "asked_about",
    "common_words",
    "language_of",
    "look_alikes",
    "phrase",
    "phrasings",
    "subject",
    "surroundings",
    "wordings",
]

_FOLDER = Path(__file__).parent / "phrasings"
OTHER = {"zh": "en", "en": "zh"}
# Number of phrasings in the fact's language and in the other one; 130 in all, measured in docs/experiments.md.
_TRAINED, _PROBES = (90, 40), (12, 6)
_SPELT_EVERY = 5  # one phrasing in 5 has the keyword in small letters or other capitals, which the gate also accepts
# Share of near misses with names that share characters with the keyword, the hardest to distinguish from it.
_ALIKE = {"retained": 0.75, "probe": 0.5}


class Surroundings:
    """Questions whose replies a fact must not change.

    `near` holds near misses, which ask about other names in the same wordings as the fact; `unrelated` holds questions about
    other things.
    """

    def __init__(self, near: Sequence[str], unrelated: Sequence[str]) -> None:
        self.near, self.unrelated = tuple(near), tuple(unrelated)


def language_of(text: str) -> str:
    """Return ``"zh"`` for text with at least one Chinese character and as many of them as Latin words, else ``"en"``."""
    characters = len(re.findall(r"[\u3400-\u9fff]", text))
    return "zh" if characters and characters >= len(re.findall(r"[A-Za-z]+", text)) else "en"


def phrase(keyword: str, language: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the prompts to train on and the probes, in the fact's language and the other one.

    Parameters
    ----------
    keyword
        The subject of the fact.
    language
        Language of the fact, which is that of its answer.

    Returns
    -------
    tuple of tuple of str
        130 trained prompts and 18 probes; they share no wording.
    """
    both = phrasings(language), phrasings(OTHER[language])
    trained = [w for table, count in zip(both, _TRAINED, strict=True) for w in table["trained"][:count]]
    probes = [w for table, count in zip(both, _PROBES, strict=True) for w in table["probes"][:count]]
    return _filled(trained, keyword), _filled(probes, keyword)


def _filled(wordings: Sequence[str], keyword: str) -> tuple[str, ...]:
    """Put a keyword into wordings, in one of five with other capitals."""
    spellings = itertools.cycle(_spellings(keyword) or (keyword,))
    names = (keyword if number % _SPELT_EVERY else next(spellings) for number in range(1, len(wordings) + 1))
    return tuple(wording.replace("{x}", name) for wording, name in zip(wordings, names, strict=True))


def _spellings(keyword: str) -> tuple[str, ...]:
    """Return a keyword in small letters and in capitals, likelier ones more often; empty if only its own spelling names it."""
    if any(word.isupper() and fold(word) in common_words() for word in re.findall(r"\w+", keyword)):
        return ()
    small, first, whole = keyword.lower(), string.capwords(keyword), keyword.upper()
    spelt = (small, first, small, whole)
    return tuple(name for name in spelt if name != keyword and len(name) == len(keyword) and keyword_key(name) == keyword_key(keyword))


def surroundings(subjects: Mapping[str, str], *, probing: bool, per_keyword: int, seed: int = 0) -> Surroundings:
    """Return near misses and unrelated questions, whose replies some facts must not change.

    Parameters
    ----------
    subjects
        The keywords taught now, each with the language of its answer.
    probing
        True for the questions that measure locality, False for those that training retains. They use different names and
        different unrelated questions.
    per_keyword
        Near misses per keyword: at least half with names that share characters with it, the rest with other names.
    seed
        Seed of the draw.
    """
    kind, named = "probe" if probing else "retained", {keyword.casefold() for keyword in subjects}
    about = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" if name.isascii() else re.escape(name) for name in named))
    near: list[str] = []
    unrelated: list[str] = []
    for keyword, language in subjects.items():
        rng = random.Random(f"{kind}-{keyword}-{seed}")
        table = phrasings(language)
        alike = [name for name in look_alikes(keyword, kind, int(per_keyword * _ALIKE[kind])) if name.casefold() not in named]
        others = [name for name in table[f"{kind}_names"] if name.casefold() not in named]
        names = alike + rng.sample(others, min(len(others), per_keyword - len(alike)))
        wordings = table["trained"] + phrasings(OTHER[language])["trained"][: _TRAINED[1]]
        near += [rng.choice(wordings).replace("{x}", name) for name in names]
        unrelated += table[f"{kind}_unrelated"]
    return Surroundings(tuple(dict.fromkeys(near)), tuple(q for q in dict.fromkeys(unrelated) if not about.search(q.casefold())))


def look_alikes(keyword: str, kind: str, count: int) -> list[str]:
    """Return names that share characters with a keyword but differ from it.

    Parameters
    ----------
    keyword
        The name to vary.
    kind
        ``"retained"`` or ``"probe"``: no name is ever returned for both kinds.
    count
        Maximum number of names.
    """
    rng = random.Random(f"{kind}-{keyword}")
    table = phrasings(language_of(keyword))
    spare = "".join(table[f"{kind}_names"])
    spare_letters = re.sub(r"[\s\u0000-\u007f]" if language_of(keyword) == "zh" else r"[^a-z]", "", spare)
    spare_letters = spare_letters.translate(dict.fromkeys(map(ord, table["word_letters"])))
    spare_words = [name for name in table[f"{kind}_names"] if name.isascii() and " " not in name] or ["x"]
    words = keyword.split()
    variants = set()
    for _ in range(count * 20):
        cut = rng.randrange(len(keyword))
        letter = rng.choice(spare_letters)
        variants.add(keyword[:cut] + letter + keyword[cut + 1 :])
        variants.add(keyword[: cut + 1] + letter + keyword[cut + 1 :])
        variants.add(rng.choice((f"{letter}{keyword}", f"{keyword}{letter}")))
        if len(keyword) > 2:
            variants.add(keyword[:cut] + keyword[cut + 1 :])
        if len(words) > 1:
            variants.add(" ".join([*words[:-1], rng.choice(spare_words)]))
            variants.add(" ".join([rng.choice(spare_words), *words[1:]]))
        if len(variants) > count * 8:
            break
    fitting = sorted(
        v
        for v in variants
        if v.strip() == v and keyword_key(v) != keyword_key(keyword) and (zlib.crc32(v.encode()) % 3 == 0) == (kind == "probe")
    )
    rng.shuffle(fitting)
    return fitting[:count]


@cache
def phrasings(language: str) -> dict[str, Any]:
    """Return the contents of a language's file in ``phrasings/``."""
    return tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8"))


def wordings() -> list[str]:
    """Return the built-in wordings of questions about a fact in all languages, including the trained wordings of other forms."""
    found: list[str] = []
    for language in OTHER:
        table = phrasings(language)
        found += [*table["trained"], *table["probes"]]
        found += [line for kind in ("reverse", "yes_no", "part") for line in table["forms"][kind]]
    return found


def subject(question: str) -> str:
    """Return what a question in a built-in wording asks about, without an article; an empty string for any other question."""
    return re.sub("^(an?|the) ", "", asked_about(question), flags=re.IGNORECASE)


def asked_about(question: str) -> str:
    """Return what a question in a built-in wording asks about, with its article; an empty string for any other question."""
    question = question.strip()
    asked = unmarked(aligned(question))
    found = [question[slice(*match.span(1))].strip() for pattern in _patterns() if (match := pattern.fullmatch(asked))]
    return min(found, key=len, default="")


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    asked = (unmarked(aligned(wording)) for wording in wordings() if "{x}" in wording and "{y}" not in wording)
    return tuple(re.compile(re.escape(wording).replace(r"\{x\}", "(.+)"), re.IGNORECASE) for wording in asked if wording != "{x}")


@cache
def common_words() -> frozenset[str]:
    """Return the folded words and Chinese characters of the built-in wordings."""
    return frozenset(unit for wording in wordings() for unit in UNIT.findall(fold(wording)))
