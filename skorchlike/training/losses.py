"""The criterion as the loop calls it: targets in its form, weights where there are any."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skorchlike.exceptions import ParameterError
from skorchlike.training.matching import (
    INDICATOR_CRITERIA,
    LABELS,
    NUMBERS,
    is_of_torch,
    matcher,
    repeat_rows,
)

__all__ = ["INDICATOR_CRITERIA", "LossFunction", "RunningLoss", "to_floats"]


class LossFunction:
    """Compute the loss of a batch by a criterion.

    Parameters
    ----------
    criterion : torch.nn.Module
        Called as built when there are no weights.
    n_classes : int or None
        Number of classes, or of labels a row may have; None when the targets are numbers.
    kind : {"numbers", "labels", "multi-label", "soft labels"} or None
        What the target holds; None is numbers without `n_classes`, else a label a row.
    class_weight : Tensor of shape (n_classes,) or None
        A weight for each class; a row's multiplies its sample weight.

    Attributes
    ----------
    n_members : int or None
        How many predictions a module makes for each row, in a dimension of their own in
        training: outputs of shape (n, n_members, n_outputs). The loss is the mean over them.
    """

    def __init__(
        self,
        criterion: nn.Module,
        n_classes: int | None = None,
        *,
        kind: str | None = None,
        class_weight: Tensor | None = None,
    ) -> None:
        self.criterion = criterion
        self.n_classes = n_classes
        self.class_weight = class_weight
        self.n_members: int | None = None
        self.unreduced: nn.Module | None = None
        kind = kind or (NUMBERS if n_classes is None else LABELS)
        self.match = matcher(criterion, kind, n_classes)
        self._class_weight: Tensor | None = None  # where the outputs are, in their dtype

    def __call__(self, y_pred: Any, y: Tensor, sample_weight: Tensor | None) -> Tensor:
        """Return the loss, a tensor of shape ()."""
        if self.class_weight is not None and self._class_weight is None:
            self._place_class_weight(y_pred)
        weight = self._row_weight(y, sample_weight)
        if not isinstance(y_pred, Tensor):
            self._check_structure(y_pred)
            return self._loss(y_pred, y, weight)
        if self.n_members is None or y_pred.ndim != 3:
            return self._loss(y_pred, self.match(y_pred, y), weight)
        n_members = y_pred.shape[1]
        y, y_pred = repeat_rows(y, n_members), y_pred.flatten(0, 1)
        weight = None if weight is None else repeat_rows(weight, n_members)
        loss = self._loss(y_pred, self.match(y_pred, y), weight)
        return loss / n_members if self.adds_up else loss

    @property
    def adds_up(self) -> bool:
        """Whether the loss of a batch is a sum over its rows, not their mean."""
        return getattr(self.criterion, "reduction", "mean") == "sum"

    def weight(self, y: Tensor, sample_weight: Tensor | None) -> float | Tensor:
        """Return what the mean loss of a batch was divided by; 1 where losses add up.

        Parameters
        ----------
        y : Tensor
            Targets of the batch.
        sample_weight : Tensor or None
            Weights of its rows.
        """
        return 1.0 if self.adds_up else self.total_weight(y, sample_weight)

    def total_weight(self, y: Tensor, sample_weight: Tensor | None) -> float | Tensor:
        """Return the number of rows, or the sum of their weights and their labels' weights."""
        weight = self._row_weight(y, sample_weight)
        if weight is not None:
            return self._total(y, weight)
        if self.counts_rows or not self._weighs_labels(y):
            return float(len(y))
        return self._total(y, torch.ones_like(y, dtype=torch.get_default_dtype()))

    @property
    def counts_rows(self) -> bool:
        """Whether, without sample weights, every row counts the same."""
        if self.class_weight is not None:
            return False
        criterion = self.criterion
        if not isinstance(criterion, (nn.CrossEntropyLoss, nn.NLLLoss)):
            return True
        return criterion.weight is None and criterion.ignore_index < 0

    def _weighs_labels(self, target: Tensor) -> bool:
        labels = isinstance(self.criterion, (nn.CrossEntropyLoss, nn.NLLLoss))
        # a callback with a loss of its own may have made it something else
        return labels and isinstance(target, Tensor) and target.dtype == torch.int64

    def _check_structure(self, y_pred: Any) -> None:
        """Let several outputs pass to a criterion of the user's alone."""
        if is_of_torch(self.criterion):
            raise ParameterError(
                f"The module returned a {type(y_pred).__name__}, and the criterion "
                f"{type(self.criterion).__name__} needs one tensor. Let the module return one, "
                "write a criterion that takes what it returns, or replace the action by a "
                "do_get_loss(self, ctx) in a callback or a subclass of the estimator."
            )

    # ----------------------------------------------------------------- weights

    def _place_class_weight(self, y_pred: Any) -> None:
        assert self.class_weight is not None
        like = y_pred if isinstance(y_pred, Tensor) else next(_tensors(y_pred), self.class_weight)
        # half precision would round the weights
        dtype = torch.promote_types(like.dtype, torch.float32)
        self._class_weight = self.class_weight.to(like.device, dtype)

    def _row_weight(self, y: Any, sample_weight: Tensor | None) -> Tensor | None:
        """Return the rows' sample weights times the weights of their classes."""
        if self.class_weight is None:
            return sample_weight
        if not isinstance(y, Tensor):
            raise ParameterError(
                "class_weight needs a label for each row, and a callback has made the target a "
                f"{type(y).__name__}. Set class_weight=None, or weigh the loss there."
            )
        of_class = self.class_weight if self._class_weight is None else self._class_weight
        of_class = of_class.to(y.device)
        if not y.is_floating_point():
            weight = of_class[y]
        elif y.shape[1:] == of_class.shape:
            weight = y.to(of_class.dtype) @ of_class
        else:  # two classes, as the share of the second
            weight = torch.lerp(of_class[0], of_class[1], y.reshape(len(y)).to(of_class.dtype))
        return weight if sample_weight is None else weight * sample_weight

    def _loss(self, y_pred: Any, target: Tensor, weight: Tensor | None) -> Tensor:
        if weight is None:
            return self.criterion(y_pred, target)
        if self.unreduced is None:
            self.unreduced = _without_reduction(self.criterion)
        losses = self.unreduced(y_pred, target)
        if losses.ndim == 0 or len(losses) != len(weight):
            raise ParameterError(
                f"sample_weight and class_weight need a loss for each row. "
                f"{type(self.criterion).__name__} with reduction='none' returned shape "
                f"{tuple(losses.shape)} for {len(weight)} rows. Use a criterion that honours "
                "`reduction`."
            )
        reduction = getattr(self.criterion, "reduction", "mean")
        by_row = torch.sum if reduction in ("sum", "batchmean") else torch.mean
        rows = by_row(losses.flatten(1), 1) if losses.ndim > 1 else losses
        if reduction == "sum":
            return (rows * weight).sum()
        total = self._total(target, weight)
        if self.class_weight is not None:
            # a batch of classes of weight 0 alone says nothing, and 0/0 would be NaN
            total = total.clamp_min(torch.finfo(total.dtype).tiny)
        return (rows * weight).sum() / total

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


def _tensors(outputs: Any) -> Any:
    """Yield the tensors of nested outputs."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, (tuple, list, dict)):
        for part in outputs.values() if isinstance(outputs, dict) else outputs:
            yield from _tensors(part)


def _without_reduction(criterion: nn.Module) -> nn.Module:
    """Return the criterion with ``reduction="none"``, sharing its tensors."""
    if not hasattr(criterion, "reduction"):
        raise ParameterError(
            f"The criterion {type(criterion).__name__} has no attribute `reduction`, so it "
            "cannot give a loss for each row, which sample_weight and class_weight need. Give it "
            "one ('none' must return one loss a row), or fit without weights."
        )
    unreduced: Any = copy.copy(criterion)
    unreduced.reduction = "none"
    return unreduced


class RunningLoss:
    """The weighted mean of the batches' losses, with few fetches from the device.

    Parameters
    ----------
    adds_up : bool, default=False
        Whether the losses are sums over the rows of a batch (``reduction="sum"``): then
        they are added up as they are, and the mean is that over the rows, whatever the
        batch size.
    """

    LIMIT = 256  # losses kept on the device between fetches: a bound on memory

    def __init__(self, adds_up: bool = False) -> None:
        self.adds_up = adds_up
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.losses: list[Tensor] = []
        self.weights: list[float | Tensor] = []
        self.total = self.weight = 0.0

    def add(self, loss: Tensor, weight: float | Tensor) -> None:
        """Add a detached loss and its batch's number of rows or sum of weights."""
        if loss.is_cpu:
            # nothing to wait for; kept, the small tensors would settle in the heap between the
            # large ones of each batch, which then would not find their place again
            self._add(loss.item(), weight.item() if isinstance(weight, Tensor) else float(weight))
            return
        self.losses.append(loss)
        self.weights.append(weight)
        if len(self.losses) >= self.LIMIT:
            self._fetch()

    def _fetch(self) -> None:
        for loss, weight in zip(to_floats(self.losses), to_floats(self.weights), strict=True):
            self._add(loss, weight)
        self.losses, self.weights = [], []

    def _add(self, loss: float, weight: float) -> None:
        if self.adds_up:
            self.total += loss
        elif weight:  # where all labels are ignored the weight is 0 and torch's mean NaN
            self.total += loss * weight
        self.weight += weight

    def sums(self) -> tuple[float, float]:
        """Return the sum of the losses so far and what it is divided by."""
        self._fetch()
        return self.total, self.weight

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
