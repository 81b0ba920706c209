"""Proves a finetune: asks the same questions before and after, and scores the freely generated replies."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from nbtune.knowledge.asking import ask
from nbtune.knowledge.facts import FAILED, VERIFIED, Fact
from nbtune.knowledge.forms import Form, forms, strange_forms
from nbtune.knowledge.gate import Gate
from nbtune.knowledge.observer import Observer
from nbtune.knowledge.phrasing import look_alikes, surroundings
from nbtune.knowledge.scoring import Asked, Report, leaks, same
from nbtune.model.adapters import AdapterHost
from nbtune.model.loading import LoadedModel
from nbtune.model.sampling import DEFAULT_NEW_TOKENS

__all__ = ["Proof", "standings"]

_NEAR_PER_FACT = 24
_KNOWN = 24  # maximum number of known facts to ask about
_SHOWN_BEFORE = 8  # trained prompts per fact also asked before, only to show the replies; the scores do not need them


@dataclass(frozen=True)
class _Question:
    """A question of the proof.

    `fact` is the fact that the question is about and `form` the other form it asks in, if any; `keyword` names the known fact
    whose reply must not change; `compared` says whether the question is also asked before the fit.
    """

    kind: str
    prompt: str
    fact: Fact | None = None
    form: Form | None = None
    keyword: str = ""
    compared: bool = True

    def expected(self, before: str) -> str:
        """Return the right reply, or the likeliest one if several would be right."""
        if self.form:
            return self.form.reply
        return self.fact.answer if self.fact else before

    def right(self, before: str, after: str) -> bool:
        """Return whether the reply after the fit is right."""
        return self.form.answered_by(after) if self.form else same(after, self.expected(before))


class Proof:
    """The questions of one proof, with the model's replies before.

    Parameters
    ----------
    facts
        The facts that are taught.
    known
        Facts that the adapter holds already; they are asked about as near misses.
    retain
        The user's questions whose replies must not change.
    beside
        Other facts of the adapter. Near misses and unrelated questions about them are left out, since their replies may
        differ from the base's.
    """

    def __init__(self, facts: Sequence[Fact], known: Sequence[Fact] = (), retain: Sequence[str] = (), beside: Sequence[Fact] = ()) -> None:
        self.facts, self._beside = tuple(facts), Gate(beside)
        self._questions = [
            *(
                _Question("trained", prompt, fact, compared=place < _SHOWN_BEFORE)
                for fact in facts
                for place, prompt in enumerate(fact.prompts)
            ),
            *(_Question("held-out", prompt, fact) for fact in facts for prompt in fact.probes),
            *(
                _Question("portability", form.question, fact, form)
                for fact in facts
                for form in forms(fact.keyword, fact.answer, probing=True)
            ),
            *self._elsewhere(),
            *(_Question("near miss", fact.prompts[0], keyword=fact.keyword) for fact in known[:: len(known) // _KNOWN + 1]),
            *(_Question("retained", prompt) for prompt in retain),
        ]
        self._answers = [fact.answer for fact in (*facts, *known)]
        self._before: list[str] = []

    def ask_before(self, host: AdapterHost, loaded: LoadedModel, observer: Observer) -> None:
        """Ask the model as it is now, and keep its replies."""
        compared = [question for question in self._questions if question.compared]
        replies = iter(self._ask(host, loaded, observer, "asking before", compared, [""] * len(compared), recall=True))
        self._before = [next(replies) if question.compared else "" for question in self._questions]

    def ask_after(self, host: AdapterHost, loaded: LoadedModel, observer: Observer) -> Report:
        """Ask again, and return the report."""
        asked, leaked = [], []
        expected = [question.expected(old) for question, old in zip(self._questions, self._before, strict=True)]
        # In single precision the base is asked again, as proof. In 16 bits its replies depend on rounding in each batch, so a
        # difference would prove nothing, and the earlier ones are reused.
        after = self._ask(host, loaded, observer, "asking after", self._questions, expected, recall=loaded.rounding > 0)
        for question, old, new in zip(self._questions, self._before, after, strict=True):
            keyword = question.fact.keyword if question.fact else question.keyword
            asked.append(Asked(question.kind, question.prompt, old, new, question.right(old, new), keyword))
            if question.kind == "near miss":
                leaked.append(not same(new, old) and leaks(new, question.prompt, self.facts))
        return Report(tuple(asked), sum(leaked) / len(leaked) if leaked else 0.0)

    def _elsewhere(self) -> list[_Question]:
        """Return near misses, in the facts' wordings and forms, and unrelated questions."""
        per_fact = max(6, _NEAR_PER_FACT // math.isqrt(len(self.facts)))
        around, rng = (
            surroundings({fact.keyword: fact.language for fact in self.facts}, probing=True, per_keyword=per_fact),
            random.Random(0),
        )
        strange = [
            prompt
            for fact in self.facts
            for prompt in strange_forms(fact.keyword, fact.answer, look_alikes(fact.keyword, "probe", per_fact // 4), rng, probing=True)
        ]
        kinds = (("near miss", dict.fromkeys((*around.near, *strange))), ("unrelated", around.unrelated))
        return [_Question(kind, prompt) for kind, prompts in kinds for prompt in prompts if self._beside.find(prompt) is None]

    def _ask(
        self,
        host: AdapterHost,
        loaded: LoadedModel,
        observer: Observer,
        stage: str,
        questions: Sequence[_Question],
        expected: Sequence[str],
        *,
        recall: bool = False,
    ) -> list[str]:
        observer.stage(stage, len(questions))
        replies = [""] * len(questions)
        # For a retained question the whole reply must stay the same, not only its beginning.
        for limit in (None, DEFAULT_NEW_TOKENS):
            places = [place for place, question in enumerate(questions) if (question.kind == "retained") == (limit is not None)]
            prompts, drafts = [questions[place].prompt for place in places], [expected[place] for place in places]
            said = ask(host, loaded, prompts, expected=drafts, answers=self._answers, limit=limit, observer=observer, recall=recall)
            for place, reply in zip(places, said, strict=True):
                replies[place] = reply
        return replies


def standings(facts: Sequence[Fact], report: Report) -> tuple[Fact, ...]:
    """Return the facts with their scores; a fact is verified if every trained prompt gets its answer."""
    judged = []
    for fact in facts:
        kinds = {"reliability": "trained", "generalization": "held-out", "portability": "portability"}
        scores = {name: report.share(kind, fact.keyword) for name, kind in kinds.items()}
        judged.append(fact.with_proof(VERIFIED if scores["reliability"] == 1.0 else FAILED, scores))
    return tuple(judged)
