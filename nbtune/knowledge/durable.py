"""Writes files so that they survive a power failure, and computes checksums."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["checksum", "flush_files", "flush_names", "write_durably"]

_NO_SUCH_CALL = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def write_durably(path: Path, text: str) -> None:
    """Write a new file and flush it to the disk.

    Parameters
    ----------
    path
        The file; it must not exist yet.
    text
        Its content, written as UTF-8.
    """
    with path.open("xb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def flush_files(paths: Iterable[Path]) -> None:
    """Flush several files to the disk together, which is faster than flushing each one after writing it."""
    for path in paths:
        with path.open("r+b", buffering=0) as file:  # some systems flush only files that are open for writing
            os.fsync(file.fileno())


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_names(folder: Path) -> None:
    """Flush the list of names in a folder to the disk, where the system has a call for it.

    Windows has none, and neither have some remote file systems.
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
