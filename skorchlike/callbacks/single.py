"""Ends the fit after a few batches or epochs: a smoke run."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import Interval

from skorchlike.callbacks.base import Callback

if TYPE_CHECKING:
    from skorchlike.training.context import Context


class SingleBatch(Callback):
    """End the fit after a few batches of training and of validation: a smoke run.

    It shows within seconds whether data, module, criterion and callbacks go together.

    Parameters
    ----------
    n_batches : int, default=1
        Batches of each phase: so many training batches, then so many validation batches.

    Notes
    -----
    The one epoch has its record, its validation also with ``valid_every > 1``, and every
    stage; ``model_.stop_reason_`` is ``"single_batch"``. The last of the batches used is the
    phase's last (``ctx.is_last_batch``), so accumulation takes its step.

    The idea: ``SingleBatchCB`` of fastai's miniai and ``fast_dev_run`` of PyTorch
    Lightning.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(batch_size=10, callbacks=["single_batch"], random_state=0)
    >>> net.fit(X, y).model_.stop_reason_, net.n_iter_
    ('single_batch', 1)
    """

    order = -100
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_batches": [Interval(Integral, 1, None, closed="left")]
    }

    def __init__(self, n_batches: int = 1) -> None:
        self.n_batches = n_batches

    def plan(self, n_epochs: int, n_updates: int) -> tuple[int, int]:
        """Leave one epoch of a few steps."""
        return min(n_epochs, 1), min(n_updates, self.n_batches)

    def on_epoch_begin(self, ctx: Context) -> None:
        """Make this epoch the last."""
        ctx.terminate = True
        ctx.stop_reason = "single_batch"

    def on_before_train(self, ctx: Context) -> None:
        """Leave out the batches that are too many."""
        ctx.limit_batches(self.n_batches)

    def on_valid_begin(self, ctx: Context) -> None:
        """Leave out the batches that are too many."""
        ctx.limit_batches(self.n_batches)


class SingleEpoch(Callback):
    """End the fit after a few epochs: a smoke run.

    Parameters
    ----------
    n_epochs : int, default=1
        Epochs of this fit. Those of a fit that is continued do not count.

    Notes
    -----
    The last epoch is complete, its validation included. ``model_.stop_reason_`` is then
    ``"single_epoch"``, or ``"completed"`` where ``max_epochs`` would have ended the fit
    there anyway.

    The idea: ``SingleEpochCB`` of fastai's miniai.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(callbacks=["single_epoch"], random_state=0).fit(X, y)
    >>> net.model_.stop_reason_, net.n_iter_
    ('single_epoch', 1)
    """

    order = -100
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_epochs": [Interval(Integral, 1, None, closed="left")]
    }

    # what there is when the fit ends before on_begin
    start: int | None = None
    last_epoch = 0

    def __init__(self, n_epochs: int = 1) -> None:
        self.n_epochs = n_epochs

    def plan(self, n_epochs: int, n_updates: int) -> tuple[int, int]:
        """Leave a few epochs."""
        return min(n_epochs, self.n_epochs), n_updates

    def on_begin(self, ctx: Context) -> None:
        """Count from where this fit begins."""
        self.start, self.last_epoch = ctx.epoch, ctx.max_epochs

    def on_epoch_begin(self, ctx: Context) -> None:
        """Say at its beginning that an epoch is the last: so it is validated."""
        assert self.start is not None
        if ctx.epoch - self.start >= self.n_epochs and ctx.epoch < ctx.max_epochs:
            ctx.terminate = True
            ctx.stop_reason = "single_epoch"

    def on_end(self, ctx: Context) -> None:
        """Let a fit that continues this one have its own epochs."""
        self.start = None

    def state_dict(self) -> dict[str, Any] | None:
        """Return where the fit began and would end, while it runs."""
        if self.start is None:
            return None
        return {"start": self.start, "last_epoch": self.last_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Count from where the fit began that now goes on to the same last epoch."""
        if state["last_epoch"] == self.last_epoch:
            self.start = state["start"]
