"""The model panel: shows the model and adapter in use, loads models, and switches adapters."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ipywidgets import HTML, Dropdown, HBox, Layout, Text, VBox

from nbtune.display.shown import Shown, table
from nbtune.errors import NbtuneError
from nbtune.panels.panel import WIDE, Desk, Panel, page

__all__ = ["ModelPanel"]

_DTYPES = ("float32", "float16", "bfloat16")


class ModelPanel(Panel):
    """A table about the loaded model, and the adapters in the store."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._rows: list[tuple[str, str]] = []
        self._fixed: list[tuple[str, str]] = []  # the rows that stay the same for one model
        self._described: Any = None  # that model
        self.table = HTML()
        self.adapters = self.field(Dropdown, "adapter", options=[])
        self.use = self.button("use", lambda: self._use(self.adapters.value), icon="check")
        self.use_none = self.button("use none", lambda: self._use(None))
        self.source = self.labelled(self.field(Text, "name or folder", layout={"width": "28em"}), "placeholder", "source or folder")
        self.dtype = self.field(Dropdown, "dtype", options=[("", ""), *((name, name) for name in _DTYPES)], layout={"width": "12em"})
        self.load = self.button("load", self._load, icon="download", button_style="primary")
        rows = [HBox([self.adapters, self.use, self.use_none]), HBox([self.source, self.dtype, self.load, self.stop])]
        for row in rows:
            row.layout.flex_flow = "row wrap"
        self.box = VBox([self.table, *rows, self.status], layout=Layout(**WIDE))
        self.relabel()

    def relabel(self) -> None:
        """Set all labels in the session's language."""
        super().relabel()
        chosen = self.dtype.value
        self.dtype.options = [(self.say("default"), ""), *((name, name) for name in _DTYPES)]
        self.dtype.value = chosen

    def refresh(self) -> None:
        """Update the table and the list of adapters."""
        super().refresh()
        self._describe()
        names = self.stored()
        if self.adapters.options != tuple(names):
            chosen = self.adapters.value
            self.adapters.options = names
            self.adapters.value = chosen if chosen in names else names[0] if names else None
        self.table.value = page(self.state().html)

    def state(self) -> Shown:
        """Return the table about the model, the adapter in use and the store."""
        session = self.session
        if not session.loaded:
            return table(("", ""), [(self.say("what"), self.say("not loaded", x=session.model)), (self.say("store"), session.store)])
        lm = session.lm
        used = f"{lm.adapter}, {self.say('version', x=lm.version)}" if lm.adapter else self.say("none")
        rows = [(self.say("what" if key == "model" else key), text) for key, text in self._rows]
        return table(("", ""), [*rows, (self.say("adapter"), used), (self.say("store"), str(lm.store.folder))])

    def _describe(self) -> None:
        """Update the rows about the model unless it is in use; those that never change are made once per model."""
        if not self.session.loaded:
            return
        with suppress(NbtuneError), self.session.claim.held("The panel is looking at the model: wait."):
            import psutil

            memory = f"{psutil.Process().memory_info().rss / 1e6:,.0f} MB"
            if self._described is not self.session.lm:
                from nbtune.display.model import model_rows

                self._described, self._fixed = self.session.lm, model_rows(self.session.lm)
            self._rows = [*self._fixed, ("memory", memory)]

    def _use(self, name: str | None) -> None:
        if not self.session.loaded:
            raise NbtuneError("No model is loaded yet, so no adapter can be used: load one, or ask something.")
        lm = self.session.lm
        if not lm.store.names():
            raise NbtuneError("There is no adapter yet: teach something first.")
        about = name or self.say("base")
        self.start("switching", about, lambda: lm.use(name), lambda _: self.done(self.say("in use", x=about)))

    def _load(self) -> None:
        source = self.source.value.strip()
        if not source:
            raise NbtuneError("Which model? Give tiny, a folder, or a hub id such as Qwen/Qwen3-0.6B.")
        options = {"dtype": self.dtype.value} if self.dtype.value else {}

        def work() -> Any:
            return self.session.load(source, wanted=lambda: not self.desk.jobs.stopping, **options)

        self.start("loading", source, work, lambda lm: self.done(self.say("loaded", x=lm.source)), loads=True)
