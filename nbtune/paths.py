"""Checks paths that users give, before any work is done, and replaces files atomically."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nbtune.errors import NbtuneError, disk_reason

__all__ = ["atomic_file", "check_writable", "given_path"]


def given_path(name: str | Path) -> Path:
    """Return the path that a user gave, with ``~`` expanded to the home folder.

    Raises
    ------
    NbtuneError
        When there is no such home folder.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise NbtuneError(f"{name!r} ({type(name).__name__}) is not a path.")
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise NbtuneError(f"{name} names the home folder of an unknown user: write the full path.") from None


def check_writable(folder: Path) -> None:
    """Refuse a folder that can't be written to; of a folder that does not exist yet, the nearest existing parent is checked.

    Raises
    ------
    NbtuneError
        Names the folder that can't be written to.
    """
    nearest = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    # The methods of Path raise an error for a folder that may not be entered.
    if not os.path.isdir(nearest) or not os.access(nearest, os.W_OK | os.X_OK):  # noqa: PTH112
        raise NbtuneError(f"Can't write to {nearest}: choose another folder, or change its permissions.")


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary file to write to, and move it to `target` if the block succeeds; otherwise `target` stays unchanged.

    Raises
    ------
    NbtuneError
        When the disk refuses to write.
    """
    place = Path(os.path.realpath(target))  # replace the file that a link points to, not the link
    written = place.with_name(f".{uuid.uuid4().hex}{place.suffix}")
    try:
        yield written
        os.replace(written, place)
    except OSError as error:
        raise NbtuneError(f"{target} could not be written ({disk_reason(error)}).") from None
    finally:
        with suppress(OSError):
            written.unlink()
