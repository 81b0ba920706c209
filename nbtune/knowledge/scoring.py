"""Scores the replies of a proof by comparing whole texts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from nbtune.knowledge.facts import Fact

__all__ = ["Asked", "Report", "leaks", "same"]

# This many consecutive characters of an answer, if not in the question, count as a piece of it.
_PIECE = 8


@dataclass(frozen=True)
class Asked:
    """One question of the proof, with the model's replies before and after.

    `kind` is ``"trained"``, ``"held-out"``, ``"portability"``, ``"near miss"``, ``"unrelated"`` or ``"retained"``;
    `right` says whether the reply is the wanted one: the answer for the first two kinds, a reply that shows knowledge of
    the fact for the third, the old reply for the others. `keyword` names the fact that the question is about; for a near
    miss, one that was taught before. `before` is empty if the question was not asked before.
    """

    kind: str
    prompt: str
    before: str
    after: str
    right: bool
    keyword: str = ""


@dataclass(frozen=True)
class Report:
    """Proof of one finetune. Shares are between 0 and 1; no reply is teacher-forced.

    Parameters
    ----------
    asked
        Every question with the replies before and after.
    leak
        Share of near misses answered with a new answer or a piece of it.
    seconds
        Total time, including the proof.
    steps
        Number of optimizer steps.
    adapter_bytes
        Size of the adapter's weights.

    Notes
    -----
    Reliability, generalization, locality and portability follow Yao et al. (2023), "Editing Large Language Models: Problems,
    Methods, and Opportunities", but are measured on freely generated replies instead of teacher-forced ones.
    """

    asked: tuple[Asked, ...] = field(repr=False)
    leak: float
    seconds: float = 0.0
    steps: int = 0
    adapter_bytes: int = 0

    def share(self, kind: str, keyword: str | None = None) -> float:
        """Return the share of right replies to the questions of a kind, about one fact or all; NaN if none was asked."""
        chosen = [a.right for a in self.asked if a.kind == kind and keyword in (None, a.keyword)]
        return sum(chosen) / len(chosen) if chosen else float("nan")

    @property
    def reliability(self) -> float:
        """Share of trained prompts answered with the answer."""
        return self.share("trained")

    @property
    def generalization(self) -> float:
        """Share of held-out phrasings answered with the answer."""
        return self.share("held-out")

    @property
    def portability(self) -> float:
        """Share of right replies to questions in another form (reversed, yes or no, one aspect)."""
        return self.share("portability")

    @property
    def near_misses(self) -> float:
        """Share of near misses answered exactly as before."""
        return self.share("near miss")

    @property
    def unrelated(self) -> float:
        """Share of unrelated questions answered exactly as before."""
        return self.share("unrelated")

    @property
    def locality(self) -> float:
        """Mean of `near_misses` and `unrelated`."""
        return (self.near_misses + self.unrelated) / 2

    def scores(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        names = ("reliability", "generalization", "portability", "locality", "near_misses", "unrelated")
        figures = {name: getattr(self, name) for name in names}
        return {**figures, "leak": self.leak, "seconds": self.seconds, "steps": self.steps, "adapter_bytes": self.adapter_bytes}


def same(one: str, other: str) -> bool:
    """Return whether two texts are equal after NFKC normalization, with white space folded and a final full stop ignored."""
    return _comparable(one) == _comparable(other)


def leaks(reply: str, prompt: str, facts: Sequence[Fact]) -> bool:
    """Return whether a reply contains an answer, or a piece of one, that the question does not contain.

    Parameters
    ----------
    reply, prompt
        The reply, and the question.
    facts
        The facts that were taught.
    """
    given, asked = _comparable(reply), _comparable(prompt)
    for fact in facts:
        answer = _comparable(fact.answer)
        if answer in given and answer not in asked:
            return True
        pieces = (answer[at : at + _PIECE] for at in range(len(answer) - _PIECE + 1))
        # A look-alike shares characters with the keyword, so a piece that is part of the keyword is not a leak.
        if any(piece in given and piece not in asked and piece not in _comparable(fact.keyword) for piece in pieces):
            return True
    return False


def _comparable(text: str) -> str:
    folded = re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip()
    return re.sub(r"[.。]$", "", folded).strip()
