"""Imports the modules that the first question and the first finetune need, while the user is still typing."""

from __future__ import annotations

import re
import sys
import threading
from typing import Any

from nbtune.imports import MODULES, import_modules

__all__ = ["WarmUp", "imports_the_same"]

_IDLE = 1.0  # seconds without a running cell before an import begins, so that Run All is not disturbed
# A cell that names one of these may import the same modules. Two threads must not do so at once: the modules import each other.
_SHARED = re.compile(
    r"torch|transformers|peft|accelerate|datasets|tokenizers|safetensors|huggingface|nbtune|%\s*(?:chat|finetune|run|(?:re)?load_ext)"
)
_IMPORTED = re.compile(r"(?:^|;)\s*(?:from|import)\s+(\w[\w., ]*)", re.MULTILINE)


class WarmUp:
    """A thread that imports modules between cells, one at a time, and never while a cell imports them itself.

    Parameters
    ----------
    shell
        The IPython shell; its events tell when a cell runs.
    session
        The session; its `warm_up` says whether to continue.
    """

    def __init__(self, shell: Any, session: Any) -> None:
        self._shell, self._session, self._imports = shell, session, session.imports
        self._thread = threading.Thread(target=self._import_all, name="nbtune warm-up", daemon=True)

    def start(self) -> None:
        """Start the thread, which begins to import after the current cell."""
        self._shell.events.register("pre_run_cell", self._before)
        self._shell.events.register("post_run_cell", self._after)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the module that is being imported."""
        self._shell.events.unregister("pre_run_cell", self._before)
        self._shell.events.unregister("post_run_cell", self._after)
        self._session = None
        self._imports.wake()

    def _before(self, info: Any) -> None:
        self._imports.cell_begins(imports=imports_the_same(info.raw_cell or ""))

    def _after(self, _result: Any) -> None:
        self._imports.cell_ends()

    def _wanted(self) -> bool:
        return self._session is not None and self._session.warm_up

    def _import_all(self) -> None:
        for name in MODULES:
            with self._imports.idle_turn(_IDLE, self._wanted) as granted:
                if not granted:
                    return
                try:
                    import_modules([name])
                except Exception:  # not reported here: the cell that needs the module will raise it again
                    return


def imports_the_same(cell: str) -> bool:
    """Return whether a cell may import the same modules: it names one of them, or a package not imported yet, which may need them."""
    named = (one.split(".")[0].split() for names in _IMPORTED.findall(cell) for one in names.split(","))
    return bool(_SHARED.search(cell)) or any(name[0] not in {*sys.modules, *sys.stdlib_module_names} for name in named if name)
