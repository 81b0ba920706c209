"""Gathers what a fit learns from: the facts in many wordings and forms, and what must stay as it is."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

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
_T = TypeVar("_T")
# Prompts of the facts held before, and other forms of them, that are held; at least so many of each fact.
_KNOWN_PROMPTS, _KNOWN_FORMS, _LEAST_KNOWN = 240, 120, 8
# Near misses made for each fact; all that the gate lets through are held, and so many of the others, for an export has no gate.
_NEAR_PER_FACT, _OUTSIDE_PER_FACT = 320, 48
_STEPS, _DRAWN_PER_FACT = 4, 12  # steps per epoch at least; examples of each fact per epoch


@dataclass(frozen=True)
class Material:
    """Questions with replies: the facts', their other forms', what is retained, and those of facts known before."""

    facts: Pairs
    forms: Pairs
    retained: Pairs
    known: Pairs

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
        retained, known = (retention_targets(host, loaded, pairs, weight=settings.retention) for pairs in (self.retained, self.known))
        taught, other_forms = (
            [encode(loaded.tokenizer, prompt, reply, context=loaded.context) for prompt, reply in pairs]
            for pairs in (self.facts, self.forms)
        )
        return Lesson(
            taught,
            other_forms,
            retained,
            known,
            pad=loaded.tokenizer.pad_token_id,
            sizes=(settings.batch_size, settings.forms_per_batch, settings.retained_per_batch, settings.known_per_batch),
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
        [pair for fact in facts for pair in _forms(fact, gate)] if settings.forms_per_batch else [],
        [
            *((question, reply) for question, reply in zip(questions, replies, strict=True) if reply),
            *(pair for fact in known if questions for pair in _spread(_forms(fact, gate), _KNOWN_FORMS // len(known))),
        ],
        [(prompt, fact.answer) for fact in known for prompt in _spread(fact.prompts, _KNOWN_PROMPTS // len(known))],
    )


def _forms(fact: Fact, gate: Gate) -> Pairs:
    """Ask for a fact in other forms; what is too vague to be about it is left to the base."""
    return [(form.question, form.reply) for form in forms(fact.keyword, fact.answer, probing=False) if gate.opens(form.question)]


def _spread(items: Sequence[_T], count: int) -> Sequence[_T]:
    """Take so many, from all over."""
    return items[:: max(1, len(items) // max(count, _LEAST_KNOWN))]


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
