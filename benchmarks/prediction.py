"""`predict_proba` of many rows and of one, beside the module called by hand.

Raw is what an engineer writes: chunks of 1,024 rows (or the one row) through the module and a
softmax under `inference_mode`, into one NumPy array. For the built-in MLP, which also
standardizes the numbers, the raw way has that too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import contenders as c
import numpy as np
import torch
import workloads
from timing import digits, interleave, ratios
from torch import nn

CHUNK, CALLS = 1_024, 200
RAW, RAW_BUILT_IN = "raw", "raw, standardized"
BASES = {c.BUILT_IN: RAW_BUILT_IN, RAW_BUILT_IN: RAW_BUILT_IN}
"""What each is divided by, where it is not `RAW`."""

Predict = Callable[[np.ndarray], np.ndarray]


def measure(quick: bool = False) -> dict[str, Any]:
    """Return what the rounds gave for 50,000 rows, and for one row, of W2."""
    work = workloads.w2()
    predictors = build(work)
    one_row, all_rows = work.X[:1].copy(), work.X
    calls = 50 if quick else CALLS
    return {
        "rows": times(predictors, all_rows, 1, 3 if quick else 15),
        "row": times(predictors, one_row, calls, 5 if quick else 25),
    }


def times(predictors: dict[str, Predict], X: np.ndarray, calls: int, rounds: int) -> dict[str, Any]:
    """Time so many calls of each a round."""

    def repeat(predict: Predict) -> Callable[[], None]:
        def run() -> None:
            for _ in range(calls):
                predict(X)

        return run

    wall, cpu = interleave({name: repeat(p) for name, p in predictors.items()}, rounds)
    found = {}
    for name in wall:
        base = BASES.get(name, RAW)
        found[name] = {
            "to_raw": ratios(wall[name], wall[base]),
            "cpu": ratios(cpu[name], cpu[base])["median"],
            "us": digits(float(np.median(wall[name])) / calls * 1e6),
        }
    return {"n_rows": len(X), "rounds": rounds, "calls": calls, "contenders": found}


def build(work: workloads.Workload, n_fit: int = 2_000) -> dict[str, Predict]:
    """Fit everyone to some rows of a workload and return how each predicts."""
    part = replace(work, X=work.X[:n_fit], y=work.y[:n_fit], max_epochs=1)
    own, built_in = c.own_module(part), c.built_in(part)
    found = {
        RAW: raw(own.model_.module_),
        c.OWN: own.predict_proba,
        RAW_BUILT_IN: raw(built_in.model_.module_, part.X.mean(0), part.X.std(0)),
        c.BUILT_IN: built_in.predict_proba,
        c.SKLEARN: c.scikit_learn(part).predict_proba,
    }
    if "skorch" not in c.missing():
        found["skorch"] = c.skorch(part).predict_proba
    return found


def raw(
    module: nn.Module, mean: np.ndarray | None = None, scale: np.ndarray | None = None
) -> Predict:
    """Return the prediction that is written by hand."""
    centre, width = (None if a is None else torch.from_numpy(a) for a in (mean, scale))

    def chunk(X: torch.Tensor) -> torch.Tensor:
        if centre is not None:
            X = (X - centre) / width
        return torch.softmax(module(X), 1)

    def predict(X: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            rows = torch.from_numpy(X)
            if len(rows) <= CHUNK:
                return chunk(rows).numpy()
            return torch.cat([chunk(part) for part in rows.split(CHUNK)]).numpy()

    return predict


if __name__ == "__main__":
    raise SystemExit("Run instead: python benchmarks/run.py --only prediction")
