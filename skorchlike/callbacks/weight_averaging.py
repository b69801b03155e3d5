"""Predict with averaged weights: a moving average, or the mean of the last epochs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from itertools import chain
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, RealNotInt, StrOptions
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import (
    SWALR,
    get_ema_multi_avg_fn,
    get_swa_multi_avg_fn,
    update_bn,
)

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback
from skorchlike.exceptions import ParameterError

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context


class _WeightAveraging(Callback):
    """What EMA and SWA share: two sets of weights, one in the module and one beside it.

    The training phase has the training weights in the module, all else the average.
    torch's AveragedModel is not used, only its averaging functions: it copies the whole
    module (wrappers too), averages integer buffers, and waits for the device each time.
    """

    order = 40
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "start": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="left"),
        ]
    }
    start: float

    # what there is when the fit ends before on_begin
    n_averaged = 0
    average_in_module = False
    other_weights: dict[str, Tensor] | None = None
    first_epoch: float = math.inf

    def advise(self, setup: Setup) -> list[str]:
        """Say what is wrong: two averages, or a start after the last epoch."""
        said = [self._conflict(setup.callbacks)]
        if isinstance(self.start, Integral) and self.start > setup.max_epochs:
            said.append(self._too_late(self.start, setup.max_epochs))
        return list(filter(None, said))

    def on_begin(self, ctx: Context) -> None:
        """Find the first epoch to average."""
        if conflict := self._conflict(ctx.callbacks):
            raise ParameterError(conflict)
        self.n_averaged, self.average_in_module, self.other_weights = 0, False, None
        if isinstance(self.start, Integral):
            self.first_epoch = self.start
        else:  # 0.29 * 100 is a little less than 29
            share = self.start * (ctx.max_epochs - ctx.epoch)
            self.first_epoch = ctx.epoch + 1 + math.floor(share + 1e-9)
        # partial_fit is one epoch of many, so its own end says nothing
        last = ctx.epoch + ctx.estimator.max_epochs
        if self.first_epoch > last:
            warnings.warn(self._too_late(self.first_epoch, last), stacklevel=2)

    def on_before_train(self, ctx: Context) -> None:
        """Put the training weights into the module."""
        if self.other_weights is None:
            return
        # by position, since wrappers change names; a continued fit may have another device
        tensors = _tensors(ctx.module).items()
        kept = zip(tensors, self.other_weights.values(), strict=True)
        self.other_weights = {name: weight.to(now) for (name, now), weight in kept}
        if self.average_in_module:
            self._swap(ctx)

    def on_phase_exit(self, ctx: Context) -> None:
        """Put the average into the module, however the training phase ended."""
        if self.n_averaged and not self.average_in_module:
            self._swap(ctx)

    def on_end(self, ctx: Context) -> None:
        """Say that the fit ended before anything was averaged."""
        if not self.n_averaged and self.first_epoch <= ctx.max_epochs:
            warnings.warn(self._too_late(self.first_epoch, ctx.epoch), stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights that are not in the module, and which those are."""
        names = ("n_averaged", "average_in_module", "other_weights")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier fit."""
        for name, value in state.items():
            setattr(self, name, value)

    def _averages(self, ctx: Context) -> bool:
        """Whether this epoch takes part; an average once begun goes on in a continued fit."""
        return self.n_averaged > 0 or ctx.epoch >= self.first_epoch

    def _swap(self, ctx: Context) -> None:
        """Exchange the two sets in place: the optimizer keeps its parameters."""
        assert self.other_weights is not None
        for inside, other in zip(
            _tensors(ctx.module).values(), self.other_weights.values(), strict=True
        ):
            kept = inside.clone()
            inside.copy_(other)
            other.copy_(kept)
        self.average_in_module = not self.average_in_module

    def _conflict(self, callbacks: Mapping[str, Any]) -> str:
        found = [name for name, cb in callbacks.items() if isinstance(cb, _WeightAveraging)]
        if len(found) < 2:
            return ""
        return (
            f"The callbacks {' and '.join(map(repr, found))} both average the weights. One model "
            "can predict with one average: drop one of them."
        )

    def _too_late(self, first: float, last: int) -> str:
        return (
            f"{type(self).__name__}(start={self.start!r}) averages nothing: averaging starts in "
            f"epoch {first}, and the fit ends with epoch {last}. The model has the weights as "
            "trained. Set a smaller start, or train longer."
        )


@register_callback("ema")
class EMA(_WeightAveraging):
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
        **_WeightAveraging._parameter_constraints,
        "decay": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(self, decay: float = 0.999, start: float = 1) -> None:
        self.decay = decay
        self.start = start

    def on_after_step(self, ctx: Context) -> None:
        """Move the average towards the weights; the first time it is a copy of them."""
        if not self._averages(ctx):
            return
        weights = _tensors(ctx.module)
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


@register_callback("swa")
class SWA(_WeightAveraging):
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
    `EMA` and ``anneal_from``, the learning rates before annealing.

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
        **_WeightAveraging._parameter_constraints,
        "lr": [Interval(Real, 0, None, closed="neither"), None],
        "anneal_epochs": [Interval(Integral, 0, None, closed="left")],
        "anneal": [StrOptions({"cos", "linear"})],
    }

    anneal_from: dict[str, Any] | None = None
    lrs: tuple[float, ...] = ()
    measured = True

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
        average = _tensors(ctx.module)
        if self.other_weights is None:
            self.other_weights = {name: mean.clone() for name, mean in average.items()}
            self.average_in_module = True
        else:
            weights = list(self.other_weights.values())
            get_swa_multi_avg_fn()(list(average.values()), weights, self.n_averaged)
        self.n_averaged += 1
        self._measure(ctx)

    def on_exit(self, ctx: Context) -> None:
        """Measure the batch norms if that was interrupted: the model is kept."""
        if ctx.stop_reason == "interrupted" and not self.measured:
            self._measure(ctx)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights that are not in the module, and what annealing began with."""
        return {**super().state_dict(), "anneal_from": self.anneal_from}

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
            _measure_batch_norms(layers, ctx)
        self.measured = True


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers that can be averaged, each once."""
    named = chain(module.named_parameters(), module.named_buffers())
    return {n: t.detach() for n, t in named if t.is_floating_point() or t.is_complex()}


class _Measured(nn.ModuleList):
    """Some batch norms, called as if they were the module: all that update_bn may touch."""

    ctx: Context

    def forward(self, X: Tensor) -> None:
        """Predict as the estimator's predict would."""
        ctx, provider = self.ctx, self.ctx.estimator
        ctx.X = X
        for callback in ctx.callbacks.values():
            if getattr(callback, "changes_inputs", False):
                callback.on_batch_predict_begin(ctx)
            if hasattr(callback, "do_predict"):
                provider = callback
        provider.do_predict(ctx)


def _measure_batch_norms(layers: list[_BatchNorm], ctx: Context) -> None:
    """Run update_bn over the training inputs; all but the statistics stays as it was."""
    measured = _Measured(layers)
    measured.ctx = ctx
    kept = [(layer, layer.momentum, _count(layer)) for layer in layers]
    in_training = [part for part in ctx.module.modules() if part.training]
    devices = [ctx.device] if ctx.device.type == "cuda" else []
    try:
        ctx.module.eval()
        with torch.random.fork_rng(devices=devices):
            update_bn(_representative_batches(ctx), measured)
    finally:
        for layer, momentum, count in kept:
            layer.momentum = momentum
            if count is not None:
                layer.num_batches_tracked.copy_(count)  # type: ignore[union-attr]
        for part in in_training:
            part.training = True
        ctx.X = ctx.y_pred = None


def _count(layer: _BatchNorm) -> Tensor | None:
    count = layer.num_batches_tracked
    return None if count is None else count.clone()


def _representative_batches(ctx: Context) -> Iterator[Tensor]:
    """Yield the training inputs shuffled, in batches of nearly one size.

    Batches of one class, as sorted data have them, would make every variance too small, and
    a short last batch would count as much as the others.
    """
    batches = list(ctx.train_inputs())
    inputs = torch.cat(batches)
    n_batches = max(1, len(inputs) // len(batches[0]))
    del batches
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(inputs), generator=generator).to(ctx.device)
    for part in rows.tensor_split(n_batches):
        yield inputs[part]
