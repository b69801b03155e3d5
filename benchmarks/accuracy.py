"""Cross-validate all contenders on all data sets and print the accuracy table.

Usage: python benchmarks/accuracy.py [--quick] [--only NAME ...] [--data NAME ...] [--table]
       [--docs docs/accuracy.md]

Every fold's result is kept in the cache at once, so that an interrupted run goes on where it
was; a result is made again when the contender's parameters have changed, or with --fresh.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

CACHE = Path(__file__).parent / "accuracy_results.json"


class Cache:
    """Results a fold, by contender and data set, in a JSON file.

    Parameters
    ----------
    path : pathlib.Path or None
        The file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.results: dict[str, Any] = {}
        if path is not None and path.exists():
            self.results = json.loads(path.read_text())

    def folds(self, contender: str, data: str, made_of: str) -> dict[str, Any]:
        """Return the folds that are there, none if they are of other parameters."""
        entry = self.results.setdefault(contender, {}).setdefault(data, {})
        if entry.get("made_of") != made_of:
            entry.clear()
            entry.update(made_of=made_of, folds={})
        folds: dict[str, Any] = entry["folds"]
        return folds

    def save(self) -> None:
        """Write all results; a reader never sees half a file."""
        if self.path is None:
            return
        new = self.path.with_suffix(f".{os.getpid()}.new")
        new.write_text(json.dumps(self.results, indent=0, sort_keys=True) + "\n")
        new.replace(self.path)


def splits(data: Any, X: Any, y: Any) -> list[tuple[Any, Any]]:
    """Return the folds, the same for every contender."""
    from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold

    kind = RepeatedStratifiedKFold if data.task == "classification" else RepeatedKFold
    folds = kind(n_splits=data.n_folds, n_repeats=data.repeats, random_state=0)
    return list(folds.split(X, y))


def _rows(X: Any, rows: Any) -> Any:
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def run_fold(
    make: Any, data: Any, X: Any, y: Any, rows: tuple[Any, Any], seed: int
) -> dict[str, float]:
    """Fit on the training rows and score the others; the time is that of the fit alone."""
    from sklearn.metrics import log_loss, r2_score

    train, test = rows
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started, cpu_started = time.perf_counter(), time.process_time()
        estimator = make(data.task, X, seed).fit(_rows(X, train), y[train])
        result = {"wall": time.perf_counter() - started, "cpu": time.process_time() - cpu_started}
        if data.task == "regression":
            result["score"] = float(r2_score(y[test], estimator.predict(_rows(X, test))))
            return result
        shares = estimator.predict_proba(_rows(X, test)).astype("float64")
        shares /= shares.sum(1, keepdims=True)
    classes = estimator.classes_
    result["score"] = float((classes[shares.argmax(1)] == y[test]).mean())
    result["log_loss"] = float(log_loss(y[test], shares, labels=classes))
    return result


def made_of(make: Any, data: Any, X: Any) -> str:
    """Return a fingerprint of a contender's parameters."""
    import sklearn

    with sklearn.config_context(print_changed_only=False):
        text = repr(sorted(_plain(make(data.task, X, 0).get_params()).items()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(params: dict[str, Any]) -> dict[str, str]:
    """Leave out what is not the same text in every process."""
    return {name: repr(value) for name, value in params.items() if " at 0x" not in repr(value)}


def run(data_sets: list[Any], contenders: dict[str, Any], cache: Cache, log: Any = print) -> None:
    """Cross-validate: for each data set fold by fold, in each the contenders in turn."""
    from accuracy_contenders import is_run

    for data in data_sets:
        X, y = data.load()
        suited = {name: make for name, make in contenders.items() if is_run(name, X)}
        entries = {
            name: cache.folds(name, data.name, made_of(make, data, X))
            for name, make in suited.items()
        }
        for number, rows in enumerate(splits(data, X, y)):
            for name, make in suited.items():
                if str(number) in entries[name]:
                    continue
                result = run_fold(make, data, X, y, rows, seed=number)
                entries[name][str(number)] = result
                cache.save()
                log(f"{data.name} {number} {name}: {result['score']:.4f} {result['wall']:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="two small sets, nothing is kept")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these contenders alone")
    parser.add_argument("--data", nargs="+", metavar="NAME", help="these data sets alone")
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--fresh", action="store_true", help="make the results again")
    parser.add_argument("--table", action="store_true", help="print the table of what is there")
    parser.add_argument("--docs", type=Path, help="write the tables into this page")
    args = parser.parse_args()

    # read when the libraries are loaded, so they are imported only after this
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    import accuracy_contenders as c
    import accuracy_data
    import accuracy_table
    import torch

    torch.set_num_threads(1)
    absent = c.missing()
    contenders = {
        n: m for n, m in c.ALL.items() if n not in absent and (not args.only or n in args.only)
    }
    data_sets = accuracy_data.quick() if args.quick else accuracy_data.by_name(args.data)
    cache = Cache(None if args.quick else args.cache)
    if args.fresh:
        for name in contenders:
            for data in data_sets:
                cache.results.get(name, {}).pop(data.name, None)
    if not args.table:
        run(data_sets, contenders, cache)
    for name in absent:
        print(f"{name}: not installed, left out")
    tables = accuracy_table.report(cache.results, data_sets, c)
    print(tables)
    if args.docs:
        args.docs.write_text(accuracy_table.put_between_marks(args.docs.read_text(), tables))


if __name__ == "__main__":
    main()
