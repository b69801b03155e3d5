"""What the batches of a dataset or data loader hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data._utils.collate import collate, default_collate_fn_map

from skorchlike.data.rows import as_tensor
from skorchlike.exceptions import ParameterError
from skorchlike.nested import arrays_of


def read_batch(
    batch: Any, *, with_target: bool = True, name: str = "X", prefix: str = "train_loader"
) -> tuple[Any, Any, Any, int]:
    """Tell inputs, targets and weights of a batch apart, and check that they belong together.

    Parameters
    ----------
    batch : object
        What a loader yielded: (X, y) or (X, y, sample_weight), where X is a tensor or array, or
        a dict or tuple of them.
    with_target : bool
        Whether the targets are wanted. Without, X alone or (X,) are taken too, and targets and
        weights are not looked at.
    name : str
        The argument's name, for errors.
    prefix : str
        The prefix of the loader's parameters, for errors.

    Returns
    -------
    X : torch.Tensor, or a dict or tuple of them
        Inputs, not views of the data.
    y : torch.Tensor, ndarray of str, or None
        Targets.
    sample_weight : torch.Tensor of shape (n,) or None
        Weights.
    n : int
        Number of rows.

    Raises
    ------
    ParameterError
        If the batch has another structure, or its parts differ in their number of rows.

    Examples
    --------
    >>> import torch
    >>> X, y, sample_weight, n = read_batch([{"a": torch.zeros(5, 2)}, torch.arange(5)])
    >>> sorted(X), len(y), sample_weight, n
    (['a'], 5, None, 5)
    """
    X, y, weight = _parts(batch, with_target, name, prefix)
    X = _inputs(X, name)
    if isinstance(X, Tensor) and X.ndim == 1:
        raise ParameterError(
            f"Items of the data given as {name} must hold an X of at least one dimension. Got "
            "single numbers. Return x.reshape(1), or a dict such as {'x': x} for a module that "
            "takes numbers by name."
        )
    parts = dict(arrays_of(X))
    if y is not None:
        parts["y"] = y = _target(y, name)
    if weight is not None:
        parts["sample_weight"] = weight = _leaf(weight, "sample_weight", name)
        if weight.ndim != 1:
            raise ParameterError(
                f"Each item of the data given as {name} must have one number as sample_weight. "
                f"Got {describe(weight)} for a batch."
            )
    lengths = {part: len(values) for part, values in parts.items()}
    if len(set(lengths.values())) != 1:
        raise ParameterError(
            f"A batch of the data given as {name} has parts of different numbers of rows: "
            f"{', '.join(f'{part} has {n}' for part, n in lengths.items())}. All must have the "
            "same number in their first dimension."
        )
    return X, y, weight, lengths.popitem()[1]


def check_numbers(X: Any, sample_weight: Any, name: str) -> None:
    """Refuse infinite inputs, and weights that cannot weigh.

    Raises
    ------
    ParameterError
        If there are any.
    """
    for part, values in arrays_of(X):
        if not _all_finite(values) and values.isinf().any():
            raise ParameterError(
                f"{part} in a batch of the data given as {name} contains infinity. Replace it, in "
                "the dataset, by a number."
            )
    if sample_weight is None:
        return
    low, high = float(sample_weight.min()), float(sample_weight.max())
    if not (low >= 0 and 0 < high < float("inf")):
        wrong = "are all 0" if low == high == 0 else f"go from {low:g} to {high:g}"
        raise ParameterError(
            f"The weights in a batch of the data given as {name} {wrong}. They must be finite, "
            "none negative, and one at least positive: leave rows without weight out of the data."
        )


def check_no_holes(X: Any, name: str) -> None:
    """Refuse inputs with missing numbers where nothing has filled them.

    Raises
    ------
    ParameterError
        If there are any.
    """
    for part, values in arrays_of(X):
        if not _all_finite(values) and values.isnan().any():
            raise ParameterError(
                f"{part} in a batch of the data given as {name} contains NaN. Fill missing numbers "
                "in the dataset. (Columns of numbers are filled for the built-in modules, and with "
                "numeric_transform='standard' for a module of your own.)"
            )


def _all_finite(values: Tensor) -> bool:
    """Whether it is sure that all are: one sum is the fastest look at them."""
    return not values.is_floating_point() or bool(values.sum().isfinite())


def describe(value: Any) -> str:
    """Say in words what came instead of what was expected."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, Mapping):
        return f"a dict with keys {', '.join(map(repr, value)) or '(none)'}"
    if isinstance(value, (tuple, list)):
        of_strings = " strings" if value and all(isinstance(v, str) for v in value) else ""
        return f"a {'tuple' if isinstance(value, tuple) else 'list'} of {len(value)}{of_strings}"
    return "None" if value is None else f"an object of class {type(value).__name__} ({value!r:.40})"


def describe_parts(X: Any, y: Any, weight: Any) -> str:
    """Say in words of what a batch consists."""
    parts = [*arrays_of(X), ("y", y), ("sample_weight", weight)]
    return "; ".join(f"{part} {describe(value)}" for part, value in parts if value is not None)


def _parts(batch: Any, with_target: bool, name: str, prefix: str) -> tuple[Any, Any, Any]:
    if isinstance(batch, (tuple, list)) and len(batch) in (2, 3):
        y, weight = batch[1], batch[2] if len(batch) == 3 else None
        if not with_target:
            return batch[0], None, None
        if y is not None:
            return batch[0], y, weight
    elif not with_target and isinstance(batch, (tuple, list)) and len(batch) == 1:
        return batch[0], None, None
    elif not with_target and isinstance(batch, (Tensor, np.ndarray, Mapping)):
        return batch, None, None
    wanted = "(X, y) or (X, y, sample_weight)" if with_target else "X, (X,) or (X, y)"
    raise ParameterError(
        f"The data given as {name} must yield {wanted}, where X is a tensor or array, or a dict "
        f"or tuple of them. Got {describe(batch)}. Return such a tuple from __getitem__ (or "
        f"__iter__), or from a function of your own that makes batches, {prefix}__collate_fn."
    )


def _inputs(X: Any, name: str, where: str = "X") -> Any:
    if isinstance(X, Mapping):
        if not X or not all(isinstance(key, str) for key in X):
            raise ParameterError(
                f"A dict as {where} in the data given as {name} must have the names of forward's "
                f"arguments as its keys. Got {describe(X)}."
            )
        return {key: _inputs(part, name, f"{where}[{key!r}]") for key, part in X.items()}
    if isinstance(X, (tuple, list)) and X and not all(isinstance(part, str) for part in X):
        return tuple(_inputs(part, name, f"{where}[{i}]") for i, part in enumerate(X))
    return _leaf(X, where, name)


def _leaf(value: Any, where: str, name: str) -> Tensor:
    """Return a copy: a module may write to it, and the source may use its memory anew."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" and value.ndim:
        return as_tensor(value.copy())
    if isinstance(value, Tensor) and value.ndim:
        return value.detach().clone()
    raise ParameterError(
        f"{where} in a batch of the data given as {name} must be a tensor, or an array of numbers, "
        f"with the rows of the batch in its first dimension. Got {describe(value)}."
    )


def _target(y: Any, name: str) -> Any:
    if isinstance(y, (tuple, list)) and y and all(isinstance(label, str) for label in y):
        return np.asarray(y)
    if isinstance(y, np.ndarray) and y.dtype.kind in "OU" and y.ndim == 1:
        return y
    return _leaf(y, "y", name)


def structure_of(X: Any) -> Any:
    """Return what must be the same in all batches: names, order, numbers of dimensions."""
    if isinstance(X, dict):
        return {key: structure_of(part) for key, part in X.items()}
    return tuple(map(structure_of, X)) if isinstance(X, tuple) else X.ndim


def collate_items(items: Any) -> Any:
    """Stack a list of items as torch does, and take a ready batch as it is.

    A dataset's ``__getitems__`` may return a list of items, or at once a tuple, dict, tensor or
    array of stacked rows.

    Examples
    --------
    >>> import numpy as np
    >>> collate_items([(np.zeros(2), 0), (np.ones(2), 1)])[1]
    tensor([0, 1])
    """
    if not isinstance(items, list):
        return items
    try:
        return collate(items, collate_fn_map=_COLLATE)
    except (TypeError, ValueError, RuntimeError, KeyError) as error:
        differ = next((item for item in items if describe(item) != describe(items[0])), None)
        other = "" if differ is None else f", another {describe(differ)}"
        raise ParameterError(
            f"The items of a batch cannot be stacked: {str(error).rstrip('.')}. The first item is "
            f"{describe(items[0])}{other}. Items must hold tensors, arrays or numbers of one "
            "shape; for sequences of different lengths see PadCollate."
        ) from error


def _stack_arrays(arrays: Any, *, collate_fn_map: Any = None) -> Tensor:
    return as_tensor(np.stack(arrays))  # read-only ones too, such as rows of a file


# a copy: torch's own map is for all who use torch
_COLLATE: Any = {**default_collate_fn_map, np.ndarray: _stack_arrays}
