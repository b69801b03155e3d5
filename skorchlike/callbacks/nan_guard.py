"""Finds the first NaN or infinity and where it came from."""

from __future__ import annotations

import math
import warnings
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.tools.look_back import (
    LookBack,
    all_finite,
    all_parameters,
    put_back,
    which_are_bad,
)
from skorchlike.exceptions import CancelFitException

if TYPE_CHECKING:
    from skorchlike.training.context import Context


class NaNGuard(Callback):
    """End the fit at the first NaN or infinity, and say where it came from.

    The training loss, the gradients and, after each training phase, the weights are looked
    at. Once one is not finite the guard looks back: at the batch, at the weights, and then,
    by repeating the batch, for the first submodule that makes such values of finite ones.

    Parameters
    ----------
    action : {"raise", "stop"}, default="raise"
        Raise an error that fails the fit, or end it normally; then
        ``model_.stop_reason_`` is ``"nan_guard"``.
    every : int, default=1
        Look at every so many batches, the first among them. On an accelerator a look
        waits for the device.
    check_gradients : bool, default=True
        Whether to look at the gradients before a step too.

    Raises
    ------
    FloatingPointError
        With ``action="raise"``; the message says what is not finite, in which batch, where
        it came from and what to do.

    Notes
    -----
    The state is ``{"report": report}``; the report is None, or a dict with ``found_in``,
    ``cause``, ``module``, ``module_class``, ``epoch``, ``step``, ``global_step`` and
    ``message``.

    What is found in the loss or the gradients is found before the step: with
    ``action="stop"`` the model has the weights of the step before, and buffers that the
    batch has spoilt are put back. With ``every > 1`` a bad step may have been taken
    between two looks, as it has when the weights are found to be bad; a warning tells it.

    The batch is repeated with other random numbers, and on inputs that the module may have
    changed in place: where all is finite then, the report says so. Nothing is changed by it.
    In mixed precision, gradients that overflow in float16 are the scaler's affair.

    The idea: ``detect_anomaly`` of PyTorch and ``TerminateOnNaN`` of Keras.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NaNGuard, NeuralNetRegressor
    >>> X, y = load_iris(return_X_y=True)
    >>> guards = {"guard": NaNGuard(action="stop")}
    >>> net = NeuralNetRegressor(optimizer="sgd", lr=1e9, callbacks=guards, random_state=0)
    >>> report = net.fit(X, y).model_.callbacks_.guard["report"]
    >>> net.model_.stop_reason_, report["found_in"], report["cause"]
    ('nan_guard', 'loss', 'criterion')
    """

    order = 60
    passive = True
    changes_gradients = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "action": [StrOptions({"raise", "stop"})],
        "every": [Interval(Integral, 1, None, closed="left")],
        "check_gradients": ["boolean"],
    }

    report: dict[str, Any] | None = None
    # what it looked at while the fit runs
    _counts: dict[str, int] | None = None

    def __init__(self, action: str = "raise", every: int = 1, check_gradients: bool = True) -> None:
        self.action = action
        self.every = every
        self.check_gradients = check_gradients

    def on_begin(self, ctx: Context) -> None:
        """Begin to count."""
        self.report = None
        self._counts = {"n_batches": 0, "n_steps": 0}
        self._autocast = False, torch.bfloat16
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def on_batch_begin(self, ctx: Context) -> None:
        """Keep the buffers: a bad batch spoils running means before its loss is known."""
        device = ctx.device.type
        self._autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        if self.action == "stop":
            self._buffers = [(buffer, buffer.clone()) for buffer in ctx.module.buffers()]

    def on_after_loss(self, ctx: Context) -> None:
        """Look at the loss."""
        if not self._is_due("n_batches") or not isinstance(ctx.loss, Tensor) or ctx.loss.ndim:
            return  # a loss that is no number is refused by the loop
        # .item() and bool() wait for the device, here and below
        loss = ctx.loss.detach().item()
        if not math.isfinite(loss):
            self._end(ctx, "loss", f"the training loss is {loss}")

    def on_before_step(self, ctx: Context) -> None:
        """Look at the gradients."""
        is_due = self._is_due("n_steps")
        # an optimizer that scales for float16 (of accelerate) leaves such steps out by itself
        scales = getattr(ctx.optimizer, "scaler", None) is not None
        if scales or not self.check_gradients or not is_due:
            return
        groups = ctx.optimizer.param_groups
        if all_finite([p.grad for group in groups for p in group["params"] if p.grad is not None]):
            return
        gradients = {n: p.grad for n, p in all_parameters(ctx).items() if p.grad is not None}
        bad = which_are_bad(gradients)
        if bad:
            what = f"the gradients of {len(bad)} of {len(gradients)} parameters are not finite"
            self._end(ctx, "gradients", f"{what}, such as that of {bad[0]!r},")

    def on_before_valid(self, ctx: Context) -> None:
        """Look at the weights that the last step has left."""
        if which_are_bad(all_parameters(ctx)):
            self._end(ctx, "weights", "after the training phase weights are not finite,")

    def on_end(self, ctx: Context) -> None:
        """Let a fit that continues this one begin to count."""
        self._counts = None

    def on_exit(self, ctx: Context) -> None:
        """Keep no copy of the buffers."""
        self._buffers = []

    def state_dict(self) -> dict[str, Any]:
        """Return what was found, and how much it has looked at while the fit runs."""
        return {"report": self.report, **(self._counts or {})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep what an earlier fit found until something new is."""
        self.report = state["report"]
        if self._counts is not None:
            self._counts = {name: state.get(name, count) for name, count in self._counts.items()}

    def _is_due(self, name: str) -> bool:
        """Count one more, and tell whether to look at it."""
        assert self._counts is not None
        self._counts[name] += 1
        return (self._counts[name] - 1) % self.every == 0

    def _end(self, ctx: Context, found_in: str, what: str) -> None:
        report = LookBack(ctx, found_in, self.every, self._autocast).report()
        where = f"in epoch {ctx.epoch}"
        if ctx.step:
            where += f", batch {ctx.step} (number {ctx.global_step} of all training batches)"
        message = f"NaNGuard: {what} {where}. {report.pop('message')}"
        if self.action == "raise":
            raise FloatingPointError(message)
        counters = {"epoch": ctx.epoch, "step": ctx.step, "global_step": ctx.global_step}
        self.report = {"found_in": found_in, **report, **counters, "message": message}
        if report["cause"] == "weights":
            text = f"{message} They are the model's, which cannot be used."
            warnings.warn(text, UserWarning, stacklevel=2)
        else:
            put_back(self._buffers)
        ctx.stop_reason = "nan_guard"
        raise CancelFitException
