"""The data of one fit, and how they become batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

AUTO_BATCH_SIZE = 200
AUTO_PREDICT_BATCH_SIZE = 1024


@dataclass
class FitData:
    """Checked data of one fit.

    Attributes
    ----------
    X : frame, array, csr_array, dict or tuple of arrays, Dataset or DataLoader
        Inputs of n rows.
    y : ndarray of shape (n,) or (n, n_outputs), or None
        Encoded labels (in a small dtype), several a row as booleans, or numbers in columns; None
        where they come batch by batch.
    sample_weight : ndarray of shape (n,) or None
        Weights.
    X_val, y_val, sample_weight_val : the same, or None
        Validation data that were given.
    labels : bool
        Whether targets are encoded labels.
    first_inputs : array, or dict or tuple of arrays, or None
        The first batch of inputs of a dataset or loader.
    classes : ndarray of shape (n_classes,) or None
        What encoded labels stand for, for errors.
    """

    X: Any
    y: Any
    sample_weight: np.ndarray | None
    X_val: Any = None
    y_val: np.ndarray | None = None
    sample_weight_val: np.ndarray | None = None
    labels: bool = True
    first_inputs: Any = None
    classes: Any = None


@dataclass
class Batching:
    """How rows become batches: the estimator's parameters of that name."""

    batch_size: int | str
    predict_batch_size: int | str
    shuffle: bool
    drop_last: bool
    validation_fraction: float | None
    train_loader: Any = None
    valid_loader: Any = None
    train_options: dict[str, Any] = field(default_factory=dict)
    valid_options: dict[str, Any] = field(default_factory=dict)


def resolve_batch_size(batch_size: int | str, n_rows: int, auto: int) -> int:
    """Return the number of rows a batch: ``"auto"`` is at most `auto`, -1 all rows."""
    if batch_size == "auto":
        return max(1, min(auto, n_rows))
    return n_rows if batch_size == -1 else int(batch_size)
