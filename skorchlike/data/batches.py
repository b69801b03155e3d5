"""The training and validation batches of one fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skorchlike.data.arrays import ArrayBatches, to_tensor
from skorchlike.data.split import split_rows
from skorchlike.exceptions import ParameterError

AUTO_BATCH_SIZE = 200
AUTO_PREDICT_BATCH_SIZE = 1024


@dataclass
class FitData:
    """Checked data of one fit.

    Attributes
    ----------
    X : ndarray or torch.Tensor of shape (n, ...)
        Inputs.
    y : ndarray of shape (n,) or (n, n_outputs)
        Encoded labels, or numbers in columns.
    sample_weight : ndarray of shape (n,) or None
        Weights.
    X_val, y_val, sample_weight_val : the same, or None
        Validation data that were given.
    labels : bool
        Whether `y` holds encoded labels.
    """

    X: Any
    y: np.ndarray
    sample_weight: np.ndarray | None
    X_val: Any = None
    y_val: np.ndarray | None = None
    sample_weight_val: np.ndarray | None = None
    labels: bool = True


@dataclass
class Placement:
    """Where and as what the data are wanted.

    Attributes
    ----------
    device : torch.device
        The device of the module.
    input_dtype : torch.dtype or None
        The dtype of the inputs; None keeps theirs.
    dtype : torch.dtype
        The dtype of targets that are numbers, and of weights.
    """

    device: torch.device
    input_dtype: torch.dtype | None
    dtype: torch.dtype


@dataclass
class Batching:
    """How rows become batches: the estimator's parameters of that name."""

    batch_size: int | str
    predict_batch_size: int | str
    shuffle: bool
    drop_last: bool
    validation_fraction: float | None


def make_batches(
    data: FitData,
    place: Placement,
    how: Batching,
    generator: torch.Generator,
    split_seed: int,
) -> tuple[ArrayBatches, ArrayBatches | None]:
    """Put the data on the device and tell training and validation rows apart.

    Rows of weight 0 are left out first: they are as good as absent, whatever the batch
    size.

    Returns
    -------
    train, valid : ArrayBatches
        ``valid`` is None without validation.
    """
    rows = _rows_with_weight(data.sample_weight, "sample_weight")
    valid_rows = None
    if data.X_val is None and how.validation_fraction is not None:
        rows = np.arange(len(data.X)) if rows is None else rows
        labels = data.y[rows] if data.labels else None
        rows, valid_rows = split_rows(rows, how.validation_fraction, split_seed, labels)
    tensors = _tensors((data.X, data.y, data.sample_weight), data.labels, place, "")
    n_rows = len(data.X) if rows is None else len(rows)
    train = ArrayBatches(
        *tensors,
        resolve_batch_size(how.batch_size, n_rows, AUTO_BATCH_SIZE),
        rows=_index(rows, place.device),
        generator=generator if how.shuffle else None,
        drop_last=how.drop_last,
    )
    if data.X_val is not None:
        valid_rows = _rows_with_weight(data.sample_weight_val, "sample_weight_val")
        given = (data.X_val, data.y_val, data.sample_weight_val)
        tensors = _tensors(given, data.labels, place, "_val")
    elif valid_rows is None:
        return train, None
    n_valid = len(tensors[0]) if valid_rows is None else len(valid_rows)
    size = resolve_batch_size(how.predict_batch_size, n_valid, AUTO_PREDICT_BATCH_SIZE)
    return train, ArrayBatches(*tensors, size, rows=_index(valid_rows, place.device))


def resolve_batch_size(batch_size: int | str, n_rows: int, auto: int) -> int:
    """Return the number of rows a batch: ``"auto"`` is at most `auto`, -1 all rows."""
    if batch_size == "auto":
        return max(1, min(auto, n_rows))
    return n_rows if batch_size == -1 else int(batch_size)


def _tensors(
    data: Sequence[Any], labels: bool, place: Placement, suffix: str
) -> tuple[Any, Any, Any]:
    X, y, sample_weight = data
    X = to_tensor(X, place.input_dtype, place.device, f"X{suffix}")
    y = to_tensor(y, torch.int64 if labels else place.dtype, place.device, f"y{suffix}")
    if sample_weight is None:
        return X, y, None
    name = f"sample_weight{suffix}"
    weight = to_tensor(sample_weight, place.dtype, place.device, name)
    positive = weight[to_tensor(sample_weight > 0, None, place.device)]
    if (positive < torch.finfo(place.dtype).tiny).any() or not torch.isfinite(weight.sum()):
        raise ParameterError(
            f"The values of {name}, up to {sample_weight.max():g}, are too small or too large for "
            f"{place.dtype}. Scale them, for example to a mean of 1."
        )
    return X, y, weight


def _rows_with_weight(sample_weight: np.ndarray | None, name: str) -> np.ndarray | None:
    if sample_weight is None or sample_weight.all():
        return None
    rows = np.flatnonzero(sample_weight)
    if not len(rows):
        raise ParameterError(f"All values of {name} are 0. At least one must be positive.")
    return rows


def _index(rows: np.ndarray | None, device: torch.device) -> torch.Tensor | None:
    return None if rows is None else torch.from_numpy(rows).to(device)
