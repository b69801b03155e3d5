"""Measures the time of each stage, action and callback."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from numbers import Integral
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback
from skorchlike.exceptions import import_extra

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from skorchlike.training.context import Context

Call = Callable[["Context"], None]

BEGINS_BATCH = ("on_batch_begin", "on_batch_valid_begin", "do_predict")
"""Of these one is the first call of a batch."""

AROUND_BATCHES = ("on_before_train", "on_after_train", "on_phase_exit")
"""Places of the training phase that belong to no batch."""


@register_callback("profile")
class Profile(Callback):
    """Measure the time of each action and of each callback's stages, and what data take.

    Parameters
    ----------
    synchronize : bool, default=False
        On an accelerator, whether to wait for the device before and after each call. Without,
        a call is timed until its work is queued, and the wait is found where a result
        is fetched; with, the fit is slower.
    trace : str, path or None, default=None
        A folder for a trace by ``torch.profiler``, operator by operator, with the calls
        marked. It is for chrome://tracing, Perfetto and TensorBoard.
    trace_steps : int, default=3
        Training batches of the trace, after two that are left out.

    Warns
    -----
    UserWarning
        If the fit was too short for the trace.

    Notes
    -----
    The state is a `ProfileReport` with ``table`` and ``plot()``. ``data`` is the time from
    one batch's end to the next one's first call, ``loop`` what is left of the fit: the
    loop itself, records, the profiler. What a callback does by calling an action of the
    estimator counts as the callback's. The calls of ``on_exit`` come after the report; a
    prediction is not measured. A continued fit adds to the report.

    It costs 0.2 microseconds a call, 10 to 20 a training batch in all, and nothing where no
    callback uses a stage.

    The idea: luz's ``luz_callback_profile`` and PyTorch Lightning's ``SimpleProfiler``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(max_epochs=5, callbacks=["profile"], random_state=0)
    >>> table = net.fit(X, y).model_.callbacks_.profile.table
    >>> sorted(table[table["owner"] == "estimator"]["place"])
    ['do_backward', 'do_get_loss', 'do_predict', 'do_step', 'do_zero_grad']
    """

    order = 300
    passive = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "synchronize": ["boolean"],
        "trace": [str, os.PathLike, None],
        "trace_steps": [Interval(Integral, 1, None, closed="left")],
    }

    _profiler: Any = None
    _measured: _Clock | None = None

    def __init__(
        self,
        synchronize: bool = False,
        trace: str | os.PathLike[str] | None = None,
        trace_steps: int = 3,
    ) -> None:
        self.synchronize = synchronize
        self.trace = trace
        self.trace_steps = trace_steps

    # ---------------------------------------------------------------- measuring

    def wrap_call(self, owner: str, place: str, call: Call) -> Call:
        """Return the call with a clock around it."""
        if getattr(call, "__self__", None) is self:
            return call
        clock, wait = self._clock(), _wait if self.synchronize else None
        times, may_begin = clock.times_of(place, owner), place in BEGINS_BATCH
        if self.trace is not None:
            call = _marked(f"{owner}.{place}", call)

        def timed(ctx: Context) -> None:
            if wait is not None:
                wait(ctx)
            start = perf_counter_ns()
            if may_begin and clock.waiting:
                clock.batch_begins(start)
            entry = times[ctx.training]
            try:
                call(ctx)
                if wait is not None:
                    wait(ctx)
            finally:
                entry[0] += 1
                entry[1] += perf_counter_ns() - start

        return timed

    def _clock(self) -> _Clock:
        # calls are wrapped before on_begin, so it is made when it is first asked for
        if self._measured is None:
            self._measured = _Clock()
        return self._measured

    def on_begin(self, ctx: Context) -> None:
        """Begin the trace."""
        if self.trace is not None:
            self._n_batches, self._traced = 0, False
            self._profiler = torch.profiler.profile(
                schedule=torch.profiler.schedule(
                    wait=1, warmup=1, active=int(self.trace_steps), repeat=1
                ),
                on_trace_ready=self._export,
            )
            self._profiler.start()

    def on_epoch_begin(self, ctx: Context) -> None:
        """Count what came before the state of an earlier fit was loaded."""
        self._clock().settle()

    def on_before_train(self, ctx: Context) -> None:
        """From here to the first call the data take time."""
        self._clock().batch_ends("train")

    def on_valid_begin(self, ctx: Context) -> None:
        """From here to the first call the data take time."""
        self._clock().batch_ends("valid")

    def on_batch_exit(self, ctx: Context) -> None:
        """Count the batch, and one more step of the trace."""
        if ctx.training and self._profiler is not None:
            self._n_batches += 1
            self._profiler.step()
            if self._traced:
                self._stop()
        clock = self._clock()
        if ctx.training:
            clock.step_ends()
        if not ctx.is_last_batch:
            clock.batch_ends("train" if ctx.training else "valid")

    def on_phase_exit(self, ctx: Context) -> None:
        """Stop to wait for a batch."""
        self._clock().waiting = ""
        self._clock().tick()

    def on_epoch_end(self, ctx: Context) -> None:
        """Bring the time of the fit up to date."""
        self._clock().tick()

    def on_end(self, ctx: Context) -> None:
        """Bring the time of the fit up to date, and finish the trace."""
        self._clock().tick()
        if self._profiler is not None:
            self._stop()
            if not self._traced:
                warnings.warn(
                    "Profile: the fit ended before the third training batch, with which the "
                    f"trace begins. There is none in {os.fspath(self.trace or '')!r}.",
                    stacklevel=2,
                )

    def on_exit(self, ctx: Context) -> None:
        """Finish the trace of a fit that was cut off, and keep nothing."""
        self._stop()
        self.__dict__.pop("_measured", None)

    def state_dict(self) -> ProfileReport:
        """Return the report."""
        return self._clock().report()

    def load_state_dict(self, state: ProfileReport) -> None:
        """Go on from the report of an earlier fit."""
        self._clock().load(state)

    def _export(self, profiler: Any) -> None:
        if self._n_batches > 2:
            torch.profiler.tensorboard_trace_handler(os.fspath(self.trace or ""))(profiler)
            self._traced = True

    def _stop(self) -> None:
        profiler = self.__dict__.pop("_profiler", None)
        if profiler is not None:
            profiler.stop()


def _wait(ctx: Context) -> None:
    if ctx.device.type != "cpu":
        torch.accelerator.synchronize(ctx.device)


def _marked(name: str, call: Call) -> Call:
    def marked(ctx: Context) -> None:
        with torch.profiler.record_function(name):
            call(ctx)

    return marked


class _Clock:
    """Adds up calls and nanoseconds."""

    def __init__(self) -> None:
        # (place, owner) → [calls, ns] outside of the training phase, and within
        self.times: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        self.steps = [0, 0]
        self.total, self.last = 0, perf_counter_ns()
        self.waiting, self.since = "", 0
        self.early: ProfileReport | None = None

    def times_of(self, place: str, owner: str) -> tuple[list[int], list[int]]:
        return self.times.setdefault((place, owner), ([0, 0], [0, 0]))

    def batch_ends(self, phase: str) -> None:
        self.waiting, self.since = phase, perf_counter_ns()

    def batch_begins(self, now: int) -> None:
        entry = self.times_of("data", "loop")[self.waiting == "train"]
        entry[0] += 1
        entry[1] += now - self.since
        self.waiting, self.since = "", now

    def step_ends(self) -> None:
        self.steps[0] += 1
        self.steps[1] += perf_counter_ns() - self.since

    def tick(self) -> None:
        now = perf_counter_ns()
        self.total, self.last = self.total + now - self.last, now

    def report(self) -> ProfileReport:
        rows = [
            (_phase(place, training), place, owner, *entry)
            for (place, owner), pair in self.times.items()
            for training, entry in zip((False, True), pair, strict=True)
            if entry[0]
        ]
        return ProfileReport(rows=sorted(rows), total_ns=self.total, steps=tuple(self.steps))

    def load(self, report: ProfileReport) -> None:
        self.tick()
        self.early = self.report()
        for pair in self.times.values():
            for entry in pair:
                entry[:] = 0, 0
        self.steps[:], self.total = (0, 0), 0
        self._add(report)

    def settle(self) -> None:
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
