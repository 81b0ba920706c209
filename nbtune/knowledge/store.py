"""Keeps adapters on disk: every change is a new version in a folder of its own, put in place by a rename.

``STORE/NAME/v0001/`` is a version, as `nbtune.knowledge.version` writes it; ``STORE/NAME/current`` names the one in force.
A version is never changed once it is there.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from nbtune.errors import NbtuneError, did_you_mean, disk_reason
from nbtune.knowledge.durable import flush_names, write_durably
from nbtune.knowledge.version import DamagedError, Version, folder_name, read_notes, read_version, write_version
from nbtune.paths import given_path

if TYPE_CHECKING:
    from nbtune.model.adapter import Adapter

__all__ = ["Store"]

_NAME = re.compile(r"[^\W_][\w.-]{0,63}")
_VERSION = re.compile(r"v[0-9]+")
_POINTER = re.compile(r"([0-9]+) \1\s*")  # the number twice: so a flipped bit or a cut file shows


class Store:
    """A folder of adapters.

    Parameters
    ----------
    folder
        Made on the first commit.
    """

    def __init__(self, folder: str | Path = "nbtune_adapters") -> None:
        self.folder = given_path(folder).absolute()  # it stays where it is when the working folder changes

    def names(self) -> list[str]:
        """Return the adapters that have a version in force, sorted.

        Raises
        ------
        NbtuneError
            When the folder can't be read.
        """
        try:
            return sorted(path.parent.name for path in self.folder.glob("*/current")) if self.folder.is_dir() else []
        except OSError as error:
            raise NbtuneError(f"{self.folder} can't be read ({disk_reason(error)}).") from None

    @staticmethod
    def check_name(name: str) -> None:
        """Refuse a name that is no plain folder name.

        Raises
        ------
        NbtuneError
            For an empty name, a path, ``..``, or anything but letters, digits, ``_``, ``-`` and ``.``.
        """
        if not _NAME.fullmatch(name) or ".." in name or name.endswith(".") or name == "none":
            raise NbtuneError(
                f"{name!r} can't name an adapter: use up to 64 letters, digits, '-', '_' and '.', starting with a letter or digit "
                "('none' means the base)."
            )

    def current(self, name: str) -> int:
        """Return the number of the version in force; 0 before the first."""
        self.check_name(name)
        pointer = self.folder / name / "current"
        try:
            found = _POINTER.fullmatch(pointer.read_text(encoding="ascii", errors="replace"))
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except OSError as error:
            raise NbtuneError(f"{pointer} can't be read ({disk_reason(error)}).") from None
        if found is None:
            raise NbtuneError(f"{pointer} is damaged: write the number of a version folder into it, twice, such as `1 1`.")
        return int(found[1])

    def commit(self, name: str, version: Version, parent: int | None = None) -> Version:
        """Write a version and put it in force; the ones before it stay.

        Parameters
        ----------
        name
            The adapter.
        version
            Its state; `number`, `parent` and `folder` are chosen here.
        parent
            The version it was made from. Default: the one in force.

        Returns
        -------
        Version
            The same with its number, parent and folder.

        Raises
        ------
        NbtuneError
            When the disk refuses, or another process changed the adapter since; nothing is in force then that
            was not before.
        """
        home, expected = self.folder / name, parent
        parent = self.current(name)
        self._check_unchanged(name, expected)
        temporary: Path | None = None
        try:
            new = [folder for folder in (home, *home.parents) if not folder.exists()]
            home.mkdir(parents=True, exist_ok=True)
            for folder in new:
                flush_names(folder.parent)
            temporary = home / f".writing-{uuid.uuid4().hex}"
            temporary.mkdir()
            places = write_version(temporary, name, version, parent)
            self._check_unchanged(name, expected)  # writing took its time
            number, temporary = self._publish(temporary, home), None
            try:
                self._point(home, number)
            except BaseException:  # also behind the rename: nothing is in force then that the caller does not know of
                with suppress(OSError, NbtuneError):
                    if self.current(name) == number and parent:
                        self._point(home, parent)
                    elif self.current(name) == number:
                        (home / "current").unlink()
                    shutil.rmtree(home / folder_name(number), ignore_errors=True)  # or a redo would find it
                raise
        except (OSError, SafetensorError) as error:
            raise NbtuneError(f"The adapter {name!r} was not saved ({disk_reason(error)}); version {parent} stays in force.") from None
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
        return version.written(number, parent, home, places)

    def _check_unchanged(self, name: str, expected: int | None) -> None:
        found = self.current(name)
        if expected not in (None, found):
            raise NbtuneError(
                f"The adapter {name!r} was changed by another process (version {found}, not {expected}): nothing was saved. "
                f"`%nbtune use {name}`, then do it again."
            )

    def before(self, name: str, fingerprint: str, known: Version | None = None) -> Version:
        """Read the version before the one in force; where something is damaged, the newest one before it that is whole.

        Parameters
        ----------
        name, fingerprint
            As for `load`.
        known
            A version of this name that is in memory: what it says is not read again. Default: nothing is known.

        Returns
        -------
        Version
            Number 0 is the base.

        Raises
        ------
        NbtuneError
            When there is none in force, or it belongs to another base.
        """
        current = self.current(name)
        if current == 0:
            raise NbtuneError(f"There is nothing to undo: the adapter {name!r} has no version.")
        if known is not None and known.number == current:
            number = known.parent
        else:
            try:
                number = int(read_notes(self.folder / name / folder_name(current))["parent"])
            except DamagedError:
                number = current - 1
        while True:
            try:
                return self.load(name, fingerprint, number, known.held() if known else None)
            except DamagedError:
                number -= 1

    def after(self, name: str, fingerprint: str, known: Version | None = None) -> Version:
        """Read the newest whole version that was made from the one in force, as there is behind an undo.

        Parameters
        ----------
        name, fingerprint, known
            As for `before`.

        Raises
        ------
        NbtuneError
            When there is none, or it belongs to another base.
        """
        current, parents = self.current(name), {}
        for number in sorted(self._numbers(self.folder / name), reverse=True):
            if number > current:  # a version comes behind the one that it was made from
                with suppress(DamagedError):
                    parents[number] = int(read_notes(self.folder / name / folder_name(number))["parent"])
        made_from_it = [number for number, parent in parents.items() if parent == current]
        over_damaged = (n for n, parent in parents.items() if parent > current == self._whole(name, fingerprint, parent, current))
        for number in itertools.chain(made_from_it, over_damaged):
            with suppress(DamagedError):
                return self.load(name, fingerprint, number, known.held() if known else None)
        raise NbtuneError(f"There is nothing to redo: no version of the adapter {name!r} was made from the one in use.")

    def _whole(self, name: str, fingerprint: str, number: int, least: int) -> int:
        """Return the newest number, down to `least`, of a version that is whole: where an undo from behind it went."""
        while number > least:
            try:
                self.load(name, fingerprint, number)
                break
            except DamagedError:
                number -= 1
        return number

    def restore(self, name: str, number: int) -> None:
        """Put another version in force; 0 means the base."""
        try:
            self._point(self.folder / name, number)
        except OSError as error:
            raise NbtuneError(f"The adapter {name!r} could not be set back ({disk_reason(error)}).") from None

    def load(self, name: str, fingerprint: str, number: int | None = None, held: Mapping[str, Adapter] | None = None) -> Version:
        """Read a version and verify it.

        Parameters
        ----------
        name
            The adapter.
        fingerprint
            Of the base model it shall be put on.
        number
            Default: the version in force.
        held
            What is in memory already, by its places: it is not read again. Default: nothing.

        Raises
        ------
        NbtuneError
            When there is no such adapter, a file is missing or changed, or it belongs to another base.
        """
        self.check_name(name)
        if number is None:
            number = self.current(name)
            if not (self.folder / name / "current").exists():
                known = self.names()
                raise NbtuneError(
                    f"No adapter {name!r} in {self.folder}: there is {', '.join(known) or 'none'}.{did_you_mean(name, known)}"
                )
        if number == 0:
            return Version((), "", "", fingerprint)
        return read_version(self.folder / name, name, number, fingerprint, held or {})

    @staticmethod
    def _numbers(home: Path) -> list[int]:
        """Return the numbers of the versions in a folder, which need not be there."""
        return [int(path.name[1:]) for path in home.glob("v*") if _VERSION.fullmatch(path.name)]

    @staticmethod
    def _publish(temporary: Path, home: Path) -> int:
        """Rename the finished folder to the next free number; another writer may take one first."""
        while True:
            number = max(Store._numbers(home), default=0) + 1
            try:
                os.rename(temporary, home / folder_name(number))
            except OSError:
                if (home / folder_name(number)).exists():
                    continue
                raise
            return number

    @staticmethod
    def _point(home: Path, number: int) -> None:
        """Put a version in force, with the rename that brought it in place: both are names in one folder, flushed together.

        Should a power cut keep the second and not the first, ``current`` names a version that is missing, and `before` steps over it.
        """
        temporary = home / f".current-{uuid.uuid4().hex}"
        try:
            write_durably(temporary, f"{number} {number}")
            os.replace(temporary, home / "current")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_names(home)
