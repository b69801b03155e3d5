"""Arrays as a dataset, for rows that go through a loader."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from skorchlike.data.rows import Rows
from skorchlike.nested import map_arrays


class RowsDataset(Dataset[Any]):
    """Rows of arrays with their targets; a batch is gathered at once.

    Parameters
    ----------
    X : Rows
        Inputs as they are given.
    y : Tensor of shape (n, ...)
        Encoded targets.
    sample_weight : Tensor of shape (n,) or None
        Weights.
    """

    def __init__(self, X: Rows, y: Tensor, sample_weight: Tensor | None) -> None:
        self.X, self.y, self.sample_weight = X, y.cpu(), sample_weight
        if sample_weight is not None:
            self.sample_weight = sample_weight.cpu()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.X)

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        """Return one row."""
        X, *others = self.__getitems__([row])
        return (map_arrays(lambda part: part[0], X), *(part[0] for part in others))

    def __getitems__(self, rows: list[int]) -> tuple[Any, ...]:
        """Return a ready batch."""
        index = torch.as_tensor(rows)
        batch = (self.X.take(index), self.y[index])
        return batch if self.sample_weight is None else (*batch, self.sample_weight[index])
