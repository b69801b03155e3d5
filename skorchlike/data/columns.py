"""Targets and weights of the rows, kept as small as they may be and cast as they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skorchlike.data.arrays import ArrayBatches
from skorchlike.data.rows import (
    Placement,
    Rows,
    as_tensor,
    check_cast,
    check_overflow,
    in_chunks,
    to_tensor,
)
from skorchlike.exceptions import ParameterError

Scale = Callable[[np.ndarray], np.ndarray]
"""Targets of some rows → what the module is trained on."""


class Taken:
    """Some rows of an array, taken and changed as they are read: no copy of the whole.

    Parameters
    ----------
    values : ndarray of shape (n, ...)
        The array.
    rows : ndarray of int of shape (m,), or None
        Which rows; None is all.
    change : callable or None
        What is done to the rows that are read, row by row.

    Examples
    --------
    >>> import numpy as np
    >>> from skorchlike.data.columns import Taken
    >>> taken = Taken(np.arange(5) * 10, np.array([0, 3, 4]))
    >>> taken[1:], len(taken), np.asarray(taken)
    (array([30, 40]), 3, array([ 0, 30, 40]))
    """

    def __init__(self, values: np.ndarray, rows: np.ndarray | None, change: Any = None) -> None:
        self.values, self.rows, self.change = values, rows, change
        n_rows = len(values) if rows is None else len(rows)
        self.shape = (n_rows, *values.shape[1:])
        self.ndim = values.ndim

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __getitem__(self, part: slice) -> np.ndarray:
        """Return neighbouring rows as an array."""
        taken = self.values[part] if self.rows is None else self.values[self.rows[part]]
        return taken if self.change is None else self.change(taken)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all rows as an array."""
        taken = self[:]
        return taken if dtype is None else taken.astype(dtype, copy=bool(copy))


@dataclass
class Columns:
    """Targets and weights of all rows.

    Attributes
    ----------
    y : Tensor of shape (n, ...)
        Targets, on the device.
    sample_weight : Tensor of shape (n,) or None
        Weights, on the device.
    y_dtype, weight_dtype : torch.dtype
        The dtypes that batches have; the tensors may have others.
    """

    y: Tensor
    sample_weight: Tensor | None
    y_dtype: torch.dtype
    weight_dtype: torch.dtype

    @classmethod
    def place(
        cls,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        place: Placement,
        *,
        labels: bool = False,
        scale: Scale | None = None,
        suffix: str = "",
    ) -> Columns:
        """Put targets and weights on the device, on a CPU without a copy where none is needed.

        Parameters
        ----------
        y : ndarray of shape (n, ...)
            Encoded targets.
        sample_weight : ndarray of shape (n,) or None
            Weights, at least one of them positive.
        place : Placement
            Where and as what the batches are wanted.
        labels : bool
            Whether targets are encoded labels.
        scale : callable or None
            What is done to targets before training.
        suffix : str
            What the names of the arguments end in, for errors.

        Raises
        ------
        ParameterError
            If numbers are too large for the dtype, or weights too small.
        """
        dtype = torch.int64 if labels else place.dtype
        name = f"y{suffix}"
        values = _placed(y, dtype, place, name) if scale is None else None
        if values is None:
            values = _scaled(y, scale, dtype, name).to(place.device)
        weight = None
        if sample_weight is not None:
            _check_range(sample_weight, place.dtype, f"sample_weight{suffix}")
            weight = _placed(sample_weight, place.dtype, place, f"sample_weight{suffix}")
        return cls(values, weight, dtype, place.dtype)

    def batches(self, X: Rows, batch_size: int, rows: Tensor | None, **order: Any) -> ArrayBatches:
        """Return batches of these rows; see `ArrayBatches`."""
        return ArrayBatches(
            X,
            self.y,
            self.sample_weight,
            batch_size,
            rows,
            y_dtype=self.y_dtype,
            weight_dtype=self.weight_dtype,
            **order,
        )

    def cast(self) -> tuple[Tensor, Tensor | None]:
        """Return targets and weights in the dtypes of batches."""
        weight = self.sample_weight
        return self.y.to(self.y_dtype), None if weight is None else weight.to(self.weight_dtype)


def _placed(values: np.ndarray, dtype: torch.dtype, place: Placement, name: str) -> Tensor:
    """Return values on the device; on a CPU in their own dtype, which batches are cast from."""
    if place.device.type != "cpu":
        return to_tensor(values, dtype, place.device, name)
    tensor = as_tensor(values)
    check_cast(tensor, dtype, name)
    return tensor


def _scaled(y: np.ndarray, scale: Scale | None, dtype: torch.dtype, name: str) -> Tensor:
    """Return scaled targets; only pieces of them are there in double precision."""
    assert scale is not None
    scaled = torch.empty(y.shape, dtype=dtype)
    start = 0
    for part in in_chunks(y):
        piece = as_tensor(scale(part))
        stop = start + len(piece)
        scaled[start:stop] = piece
        check_overflow(piece.dtype, scaled[start:stop], name)
        start = stop
    return scaled


def _check_range(sample_weight: np.ndarray, dtype: torch.dtype, name: str) -> None:
    """Refuse weights that vanish or become infinite in the dtype, or whose sum does."""
    tiny, good, total = torch.finfo(dtype).tiny, True, torch.zeros((), dtype=torch.float64)
    for part in in_chunks(as_tensor(sample_weight)):
        weight = part.to(dtype)
        good = good and not (weight[part > 0] < tiny).any()
        total += weight.sum(dtype=torch.float64)
    if not good or not torch.isfinite(total.to(dtype)):
        raise ParameterError(
            f"The values of {name}, up to {sample_weight.max():g}, are too small or too large for "
            f"{dtype}. Scale them, for example to a mean of 1."
        )
