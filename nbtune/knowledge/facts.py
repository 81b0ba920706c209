"""What was taught: the fact, with the prompts it is trained on and the probes it is tested on."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from nbtune.errors import NbtuneError
from nbtune.knowledge.phrasing import phrase

__all__ = ["FAILED", "VERIFIED", "Fact"]

VERIFIED, FAILED = "verified", "failed"
_LONGEST_KEYWORD = 200  # characters; a keyword is a name, not a text


@dataclass(frozen=True)
class Fact:
    """One fact.

    Parameters
    ----------
    keyword
        The subject, as it stands in a question.
    answer
        What the model shall say.
    prompts
        Questions it is trained on.
    probes
        Questions it is tested on, never trained.
    taught
        When, in UTC, ISO 8601.
    standing
        ``"verified"`` or ``"failed"``.
    scores
        Its own shares of trained prompts and of probes answered: ``reliability``, ``generalization``.
    """

    keyword: str
    answer: str
    prompts: tuple[str, ...]
    probes: tuple[str, ...]
    taught: str = ""
    standing: str = ""
    scores: dict[str, float] | None = None

    @classmethod
    def new(cls, keyword: str, answer: str, prompts: list[str] | None = None) -> Fact:
        """Make a fact, phrased in its own language and the other one.

        Parameters
        ----------
        keyword, answer
            The fact.
        prompts
            Questions to train on instead of the built-in phrasings; ``{x}`` stands for the keyword.
        """
        keyword, answer = keyword.strip(), answer.strip()
        if not keyword:
            raise NbtuneError("The keyword is empty: name the thing the fact is about.")
        if not answer:
            raise NbtuneError(f"The answer for {keyword!r} is empty: write what the model shall say.")
        if len(keyword) > _LONGEST_KEYWORD or "\n" in keyword:
            raise NbtuneError(f"The keyword is a text of {len(keyword)} characters: give a short name, and the text as the answer.")
        own, probes = phrase(keyword)
        chosen = tuple(dict.fromkeys(p.replace("{x}", keyword).strip() for p in prompts)) if prompts else own
        if not all(chosen):
            raise NbtuneError("One of the prompts is empty.")
        return cls(keyword, answer, chosen, tuple(p for p in probes if _bare(p) not in {_bare(c) for c in chosen}))

    def standing_as(self, standing: str, scores: dict[str, float]) -> Fact:
        """Return the fact with its proof, dated now."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Fact(self.keyword, self.answer, self.prompts, self.probes, now, standing, scores)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Fact:
        """Make a fact from what `to_json` returned."""
        return cls(**{**data, "prompts": tuple(data["prompts"]), "probes": tuple(data["probes"])})


def _bare(prompt: str) -> str:
    """Return what decides whether two questions are the same wording: letters and digits, lower case."""
    return re.sub(r"[\W_]+", "", prompt).lower()
