"""The criterion as the loop calls it: targets in its form, weights where there are any."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skorchlike.exceptions import ParameterError

INDICATOR_CRITERIA = (nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)
"""Criteria that want one number an output (0 or 1) instead of a label a row."""


LABEL_CRITERIA = (
    nn.CrossEntropyLoss,
    nn.MultiLabelMarginLoss,
    nn.MultiMarginLoss,
    nn.NLLLoss,
)
"""Criteria of labels: numbers would be taken for labels or probabilities."""


ELEMENTWISE_CRITERIA = (
    nn.BCELoss,
    nn.GaussianNLLLoss,
    nn.HingeEmbeddingLoss,
    nn.HuberLoss,
    nn.KLDivLoss,
    nn.L1Loss,
    nn.MSELoss,
    nn.PoissonNLLLoss,
    nn.SmoothL1Loss,
    nn.SoftMarginLoss,
)
"""Criteria of numbers: labels would only broadcast against their outputs."""


class LossFunction:
    """Compute the loss of a batch by a criterion.

    Parameters
    ----------
    criterion : torch.nn.Module
        Called as built when there are no weights.
    n_classes : int or None
        Number of classes, or None when the targets are numbers (regression).
    """

    def __init__(self, criterion: nn.Module, n_classes: int | None = None) -> None:
        self.criterion = criterion
        self.n_classes = n_classes
        self.unreduced: nn.Module | None = None
        if n_classes is None and isinstance(criterion, LABEL_CRITERIA):
            raise ParameterError(
                f"The `criterion` {type(criterion).__name__} is for labels, and the target of a "
                "regressor has numbers. Use 'mse', 'huber' or 'l1', or NeuralNetClassifier."
            )
        if n_classes is None:
            self.match = self._match_values
        elif isinstance(criterion, ELEMENTWISE_CRITERIA):
            raise ParameterError(
                f"The `criterion` {type(criterion).__name__} compares numbers, and the target has "
                "labels: they would only broadcast. Use 'cross_entropy', or 'bce_with_logits' for "
                "one number a class."
            )
        elif isinstance(criterion, INDICATOR_CRITERIA):
            self.match = self._match_indicators
        else:
            self.match = self._match_labels
        self._n_outputs_checked = False

    def __call__(self, y_pred: Tensor, y: Tensor, sample_weight: Tensor | None) -> Tensor:
        """Return the loss, a tensor of shape ()."""
        if not isinstance(y_pred, Tensor):
            raise ParameterError(
                f"The module returned a {type(y_pred).__name__}; the default loss needs one "
                "tensor. Let the module return one, or replace the action by a "
                "do_get_loss(self, ctx) in a callback or a subclass of the estimator."
            )
        target = self.match(y_pred, y)
        if sample_weight is None:
            return self.criterion(y_pred, target)
        return self._weighted(y_pred, target, sample_weight)

    def weight(self, y: Tensor, sample_weight: Tensor | None) -> float | Tensor:
        """Return what the mean loss of a batch was divided by; 1 where losses add up.

        Parameters
        ----------
        y : Tensor
            Targets of the batch.
        sample_weight : Tensor or None
            Weights of its rows.
        """
        sums = getattr(self.criterion, "reduction", "mean") == "sum"
        return 1.0 if sums else self.total_weight(y, sample_weight)

    def total_weight(self, y: Tensor, sample_weight: Tensor | None) -> float | Tensor:
        """Return the number of rows, or the sum of their weights and their labels' weights."""
        if sample_weight is not None:
            return self._total(y, sample_weight)
        if self.counts_rows or not self._weighs_labels(y):
            return float(len(y))
        return self._total(y, torch.ones_like(y, dtype=torch.get_default_dtype()))

    @property
    def counts_rows(self) -> bool:
        """Whether, without sample weights, every row counts the same."""
        criterion = self.criterion
        if not isinstance(criterion, (nn.CrossEntropyLoss, nn.NLLLoss)):
            return True
        return criterion.weight is None and criterion.ignore_index < 0

    def _weighs_labels(self, target: Tensor) -> bool:
        labels = isinstance(self.criterion, (nn.CrossEntropyLoss, nn.NLLLoss))
        # a callback with a loss of its own may have made it something else
        return labels and isinstance(target, Tensor) and target.dtype == torch.int64

    def _match_labels(self, y_pred: Tensor, y: Tensor) -> Tensor:
        if not self._n_outputs_checked:
            self._check_n_outputs(y_pred)
            if isinstance(self.criterion, nn.NLLLoss):
                self._check_log_probabilities(y_pred)
            self._n_outputs_checked = True
        return y

    def _check_n_outputs(self, y_pred: Tensor) -> None:
        if y_pred.ndim < 2 or y_pred.shape[1] != self.n_classes:
            hint = ""
            if self.n_classes == 2 and y_pred.shape[1:] in ((), (1,)):
                hint = " For one output use criterion='bce_with_logits'."
            raise ParameterError(
                f"The `module` returned a tensor of shape {tuple(y_pred.shape)}, and the "
                f"target has {self.n_classes} classes. With {type(self.criterion).__name__} "
                f"it must return logits of shape (n, {self.n_classes}).{hint}"
            )

    def _check_log_probabilities(self, y_pred: Tensor) -> None:
        """Refuse logits: their loss would fall without end, and in silence."""
        if not (y_pred.detach().logsumexp(1).abs() < 0.1).all():
            raise ParameterError(
                f"With the criterion {type(self.criterion).__name__} the `module` must return "
                "log-probabilities, whose exponentials sum to 1 in each row; it returned "
                "something else. End it in torch.nn.LogSoftmax(dim=1), or use "
                "criterion='cross_entropy', which takes logits."
            )

    def _match_indicators(self, y_pred: Tensor, y: Tensor) -> Tensor:
        n = len(y)
        if y.is_floating_point() and y.shape == y_pred.shape:
            return y  # a callback gave one number an output already
        single = y_pred.shape in ((n,), (n, 1)) or (n == 1 and y_pred.ndim == 0)
        if single and (self.n_classes or 0) <= 2:
            self._check_element_weight()
            return y.view_as(y_pred).to(y_pred.dtype)
        if y_pred.shape != (len(y), self.n_classes):
            one = " or (n, 1)" if self.n_classes == 2 else ""
            raise ParameterError(
                f"The `module` returned a tensor of shape {tuple(y_pred.shape)}. With "
                f"{type(self.criterion).__name__} and {self.n_classes} classes it must "
                f"return logits of shape (n, {self.n_classes}){one}."
            )
        return nn.functional.one_hot(y, y_pred.size(1)).to(y_pred.dtype)

    def _check_element_weight(self) -> None:
        weight = getattr(self.criterion, "weight", None)
        if weight is not None and weight.numel() == 2:
            raise ParameterError(
                f"The `weight` of {type(self.criterion).__name__} is one for each output, and the "
                "module has one output. For weights of classes use "
                "criterion__pos_weight=torch.tensor(w), the weight of the second class over that "
                "of the first, or criterion='cross_entropy' with criterion__weight."
            )

    def _match_values(self, y_pred: Tensor, y: Tensor) -> Tensor:
        if y_pred.shape == y.shape:
            return y
        # one column of targets may meet an output without the column, and the
        # output of a single row may have lost all its dimensions to a squeeze()
        if y.shape[1:] == (1,) and y_pred.ndim <= 1 and y_pred.numel() == y.numel():
            return y.view_as(y_pred)
        raise ParameterError(
            f"The `module` returned a tensor of shape {tuple(y_pred.shape)}, and the target "
            f"has shape {tuple(y.shape)}: they would only broadcast. Let the module return "
            f"shape {tuple(y.shape)}, or replace the action by a do_get_loss(self, ctx)."
        )

    def _weighted(self, y_pred: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        if self.unreduced is None:
            self.unreduced = _without_reduction(self.criterion)
        losses = self.unreduced(y_pred, target)
        if losses.ndim == 0 or len(losses) != len(weight):
            raise ParameterError(
                f"sample_weight needs a loss for each row. {type(self.criterion).__name__} "
                f"with reduction='none' returned shape {tuple(losses.shape)} for "
                f"{len(weight)} rows. Use a criterion that honours `reduction`."
            )
        if getattr(self.criterion, "reduction", "mean") == "sum":
            return (losses.flatten(1).sum(1) if losses.ndim > 1 else losses).mul(weight).sum()
        rows = losses.flatten(1).mean(1) if losses.ndim > 1 else losses
        return (rows * weight).sum() / self._total(target, weight)

    def _total(self, target: Tensor, weight: Tensor) -> Tensor:
        """Return Σw; where torch's own mean leaves out or weights classes, so does this.

        Equal weights must train as none.
        """
        criterion = self.criterion
        if self._weighs_labels(target):
            weight = weight * (target != criterion.ignore_index)
            if criterion.weight is not None:
                weight = weight * criterion.weight[target]  # type: ignore[index]
        return weight.sum()


def _without_reduction(criterion: nn.Module) -> nn.Module:
    """Return the criterion with ``reduction="none"``, sharing its tensors."""
    if not hasattr(criterion, "reduction"):
        raise ParameterError(
            f"The criterion {type(criterion).__name__} has no attribute `reduction`, so it "
            "cannot give a loss for each row, which sample_weight needs. Give it one "
            "('none' must return one loss a row), or fit without sample_weight."
        )
    unreduced: Any = copy.copy(criterion)
    unreduced.reduction = "none"
    return unreduced


class RunningLoss:
    """The weighted mean of the batches' losses, with few fetches from the device."""

    LIMIT = 4096  # losses kept on the device between fetches: a bound on memory

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.losses: list[Tensor] = []
        self.weights: list[float | Tensor] = []
        self.total = self.weight = 0.0

    def add(self, loss: Tensor, weight: float | Tensor) -> None:
        """Add a detached loss and its batch's number of rows or sum of weights."""
        self.losses.append(loss)
        self.weights.append(weight)
        if len(self.losses) >= self.LIMIT:
            self._fetch()

    def _fetch(self) -> None:
        weights = to_floats(self.weights)
        pairs = zip(to_floats(self.losses), weights, strict=True)
        # where all labels are ignored the weight is 0 and torch's mean NaN
        self.total += sum(loss * weight for loss, weight in pairs if weight)
        self.weight += sum(weights)
        self.losses, self.weights = [], []

    def mean(self) -> float | None:
        """Return the mean loss, or None when there was no batch."""
        self._fetch()
        return self.total / self.weight if self.weight else None


def to_floats(values: Sequence[Tensor | float]) -> list[float]:
    """Return tensors of one device (or integers) as floats, fetching them all at once."""
    if values and isinstance(values[0], Tensor) and values[0].device.type != "cpu":
        return torch.stack(values).tolist()  # type: ignore[arg-type]
    # without a device to wait for, one by one is the fastest
    return [v.item() if isinstance(v, Tensor) else float(v) for v in values]
