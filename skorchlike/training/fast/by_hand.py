"""A whole training step without autograd, for linear layers with activations between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from skorchlike.exceptions import CancelBatchException
from skorchlike.training.batches import Batch
from skorchlike.training.fast import chain as chains
from skorchlike.training.fast.chain import Chain, layers_of
from skorchlike.training.fast.heads import make_head
from skorchlike.training.fast.updates import FusedUpdate

if TYPE_CHECKING:
    from skorchlike.training.loop import Loop


class HandWrittenStep:
    """Train a batch in which no callback acts, as the loop does by its default actions.

    Parameters
    ----------
    loop : Loop
        Whose batches they are; its own way is taken for those that do not suit.
    update : FusedUpdate
        The optimizer's step.
    """

    def __init__(self, loop: Loop, update: FusedUpdate) -> None:
        ctx = loop.ctx
        self.loop, self.ctx, self.update = loop, ctx, update
        self.chain = Chain(layers_of(ctx.module) or [])
        self.head = make_head(ctx._loss_function)
        self.gradients: list[list[Tensor]] = []

    def why_not_now(self) -> str | None:
        """Say what has come to pass that only the general way takes into account, or None."""
        ctx = self.ctx
        if not torch.is_grad_enabled() or torch.is_anomaly_enabled():
            return "gradients are off, or torch looks for anomalies"
        if torch.is_autocast_enabled("cpu"):
            return "autocast is on"
        trained = [p for group in ctx.optimizer.param_groups for p in group["params"]]
        if set(map(id, trained)) != set(map(id, self.chain.parameters)):
            return "the optimizer has other parameters than the layers"
        reason = chains.why_not_now(self.chain, ctx.module)
        if reason is None:
            self.gradients = self._learned()
        return reason

    def _learned(self) -> list[list[Tensor]]:
        """Return where the gradients of the optimizer's groups are; empty before its first step."""
        self.update.learn(all_active=True)
        of = self.chain.gradients
        return [[of[id(p)] for p in group.active] for group in self.update.groups]

    def __call__(self, batch: Batch) -> None:
        """Run one training batch."""
        X: Any = batch[0]
        if not self.gradients or type(X) is not Tensor or X.ndim != 2:
            self.loop.train_batch(batch)
            self.gradients = self.gradients or self._learned()
            return
        loop, ctx, do, chain = self.loop, self.ctx, self.loop.do, self.chain
        loop.take(batch)
        ctx._global_step += 1
        calls = do.predict
        try:
            with torch.no_grad():
                ctx.y_pred = y_pred = chain.forward(X)
                calls = do.get_loss
                ctx.loss, d = self.head(y_pred, ctx.y, ctx.sample_weight)
                ctx._last_loss = loop.records.loss(loop.records.train_loss, batch)
                calls = do.backward
                if d is None:
                    calls[0](ctx)
                    d = y_pred.grad
                chain.backward(d)
                calls = do.step
                self.update.apply(self.gradients)
        except BaseException as error:
            loop.tell(error, calls, calls[0])
            if not isinstance(error, CancelBatchException):
                raise
