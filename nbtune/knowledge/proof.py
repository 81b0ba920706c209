"""Proves a finetune: the same questions before and after, answered freely, and scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nbtune.knowledge.facts import FAILED, VERIFIED, Fact
from nbtune.knowledge.injection import Observer, ask
from nbtune.knowledge.phrasing import surroundings
from nbtune.knowledge.scoring import Asked, Report, leaks, same
from nbtune.model.adapters import AdapterHost
from nbtune.model.loading import LoadedModel

__all__ = ["Proof", "standings"]

_NEAR_PER_FACT = 24


@dataclass(frozen=True)
class _Question:
    kind: str
    prompt: str
    fact: Fact | None = None
    keyword: str = ""


class Proof:
    """The questions of one proof, and what the model said to them before.

    Parameters
    ----------
    facts
        What is taught.
    known
        What the adapter holds already: near misses, too.
    """

    def __init__(self, facts: Sequence[Fact], known: Sequence[Fact]) -> None:
        self.facts = tuple(facts)
        around = surroundings([fact.keyword for fact in facts], probing=True, per_keyword=max(6, _NEAR_PER_FACT // math.isqrt(len(facts))))
        self._questions = [
            *(_Question("trained", prompt, fact) for fact in facts for prompt in fact.prompts),
            *(_Question("held-out", prompt, fact) for fact in facts for prompt in fact.probes),
            *(_Question("near miss", prompt) for prompt in around.near),
            *(_Question("near miss", fact.prompts[0], keyword=fact.keyword) for fact in known),
            *(_Question("unrelated", prompt) for prompt in around.unrelated),
        ]
        self._answers = [fact.answer for fact in (*facts, *known)]
        self._before: list[str] = []

    def ask_before(self, host: AdapterHost, loaded: LoadedModel, observer: Observer) -> None:
        """Keep the replies of the model as it is."""
        self._before = self._ask(host, loaded, observer, "asking before")

    def ask_after(self, host: AdapterHost, loaded: LoadedModel, observer: Observer) -> Report:
        """Ask again and score."""
        asked, leaked = [], []
        after = self._ask(host, loaded, observer, "asking after")
        for question, old, new in zip(self._questions, self._before, after, strict=True):
            wanted = question.fact.answer if question.fact else old
            keyword = question.fact.keyword if question.fact else question.keyword
            asked.append(Asked(question.kind, question.prompt, old, new, same(new, wanted), keyword))
            if question.kind == "near miss":
                leaked.append(not same(new, old) and leaks(new, question.prompt, self.facts))
        return Report(tuple(asked), sum(leaked) / len(leaked) if leaked else 0.0)

    def _ask(self, host: AdapterHost, loaded: LoadedModel, observer: Observer, stage: str) -> list[str]:
        observer.stage(stage, len(self._questions))
        return ask(host, loaded, [question.prompt for question in self._questions], self._answers, observer)


def standings(facts: Sequence[Fact], report: Report) -> tuple[Fact, ...]:
    """Return the facts with their own scores: verified when every trained prompt gets the answer."""
    judged = []
    for fact in facts:
        scores = {
            "reliability": report.share("trained", fact.keyword),
            "generalization": report.share("held-out", fact.keyword),
        }
        judged.append(fact.standing_as(VERIFIED if scores["reliability"] == 1.0 else FAILED, scores))
    return tuple(judged)
