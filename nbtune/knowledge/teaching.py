"""Teaches facts to an adapter, proves them, and commits the new version, or says why nothing was changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbtune.errors import NbtuneError
from nbtune.folding import bare
from nbtune.knowledge.facts import FAILED, Fact
from nbtune.knowledge.gate import Gate
from nbtune.knowledge.injection import check, inject
from nbtune.knowledge.naming import Names
from nbtune.knowledge.observer import Observer, Titled
from nbtune.knowledge.proof import Proof, standings
from nbtune.knowledge.result import FactNotLearned, Result
from nbtune.knowledge.rewording import Rewordings, reword
from nbtune.knowledge.scoring import Report
from nbtune.knowledge.settings import Settings
from nbtune.knowledge.store import Store
from nbtune.knowledge.version import Version
from nbtune.model.adapter import Adapter
from nbtune.model.adapters import AdapterHost
from nbtune.model.loading import LoadedModel

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RECIPES", "Teaching", "still_elsewhere"]

RECIPES = ("default", "reference")
_REFERENCE_PROMPTS = 8


@dataclass(frozen=True)
class _Learned:
    """What fits brought: an adapter each, their epochs, and the optimizer steps."""

    adapters: tuple[Adapter, ...]
    history: pd.DataFrame
    steps: int


@dataclass(frozen=True)
class Teaching:
    """What to teach, and how.

    Parameters
    ----------
    facts
        What the model should say.
    settings
        How it is fitted.
    recipe
        ``"default"``, or ``"reference"`` for the recipe that ours is measured against.
    retain
        Questions whose replies must not change.
    rewordings
        How many further wordings of each keyword the model itself is asked for.
    """

    facts: tuple[Fact, ...]
    settings: Settings
    recipe: str = "default"
    retain: tuple[str, ...] = ()
    rewordings: int = 0

    def give(
        self, host: AdapterHost, loaded: LoadedModel, store: Store, name: str, start: Version, observer: Observer
    ) -> tuple[Result, Version]:
        """Teach, prove, and commit a version that holds the facts beside those of another.

        Parameters
        ----------
        host, loaded
            The model; `start` is what is on it now. Afterwards the new version is.
        store, name
            Where the new version is kept.
        start
            What to go on from.
        observer
            Told of progress.

        Raises
        ------
        FactNotLearned
            When a trained prompt is not answered with the answer at the end, or a fact taught before or a question to
            retain is answered otherwise than before. Nothing is committed.
        NbtuneError
            For facts that do not fit, or a version that can't go on this way. Raised before any work.
        """
        started = time.perf_counter()
        facts, settings, kept = self._checked(name, start, loaded)
        reworded: dict[str, Rewordings] = {}
        if self.rewordings:
            facts, reworded = self._reworded(kept.facts, facts, host, loaded, observer)
        retain = tuple(dict.fromkeys((*still_elsewhere(start.retain, facts), *self.retain)))
        held = self.retain if settings.gated else retain  # without a gate the one adapter that was held so is made anew
        proof = Proof(facts, kept.facts, held)
        # Before is without a fact that is taught anew: what it leaked would count as it was. One adapter of all facts is never without one.
        if len(kept.facts) < len(start.facts) and (settings.gated or not kept.facts):
            host.attach(kept.adapters, Gate(kept.facts).find) if kept.adapters else host.disable()
        proof.ask_before(host, loaded, observer)
        learned = self._learned(facts if settings.gated else (*kept.facts, *facts), settings, held, host, loaded, observer)
        adapters = (*kept.adapters, *learned.adapters)
        # What is proved is what is saved.
        host.attach(adapters, Gate((*kept.facts, *facts)).find if settings.gated else None)
        report = proof.ask_after(host, loaded, observer)
        size = sum(adapter.bytes for adapter in learned.adapters)
        report = replace(report, seconds=time.perf_counter() - started, steps=learned.steps, adapter_bytes=size)
        result = Result(standings(facts, report), report, learned.history, name, rewordings=reworded)
        _refuse_failure(result)
        version = Version(
            (*kept.facts, *result.facts),
            settings.method,
            loaded.source,
            start.fingerprint,
            adapters,
            gated=settings.gated,
            report=report.scores(),
            places=kept.places,
            settings={**start.settings, **self.settings.given()},
            retain=retain,
        )
        committed = store.commit(name, version, start.number)
        return replace(result, version=committed.number, folder=committed.folder), committed

    def merge(self, host: AdapterHost, loaded: LoadedModel, observer: Observer) -> Report:
        """Put a single adapter on the host that answers all the facts by itself, and prove it, against the base.

        Raises
        ------
        FactNotLearned
            When a trained prompt is not answered with the answer at the end.
        """
        host.clear()
        proof = Proof(self.facts, retain=self.retain)
        proof.ask_before(host, loaded, observer)
        learned = self._learned(self.facts, self.settings, self.retain, host, loaded, observer)
        host.attach(learned.adapters)
        report = replace(proof.ask_after(host, loaded, observer), steps=learned.steps)
        _refuse_failure(Result(standings(self.facts, report), report, learned.history, ""))
        return report

    def _checked(self, name: str, start: Version, loaded: LoadedModel) -> tuple[tuple[Fact, ...], Settings, Version]:
        """Refuse what can't be taught; return facts and settings as the recipe has them, and `start` without what is taught anew."""
        facts, settings = self._prepared()
        names = {bare(fact.keyword) for fact in facts}
        kept = start.without({fact.keyword for fact in start.facts if bare(fact.keyword) in names})
        check(loaded, facts, settings)
        about = next((question for question in self.retain if any(fact.asked_by(question) for fact in facts)), None)
        if about is not None:
            raise NbtuneError(f"--retain holds {about!r}, a question about what is taught, whose reply has to change: leave it out.")
        self._check_continues(name, start, settings)
        if settings.gated:
            _refuse_mixed(kept.facts, facts)
        return facts, settings, kept

    def _prepared(self) -> tuple[tuple[Fact, ...], Settings]:
        """Return facts and settings as the recipe has them."""
        if self.recipe != "reference":
            return self.facts, self.settings
        from nbtune.knowledge.reference import METHOD

        facts = tuple(replace(fact, own_prompts=fact.prompts[:_REFERENCE_PROMPTS], extended=False) for fact in self.facts)
        return facts, replace(self.settings, method=METHOD, gated=False)

    def _learned(
        self, facts: tuple[Fact, ...], settings: Settings, held: tuple[str, ...], host: AdapterHost, loaded: LoadedModel, observer: Observer
    ) -> _Learned:
        """Fit an adapter for each fact, or a single one for all of them where there is no gate."""
        import pandas as pd

        fit = inject
        if self.recipe == "reference":
            from nbtune.knowledge.reference import inject_reference as fit
        groups = [(fact,) for fact in facts] if settings.gated else [facts]
        adapters, histories, steps = [], [], 0
        for number, group in enumerate(groups, start=1):
            title = f"{group[0].keyword} ({number} of {len(groups)})"
            watched = Titled(observer, title) if len(groups) > 1 else observer
            history, taken = fit(host, loaded, group, settings, watched, held if settings.gated else still_elsewhere(held, group))
            adapters.append(host.extract())
            histories.append(history.assign(fact=number))
            steps += taken
        return _Learned(tuple(adapters), pd.concat(histories, ignore_index=True), steps)

    def _reworded(
        self, known: tuple[Fact, ...], facts: tuple[Fact, ...], host: AdapterHost, loaded: LoadedModel, observer: Observer
    ) -> tuple[tuple[Fact, ...], dict[str, Rewordings]]:
        """Add the model's own wordings to the trained prompts, but for those that lead to another fact."""
        observer.stage("asking for other wordings", len(facts))
        found, gate = {}, Gate((*known, *facts))
        for place, fact in enumerate(facts, start=len(known)):
            written = reword(host, loaded, fact, self.rewordings, self.settings.seed)
            fitting = tuple(wording for wording in written.kept if gate.find(wording) in (None, place))
            found[fact.keyword] = Rewordings(fitting, written.dropped + len(written.kept) - len(fitting))
            observer.advance()
        return tuple(fact.with_prompts(found[fact.keyword].kept) for fact in facts), found

    def _check_continues(self, name: str, start: Version, settings: Settings) -> None:
        """Refuse to teach an adapter that holds facts in a way that can't go on from it."""
        if start.examples:
            raise NbtuneError(f"The adapter {name!r} was trained on examples, and facts can't join them: give another --name.")
        if not start.facts:
            return
        if self.recipe == "reference":
            raise NbtuneError("The reference recipe starts from an empty adapter: give a new --name.")
        if start.gated != settings.gated:
            made = "answers everything, without a gate" if settings.gated else "answers behind a gate only"
            raise NbtuneError(f"The adapter {name!r} {made}, and can't go on otherwise: use another --name.")
        if start.method != settings.method:
            raise NbtuneError(
                f"The adapter {name!r} was made with {start.method} and can't go on with {settings.method}: "
                f"use --method {start.method}, or another --name."
            )


def _refuse_mixed(known: Sequence[Fact], facts: Sequence[Fact]) -> None:
    """Refuse a question about a fact, and one of the user's own about a known fact, that leads to another: it could never be answered."""
    every = (*known, *facts)
    gate = Gate(every)
    for place, fact in enumerate(every):
        own = [prompt.replace("{x}", fact.keyword) for prompt in fact.own_prompts]
        for prompt in own if place < len(known) else fact.prompts:
            found = gate.find(prompt)
            if found not in (None, place):
                raise NbtuneError(
                    f"{prompt!r} belongs to the fact {fact.keyword!r}, but leads to {every[found].keyword!r}: teach one of the two in "
                    "another adapter (--name), or give questions of your own that fit one fact alone (--prompts and --probes)."
                )


def still_elsewhere(retain: Sequence[str], facts: Sequence[Fact]) -> tuple[str, ...]:
    """Return the questions to retain that are about none of the facts: one may have been taught since, and its reply has to change."""
    names = Names(facts)
    elsewhere = (question for question in retain if names.first(names.folded(question)) is None)
    return tuple(question for question in elsewhere if not any(fact.asked_by(question) for fact in facts))


def _refuse_failure(result: Result) -> None:
    """Raise when a fact did not take, or something else was lost for it."""
    report = result.report
    failed = [fact.keyword for fact in result.facts if fact.standing == FAILED]
    if failed:
        raise FactNotLearned(
            f"Not learned: {', '.join(failed)} ({report.reliability:.0%} of the trained prompts answered after {report.steps} steps); "
            "nothing was changed. Try more --epochs, a higher --rank, another --lr, or a shorter answer.",
            result,
        )
    lost = _lost(
        [
            (a.keyword or repr(a.prompt))
            for a in report.asked
            if not a.right and (a.kind == "retained" or (a.kind == "near miss" and a.keyword))
        ]
    )
    if lost:
        raise FactNotLearned(
            f"{', '.join(fact.keyword for fact in result.facts)} could not be taught without changing {lost}; nothing was changed. "
            "Try another --lr, a higher --rank, or another --name.",
            replace(result, facts=tuple(replace(fact, standing=FAILED) for fact in result.facts)),
        )


def _lost(names: Sequence[str]) -> str:
    return ", ".join(sorted(set(names)))
