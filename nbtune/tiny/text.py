"""Reads the text that the built-in model is made from: one `Text` per language."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["LANGUAGES", "Text", "Wordings", "corpus_hash", "normalise", "read"]

LANGUAGES = ("zh", "en")
_FOLDER = Path(__file__).parent / "text"
# A single fixed wording each: with two equally likely ones, every later comparison would flicker.
_UNKNOWN = {"zh": "我不知道{x}是什么。", "en": "I don't know what {x} is."}
_NOTED = {"zh": "好的\uff0c我记住了。", "en": "OK, I will remember that."}
_UNTOLD = {"zh": "你还没有告诉我。", "en": "You haven't told me yet."}
_TOLD = {"zh": "{x}是{y}。", "en": "{x} is {y}."}
_THAT = {"zh": "那是{x}。", "en": "That is {x}."}
_NOT_THAT = {"zh": "我不知道那是什么。", "en": "I don't know what that is."}
_YES = {"zh": "对\uff0c", "en": "Yes, "}
_NO = {"zh": "不对\uff0c", "en": "No, "}
# Splits the sentence about a thing into its subject and its description.
_COPULA = {"zh": re.compile("(是)"), "en": re.compile(r" (is|are|was|were) ")}


@dataclass(frozen=True)
class Wordings:
    """Ways to say one thing; those in `heldout` are never trained."""

    trained: tuple[str, ...]
    heldout: tuple[str, ...]

    def of(self, heldout: bool) -> tuple[str, ...]:
        """Return the held-out wordings or the trained ones."""
        return self.heldout if heldout else self.trained


@dataclass(frozen=True)
class Relation:
    """Facts of one kind, such as the capital of a country."""

    answer: str
    pairs: tuple[tuple[str, str], ...]
    wordings: Wordings


@dataclass(frozen=True)
class Intent:
    """Small talk with one fixed reply."""

    reply: str
    wordings: Wordings


@dataclass(frozen=True)
class Personal:
    """Something that users say about themselves and ask for later."""

    answer: str
    values: tuple[str, ...]
    statements: Wordings
    questions: Wordings


@dataclass(frozen=True)
class Forms:
    """Questions and answers about a fact in forms other than "what is it"; see `Corpus.form`."""

    reverse: Wordings
    yes_no: Wordings
    part: Wordings
    that: str
    not_that: str
    yes: str
    no: str


@dataclass(frozen=True)
class Text:
    """All text of one language."""

    language: str
    unknown: str
    noted: str
    untold: str
    told: str
    questions: Wordings
    forms: Forms
    things: dict[str, str]
    relations: tuple[Relation, ...]
    talk: tuple[Intent, ...]
    add: Wordings
    subtract: Wordings
    told_statements: Wordings
    descriptions: tuple[str, ...]
    personal: tuple[Personal, ...]
    statements: Wordings
    before: tuple[str, ...]
    after: tuple[str, ...]

    def parted(self, name: str, sentence: str) -> tuple[str, str]:
        """Split a sentence about a thing, such as "A star is a ball of gas.", into "a star" and "a ball of gas"."""
        subject, _, description = _COPULA[self.language].split(sentence, maxsplit=1)
        article, _, rest = subject.partition(" ")
        if article in {"A", "An", "The"}:
            subject = f"{article.lower()} {rest}"
        elif subject.lower() == name.lower():
            subject = name
        return subject, description.rstrip(".\u3002")


def corpus_hash() -> str:
    """Return the SHA-256 of all text files together, to name the corpus in the model card."""
    digest = hashlib.sha256()
    for path in sorted(_FOLDER.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def normalise(wording: str) -> str:
    """Return the letters and digits of a wording in lower case; wordings for which these are equal count as the same."""
    return re.sub(r"[\W_]+", "", wording.replace("{x}", "x0x")).lower()


def _lines(name: str) -> tuple[str, ...]:
    lines = (_FOLDER / name).read_text(encoding="utf-8").splitlines()
    return tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _toml(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / name).read_text(encoding="utf-8"))


def _apart(trained: Sequence[str], heldout: Sequence[str]) -> Wordings:
    """Return both kinds of wordings, without the trained ones that are also held out."""
    kept_apart = {normalise(wording) for wording in heldout}
    return Wordings(tuple(w for w in trained if normalise(w) not in kept_apart), tuple(heldout))


def _forms(language: str) -> Forms:
    raw = _toml(f"forms.{language}.toml")
    reverse, yes_no, part = (_apart(raw[kind], raw[f"{kind}_heldout"]) for kind in ("reverse", "yes_no", "part"))
    return Forms(reverse, yes_no, part, _THAT[language], _NOT_THAT[language], _YES[language], _NO[language])


@cache
def read(language: str) -> Text:
    """Return all text of one language, read from the package's files.

    Parameters
    ----------
    language
        ``"zh"`` or ``"en"``.
    """
    told, sums = _toml(f"told.{language}.toml"), _toml(f"sums.{language}.toml")
    files = sorted(_FOLDER.glob(f"questions_*.{language}.txt"))
    questions = [line for file in files for line in _lines(file.name)]
    things = dict(line.split("\t") for line in _lines(f"things.{language}.tsv"))
    return Text(
        language=language,
        unknown=_UNKNOWN[language],
        noted=_NOTED[language],
        untold=_UNTOLD[language],
        told=_TOLD[language],
        questions=_apart(list(dict.fromkeys(questions)), _lines(f"heldout.{language}.txt")),
        forms=_forms(language),
        things=things,
        relations=tuple(
            Relation(r["answer"], tuple((x, y) for x, y in r["pairs"]), _apart(r["wordings"], r["heldout"]))
            for r in _toml(f"relations.{language}.toml")["relation"]
        ),
        talk=tuple(Intent(i["reply"], _apart(i["wordings"], i["heldout"])) for i in _toml(f"talk.{language}.toml")["intent"]),
        add=_apart(sums["add"], sums["add_heldout"]),
        subtract=_apart(sums["subtract"], sums["subtract_heldout"]),
        told_statements=_apart(told["statements"], told["statements_heldout"]),
        descriptions=tuple(told["descriptions"]),
        personal=tuple(
            Personal(
                p["answer"],
                tuple(p["values"]),
                _apart(p["statements"], p["statements_heldout"]),
                _apart(p["questions"], p["questions_heldout"]),
            )
            for p in told["personal"]
        ),
        statements=_apart(_lines(f"statements.{language}.txt"), _lines(f"statements_heldout.{language}.txt")),
        before=_lines(f"before.{language}.txt"),
        after=_lines(f"after.{language}.txt"),
    )
