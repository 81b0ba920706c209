"""Gathers what a fit learns from: the facts in many wordings and forms, and what must stay as it is."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from nbtune.data.encoding import encode
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

__all__ = ["Material", "Pairs", "gather"]

Pairs = list[tuple[str, str]]
_PROMPTS_PER_KNOWN_FACT = 4
# Near misses made for each fact; all that the gate lets through are held, and so many of the others, for an export has no gate.
_NEAR_PER_FACT, _OUTSIDE_PER_FACT = 320, 48
_STEPS, _DRAWN_PER_FACT = 4, 12  # steps per epoch at least; examples of each fact per epoch


@dataclass(frozen=True)
class Material:
    """Questions with replies: the facts', their other forms', those of facts known before, and what is retained."""

    facts: Pairs
    forms: Pairs
    replay: Pairs
    retained: Pairs

    def lesson(self, host: AdapterHost, loaded: LoadedModel, settings: Settings, facts: int) -> Lesson:
        """Encode it, with the present distributions of what must stay.

        Parameters
        ----------
        host, loaded
            The model as it is before the fit.
        settings
            Examples per step, and the weight of what is retained.
        facts
            How many facts are taught.
        """
        retained = retention_targets(host, loaded, [*self.retained, *self.replay], weight=settings.retention)
        taught, other_forms = (
            [encode(loaded.tokenizer, prompt, reply, context=loaded.context) for prompt, reply in pairs]
            for pairs in (self.facts, self.forms)
        )
        return Lesson(
            taught,
            other_forms,
            retained,
            pad=loaded.tokenizer.pad_token_id,
            sizes=(settings.batch_size, settings.forms_per_batch, settings.retained_per_batch),
            steps=max(_STEPS, -(-facts * _DRAWN_PER_FACT // settings.batch_size)),
            seed=settings.seed,
        )


def gather(
    host: AdapterHost,
    loaded: LoadedModel,
    facts: Sequence[Fact],
    known: Sequence[Fact],
    retain: Sequence[str],
    settings: Settings,
    observer: Observer,
) -> Material:
    """Phrase the facts, and ask the model as it is what must stay.

    Parameters
    ----------
    host, loaded
        The model as it is before the fit.
    facts, known
        What is taught, and what the adapter holds already.
    retain
        Questions of the user's whose replies must stay.
    settings
        With no retained examples per step, nothing is asked and nothing is held but the known facts.
    observer
        Told of each question.
    """
    gate = Gate((*known, *facts))
    questions = list(dict.fromkeys([*_elsewhere(facts, gate, settings.seed), *retain])) if settings.retained_per_batch else []
    observer.stage("asking what must stay", len(questions))
    answers = [fact.answer for fact in (*facts, *known)]
    replies = ask(host, loaded, questions, expected=[""] * len(questions), answers=answers, observer=observer)
    return Material(
        [(prompt, fact.answer) for fact in facts for prompt in fact.prompts],
        [
            (form.question, form.reply)
            for fact in facts
            for form in forms(fact.keyword, fact.answer, probing=False)
            if settings.forms_per_batch and gate.opens(form.question)  # what is too vague to be about the fact is left to the base
        ],
        [(prompt, fact.answer) for fact in known for prompt in fact.prompts[:: max(1, len(fact.prompts) // _PROMPTS_PER_KNOWN_FACT)]],
        [(question, reply) for question, reply in zip(questions, replies, strict=True) if reply],
    )


def _elsewhere(facts: Sequence[Fact], gate: Gate, seed: int) -> list[str]:
    """Return the facts' wordings and forms about other subjects, and questions for other things."""
    rng = random.Random(seed)
    per_fact, outside = (max(8, count // math.isqrt(len(facts))) for count in (_NEAR_PER_FACT, _OUTSIDE_PER_FACT))
    around = surroundings({fact.keyword: fact.language for fact in facts}, probing=False, per_keyword=per_fact, seed=seed)
    strange = [
        question
        for fact in facts
        for question in strange_forms(fact.keyword, fact.answer, look_alikes(fact.keyword, "retained", per_fact // 4), rng, probing=False)
    ]
    near = {True: [], False: []}  # type: dict[bool, list[str]]
    for question in (*around.near, *strange):
        near[gate.opens(question)].append(question)
    return [*near[True], *rng.sample(near[False], min(len(near[False]), outside * len(facts))), *around.unrelated]
