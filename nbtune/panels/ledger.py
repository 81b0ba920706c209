"""A table of facts with rows to mark, a filter, and headings to sort by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from ipywidgets import HTML, Box, Button, Checkbox, GridBox, HBox, Layout, Text, VBox

from nbtune.display.facts import SCORES, row_of
from nbtune.display.style import BAD, BORDER, GOOD
from nbtune.knowledge.facts import VERIFIED, Fact

__all__ = ["COLUMNS", "Ledger"]

COLUMNS = ("keyword", "answer", "standing", *SCORES, "taught")
_GRID = "minmax(7em, 1.3fr) minmax(12em, 3fr) 6.5em 7em 9em 7em 14em"
_NARROWEST, _MARK = "68em", "28px"
_PAGE = 10
_CELL = "padding:3px 6px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap"


class Ledger:
    """The table of facts; `box` is its widget.

    Parameters
    ----------
    say
        Function that returns the label of a key.
    """

    def __init__(self, say: Callable[..., str]) -> None:
        self._say = say
        self._facts: tuple[Fact, ...] = ()
        self._order, self._falling, self._page = "", False, 0
        self._marked: set[str] = set()
        self._on_page: list[str] = []
        self.filter = Text(continuous_update=True, layout=Layout(width="20em"))
        self.filter.observe(lambda _: self._turn(-self._page), "value")
        self.headings = {column: Button(layout=Layout(width="100%")) for column in COLUMNS}
        for column, heading in self.headings.items():
            heading.on_click(lambda _, column=column: self.sort(column))
        self.checks = [Checkbox(indent=False, layout=Layout(width=_MARK, margin="6px 0 0 6px")) for _ in range(_PAGE)]
        for place, check in enumerate(self.checks):
            check.observe(lambda change, place=place: self._mark(place, change["new"]), "value")
        self.cells = [HTML(layout=Layout(width="100%")) for _ in range(_PAGE)]
        self._rows = [HBox([check, cells], layout=Layout(width="100%")) for check, cells in zip(self.checks, self.cells, strict=True)]
        self.before, self.after = Button(icon="chevron-left"), Button(icon="chevron-right")
        for button, step in ((self.before, -1), (self.after, 1)):
            button.layout.width = "3em"
            button.on_click(lambda _, step=step: self._turn(step))
        self.count = HTML()
        head = HBox(
            [
                Box(layout=Layout(width=_MARK, margin="0 0 0 6px", flex="0 0 auto")),
                GridBox(list(self.headings.values()), layout=Layout(**_grid())),
            ]
        )
        table = VBox([head, *self._rows], layout=Layout(min_width=_NARROWEST, width="100%"))
        self.box = VBox(
            [
                HBox([self.filter, self.before, self.after, self.count], layout=Layout(flex_flow="row wrap")),
                Box([table], layout=Layout(overflow="auto")),
            ]
        )

    @property
    def chosen(self) -> list[str]:
        """Keywords of the marked rows that match the filter, on all pages."""
        return [fact.keyword for fact in self.listed() if fact.keyword in self._marked]

    def show(self, facts: Sequence[Fact]) -> None:
        """Show these facts, and drop the marks of facts that are gone."""
        self._facts = tuple(facts)
        self._marked &= {fact.keyword for fact in facts}
        self._turn(0)

    def sort(self, column: str) -> None:
        """Sort by one of `COLUMNS`; a second call for the same column reverses the order."""
        self._falling = column == self._order and not self._falling
        self._order = column
        self._turn(-self._page)

    def listed(self) -> list[Fact]:
        """Return the facts that match the filter, in the chosen order."""
        wanted = self.filter.value.strip().lower()
        found = [fact for fact in self._facts if wanted in f"{fact.keyword}\n{fact.answer}\n{self._say(fact.standing)}".lower()]
        return sorted(found, key=self._key, reverse=self._falling) if self._order else found

    def _key(self, fact: Fact) -> Any:
        return (fact.scores or {}).get(self._order, -1.0) if self._order in SCORES else getattr(fact, self._order).lower()

    def _turn(self, step: int) -> None:
        """Go `step` pages forward, and draw the page."""
        found = self.listed()
        last = _last_page(found)
        self._page = min(max(0, self._page + step), last)
        shown = found[self._page * _PAGE : (self._page + 1) * _PAGE]
        self._on_page = [fact.keyword for fact in shown]
        for place, row in enumerate(self._rows):
            row.layout.display = "" if place < len(shown) else "none"
            if place < len(shown):
                self.cells[place].value = _row(shown[place], self._say(shown[place].standing))
                self.checks[place].value = shown[place].keyword in self._marked
        for column, heading in self.headings.items():
            heading.description = self._say(column) + ((" ▼" if self._falling else " ▲") if column == self._order else "")
        self.filter.placeholder = self._say("filter")
        self.before.disabled, self.after.disabled = self._page == 0, self._page == last
        self._count(found)

    def _count(self, found: Sequence[Fact]) -> None:
        """Show how many facts match the filter, and how many of them are marked."""
        last, chosen = _last_page(found), sum(fact.keyword in self._marked for fact in found)
        nothing = self._say("no match") if self._facts else self._say("no facts")
        pages = f" · {self._page + 1}/{last + 1}" if last else ""
        marked = f" · {self._say('marked', x=chosen)}" if chosen else ""
        self.count.value = escape(self._say("pages", x=len(found)) + pages + marked if found else nothing)

    def _mark(self, place: int, on: bool) -> None:
        if place < len(self._on_page):
            (self._marked.add if on else self._marked.discard)(self._on_page[place])
            self._count(self.listed())


def _last_page(found: Sequence[Fact]) -> int:
    """Return the index of the last page, counted from 0."""
    return max(0, (len(found) - 1) // _PAGE)


def _grid() -> dict[str, str]:
    return {"grid_template_columns": _GRID, "width": "100%"}


def _row(fact: Fact, standing: str) -> str:
    mark, colour = ("✔", GOOD) if fact.standing == VERIFIED else ("✘", BAD)
    cells = []
    for column, text in zip(COLUMNS, row_of(fact), strict=True):
        style = f";color:{colour}" if column == "standing" else ""
        shown = f"{mark} {standing}" if column == "standing" else text
        style += ";text-align:center" if column not in ("keyword", "answer") else ""
        whole = fact.answer if column == "answer" else shown
        cells.append(f'<div style="{_CELL}{style}" title="{escape(whole)}">{escape(shown)}</div>')
    return f'<div style="display:grid;grid-template-columns:{_GRID};border-top:1px solid {BORDER}">{"".join(cells)}</div>'
