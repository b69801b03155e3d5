"""Rows of inputs, gathered some at a time: dense, sparse, or left in a file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from scipy.sparse import csr_array, issparse
from torch import Tensor

from skorchlike.data.pages import Pages
from skorchlike.exceptions import ParameterError
from skorchlike.nested import arrays_of, is_nested, map_arrays, n_rows_of

SMALL_BYTES = 2**25
"""Data of so many bytes at most are prepared as a whole, once a fit."""

PIECE_ROWS = 2**16
"""Numbers of rows are looked through by so many at a time: a bound on memory."""

CAST_BYTES = 2**16
"""Rows that are cast as they are taken are gathered by so many bytes at a time."""

SCAN_BYTES = 4 * 2**20
"""Whole arrays are looked through by so many bytes at a time: a bound on memory."""


@dataclass
class Placement:
    """Where and as what the data are wanted.

    Attributes
    ----------
    device : torch.device
        The device of the module.
    input_dtype : torch.dtype or None
        The dtype of the inputs; None keeps theirs. Of several inputs the floating ones get
        `dtype`, the others stay integers or booleans.
    dtype : torch.dtype
        The dtype of targets that are numbers, and of weights.
    """

    device: torch.device
    input_dtype: torch.dtype | None
    dtype: torch.dtype

    def of_part(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype that one of several inputs gets."""
        if dtype.is_floating_point:
            return self.dtype
        return dtype if dtype in (torch.bool, torch.uint8) else torch.int64


# -------------------------------------------------------------------- conversion


def as_tensor(array: Any) -> Tensor:
    """Return an array as a tensor, without a copy where torch can do so.

    Nothing may write to it: it may share memory with an array that is read-only.
    """
    if isinstance(array, Tensor):
        return array.detach()
    if any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch does not take them
    array = np.asarray(array)  # a memory-mapped array stays in its file
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)  # torch has hardly any operation for them
    elif array.dtype.byteorder not in "=|":
        array = array.astype(array.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        # a read-only array: every batch is a copy, so nothing writes to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.from_numpy(array)


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
    given = as_tensor(array)
    tensor = given.to(device=device, dtype=dtype)
    check_overflow(given.dtype, tensor, name)
    return tensor


def check_cast(tensor: Tensor, dtype: torch.dtype, name: str) -> None:
    """Refuse values that a cast would make infinite, without a cast copy of the whole."""
    if _can_overflow(tensor.dtype, dtype):
        for part in in_chunks(tensor):
            check_overflow(tensor.dtype, part.to(dtype), name)


def check_overflow(was: torch.dtype, tensor: Tensor, name: str) -> None:
    """Refuse values that a cast has made infinite; they were finite (or NaN) before."""
    now = tensor.dtype
    if _can_overflow(was, now) and any(part.isinf().any() for part in in_chunks(tensor)):
        raise ParameterError(
            f"{name} has values that are too large for {now} (at most "
            f"{torch.finfo(now).max:.3g}), the dtype of the module. Scale them, or set "
            "dtype='float64'."
        )


def _can_overflow(was: torch.dtype, now: torch.dtype) -> bool:
    """Whether a cast may make numbers infinite."""
    if not now.is_floating_point or was == now:
        return False
    largest = torch.finfo(was).max if was.is_floating_point else torch.iinfo(torch.int64).max
    return largest > torch.finfo(now).max


def in_chunks(array: Any) -> Iterator[Any]:
    """Cut an array into views of a few megabytes."""
    n_bytes = array[:1].nbytes if len(array) else 0
    step = max(1, SCAN_BYTES // max(1, n_bytes))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def in_pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Cut an array into views of so few rows that arrays of their positions are small."""
    for start in range(0, len(array), PIECE_ROWS):
        yield array[start : start + PIECE_ROWS]


def all_rows(n: int) -> np.ndarray:
    """Return the row numbers 0 to n - 1, in four bytes each where those hold them."""
    return np.arange(n, dtype=_row_dtype(n))


def rows_where(marks: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows that are not 0 or False, dtype as that of `all_rows`."""
    rows = np.empty(np.count_nonzero(marks), dtype=_row_dtype(len(marks)))
    start = n_found = 0
    for part in in_pieces(marks):  # positions take eight bytes each
        found = np.flatnonzero(part)
        found += start
        start += len(part)
        rows[n_found : n_found + len(found)] = found
        n_found += len(found)
    return rows


def _row_dtype(n: int) -> type[np.signedinteger[Any]]:
    return np.int32 if n <= np.iinfo(np.int32).max else np.int64


def torch_dtype(array: Any) -> torch.dtype:
    """Return the dtype that an array has as a tensor."""
    if isinstance(array, Tensor):
        return array.dtype
    return as_tensor(np.empty(0, array.dtype)).dtype


# -------------------------------------------------------------------------- rows


class _Part(Protocol):
    row_bytes: int

    def take(self, index: Tensor) -> Tensor: ...

    def narrow(self, start: int, stop: int) -> Tensor: ...


class Dense:
    """Rows of a tensor, cast as they are taken where another dtype is wanted."""

    def __init__(self, values: Tensor, dtype: torch.dtype | None = None) -> None:
        self.values, self.pages = values, Pages()
        self.dtype = dtype or values.dtype
        # as it is when it was taken: chunks have the same rows whether cast before or after
        self.row_bytes = values[:1].numel() * self.dtype.itemsize

    def take(self, index: Tensor) -> Tensor:
        """Return copies of the rows with these numbers."""
        values = self.values
        index = index if index.device == values.device else index.cpu()
        if not values.is_cpu:
            return values.index_select(0, index).to(self.dtype)
        out = self.pages.empty((len(index), *values.shape[1:]), self.dtype)
        if self.dtype is values.dtype:
            return _gather(values, index, out)
        # by pieces that stay in the processor's cache, not as a whole in two dtypes
        step = max(1, CAST_BYTES // max(1, values[:1].nbytes))
        buffer = values.new_empty((min(step, len(index)), *values.shape[1:]))
        for part, cast in zip(index.split(step), out.split(step), strict=True):
            cast.copy_(_gather(values, part, buffer[: len(part)]))
        return out

    def narrow(self, start: int, stop: int) -> Tensor:
        """Return copies of neighbouring rows."""
        return self._cast(self.values[start:stop])

    def _cast(self, part: Tensor) -> Tensor:
        """Return a copy, contiguous and in the dtype wanted."""
        if not part.is_cpu:
            return part.to(self.dtype, copy=True, memory_format=torch.contiguous_format)
        return self.pages.empty(tuple(part.shape), self.dtype).copy_(part)


def _casts_late(values: Tensor, dtype: torch.dtype, place: Placement) -> bool:
    """Whether rows are cast as they are taken: a copy of large data would cost too much memory."""
    if dtype == values.dtype or values.nbytes <= SMALL_BYTES:
        return False
    return values.device == place.device and values.is_cpu


def _is_small(X: Any) -> bool:
    """Whether all arrays are in memory and a copy of them is no matter."""
    arrays = [array for _, array in arrays_of(X)]
    in_memory = not any(isinstance(array, np.memmap) or issparse(array) for array in arrays)
    return in_memory and sum(array.nbytes for array in arrays) <= SMALL_BYTES


def _gather(values: Tensor, index: Tensor, out: Tensor) -> Tensor:
    return torch.index_select(values, 0, index, out=out)


class _Sparse:
    """Rows of a sparse matrix, made dense when they are taken."""

    def __init__(self, matrix: csr_array) -> None:
        self.matrix = matrix
        self.row_bytes = matrix.shape[1] * matrix.dtype.itemsize

    def take(self, index: Tensor) -> Tensor:
        return torch.from_numpy(self.matrix[index.cpu().numpy()].toarray())

    def narrow(self, start: int, stop: int) -> Tensor:
        return torch.from_numpy(self.matrix[start:stop].toarray())


class Rows:
    """Rows of inputs, from which batches are gathered.

    Parameters
    ----------
    X : ndarray, Tensor or csr_array of shape (n, ...), or a dict or tuple of them
        The inputs.
    place : Placement or None
        Where the rows are wanted; None leaves them as they are.
    prepare : Preparation or None
        Changes gathered rows, as it was learned from the training rows.
    name : str
        The argument's name, for errors.
    resident : bool
        Whether to put dense arrays on the device at once. Arrays in a file, sparse ones, and
        those to be prepared on the CPU are moved as they are gathered.
    """

    def __init__(
        self,
        X: Any,
        place: Placement | None = None,
        prepare: Any = None,
        name: str = "X",
        *,
        resident: bool = True,
    ) -> None:
        self.place, self.prepare, self.name = place, prepare, name
        self.n_rows = n_rows_of(X)
        self.nested = is_nested(X)
        if resident and prepare is not None and _is_small(X):
            # once for all passes; of large data a copy would cost too much memory
            X = finish(map_arrays(as_tensor, X), place, prepare, name)
            self.prepare = None
        self.placed = True
        self.row_bytes = 0
        self.parts = map_arrays(lambda array: self._part(array, resident), X)

    def _part(self, array: Any, resident: bool) -> _Part:
        part: _Part
        if issparse(array):
            part, self.placed = _Sparse(array), False
        else:
            in_file = isinstance(array, np.memmap)
            values = as_tensor(array)
            place = self.place
            dtype = None
            if place is not None and resident and not in_file and self.prepare is None:
                dtype = self._dtype(values.dtype)
                if dtype is not None and _casts_late(values, dtype, place):
                    check_cast(values, dtype, self.name)
                else:
                    values = to_tensor(values, dtype, place.device, self.name)
            elif place is not None and resident and not in_file:
                values = values.to(place.device)  # prepared in its own dtype, then cast
                self.placed = False
            elif place is not None:
                self.placed = False
            part = Dense(values, dtype)
        self.row_bytes += part.row_bytes
        return part

    def _dtype(self, dtype: torch.dtype) -> torch.dtype | None:
        assert self.place is not None
        return self.place.of_part(dtype) if self.nested else self.place.input_dtype

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.n_rows

    def take(self, index: Tensor) -> Any:
        """Return copies of the rows with these numbers, on the device."""
        return self._finish(map_arrays(lambda part: part.take(index), self.parts))

    def narrow(self, start: int, stop: int) -> Any:
        """Return copies of neighbouring rows, on the device."""
        return self._finish(map_arrays(lambda part: part.narrow(start, stop), self.parts))

    def _finish(self, rows: Any) -> Any:
        return (
            rows if self.placed else finish(rows, self.place, self.prepare, self.name, owned=True)
        )


def finish(
    X: Any, place: Placement | None, prepare: Any, name: str = "X", *, owned: bool = False
) -> Any:
    """Prepare gathered rows and put them on the device in the dtype of the module.

    With `owned` nobody else holds them, and they may be written to.
    """
    if place is None:
        return X
    nested = is_nested(X)
    X = map_arrays(lambda part: part.to(place.device), X)
    if prepare is not None:
        X = prepare.change(X) if owned else prepare(X)

    def cast(part: Tensor) -> Tensor:
        wanted = place.of_part(part.dtype) if nested else place.input_dtype
        done = part.to(wanted)
        check_overflow(part.dtype, done, name)
        return done

    return map_arrays(cast, X)
