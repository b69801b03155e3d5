"""Inputs of one array, or of several in a dict or tuple."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def is_nested(X: Any) -> bool:
    """Whether inputs are several arrays: a mapping, or a tuple, of them."""
    return isinstance(X, (dict, tuple))


def map_arrays(function: Callable[[Any], Any], X: Any) -> Any:
    """Apply a function to each array and keep the structure."""
    if isinstance(X, dict):
        return {name: map_arrays(function, part) for name, part in X.items()}
    if isinstance(X, tuple):
        return tuple(map_arrays(function, part) for part in X)
    return function(X)


def arrays_of(X: Any, name: str = "X") -> Iterator[tuple[str, Any]]:
    """Yield each array with a name for errors, such as ``X['image']`` or ``X[0]``."""
    if not is_nested(X):
        yield name, X
        return
    for key, part in X.items() if isinstance(X, dict) else enumerate(X):
        yield from arrays_of(part, f"{name}[{key!r}]")


def first_array(X: Any) -> Any:
    """Return the first array."""
    return next(arrays_of(X))[1]


def main_output(y_pred: Any) -> Any:
    """Return the first of a module's outputs: the one that predictions are made of."""
    if isinstance(y_pred, Mapping):
        return next(iter(y_pred.values()), None)
    return y_pred[0] if isinstance(y_pred, (tuple, list)) and y_pred else y_pred


def n_rows_of(X: Any) -> int:
    """Return the number of rows; of a sparse matrix too."""
    return int(first_array(X).shape[0])


def split(X: Any, size: int) -> Iterator[Any]:
    """Cut tensors into pieces of so many rows; the structure stays."""
    if isinstance(X, Tensor):
        return iter(X.split(size))
    if isinstance(X, dict):
        pieces = zip(*(split(part, size) for part in X.values()), strict=True)
        return (dict(zip(X, piece, strict=True)) for piece in pieces)
    return zip(*(split(part, size) for part in X), strict=True)


def take(X: Any, index: Tensor) -> Any:
    """Return copies of the rows with these numbers."""
    return map_arrays(lambda part: torch.index_select(part, 0, index), X)


def concatenate(batches: list[Any]) -> Any:
    """Join the rows of batches; the structure stays."""
    first = batches[0]
    if isinstance(first, dict):
        return {name: concatenate([batch[name] for batch in batches]) for name in first}
    if isinstance(first, tuple):
        return tuple(concatenate(list(parts)) for parts in zip(*batches, strict=True))
    return first if len(batches) == 1 else torch.cat(batches)
