"""Writes and reads the folder of one version: a plain PEFT folder for each new adapter, and ``nbtune.json``.

The first new adapter is at the top of the folder and the others are in ``2/``, ``3/``, ..., as PEFT lays out several. Adapters
of earlier versions stay in their folders: ``nbtune.json`` lists all adapters with their checksums. The model card is for
people; nothing is read from it, so it may be edited.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbtune.errors import NbtuneError, disk_reason
from nbtune.knowledge.durable import checksum, flush_files, flush_names
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.model_card import model_card
from nbtune.model.exporting import ADAPTER_WEIGHTS, read_adapter, write_adapter

if TYPE_CHECKING:
    from nbtune.model.adapter import Adapter

__all__ = ["DamagedError", "Place", "Version", "folder_name", "read_notes", "read_version", "write_version"]

_CONFIG, _NOTES, _CARD = "adapter_config.json", "nbtune.json", "README.md"
_FORMAT = 2
_WAY_OUT = "`%nbtune undo NAME` goes back to the newest intact version."
_HERE = "."  # the folder of the version itself, whose name is not known while it is written
_PLACE = re.compile(r"v\d{4,}(?:/\d+)?")


class DamagedError(NbtuneError):
    """Error for a version with a file that is missing or was changed."""


@dataclass(frozen=True)
class Place:
    """Folder of an adapter's files, relative to the folder of the adapter name, with their checksums."""

    folder: str
    checksums: dict[str, str]


@dataclass(frozen=True)
class Version:
    """One state of a named adapter: its facts or examples, and the weights learned from them.

    Parameters
    ----------
    facts
        The facts, in the order taught.
    method
        Name of the training method; empty for the base.
    base, fingerprint
        Source and fingerprint of the base model.
    adapters
        One adapter per fact, chosen by the gate of `nbtune.knowledge.gate`; without a gate, a single adapter.
    gated
        Whether there is a gate.
    report
        Scores of the last finetune.
    places
        Places of the adapters on disk; adapters beyond the last place are new.
    settings, retain
        Settings that the user chose and questions to retain, for learning the facts again.
    examples
        Number of examples that the adapter was trained on instead of facts.
    asked
        Questions from some of these examples, with which an export is tested.
    number, parent, folder
        Number, number of the version it was made from, and folder; chosen when it is written.
    """

    facts: tuple[Fact, ...]
    method: str
    base: str
    fingerprint: str
    adapters: tuple[Adapter, ...] = ()
    gated: bool = True
    report: dict[str, Any] = field(default_factory=dict)
    places: tuple[Place, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    retain: tuple[str, ...] = ()
    examples: int = 0
    asked: tuple[str, ...] = ()
    number: int = 0
    parent: int = 0
    folder: Path | None = None

    def without(self, keywords: set[str]) -> Version:
        """Return the version without some facts and their adapters; without a gate, the single adapter is removed, too."""
        kept = [at for at, fact in enumerate(self.facts) if fact.keyword not in keywords]
        facts = tuple(self.facts[at] for at in kept)
        if not self.gated:
            return replace(self, facts=facts, adapters=(), places=())
        return replace(self, facts=facts, adapters=tuple(self.adapters[at] for at in kept), places=tuple(self.places[at] for at in kept))

    def adapters_by_folder(self) -> dict[str, Adapter]:
        """Return the adapters by folder."""
        return {place.folder: adapter for place, adapter in zip(self.places, self.adapters, strict=True)}

    def written(self, number: int, parent: int, home: Path, places: Sequence[Place]) -> Version:
        """Return the version with its number, parent, folder and places; `places` may be relative to its own folder."""
        seen = tuple(replace(place, folder=place.folder.replace(_HERE, folder_name(number))) for place in places)
        return replace(self, places=seen, number=number, parent=parent, folder=home / folder_name(number))


def folder_name(number: int) -> str:
    """Return the name of a version's folder."""
    return f"v{number:04d}"


def write_version(folder: Path, name: str, version: Version, parent: int) -> list[Place]:
    """Write a version into an empty folder, and flush its files to the disk, except the model card, which is never read.

    Parameters
    ----------
    folder
        The folder to write to.
    name
        Name of the adapter, for its model card.
    version
        The version to write; only its new adapters are written.
    parent
        Number of the version that it was made from.

    Returns
    -------
    list of Place
        Places of all adapters; those of the new ones are relative to `folder`.
    """
    (folder / _CARD).write_text(model_card(name, version), encoding="utf-8")
    places = list(version.places)
    for number, adapter in enumerate(version.adapters[len(places) :], start=1):
        place = _HERE if number == 1 else f"{_HERE}/{number}"
        below = folder / place
        below.mkdir(exist_ok=True)
        write_adapter(adapter, below)
        places.append(Place(place, {file: checksum(below / file) for file in (_CONFIG, ADAPTER_WEIGHTS)}))
    notes = {
        "format": _FORMAT,
        "parent": parent,
        "base": version.base,
        "fingerprint": version.fingerprint,
        "method": version.method,
        "gated": version.gated,
        "facts": [fact.to_json() for fact in version.facts],
        "settings": version.settings,
        "retain": list(version.retain),
        "examples": version.examples,
        "asked": list(version.asked),
        "adapters": [asdict(place) for place in places],
        "report": version.report,
        "versions": _versions(),
    }
    notes["digest"] = _digest(notes)
    (folder / _NOTES).write_text(json.dumps(notes, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    new = [(folder / place.folder, place) for place in places if place.folder.startswith(_HERE)]
    flush_files([*(below / file for below, place in new for file in place.checksums), folder / _NOTES])
    for below in (*(below for below, _ in new if below != folder), folder):
        flush_names(below)
    return places


def read_version(home: Path, name: str, number: int, fingerprint: str, held: Mapping[str, Adapter]) -> Version:
    """Read a version and verify it.

    Parameters
    ----------
    home
        Folder of the adapter name.
    name, number
        Name of the adapter, and number of the version.
    fingerprint
        Fingerprint of the base model that the version is for.
    held
        Adapters that are in memory, by folder; they are not read again.

    Raises
    ------
    DamagedError
        When a file is missing or was changed.
    NbtuneError
        When a file can't be read, or the version belongs to another base or another nbtune.
    """
    folder = home / folder_name(number)
    notes = read_notes(folder)
    if notes["fingerprint"] != fingerprint:
        raise NbtuneError(
            f"The adapter {name!r} was made for {notes['base']} ({notes['fingerprint']}), not for the loaded model ({fingerprint}): "
            f"load that one first with `%nbtune model`, or teach another adapter with --name NAME."
        )
    facts = tuple(Fact.from_json(fact) for fact in notes["facts"])
    version = Version(facts, notes["method"], notes["base"], fingerprint, gated=notes["gated"], report=notes["report"])
    # Versions written by older releases have none of these.
    kept: dict[str, Any] = {"settings": notes.get("settings", {}), "examples": notes.get("examples", 0)}
    kept |= {name: tuple(notes.get(name, ())) for name in ("retain", "asked")}
    version = replace(version, **kept)
    version = version.written(number, notes["parent"], home, [Place(**place) for place in notes["adapters"]])
    outside = next((place.folder for place in version.places if not _PLACE.fullmatch(place.folder)), None)
    if outside is not None:
        raise NbtuneError(f"{folder / _NOTES} names {outside!r}, which is not an adapter's folder.")
    return replace(version, adapters=tuple(held.get(place.folder) or _read_adapter(home, place) for place in version.places))


def read_notes(folder: Path) -> dict[str, Any]:
    """Return the contents of ``nbtune.json`` in the folder of a version.

    Raises
    ------
    DamagedError
        When the file is missing or damaged.
    NbtuneError
        When the file can't be read, or another version of nbtune wrote it.
    """
    try:
        notes = json.loads((folder / _NOTES).read_text(encoding="utf-8"))
        whole = notes.pop("digest") == _digest(notes)
    except FileNotFoundError:
        raise DamagedError(f"{folder} has no {_NOTES}: it is not an nbtune adapter, or its version was removed. {_WAY_OUT}") from None
    except OSError as error:  # not necessarily damaged, so an undo must not skip the version
        raise NbtuneError(f"{folder / _NOTES} can't be read ({disk_reason(error)}).") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise DamagedError(f"{folder / _NOTES} is damaged. {_WAY_OUT}")
    if notes["format"] != _FORMAT:
        raise NbtuneError(
            f"{folder} was written by another version of nbtune (format {notes['format']}, expected {_FORMAT}): "
            f"use that version, or teach the facts in its {_NOTES} again."
        )
    return dict(notes)


def _read_adapter(home: Path, place: Place) -> Adapter:
    folder = home / place.folder
    try:
        _verify(folder, place.checksums)
        return read_adapter(folder)
    except OSError as error:
        raise NbtuneError(f"{folder} can't be read ({disk_reason(error)}).") from None


def _verify(folder: Path, checksums: dict[str, str]) -> None:
    for file, expected in checksums.items():
        path = folder / file
        if Path(file).name != file or not path.is_file():
            raise DamagedError(f"{path} is missing. {_WAY_OUT}")
        if checksum(path) != expected:
            raise DamagedError(f"{path} was changed after it was saved. {_WAY_OUT}")


@cache
def _versions() -> dict[str, str]:
    return {package: installed(package) for package in ("torch", "transformers", "peft")}


def _digest(notes: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(notes, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
