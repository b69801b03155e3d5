"""Processes that fit, and are killed at a chosen moment. For Linux: uses inotify and pidfd."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: forks have one thread

import contextlib
import ctypes
import importlib
import json
import math
import select
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kill_configurations as fits

PREPARED = {"jemalloc_bg_thd"}
"""Threads that may be there: pyarrow's memory allocator sees to it that it can be forked."""

LIMIT = 120.0
"""Seconds after which a process that does not end has failed."""


@dataclass(frozen=True)
class Task:
    """A fit.

    Attributes
    ----------
    name : str
        The configuration.
    result : str
        The file for what comes out.
    folder : str or None
        Of the checkpoints; None makes none.
    seed : int or None
        Where the configuration has none.
    """

    name: str
    result: str
    folder: str | None = None
    seed: int | None = None

    def do(self, descriptor: int) -> None:
        """Fit in this process; a warning, as of a damaged checkpoint, is an error."""
        result = Path(self.result)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            folder = None if self.folder is None else Path(self.folder)
            fits.fit(self.name, folder, result, descriptor, self.seed)
        result.with_suffix(".modules").write_text(json.dumps(list(sys.modules)))


@dataclass(frozen=True)
class Kill:
    """When to kill.

    Attributes
    ----------
    seconds : float
        How long to wait.
    change : int
        After which change of the folder, counted from the fit's begin; 0 is the begin itself.
    """

    seconds: float
    change: int = 0


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes
    ----------
    status : int or None
        As `os.waitpid` has it; None if it took too long.
    told : list
        What `Reports` had told: place, global step, checkpoint saved last.
    seconds : float
        From the fit's begin to the end.
    n_changes : int
        How often the folder had changed.
    """

    status: int | None
    told: list[list[Any]]
    seconds: float
    n_changes: int

    @property
    def killed(self) -> bool:
        """Whether it was killed; it may have been faster."""
        status = self.status
        return status is not None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9


class Changes:
    """Counts what happens to the files of a folder; `select` waits for it."""

    CREATED, MOVED, DELETED, MODIFIED, CLOSED = 0x100, 0xC0, 0x200, 0x2, 0x8

    def __init__(self, folder: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        mask = self.CREATED | self.MOVED | self.DELETED | self.MODIFIED | self.CLOSED
        if libc.inotify_add_watch(self.descriptor, os.fsencode(folder), mask) < 0:
            raise OSError(ctypes.get_errno(), "the folder cannot be watched", folder)

    def count(self) -> int:
        """Return how many there were since the last call."""
        data, place, n = read(self.descriptor), 0, 0
        while place < len(data):
            place += 16 + struct.unpack_from("iIII", data, place)[3]
            n += 1
        return n

    def fileno(self) -> int:
        return self.descriptor

    def close(self) -> None:
        os.close(self.descriptor)


def read(descriptor: int) -> bytes:
    """Return what is there to be read, without waiting."""
    parts = []
    with contextlib.suppress(BlockingIOError):
        while part := os.read(descriptor, 2**16):
            parts.append(part)
    return b"".join(parts)


def import_all(names: Iterable[str]) -> None:
    """Import what a fit imports, so that forked processes need not."""
    for name in names:
        if name not in sys.modules and name.split(".")[0] != "__main__":
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


def start_forked(task: Task, descriptor: int, log: Path) -> int:
    """Fork a process that fits."""
    threads = {(path / "comm").read_text().strip() for path in Path("/proc/self/task").iterdir()}
    if len(threads - PREPARED) > 1:
        raise RuntimeError(f"A process with threads must not be forked; it has {threads}.")
    pid = os.fork()
    if pid:
        return pid
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        task.do(descriptor)
        os._exit(0)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(1)


def start_fresh(task: Task, descriptor: int, log: Path) -> int:
    """Start a process that fits, in an interpreter of its own."""
    os.set_inheritable(descriptor, True)
    program = [sys.executable, __file__, json.dumps([vars(task), descriptor])]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [(os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2)]
    return os.posix_spawn(program[0], program, os.environ, file_actions=actions)


def run(task: Task, log: Path, kill: Kill | None = None, fresh: bool = False) -> Ended:
    """Run a process to its end, or until it is killed."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    changes = Changes(task.folder or str(log.parent))
    pid = (start_fresh if fresh else start_forked)(task, theirs, log)
    os.close(theirs)
    try:
        return _watch(pid, ours, changes, kill)
    finally:
        os.close(ours)
        changes.close()


def _watch(pid: int, pipe: int, changes: Changes, kill: Kill | None) -> Ended:
    """Read what the process tells, kill it when it is time, wait for its end."""
    process = os.pidfd_open(pid)
    limit, due = time.perf_counter() + LIMIT, math.inf
    begun, n_changes, text = None, 0, b""
    ended = False
    while not ended and (wait := min(due, limit) - time.perf_counter()) > 0:
        ready = select.select([pipe, changes, process], [], [], wait)[0]
        ended = process in ready
        if pipe in ready:
            text += read(pipe)
        if begun is None:
            changes.count()
            if text:
                begun = time.perf_counter()
                due = begun + kill.seconds if kill and not kill.change else math.inf
        else:
            before, n_changes = n_changes, n_changes + changes.count()
            if kill and before < kill.change <= n_changes:
                due = time.perf_counter() + kill.seconds
    late = not ended and limit <= due
    if not ended:
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    seconds = time.perf_counter() - (begun or limit - LIMIT)
    os.close(process)
    told = [json.loads(line) for line in (text + read(pipe)).splitlines()]
    return Ended(None if late else status, told, seconds, n_changes)


if __name__ == "__main__":
    said, pipe = json.loads(sys.argv[1])
    Task(**said).do(pipe)
