"""Measures the time of each stage, action and callback."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from numbers import Integral
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.tools.profile_report import Clock, ProfileReport

if TYPE_CHECKING:
    from skorchlike.training.context import Context

Call = Callable[["Context"], None]

BEGINS_BATCH = ("on_batch_begin", "on_batch_valid_begin", "do_predict")
"""Of these one is the first call of a batch."""


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
    prediction is not measured. A continued fit adds to the report; what is done again to go on
    after an interruption does not count.

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
    _measured: Clock | None = None
    _last_epoch: int | None = None  # None once the fit has ended

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

    def _clock(self) -> Clock:
        # calls are wrapped before on_begin, so it is made when it is first asked for
        if self._measured is None:
            self._measured = Clock()
        return self._measured

    def on_begin(self, ctx: Context) -> None:
        """Begin the trace."""
        self._last_epoch = ctx.max_epochs
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
        self._last_epoch = None
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
        report = self._clock().report()
        if self._last_epoch is not None:
            report["last_epoch"] = self._last_epoch
        return report

    def load_state_dict(self, state: ProfileReport) -> None:
        """Go on from the report of an earlier fit."""
        last_epoch = state.get("last_epoch")
        goes_on = last_epoch is not None and last_epoch == self._last_epoch
        self._clock().load(state, goes_on=goes_on)

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
