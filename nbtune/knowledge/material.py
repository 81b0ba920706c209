"""Gathers the training material of a fit: the facts in many wordings and forms, and replies that must not change."""

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
# Both are divided by the root of the number of facts.
_NEAR_PER_FACT = 320  # near misses made; those that the gate lets through are all retained
_OUTSIDE_PER_FACT = 48  # other questions retained without a gate
_STEPS = 4  # minimum steps per epoch
_DRAWN_PER_FACT = 12  # examples of each fact per epoch


@dataclass(frozen=True)
class Material:
    """Training material: questions with replies about the facts, in other forms, and to be retained."""

    facts: Pairs
    forms: Pairs
    retained: Pairs

    def lesson(self, loaded: LoadedModel, settings: Settings, facts: int) -> Lesson:
        """Return the material encoded, with the base's distributions for the retained replies.

        Parameters
        ----------
        loaded
            The base.
        settings
            Examples per step, weight of the retained examples, and seed.
        facts
            Number of facts that are taught.
        """
        taught = [encode(loaded.tokenizer, prompt, reply, context=loaded.context) for prompt, reply in self.facts]
        other_forms = []
        for question, reply in self.forms:
            with suppress(NbtuneError):  # a form that contains the answer twice may be too long although the fact is not
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
    """Phrase the facts, and ask the base for the replies that must not change.

    Parameters
    ----------
    host, loaded
        The base, without an adapter.
    facts
        The facts to teach.
    retain
        The user's questions whose replies must not change.
    settings
        Settings of the fit; with no retained examples per step, nothing is asked.
    observer
        Notified of each question.
    """
    gate = Gate(facts)
    return Material(
        [(prompt, fact.answer) for fact in facts for prompt in fact.prompts],
        # Questions too vague for the gate are left to the base, and probes are never trained.
        [
            (form.question, form.reply)
            for place, fact in enumerate(facts)
            if settings.forms_per_batch
            for form in forms(fact.keyword, fact.answer, probing=False)
            if gate.find(form.question) == place and not fact.is_tested_by(form.question)
        ],
        _collect_retained(host, loaded, facts, gate, retain, settings, observer) if settings.retained else [],
    )


def _collect_retained(
    host: AdapterHost,
    loaded: LoadedModel,
    facts: Sequence[Fact],
    gate: Gate,
    retain: Sequence[str],
    settings: Settings,
    observer: Observer,
) -> Pairs:
    """Return questions about other things with the base's replies, uncut for the user's own questions."""
    elsewhere = [question for question in dict.fromkeys(_build_unrelated(facts, gate, settings)) if question not in retain]
    observer.stage("asking what must stay", len(elsewhere) + len(retain))
    answers = [fact.answer for fact in facts]
    pairs: Pairs = []
    for questions, limit in ((elsewhere, None), (retain, DEFAULT_NEW_TOKENS)):
        drafts = [""] * len(questions)
        replies = ask(host, loaded, questions, expected=drafts, answers=answers, limit=limit, observer=observer, recall=True)
        pairs += [(question, reply) for question, reply in zip(questions, replies, strict=True) if reply.strip()]
    return pairs


def _build_unrelated(facts: Sequence[Fact], gate: Gate, settings: Settings) -> list[str]:
    """Return questions in the facts' wordings and forms about other subjects.

    With a gate, only those that it lets through; without one, also a sample of the others, and unrelated questions.
    """
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
