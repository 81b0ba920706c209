"""Holds the state of one notebook: the model in use and the conversation with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traitlets import Bool, Enum, Int, Unicode
from traitlets.config import Configurable

from nbtune.claim import Claim
from nbtune.errors import Interrupted, NbtuneError, release
from nbtune.imports import Imports, import_modules

if TYPE_CHECKING:
    from nbtune.language_model import LanguageModel

__all__ = ["Nbtune", "current"]


class Nbtune(Configurable):
    """The session of a notebook; set its defaults with ``%config Nbtune.NAME = VALUE``."""

    model = Unicode("tiny", help="Model to load first: 'tiny', a folder, or a hub id; set it before the first question.").tag(config=True)
    store = Unicode("nbtune_adapters", help="Folder where adapters are kept; set it before the first question.").tag(config=True)
    rounds = Int(-1, min=-1, help="Rounds of the conversation sent along with a question; -1 sends all that fit.").tag(config=True)
    warm_up = Bool(True, help="Import torch and the rest in the background, between cells, before they are needed.").tag(config=True)
    max_new_tokens = Int(512, min=1, help="Maximum length of a reply in tokens, where the context leaves room.").tag(config=True)
    live = Bool(True, help="Draw replies and progress as they grow; off for a front end that can't update its output.").tag(config=True)
    language = Enum(["en", "zh"], default_value="en", help="Language of the panels' labels: en or zh.").tag(config=True)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lm: LanguageModel | None = None
        self.history: list[dict[str, str]] = []
        self._left_out_next = 0
        self._left_out, self._left_out_history = 0, self.history  # number of the oldest messages no longer sent, and their conversation
        self.claim, self.imports = Claim(), Imports()
        self.observe(self._warn_too_late, ["model", "store"])

    @property
    def loaded(self) -> bool:
        """Whether a model is loaded."""
        return self._lm is not None

    @property
    def lm(self) -> LanguageModel:
        """The model in use; it is loaded on first use."""
        if self._lm is None:
            self.load(self.model)
        assert self._lm is not None
        return self._lm

    def load(self, source: str | Path, *, wanted: Callable[[], bool] = lambda: True, **options: Any) -> LanguageModel:
        """Load another model and start a new conversation; if this fails, the previous model stays.

        Parameters
        ----------
        source, **options
            As for `nbtune.load`.
        wanted
            Function that returns whether the loaded model is still wanted. Default: always.

        Raises
        ------
        KeyboardInterrupt
            When the model is no longer wanted.
        NbtuneError
            As `nbtune.load`.
        """
        last = getattr(sys, "last_value", None)
        if isinstance(last, (NbtuneError, Interrupted)):
            release(last)  # its calls hold the previous model
        self.imports.wait_for_import()
        import_modules(["nbtune.language_model"])
        from nbtune.language_model import load

        lm = load(source, store=self.store, **options)
        if not wanted():
            raise KeyboardInterrupt
        self._lm, self.history = lm, []
        return lm

    def remember(self, prompt: str, reply: str) -> None:
        """Add a round to the conversation."""
        self._left_out = self._left_out_next
        self.history += [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]

    def _warn_too_late(self, change: Any) -> None:
        """Warn that a setting does not affect the model that is already loaded."""
        if self._lm is not None:
            now, then = {"model": (self._lm.source, self.model), "store": (self._lm.store.folder, self._lm.source)}[change["name"]]
            print(f"Nbtune.{change['name']} is read when a model is loaded: {now} stays in use until `%nbtune model {then}`.")

    def last_rounds(self, rounds: int | None) -> list[dict[str, str]]:
        """Return the last `rounds` rounds of the conversation; None means the configured number, a negative number all of them."""
        count = self.rounds if rounds is None else rounds
        return list(self.history) if count < 0 else self.history[-2 * count :] if count else []

    def rounds_to_send(
        self, rounds: int | None, prompt: str, system: str | None = None, max_new_tokens: int | None = None
    ) -> list[dict[str, str]]:
        """Return the rounds to send along with a question: those of `last_rounds`, without the oldest ones if not all fit.

        Rounds that were left out once stay left out, so that the model can continue from what it has already read.
        """
        if self._left_out_history is not self.history:
            self._left_out, self._left_out_next, self._left_out_history = 0, 0, self.history
        recalled = self.last_rounds(rounds)
        recalled = recalled[max(0, self._left_out - (len(self.history) - len(recalled))) :]
        latest = list(self.lm.latest(recalled, prompt, system, max_new_tokens))
        # Takes effect once the round is remembered: a question that fails leaves the conversation as it was.
        self._left_out_next = len(self.history) - len(latest) if len(latest) < len(recalled) else self._left_out
        return latest


def current() -> LanguageModel:
    """Return the model that the magics of this notebook use, for use in Python; it is loaded if needed.

    Do not use it while a panel is working: nbtune then blocks only the magics.

    Raises
    ------
    NbtuneError
        When the extension is not loaded, or a panel is using the model.
    """
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    session = next((item for item in shell.configurables if isinstance(item, Nbtune)), None) if shell else None
    if session is None:
        raise NbtuneError("nbtune is not loaded in a notebook: run `%load_ext nbtune` first, or load a model with `nbtune.load()`.")
    with session.claim.held():
        return session.lm
