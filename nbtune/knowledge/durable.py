"""Puts files down to the disk, where a power cut does not reach them, and says their checksums."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["checksum", "flush_files", "flush_names", "write_durably"]

_NO_SUCH_CALL = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def write_durably(path: Path, text: str) -> None:
    """Write a new file down to the disk.

    Parameters
    ----------
    path
        The file, which is not there yet.
    text
        What it holds, as UTF-8.
    """
    with path.open("xb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def flush_files(paths: Iterable[Path]) -> None:
    """Make sure that files are on the disk, together, which is sooner than each when it is written."""
    for path in paths:
        with path.open("r+b", buffering=0) as file:  # some systems flush only what can be written to
            os.fsync(file.fileno())


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_names(folder: Path) -> None:
    """Make sure that a folder's list of names is on the disk, where there is a call for it.

    Windows has none, nor have some file systems that lie elsewhere.
    """
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SUCH_CALL:
            raise
    finally:
        os.close(handle)
