"""Manages the adapter in use: its name, its version, and its place on the base model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nbtune.errors import NbtuneError, did_you_mean, release
from nbtune.folding import keyword_key
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.gate import Gate
from nbtune.knowledge.store import Store
from nbtune.knowledge.version import Version
from nbtune.model.adapters import AdapterHost
from nbtune.model.loading import LoadedModel

__all__ = ["ActiveAdapter"]


class ActiveAdapter:
    """The adapter in use, if any, on the single copy of the base model.

    Parameters
    ----------
    loaded
        The base model.
    store
        Folder of adapters.

    Attributes
    ----------
    name : str or None
        Name of the adapter; None while the base answers.
    version : Version
        Version of the adapter; for the base, a version without facts.
    """

    def __init__(self, loaded: LoadedModel, store: str | Path) -> None:
        self.host, self.store = AdapterHost(loaded.model), Store(store)
        self._base = Version((), "", loaded.source, loaded.fingerprint)
        self.version: Version = self._base
        self.name: str | None = None

    def put(self, name: str | None, version: Version | None = None) -> None:
        """Answer with this version of an adapter from now on, or with the base if none is given."""
        self.version, self.name = self._base, None
        if name is None or version is None or not version.adapters:
            self.host.disable()
        else:
            self.host.attach(version.adapters, Gate(version.facts).find if version.gated else None)
        if name is not None and version is not None:
            self.version, self.name = version, name

    def adopt(self, name: str, version: Version) -> None:
        """Take over a version whose adapters are on the base already, as after a fit."""
        self.name, self.version = name, version

    def use(self, name: str | None) -> None:
        """Answer with the current version of an adapter from now on; None means the base.

        Raises
        ------
        NbtuneError
            When there is no such adapter, it is damaged, or it belongs to another base model.
        """
        self.put(name, None if name is None else self.load(name))

    def load(self, name: str) -> Version:
        """Read the current version of an adapter of this base model, everything from disk.

        Raises
        ------
        NbtuneError
            As `use`.
        """
        return self.store.load(name, self._base.fingerprint)

    def undo(self, name: str) -> int:
        """Go back to the previous version and return its number; 0 is the base.

        Raises
        ------
        NbtuneError
            As `Store.before`.
        """
        return self._go(name, self.store.before)

    def redo(self, name: str) -> int:
        """Go forward to the newest version that was made from the current one, and return its number.

        Raises
        ------
        NbtuneError
            As `Store.after`.
        """
        return self._go(name, self.store.after)

    def _go(self, name: str, find: Callable[[str, str, Version | None], Version]) -> int:
        version = find(name, self._base.fingerprint, self.version if name == self.name else None)
        self.store.restore(name, version.number)
        self.put(name, version)
        return version.number

    def required(self) -> str:
        """Return the name of the adapter in use.

        Raises
        ------
        NbtuneError
            When no adapter is in use.
        """
        if self.name is None:
            names = self.store.names()
            hint = f" Choose one with `%nbtune use NAME`: {', '.join(names)}." if names else ""
            raise NbtuneError(f"No adapter is in use.{hint or ' Teach something first.'}")
        return self.name

    def fact(self, keyword: str) -> Fact:
        """Return the fact with this keyword.

        Raises
        ------
        NbtuneError
            When no such fact was taught.
        """
        if not isinstance(keyword, str):
            raise NbtuneError(f"{keyword!r} ({type(keyword).__name__}) is not a keyword: give a text.")
        found = next((fact for fact in self.version.facts if keyword_key(fact.keyword) == keyword_key(keyword)), None)
        if found is None:
            keywords = [fact.keyword for fact in self.version.facts]
            raise NbtuneError(f"No fact {keyword!r} (taught: {', '.join(keywords) or 'none'}).{did_you_mean(keyword, keywords)}")
        return found

    def catch_up(self, name: str) -> None:
        """Use an adapter as it is on disk now, since another process may have changed it; a new name starts from the base."""
        if self.store.current(name) == 0:
            self.put(name, self._base)
        elif name != self.name or self.store.current(name) != self.version.number:
            self.use(name)

    def without_facts(self) -> Version:
        """Return the version in use without its facts and adapters, as the start for learning them again."""
        return replace(self.version, facts=(), adapters=(), places=(), report={})

    def check_answering(self) -> None:
        """Refuse work that uses or makes an adapter while only the base may answer.

        Raises
        ------
        NbtuneError
            Inside ``with lm.base():``.
        """
        if self.host.bypassed:
            raise NbtuneError(
                "Inside `with lm.base():` the base answers, so nothing can be taught, measured or exported: end the block first."
            )

    @contextmanager
    def restored_on_failure(self) -> Iterator[None]:
        """Restore the adapter that is in use now if the block fails, including by Ctrl-C.

        Raises
        ------
        NbtuneError
            While only the base may answer.
        """
        self.check_answering()
        name, version = self.name, self.version
        try:
            yield
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, NbtuneError)):  # restoring may need the memory that the failed step holds
                release(error)
            self.put(name, version)
            raise
