"""Imports the heavy modules: in one thread at a time, without garbage collections, and without their printed output."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from importlib import import_module
from typing import Any

__all__ = ["FIT_MODULES", "MODULES", "Imports", "import_modules", "without_gc", "without_output"]

FIT_MODULES = ("peft", "nbtune.training.keras_model")
# In the order in which they are needed.
MODULES = (
    "torch",
    "transformers",
    "nbtune.language_model",
    "transformers.models.qwen3.modeling_qwen3",  # the built-in model's
    "nbtune.display.live",
    *FIT_MODULES,
    "nbtune.knowledge.injection",
)

_IMPORTER = "nbtune imports"
_unfinished: list[Future[None]] = []  # the main thread's last import, which may continue after Ctrl-C


class Imports:
    """Turns for imports: cells may import at any time, other threads wait until no cell is running.

    Attributes
    ----------
    on_import : list
        Functions that are called at the end of each turn, on the thread that imported.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._cell_runs, self._importing = True, False  # the cell that loads the extension is running
        self._last_cell = time.monotonic()  # when the last cell ended
        self.on_import: list[Callable[[], None]] = []

    def cell_begins(self, *, imports: bool) -> None:
        """Note that a cell begins; if it `imports` the same modules, wait for the import in progress."""
        with self._changed:
            self._cell_runs = True
            self._changed.notify_all()
            if imports:
                self._changed.wait_for(lambda: not self._importing)
        if imports:
            _finish()

    def cell_ends(self) -> None:
        """Note that the cell has ended."""
        with self._changed:
            self._cell_runs, self._last_cell = False, time.monotonic()
            self._changed.notify_all()

    def wait_for_import(self) -> None:
        """Wait for the import in progress: a cell may import the same modules without naming them, by calling a function."""
        with self._changed:
            self._changed.wait_for(lambda: not self._importing)
        _finish()

    def wake(self) -> None:
        """Let the threads that wait for a turn check whether they still need it."""
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def turn(self, stopped: Callable[[], bool] = lambda: False, *, ignore_cells: bool = False) -> Iterator[None]:
        """Import inside the block, after waiting for the running cell and for any import in progress.

        Parameters
        ----------
        stopped
            Function that returns whether to give up waiting. Default: never.
        ignore_cells
            Whether not to wait for the running cell, because little has to be imported. Default: False.

        Raises
        ------
        KeyboardInterrupt
            When `stopped` returns True while waiting; `wake` causes it to be called.
        """
        with self._changed:
            while (self._cell_runs and not ignore_cells) or self._importing:
                if stopped():
                    raise KeyboardInterrupt
                self._changed.wait()
            self._importing = True
        try:
            yield
        finally:
            self._over()

    @contextmanager
    def idle_turn(self, idle: float, wanted: Callable[[], bool]) -> Iterator[bool]:
        """Import inside the block, once no cell has run for a while.

        Parameters
        ----------
        idle
            Seconds to wait after a cell.
        wanted
            Function that returns whether the turn is still wanted. If it returns False, the block gets False and must not import.
        """
        with self._changed:
            while granted := wanted():
                if self._cell_runs or self._importing:
                    self._changed.wait()
                elif (left := self._last_cell + idle - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    self._importing = True
                    break
        try:
            yield granted
        finally:
            if granted:
                self._over()

    def _over(self) -> None:
        with self._changed:
            self._importing = False
            self._changed.notify_all()
        for told in self.on_import:
            told()


def import_modules(names: Iterable[str]) -> None:
    """Import the modules that are not imported yet, without garbage collections.

    Ctrl-C ends the wait but not the import, which continues in a thread: with torch half imported, nothing would work until
    the kernel is restarted.
    """
    names = [*names]
    _finish()
    if threading.current_thread() is not threading.main_thread():
        _import(names)
    elif not all(name in sys.modules for name in names):
        _unfinished[:] = [Future()]
        threading.Thread(target=_import_into, args=(_unfinished[0], names), name=_IMPORTER, daemon=True).start()
        _unfinished[0].result()


def _finish() -> None:
    """Wait for an import that continues after Ctrl-C: two threads must not import at once, because the modules import each other."""
    if _unfinished and threading.current_thread().name != _IMPORTER:
        wait(_unfinished)


def _import_into(done: Future[None], names: Iterable[str]) -> None:
    try:
        _import(names)
    except BaseException as error:  # raised again in the thread that waits
        done.set_exception(error)
    else:
        done.set_result(None)


def _import(names: Iterable[str]) -> None:
    missing = [name for name in names if name not in sys.modules]
    if missing:
        with without_gc():
            for name in missing:
                import_module(name)


@contextmanager
def without_gc() -> Iterator[None]:
    """Disable garbage collection inside the block, while modules are imported.

    A quarter of the import time of torch and transformers was spent in collections, which repeatedly scan a growing number
    of objects that all stay alive.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not gc.get_freeze_count():  # objects that others froze must stay frozen
                gc.freeze()
                gc.unfreeze()  # all objects are now in the oldest generation, so the next collection does not scan them
            gc.enable()


@contextmanager
def without_output() -> Iterator[None]:
    """Discard what this thread prints inside the block; output of a cell that runs in another thread is kept."""
    heard = sys.stdout
    sys.stdout = quiet = _Unheard(heard)
    try:
        yield
    finally:
        quiet.thread = None  # pass everything on from now: a cell may hold this stream, and restore it later
        if sys.stdout is quiet:
            sys.stdout = heard


class _Unheard:
    """A stream that discards what one thread writes."""

    def __init__(self, heard: Any) -> None:
        self._heard = heard
        self.thread: int | None = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() != self.thread:
            self._heard.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._heard, name)
