"""Imports what the first question and the first finetune need while the user is typing them."""

from __future__ import annotations

import re
import threading
from importlib import import_module
from typing import Any

__all__ = ["WarmUp"]

# In the order in which they are needed; a cell that comes meanwhile waits for at most one of them, if at all.
_MODULES = (
    "torch",
    "transformers",
    "nbtune.language_model",
    "transformers.models.qwen3.modeling_qwen3",  # the embedded model's
    "nbtune.display.live",
    "peft",
    "nbtune.training.keras_model",
    "nbtune.knowledge.injection",
)
_IDLE = 1.0  # seconds without a cell before an import begins: Run All is left alone
# A cell that names one of these imports what is being imported: two threads must not, for their modules import each other.
_SHARED = re.compile(r"torch|transformers|peft|accelerate|datasets|tokenizers|safetensors|huggingface|nbtune|%\s*chat|%\s*finetune")


class WarmUp:
    """A thread that imports modules between cells, one at a time, and never while a cell runs that imports them itself.

    Parameters
    ----------
    shell
        Its events tell when a cell runs.
    session
        Its `warm_up` says whether to go on.
    """

    def __init__(self, shell: Any, session: Any) -> None:
        self._shell, self._session = shell, session
        self._changed, self._running = threading.Condition(), True  # the cell that loads the extension is running
        self._importing = threading.Lock()
        self._thread = threading.Thread(target=self._import_all, name="nbtune warm-up", daemon=True)

    def start(self) -> None:
        """Begin with the end of the present cell."""
        self._shell.events.register("pre_run_cell", self._before)
        self._shell.events.register("post_run_cell", self._after)
        self._thread.start()

    def stop(self) -> None:
        """End with the module that is being imported."""
        self._shell.events.unregister("pre_run_cell", self._before)
        self._shell.events.unregister("post_run_cell", self._after)
        with self._changed:
            self._session = None
            self._changed.notify()

    def _before(self, info: Any) -> None:
        self._tell(running=True)
        if _SHARED.search(info.raw_cell or ""):
            with self._importing:  # it needs what is being imported, and would wait for it anyway
                pass

    def _after(self, _result: Any) -> None:
        self._tell(running=False)

    def _tell(self, *, running: bool) -> None:
        with self._changed:
            self._running = running
            self._changed.notify()

    def _import_all(self) -> None:
        for name in _MODULES:
            if not self._claimed():
                return
            try:
                import_module(name)
            except Exception:  # here there is nobody to tell; the cell that needs it will say
                return
            finally:
                self._importing.release()

    def _claimed(self) -> bool:
        """Wait until no cell has run for a while, and claim the import before one can begin; False when none is wanted."""
        with self._changed:
            while self._session is not None and self._session.warm_up:
                if self._running:
                    self._changed.wait()
                elif not self._changed.wait(_IDLE):
                    if not self._session.warm_up:
                        break
                    self._importing.acquire()
                    return True
        return False
