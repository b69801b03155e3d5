"""Print what fits and steps cost, from one interleaved process.

Usage: python benchmarks/run.py [--quick] [--rounds N] [--threads 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

Times = dict[str, list[float]]

ROUNDS = {"W1": 12, "W3": 30, "loop": 15, "import": 5}
QUICK_ROUNDS = {"W1": 2, "W3": 5, "loop": 3, "import": 0}
PACKAGES = ("skorchlike", "torch", "scikit-learn", "numpy", "skorch")


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
    return wall, cpu


def header(what: str, *columns: str) -> str:
    """Return the first line of a table."""
    named = f"{what:<32}{'median':>8}{'quartiles':>16}{'extremes':>16}{'in CPU time':>13}"
    return "".join([named, *columns])


def row(name: str, values: Any, cpu_values: Any, *cells: str) -> str:
    """Return a line of a table: what the rounds gave, and its median in CPU time."""
    import numpy as np

    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    spread = f"{low:.2f} to {high:.2f}"
    extremes = f"{min(values):.2f} to {max(values):.2f}"
    measured = f"{name:<32}{middle:>8.2f}{spread:>16}{extremes:>16}{np.median(cpu_values):>13.2f}"
    return "".join([measured, *cells])


def fit_times(work: Any, rounds: int) -> dict[str, Times]:
    """Time the full fits of a workload and print them as ratios to the raw loop."""
    import contenders as c
    import numpy as np

    absent = c.missing()
    fits = {name: fit for name, fit in c.ALL.items() if name not in absent}
    wall, cpu = interleave({name: partial(fit, work) for name, fit in fits.items()}, rounds)
    print(f"\n{work}; {rounds} rounds")
    print(header("full fit / R", f"{'ms':>7}", f"{'/ skorchlike':>14}"))
    for name in fits:
        ratios, cpu_ratios = (np.divide(t[name], t[c.REFERENCE]) for t in (wall, cpu))
        milliseconds = np.median(wall[name]) * 1e3
        to_ours = np.median(np.divide(wall[name], wall["skorchlike"]))
        print(row(name, ratios, cpu_ratios, f"{milliseconds:>7.0f}", f"{to_ours:>14.2f}"))
    for name in absent:
        print(f"{name:<32}not installed, left out")
    return {"wall": wall, "cpu": cpu}


def loop_times(rounds: int) -> dict[str, Times]:
    """Time the loop without work and print what it costs a step."""
    import loop_cost as c
    import numpy as np

    wall, cpu = interleave(c.variants(), rounds)
    print(f"\nloop's own cost: {c.N_STEPS:,} steps less bare iteration; {rounds} rounds")
    print(header("microseconds a step"))
    for name in (name for name in wall if name != c.BARE):
        costs = (np.subtract(t[name], t[c.BARE]) / c.N_STEPS * 1e6 for t in (wall, cpu))
        print(row(name, *costs))
    return {"wall": wall, "cpu": cpu}


def import_times(rounds: int) -> Times:
    """Time the imports in fresh interpreters and print their ratio."""
    import import_time

    if not rounds:
        print("\nimport time left out; python benchmarks/import_time.py measures it")
        return {}
    taken = import_time.measure(rounds)
    print(f"\n{import_time.report(taken)}")
    base, extra = taken.T.tolist()
    return {"torch and scikit-learn": base, "skorchlike on top": extra}


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
        "machine": f"{os.cpu_count()}-core {platform.machine()}",
        "threads": threads,
        "versions": versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, under 30 s")
    parser.add_argument("--rounds", type=int, help="the same number of rounds for everything")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write all times, in seconds, to this file")
    args = parser.parse_args()

    # read when the libraries are loaded, so they are imported only after this
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    import torch
    import workloads

    torch.set_num_threads(args.threads)
    rounds = QUICK_ROUNDS if args.quick else ROUNDS
    if args.rounds is not None:
        rounds = dict.fromkeys(ROUNDS, args.rounds)
    about = environment(args.threads)
    print(f"{about['machine']}, {args.threads} thread(s), {about['date']}")
    print(", ".join(f"{name} {version}" for name, version in about["versions"].items()))

    seconds = {
        "W1": fit_times(workloads.w1(), rounds["W1"]),
        "W3": fit_times(workloads.w3(), rounds["W3"]),
        "loop": loop_times(rounds["loop"]),
        "import": import_times(rounds["import"]),
    }
    if args.json:
        args.json.write_text(json.dumps({**about, "seconds": seconds}, indent=1) + "\n")


if __name__ == "__main__":
    main()
