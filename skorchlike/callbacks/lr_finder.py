"""A sweep over learning rates, which suggests one."""

from __future__ import annotations

import math
import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.tools.lr_records import LRFinderResult
from skorchlike.callbacks.tools.whole_states import put_back, states_of
from skorchlike.exceptions import CancelFitException, ParameterError
from skorchlike.params.calling import name_of

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context


class LRFinder(Callback):
    """Raise the lr from step to step, record the loss, put everything back, suggest an lr.

    The fit ends with the weights it began with: it is a measurement. `lr_find` makes it
    on a copy of an estimator.

    Parameters
    ----------
    start_lr : float, default=1e-6
        The lr of the first step. Other parameter groups keep their ratio to the first.
    end_lr : float, default=10.0
        The lr of step `n_steps`, above `start_lr`.
    n_steps : int, default=100
        Optimizer steps of the sweep.
    mode : {"exp", "linear"}, default="exp"
        Whether the lr is multiplied by the same factor or raised by the same amount.
    stop_factor : float or None, default=4.0
        End the sweep early when the smoothed loss exceeds so many times its minimum; None
        goes on. A loss that is not finite always ends it.
    smoothing : float, default=0.9
        Weight of the past in the moving average of the losses; 0 does not smooth.

    Raises
    ------
    ParameterError
        Before training, if an argument is impossible.

    Notes
    -----
    The loss recorded with an lr is that of the batch before it is stepped by that lr. The
    moving average is corrected for its beginning, as Adam's are. The suggestion is the lr
    at which the smoothed loss falls most steeply before its minimum: where the straight
    line through it over the logarithm of the lr, a seventh of the steps to either side,
    has the least slope.

    The state is an `LRFinderResult`. Not put back are the history and the random numbers
    drawn. The sweep: L. N. Smith, "Cyclical Learning Rates for Training Neural Networks",
    2017; moving average, early end and the steepest fall as suggestion as in fastai.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import LRFinder, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(callbacks=[LRFinder(n_steps=50)], random_state=0)
    >>> result = net.fit(X, y).model_.callbacks_.lr_finder
    >>> result.records.columns.tolist(), result.suggestion < 1
    (['lr', 'loss', 'smoothed'], True)
    """

    order = 60
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "start_lr": [Interval(Real, 0, None, closed="neither")],
        "end_lr": [Interval(Real, 0, None, closed="neither")],
        "n_steps": [Interval(Integral, 2, None, closed="left")],
        "mode": [StrOptions({"exp", "linear"})],
        "stop_factor": [None, Interval(Real, 1, None, closed="neither")],
        "smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    # what there is when the fit ends before on_begin
    before: dict[str, Any] | None = None
    records: dict[str, list[float]] | None = None
    optimizer: Any = None

    def __init__(
        self,
        start_lr: float = 1e-6,
        end_lr: float = 10.0,
        n_steps: int = 100,
        mode: str = "exp",
        stop_factor: float | None = 4.0,
        smoothing: float = 0.9,
    ) -> None:
        self.start_lr = start_lr
        self.end_lr = end_lr
        self.n_steps = n_steps
        self.mode = mode
        self.stop_factor = stop_factor
        self.smoothing = smoothing

    def plan(self, n_epochs: int, n_updates: int) -> tuple[int, int]:
        """Leave out the epochs after the sweep."""
        return min(n_epochs, math.ceil(self.n_steps / max(n_updates, 1))), n_updates

    def advise(self, setup: Setup) -> list[str]:
        """Say that the fit trains nothing."""
        return [
            "the fit ends after the sweep with the weights that it began with. For a trained model "
            "remove it and use lr_find(estimator, X, y)."
        ]

    def on_begin(self, ctx: Context) -> None:
        """Keep all states as they are, and lay out the lrs."""
        if self.start_lr >= self.end_lr:
            raise ParameterError(
                "The 'start_lr' parameter of LRFinder must be below end_lr. Got "
                f"start_lr={self.start_lr}, end_lr={self.end_lr}."
            )
        first = [group.get("lr") for group in ctx.optimizer.param_groups]
        if None in first:
            raise ParameterError(
                f"LRFinder needs an optimizer with an lr; {name_of(ctx.optimizer)} has none."
            )
        self.before, self.optimizer = states_of(ctx), ctx.optimizer
        self.ratios = [float(lr / first[0]) if first[0] else 1.0 for lr in first]
        spread = np.geomspace if self.mode == "exp" else np.linspace
        self.lrs = spread(self.start_lr, self.end_lr, self.n_steps).tolist()
        self._begin_sweep()
        self.loaded: dict[str, Any] | None = None
        if ctx.n_updates is not None and ctx.n_updates < self.n_steps:
            warnings.warn(
                f"LRFinder has n_steps={self.n_steps} and this fit takes {ctx.n_updates}: the "
                "sweep will end before end_lr. Raise max_epochs, or use lr_find.",
                stacklevel=2,
            )

    def on_after_loss(self, ctx: Context) -> None:
        """Keep the batch's loss; end the sweep before one that is not finite is recorded."""
        self._settle()
        if not isinstance(ctx.loss, torch.Tensor) or ctx.loss.ndim:
            return  # of which the loop has more to say
        # waits for the device, as the decision to go on must
        self.losses.append(ctx.loss.item())
        if not math.isfinite(self.losses[-1]):
            self._record(ctx)

    def on_before_step(self, ctx: Context) -> None:
        """Record the loss, and set the lr of this step."""
        self._record(ctx)
        for group, ratio in zip(ctx.optimizer.param_groups, self.ratios, strict=True):
            lr = self.lrs[self.taken - 1] * ratio
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def on_end(self, ctx: Context) -> None:
        """Put everything back."""
        put_back(ctx, self.before)
        self.optimizer = None

    def on_exit(self, ctx: Context) -> None:
        """Put everything back again: after an error, and after what others did in on_end."""
        put_back(ctx, self.before)
        self.before = self.optimizer = None

    def state_dict(self) -> LRFinderResult | None:
        """Return the records and the suggestion, and while it is under way the sweep."""
        if self.records is None:
            return None
        state = LRFinderResult(self.records)
        if self.optimizer is not None:
            names = ("before", "ratios", "taken", "average", "best", "losses")
            state["sweep"] = {name: getattr(self, name) for name in names}
            state["sweep"]["lr"] = (self.loaded or {}).get("lr") or _lrs(self.optimizer)
        return state

    def load_state_dict(self, state: LRFinderResult) -> None:
        """Go on with a sweep, or keep the records until the first step of a further one."""
        self.records = {name: column.tolist() for name, column in state["records"].items()}
        sweep = dict(state.get("sweep", {}))
        if sweep and self.loaded is None:
            # an interrupted fit that kept its model has put everything back: that sweep is over
            goes_on = sweep["lr"] == _lrs(self.optimizer)
            at_begin = None if goes_on else (self.before, self.ratios)
            self.loaded = {"lr": sweep["lr"], "at_begin": at_begin}
        sweep.pop("lr", None)
        for name, value in sweep.items():
            setattr(self, name, value)

    def _begin_sweep(self) -> None:
        self.records = {name: [] for name in ("lr", "loss", "smoothed")}
        self.taken, self.average, self.best = 0, 0.0, math.inf
        self.losses: list[float] = []  # since the last step; several where steps accumulate

    def _settle(self) -> None:
        """Begin anew where a sweep was loaded that does not go on."""
        if self.loaded is not None and self.loaded["at_begin"] is not None:
            self.before, self.ratios = self.loaded["at_begin"]
            self._begin_sweep()
        self.loaded = None

    def _record(self, ctx: Context) -> None:
        """Record the next lr with the loss so far; end the fit where it says so."""
        if self.taken == 0:
            self.records = {name: [] for name in ("lr", "loss", "smoothed")}
        assert self.records is not None
        loss = sum(self.losses) / len(self.losses)
        self.losses = []
        self.average = self.smoothing * self.average + (1 - self.smoothing) * loss
        smoothed = self.average / (1 - self.smoothing ** (self.taken + 1))
        row = (self.lrs[self.taken], loss, smoothed)
        for column, value in zip(self.records.values(), row, strict=True):
            column.append(value)
        self.taken += 1
        self.best = min(self.best, smoothed)
        # the step that follows the last loss would be undone at once
        if self.taken == self.n_steps or _has_diverged(smoothed, self.best, self.stop_factor):
            ctx.stop_reason = "lr_finder"
            raise CancelFitException


def _has_diverged(smoothed: float, best: float, stop_factor: float | None) -> bool:
    if not math.isfinite(smoothed):
        return True
    # for a positive minimum this is stop_factor * best; losses may be negative too
    return stop_factor is not None and smoothed > best + (stop_factor - 1) * abs(best)


def _lrs(optimizer: Any) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]
