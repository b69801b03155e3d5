"""What the package is to reach, and whether the stored records show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Records = dict[str, dict[str, Any]]

OWN, BUILT_IN = "skorchlike", "skorchlike, built-in MLP"


class Goal(NamedTuple):
    """One thing to reach: a ratio or a cost that is at most, or at least, so much."""

    section: str
    what: str
    measured: Callable[[Any], float]
    at_most: float | None = None
    at_least: float | None = None
    more_than: float | None = None
    unit: str = ""

    @property
    def reach(self) -> str:
        """Return the limit in words."""
        limits = (("≤", self.at_most), ("≥", self.at_least), (">", self.more_than))
        sign, limit = next((sign, limit) for sign, limit in limits if limit is not None)
        return f"{sign} {limit:g}{self.unit}"

    def is_met(self, value: float) -> bool:
        """Whether a measured value reaches it."""
        if self.at_most is not None:
            return value <= self.at_most
        return value >= self.at_least if self.more_than is None else value > self.more_than

    def shown(self, value: float) -> str:
        """Return two decimals (one from 10 on), or more where these would cross the limit."""
        places = 2 if abs(value) < 10 else 1
        while places < 4 and self.is_met(round(value, places)) != self.is_met(value):
            places += 1
        return f"{value:,.{places}f}{self.unit}"


def _to_reference(work: str, name: str) -> Callable[[Any], float]:
    return lambda result: result[work]["contenders"][name]["to_reference"]["median"]


def _peer(work: str, peer: str, ours: str) -> Callable[[Any], float]:
    key = "to_own" if ours == OWN else "to_built_in"
    return lambda result: result[work]["contenders"][peer][key]["median"]


def _fits() -> Iterator[Goal]:
    own, built_in = "any module", "built-in MLP"
    for work, limit in (("W1", 0.8), ("W3", 0.8), ("W2", 1.0), ("W4", 1.0)):
        what = f"full fit ÷ R, {work}, {own}"
        yield Goal("fits", what, _to_reference(work, OWN), at_most=limit)
    for work, limit in (("W1", 0.5), ("W3", 0.5), ("W2", 1.0)):
        what = f"full fit ÷ R, {work}, {built_in}"
        yield Goal("fits", what, _to_reference(work, BUILT_IN), at_most=limit)
    faster = (
        ("skorch", own, (("W1", 3), ("W2", 1.9), ("W3", 2.5))),
        ("skorch", built_in, (("W1", 5), ("W3", 4))),
        ("Lightning", own, (("W1", 3.5), ("W2", 2), ("W3", 3.5))),
    )
    for peer, which, limits in faster:
        ours = OWN if which == own else BUILT_IN
        for work, limit in limits:
            what = f"{peer} ÷ ours, {work}, {which}"
            yield Goal("fits", what, _peer(work, peer, ours), at_least=limit, unit=" ×")
    for section, threads in (("fits", "1 thread"), ("fits_two_threads", "2 threads")):
        for which, ours in ((own, OWN), (built_in, BUILT_IN)):
            for work in ("W1", "W2", "W3"):
                what = f"scikit-learn ÷ ours, {work}, {which}, {threads}"
                measured = _peer(work, "scikit-learn MLP", ours)
                yield Goal(section, what, measured, more_than=1, unit=" ×")


def _loop(result: Any) -> float:
    return result["contenders"]["ten callbacks on six stages"]["us"]["median"]


def _prediction(part: str, name: str) -> Callable[[Any], float]:
    return lambda result: result[part]["contenders"][name]["to_raw"]["median"]


def _memory(n_features: int) -> Callable[[Any], float]:
    """Return the largest ratio of the fits to arrays in memory of so many columns."""

    def largest(result: Any) -> float:
        cases = (c for c in result["cases"] if c["where"] == "memory")
        shares = [
            case["fit"] / (case["data"] + case["model"])
            for case in cases
            if case["n_features"] == n_features
        ]
        if not shares:
            raise KeyError(n_features)
        return max(shares)

    return largest


def _off(result: Any) -> float:
    """Return the farthest point from its line, of all axes, in percent."""
    return 100 * max(axis["contenders"][OWN]["off"] for axis in result.values())


def goals() -> list[Goal]:
    """Return all goals in the order of their tables."""
    found = list(_fits())
    what = "loop's own cost, ten callbacks × six stages"
    found.append(Goal("loop", what, _loop, at_most=10, unit=" µs a step"))
    for part, words, limit in (("rows", "50,000 rows", 1.1), ("row", "one row", 2)):
        for name, which in ((OWN, "any module"), (BUILT_IN, "built-in MLP")):
            what = f"predict_proba ÷ raw, {words}, {which}"
            found.append(Goal("prediction", what, _prediction(part, name), at_most=limit))
    what = "import ÷ torch + scikit-learn"
    found.append(Goal("import", what, lambda r: r["to_base"]["median"], at_most=1.05))
    for n_features in (100, 20):
        what = f"peak memory of a fit ÷ (data + module + optimizer), {n_features} features"
        found.append(Goal("memory", what, _memory(n_features), at_most=1.2))
    what = "cost as work grows: largest distance from a straight line"
    found.append(Goal("scaling", what, _off, at_most=10, unit=" %"))
    return found


def verdicts(records: Records) -> list[tuple[str, str, str, str]]:
    """Return (what, reach, measured, met or not) of every goal."""
    lines = []
    for goal in goals():
        value = _measured(goal, records)
        if value is None:
            lines.append((goal.what, goal.reach, "not measured", ""))
            continue
        met = "met" if goal.is_met(value) else "**not met**"
        lines.append((goal.what, goal.reach, goal.shown(value), met))
    return lines


def _measured(goal: Goal, records: Records) -> float | None:
    """Return None for a section, package or case that was left out."""
    if goal.section not in records:
        return None
    try:
        return goal.measured(records[goal.section]["result"])
    except KeyError:
        return None
