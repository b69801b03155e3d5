"""A whole training step without autograd, for linear layers with activations between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from skorchlike.exceptions import CancelBatchException
from skorchlike.training.batches import Batch
from skorchlike.training.fast import kernels
from skorchlike.training.fast.chain import (
    Chain,
    layers_of,
    misfit_of,
    why_no_chain,
    why_not_parameters,
)
from skorchlike.training.fast.heads import make_head, why_no_head
from skorchlike.training.fast.updates import FusedUpdate

if TYPE_CHECKING:
    from skorchlike.training.loop import Loop


class HandWrittenStep:
    """Train a batch in which no callback acts, as the loop does by its default actions.

    At the exit of a batch passive callbacks look on.

    Parameters
    ----------
    loop : Loop
        Whose batches they are; its own way is taken for those that do not suit.
    update : FusedUpdate
        The optimizer's step.
    """

    def __init__(self, loop: Loop, update: FusedUpdate) -> None:
        self.loop, self.ctx, self.update = loop, loop.ctx, update
        self.chain: Any = None
        self.head: Any = None
        self.gradients: list[list[Tensor]] = []

    def why_not(self) -> str | None:
        """Say what only the general way takes into account, or None."""
        ctx = self.ctx
        if not torch.is_grad_enabled() or torch.is_anomaly_enabled() or kernels.graph_has_hooks():
            return "gradients are off or handed to hooks, or torch looks for anomalies"
        if torch.is_autocast_enabled("cpu") or kernels.is_overridden():
            return "autocast is on, or a mode that looks at torch's functions"
        if ctx._loss_function.n_members is not None:
            return "the module makes several predictions a row"
        layers = layers_of(ctx.module)
        if layers is None:
            return misfit_of(ctx.module)
        if kernels.is_patched():
            return "a function of torch is replaced"
        reason = why_no_chain(layers) or why_no_head(ctx.criterion)
        if reason is not None:
            return reason
        trained = [p for group in ctx.optimizer.param_groups for p in group["params"]]
        return why_not_parameters(layers, trained)

    def begin(self) -> None:
        """Take up the layers and the criterion as they are in the phase that begins."""
        layers = layers_of(self.ctx.module) or []
        if self.chain is None or not self.chain.is_of(layers):
            self.chain = Chain(layers)
        self.head = make_head(self.ctx._loss_function)
        self.gradients = self._learned()

    def _learned(self) -> list[list[Tensor]]:
        """Return where the gradients of the optimizer's groups are; none before its first step."""
        update, of = self.update, self.chain.gradients
        if not update.ready() or any(group.idle for group in update.groups):
            update.learn(all_active=True)
        return [[of[id(p)] for p in group.active] for group in update.groups]

    def __call__(self, batch: Batch) -> None:
        """Run one training batch."""
        X: Any = batch[0]
        plain = type(X) is Tensor and X.ndim == 2 and X.layout is torch.strided
        if not self.gradients or not plain:
            self.loop.train_batch(batch)
            self.gradients = self.gradients or self._learned()
            return
        error: BaseException | None = None
        self.loop.take(batch)
        self.ctx._global_step += 1
        try:
            self._train(X, batch)
        except CancelBatchException as cut:
            error = cut
        except BaseException as other:
            error = other
            raise
        finally:
            if self.loop.on.on_batch_exit:
                self.loop.leave_batch(error)
                self.gradients = self.gradients if self.update.ready() else []
            error = None

    def _train(self, X: Tensor, batch: Batch) -> None:
        """Do the five actions; an error is noted with the one that raised it."""
        loop, ctx, chain = self.loop, self.ctx, self.chain
        do = loop.do
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
            raise
