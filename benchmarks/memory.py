"""Measure the peak memory of a fit, in fresh processes.

In memory: a float32 array is made and fitted; the peak of the process's memory, less what it
held before the array was there, less module and optimizer, is divided by the array's size.

In a file: a memory-mapped array larger than the limit is fitted; the anonymous memory (that
which is not backed by a file, `RssAnon` of Linux) is sampled a thousand times a second, and
what the fit adds to it has to stay below the limit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
import json, re, sys, threading, time
import numpy as np, torch
from sklearn.datasets import load_iris
from skorchlike import NeuralNetClassifier

kind, module, n_rows, n_features, path = json.loads(sys.argv[1])

def status(field):
    text = open("/proc/self/status").read()
    return 1024 * int(re.search(rf"^{field}:\\s+(\\d+) kB", text, re.MULTILINE).group(1))

class Linear(torch.nn.Linear):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)

params = {"max_epochs": 2, "batch_size": 1024, "random_state": 0, "validation_fraction": 0.1}
if module == "own":
    params["module"] = Linear
# a first fit and prediction: what is loaded once is no part of the measure
X, y = load_iris(return_X_y=True)
NeuralNetClassifier(**params).fit(X.astype("float32"), y).predict(X.astype("float32"))

def fill(X):
    rng = np.random.default_rng(0)
    for start in range(0, n_rows, 4096):
        rng.standard_normal(dtype=np.float32, out=X[start : start + 4096])

if kind == "file":
    X = np.memmap(path, np.float32, "r", shape=(n_rows, n_features))
y = (np.arange(n_rows) % 2).astype(np.int64)
before = status("RssAnon")
peak, done = before, False

def watch():
    global peak
    while not done:
        peak = max(peak, status("RssAnon"))
        time.sleep(1e-3)

if kind == "memory":
    X = np.empty((n_rows, n_features), np.float32)
    fill(X)
watcher = threading.Thread(target=watch)
watcher.start()
net = NeuralNetClassifier(**params).fit(X, y)
net.predict(X)
done = True
watcher.join()
model = net.model_
own = sum(t.nbytes for t in model.module_.state_dict().values())
own += sum(
    v.nbytes for s in model.optimizer_["state"].values() for v in s.values() if hasattr(v, "nbytes")
)
print(json.dumps({"array": X.nbytes, "anonymous": peak - before, "model": own}))
"""


def measure(kind: str, module: str, megabytes: int, n_features: int = 100) -> dict[str, int]:
    """Return bytes of the array, of the model, and what the fit added to the process.

    Parameters
    ----------
    kind : {"memory", "file"}
        Where the array is.
    module : {"own", "built-in"}
        Which module trains: a linear layer of one's own, or the built-in MLP.
    megabytes : int
        Size of the array.
    n_features : int
        Its width.
    """
    n_rows = megabytes * 10**6 // (4 * n_features)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "X.bin")
        if kind == "file":
            _write(path, n_rows, n_features)
        said = json.dumps([kind, module, n_rows, n_features, path])
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, said], capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout)


def _write(path: str, n_rows: int, n_features: int) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        for start in range(0, n_rows, 4096):
            n = min(4096, n_rows - start)
            file.write(rng.standard_normal((n, n_features), dtype=np.float32).tobytes())


def report(megabytes: int) -> str:
    """Return the table as text."""
    lines = ["| array | module | size, MB | peak added, MB | model, MB | (peak - model) / array |"]
    lines.append("|---|---|---|---|---|---|")
    for kind in ("memory", "file"):
        for module in ("own", "built-in"):
            size = megabytes if kind == "memory" else 2 * megabytes
            found = measure(kind, module, size)
            added, model = found["anonymous"], found["model"]
            ratio = (added - model) / found["array"]
            where = "in memory, float32" if kind == "memory" else "memory-mapped, float32"
            lines.append(
                f"| {where} | {module} | {found['array'] / 1e6:.0f} | {added / 1e6:.0f} "
                f"| {model / 1e6:.1f} | {ratio:.2f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=500, help="the array in memory")
    print(report(parser.parse_args().megabytes))
