"""Batches of arrays that are kept whole on the device."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skorchlike.exceptions import ParameterError

CHUNK_BYTES = 4 * 2**20
"""Rows are gathered by so many bytes at a time (at least a batch): a bound on memory,
and small enough to stay in a processor's cache."""


def to_tensor(
    array: Any, dtype: torch.dtype | None, device: torch.device, name: str = "X"
) -> Tensor:
    """Put an array on the device, without a copy where none is needed.

    Parameters
    ----------
    array : ndarray or torch.Tensor
        The values.
    dtype : torch.dtype or None
        The dtype wanted; None keeps the array's.
    device : torch.device
        Where it is wanted.
    name : str
        The argument's name, for errors.

    Returns
    -------
    torch.Tensor
        It may share memory with the array, so nothing may write to it.

    Raises
    ------
    ParameterError
        If a value is too large for the dtype.
    """
    if not isinstance(array, Tensor):
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()  # torch takes neither
        array = torch.from_numpy(array)
    tensor = array.detach().to(device=device, dtype=dtype)
    check_overflow(array.dtype, tensor, name)
    return tensor


def check_overflow(was: torch.dtype, tensor: Tensor, name: str) -> None:
    """Refuse values that a cast has made infinite; they were finite before."""
    now = tensor.dtype
    if not now.is_floating_point or was == now:
        return
    largest = torch.finfo(was).max if was.is_floating_point else torch.iinfo(torch.int64).max
    if largest > torch.finfo(now).max and not torch.isfinite(tensor).all():
        raise ParameterError(
            f"{name} has values that are too large for {now} (at most "
            f"{torch.finfo(now).max:.3g}), the dtype of the module. Scale them, or set "
            "dtype='float64'."
        )


def torch_dtype(array: Any) -> torch.dtype:
    """Return the dtype that an array has as a tensor."""
    if isinstance(array, Tensor):
        return array.dtype
    return torch.from_numpy(np.empty(0, array.dtype)).dtype


class ArrayBatches:
    """Cut tensors into batches by gathering, with no Python a row.

    Every batch is a copy: a module or callback that writes to it changes no data.

    Parameters
    ----------
    X : torch.Tensor of shape (n, ...)
        Inputs, on the device.
    y : torch.Tensor of shape (n, ...)
        Targets, on the device.
    sample_weight : torch.Tensor of shape (n,) or None
        Weights of the rows.
    batch_size : int
        Rows a batch; the last may have fewer.
    rows : torch.Tensor of int64 or None
        Which rows take part; None is all.
    generator : torch.Generator or None
        Shuffles the rows anew in each pass; None keeps their order.
    drop_last : bool
        Whether to leave out a last batch with fewer rows.
    """

    def __init__(
        self,
        X: Tensor,
        y: Tensor,
        sample_weight: Tensor | None,
        batch_size: int,
        rows: Tensor | None = None,
        generator: torch.Generator | None = None,
        drop_last: bool = False,
    ) -> None:
        n_rows = len(X) if rows is None else len(rows)
        if drop_last and n_rows < batch_size:
            raise ParameterError(
                f"With drop_last=True and batch_size={batch_size} no batch is left of "
                f"{n_rows} training rows. Use a smaller batch_size or drop_last=False."
            )
        self.X, self.y, self.sample_weight = X, y, sample_weight
        self.batch_size, self.rows = batch_size, rows
        self.n_rows = n_rows - n_rows % batch_size if drop_last else n_rows
        self.n_batches = -(-self.n_rows // batch_size)
        # one batch of all rows is the same batch in any order
        self.generator = generator if self.n_batches > 1 or drop_last else None
        row_bytes = max(1, X[:1].nbytes)
        batches = max(1, CHUNK_BYTES // (row_bytes * batch_size))
        self.chunk = batches * batch_size

    def __iter__(self) -> Iterator[tuple[Any, Any, Any, Any, int, bool]]:
        """Yield X, y, sample_weight, what returns the index, number of rows, is last."""
        order = self._order()
        size, left, n_left = self.batch_size, self.n_batches, self.n_rows
        for start in range(0, self.n_rows, self.chunk):
            index = order[start : min(start + self.chunk, self.n_rows)]
            X, y = self.X.index_select(0, index), self.y.index_select(0, index)
            weights: Any = repeat(None)
            if self.sample_weight is not None:
                weights = self.sample_weight.index_select(0, index).split(size)
            offset = 0
            for X_, y_, w_ in zip(X.split(size), y.split(size), weights, strict=False):
                left -= 1
                n = min(size, n_left)
                # row numbers are rarely read: cut out when they are
                yield X_, y_, w_, partial(index.narrow, 0, offset, n), n, left == 0
                n_left -= size
                offset += size

    def inputs(self) -> Iterator[Tensor]:
        """Yield copies of the inputs in the order of the data, without random numbers."""
        n = len(self.X)
        rows = torch.arange(n, device=self.X.device) if self.rows is None else self.rows
        for index in rows.split(self.batch_size):
            yield self.X.index_select(0, index)

    def _order(self) -> Tensor:
        device = self.X.device
        if self.generator is None:
            return torch.arange(self.n_rows, device=device) if self.rows is None else self.rows
        n = len(self.X) if self.rows is None else len(self.rows)
        order = torch.randperm(n, generator=self.generator).to(device)
        return order if self.rows is None else self.rows.index_select(0, order)


def input_batches(
    X: Any, batch_size: int, dtype: torch.dtype | None, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Yield (X, index, is last) of inputs alone, put on the device batch by batch.

    Parameters
    ----------
    X : ndarray or torch.Tensor of shape (n, ...)
        Inputs.
    batch_size : int
        Rows a batch.
    dtype : torch.dtype or None
        What the module takes; None keeps X's.
    device : torch.device
        Where the module is.
    """
    n = len(X)
    for start in range(0, n, batch_size):
        stop = min(start + batch_size, n)
        part = X[start:stop]
        is_tensor = isinstance(part, Tensor)
        if not is_tensor:
            part = torch.from_numpy(np.array(part))
        batch = part.detach().to(device=device, dtype=dtype, copy=is_tensor)
        check_overflow(part.dtype, batch, "X")
        yield batch, torch.arange(start, stop), stop == n
