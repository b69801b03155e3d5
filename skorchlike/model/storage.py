"""The file operations by which results are kept: each is one function, so that each can fail.

Everything that is written goes through this module's functions, called as
``storage.rename(...)``. A test that replaces one of them sees what becomes of the rest.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

WITHOUT_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)
"""What file systems answer that cannot sync a folder; there it is not needed or not possible."""


def create(path: Path) -> int:
    """Create a file that does not exist yet, and return its descriptor, open for writing."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def write(descriptor: int, data: memoryview) -> int:
    """Write bytes, and return how many were taken: perhaps not all."""
    return os.write(descriptor, data)


def sync(descriptor: int) -> None:
    """Wait until what was written is on the disk."""
    os.fsync(descriptor)


def close(descriptor: int) -> None:
    """Close a file."""
    os.close(descriptor)


def rename(old: Path, new: Path) -> None:
    """Give a file another name at once; a file that has that name is replaced."""
    os.replace(old, new)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "nt":
        return  # a folder cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in WITHOUT_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file."""
    os.unlink(path)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, as far as they are missing."""
    os.makedirs(folder, exist_ok=True)


def read(path: Path, most: int = -1) -> bytes:
    """Return the content of a file, or so many bytes of its start at most."""
    with path.open("rb") as file:
        return file.read(most)


def names(folder: Path) -> Iterator[str]:
    """Yield the names in a folder, in alphabetical order."""
    yield from sorted(os.listdir(folder))
