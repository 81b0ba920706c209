"""Keeps adapters on disk: every change is a new version in a folder of its own, put in place by a rename.

``STORE/NAME/v0001/`` is a plain PEFT folder (``adapter_config.json``, ``adapter_model.safetensors``)
with ``nbtune.json`` (facts, report, base model, versions, checksums) and a model card. ``STORE/NAME/current``
names the version in force. A version is never changed once it is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nbtune.errors import NbtuneError, did_you_mean
from nbtune.knowledge.card import model_card
from nbtune.knowledge.facts import Fact

if TYPE_CHECKING:
    from peft import PeftConfig

__all__ = ["Store", "Version"]

_WEIGHTS, _CONFIG, _OURS, _CARD = "adapter_model.safetensors", "adapter_config.json", "nbtune.json", "README.md"
_NAME = re.compile(r"[^\W_][\w.-]{0,63}")
_FORMAT = 1


@dataclass(frozen=True)
class Version:
    """One state of an adapter. `config` and `weights` are None where it holds no fact.

    `gated` says whether the adapter answers only what is about its facts; see `nbtune.knowledge.gate`.
    """

    facts: tuple[Fact, ...]
    method: str
    base: str
    fingerprint: str
    config: PeftConfig | None = None
    weights: dict[str, torch.Tensor] | None = None
    report: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    parent: int = 0
    folder: Path | None = None
    gated: bool = True


class Store:
    """A folder of adapters.

    Parameters
    ----------
    folder
        Made on the first commit.
    """

    def __init__(self, folder: str | Path = "nbtune_adapters") -> None:
        self.folder = Path(folder).expanduser()

    def names(self) -> list[str]:
        """Return the adapters that have a version in force, sorted."""
        if not self.folder.is_dir():
            return []
        return sorted(path.parent.name for path in self.folder.glob("*/current"))

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
            return int(pointer.read_text())
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except ValueError:
            raise NbtuneError(f"{pointer} is damaged: write the number of a version folder into it, such as 1.") from None

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
        found, home = self.current(name), self.folder / name
        if parent not in (None, found):
            raise NbtuneError(
                f"The adapter {name!r} was changed by another process (version {found}, not {parent}): nothing was saved. "
                f"`%nbtune use {name}`, then do it again."
            )
        parent = found
        temporary: Path | None = None
        try:
            home.mkdir(parents=True, exist_ok=True)
            temporary = home / f".writing-{uuid.uuid4().hex}"
            temporary.mkdir()
            self._write(temporary, name, version, parent)
            number = self._publish(temporary, home)
            self._point(home, number)
        except (OSError, SafetensorError) as error:
            raise NbtuneError(
                f"The adapter {name!r} was not saved ({getattr(error, 'strerror', None) or error}); version {parent} stays in force."
            ) from None
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
        return Version(**{**version.__dict__, "number": number, "parent": parent, "folder": home / _folder(number)})

    def previous(self, name: str) -> int:
        """Return the number of the version before the one in force; 0 means the base.

        Raises
        ------
        NbtuneError
            When there is none in force.
        """
        current = self.current(name)
        if current == 0:
            raise NbtuneError(f"There is nothing to undo: the adapter {name!r} has no version.")
        try:
            parent = int(self._ours(self.folder / name / _folder(current))["parent"])
        except NbtuneError:  # damaged: the newest version before it that can be read
            parent = self._newest_readable(name, current)
        return parent

    def restore(self, name: str, number: int) -> None:
        """Put an earlier version in force again; 0 means the base."""
        try:
            self._point(self.folder / name, number)
        except OSError as error:
            raise NbtuneError(f"The adapter {name!r} could not be set back ({error.strerror or error}).") from None

    def load(self, name: str, fingerprint: str, number: int | None = None) -> Version:
        """Read a version and verify it.

        Parameters
        ----------
        name
            The adapter.
        fingerprint
            Of the base model it shall be put on.
        number
            Default: the version in force.

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
        folder = self.folder / name / _folder(number)
        ours = self._ours(folder)
        if ours["fingerprint"] != fingerprint:
            raise NbtuneError(
                f"The adapter {name!r} was made for {ours['base']} ({ours['fingerprint']}), not for the loaded model ({fingerprint}): "
                f"load that one first with `%nbtune model`."
            )
        self._verify(folder, ours["checksums"])
        facts = tuple(Fact.from_json(fact) for fact in ours["facts"])
        config, weights = None, None
        if _WEIGHTS in ours["checksums"]:
            from peft import PeftConfig

            config, weights = PeftConfig.from_pretrained(str(folder)), load_file(str(folder / _WEIGHTS))
        return Version(
            facts, ours["method"], ours["base"], fingerprint, config, weights, ours["report"], number, ours["parent"], folder, ours["gated"]
        )

    def _newest_readable(self, name: str, below: int) -> int:
        for number in range(below - 1, 0, -1):
            try:
                self._ours(self.folder / name / _folder(number))
            except NbtuneError:
                continue
            return number
        return 0

    @staticmethod
    def _write(folder: Path, name: str, version: Version, parent: int) -> None:
        if version.config is not None and version.weights is not None:
            version.config.save_pretrained(str(folder))
            save_file(version.weights, str(folder / _WEIGHTS), metadata={"format": "pt"})
        (folder / _CARD).write_text(model_card(name, version.base, version.method, version.facts, version.report), encoding="utf-8")
        ours = {
            "format": _FORMAT,
            "parent": parent,
            "base": version.base,
            "fingerprint": version.fingerprint,
            "method": version.method,
            "gated": version.gated,
            "facts": [fact.to_json() for fact in version.facts],
            "report": version.report,
            "versions": {package: installed(package) for package in ("torch", "transformers", "peft")},
            "checksums": {path.name: _sha256(path) for path in sorted(folder.iterdir())},
        }
        ours["digest"] = _digest(ours)
        (folder / _OURS).write_text(json.dumps(ours, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        for path in folder.iterdir():
            _flush(path)
        _flush(folder)

    @staticmethod
    def _publish(temporary: Path, home: Path) -> int:
        """Rename the finished folder to the next free number; another writer may take one first."""
        while True:
            taken = [int(path.name[1:]) for path in home.glob("v[0-9]*") if path.name[1:].isdigit()]
            number = max(taken, default=0) + 1
            try:
                os.rename(temporary, home / _folder(number))
            except OSError:
                if (home / _folder(number)).exists():
                    continue
                raise
            _flush(home)
            return number

    @staticmethod
    def _point(home: Path, number: int) -> None:
        temporary = home / f".current-{uuid.uuid4().hex}"
        try:
            with temporary.open("x") as file:
                file.write(str(number))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, home / "current")
        finally:
            temporary.unlink(missing_ok=True)
        _flush(home)

    @staticmethod
    def _ours(folder: Path) -> dict[str, Any]:
        try:
            ours = json.loads((folder / _OURS).read_text(encoding="utf-8"))
            whole = ours.pop("digest") == _digest(ours)
        except FileNotFoundError:
            raise NbtuneError(f"{folder} has no {_OURS}: it is not an adapter of nbtune, or its version was removed.") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            whole = False
        if not whole:
            raise NbtuneError(f"{folder / _OURS} is damaged. `%nbtune undo` goes back to the version before.")
        if ours["format"] != _FORMAT:
            raise NbtuneError(f"{folder} was written by a newer nbtune (format {ours['format']}): update nbtune to use it.")
        return dict(ours)

    @staticmethod
    def _verify(folder: Path, checksums: dict[str, str]) -> None:
        for file, expected in checksums.items():
            path = folder / file
            if Path(file).name != file or not path.is_file():
                raise NbtuneError(f"{path} is missing. `%nbtune undo` goes back to the version before.")
            if _sha256(path) != expected:
                raise NbtuneError(f"{path} was changed after it was saved. `%nbtune undo` goes back to the version before.")


def _folder(number: int) -> str:
    return f"v{number:04d}"


def _digest(ours: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(ours, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _flush(path: Path) -> None:
    """Make sure that a file, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
