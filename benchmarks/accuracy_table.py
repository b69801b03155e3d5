"""The tables of the accuracy benchmark, in Markdown, from the results a fold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

TREES, PAPER = "HistGB", "pytabkit RealMLP"


class Results:
    """What the folds gave, by contender and data set.

    Parameters
    ----------
    results : dict
        As `Cache.results` holds them.
    """

    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results

    def values(self, contender: str, data: Any, what: str) -> np.ndarray | None:
        """Return one value a fold, or None where some are missing."""
        folds = self.results.get(contender, {}).get(data.name, {}).get("folds", {})
        wanted = [str(number) for number in range(data.n_folds * data.repeats)]
        if any(number not in folds or what not in folds[number] for number in wanted):
            return None
        return np.array([folds[number][what] for number in wanted])

    def difference(
        self, one: str, other: str, data: Any, what: str = "score"
    ) -> tuple[float, float] | None:
        """Return the mean over the folds of the paired differences, and its standard error."""
        a, b = self.values(one, data, what), self.values(other, data, what)
        if a is None or b is None:
            return None
        sign = -1 if what == "log_loss" else 1
        return float(np.mean(sign * (a - b))), standard_error(a - b)

    def best(self, names: Iterable[str], data: Any, what: str = "score") -> str | None:
        """Return the name with the best mean."""
        sign = -1 if what == "log_loss" else 1
        means = {n: v.mean() for n in names if (v := self.values(n, data, what)) is not None}
        return max(means, key=lambda n: sign * means[n]) if means else None

    def is_level(self, one: str | None, other: str, data: Any, what: str = "score") -> bool | None:
        """Whether one is within a standard error of the other, or better."""
        compared = None if one is None else self.difference(one, other, data, what)
        return None if compared is None else compared[0] >= -compared[1]


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def score_table(results: Results, data_sets: Sequence[Any], names: Sequence[str], what: str) -> str:
    """Return means and standard errors; the best is bold."""
    rows = []
    for data in data_sets:
        best = results.best(names, data, what)
        cells = [data.name]
        for name in names:
            values = results.values(name, data, what)
            if values is None:
                cells.append("")
                continue
            cell = f"{values.mean():.3f} ± {standard_error(values):.3f}"
            cells.append(f"**{cell}**" if name == best else cell)
        if any(cells[1:]):
            rows.append(cells)
    return markdown(["", *names], rows)


def time_table(results: Results, data_sets: Sequence[Any], names: Sequence[str]) -> str:
    """Return the median seconds a fit, in processor time."""
    rows = []
    for data in data_sets:
        cells = [results.values(name, data, "cpu") for name in names]
        rows.append([data.name, *("" if v is None else f"{np.median(v):.2g}" for v in cells)])
    return markdown(["", *names], rows)


def verdict_table(results: Results, data_sets: Sequence[Any], ours: Sequence[str]) -> str:
    """Return how the best recipe and "realmlp" stand to the trees and to the paper's package."""
    rows = []
    for data in data_sets:
        best = results.best(ours, data)
        if best is None:
            continue
        cells = [data.name, best]
        for one, other in ((best, TREES), (best, PAPER), ("realmlp", PAPER)):
            compared = results.difference(one, other, data)
            if compared is None:
                cells.append("")
                continue
            sign = "≥" if compared[0] >= -compared[1] else "<"
            cells.append(f"{sign} {compared[0]:+.4f} ± {compared[1]:.4f}")
        cells += [time_ratio(results, one, data) for one in (best, "realmlp")]
        rows.append(cells)
    head = ["", "best recipe", f"− {TREES}", f"− {PAPER}", f"realmlp − {PAPER}"]
    return markdown([*head, "time of best ÷ pytabkit", "time of realmlp ÷ pytabkit"], rows)


def time_ratio(results: Results, name: str, data: Any) -> str:
    """Return the median over the folds of the ratio to the paper's package, in processor time."""
    ours, theirs = results.values(name, data, "cpu"), results.values(PAPER, data, "cpu")
    if ours is None or theirs is None:
        return ""
    return f"{np.median(ours / theirs):.2f}"


def counts(results: Results, data_sets: Sequence[Any], ours: Sequence[str]) -> str:
    """Return on how many sets a recipe is level with the trees and with the paper's package."""
    lines = []
    for label, names in (("best recipe", ours), *((f"recipe {name}", (name,)) for name in ours)):
        cells = [label]
        for what in ("score", "log_loss"):
            for other in (TREES, PAPER):
                level = [
                    results.is_level(results.best(names, data, what), other, data, what)
                    for data in data_sets
                ]
                known = [value for value in level if value is not None]
                cells.append(f"{sum(known)} of {len(known)}" if known else "")
        cells.append(_in_time(results, data_sets, names))
        lines.append(cells)
    head = ["", f"score, {TREES}", f"score, {PAPER}", f"log loss, {TREES}", f"log loss, {PAPER}"]
    return markdown([*head, f"score, {PAPER}, in no more time"], lines)


def _in_time(results: Results, data_sets: Sequence[Any], names: Sequence[str]) -> str:
    """Count sets on which one of the recipes is level with the paper's package and no slower."""
    known = good = 0
    for data in data_sets:
        ratios = {name: time_ratio(results, name, data) for name in names}
        if not any(ratios.values()):
            continue
        known += 1
        good += any(
            ratio and float(ratio) <= 1 and results.is_level(name, PAPER, data)
            for name, ratio in ratios.items()
        )
    return f"{good} of {known}" if known else ""


def report(results: dict[str, Any], data_sets: Sequence[Any], contenders: Any) -> str:
    """Return all tables: of the sets that the recipes were tuned on, then of the others."""
    held_out = [data for data in data_sets if data.name.startswith("fresh")]
    tuned_on = [data for data in data_sets if data not in held_out]
    parts = [section(results, tuned_on, contenders, "")]
    if held_out:
        parts.append(section(results, held_out, contenders, ", held-out sets"))
    return "\n\n".join(parts)


def section(results: dict[str, Any], data_sets: Sequence[Any], contenders: Any, which: str) -> str:
    """Return the tables of some sets."""
    names = [name for name in contenders.ALL if name in results]
    of = Results(results)
    ours = [name for name in contenders.OURS if name in results]
    parts = [f"### Accuracy (classification) and R² (regression){which}"]
    parts += [score_table(of, data_sets, names, "score"), f"### Log loss{which}"]
    parts += [score_table(of, data_sets, names, "log_loss"), f"### Seconds a fit{which}"]
    parts += [time_table(of, data_sets, names)]
    if ours:
        parts += [f"### Paired differences{which}", verdict_table(of, data_sets, ours)]
        parts += [f"### Sets on which a recipe is within one standard error, or better{which}"]
        parts += [counts(of, data_sets, ours)]
    return "\n\n".join(parts)


MARKS = "<!-- tables: benchmarks/accuracy.py writes them -->", "<!-- end of the tables -->"


def put_between_marks(page: str, tables: str) -> str:
    """Return a page with these tables between its two marks."""
    before, _, rest = page.partition(MARKS[0])
    _, found, after = rest.partition(MARKS[1])
    if not found:
        raise ValueError(f"The page has no lines {MARKS[0]} and {MARKS[1]}.")
    return f"{before}{MARKS[0]}\n\n{tables}\n\n{MARKS[1]}{after}"
