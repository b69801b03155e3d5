"""The default actions backward, step and zero_grad, without the Python that torch has in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from skorchlike.training.fast import kernels
from skorchlike.training.fast.updates import FusedUpdate

if TYPE_CHECKING:
    from skorchlike.training.context import Context


def direct_backward(ctx: Context) -> None:
    """Do as ``do_backward`` of the estimator."""
    if ctx.loss.requires_grad:
        kernels.backward(ctx.loss)
    else:
        ctx.estimator.do_backward(ctx)


class DirectStep:
    """Do as ``do_step`` of the estimator, which does what cannot be done by the kernel alone."""

    def __init__(self, update: FusedUpdate) -> None:
        self.update = update

    def __call__(self, ctx: Context) -> None:
        """Update the parameters."""
        update = self.update
        if update.ready():
            gradients = update.gradients()
            if gradients is not None:
                with torch.no_grad():
                    update.apply(gradients)
                return
        ctx.estimator.do_step(ctx)
        update.learn()


def direct_zero_grad(ctx: Context) -> None:
    """Do as ``do_zero_grad`` of the estimator."""
    optimizer = ctx.optimizer
    if "zero_grad" in vars(optimizer) or kernels.is_profiled():
        ctx.estimator.do_zero_grad(ctx)
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
