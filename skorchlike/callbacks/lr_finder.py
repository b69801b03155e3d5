"""A sweep over learning rates, which suggests one."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback
from skorchlike.exceptions import CancelFitException, ParameterError, import_extra
from skorchlike.params.calling import name_of, short
from skorchlike.params.routing import RoutedParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context


@register_callback("lr_finder")
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
    before: tuple[Any, ...] | None = None
    records: dict[str, list[float]] | None = None

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
        parts = (ctx.module, ctx.criterion, ctx.optimizer)
        self.before = tuple(copy.deepcopy(part.state_dict()) for part in parts)
        self.ratios = [float(lr / first[0]) if first[0] else 1.0 for lr in first]
        spread = np.geomspace if self.mode == "exp" else np.linspace
        self.lrs = spread(self.start_lr, self.end_lr, self.n_steps).tolist()
        self.records = {name: [] for name in ("lr", "loss", "smoothed")}
        self.taken, self.average, self.best = 0, 0.0, math.inf
        self.losses: list[float] = []  # since the last step; several where steps accumulate
        if ctx.n_updates is not None and ctx.n_updates < self.n_steps:
            warnings.warn(
                f"LRFinder has n_steps={self.n_steps} and this fit takes {ctx.n_updates}: the "
                "sweep will end before end_lr. Raise max_epochs, or use lr_find.",
                stacklevel=2,
            )

    def on_after_loss(self, ctx: Context) -> None:
        """Keep the batch's loss; end the sweep before one that is not finite is recorded."""
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
        self._put_back(ctx)

    def on_exit(self, ctx: Context) -> None:
        """Put everything back again: after an error, and after what others did in on_end."""
        self._put_back(ctx)
        self.before = None

    def state_dict(self) -> LRFinderResult | None:
        """Return the records and the suggestion."""
        return None if self.records is None else LRFinderResult(self.records)

    def load_state_dict(self, state: LRFinderResult) -> None:
        """Take up records, which stay until the first step of a further sweep."""
        self.records = state["records"].to_dict("list")

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
        if self.taken == self.n_steps or self._has_diverged(smoothed):
            ctx.stop_reason = "lr_finder"
            raise CancelFitException

    def _has_diverged(self, smoothed: float) -> bool:
        if not math.isfinite(smoothed):
            return True
        # for a positive minimum this is stop_factor * best; losses may be negative too
        limit = None if self.stop_factor is None else self.stop_factor - 1
        return limit is not None and smoothed > self.best + limit * abs(self.best)

    def _put_back(self, ctx: Context) -> None:
        if self.before is not None:
            for part, state in zip(
                (ctx.module, ctx.criterion, ctx.optimizer), self.before, strict=True
            ):
                part.load_state_dict(state)
            ctx.optimizer.zero_grad()


class LRFinderResult(Bunch):
    """What a sweep over learning rates found: a dict whose keys are attributes too.

    Parameters
    ----------
    records : dict or DataFrame
        Its columns ``lr``, ``loss`` and ``smoothed``, a value a step.

    Attributes
    ----------
    suggestion : float or None
        The lr at which the smoothed loss falls most steeply; None if it falls nowhere.
    records : DataFrame
        A row a step: the `lr`, the `loss` of the batch, and the moving average `smoothed`.
    """

    def __init__(self, records: Any = ()) -> None:
        import pandas as pd  # costs half a second

        records = pd.DataFrame(records, columns=["lr", "loss", "smoothed"], dtype=float)
        super().__init__(suggestion=_steepest(records), records=records)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the losses over the lr on a logarithmic axis, and mark the suggestion.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn on.

        Raises
        ------
        ImportError
            If matplotlib is not installed (the extra ``plot``).
        """
        if ax is None:
            pyplot = import_extra("matplotlib.pyplot", "plot", "LRFinderResult.plot")
            ax = pyplot.subplots()[1]
        records = self["records"]
        ax.plot(records["lr"], records["loss"], color="0.75", linewidth=1, label="loss of a batch")
        ax.plot(records["lr"], records["smoothed"], color="#0072B2", label="moving average")
        finite = records[np.isfinite(records["smoothed"])]
        low, high = finite[["loss", "smoothed"]].min().min(), finite["smoothed"].max()
        if high > low:  # single losses may be far above
            ax.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        if self["suggestion"] is not None:
            label = f"suggestion: {self['suggestion']:.2g}"
            ax.axvline(self["suggestion"], color="#D55E00", linestyle="--", label=label)
        ax.set(xscale="log", xlabel="learning rate", ylabel="training loss")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        return f"LRFinderResult(suggestion={self['suggestion']}, {len(self['records'])} steps)"


def _steepest(records: Any) -> float | None:
    """Return the lr at which the smoothed loss falls most steeply, if it falls."""
    records = records[np.isfinite(records["smoothed"])]
    lrs, smoothed = records["lr"].to_numpy(), records["smoothed"].to_numpy()
    # over fewer steps the noise of single batches is steeper than any fall
    half = max(1, len(lrs) // 7)
    if len(lrs) < 2 * half + 1:
        return None
    best, suggestion = 0.0, None
    minimum = half + int(smoothed[half:].argmin())
    for i in range(half, min(minimum + 1, len(lrs) - half)):
        around = slice(i - half, i + half + 1)
        x = np.log(lrs[around]) - np.log(lrs[around]).mean()
        slope = x @ (smoothed[around] - smoothed[i]) / (x @ x)
        if slope < best:
            best, suggestion = slope, float(lrs[i])
    return suggestion


def lr_find(
    est: Any,
    X: Any,
    y: Any,
    *,
    start_lr: float = 1e-6,
    end_lr: float = 10.0,
    n_steps: int = 100,
    mode: str = "exp",
    stop_factor: float | None = 4.0,
    smoothing: float = 0.9,
    sample_weight: Any = None,
    keep_callbacks: bool = False,
) -> LRFinderResult:
    """Sweep over learning rates with a copy of an estimator, and suggest one.

    Parameters
    ----------
    est : NeuralNetClassifier, NeuralNetRegressor, or Pipeline that ends in one
        Fitted or not; nothing of it is changed. The earlier steps of a pipeline are
        cloned and fitted.
    X : array-like of shape (n_samples, ...)
        Inputs.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets.
    start_lr, end_lr, n_steps, mode, stop_factor, smoothing
        As in `LRFinder`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, for the estimator alone.
    keep_callbacks : bool, default=False
        Whether the estimator's callbacks run too (as for a precision or batches of one's
        own). The finder's lr wins over a schedule's; a callback that ends the fit ends the
        sweep. Without them a sweep is that of module, criterion, optimizer and batches.

    Returns
    -------
    LRFinderResult
        With the attributes ``suggestion`` and ``records``, and ``plot()``.

    Raises
    ------
    ParameterError
        If `est` is no such estimator, or an argument is impossible.

    Notes
    -----
    As many epochs are trained as the steps need, without validation (the rows of
    ``validation_fraction`` are held out all the same). The global random generators stay
    as they were. The source of the method is named in `LRFinder`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skorchlike import NeuralNetClassifier
    >>> from skorchlike.callbacks.lr_finder import lr_find
    >>> X, y = load_iris(return_X_y=True)
    >>> pipe = make_pipeline(StandardScaler(), NeuralNetClassifier(random_state=0))
    >>> result = lr_find(pipe, X, y, n_steps=50)
    >>> 1e-4 < result.suggestion < 1
    True
    """
    finder = LRFinder(start_lr, end_lr, n_steps, mode, stop_factor, smoothing)
    finder._validate_params()
    while isinstance(est, Pipeline):
        earlier, est = est[:-1], est.steps[-1][1]
        if len(earlier.steps):
            with _numpy_as_it_was():
                X = clone(earlier).fit_transform(X, y)
    if not (isinstance(est, RoutedParams) and hasattr(est, "fit")):
        raise ParameterError(
            "lr_find takes a NeuralNetClassifier, a NeuralNetRegressor or a Pipeline that ends in "
            f"one. Got {short(est)}."
        )
    net: Any = clone(est)
    net.set_callbacks()  # scikit-learn's own, which clone keeps
    # every epoch has a step at least, and the last one ends before its validation
    net.set_params(max_epochs=n_steps, valid_every=n_steps, warm_start=False, verbose=0)
    if not keep_callbacks:
        net.set_params(callbacks=None)
    net.fit(X, y, sample_weight=sample_weight, callbacks={"lr_finder": finder})
    return net.model_.callbacks_["lr_finder"]


@contextmanager
def _numpy_as_it_was() -> Iterator[None]:
    """Put numpy's global generator back, from which transformers may draw."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
