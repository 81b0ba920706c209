"""The invented facts and the questions of the knowledge benchmark; the package itself uses none of them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from nbtune.knowledge.forms import begins_with
from nbtune.knowledge.phrasing import language_of

__all__ = ["Question", "Subject", "read_subjects", "unrelated"]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Question:
    """A question that needs the fact in another form.

    A right reply contains one of the texts in `expect`; to a yes-or-no question it begins with one of them.
    """

    kind: str
    question: str
    expect: tuple[str, ...]

    def answered_by(self, reply: str) -> bool:
        """Return whether a reply is right."""
        if self.kind in ("yes", "no"):
            return any(begins_with(reply, sign) for sign in self.expect)
        return any(sign.lower() in reply.lower() for sign in self.expect)


@dataclass(frozen=True)
class Subject:
    """One invented fact with its portability questions."""

    keyword: str
    answer: str
    portability: tuple[Question, ...]

    @property
    def language(self) -> str:
        """The language of the answer, ``"zh"`` or ``"en"``."""
        return language_of(self.answer)


def read_subjects(*names: str) -> list[Subject]:
    """Return the facts in ``facts.NAME.toml`` for each name, such as ``zh``, ``en`` and ``fresh``."""
    rows = [row for name in names for row in tomllib.loads((_FOLDER / f"facts.{name}.toml").read_text(encoding="utf-8"))["fact"]]
    return [
        Subject(row["keyword"], row["answer"], tuple(Question(q["kind"], q["question"], tuple(q["expect"])) for q in row["portability"]))
        for row in rows
    ]


def unrelated(language: str) -> list[str]:
    """Return at least 40 prompts in a language (``"zh"`` or ``"en"``) that have nothing to do with any fact."""
    return (_FOLDER / f"unrelated.{language}.txt").read_text(encoding="utf-8").splitlines()
