"""The invented facts and the questions that the knowledge benchmark is made of; none is used by the package itself."""

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
    """A question that needs the fact in another form; `expect` lists what a right reply holds (begins with, for yes and no)."""

    kind: str
    question: str
    expect: tuple[str, ...]

    def answered_by(self, reply: str) -> bool:
        """Say whether a reply is right."""
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
        """That of the answer."""
        return language_of(self.answer)


def read_subjects(*names: str) -> list[Subject]:
    """Read ``facts.NAME.toml`` for each name, such as ``zh``, ``en`` and ``fresh``."""
    rows = [row for name in names for row in tomllib.loads((_FOLDER / f"facts.{name}.toml").read_text(encoding="utf-8"))["fact"]]
    return [
        Subject(row["keyword"], row["answer"], tuple(Question(q["kind"], q["question"], tuple(q["expect"])) for q in row["portability"]))
        for row in rows
    ]


def unrelated(language: str) -> list[str]:
    """Return at least 40 prompts that have nothing to do with any fact."""
    return (_FOLDER / f"unrelated.{language}.txt").read_text(encoding="utf-8").splitlines()
