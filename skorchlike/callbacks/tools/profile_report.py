"""Times of calls, added up and shown."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from sklearn.utils import Bunch

from skorchlike.exceptions import import_extra

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

AROUND_BATCHES = ("on_before_train", "on_after_train", "on_phase_exit")
"""Places of the training phase that belong to no batch."""


class Clock:
    """Adds up calls and nanoseconds."""

    def __init__(self) -> None:
        # (place, owner) → [calls, ns] outside of the training phase, and within
        self.times: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        self.steps = [0, 0]
        self.total, self.last = 0, perf_counter_ns()
        self.waiting, self.since = "", 0
        self.early: ProfileReport | None = None

    def times_of(self, place: str, owner: str) -> tuple[list[int], list[int]]:
        """Return [calls, ns] outside of the training phase, and within."""
        return self.times.setdefault((place, owner), ([0, 0], [0, 0]))

    def batch_ends(self, phase: str) -> None:
        """Wait for the next batch of a phase."""
        self.waiting, self.since = phase, perf_counter_ns()

    def batch_begins(self, now: int) -> None:
        """Charge the data with the wait."""
        entry = self.times_of("data", "loop")[self.waiting == "train"]
        entry[0] += 1
        entry[1] += now - self.since
        self.waiting, self.since = "", now

    def step_ends(self) -> None:
        """Count a training batch."""
        self.steps[0] += 1
        self.steps[1] += perf_counter_ns() - self.since

    def tick(self) -> None:
        """Bring the time of the fit up to date."""
        now = perf_counter_ns()
        self.total, self.last = self.total + now - self.last, now

    def report(self) -> ProfileReport:
        """Return all as a report."""
        rows = [
            (_phase(place, training), place, owner, *entry)
            for (place, owner), pair in self.times.items()
            for training, entry in zip((False, True), pair, strict=True)
            if entry[0]
        ]
        return ProfileReport(rows=sorted(rows), total_ns=self.total, steps=tuple(self.steps))

    def load(self, report: ProfileReport, *, goes_on: bool) -> None:
        """Go on from an earlier report, of the same fit or of one before it."""
        self.tick()
        self.early = None if goes_on else self.report()
        for pair in self.times.values():
            for entry in pair:
                entry[:] = 0, 0
        self.steps[:], self.total = (0, 0), 0
        self._add(report)

    def settle(self) -> None:
        """Add what came before it."""
        if self.early is not None:
            self._add(self.early)
            self.early = None

    def _add(self, report: ProfileReport) -> None:
        for phase, place, owner, calls, ns in report.rows:
            entry = self.times_of(place, owner)[phase == "train"]
            entry[:] = entry[0] + calls, entry[1] + ns
        self.steps[:] = (a + b for a, b in zip(self.steps, report.steps, strict=True))
        self.total += report.total_ns


def _phase(place: str, training: bool) -> str:
    if training:
        return "train"
    shared = place.startswith("do_") or place in ("data", "on_batch_exit", "on_phase_exit")
    return "valid" if shared or place.startswith(("on_batch_valid", "on_valid")) else "fit"


# ------------------------------------------------------------------------ the report


class ProfileReport(Bunch):
    """What `Profile` has measured.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a call, the slowest in all first: ``phase`` ("fit", "train" or "valid"), ``place``
        (a stage, an action, "data" or "loop"), ``owner`` (the callback's name,
        "estimator" or "loop"), ``calls``, ``total_ms``, ``mean_us``, ``share`` of the fit,
        and ``step_share``, the share of the training batches, of what belongs to them.
    total_ns : int
        Duration of the fit in nanoseconds.
    steps : tuple of int
        Number of training batches, and their duration in nanoseconds without the data's.
    rows : list of tuple
        Phase, place, owner, calls, nanoseconds.
    """

    @property
    def table(self) -> pd.DataFrame:
        """The times as a table."""
        import pandas as pd  # costs half a second, and few fits are looked at

        return pd.DataFrame(self._entries())

    def plot(self, n_rows: int = 12) -> Figure:
        """Draw the largest shares of the fit as bars.

        Parameters
        ----------
        n_rows : int, default=12
            How many.

        Returns
        -------
        matplotlib.figure.Figure
            Colours tell actions, callbacks, data and the loop apart.
        """
        pyplot = import_extra("matplotlib.pyplot", "plot", "ProfileReport.plot")
        entries = self._entries()[:n_rows]
        figure, ax = pyplot.subplots(figsize=(7, 1 + 0.25 * len(entries)), layout="constrained")
        for kind, color in COLORS.items():
            bars = [(i, e["total_ms"]) for i, e in enumerate(entries) if _kind(e) == kind]
            if bars:
                ax.barh(*zip(*bars, strict=True), color=color, label=kind)
        ax.set_yticks(range(len(entries)), [_describe(entry) for entry in entries])
        ax.invert_yaxis()
        ax.set_xlabel(f"milliseconds (the fit took {self.total_ns / 1e6:.0f})")
        ax.legend(loc="lower right")
        return figure

    def _entries(self) -> list[dict[str, Any]]:
        rest = max(0, self.total_ns - sum(row[-1] for row in self.rows))
        total, step_ns = max(self.total_ns, 1), max(self.steps[1], 1)
        entries = []
        for phase, place, owner, calls, ns in [*self.rows, ("fit", "loop", "loop", 1, rest)]:
            in_step = phase == "train" and place not in ("data", *AROUND_BATCHES)
            entries.append(
                {
                    "phase": phase,
                    "place": place,
                    "owner": owner,
                    "calls": calls,
                    "total_ms": ns / 1e6,
                    "mean_us": ns / calls / 1e3,
                    "share": ns / total,
                    "step_share": ns / step_ns if in_step else float("nan"),
                }
            )
        return sorted(entries, key=lambda entry: -entry["total_ms"])

    def __repr__(self) -> str:
        """Return the eight largest entries."""
        lines = [
            f"ProfileReport: {self.total_ns / 1e9:.3g} s, {self.steps[0]} training batches",
            "   share   total_ms    calls    mean_us",
        ]
        for e in self._entries()[:8]:
            numbers = (
                f"{e['share']:8.1%} {e['total_ms']:10.2f} {e['calls']:8d} {e['mean_us']:10.2f}"
            )
            lines.append(f"{numbers}  {_describe(e)}")
        return "\n".join(lines)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), "plot", "table"]


COLORS = {"action": "#0072B2", "callback": "#E69F00", "data": "#009E73", "loop": "#999999"}


def _kind(entry: dict[str, Any]) -> str:
    if entry["owner"] == "loop":
        return entry["place"]
    return "action" if entry["place"].startswith("do_") else "callback"


def _describe(entry: dict[str, Any]) -> str:
    if entry["place"] == "loop":
        return "loop"
    phase = f"{entry['phase']}: " if entry["phase"] != "fit" else ""
    owner = f" ({entry['owner']})" if entry["owner"] not in ("estimator", "loop") else ""
    return f"{phase}{entry['place']}{owner}"
