"""The base class of the panels: labels in the session's language, a status line, buttons that never raise, and jobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Any

from ipywidgets import HTML, Button, Layout
from traitlets.log import get_logger

from nbtune.display.shown import Shown
from nbtune.display.style import BAD, GOOD, MUTED
from nbtune.errors import NbtuneError
from nbtune.panels.jobs import Job, Jobs
from nbtune.panels.labels import label
from nbtune.session import Nbtune

__all__ = ["FIELD", "WIDE", "Desk", "Panel", "number", "page"]

FIELD, WIDE = {"width": "16em"}, {"width": "99%"}


@dataclass(frozen=True)
class Desk:
    """Shared by the panels of one notebook: session, variables, jobs, and `teach`, which hands a fact to the finetune panel."""

    session: Nbtune
    namespace: dict[str, Any]
    jobs: Jobs
    teach: Callable[[dict[str, Any]], None]


class Panel(ABC):
    """Base class of a panel; `box` is its widget.

    Parameters
    ----------
    desk
        What the panels share.
    """

    box: Any

    def __init__(self, desk: Desk) -> None:
        self.desk, self.session = desk, desk.session
        self._labelled: list[tuple[Any, str, str]] = []
        self._stopping = False  # the status line says that a job is being stopped
        self.status = HTML(layout=Layout(min_height="1.6em", margin="2px 4px"))
        self.stop = self.button("stop", self._stop, icon="stop", disabled=True)

    def say(self, key: str, **filled: object) -> str:
        """Return a label in the session's language."""
        return label(key, self.session.language, **filled)

    def button(self, key: str, clicked: Callable[[], None], *, width: str = "auto", **options: Any) -> Any:
        """Create a button; an exception raised by `clicked` goes to the status line."""
        button = self.labelled(Button(layout=Layout(width=width, align_self="flex-start"), **options), "description", key)
        button.on_click(self.guarded(clicked))
        return button

    def field(self, kind: Any, key: str, *, layout: dict[str, str] = FIELD, **options: Any) -> Any:
        """Create an input of class `kind` with its label before it."""
        # Full-width fields are stacked, so their labels get one width; the others sit close, side by side.
        field = kind(layout=Layout(**layout), style={"description_width": "6.5em" if layout == WIDE else "initial"}, **options)
        return self.labelled(field, "description", key)

    def labelled(self, widget: Any, trait: str, key: str) -> Any:
        """Label a widget through one of its traits, now and after each change of language; return the widget."""
        self._labelled.append((widget, trait, key))
        setattr(widget, trait, self.say(key))
        return widget

    def relabel(self) -> None:
        """Set all labels in the session's language."""
        for widget, trait, key in self._labelled:
            setattr(widget, trait, self.say(key))

    def guarded(self, handler: Callable[[], None]) -> Callable[..., None]:
        """Return a widget callback that reports exceptions of `handler` in the status line."""

        def handle(*_: Any) -> None:
            try:
                handler()
            except Exception as error:
                self.failed(error)

        return handle

    def start(self, doing: str, about: str, work: Callable[[], Any], then: Callable[[Any], None], **options: Any) -> None:
        """Start a job; `options` are the other fields of `Job`."""
        told = {"failed": self.failed, "told": self._told, "begun": lambda: None, **options}
        begun = told.pop("begun")

        def first() -> None:
            self.tell(f"{self.say(doing, x=about)} …")
            self.stop.disabled = False  # together with the message
            begun()

        self.desk.jobs.start(Job(doing, about, work, then, begun=first, **told))

    def refresh(self) -> None:
        """Update the panel to the present state of the session."""
        self.stop.disabled = not self.desk.jobs.running
        if self._stopping and not self.desk.jobs.running:  # another panel's job, which reports there how it ended
            self.tell("")

    def stored(self) -> list[str]:
        """Return the names of the stored adapters; empty if no model is loaded or the store can't be read."""
        with suppress(NbtuneError):
            return self.session.lm.store.names() if self.session.loaded else []
        return []

    @abstractmethod
    def state(self) -> Shown:
        """Return the content of the panel for places without widgets."""

    def tell(self, text: str, colour: str = "") -> None:
        """Write text into the status line."""
        self._stopping = False
        self.status.value = f'<div style="color:{colour}">{escape(text)}</div>' if colour else f'<div style="{MUTED}">{escape(text)}</div>'

    def done(self, text: str) -> None:
        """Report success in the status line."""
        self.tell(f"✔ {text}", GOOD)

    def back(self, number: int) -> None:
        """Report which version an undo went to; 0 is the base."""
        self.done(self.say("back", x=self.say("version", x=number) if number else self.say("the base")))

    def again(self, number: int) -> None:
        """Report which version a redo went to."""
        self.done(self.say("again", x=self.say("version", x=number)))

    def failed(self, error: BaseException) -> None:
        """Report an error in the status line; an unexpected one also goes to the log, with its traceback."""
        if isinstance(error, KeyboardInterrupt):
            self.tell(self.say("stopped"))
        elif isinstance(error, NbtuneError):
            self.tell(f"✘ {error}", BAD)
        else:
            self.tell(f"✘ {type(error).__name__}: {error}", BAD)
            get_logger().error("An nbtune panel failed.", exc_info=error)

    def _stop(self) -> None:
        if self.desk.jobs.running:  # a click may arrive late, after a cell that held the kernel
            self.tell(self.say("stopping"))  # first: the job may end at once, and then writes its own message
            self._stopping = True
            self.desk.jobs.stop()

    def _told(self, doing: str, about: str, seconds: float) -> None:
        self.tell(self.say(doing, x=about) + (f" … {seconds:.0f} s" if doing != "stopping" else ""))


def page(html: str) -> str:
    """Return HTML with the line height of text instead of that of a row of widgets."""
    return f'<div style="line-height:1.5">{html}</div>' if html else ""


def number(text: str, kind: type[int] | type[float], option: str) -> Any:
    """Return the number in a field, or None if the field is empty.

    Parameters
    ----------
    text
        Content of the field.
    kind
        ``int`` or ``float``.
    option
        Name of the field in the message.

    Raises
    ------
    NbtuneError
        If the text is not such a number.
    """
    if not text.strip():
        return None
    try:
        return kind(text)
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise NbtuneError(f"{option} {text!r}: expected {expected}.") from None
