"""Teaches facts: fits their adapters, proves the result, and commits a new version if every fact was learned."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nbtune.errors import NbtuneError
from nbtune.folding import keyword_key
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

__all__ = ["RECIPES", "Teaching", "still_retainable"]

RECIPES = ("default", "reference")
REFERENCE_PROMPTS = 8


@dataclass(frozen=True)
class _Learned:
    """Result of one or several fits: an adapter for each, their joined history, and the total of optimizer steps."""

    adapters: tuple[Adapter, ...]
    history: pd.DataFrame
    steps: int


@dataclass(frozen=True)
class Teaching:
    """Task of teaching facts.

    Parameters
    ----------
    facts
        The facts to teach.
    settings
        Settings of the fit.
    recipe
        ``"default"``, or ``"reference"`` for the recipe of `nbtune.knowledge.reference`, to compare with.
    retain
        Questions whose replies must not change.
    rewordings
        Number of further wordings per keyword to ask the model itself for.
    """

    facts: tuple[Fact, ...]
    settings: Settings
    recipe: str = "default"
    retain: tuple[str, ...] = ()
    rewordings: int = 0

    def give(
        self, host: AdapterHost, loaded: LoadedModel, store: Store, name: str, start: Version, observer: Observer
    ) -> tuple[Result, Version]:
        """Teach and prove the facts, and commit a version that holds them in addition to those of `start`.

        Parameters
        ----------
        host, loaded
            The model with `start` attached. Afterwards the new version is attached.
        store, name
            Store and adapter name of the new version.
        start
            The version to continue from.
        observer
            Notified of progress.

        Returns
        -------
        tuple
            The result and the new version.

        Raises
        ------
        FactNotLearned
            When a trained prompt does not get the answer at the end, or a reply about a known fact or to a retained question has
            changed. Nothing is committed.
        NbtuneError
            Before any work, when the facts can't be taught this way or `start` can't be continued with these settings. Later,
            when the loss is not finite, or the version can't be saved.
        """
        started = time.perf_counter()
        facts, settings, kept = self._checked(name, start, loaded)
        reworded: dict[str, Rewordings] = {}
        if self.rewordings:
            facts, reworded = self._with_rewordings(kept.facts, facts, host, loaded, observer)
        retain = tuple(dict.fromkeys((*still_retainable(start.retain, facts), *self.retain)))
        held = self.retain if settings.gated else retain  # without a gate the single adapter is fitted again, and retains all
        proof = Proof(facts, kept.facts, held)
        # Facts that are taught again are left out before the first replies, so that their leaks do not count as old replies. A single
        # adapter for several facts can't leave one out.
        if len(kept.facts) < len(start.facts) and (settings.gated or not kept.facts):
            host.attach(kept.adapters, Gate(kept.facts).find) if kept.adapters else host.disable()
        proof.ask_before(host, loaded, observer)
        learned = self._fit_adapters(facts if settings.gated else (*kept.facts, *facts), settings, held, host, loaded, observer)
        adapters = (*kept.adapters, *learned.adapters)
        # The proof is of exactly the adapters that are saved.
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
        """Fit a single adapter for all facts, leave it on the host, and return its proof against the base.

        Raises
        ------
        FactNotLearned
            When a trained prompt does not get the answer at the end, or the reply to a retained question has changed.
        """
        host.clear()
        proof = Proof(self.facts, retain=self.retain)
        proof.ask_before(host, loaded, observer)
        learned = self._fit_adapters(self.facts, self.settings, self.retain, host, loaded, observer)
        host.attach(learned.adapters)
        report = replace(proof.ask_after(host, loaded, observer), steps=learned.steps)
        _refuse_failure(Result(standings(self.facts, report), report, learned.history, ""))
        return report

    def _checked(self, name: str, start: Version, loaded: LoadedModel) -> tuple[tuple[Fact, ...], Settings, Version]:
        """Return facts and settings for the recipe, and `start` without the facts taught again; refuse what can't be taught."""
        facts, settings = self._prepared()
        names = {keyword_key(fact.keyword) for fact in facts}
        kept = start.without({fact.keyword for fact in start.facts if keyword_key(fact.keyword) in names})
        check(loaded, facts, settings)
        about = next((question for question in self.retain if any(fact.asked_by(question) for fact in facts)), None)
        if about is not None:
            raise NbtuneError(f"--retain holds {about!r}, a question about what is taught, whose reply has to change: leave it out.")
        self._check_continues(name, start, settings)
        if settings.gated:
            _refuse_mixed(kept.facts, facts)
        return facts, settings, kept

    def _prepared(self) -> tuple[tuple[Fact, ...], Settings]:
        """Return the facts and settings, changed as the recipe requires."""
        if self.recipe != "reference":
            return self.facts, self.settings
        from nbtune.knowledge.reference import METHOD

        facts = tuple(replace(fact, own_prompts=fact.prompts[:REFERENCE_PROMPTS], extended=False) for fact in self.facts)
        return facts, replace(self.settings, method=METHOD, gated=False)

    def _fit_adapters(
        self, facts: tuple[Fact, ...], settings: Settings, held: tuple[str, ...], host: AdapterHost, loaded: LoadedModel, observer: Observer
    ) -> _Learned:
        """Fit one adapter per fact, or without a gate a single one for all facts."""
        import pandas as pd

        fit = inject
        if self.recipe == "reference":
            from nbtune.knowledge.reference import inject_reference as fit
        groups = [(fact,) for fact in facts] if settings.gated else [facts]
        adapters, histories, steps = [], [], 0
        for number, group in enumerate(groups, start=1):
            title = f"{group[0].keyword} ({number} of {len(groups)})"
            watched = Titled(observer, title) if len(groups) > 1 else observer
            history, taken = fit(host, loaded, group, settings, watched, held if settings.gated else still_retainable(held, group))
            adapters.append(host.extract())
            histories.append(history.assign(fact=number))
            steps += taken
        return _Learned(tuple(adapters), pd.concat(histories, ignore_index=True), steps)

    def _with_rewordings(
        self, known: tuple[Fact, ...], facts: tuple[Fact, ...], host: AdapterHost, loaded: LoadedModel, observer: Observer
    ) -> tuple[tuple[Fact, ...], dict[str, Rewordings]]:
        """Add the model's own wordings to the trained prompts, except those that the gate assigns to another fact."""
        observer.stage("asking for other wordings", len(facts))
        found, gate = {}, Gate((*known, *facts))
        for place, fact in enumerate(facts, start=len(known)):
            written = reword(host, loaded, fact, self.rewordings, self.settings.seed)
            fitting = tuple(wording for wording in written.kept if gate.find(wording) in (None, place))
            found[fact.keyword] = Rewordings(fitting, written.dropped + len(written.kept) - len(fitting))
            observer.advance()
        return tuple(fact.with_prompts(found[fact.keyword].kept) for fact in facts), found

    def _check_continues(self, name: str, start: Version, settings: Settings) -> None:
        """Refuse an adapter whose present contents do not allow teaching with these settings."""
        if start.examples:
            raise NbtuneError(f"The adapter {name!r} was trained on examples and can't take facts: give another --name.")
        if not start.facts:
            return
        if self.recipe == "reference":
            raise NbtuneError("The reference recipe starts from an empty adapter: give a new --name.")
        if start.gated != settings.gated:
            made = "was made without a gate" if settings.gated else "was made with a gate"
            raise NbtuneError(f"The adapter {name!r} {made}, which can't be changed: use another --name.")
        if start.method != settings.method:
            raise NbtuneError(
                f"The adapter {name!r} was made with {start.method} and can't continue with {settings.method}: "
                f"use --method {start.method}, or another --name."
            )


def _refuse_mixed(known: Sequence[Fact], facts: Sequence[Fact]) -> None:
    """Refuse facts if the gate assigns a trained prompt of a new fact, or a user's prompt of a known one, to another fact."""
    every = (*known, *facts)
    gate = Gate(every)
    for place, fact in enumerate(every):
        own = [prompt.replace("{x}", fact.keyword) for prompt in fact.own_prompts]
        for prompt in own if place < len(known) else fact.prompts:
            found = gate.find(prompt)
            if found not in (None, place):
                raise NbtuneError(
                    f"{prompt!r} belongs to the fact {fact.keyword!r}, but leads to {every[found].keyword!r}: teach one of the two in "
                    "another adapter (--name), or give questions of your own that fit only one fact (--prompts and --probes)."
                )


def still_retainable(retain: Sequence[str], facts: Sequence[Fact]) -> tuple[str, ...]:
    """Return the retained questions that are about none of the facts; the reply about a fact taught since has to change."""
    names = Names(facts)
    elsewhere = (question for question in retain if names.first(names.folded(question)) is None)
    return tuple(question for question in elsewhere if not any(fact.asked_by(question) for fact in facts))


def _refuse_failure(result: Result) -> None:
    """Raise if a fact was not learned, or a reply that must stay has changed."""
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
            "Try another --lr, a higher --rank, or another --name; leave out of --retain what the fact itself changes.",
            replace(result, facts=tuple(replace(fact, standing=FAILED) for fact in result.facts)),
        )


def _lost(names: Sequence[str]) -> str:
    return ", ".join(sorted(set(names)))
