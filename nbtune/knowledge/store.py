"""Keeps adapters on disk: each change is a new version in its own folder, put in place by one rename.

``STORE/NAME/v0001/`` is a version, as `nbtune.knowledge.version` writes it. The newest version is the current one, unless the file
``STORE/NAME/current`` names another; an undo writes this file, and the next commit removes it. A finished version is never changed.
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
_VERSION = re.compile(r"v[0-9]{4,}")
_POINTER = re.compile(r"([0-9]+) \1\s*")  # the number twice, to detect a flipped bit or a truncated file


class Store:
    """Folder of adapters with their versions.

    Parameters
    ----------
    folder
        The folder; made on the first commit.
    """

    def __init__(self, folder: str | Path = "nbtune_adapters") -> None:
        self.folder = given_path(folder).absolute()  # stays valid when the working folder changes

    def names(self) -> list[str]:
        """Return the sorted names of the adapters that have a version.

        Raises
        ------
        NbtuneError
            When the folder can't be read.
        """
        try:
            found = self.folder.glob("*/v[0-9]*/") if self.folder.is_dir() else ()
            return sorted({path.parent.name for path in found if _VERSION.fullmatch(path.name) and path.is_dir()})
        except OSError as error:
            raise NbtuneError(f"{self.folder} can't be read ({disk_reason(error)}).") from None

    @staticmethod
    def check_name(name: str) -> None:
        """Check that a name is a plain folder name.

        Raises
        ------
        NbtuneError
            When the name is empty, ``none``, too long, a path, or has ``..`` or anything but letters, digits, ``_``, ``-`` and ``.``.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name or name.endswith(".") or name == "none":
            raise NbtuneError(
                f"{name!r} is not a valid adapter name: use up to 64 letters, digits, '-', '_' and '.', starting with a letter or digit "
                "('none' means the base)."
            )

    def current(self, name: str) -> int:
        """Return the number of the current version; 0 is the base, also before the first version.

        Raises
        ------
        NbtuneError
            When the name is not valid, its folder can't be read, or the file ``current`` is damaged.
        """
        return self._state(name)[0]

    def _state(self, name: str) -> tuple[int, int]:
        """Return the numbers of the current and of the newest version."""
        self.check_name(name)
        home = self.folder / name
        try:
            chosen = _chosen(home / "current")
            newest = max(_numbers(home), default=0)  # read second, because a commit adds its version before it removes the pointer
        except OSError as error:
            raise NbtuneError(f"{home} can't be read ({disk_reason(error)}).") from None
        return newest if chosen is None else chosen, newest

    def commit(self, name: str, version: Version, parent: int | None = None) -> Version:
        """Write a version and make it the current one; earlier versions are kept.

        Parameters
        ----------
        name
            Name of the adapter.
        version
            State of the adapter; `number`, `parent` and `folder` are chosen here.
        parent
            Number of the version that it was made from. Default: the current one.

        Returns
        -------
        Version
            The same version with its number, parent, folder and places.

        Raises
        ------
        NbtuneError
            When the version can't be written, or another process has changed the adapter. The current version stays the
            same then.
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
            # Writing takes time, so check again. Two processes that both pass choose the same number, and the second rename fails.
            if self._state(name) != began or not self._publish(temporary, home, newest + 1, found):
                raise _changed(name)
        except (OSError, SafetensorError) as error:
            raise NbtuneError(f"The adapter {name!r} was not saved ({disk_reason(error)}); version {found} stays in use.") from None
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return version.written(newest + 1, found, home, places)

    def before(self, name: str, fingerprint: str, known: Version | None = None) -> Version:
        """Read the version before the current one, or, if that is damaged, the newest undamaged version before it.

        Parameters
        ----------
        name, fingerprint
            As for `load`.
        known
            A version of this adapter that is in memory, whose contents are not read again. Default: none.

        Returns
        -------
        Version
            The version; number 0 is the base.

        Raises
        ------
        NbtuneError
            When there is no current version, or the version belongs to another base.
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
                return self.load(name, fingerprint, number, known.adapters_by_folder() if known else None)
            except DamagedError:
                number -= 1

    def after(self, name: str, fingerprint: str, known: Version | None = None) -> Version:
        """Read the newest undamaged version that was made from the current one, such as after an undo.

        A version also counts if only damaged versions, which an undo skips, are between it and the current one.

        Parameters
        ----------
        name, fingerprint, known
            As for `before`.

        Raises
        ------
        NbtuneError
            When there is no such version, or it belongs to another base.
        """
        current, parents = self.current(name), {}
        for number in sorted(_numbers(self.folder / name), reverse=True):
            if number > current:  # a version always has a higher number than the one that it was made from
                with suppress(DamagedError):
                    parents[number] = int(read_notes(self.folder / name / folder_name(number))["parent"])
        made_from_it = [number for number, parent in parents.items() if parent == current]
        over_damaged = (n for n, parent in parents.items() if parent > current == self._whole(name, fingerprint, parent, current))
        for number in itertools.chain(made_from_it, over_damaged):
            with suppress(DamagedError):
                return self.load(name, fingerprint, number, known.adapters_by_folder() if known else None)
        raise NbtuneError(f"There is nothing to redo: no version of the adapter {name!r} was made from the one in use.")

    def _whole(self, name: str, fingerprint: str, number: int, least: int) -> int:
        """Return the newest undamaged version from `number` down to `least`, which is the one that an undo goes back to."""
        while number > least:
            try:
                self.load(name, fingerprint, number)
                break
            except DamagedError:
                number -= 1
        return number

    def restore(self, name: str, number: int) -> None:
        """Make another version the current one; 0 means the base.

        Raises
        ------
        NbtuneError
            When the file ``current`` can't be written.
        """
        try:
            self._point(self.folder / name, number)
        except OSError as error:
            raise NbtuneError(f"The adapter {name!r} could not be switched ({disk_reason(error)}).") from None

    def load(self, name: str, fingerprint: str, number: int | None = None, held: Mapping[str, Adapter] | None = None) -> Version:
        """Read a version and verify it.

        Parameters
        ----------
        name
            Name of the adapter.
        fingerprint
            Fingerprint of the base model that the version is for.
        number
            Number of the version. Default: the current one.
        held
            Adapters that are in memory, by folder; they are not read again. Default: none.

        Raises
        ------
        DamagedError
            When a file of the version is missing or was changed.
        NbtuneError
            When there is no such adapter, it can't be read, or it belongs to another base.
        """
        self.check_name(name)
        if number is None:
            number = self.current(name)
            if number == 0 and name not in (known := self.names()):
                raise NbtuneError(f"No adapter {name!r} in {self.folder}: it has {', '.join(known) or 'none'}.{did_you_mean(name, known)}")
        if number == 0:
            return Version((), "", "", fingerprint)
        return read_version(self.folder / name, name, number, fingerprint, held or {})

    @classmethod
    def _publish(cls, temporary: Path, home: Path, number: int, parent: int) -> bool:
        """Put a finished version in place and make it the current one; on failure, remove it again.

        Returns
        -------
        bool
            False if another process has taken the number.
        """
        undone, place = (home / "current").exists(), home / folder_name(number)
        try:
            os.rename(temporary, place)
            if (home / "current").exists() != undone:  # another process has just undone something
                os.rename(place, temporary)
                return False
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
        """Write the file ``current``, which makes this version the current one instead of the newest."""
        temporary = home / f".current-{uuid.uuid4().hex}"
        try:
            write_durably(temporary, f"{number} {number}")
            os.replace(temporary, home / "current")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        flush_names(home)


def _changed(name: str) -> NbtuneError:
    return NbtuneError(f"The adapter {name!r} was changed by another process: nothing was saved. Run `%nbtune use {name}`, then try again.")


def _chosen(pointer: Path) -> int | None:
    """Return the number in the file ``current``, or None without this file."""
    try:
        found = _POINTER.fullmatch(pointer.read_text(encoding="ascii", errors="replace"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    if found is None:
        raise NbtuneError(f"{pointer} is damaged: write the number of a version folder into it, twice, such as `1 1`.")
    return int(found[1])


def _numbers(home: Path) -> list[int]:
    """Return the numbers of the versions in a folder; none if it does not exist."""
    try:
        with os.scandir(home) as entries:
            return [int(entry.name[1:]) for entry in entries if _VERSION.fullmatch(entry.name) and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
