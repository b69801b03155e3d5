"""The loss of a batch, and its gradient by the outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from skorchlike.training.fast import kernels
from skorchlike.training.losses import LossFunction

Head = Callable[[Tensor, Tensor, Any], tuple[Tensor, Tensor | None]]
"""Outputs, targets, weights → the loss, and its gradient or, where it has a graph, None."""


def why_no_head(criterion: nn.Module) -> str | None:
    """Say why a criterion needs the graph of the whole module, or None.

    One's own could tell the outputs of a layer from a leaf, or use the module's parameters.
    """
    name = type(criterion).__name__
    if not type(criterion).__module__.startswith(("torch.nn.", "skorchlike.")):
        return f"the criterion {name} is of one's own"
    if next(criterion.parameters(), None) is not None:
        return f"the criterion {name} has parameters"
    if any(map(kernels.has_hooks, criterion.modules())):
        return f"the criterion {name} has hooks, or its forward is replaced"
    return None


def make_head(loss_function: LossFunction) -> Head:
    """Return what computes a loss, and by hand the gradient of the two default criteria."""
    criterion: Any = loss_function.criterion
    by_autograd = AutogradHead(loss_function)
    if not loss_function.counts_rows or getattr(criterion, "reduction", None) != "mean":
        return by_autograd
    if not kernels.forward_is_own(criterion):
        return by_autograd
    if type(criterion) is nn.MSELoss:
        return MSEHead(loss_function, by_autograd)
    if type(criterion) is not nn.CrossEntropyLoss or criterion.label_smoothing:
        return by_autograd
    missing = kernels.lacking("log_softmax_backward")
    return CrossEntropyHead(loss_function, by_autograd) if missing is None else by_autograd


class AutogradHead:
    """The loss of any criterion; its small graph holds nothing but the criterion."""

    def __init__(self, loss_function: LossFunction) -> None:
        self.loss_function = loss_function

    def __call__(
        self, y_pred: Tensor, y: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the loss, with a graph from the outputs."""
        with torch.enable_grad():
            return self.loss_function(y_pred.requires_grad_(), y, sample_weight), None


class CrossEntropyHead:
    """The cross-entropy of a label a row; its gradient by the kernels of autograd."""

    def __init__(self, loss_function: LossFunction, otherwise: Head) -> None:
        self.match, self.otherwise = loss_function.match, otherwise

    def __call__(
        self, y_pred: Tensor, y: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the loss and its gradient."""
        if sample_weight is not None or y.dtype is not torch.int64 or y.ndim != 1:
            return self.otherwise(y_pred, y, sample_weight)
        y = self.match(y_pred, y)
        logs = torch.log_softmax(y_pred, 1)
        loss = functional.nll_loss(logs, y)
        d = torch.zeros_like(logs).scatter_(1, y.unsqueeze(1), -1.0 / len(y))
        return loss, kernels.log_softmax_backward(d, logs, 1, logs.dtype)  # type: ignore[misc]


class MSEHead:
    """The mean squared error; its gradient by the kernel of autograd."""

    def __init__(self, loss_function: LossFunction, otherwise: Head) -> None:
        self.match, self.otherwise = loss_function.match, otherwise

    def __call__(
        self, y_pred: Tensor, y: Tensor, sample_weight: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the loss and its gradient."""
        y = self.match(y_pred, y)
        if sample_weight is not None or y.dtype is not y_pred.dtype:
            return self.otherwise(y_pred, y, sample_weight)
        loss = functional.mse_loss(y_pred, y)
        kernel = torch.ops.aten.mse_loss_backward.default
        return loss, kernel(torch.ones_like(loss), y_pred, y, 1)
