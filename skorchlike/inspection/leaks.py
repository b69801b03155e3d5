"""What a callback may leave behind by mistake: hooks, contexts, files, threads."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def find_leaks(module: torch.nn.Module) -> list[str]:
    """Return what is left on a module of hooks, and of compiled or patched calls."""
    found = []
    for name, part in module.named_modules():
        where = f"module {name!r}" if name else "the module"
        found += [f"a hook on {where}" for hooks in HOOKS if getattr(part, hooks, None)]
        if "forward" in vars(part):
            found.append(f"a replaced forward of {where}")
    for name, parameter in module.named_parameters():
        found += [
            f"a hook on {name!r}" for hooks in TENSOR_HOOKS if getattr(parameter, hooks, None)
        ]
    return found


@contextmanager
def watch() -> Iterator[list[str]]:
    """Collect what has changed of the process when the block ends."""
    leaks: list[str] = []
    before = _settings(), _open_files(), set(threading.enumerate())
    yield leaks
    settings, files, threads = before
    for name, value in _settings().items():
        if value != settings[name]:
            leaks.append(f"{name} = {value} (it was {settings[name]})")
    if _open_files() - files:
        gc.collect()  # slow; objects in reference cycles would close their files a little later
    leaks += [f"the open file {name}" for name in sorted(_open_files() - files)]
    left = [t for t in threading.enumerate() if t not in threads and not _is_idle(t)]
    leaks += [f"the thread {thread.name!r}" for thread in left]


def _settings() -> dict[str, Any]:
    return {
        "autocast": [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        "gradients enabled": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "default dtype": torch.get_default_dtype(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "number of threads": torch.get_num_threads(),
        "standard output": sys.stdout,
        "standard error": sys.stderr,
        "working directory": os.getcwd(),
        "profiling function": sys.getprofile(),
    }


def _is_idle(thread: threading.Thread) -> bool:
    # one monitor thread of tqdm serves all its bars and stays
    return not thread.is_alive() or type(thread).__name__ == "TMonitor"


def _open_files() -> set[str]:
    """Return the names of open regular files, where the system tells (Linux)."""
    folder = "/proc/self/fd"
    names = set()
    for number in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            name = os.readlink(os.path.join(folder, number))
        except OSError:
            continue  # the listing's own
        # not pipes, sockets, devices
        if name.startswith("/") and not name.startswith(("/dev/", "/proc/", "/sys/")):
            names.add(name)
    return names
