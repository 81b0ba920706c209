"""The chat panel: asks the model in the same conversation as ``%chat``."""

from __future__ import annotations

import time
from contextlib import nullcontext
from html import escape
from typing import Any

from ipywidgets import HTML, Accordion, Box, Dropdown, FloatText, HBox, IntText, Layout, Text, Textarea, VBox

from nbtune.display.bubbles import Bubble, transcript
from nbtune.display.shown import Shown
from nbtune.errors import NbtuneError
from nbtune.knowledge.phrasing import subject
from nbtune.panels.panel import WIDE, Desk, Panel, number
from nbtune.panels.prompt import PromptBox

__all__ = ["ChatPanel"]

_IN_USE, _BASE, _COMPARE = "/in use", "/base", "/compare"  # the slash sets them apart from names of adapters
_INTERVAL = 0.1  # seconds between redraws; a front end flickers at shorter ones
_HEIGHT = "26em"


class ChatPanel(Panel):
    """A conversation in bubbles, with the settings of the replies and a form to correct the last one."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        # _aside: bubbles outside the conversation, each with the number of messages before it. _cut: label of the note under a
        # message, by the index of the message. _live: bubbles of the round in progress.
        self._aside: list[tuple[int, Bubble]] = []
        self._cut: dict[int, str] = {}
        self._live: list[Bubble] = []
        self._drawn, self._seen = 0.0, self.session.history
        self._offered = "", ""  # keyword and answer last filled into the correction form
        self._round: tuple[str, str] | None = None  # the question and reply that they were taken from
        self._transcript = HTML()
        # A reversed column starts scrolled to its end, so the newest bubble is visible without a script.
        self._scroll = Box(
            [self._transcript],
            layout=Layout(display="flex", flex_flow="column-reverse", max_height=_HEIGHT, overflow="auto", width="99%"),
        )
        self.prompt = self.labelled(PromptBox(self.guarded(self._send)), "placeholder", "prompt")
        self.send = self.button("send", self._send, icon="paper-plane", button_style="primary")
        self.new = self.button("new", self._new, icon="plus")
        self.answers = self.field(Dropdown, "answers", options=[("", _IN_USE)])
        self._settings()
        self._correction()
        self.copy = HTML(layout=Layout(**WIDE))
        self.drawers = Accordion([self.settings, self.copy, self.correction], selected_index=None)
        buttons = HBox([self.send, self.stop, self.new, self.answers], layout=Layout(flex_flow="row wrap"))
        self.box = VBox([self._scroll, self.prompt, buttons, self.status, self.drawers], layout=Layout(**WIDE))
        self.relabel()

    def _settings(self) -> None:
        self.system = self.field(Textarea, "system", layout=WIDE, rows=2)
        self.temperature = self.field(FloatText, "temperature", value=0.0, step=0.1)
        self.top_p = self.field(FloatText, "top_p", value=1.0, step=0.05)
        self.max_new_tokens = self.field(IntText, "max_new_tokens", value=self.session.max_new_tokens)
        self._configured = self.max_new_tokens.value
        self.seed = self.field(Text, "seed")
        fields = [self.temperature, self.top_p, self.max_new_tokens, self.seed]
        self.settings = VBox([self.system, HBox(fields, layout=Layout(flex_flow="row wrap"))])

    def _correction(self) -> None:
        self.keyword = self.field(Text, "keyword", layout=WIDE)
        self.answer = self.field(Textarea, "answer", layout=WIDE, rows=3)
        self.teach = self.button("to finetune", self._teach, icon="graduation-cap")
        self.correction = VBox([self.keyword, self.answer, self.teach])

    def relabel(self) -> None:
        """Set all labels in the session's language."""
        super().relabel()
        for place, key in enumerate(("settings", "copy", "teach")):
            self.drawers.set_title(place, self.say(key))

    def refresh(self) -> None:
        """Update the conversation, the choice of adapters and the settings."""
        super().refresh()
        lm = self.session.lm if self.session.loaded else None
        used = self.say("base") if lm is None or lm.adapter is None else lm.adapter
        names = self.stored()
        options = [(self.say("in use", x=used), _IN_USE), (self.say("base"), _BASE), *((name, name) for name in names)]
        options.append((self.say("compare"), _COMPARE))
        if self.answers.options != tuple(options):
            chosen = self.answers.value
            self.answers.options = options
            self.answers.value = chosen if chosen in [value for _, value in options] else _IN_USE
        self._follow()
        if self._configured != self.session.max_new_tokens:
            self._configured = self.max_new_tokens.value = self.session.max_new_tokens
        self._draw()
        self._offer()

    def _follow(self) -> None:
        """Drop the asides and notes of an earlier conversation."""
        if self._seen is not self.session.history:
            self._seen, self._aside, self._cut = self.session.history, [], {}

    def state(self) -> Shown:
        """Return the conversation as text and HTML."""
        return transcript(self._bubbles(), self.say("no conversation"))

    def _bubbles(self) -> list[Bubble]:
        history, bubbles = self.session.history, []
        for place in range(len(history) + 1):
            bubbles += [bubble for at, bubble in self._aside if at == place]
            if place < len(history):
                note = self.say(self._cut[place]) if place in self._cut else ""
                bubbles.append(Bubble(history[place]["content"], own=history[place]["role"] == "user", note=note))
        return [*bubbles, *self._live]

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        drawn = self.state().html
        if drawn != self._transcript.value:
            self._transcript.value = drawn

    def _add(self, piece: str) -> None:
        """Append a piece of text to the reply in progress."""
        last = self._live[-1]
        self._live[-1] = Bubble(last.text + piece, name=last.name, beside=last.beside)
        if time.monotonic() - self._drawn >= _INTERVAL:
            self._draw()

    def _told(self, doing: str, about: str, seconds: float) -> None:
        super()._told(doing, about, seconds)
        self._draw()  # if the reply pauses, show what came since the last redraw

    def _send(self) -> None:
        prompt = self.prompt.value.strip()
        if not prompt:
            raise NbtuneError("The prompt is empty: write a question.")
        asked = {
            "system": self.system.value.strip() or None,
            "max_new_tokens": self.max_new_tokens.value,
            "temperature": self.temperature.value,
            "top_p": self.top_p.value,
            "seed": number(self.seed.value, int, "--seed"),
        }
        chosen = self.answers.value
        work = self._compared if chosen == _COMPARE else self._asked

        def begun() -> None:
            self._live, self.prompt.value = [Bubble(prompt, own=True), Bubble("…")], ""
            self._draw()

        def over(finished: bool) -> None:
            self._live = []
            self.tell("" if finished else self.say("stopped"))

        def failed(error: BaseException) -> None:
            self._live, self.prompt.value = [], self.prompt.value or prompt
            self.failed(error)

        self.start("answering", "", lambda: work(prompt, chosen, asked), over, failed=failed, begun=begun)

    def _asked(self, prompt: str, chosen: str, asked: dict[str, Any]) -> bool:
        """Ask, add the round to the conversation, and return whether the reply was finished."""
        lm = self.session.lm
        self._follow()  # the first question loads the model, which begins a new conversation
        name, history = None if chosen == _BASE else chosen, self.session.last_rounds(None)
        latest = self.session.rounds_to_send(None, prompt, asked["system"], asked["max_new_tokens"])
        self._live[-1] = Bubble("")
        with nullcontext() if chosen == _IN_USE else lm.using(name):
            reply = lm.reply(prompt, history=latest, on_text=self._add, **asked)
        if not reply.text and not reply.finished:
            raise KeyboardInterrupt  # no reply at all: `failed` puts the question back into its field
        self._live = []
        if reply.text:
            self.session.remember(prompt, reply.text)
            if reply.cut or not reply.finished:
                self._cut[len(self.session.history) - 1] = f"cut: {reply.cut}" if reply.cut else "interrupted"
            elif len(latest) < len(history):
                self._cut[len(self.session.history) - 1] = "left out"
        return reply.finished

    def _compared(self, prompt: str, _: str, asked: dict[str, Any]) -> bool:
        """Ask base and adapter side by side, outside the conversation, and return whether both replies were finished."""
        lm = self.session.lm
        history = self.session.rounds_to_send(None, prompt, asked["system"], asked["max_new_tokens"])
        if not lm.facts and not lm.examples:
            raise NbtuneError("A comparison needs an adapter in use: teach something, or choose one in the model panel.")
        self._live[-1] = Bubble("", name=self.say("base"))
        with lm.base():
            before = lm.reply(prompt, history=history, on_text=self._add, **asked)
        finished = before.finished
        if finished:
            self._live.append(Bubble("", name=self.say("tuned"), beside=True))
            finished = lm.reply(prompt, history=history, on_text=self._add, **asked).finished
        self._aside += [(len(self.session.history), bubble) for bubble in self._live]
        return finished

    def _new(self) -> None:
        with self.session.claim.held("The panel is starting a new conversation: wait."):
            self.session.history = []
        self.refresh()

    def _offer(self) -> None:
        """Fill the copy field and the correction form from the last round."""
        if self._live:  # the reply is still in progress
            return
        said = [bubble for bubble in self._bubbles() if not bubble.own]
        text = said[-1].text if said else ""
        asked = next((bubble.text for bubble in reversed(self._bubbles()) if bubble.own), "")
        if (asked, text) == self._round:
            return
        self._round = asked, text
        self.copy.value = f'<textarea readonly rows="4" style="width:98%;font-family:inherit">{escape(text)}</textarea>'
        if (self.keyword.value, self.answer.value) == self._offered:  # keep what the user has typed there
            self.keyword.value, self.answer.value = self._offered = subject(asked), text

    def _teach(self) -> None:
        self._offered = self.keyword.value, self.answer.value  # the next reply may replace them
        self.desk.teach({"keyword": self.keyword.value, "answer": self.answer.value})
        self.done(self.say("handed on"))
