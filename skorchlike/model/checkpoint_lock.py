"""A lock that one process at a time has on a folder."""

from __future__ import annotations

import errno
import os
import warnings
import weakref
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_HELD: weakref.WeakSet[FolderLock] = weakref.WeakSet()


class FolderLock:
    """A lock on a folder; it ends with `release` or with the process, however that ends.

    Parameters
    ----------
    path : Path
        The lock's file; it is made, and stays.

    Raises
    ------
    BlockingIOError
        If another one has the lock, in this process or elsewhere.
    OSError
        If the file cannot be made.
    """

    descriptor = -1

    def __init__(self, path: Path) -> None:
        self.descriptor = _open(path)
        try:
            _lock(self.descriptor, path)
        except BaseException:
            self.release()
            raise
        _HELD.add(self)

    def release(self) -> None:
        """Let others have the folder."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.release()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)


def _lock(descriptor: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            raise BlockingIOError(error.errno, "in use", str(path)) from None
        warnings.warn(
            f"The file system cannot lock {str(path.parent)!r} ({error.strerror}). See to it that "
            "no two fits write checkpoints there at once.",
            stacklevel=2,
        )


def _forget_in_child() -> None:
    """Close what a forked process has inherited: else a worker would outlive the lock's owner."""
    for lock in list(_HELD):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
