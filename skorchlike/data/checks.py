"""Checks of the data that `fit` and `predict` are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
    check_consistent_length,
    validate_data,
)
from torch import Tensor

from skorchlike.exceptions import ParameterError


def check_X(estimator: Any, X: Any, *, own_module: bool, reset: bool, name: str = "X") -> Any:
    """Return inputs as an ndarray or tensor of numbers, at least two-dimensional.

    Parameters
    ----------
    estimator : estimator
        Remembers (``reset=True``) or is asked for the number and names of the features.
    X : array-like or torch.Tensor of shape (n, n_features) or (n, ...)
        The inputs; more than two dimensions for a module of one's own only.
    own_module : bool
        Whether the module is one's own: then any number of dimensions and integers are
        kept.
    reset : bool
        Whether this is a new fit.
    name : str
        The argument's name, for errors.

    Returns
    -------
    ndarray or torch.Tensor
        The checked inputs.
    """
    if X is None:
        raise ValueError(f"{name} must be an array, a tensor or a numeric DataFrame. Got None.")
    if isinstance(X, Tensor):
        return _check_tensor(estimator, X, own_module=own_module, reset=reset, name=name)
    if isinstance(X, (torch.utils.data.Dataset, torch.utils.data.DataLoader)):
        raise ParameterError(
            f"{name} must be an array, a tensor or a numeric DataFrame. Got a "
            f"{type(X).__name__}, which is not supported yet: pass its arrays as X and y."
        )
    dtype = "numeric" if own_module else [np.float64, np.float32]
    try:
        X = validate_data(estimator, X, reset=reset, dtype=dtype, order="C", allow_nd=own_module)
    except ValueError as error:
        if name == "X":
            raise
        raise ParameterError(f"{name}: {error}") from error
    if X.dtype == np.longdouble:  # torch has no longer floats
        return X.astype(np.float64)
    return X.astype(X.dtype.newbyteorder("="), copy=False)


def _check_tensor(estimator: Any, X: Tensor, *, own_module: bool, reset: bool, name: str) -> Tensor:
    most = "two or more dimensions" if own_module else "two dimensions"
    if X.ndim < 2 or (X.ndim > 2 and not own_module):
        raise ValueError(
            f"{name} must have {most}. Got a tensor of shape {tuple(X.shape)}. Reshape your "
            "data (X.reshape(-1, 1) for one feature, X.reshape(len(X), -1) for images), or pass a "
            "module of your own, which takes any."
        )
    if X.layout is not torch.strided:
        raise ValueError(f"{name} is a sparse tensor, which is not supported: use X.to_dense().")
    if 0 in X.shape:
        raise ValueError(
            f"{name} has 0 sample(s) or 0 feature(s) (shape={tuple(X.shape)}) while a minimum "
            "of 1 is required."
        )
    if X.is_complex():
        raise ValueError(f"Complex data not supported. {name} is a tensor of {X.dtype}.")
    if X.is_floating_point() and not torch.isfinite(X).all():
        raise ValueError(f"{name} contains NaN or infinity. Impute or drop such rows first.")
    _check_feature_names(estimator, X, reset=reset)
    _check_n_features(estimator, X, reset=reset)
    if not own_module and X.dtype not in (torch.float32, torch.float64):
        X = X.double()
    return X


def check_weight(sample_weight: Any, X: Any, name: str = "sample_weight") -> np.ndarray | None:
    """Return weights as an ndarray of shape (n,), finite and not negative; None as None."""
    if sample_weight is None:
        return None
    sample_weight = as_numpy(sample_weight)
    stand_in = np.empty((len(X), 1))  # tells the number of rows only
    try:
        return _check_sample_weight(
            sample_weight, stand_in, dtype=np.float64, ensure_non_negative=True
        )
    except (ValueError, TypeError) as error:
        raise ParameterError(f"{name}: {error}") from error


def as_numpy(y: Any) -> Any:
    """Return a tensor as an ndarray, anything else as it is."""
    if not isinstance(y, Tensor):
        return y
    y = y.detach().cpu()
    return (y.float() if y.dtype is torch.bfloat16 else y).numpy()  # NumPy has no bfloat16


def check_lengths(X: Any, y: Any, names: str) -> None:
    """Refuse inputs and targets of different lengths."""
    try:
        check_consistent_length(X, y)
    except ValueError as error:
        raise ParameterError(f"{names} must have the same number of rows. {error}") from None
