"""Keeps adapters on disk: every change is a new version in a folder of its own, put in place by a rename.

``STORE/NAME/v0001/`` is a version, as `nbtune.knowledge.version` writes it. The newest is in force, unless ``STORE/NAME/current``,
which an undo writes and the next commit removes, names another. A version is never changed once it is there.
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
        """Return the adapters that have a version, sorted.

        Raises
        ------
        NbtuneError
            When the folder can't be read.
        """
        try:
            found = self.folder.glob("*/v[0-9]*") if self.folder.is_dir() else ()
            return sorted({path.parent.name for path in found if _VERSION.fullmatch(path.name)})
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
        """Return the number of the version in force; 0 is the base, as before the first version.

        Raises
        ------
        NbtuneError
            When the name can't be one, or its folder can't be read.
        """
        return self._state(name)[0]

    def _state(self, name: str) -> tuple[int, int]:
        """Return the number of the version in force and that of the newest one."""
        self.check_name(name)
        home = self.folder / name
        try:
            chosen = _chosen(home / "current")
            newest = max(_numbers(home), default=0)  # read second: a commit puts its version in place, then removes the pointer
        except OSError as error:
            raise NbtuneError(f"{home} can't be read ({disk_reason(error)}).") from None
        return newest if chosen is None else chosen, newest

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
        began = found, newest = self._state(name)
        if parent not in (None, found):
            raise _changed(name)
        home = self.folder / name
        temporary = home / f".writing-{uuid.uuid4().hex}"
        try:
            new = [folder for folder in (home, *home.parents) if not folder.exists()]
            temporary.mkdir(parents=True)
            for folder in new:
                flush_names(folder.parent)
            places = write_version(temporary, name, version, found)
            # Writing took its time. Two that both get past here take the same number: a rename to what is there fails.
            if self._state(name) != began or not self._publish(temporary, home, newest + 1, found):
                raise _changed(name)
        except (OSError, SafetensorError) as error:
            raise NbtuneError(f"The adapter {name!r} was not saved ({disk_reason(error)}); version {found} stays in force.") from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return version.written(newest + 1, found, home, places)

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
        for number in sorted(_numbers(self.folder / name), reverse=True):
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
            if number == 0 and name not in self.names():
                known = self.names()
                raise NbtuneError(
                    f"No adapter {name!r} in {self.folder}: there is {', '.join(known) or 'none'}.{did_you_mean(name, known)}"
                )
        if number == 0:
            return Version((), "", "", fingerprint)
        return read_version(self.folder / name, name, number, fingerprint, held or {})

    @classmethod
    def _publish(cls, temporary: Path, home: Path, number: int, parent: int) -> bool:
        """Put a finished version in place and in force; where that fails, it is gone again: nobody knows of it.

        Returns
        -------
        bool
            False when another process took the number.
        """
        undone, place = (home / "current").exists(), home / folder_name(number)
        try:
            os.rename(temporary, place)
            flush_names(home)
            if undone:
                (home / "current").unlink(missing_ok=True)
                flush_names(home)
        except BaseException as error:
            if not temporary.exists():
                with suppress(OSError):
                    os.rename(place, temporary)
                if undone:
                    with suppress(OSError):
                        cls._point(home, parent)
            elif isinstance(error, OSError) and place.exists():
                return False
            raise
        return True

    @staticmethod
    def _point(home: Path, number: int) -> None:
        """Put a version in force that is not the newest, or no longer is."""
        temporary = home / f".current-{uuid.uuid4().hex}"
        try:
            write_durably(temporary, f"{number} {number}")
            os.replace(temporary, home / "current")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_names(home)


def _changed(name: str) -> NbtuneError:
    return NbtuneError(f"The adapter {name!r} was changed by another process: nothing was saved. `%nbtune use {name}`, then do it again.")


def _chosen(pointer: Path) -> int | None:
    """Return the number that an undo put in force; None where there was no undo."""
    try:
        found = _POINTER.fullmatch(pointer.read_text(encoding="ascii", errors="replace"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if found is None:
        raise NbtuneError(f"{pointer} is damaged: write the number of a version folder into it, twice, such as `1 1`.")
    return int(found[1])


def _numbers(home: Path) -> list[int]:
    """Return the numbers of the versions in a folder, which need not be there."""
    try:
        with os.scandir(home) as entries:
            return [int(entry.name[1:]) for entry in entries if _VERSION.fullmatch(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
