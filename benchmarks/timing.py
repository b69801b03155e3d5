"""Rounds of contenders in turn, what they gave, and where they ran."""

from __future__ import annotations

import datetime
import gc
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Times = dict[str, list[float]]

PACKAGES = (
    "skorchlike",
    "torch",
    "scikit-learn",
    "numpy",
    "pandas",
    "skorch",
    "pytorch-lightning",
    "pytorch-ignite",
)


def set_threads(threads: int) -> None:
    """Set the number of threads of all libraries; they read it when they are imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)


def interleave(contenders: Mapping[str, Callable[[], object]], rounds: int) -> tuple[Times, Times]:
    """Time A B C A B C ... by the clock and in CPU time; the first round is dropped.

    What is alive after that round is kept out of the garbage collector's way, what a call
    leaves behind is collected before the next one, and within a call the collector runs
    as it does for a user: alike for all.
    """
    wall: Times = {name: [] for name in contenders}
    cpu: Times = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, call in contenders.items():
            gc.collect()
            started, cpu_started = time.perf_counter(), time.process_time()
            result = call()
            stopped, cpu_stopped = time.perf_counter(), time.process_time()
            del result
            if number:
                wall[name].append(stopped - started)
                cpu[name].append(cpu_stopped - cpu_started)
        if number == 0:
            gc.collect()
            gc.freeze()
    gc.unfreeze()
    return wall, cpu


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return median, quartiles and extremes, to four digits."""
    import numpy as np

    values = np.asarray(list(values), dtype=float)
    names = ("least", "low", "median", "high", "most")
    found = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
    return {name: digits(value) for name, value in zip(names, found, strict=True)}


def ratios(one: Iterable[float], other: Iterable[float]) -> dict[str, float]:
    """Return the spread of the ratio of two contenders within the same round."""
    return spread(a / b for a, b in zip(one, other, strict=True))


def digits(value: float, n: int = 4) -> float:
    """Round to so many significant digits: what is stored stays small."""
    return float(f"{value:.{n}g}")


def environment(threads: int) -> dict[str, Any]:
    """Return machine, versions and date, for the record."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()}-core {platform.machine().replace('_', '-')}",
        "threads": threads,
        "versions": versions,
    }
