"""The facts panel: the facts of the adapter in use, and actions on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ipywidgets import HTML, Accordion, HBox, Layout, Text, VBox

from nbtune.display.facts import SCORES, facts_table
from nbtune.display.heatmap import heat_map
from nbtune.display.shown import Shown
from nbtune.errors import NbtuneError
from nbtune.panels.ledger import Ledger
from nbtune.panels.panel import WIDE, Desk, Panel, page
from nbtune.panels.progress import Progress

if TYPE_CHECKING:
    from nbtune.knowledge.facts import Fact
    from nbtune.knowledge.result import Result

__all__ = ["FactsPanel"]

_KINDS = {"trained": "trained prompts", "held-out": "held-out", "portability": "other forms", "near miss": "near miss"}
_MAPPED = 40  # most rows of the heat map


class FactsPanel(Panel):
    """A table of facts, a heat map of their scores, and buttons to probe, edit, forget, undo, redo, rebuild, export and import."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._probed: dict[str, Result] = {}  # last probes, by keyword
        self._of: tuple[Any, ...] = ()  # the model, adapter and version that they are about
        self.ledger = Ledger(self.say)
        actions = {
            "probe": (self._probe, "search"),
            "edit": (self._edit, "pencil"),
            "forget": (self._forget, "trash"),
            "undo": (self._undo, "undo"),
            "redo": (self._redo, "repeat"),
            "rebuild": (self._rebuild, "refresh"),
            "export": (self._export, "save"),
            "import": (self._import, "upload"),
        }
        self.buttons = {key: self.button(key, clicked, icon=icon) for key, (clicked, icon) in actions.items()}
        self.file = self.field(Text, "file", value="facts.yaml")
        self.progress, self.map, self.card = HTML(), HTML(), HTML()
        self.drawer = Accordion([VBox([self.map, self.card])], selected_index=0)
        rows = [
            HBox([*(self.buttons[key] for key in ("probe", "edit", "forget", "undo", "redo", "rebuild")), self.stop]),
            HBox([self.file, self.buttons["export"], self.buttons["import"]]),
        ]
        for row in rows:
            row.layout.flex_flow = "row wrap"
        self.box = VBox([self.ledger.box, *rows, self.status, self.progress, self.drawer], layout=Layout(**WIDE))
        self.relabel()

    def relabel(self) -> None:
        """Set all labels in the session's language."""
        super().relabel()
        self.drawer.set_title(0, self.say("heat map"))

    def refresh(self) -> None:
        """Update the table and the heat map to the adapter in use."""
        super().refresh()
        if self.desk.jobs.running:  # a job may be using another adapter for a while
            return
        lm = self.session.lm if self.session.loaded else None
        of = () if lm is None else (lm, lm.adapter, lm.version)
        if of != self._of:
            self._of, self._probed, self.card.value = of, {}, ""
        self.ledger.show(self._facts())
        self.map.value = page(self._heat_map().html) if self._facts() else ""
        self.drawer.layout.display = "" if self._facts() else "none"

    def state(self) -> Shown:
        """Return the table of facts and the heat map."""
        facts = self._facts()
        if not facts:
            return Shown(self.say("no facts"), f"<div>{self.say('no facts')}</div>")
        ledger, heat = facts_table(facts, self.session.lm.adapter or ""), self._heat_map()
        return Shown(f"{ledger.text}\n\n{heat.text}", ledger.html + heat.html)

    def _facts(self) -> list[Fact]:
        """Return the facts of the adapter in use, with the scores of their last probe."""
        facts = self.session.lm.facts if self.session.loaded else ()
        found = {fact.keyword: fact for result in self._probed.values() for fact in result.facts}
        return [found.get(fact.keyword, fact) for fact in facts]

    def _heat_map(self) -> Shown:
        rows = {fact.keyword: self._shares(fact) for fact in self._facts()[:_MAPPED]}
        return heat_map(rows, [self.say(key) for key in _KINDS.values()])

    def _shares(self, fact: Fact) -> list[float]:
        """Return a fact's share of each of `_KINDS`, from its last probe or else its teaching; near misses from a probe only, else NaN."""
        result, nan = self._probed.get(fact.keyword), float("nan")
        known = dict(zip(_KINDS, ((fact.scores or {}).get(score, nan) for score in SCORES), strict=False))
        asked = {"near miss": result.report.near_misses} if result else {}
        return [{**known, **asked}.get(kind, nan) for kind in _KINDS]

    def _chosen(self, what: str) -> list[str]:
        chosen = self.ledger.chosen
        if not chosen:
            raise NbtuneError(f"{what} which fact? Select its row in the table first.")
        return chosen

    def _watched(self, doing: str, about: str, work: Callable[[Progress], Any], then: Callable[[Any], None]) -> None:
        """Run a job with a progress bar."""
        progress = Progress(self.progress, self.say)

        def over(outcome: Any) -> None:
            self.progress.value = ""
            then(outcome)

        def failed(error: BaseException) -> None:
            self.progress.value = ""
            if (result := getattr(error, "result", None)) is not None:  # a `FactNotLearned`
                from nbtune.display.report_card import report_card

                self.card.value = page(report_card(result).html)
            self.failed(error)

        self.start(doing, about, lambda: work(progress), over, failed=failed)

    def _probe(self) -> None:
        keywords = self.ledger.chosen or [fact.keyword for fact in self._facts()]
        if not keywords:
            raise NbtuneError("There are no facts to probe: teach one first.")

        def work(progress: Progress) -> tuple[dict[str, Result], str]:
            from nbtune.display.report_card import report_card

            found = {keyword: self.session.lm.probe(keyword, observer=progress) for keyword in keywords}
            return found, "".join(report_card(result).html for result in found.values())

        def then(outcome: tuple[dict[str, Result], str]) -> None:
            found, cards = outcome
            self._probed |= found
            self.card.value = page(cards)
            self.tell("")

        self._watched("probing", ", ".join(keywords), work, then)

    def _edit(self) -> None:
        chosen = self._chosen("Edit")
        if len(chosen) > 1:
            raise NbtuneError("Edit one fact at a time: select a single row.")
        fact = next(fact for fact in self._facts() if fact.keyword == chosen[0])
        self.desk.teach(fact.to_row())
        self.done(self.say("handed on"))

    def _forget(self) -> None:
        chosen = self._chosen("Forget")
        names = ", ".join(chosen)
        self._watched(
            "forgetting",
            names,
            lambda progress: self.session.lm.forget(*chosen, observer=progress),
            lambda _: self.done(self.say("forgotten", x=names)),
        )

    def _undo(self) -> None:
        self.start("undoing", "", lambda: self.session.lm.undo(), self.back)

    def _redo(self) -> None:
        self.start("redoing", "", lambda: self.session.lm.redo(), self.again)

    def _rebuild(self) -> None:
        self._watched("rebuilding", "", lambda progress: self.session.lm.rebuild(observer=progress), self._learned)

    def _export(self) -> None:
        if not self.file.value.strip():
            raise NbtuneError("Export to which file? Name a .yaml file.")
        self.start(
            "exporting",
            self.file.value,
            lambda: self.session.lm.save_facts(self.file.value.strip()),
            lambda path: self.done(self.say("written", x=path)),
        )

    def _import(self) -> None:
        source = self.file.value.strip()
        if not source:
            raise NbtuneError("Import which file? Name a .yaml file of facts.")
        self._watched("teaching", source, lambda progress: self.session.lm.finetune(source, observer=progress), self._learned)

    def _learned(self, result: Result) -> None:
        self.done(self.say("version", x=result.version))
