"""Predict with averaged weights: a moving average, or the mean of the last epochs."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import (
    SWALR,
    get_ema_multi_avg_fn,
    get_swa_multi_avg_fn,
)

from skorchlike.callbacks.tools.averaging import WeightAveraging, tensors_of
from skorchlike.callbacks.tools.batch_norms import measure_batch_norms

if TYPE_CHECKING:
    from skorchlike.training.context import Context


class EMA(WeightAveraging):
    """Predict with an exponential moving average of the weights.

    After every optimizer step the average becomes ``decay * average + (1 - decay) *
    weights``. Validation, early stopping and the fitted model have the average;
    training goes on with its own weights, bit for bit as without this callback.

    Parameters
    ----------
    decay : float, default=0.999
        How much of the average each step keeps, at least 0 and below 1. The average
        covers about the last ``1 / (1 - decay)`` optimizer steps.
    start : int or float, default=1
        The epoch whose first step begins the average; before it the model has the
        weights as trained. A float below 1 is the share of this fit's epochs that comes
        before.

    Raises
    ------
    ParameterError
        Before training, if another callback averages the weights too.

    Warns
    -----
    UserWarning
        If nothing was averaged, or so few steps that more than half of the average is
        still the weights with which it began.

    Notes
    -----
    Buffers of real numbers (the statistics of batch norm) are averaged too, integer ones
    are not, nor are the criterion's parameters. The state holds ``n_averaged`` (steps),
    ``average_in_module`` (true after a fit) and ``other_weights``, those not in the
    module: after a fit the weights as trained, with which a continued fit goes on.

    B. Polyak and A. Juditsky, "Acceleration of Stochastic Approximation by Averaging",
    1992; the averaging is that of `torch.optim.swa_utils`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import EMA, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(callbacks=[EMA(decay=0.9)], batch_size=15, random_state=0)
    >>> net.fit(X, y).model_.callbacks_.ema["n_averaged"] == 10 * net.n_iter_
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **WeightAveraging._parameter_constraints,
        "decay": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(self, decay: float = 0.999, start: float = 1) -> None:
        self.decay = decay
        self.start = start

    def on_after_step(self, ctx: Context) -> None:
        """Move the average towards the weights; the first time it is a copy of them."""
        if not self._averages(ctx):
            return
        weights = tensors_of(ctx.module)
        if self.other_weights is None:
            self.other_weights = {name: weight.clone() for name, weight in weights.items()}
        else:
            average = list(self.other_weights.values())
            get_ema_multi_avg_fn(float(self.decay))(average, list(weights.values()), None)
        self.n_averaged += 1

    def on_end(self, ctx: Context) -> None:
        """Say that the average is still near its beginning."""
        super().on_end(ctx)
        # no numbers that change in it, so that a loop of partial_fit says it once
        if self.n_averaged > 1 and self.decay ** (self.n_averaged - 1) > 0.5:
            warnings.warn(
                f"EMA(decay={self.decay!r}) had so few optimizer steps that more than half of "
                "the average is still the weights with which it began. Set a smaller decay, "
                "such as 1 - 5 / (number of steps), or train longer.",
                stacklevel=2,
            )


class SWA(WeightAveraging):
    """Predict with the mean of the weights of the last epochs.

    The weights at the end of each epoch from `start` on are averaged with equal weight.
    From the first of these epochs on validation, early stopping and the fitted model
    have the mean; training goes on with its own weights.

    Parameters
    ----------
    start : int or float, default=0.75
        The first epoch to average. A float below 1 is the share of this fit's epochs
        that comes before.
    lr : float or None, default=None
        Learning rate to which all parameter groups are annealed from the first averaged
        epoch on; None leaves it alone. It wins over a scheduler.
    anneal_epochs : int, default=10
        Epochs after the first averaged one until the learning rate is `lr`; 0 is at once.
    anneal : {"cos", "linear"}, default="cos"
        How it gets there.

    Raises
    ------
    ParameterError
        Before training, if another callback averages the weights too.

    Warns
    -----
    UserWarning
        If nothing was averaged.

    Notes
    -----
    The statistics of batch norm layers in train mode are measured anew for the mean
    weights, by a pass without gradients over the shuffled training inputs after every
    averaged epoch; for its time it holds a copy of them. Dropout is off in it, it uses the
    fit's ``do_predict``, and it draws none of the fit's random numbers. The state is that of
    `EMA`, ``anneal_from``, the learning rates before annealing, and ``sums``: one number for the
    average of each epoch, by which a continued fit knows which of them early stopping has put back.

    P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better
    Generalization", 2018; averaging and annealing are those of `torch.optim.swa_utils`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import SWA, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(callbacks=[SWA(start=0.5)], max_epochs=8, random_state=0)
    >>> net.fit(X, y).model_.callbacks_.swa["n_averaged"]
    4
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **WeightAveraging._parameter_constraints,
        "lr": [Interval(Real, 0, None, closed="neither"), None],
        "anneal_epochs": [Interval(Integral, 0, None, closed="left")],
        "anneal": [StrOptions({"cos", "linear"})],
    }

    anneal_from: dict[str, Any] | None = None
    lrs: tuple[float, ...] = ()
    sums: tuple[float, ...] = ()
    measured = True
    loaded = False

    def __init__(
        self,
        start: float = 0.75,
        lr: float | None = None,
        anneal_epochs: int = 10,
        anneal: str = "cos",
    ) -> None:
        self.start = start
        self.lr = lr
        self.anneal_epochs = anneal_epochs
        self.anneal = anneal

    def on_before_train(self, ctx: Context) -> None:
        """Put the training weights into the module, and anneal the learning rate."""
        if self.loaded and self.average_in_module:
            self._count_anew(ctx)
        super().on_before_train(ctx)
        if self.lr is None or not self._averages(ctx):
            return
        if self.anneal_from is None:
            lrs = [float(group["lr"]) for group in ctx.optimizer.param_groups]
            self.anneal_from = {"epoch": ctx.epoch, "lrs": lrs}
        self.lrs = self._annealed(self.lr, ctx.epoch - self.anneal_from["epoch"])

    def on_before_step(self, ctx: Context) -> None:
        """Have the last word on the learning rate: a scheduler may have set it since."""
        self._set_lr(ctx)

    def on_batch_end(self, ctx: Context) -> None:
        """Let the history record the learning rate that was used."""
        self._set_lr(ctx)

    def on_before_valid(self, ctx: Context) -> None:
        """Add the weights at the end of the epoch; the average is in the module."""
        # an epoch of which nothing was trained has no training loss
        if not self._averages(ctx) or "train_loss" not in ctx.history[-1]:
            return
        self.measured = False
        average = tensors_of(ctx.module)
        if self.other_weights is None:
            self.other_weights = {name: mean.clone() for name, mean in average.items()}
            self.average_in_module = True
        else:
            weights = list(self.other_weights.values())
            get_swa_multi_avg_fn()(list(average.values()), weights, self.n_averaged)
        self.n_averaged += 1
        self.sums = (*self.sums[: self.n_averaged - 1], _sum_of(ctx.module))
        self._measure(ctx)

    def on_exit(self, ctx: Context) -> None:
        """Measure the batch norms if that was interrupted: the model is kept."""
        if ctx.stop_reason == "interrupted" and not self.measured:
            self._measure(ctx)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights that are not in the module, and what annealing began with."""
        return {**super().state_dict(), "anneal_from": self.anneal_from, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier fit."""
        super().load_state_dict(state)
        self.sums, self.loaded = tuple(self.sums), True

    def _count_anew(self, ctx: Context) -> None:
        """Count the epochs in the average: early stopping may have put back an earlier one."""
        self.loaded = False
        now = _sum_of(ctx.module)
        if now in self.sums:
            self.n_averaged = len(self.sums) - self.sums[::-1].index(now)

    def _annealed(self, lr: float, n_epochs: int) -> tuple[float, ...]:
        """Return the learning rates that SWALR has after so many epochs."""
        assert self.anneal_from is not None
        # a stand-in: SWALR goes by the optimizer's present lr, which a scheduler may change
        groups = [{"params": [torch.zeros(())], "lr": was} for was in self.anneal_from["lrs"]]
        stand_in = torch.optim.SGD(groups)
        how: Any = (int(self.anneal_epochs), self.anneal)
        scheduler = SWALR(stand_in, float(lr), *how)
        for _ in range(min(n_epochs, self.anneal_epochs)):
            stand_in.step()
            scheduler.step()
        return tuple(map(float, scheduler.get_last_lr()))

    def _set_lr(self, ctx: Context) -> None:
        for group, lr in zip(ctx.optimizer.param_groups, self.lrs, strict=False):
            # a tensor may be the user's own: a new one takes its place
            is_tensor = isinstance(group["lr"], Tensor)
            group["lr"] = torch.full_like(group["lr"], lr) if is_tensor else lr

    def _measure(self, ctx: Context) -> None:
        """Give the batch norms the statistics that belong to the average."""
        # those in eval mode are frozen: their statistics are not the training data's
        parts = ctx.module.modules()
        layers = [part for part in parts if isinstance(part, _BatchNorm) and part.training]
        if layers:
            measure_batch_norms(layers, ctx)
        self.measured = True


def _sum_of(module: torch.nn.Module) -> float:
    """Return a number that other weights would not have."""
    sums = [p.detach().abs().sum(dtype=torch.float64) for p in module.parameters()]
    return float(torch.stack(sums).sum()) if sums else 0.0
