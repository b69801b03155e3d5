"""Time `import skorchlike` beside `import torch, sklearn.base`.

Each round is a fresh interpreter that imports torch and scikit-learn's base and then the
package: what both need is paid once, and the ratio compares times of one process. The
start-up of the interpreter is not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import numpy as np

PROGRAM = """
import json, time
started = time.perf_counter()
import torch, sklearn.base
base = time.perf_counter()
import skorchlike
print(json.dumps([base - started, time.perf_counter() - base]))
"""


def measure(rounds: int) -> np.ndarray:
    """Return (seconds of torch and scikit-learn, seconds of the package on top) a round.

    A first round, which fills the disk's cache, is dropped.
    """
    command = [sys.executable, "-c", PROGRAM]
    taken = []
    for _ in range(rounds + 1):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        taken.append(json.loads(done.stdout))
    return np.array(taken[1:])


def report(taken: np.ndarray) -> str:
    """Say the ratio in a line."""
    base, extra = taken.T
    low, middle, high = np.quantile(1 + extra / base, [0.25, 0.5, 0.75])
    return (
        f"import skorchlike / import torch, sklearn.base: {middle:.3f} ({low:.3f} to {high:.3f}), "
        f"{np.median(extra) * 1e3:.0f} ms on {np.median(base):.2f} s, {len(taken)} rounds"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    print(report(measure(parser.parse_args().rounds)))
