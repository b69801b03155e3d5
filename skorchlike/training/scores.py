"""The score that stands beside the validation loss, summed up batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from skorchlike.nested import main_output


class Score(Protocol):
    """What the loop needs of a score."""

    name: str

    def reset(self) -> None:
        """Forget all batches."""

    def suits(self, y_pred: Any, y: Any) -> bool:
        """Whether the score can be told of such outputs and targets."""

    def update(self, y_pred: Tensor, y: Tensor, sample_weight: Tensor | None) -> None:
        """Add a batch; nothing is fetched from the device."""

    def compute(self) -> float:
        """Return the score of all batches since the last reset."""


def _kept(sums: Tensor) -> Any:
    """Return the sums of a batch in the form in which they are kept.

    On the CPU as numbers: small tensors would settle in the heap between the large ones of each
    batch, which then would not find their place again. From a device nothing is fetched yet.
    """
    return sums.tolist() if sums.is_cpu else sums


def _stacked(kept: list[Any]) -> Tensor:
    """Return what `_kept` returned for each batch as one tensor."""
    if isinstance(kept[0], Tensor):
        return torch.stack(kept)
    return torch.tensor(kept, dtype=torch.float64)


def _as_it_is(values: Tensor) -> Tensor:
    return values


class Accuracy:
    """Share of rows (or of weight) whose label is predicted; of several labels, all of them.

    Parameters
    ----------
    decide : callable
        Module output → label index, a tensor of shape (n,), or a 0 or 1 for each label, of
        shape (n, n_labels).
    label_of : callable, optional
        Target → what `decide` must return for a row to be right.
    """

    name = "accuracy"

    def __init__(
        self,
        decide: Callable[[Tensor], Tensor],
        label_of: Callable[[Tensor], Tensor] = _as_it_is,
    ) -> None:
        self.decide, self.label_of = decide, label_of
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.sums: list[Any] = []
        self.n_rows = 0

    def suits(self, y_pred: Any, y: Any) -> bool:
        """Whether there is an output of one or two dimensions, and a label a row."""
        output = main_output(y_pred)
        return isinstance(output, Tensor) and output.ndim in (1, 2) and len(output) == len(y)

    def update(self, y_pred: Tensor, y: Tensor, sample_weight: Tensor | None) -> None:
        """Add a batch."""
        right = self.decide(main_output(y_pred)) == self.label_of(y)
        if right.ndim > 1:
            right = right.flatten(1).all(1)
        if sample_weight is None:
            self.sums.append(_kept(right.sum(dtype=torch.float64)))
            self.n_rows += len(y)
        else:
            weight = sample_weight.double()
            self.sums.append(_kept(torch.stack([(right * weight).sum(), weight.sum()])))

    def compute(self) -> float:
        """Return the accuracy, between 0 and 1."""
        sums = _stacked(self.sums).sum(0)
        right, total = sums.tolist() if sums.ndim else (sums.item(), self.n_rows)
        return right / total


class R2:
    """Coefficient of determination, averaged over outputs as scikit-learn's r2_score.

    Parameters
    ----------
    predict : callable, optional
        Module output → prediction, one number a target.
    per_target : int, default=1
        Outputs of the module for each target.
    """

    name = "r2"

    def __init__(
        self, predict: Callable[[Tensor], Tensor] = _as_it_is, per_target: int = 1
    ) -> None:
        self.predict, self.per_target = predict, per_target
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self.sums: list[Any] = []
        self.origin: Tensor | None = None
        self.n_rows = 0

    def suits(self, y_pred: Any, y: Any) -> bool:
        """Whether there are as many outputs a target as predictions are made of."""
        output = main_output(y_pred)
        return isinstance(output, Tensor) and output.numel() == y.numel() * self.per_target

    def update(self, y_pred: Tensor, y: Tensor, sample_weight: Tensor | None) -> None:
        """Add a batch; sums in float64, from a row of the data as origin."""
        y = y.double()
        error = y - self.predict(main_output(y_pred)).reshape(y.shape).double()
        if self.origin is None:
            self.origin = y[:1].clone()  # a view would hold more rows
        y = y - self.origin
        w = torch.ones_like(y) if sample_weight is None else sample_weight.double()[:, None]
        w = w.expand_as(y)
        self.sums.append(_kept(torch.stack([w, w * y, w * y**2, w * error**2]).sum(1)))
        self.n_rows += len(y)

    def compute(self) -> float:
        """Return R²; NaN for fewer than two rows."""
        if self.n_rows < 2:
            return float("nan")
        weight, first, second, residual = _stacked(self.sums).sum(0)
        spread = second - first**2 / weight
        r2 = torch.where(
            spread > 0,
            1 - residual / spread,
            torch.where(residual > 0, 0.0, 1.0).double(),
        )
        return r2.mean().item()
