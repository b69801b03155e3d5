"""Full fits of all contenders on the four workloads, in turn, as ratios to the raw loop R."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import contenders as c
import numpy as np
import torch
import workloads
from timing import digits, interleave, ratios

ROUNDS = {"W1": 15, "W2": 7, "W3": 25, "W4": 15}
QUICK_ROUNDS = {"W1": 2, "W2": 1, "W3": 2, "W4": 2}
QUICK_EPOCHS, QUICK_ROWS = {"W1": 2, "W2": 1}, 20_000
IN_TWO_THREADS = (c.REFERENCE, c.OWN, c.BUILT_IN, c.SKLEARN)


def measure(quick: bool = False) -> dict[str, Any]:
    """Return what each workload's rounds gave, of all contenders."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    return {name: fit_times(_workload(name, quick), n) for name, n in rounds.items()}


def measure_two_threads(quick: bool = False) -> dict[str, Any]:
    """Return the same of the MLPs, for those contenders alone that scikit-learn is held against."""
    torch.set_num_threads(2)
    rounds = QUICK_ROUNDS if quick else ROUNDS
    return {
        name: fit_times(_workload(name, quick), n, IN_TWO_THREADS)
        for name, n in rounds.items()
        if name != "W4"
    }


def _workload(name: str, quick: bool) -> workloads.Workload:
    work = workloads.ALL[name]()
    if not quick:
        return work
    part = {"X": work.X[:QUICK_ROWS], "y": work.y[:QUICK_ROWS]}
    return replace(work, **part, max_epochs=QUICK_EPOCHS.get(name, work.max_epochs))


def fit_times(
    work: workloads.Workload, rounds: int, names: tuple[str, ...] = tuple(c.ALL)
) -> dict[str, Any]:
    """Time the full fits of a workload.

    Returns
    -------
    dict
        What it was, and by contender: ``to_reference`` (spread of the ratio to R in the same
        round), ``cpu`` (its median in processor time), ``ms`` (median), ``to_own`` and
        ``to_built_in`` (spread of the ratio to this package's two fits), ``path`` (which
        of this package's ways through a batch ran).
    """
    paths: dict[str, str] = {}
    fits = {n: fit for n, fit in c.suited(work).items() if n in names}
    noted = {name: partial(_note, paths, name, fit, work) for name, fit in fits.items()}
    wall, cpu = interleave(noted, rounds)
    found = {}
    for name, times in wall.items():
        entry: dict[str, Any] = {
            "to_reference": ratios(times, wall[c.REFERENCE]),
            "cpu": ratios(cpu[name], cpu[c.REFERENCE])["median"],
            "ms": digits(float(np.median(times)) * 1e3),
        }
        for key, ours in (("to_own", c.OWN), ("to_built_in", c.BUILT_IN)):
            if ours in wall:
                entry[key] = ratios(times, wall[ours])
        if name in paths:
            entry["path"] = paths[name]
        found[name] = entry
    return {"work": str(work), "rounds": rounds, "contenders": found}


def _note(
    paths: dict[str, str], name: str, fit: Callable[[Any], Any], work: workloads.Workload
) -> object:
    fitted = fit(work)
    if hasattr(fitted, "model_"):
        paths[name] = getattr(fitted.model_, "path_", "general")
    return fitted


if __name__ == "__main__":
    raise SystemExit("Run instead: python benchmarks/run.py --only fits fits_two_threads")
