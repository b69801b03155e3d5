"""Batches of arrays, gathered some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from skorchlike.data.pages import Pages
from skorchlike.data.rows import Dense, Rows
from skorchlike.exceptions import ParameterError
from skorchlike.nested import split

CHUNK_BYTES = 2**20
"""Rows are gathered by so many bytes at a time (at least a batch): a bound on memory,
and small enough to stay in a processor's cache."""

FEW_ROWS = 2**14
"""The numbers of fewer rows are small whatever their dtype."""


class ArrayBatches:
    """Cut arrays into batches by gathering, with no Python a row.

    Every batch is a copy: a module or callback that writes to it changes no data. Targets,
    weights and row numbers may be kept in a smaller dtype than that of the batches, or in that
    of arrays that are there anyway: they are cast chunk by chunk.

    Parameters
    ----------
    X : Rows, or torch.Tensor of shape (n, ...)
        Inputs.
    y : torch.Tensor of shape (n, ...)
        Targets, on the device.
    sample_weight : torch.Tensor of shape (n,) or None
        Weights of the rows.
    batch_size : int
        Rows a batch; the last may have fewer.
    rows : torch.Tensor of int32 or int64, or None
        Which rows take part; None is all.
    generator : torch.Generator or None
        Shuffles the rows anew in each pass; None keeps their order.
    drop_last : bool
        Whether to leave out a last batch with fewer rows.
    y_dtype, weight_dtype : torch.dtype or None
        The dtypes that targets and weights of a batch have; None is that of `y`, and that of
        `sample_weight`.

    Attributes
    ----------
    began_with : torch.Tensor or None
        The generator's state when the last pass began: what `after` goes by.
    """

    def __init__(
        self,
        X: Rows | Tensor,
        y: Tensor,
        sample_weight: Tensor | None,
        batch_size: int,
        rows: Tensor | None = None,
        generator: torch.Generator | None = None,
        drop_last: bool = False,
        *,
        y_dtype: torch.dtype | None = None,
        weight_dtype: torch.dtype | None = None,
    ) -> None:
        n_rows = len(y) if rows is None else len(rows)
        if drop_last and n_rows < batch_size:
            raise ParameterError(
                f"With drop_last=True and batch_size={batch_size} no batch is left of "
                f"{n_rows} training rows. Use a smaller batch_size or drop_last=False."
            )
        self.X = X if isinstance(X, Rows) else Rows(X)
        self.y, self.sample_weight = y, sample_weight
        # in pages of their own, as chunks of X are
        self._y = Dense(y, y_dtype)
        self._weight = None if sample_weight is None else Dense(sample_weight, weight_dtype)
        self._among = None if rows is None else Dense(rows, torch.int64)
        self._pages = Pages()
        self.batch_size, self.rows = batch_size, rows
        self.n_rows = n_rows - n_rows % batch_size if drop_last else n_rows
        self.n_batches = -(-self.n_rows // batch_size)
        # one batch of all rows is the same batch in any order
        self.generator = generator if self.n_batches > 1 or drop_last else None
        self.began_with: Tensor | None = None
        batches = max(1, CHUNK_BYTES // (max(1, self.X.row_bytes) * batch_size))
        self.chunk = batches * batch_size

    def __iter__(self) -> Iterator[tuple[Any, Any, Any, Any, int, bool]]:
        """Yield X, y, sample_weight, what returns the index, number of rows, is last."""
        return self._from(0)

    def after(self, began_with: Any, n_done: int) -> Iterator[Any]:
        """Yield what was left of a pass after so many batches, in the same order of rows."""
        if self.generator is not None:
            self.generator.set_state(began_with)
        return self._from(n_done)

    def _from(self, n_done: int) -> Iterator[tuple[Any, Any, Any, Any, int, bool]]:
        order = self._order()
        size, left = self.batch_size, self.n_batches - n_done
        done = n_done * size
        n_left = self.n_rows - done
        # from where the unbroken pass gathers: in memory aligned otherwise kernels round otherwise
        for start in range(done - done % self.chunk, self.n_rows, self.chunk):
            index = self._rows(order, start, min(start + self.chunk, self.n_rows))
            X, y = self.X.take(index), self._y.take(index)
            weights: Any = repeat(None)
            if self._weight is not None:
                weights = self._weight.take(index).split(size)
            offset = 0
            for X_, y_, w_ in zip(split(X, size), y.split(size), weights, strict=False):
                if start + offset < done:
                    offset += size
                    continue
                left -= 1
                n = min(size, n_left)
                # row numbers are rarely read: cut out when they are
                yield X_, y_, w_, partial(index.narrow, 0, offset, n), n, left == 0
                n_left -= size
                offset += size

    def inputs(self) -> Iterator[Any]:
        """Yield copies of the inputs in the order of the data, without random numbers."""
        n = len(self.y) if self.rows is None else len(self.rows)
        for start in range(0, n, self.batch_size):
            yield self.X.take(self._rows(None, start, min(start + self.batch_size, n)))

    def _order(self) -> Tensor | None:
        """Return the order of a new pass among the rows that take part; None is theirs."""
        if self.generator is None:
            return None
        n = len(self.y) if self.rows is None else len(self.rows)
        self.began_with = self.generator.get_state()
        # the numbers drawn are the same for both dtypes; few are left as batches want them
        wide = n < FEW_ROWS or n > torch.iinfo(torch.int32).max
        dtype = torch.int64 if wide else torch.int32
        return torch.randperm(n, generator=self.generator, dtype=dtype).to(self.y.device)

    def _rows(self, order: Tensor | None, start: int, stop: int) -> Tensor:
        """Return the numbers of the rows that a pass has from `start` to `stop`, as int64."""
        if self._among is not None:
            if order is None:
                return self._among.narrow(start, stop)
            return self._among.take(order[start:stop])
        if order is None:
            return torch.arange(start, stop, device=self.y.device)
        if order.dtype is torch.int64 or not order.is_cpu:
            return order[start:stop].long()
        return self._pages.empty((stop - start,), torch.int64).copy_(order[start:stop])


def input_batches(X: Rows, batch_size: int) -> Iterator[tuple[Any, Tensor, bool]]:
    """Yield (X, index, is last) of inputs alone, put on the device batch by batch.

    Parameters
    ----------
    X : Rows
        Inputs.
    batch_size : int
        Rows a batch.
    """
    n = len(X)
    for start in range(0, n, batch_size):
        stop = min(start + batch_size, n)
        yield X.narrow(start, stop), torch.arange(start, stop), stop == n
