"""Checks paths that users give before any work, and replaces files as a whole."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nbtune.errors import NbtuneError, disk_reason

__all__ = ["check_writable", "given_path", "replaced"]


def given_path(name: str | Path) -> Path:
    """Return the path that a user named, with ``~`` as the home folder.

    Raises
    ------
    NbtuneError
        When nobody here has that home folder.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise NbtuneError(f"{name} names the home folder of somebody who is not here: write the whole path.") from None


def check_writable(folder: Path) -> None:
    """Refuse a folder in which nothing can be made; one that is not there yet is made in the nearest that is.

    Raises
    ------
    NbtuneError
        It names the folder.
    """
    nearest = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    # Path's own calls raise where a folder may not be entered.
    if not os.path.isdir(nearest) or not os.access(nearest, os.W_OK | os.X_OK):  # noqa: PTH112
        raise NbtuneError(f"Nothing can be written to {nearest}: choose another folder, or change who may write there.")


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Give a file to write to, and put it in the place of another when the block ends well; what was there stays otherwise.

    Raises
    ------
    NbtuneError
        When the disk refuses.
    """
    place = Path(os.path.realpath(target))  # what a link leads to is replaced, not the link
    written = place.with_name(f".{uuid.uuid4().hex}{place.suffix}")
    try:
        yield written
        os.replace(written, place)
    except OSError as error:
        raise NbtuneError(f"{target} could not be written ({disk_reason(error)}).") from None
    finally:
        with suppress(OSError):
            written.unlink()
