"""The finetune panel: teaches a fact or trains on data as ``%finetune`` does; a lesson can be watched, stopped and undone."""

from __future__ import annotations

import sys
from typing import Any

from ipywidgets import HTML, Accordion, Dropdown, HBox, Layout, Text, Textarea, ToggleButtons, VBox

from nbtune.display.shown import Shown
from nbtune.errors import NbtuneError
from nbtune.panels.panel import WIDE, Desk, Panel, number, page
from nbtune.panels.progress import Progress
from nbtune.variables import source_of

__all__ = ["FinetunePanel"]

_FACT, _DATA = "fact", "data"
_NUMBERS: dict[str, type[int] | type[float]] = {
    "epochs": int,
    "learning_rate": float,
    "rank": int,
    "batch_size": int,
    "seed": int,
    "rewordings": int,
    "val": float,
}
_UNFOLDED = ("epochs", "learning_rate")
_FOR = {"rewordings": _FACT, "val": _DATA}  # fields that apply to one kind of lesson only
_METHODS = "nbtune.training.methods"


class FinetunePanel(Panel):
    """A lesson to fill in, its settings, its progress and its result."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._shown: Shown | None = None
        self._taught: str | None = None  # the adapter of the last lesson
        self._handed: dict[str, Any] = {}  # the row that another panel handed over
        self.kind = ToggleButtons(options=[("", _FACT), (" ", _DATA)], style={"button_width": "auto"})
        self.keyword = self.field(Text, "keyword", layout=WIDE)
        self.answer = self.field(Textarea, "answer", layout=WIDE, rows=4)
        self.source = self.field(Text, "source", layout=WIDE)
        self.method = self.field(Dropdown, "method", options=["lora"])
        self.name = self.field(Text, "name")
        self.numbers = {name: self.field(Text, name) for name in _NUMBERS}
        self.preview = self.button("preview", self._preview, icon="eye")
        self.begin = self.button("start", self._start, icon="play", button_style="primary")
        self.undo = self.button("undo", self._undo, icon="undo")
        self.fact = VBox([self.keyword, self.answer], layout=Layout(**WIDE))
        self.data = VBox([self.source], layout=Layout(**WIDE))
        self.more = Accordion([self._row(name for name in _NUMBERS if name not in _UNFOLDED)], selected_index=None)
        self.progress, self.result = HTML(), HTML(layout=Layout(**WIDE))
        settings = HBox([self.method, self.name, *(self.numbers[name] for name in _UNFOLDED)], layout=Layout(flex_flow="row wrap"))
        buttons = HBox([self.begin, self.stop, self.preview, self.undo], layout=Layout(flex_flow="row wrap"))
        children = [self.kind, self.fact, self.data, settings, self.more, buttons, self.status, self.progress, self.result]
        self.box = VBox(children, layout=Layout(**WIDE))
        self.kind.observe(self.guarded(self._switch), "value")
        self._switch()
        self.relabel()

    def relabel(self) -> None:
        """Set all labels in the session's language."""
        super().relabel()
        self.more.set_title(0, self.say("more"))
        kind = self.kind.value
        self.kind.options = [(self.say("a fact"), _FACT), (self.say("data"), _DATA)]
        self.kind.value = kind
        for field in (self.name, *self.numbers.values()):
            field.placeholder = self.say("default")

    def refresh(self) -> None:
        """Update the Stop button, and list the methods once their module has been imported."""
        super().refresh()
        known = getattr(sys.modules.get(_METHODS), "METHODS", None)  # importing them here would take seconds
        if known and self.method.options != tuple(known):
            chosen = self.method.value
            self.method.options = tuple(known)
            self.method.value = chosen

    def state(self) -> Shown:
        """Return the last result or preview."""
        text = self.say("no lesson")
        return self._shown or Shown(text, f"<div>{text}</div>")

    def teach(self, row: dict[str, Any]) -> None:
        """Fill in a fact for the user to review and start.

        Parameters
        ----------
        row
            The fact: ``keyword``, ``answer`` and, if any, prompts and probes of its own; these apply as long as the keyword
            is not changed.
        """
        self._handed = row
        self.kind.value, self.keyword.value, self.answer.value = _FACT, row["keyword"], row["answer"]

    def _row(self, names: Any) -> Any:
        return HBox([self.numbers[name] for name in names], layout=Layout(flex_flow="row wrap"))

    def _switch(self) -> None:
        self.fact.layout.display = "" if self.kind.value == _FACT else "none"
        self.data.layout.display = "" if self.kind.value == _DATA else "none"
        for name, kind in _FOR.items():
            self.numbers[name].layout.display = "" if self.kind.value == kind else "none"

    def _lesson(self) -> tuple[str, Any]:
        """Return the title of the lesson, and what to teach."""
        if self.kind.value == _FACT:
            keyword, answer = self.keyword.value.strip(), self.answer.value.strip()
            if not keyword or not answer:
                raise NbtuneError("A fact needs a keyword and an answer: fill in both.")
            own = self._handed if self._handed.get("keyword") == keyword else {}
            return keyword, [{**own, "keyword": keyword, "answer": answer}]
        source = self.source.value.strip()
        if not source:
            raise NbtuneError("Which data? Name a variable of the notebook, a file, or a data set.")
        return source, source_of(source, self.desk.namespace, "data")

    def _options(self) -> dict[str, Any]:
        given = {
            name: number(field.value, _NUMBERS[name], name)
            for name, field in self.numbers.items()
            if _FOR.get(name, self.kind.value) == self.kind.value
        }
        options = {name: value for name, value in given.items() if value is not None}
        return {"method": self.method.value, "name": self.name.value.strip() or None, **options}

    def _start(self) -> None:
        title, source = self._lesson()
        options = self._options()
        progress = Progress(self.progress, self.say)

        def work() -> tuple[Any, Shown]:
            from nbtune.display.report_card import report_card
            from nbtune.knowledge.result import FactNotLearned

            try:
                result = self.session.lm.finetune(source, observer=progress, **options)
            except FactNotLearned as failure:
                self._put(report_card(failure.result))
                raise
            return result, report_card(result)

        def then(outcome: tuple[Any, Shown]) -> None:
            result, card = outcome
            self._taught = result.adapter
            self.progress.value = ""
            self._put(card)
            self.done(card.text.splitlines()[0].removeprefix("✔ "))

        def failed(error: BaseException) -> None:
            self.progress.value = ""
            self.failed(error)
            if isinstance(error, KeyboardInterrupt):
                self.tell(self.say("unchanged"))

        self.start("teaching", title, work, then, failed=failed, begun=lambda: self._put(None))

    def _preview(self) -> None:
        title, source = self._lesson()
        kind = self.kind.value  # read now: it may change until the model is loaded

        def work() -> Shown:
            from nbtune.display.preview import preview_card
            from nbtune.display.tokens import token_view

            lm = self.session.lm
            if kind != _FACT:
                return preview_card(lm.preview(source))
            own = {name: value for name, value in source[0].items() if name != "keyword"}
            return token_view(lm.tokens(title, **own))

        self.start("previewing", title, work, self._previewed)

    def _previewed(self, shown: Shown) -> None:
        self._put(shown)
        self.tell("")

    def _undo(self) -> None:
        def work() -> int:
            lm = self.session.lm
            return lm.undo(None if lm.adapter else self._taught)

        def then(number: int) -> None:
            self._put(None)
            self.back(number)

        self.start("undoing", "", work, then)

    def _put(self, shown: Shown | None) -> None:
        self._shown = shown
        self.result.value = page(shown.html) if shown else ""
