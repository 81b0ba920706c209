"""Runs the jobs of the panels one at a time in a thread of the kernel, so that Stop can be clicked meanwhile."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbtune.imports import MODULES, import_modules
from nbtune.panels.labels import label

if TYPE_CHECKING:
    from nbtune.session import Nbtune

__all__ = ["Job", "Jobs"]

_MODULES = (*MODULES, "psutil", "nbtune.display.report_card", "nbtune.display.preview", "matplotlib.figure")


@dataclass(frozen=True)
class Job:
    """One job of a panel.

    Parameters
    ----------
    doing, about
        What the job does, as a key of the labels, and the subject of that label.
    work
        Does the job, on the job's thread; nobody else uses the model meanwhile.
    then
        Takes the return value of `work`; called before the model is released.
    failed
        Takes the exception instead; KeyboardInterrupt if the job was stopped.
    told
        Called each second with what is being done, its subject, and for how many seconds.
    begun
        Called once the model is claimed, before the work begins.
    loads
        Whether the job loads a model itself, so that none is loaded before it.
    """

    doing: str
    about: str
    work: Callable[[], Any]
    then: Callable[[Any], None]
    failed: Callable[[BaseException], None]
    told: Callable[[str, str, float], None]
    begun: Callable[[], None] = lambda: None
    loads: bool = False


class Jobs:
    """Runs the jobs of a session's panels.

    Parameters
    ----------
    session
        The session whose model is used; each job claims it.
    changed
        Called when a job begins, and when it ends.
    """

    def __init__(self, session: Nbtune, changed: Callable[[], None]) -> None:
        self._session, self._changed = session, changed
        self._stop, self._over, self._telling = threading.Event(), threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._over.set()

    @property
    def running(self) -> bool:
        """Whether a job is running."""
        return not self._over.is_set()

    @property
    def stopping(self) -> bool:
        """Whether the running job, or the last one, was told to stop."""
        return self._stop.is_set()

    def start(self, job: Job) -> None:
        """Start a job.

        Raises
        ------
        NbtuneError
            If another job or a cell is using the model.
        """
        self._session.claim.take(f"The panel is {label(job.doing, 'en', x=repr(job.about))}: wait, or press Stop.")
        self._stop.clear()
        self._over = threading.Event()
        self._doing, self._began = (job.doing, job.about), time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(job,), name="nbtune panel", daemon=True)
        try:
            job.begun()
            self._thread.start()
        except BaseException:
            self._over.set()
            self._session.claim.free()
            raise
        threading.Thread(target=self._tick, args=(job, self._over), name="nbtune panel clock", daemon=True).start()
        self._changed()

    def stop(self) -> None:
        """Ask the job to stop at the model's next training step or token, as Ctrl-C does in a cell."""
        self._stop.set()
        self._session.imports.wake()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the job to end, and return whether it has.

        Parameters
        ----------
        seconds
            Longest wait. Default: no limit.
        """
        if self._thread is not None:
            self._thread.join(seconds)
        return not self.running

    def _run(self, job: Job) -> None:
        try:
            try:
                outcome = self._execute(job)
            finally:
                with self._telling:  # `_tick` must not report after this
                    self._over.set()
            job.then(outcome)
        except BaseException as error:  # nobody above a thread would report it
            job.failed(error)
        finally:
            self._session.claim.free()  # only now: the next job must not begin before this one has cleaned up
            self._changed()

    def _execute(self, job: Job) -> Any:
        if not all(name in sys.modules for name in _MODULES):
            # Once a model is loaded, little is left to import, and a long-running cell need not be waited for.
            with self._session.imports.turn(self._stop.is_set, ignore_cells=self._session.loaded):
                self._import()
        if not job.loads and not self._session.loaded:
            self._doing = ("loading", self._session.model)
            _ = self._session.lm
        self._doing, self._began = (job.doing, job.about), time.monotonic()
        if self._stop.is_set():  # stopped before the work began
            raise KeyboardInterrupt
        with self._stoppable():
            return job.work()

    def _import(self) -> None:
        doing, self._doing = self._doing, ("importing", "")
        import_modules(_MODULES)
        self._doing = doing

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Raise KeyboardInterrupt at the next forward pass once Stop was pressed, so that no other work is cut off half-way."""
        from torch.nn.modules.module import register_module_forward_pre_hook

        thread = threading.get_ident()

        def check(_module: Any, _inputs: Any) -> None:
            if self._stop.is_set() and threading.get_ident() == thread:
                raise KeyboardInterrupt

        handle = register_module_forward_pre_hook(check)
        try:
            yield
        finally:
            handle.remove()

    def _tick(self, job: Job, over: threading.Event) -> None:
        """Report each second what is being done, and for how long."""
        while not over.wait(1.0):
            with self._telling:
                if not over.is_set():
                    doing, about = ("stopping", "") if self._stop.is_set() else self._doing
                    job.told(doing, about, time.monotonic() - self._began)
