"""Time `import skorchlike` against `import torch, sklearn.base`.

Each in a fresh interpreter, one after the other in turn; start-up of the interpreter is
not counted. Prints the median over rounds of the ratio, and its quartiles.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import numpy as np

BASE = "import torch, sklearn.base"
OURS = "import skorchlike"
PROGRAM = """
import time
started = time.perf_counter()
{}
print(time.perf_counter() - started)
"""


def seconds(statement: str) -> float:
    """Run an import statement in a fresh interpreter; return how long it took."""
    command = [sys.executable, "-c", PROGRAM.format(statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each statement in each round, after a round that is dropped."""
    times: dict[str, list[float]] = {BASE: [], OURS: []}
    for _ in range(rounds + 1):
        for statement, taken in times.items():
            taken.append(seconds(statement))
    return {statement: taken[1:] for statement, taken in times.items()}


def report(times: dict[str, list[float]]) -> str:
    """Say the ratio in a line."""
    low, middle, high = np.quantile(np.divide(times[OURS], times[BASE]), [0.25, 0.5, 0.75])
    medians = {statement: float(np.median(taken)) for statement, taken in times.items()}
    return (
        f"{OURS} / {BASE}: {middle:.3f} ({low:.3f} to {high:.3f}), "
        f"{medians[OURS]:.2f} s / {medians[BASE]:.2f} s, {len(times[BASE])} rounds"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    print(report(measure(parser.parse_args().rounds)))
