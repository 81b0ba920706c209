"""Gathers what a fit learns from: the facts in many wordings and forms, and what must stay as it is."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from nbtune.data.encoding import encode
from nbtune.errors import NbtuneError
from nbtune.knowledge.asking import ask
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.forms import forms, strange_forms
from nbtune.knowledge.gate import Gate
from nbtune.knowledge.lesson import Lesson, retention_targets
from nbtune.knowledge.observer import Observer
from nbtune.knowledge.phrasing import look_alikes, surroundings
from nbtune.knowledge.settings import Settings
from nbtune.model.adapters import AdapterHost
from nbtune.model.loading import LoadedModel
from nbtune.model.sampling import DEFAULT_NEW_TOKENS

__all__ = ["Material", "Pairs", "gather"]

Pairs = list[tuple[str, str]]
# Near misses made for each fact; all that the gate lets through are held, and where there is none so many of the others.
_NEAR_PER_FACT, _OUTSIDE_PER_FACT = 320, 48
_STEPS, _DRAWN_PER_FACT = 4, 12  # steps per epoch at least; examples of each fact per epoch


@dataclass(frozen=True)
class Material:
    """Questions with replies: the facts', their other forms', and what is retained."""

    facts: Pairs
    forms: Pairs
    retained: Pairs

    def lesson(self, loaded: LoadedModel, settings: Settings, facts: int) -> Lesson:
        """Encode it, with the base's distributions of what must stay.

        Parameters
        ----------
        loaded
            The base.
        settings
            Examples per step, and the weight of what is retained.
        facts
            How many facts are taught.
        """
        taught = [encode(loaded.tokenizer, prompt, reply, context=loaded.context) for prompt, reply in self.facts]
        other_forms = []
        for question, reply in self.forms:
            with suppress(NbtuneError):  # a form that holds the answer twice may be too long where the fact itself is not
                other_forms.append(encode(loaded.tokenizer, question, reply, context=loaded.context))
        return Lesson(
            taught,
            other_forms,
            retention_targets(loaded, self.retained, weight=settings.retention),
            pad=loaded.tokenizer.pad_token_id,
            sizes=(settings.batch_size, settings.forms_per_batch, settings.retained),
            steps=max(_STEPS, math.ceil(facts * _DRAWN_PER_FACT / settings.batch_size)),
            seed=settings.seed,
        )


def gather(
    host: AdapterHost, loaded: LoadedModel, facts: Sequence[Fact], retain: Sequence[str], settings: Settings, observer: Observer
) -> Material:
    """Phrase the facts, and ask the base what must stay.

    Parameters
    ----------
    host, loaded
        The base; no adapter is on it.
    facts
        What is taught.
    retain
        Questions of the user's whose replies must stay.
    settings
        With no retained examples per step, nothing is asked.
    observer
        Told of each question.
    """
    gate = Gate(facts)
    return Material(
        [(prompt, fact.answer) for fact in facts for prompt in fact.prompts],
        # What is too vague to be about the fact is left to the base.
        [
            (form.question, form.reply)
            for place, fact in enumerate(facts)
            if settings.forms_per_batch
            for form in forms(fact.keyword, fact.answer, probing=False)
            if gate.find(form.question) == place and not fact.is_tested_by(form.question)
        ],
        _retained(host, loaded, facts, gate, retain, settings, observer) if settings.retained else [],
    )


def _retained(
    host: AdapterHost,
    loaded: LoadedModel,
    facts: Sequence[Fact],
    gate: Gate,
    retain: Sequence[str],
    settings: Settings,
    observer: Observer,
) -> Pairs:
    """Return questions about something else with the base's replies; those to the user's own questions as long as they are."""
    elsewhere = [question for question in dict.fromkeys(_elsewhere(facts, gate, settings)) if question not in retain]
    observer.stage("asking what must stay", len(elsewhere) + len(retain))
    answers, pairs = [fact.answer for fact in facts], []  # type: list[str], Pairs
    for questions, limit in ((elsewhere, None), (retain, DEFAULT_NEW_TOKENS)):
        drafts = [""] * len(questions)
        replies = ask(host, loaded, questions, expected=drafts, answers=answers, limit=limit, observer=observer, recall=True)
        pairs += [(question, reply) for question, reply in zip(questions, replies, strict=True) if reply.strip()]
    return pairs


def _elsewhere(facts: Sequence[Fact], gate: Gate, settings: Settings) -> list[str]:
    """Return the facts' wordings and forms about other subjects: those that the gate lets through, and without one others, too."""
    rng = random.Random(settings.seed)
    per_fact, outside = (max(8, count // math.isqrt(len(facts))) for count in (_NEAR_PER_FACT, _OUTSIDE_PER_FACT))
    around = surroundings({fact.keyword: fact.language for fact in facts}, probing=False, per_keyword=per_fact, seed=settings.seed)
    strange = [
        question
        for fact in facts
        for question in strange_forms(fact.keyword, fact.answer, look_alikes(fact.keyword, "retained", per_fact // 4), rng, probing=False)
    ]
    let_through: list[str] = []
    kept_out: list[str] = []
    for question in (*around.near, *strange):
        (kept_out if gate.find(question) is None else let_through).append(question)
    if settings.gated:
        return let_through
    return [*let_through, *rng.sample(kept_out, min(len(kept_out), outside * len(facts))), *around.unrelated]
