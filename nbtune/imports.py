"""How the heavy modules are imported: by one thread at a time, without garbage collections, and without what they print."""

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

__all__ = ["FIT_MODULES", "MODULES", "Imports", "import_modules", "uncollected", "unheard"]

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
_unfinished: list[Future[None]] = []  # the last import of the main thread, which Ctrl-C may have left behind


class Imports:
    """Turns: of cells, which import what they like, and of threads that import between them.

    Attributes
    ----------
    on_import : list
        Called, on the thread that imported, at the end of each turn.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._cell_runs, self._importing = True, False  # the cell that loads the extension is running
        self._last_cell = time.monotonic()  # when it ended
        self.on_import: list[Callable[[], None]] = []

    def cell_begins(self, *, imports: bool) -> None:
        """Say that a cell runs; where it imports the same, wait for the thread that does so now."""
        with self._changed:
            self._cell_runs = True
            self._changed.notify_all()
            if imports:
                self._changed.wait_for(lambda: not self._importing)
        if imports:
            _finish()

    def cell_ends(self) -> None:
        """Say that it is over."""
        with self._changed:
            self._cell_runs, self._last_cell = False, time.monotonic()
            self._changed.notify_all()

    def wait_for_import(self) -> None:
        """Wait for the thread that imports now: a cell may import the same without naming it, as one that calls a function does."""
        with self._changed:
            self._changed.wait_for(lambda: not self._importing)
        _finish()

    def wake(self) -> None:
        """Let the threads that wait for a turn check whether it is still wanted."""
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def turn(self, stopped: Callable[[], bool] = lambda: False, *, beside_cells: bool = False) -> Iterator[None]:
        """Import inside the block; a cell that runs is waited for, but where it is small what is imported.

        Raises
        ------
        KeyboardInterrupt
            When `stopped` says so meanwhile; `wake` lets it be asked.
        """
        with self._changed:
            while (self._cell_runs and not beside_cells) or self._importing:
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
            Seconds.
        wanted
            Whether to go on waiting; where it says no, the block is given False.
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
    """Import modules, those that are not there yet, without garbage collections.

    Ctrl-C ends the wait for them and not the import, which goes on in a thread: of torch half imported nothing would work until
    the kernel is started anew.
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
    """Wait for an import that Ctrl-C left: two threads must not import at once, for the modules import each other."""
    if _unfinished and threading.current_thread().name != _IMPORTER:
        wait(_unfinished)


def _import_into(done: Future[None], names: Iterable[str]) -> None:
    try:
        _import(names)
    except BaseException as error:  # raised where it is waited for
        done.set_exception(error)
    else:
        done.set_result(None)


def _import(names: Iterable[str]) -> None:
    missing = [name for name in names if name not in sys.modules]
    if missing:
        with uncollected():
            for name in missing:
                import_module(name)


@contextmanager
def uncollected() -> Iterator[None]:
    """Leave garbage alone inside the block, where modules are imported.

    Of the time that torch and transformers take, a quarter went into collections, which look again and again through ever
    more objects that all stay.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not gc.get_freeze_count():  # what others froze stays so
                gc.freeze()
                gc.unfreeze()  # all that is there counts as old now, so that the next collection does not look through it at once
            gc.enable()


@contextmanager
def unheard() -> Iterator[None]:
    """Drop what this thread prints inside the block; a cell that runs meanwhile in another thread is heard."""
    heard = sys.stdout
    sys.stdout = quiet = _Unheard(heard)
    try:
        yield
    finally:
        quiet.thread = None  # a cell may have put it aside, and put it back later
        if sys.stdout is quiet:
            sys.stdout = heard


class _Unheard:
    """A stream without what one thread writes."""

    def __init__(self, heard: Any) -> None:
        self._heard = heard
        self.thread: int | None = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() != self.thread:
            self._heard.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._heard, name)
