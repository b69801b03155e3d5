"""Measure the peak memory of a fit, each in a fresh process.

In memory: data are made and fitted; the peak of the process's memory, less what it held before
the data were there, is divided by the bytes of the data as given (X, y and sample_weight), of
the module and of the optimizer's state. The peak is the kernel's own (``VmHWM`` of Linux).

In a file: a memory-mapped array larger than the limit is fitted; the anonymous memory (that
which is not backed by a file, ``RssAnon``) is sampled a thousand times a second, and what the
fit adds to it is compared with the array.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

PROGRAM = """
import json, re, sys, threading, time
import numpy as np, torch
from skorchlike import NeuralNetClassifier, NeuralNetRegressor

case, n_rows, path = json.loads(sys.argv[1])

def status(field):
    text = open("/proc/self/status").read()
    return 1024 * int(re.search(rf"^{field}:\\s+(\\d+) kB", text, re.MULTILINE).group(1))

class Linear(torch.nn.Linear):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features)

def made(make, shape, dtype):
    # piece by piece: what is left of large temporary arrays would count as the fit's
    array = np.empty(shape, dtype)
    for start in range(0, len(array), 4096):
        part = array[start : start + 4096]
        part[:] = make(np.arange(start, start + len(part)), part.shape)
    return array

def numbers(rows, shape):
    return np.random.default_rng(rows[0]).standard_normal(shape, dtype=np.float32)

def data_of(n):
    if case["estimator"] == "classifier":
        y = made(lambda rows, _: rows % 2, n, np.int64)
    else:
        y = made(lambda rows, _: rows % 1000 / 1000, n, np.float64)
    weight = made(lambda rows, _: 1 + rows % 3, n, np.float64) if case["weights"] else None
    return y, weight

params = {"max_epochs": 2, "batch_size": 1024, "random_state": 0}
if case["validation"]:
    params["validation_fraction"] = 0.1
if case["module"] == "own":
    params["module"] = Linear
Net = NeuralNetClassifier if case["estimator"] == "classifier" else NeuralNetRegressor
shape = (n_rows, case["n_features"])

# a first fit and prediction: what is loaded once is no part of the measure
X = made(numbers, (3000, shape[1]), case["dtype"])
Net(**params).fit(X, *data_of(3000)).predict(X)
del X

in_file = case["where"] == "file"
resident = "RssAnon" if in_file else "VmRSS"
before, peak, done = status(resident), 0, False
if in_file:
    X = np.memmap(path, case["dtype"], "r", shape=shape)
else:
    X = made(numbers, shape, case["dtype"])
y, weight = data_of(n_rows)

def watch():
    global peak
    while not done:
        peak = max(peak, status(resident))
        time.sleep(1e-3)

def peak_of(function):
    global peak, done
    if not in_file:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the highest so far is forgotten
        result = function()
        return result, status("VmHWM") - before
    peak, done = 0, False
    watcher = threading.Thread(target=watch)
    watcher.start()
    result = function()
    done = True
    watcher.join()
    return result, peak - before

net, fit = peak_of(lambda: Net(**params).fit(X, y, weight))
_, predict = peak_of(lambda: net.predict(X))
model = net.model_
own = sum(t.nbytes for t in model.module_.state_dict().values())
own += sum(
    v.nbytes for s in model.optimizer_["state"].values() for v in s.values() if hasattr(v, "nbytes")
)
data = X.nbytes + y.nbytes + (0 if weight is None else weight.nbytes)
print(json.dumps({"X": X.nbytes, "data": data, "model": own, "fit": fit, "predict": predict}))
"""


@dataclass(frozen=True)
class Case:
    """What is fitted.

    Attributes
    ----------
    where : {"memory", "file"}
        Where the array is.
    estimator : {"classifier", "regressor"}
        Two classes as int64, or numbers as float64.
    module : {"own", "built-in"}
        A linear layer of one's own in float32, or the built-in MLP.
    n_features : int
        Width of X.
    dtype : {"float32", "float64"}
        The dtype of X.
    validation : bool
        Whether a tenth of the rows is held out.
    weights : bool
        Whether there are sample weights.
    """

    where: str = "memory"
    estimator: str = "classifier"
    module: str = "own"
    n_features: int = 100
    dtype: str = "float32"
    validation: bool = True
    weights: bool = False

    def n_rows(self, megabytes: int) -> int:
        """Return how many rows of X have so many megabytes."""
        return megabytes * 10**6 // (int(self.dtype[-2:]) // 8 * self.n_features)


def all_cases() -> list[Case]:
    """Return the cases of the table: widths, dtypes, kinds and places."""
    cases = []
    for n_features in (100, 20):
        for estimator in ("classifier", "regressor"):
            for module in ("own", "built-in"):
                case = Case("memory", estimator, module, n_features)
                cases += [case, replace(case, validation=False), replace(case, dtype="float64")]
        narrow = Case("memory", "classifier", "built-in", n_features, weights=True)
        cases += [narrow, replace(narrow, estimator="regressor")]
    cases += [Case(n_features=10), Case(n_features=5)]
    return [*cases, Case("file"), Case("file", module="built-in")]


def quick_cases() -> list[Case]:
    """Return a few cases for a first look."""
    narrow = Case(n_features=20)
    return [narrow, replace(narrow, estimator="regressor", module="built-in"), Case("file")]


def measure(case: Case, megabytes: int) -> dict[str, int]:
    """Return bytes of X, of all data, of module and optimizer, and the peaks of fit and predict.

    The peaks are over the process without data; of data in a file the mapped pages do not count.

    Parameters
    ----------
    case : Case
        What is fitted.
    megabytes : int
        Size of X.

    Returns
    -------
    dict
        Bytes, by the names ``X``, ``data``, ``model``, ``fit`` and ``predict``.
    """
    n_rows = case.n_rows(megabytes)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "X.bin")
        if case.where == "file":
            _write(path, n_rows, case)
        said = json.dumps([asdict(case), n_rows, path])
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, said], capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout)


def _write(path: str, n_rows: int, case: Case) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        for start in range(0, n_rows, 4096):
            shape = (min(4096, n_rows - start), case.n_features)
            file.write(rng.standard_normal(shape, dtype=np.float32).astype(case.dtype).tobytes())


def share(found: dict[str, int], peak: str = "fit") -> float:
    """Return the peak over data, module and optimizer."""
    return found[peak] / (found["data"] + found["model"])


HEAD = """\
| X | features | estimator | module | validation | weights | data, MB | model, MB \
| fit, MB | fit ÷ (data + model) | predict ÷ (data + model) |
|---|---|---|---|---|---|---|---|---|---|---|"""


def row(case: Case, found: dict[str, int]) -> str:
    """Return a line of the table."""
    where = case.dtype if case.where == "memory" else f"{case.dtype}, memory-mapped"
    megabytes = [f"{found[name] / 1e6:.1f}" for name in ("data", "model", "fit")]
    return "| " + " | ".join(
        [
            where,
            str(case.n_features),
            case.estimator,
            case.module,
            "0.1" if case.validation else "none",
            "yes" if case.weights else "no",
            *megabytes,
            f"{share(found):.2f}",
            f"{share(found, 'predict'):.2f} |",
        ]
    )


def report(cases: list[Case], megabytes: int) -> list[dict[str, Any]]:
    """Print the table as it grows; return what was measured."""
    print(HEAD, flush=True)
    results = []
    for case in cases:
        found = measure(case, 2 * megabytes if case.where == "file" else megabytes)
        results.append({**asdict(case), **found, "share": round(share(found), 4)})
        print(row(case, found), flush=True)
    return results


def _versions() -> dict[str, str]:
    import numpy as np
    import sklearn
    import torch

    import skorchlike

    packages = {"skorchlike": skorchlike, "torch": torch, "numpy": np, "scikit-learn": sklearn}
    return {"python": platform.python_version()} | {
        name: package.__version__ for name, package in packages.items()
    }


def main(said: list[str] | None = None) -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, help="X in memory; 500, or 100 with --quick")
    parser.add_argument("--quick", action="store_true", help="a few cases, in under 20 seconds")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args(said)
    megabytes = options.megabytes or (100 if options.quick else 500)
    results = report(quick_cases() if options.quick else all_cases(), megabytes)
    if options.json is not None:
        found = {
            "date": date.today().isoformat(),
            "machine": platform.machine(),
            "versions": _versions(),
            "megabytes": megabytes,
            "results": results,
        }
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
