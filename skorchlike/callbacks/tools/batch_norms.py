"""Statistics of batch norms, measured anew over the training inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import (
    update_bn,
)

from skorchlike.nested import concatenate, n_rows_of, take

if TYPE_CHECKING:
    from skorchlike.training.context import Context


class _Measured(nn.ModuleList):
    """Some batch norms, called as if they were the module: all that update_bn may touch."""

    ctx: Context

    def forward(self, X: Any) -> None:
        """Predict as the estimator's predict would."""
        ctx, provider = self.ctx, self.ctx.estimator
        ctx.X = X
        for callback in ctx.callbacks.values():
            if callback.changes_inputs:
                callback.on_batch_predict_begin(ctx)
            if hasattr(callback, "do_predict"):
                provider = callback
        provider.do_predict(ctx)


def measure_batch_norms(layers: list[_BatchNorm], ctx: Context) -> None:
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


def _representative_batches(ctx: Context) -> Iterator[list[Any]]:
    """Yield the training inputs shuffled, in batches of nearly one size.

    Batches of one class, as sorted data have them, would make every variance too small, and
    a short last batch would count as much as the others.
    """
    batches = list(ctx.train_inputs())
    inputs = concatenate(batches)
    n_rows = n_rows_of(inputs)
    n_batches = max(1, n_rows // n_rows_of(batches[0]))
    del batches
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(n_rows, generator=generator).to(ctx.device)
    for part in rows.tensor_split(n_batches):
        # update_bn calls with the first of several, in a list
        yield [take(inputs, part)]
