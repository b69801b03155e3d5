"""Limits the norm or the values of the gradients."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, Options

from skorchlike.callbacks.base import Callback

if TYPE_CHECKING:
    from skorchlike.training.context import Context

POSITIVE = Interval(Real, 0, None, closed="neither")
INFINITE = Options(Real, {math.inf})


class GradientClipping(Callback):
    """Limit the norm of all gradients together, or each value of them, before each step.

    Parameters
    ----------
    max_norm : float or None, default=1.0
        The norm of all gradients as one vector is at most this: a larger one is shortened
        and keeps its direction. None limits no norm.
    norm_type : float, default=2.0
        Which norm; ``float("inf")`` is the largest absolute value.
    clip_value : float or None, default=None
        Each gradient is cut to between ``-clip_value`` and ``clip_value``. None cuts none.

    Notes
    -----
    With both, the norm is limited first and the values then, so both limits hold. With
    neither, gradients are only measured.

    The gradients are those of all parameters of the optimizer, whole: after accumulation
    and unscaled. Columns of the history: ``gradient_norm``, the mean over the steps
    of the epoch, and ``gradient_norm_max``, both before clipping. NaN and infinity show.

    The technique: R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training
    recurrent neural networks", ICML 2013. The work is done by
    ``torch.nn.utils.clip_grad_norm_`` and ``clip_grad_value_``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import GradientClipping, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> clipping = GradientClipping(max_norm=0.1)
    >>> net = NeuralNetClassifier(max_epochs=3, callbacks=[clipping], random_state=0).fit(X, y)
    >>> bool((net.history_["gradient_norm"] > 0.1).all())
    True
    """

    order = 20
    logs = ("gradient_norm", "gradient_norm_max")
    changes_gradients = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "max_norm": [POSITIVE, INFINITE, None],
        "norm_type": [POSITIVE, INFINITE],
        "clip_value": [POSITIVE, None],
    }

    _n_steps = 0

    def __init__(
        self,
        max_norm: float | None = 1.0,
        norm_type: float = 2.0,
        clip_value: float | None = None,
    ) -> None:
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.clip_value = clip_value

    def on_begin(self, ctx: Context) -> None:
        """Begin the first mean."""
        self._n_steps, self._device = 0, ctx.device

    def on_before_step(self, ctx: Context) -> None:
        """Measure the gradients, and clip them."""
        parameters = [p for group in ctx.optimizer.param_groups for p in group["params"]]
        if self.max_norm is None:
            gradients = [p.grad for p in parameters if p.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients, self.norm_type)
        else:
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_norm, self.norm_type)
        if self.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, self.clip_value)
        # mean and maximum stay on the device, which is waited for once an epoch
        self._n_steps += 1
        if self._n_steps == 1:
            self._mean = self._max = norm
        else:
            self._mean = torch.lerp(self._mean, norm, 1 / self._n_steps)
            self._max = torch.maximum(self._max, norm)

    def on_phase_exit(self, ctx: Context) -> None:
        """Record the norms of the training phase, also of one that was cut off."""
        if ctx.training and self._n_steps:
            ctx.log("gradient_norm", self._mean)
            ctx.log("gradient_norm_max", self._max)
            self._n_steps = 0

    def state_dict(self) -> dict[str, Any] | None:
        """Return mean and maximum of the epoch that is under way, if it has a step."""
        if not self._n_steps:
            return None
        return {"n_steps": self._n_steps, "mean": self._mean, "max": self._max}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the means of an epoch."""
        self._n_steps = state["n_steps"]
        self._mean, self._max = (state[name].to(self._device) for name in ("mean", "max"))
