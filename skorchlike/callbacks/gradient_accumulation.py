"""Steps once for several batches, as for one large batch."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval

from skorchlike.callbacks.base import Callback

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context


class GradientAccumulation(Callback):
    """Step once for a group of batches, as for one batch of all their rows.

    Parameters
    ----------
    n_batches : int, default=2
        Batches a group. The last batch of an epoch ends a group early.

    Notes
    -----
    A batch counts by its ``ctx.loss_weight``, its number of rows or sum of weights, so a
    step is that of the large batch also with a smaller last batch, sample weights, class
    weights or ``ignore_index``. With ``reduction="sum"`` the losses add up.

    A batch that another callback cancels before its backward pass is left out. If that
    was the last of a group, or if the step itself is cancelled, what has gathered goes
    on into the next batch, in the next epoch if need be. What is left when the fit ends
    is dropped. Gradients that were dropped (``ctx.optimizer.zero_grad()``, as
    `MixedPrecision` does on an overflow) end the group.

    Batch normalization and dropout still see the small batches.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import GradientAccumulation, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> small = NeuralNetClassifier(
    ...     batch_size=10, callbacks=[GradientAccumulation(4)], random_state=0
    ... ).fit(X, y)
    >>> large = NeuralNetClassifier(batch_size=40, random_state=0).fit(X, y)
    >>> bool(abs(small.predict_proba(X) - large.predict_proba(X)).max() < 1e-6)
    True
    """

    order = -20
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_batches": [Interval(Integral, 1, None, closed="left")],
    }

    _n_pending = 0
    _kept: tuple[tuple[int, torch.Tensor], ...] = ()
    _first: Any = 1.0

    def __init__(self, n_batches: int = 2) -> None:
        self.n_batches = n_batches

    def plan(self, n_epochs: int, n_updates: int) -> tuple[int, int]:
        """One step a group."""
        return n_epochs, -(-n_updates // self.n_batches)

    def advise(self, setup: Setup) -> list[str]:
        """Warn of those who would see the gradients of half a group."""
        return [
            f"{name!r} works on gradients in on_after_backward, where {setup.name!r} has not "
            "gathered those of all batches. Let it act in on_before_step."
            for name, callback in setup.callbacks.items()
            if callback.changes_gradients and not hasattr(callback.on_after_backward, "is_no_op")
        ]

    def on_begin(self, ctx: Context) -> None:
        """See whether the criterion takes means, and begin a group."""
        self._adds_up = getattr(ctx.criterion, "reduction", "mean") == "sum"
        self._device, self._loaded, self._kept = ctx.device, False, ()
        self._begin_group()

    def on_before_backward(self, ctx: Context) -> None:
        """Weigh the loss by the batch's share, against the first batch of the group."""
        if self._loaded:
            self._loaded = False
            if not _with_gradients(ctx):  # those of the fit continued are gone
                self._drop()
        weight = ctx.loss_weight
        if isinstance(weight, torch.Tensor):
            weight = weight.detach().to(torch.promote_types(weight.dtype, ctx.loss.dtype))
        if not self._n_pending:
            self._first = _one_if_zero(weight)
            # what do_zero_grad left of the last step belongs to no group: it is added at the end
            pairs = [(i, p) for i, p in enumerate(_parameters(ctx)) if p.grad is not None]
            self._kept += tuple((i, p.grad) for i, p in pairs)
            for _, parameter in pairs:
                parameter.grad = None
        self._ratio = weight / self._first
        self._counted = False
        ctx.loss = ctx.loss * self._ratio
        if ctx.loss.requires_grad:
            # counts the batch whose on_after_backward is cancelled before ours, too
            ctx.loss.register_hook(self._count)

    def on_after_backward(self, ctx: Context) -> None:
        """Skip the step, or make the gathered gradients those of the group's mean loss."""
        self._count()
        if self._n_pending < self.n_batches and not ctx.is_last_batch:
            ctx.skip_step()
        elif not ctx.step_skipped:
            self._end_group(ctx)

    def on_after_step(self, ctx: Context) -> None:
        """Note that the group has had its step."""
        self._stepped = True

    def on_batch_exit(self, ctx: Context) -> None:
        """Begin a new group after the step, or when the gradients were dropped."""
        if ctx.training and (self._stepped or not _with_gradients(ctx)):
            self._begin_group()

    def on_end(self, ctx: Context) -> None:
        """Drop what is left without a step."""
        if self._n_pending:
            ctx.optimizer.zero_grad()
        self._drop()

    on_exit = on_end

    def state_dict(self) -> dict[str, Any] | None:
        """Return where the group is that is under way, if there is one."""
        if not self._n_pending and not self._kept:
            return None
        names = ("n_pending", "first", "total", "kept")
        return {name: getattr(self, f"_{name}") for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a group; the gradients that it has gathered are not held here."""
        self._n_pending, self._loaded = state["n_pending"], True
        self._first, self._total = (self._placed(state[name]) for name in ("first", "total"))
        self._kept = tuple((i, self._placed(gradient)) for i, gradient in state["kept"])

    def _placed(self, value: Any) -> Any:
        return value.to(self._device) if isinstance(value, torch.Tensor) else value

    def _drop(self) -> None:
        self._kept = ()
        self._begin_group()

    def _begin_group(self) -> None:
        self._n_pending, self._total, self._stepped = 0, 0.0, False

    def _count(self, gradient: Any = None) -> None:
        if not self._counted:
            self._counted = True
            self._n_pending += 1
            self._total = self._total + self._ratio

    def _end_group(self, ctx: Context) -> None:
        if not self._adds_up:
            total = _one_if_zero(self._total)
            for parameter in _with_gradients(ctx):
                parameter.grad.div_(total)
            # if the step is cancelled, the mean goes on as one batch of the whole weight
            self._first, self._total = self._first * total, 1.0
        parameters = _parameters(ctx) if self._kept else []
        for i, grad in self._kept:
            parameter = parameters[i]
            parameter.grad = grad if parameter.grad is None else parameter.grad + grad
        self._kept = ()


def _parameters(ctx: Context) -> list[Any]:
    return [p for group in ctx.optimizer.param_groups for p in group["params"]]


def _with_gradients(ctx: Context) -> list[Any]:
    return [p for p in _parameters(ctx) if p.grad is not None]


def _one_if_zero(weight: Any) -> Any:
    """Return a weight to divide by, without waiting for the device."""
    if isinstance(weight, torch.Tensor):
        return torch.where(weight > 0, weight, 1.0)
    return weight or 1.0
