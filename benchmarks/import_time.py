"""Time `import skorchlike` beside `import torch, sklearn.base`, and a first fit beside torch's.

Each round is a fresh interpreter. For the import it takes torch and scikit-learn's base first
and then the package: what both need is paid once, and the ratio compares times of one process.
What an import puts off, the first fit pays: so a program that imports all and fits a small
network once is timed too, with the package and with torch alone.

The package is a compiled copy, as an installation is one: otherwise an interpreter that may not
write bytecode would compile its sources in every round. The interpreter's start is not counted.
"""

from __future__ import annotations

import argparse
import compileall
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

IMPORT = """
import json, time
started = time.perf_counter()
import torch, sklearn.base
base = time.perf_counter()
import skorchlike
print(json.dumps([base - started, time.perf_counter() - base]))
"""

BY_HAND = """
import json, time
started = time.perf_counter()
import numpy as np, torch, sklearn.base
X, y = np.eye(100, 4, dtype="float32"), np.arange(100) % 3
module = torch.nn.Sequential(torch.nn.Linear(4, 20), torch.nn.ReLU(), torch.nn.Linear(20, 3))
optimizer = torch.optim.AdamW(module.parameters())
for _ in range(3):
    loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(X)), torch.from_numpy(y))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
print(json.dumps(time.perf_counter() - started))
"""

BY_US = """
import json, time
started = time.perf_counter()
import numpy as np, skorchlike
X, y = np.eye(100, 4, dtype="float32"), np.arange(100) % 3
skorchlike.NeuralNetClassifier(
    module__hidden_layer_sizes=(20,), max_epochs=3, batch_size=100
).fit(X, y)
print(json.dumps(time.perf_counter() - started))
"""


def measure(rounds: int) -> np.ndarray:
    """Return (seconds of torch and scikit-learn, seconds of the package on top) a round."""
    return _run([IMPORT], rounds)[:, 0]


def measure_first_fit(rounds: int) -> np.ndarray:
    """Return (seconds of imports and a fit by hand, seconds of the same by us) a round."""
    return _run([BY_HAND, BY_US], rounds)


def _run(programs: list[str], rounds: int) -> np.ndarray:
    """Run programs in turn; a first round, which fills the disk's cache, is dropped."""
    spec = importlib.util.find_spec("skorchlike")
    if spec is None or spec.origin is None:
        raise SystemExit("skorchlike is not installed: pip install -e '.[bench]'")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "skorchlike")
        shutil.copytree(Path(spec.origin).parent, copy, ignore=shutil.ignore_patterns("*.pyc"))
        compileall.compile_dir(copy, quiet=1)
        taken = [[_result(program, folder) for program in programs] for _ in range(rounds + 1)]
    return np.array(taken[1:])


def _result(program: str, folder: str) -> list[float] | float:
    """Run a program where the copy of the package is found first; return what it prints."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return json.loads(done.stdout)


def report(taken: np.ndarray) -> str:
    """Say the ratio in a line."""
    base, extra = taken.T
    return (
        f"import skorchlike / import torch, sklearn.base: {_quartiles(1 + extra / base)}, "
        f"{np.median(extra) * 1e3:.0f} ms on {np.median(base):.2f} s, {len(taken)} rounds"
    )


def report_first_fit(taken: np.ndarray) -> str:
    """Say the ratio in a line."""
    by_hand, by_us = taken.T
    return (
        f"imports and a first fit / the same with torch alone: {_quartiles(by_us / by_hand)}, "
        f"{np.median(by_us):.2f} s and {np.median(by_hand):.2f} s, {len(taken)} rounds"
    )


def _quartiles(ratios: np.ndarray) -> str:
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print(report(measure(rounds)))
    print(report_first_fit(measure_first_fit(rounds)))
