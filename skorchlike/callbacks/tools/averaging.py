"""Two sets of weights, one in the module and one beside it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from itertools import chain
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import Interval, RealNotInt
from torch import Tensor, nn

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context


class WeightAveraging(Callback):
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
    last_epoch: int | None = None  # None once the fit has ended

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
        self.last_epoch, self._device = ctx.max_epochs, ctx.device
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
        tensors = tensors_of(ctx.module).items()
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
        self.last_epoch = None
        if not self.n_averaged and self.first_epoch <= ctx.max_epochs:
            warnings.warn(self._too_late(self.first_epoch, ctx.epoch), stacklevel=2)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights that are not in the module, and which those are."""
        names = ["n_averaged", "average_in_module", "other_weights"]
        if self.last_epoch is not None:
            names += ["first_epoch", "last_epoch"]
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier fit; to the same last epoch also from the same first one."""
        state = dict(state)
        first_epoch, last_epoch = state.pop("first_epoch", None), state.pop("last_epoch", None)
        if last_epoch is not None and last_epoch == self.last_epoch:
            self.first_epoch = first_epoch
        for name, value in state.items():
            setattr(self, name, value)
        if self.other_weights is not None:
            weights = self.other_weights.items()
            self.other_weights = {name: weight.to(self._device) for name, weight in weights}

    def _averages(self, ctx: Context) -> bool:
        """Whether this epoch takes part; an average once begun goes on in a continued fit."""
        return self.n_averaged > 0 or ctx.epoch >= self.first_epoch

    def _swap(self, ctx: Context) -> None:
        """Exchange the two sets in place: the optimizer keeps its parameters."""
        assert self.other_weights is not None
        for inside, other in zip(
            tensors_of(ctx.module).values(), self.other_weights.values(), strict=True
        ):
            kept = inside.clone()
            inside.copy_(other)
            other.copy_(kept)
        self.average_in_module = not self.average_in_module

    def _conflict(self, callbacks: Mapping[str, Any]) -> str:
        found = [name for name, cb in callbacks.items() if isinstance(cb, WeightAveraging)]
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


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers that can be averaged, each once."""
    named = chain(module.named_parameters(), module.named_buffers())
    return {n: t.detach() for n, t in named if t.is_floating_point() or t.is_complex()}
