"""Checks of the data that `fit` and `predict` are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array, issparse
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
    _get_feature_names,
    check_array,
    validate_data,
)
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from skorchlike.data.advice import KINDS, advise
from skorchlike.data.frames import as_frame, is_frame
from skorchlike.data.rows import in_chunks
from skorchlike.exceptions import ParameterError
from skorchlike.nested import arrays_of, is_nested, n_rows_of


def check_X(estimator: Any, X: Any, *, own_module: bool, reset: bool, name: str = "X") -> Any:
    """Return inputs as the data layer takes them.

    Parameters
    ----------
    estimator : estimator
        Remembers (``reset=True``) or is asked for the number and names of the features.
    X : array-like, tensor, frame, sparse matrix, or dict or tuple of arrays
        The inputs, of shape (n_samples, n_features); arrays and tensors of more than two
        dimensions for a module of one's own only.
    own_module : bool
        Whether the module is one's own: then any number of dimensions and integers are
        kept, and no number may be missing unless ``numeric_transform`` fills it.
    reset : bool
        Whether this is a new fit.
    name : str
        The argument's name, for errors.

    Returns
    -------
    ndarray, torch.Tensor, csr_array, frame, or dict or tuple of arrays
        The checked inputs.
    """
    if X is None:
        raise ValueError(f"{name} must be {KINDS}. Got None.")
    checked = _checked(estimator, X, own_module=own_module, reset=reset, name=name)
    if reset:
        # a frame's columns are remembered, and compared, by what encodes them
        estimator._form_in_ = None if is_frame(checked) else _form_of(checked)
    else:
        check_form(estimator, checked, name)
    return checked


def _checked(estimator: Any, X: Any, *, own_module: bool, reset: bool, name: str) -> Any:
    if isinstance(X, Tensor) and X.layout is torch.strided:
        return _check_tensor(estimator, X, own_module=own_module, reset=reset, name=name)
    if is_frame(X):
        return _check_frame(estimator, X, reset=reset, name=name)
    if (isinstance(X, Mapping) and not issparse(X)) or _is_tuple_of_arrays(X):
        return _check_nested(estimator, X, reset=reset, name=name)
    if isinstance(X, Tensor):
        X = sparse_tensor(X, name)
    return _check_array(estimator, X, own_module=own_module, reset=reset, name=name)


def n_inputs(X: Any) -> int:
    """Return the number of rows of checked inputs."""
    return len(X) if is_frame(X) else n_rows_of(X)


def check_form(estimator: Any, X: Any, name: str = "X") -> None:
    """Refuse inputs of another structure than those of the fit.

    Names and numbers of dimensions are compared, and the width of a single array of two. Other
    sizes may differ, as those of images and of padded sequences do.

    Parameters
    ----------
    estimator : estimator
        Remembers the inputs of the fit.
    X : array, tensor, csr_array, frame, or dict or tuple of arrays
        Checked inputs, or those of a batch.
    name : str
        The argument's name, for errors.

    Raises
    ------
    ParameterError
        If they differ.
    """
    form = getattr(estimator, "_form_in_", None)
    if form is None:
        return
    given = _form_of(X)
    if form.keys() != given.keys():
        raise ParameterError(
            f"{name} must have the structure of the inputs of the fit, {_told(form)}. Got "
            f"{_told(given)}."
        )
    for part, shape in form.items():
        if len(given[part]) != len(shape):
            raise ParameterError(
                f"{name}{part} must have {len(shape) + 1} dimensions, rows of shape {shape} as in "
                f"the fit. Got rows of shape {given[part]}."
            )
    if isinstance(X, Tensor):
        _check_width(estimator, X, name)


def _check_width(estimator: Any, X: Any, name: str) -> None:
    try:
        _check_n_features(estimator, X, reset=False)
    except ValueError as error:
        if name == "X":
            raise
        raise ParameterError(f"{name}: {error}") from None


def _form_of(X: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of the rows of each part."""
    if is_frame(X):
        return {"": (len(X.columns),)}
    return {part: tuple(map(int, array.shape[1:])) for part, array in arrays_of(X, "")}


def _told(form: Mapping[str, Any]) -> str:
    if "" in form:
        return "one array (or a frame)"
    if "[0]" in form:
        return f"a tuple of {len(form)} arrays"
    return f"a dict of arrays with the keys {', '.join(part[1:-1] for part in form)}"


def _is_tuple_of_arrays(X: Any) -> bool:
    return isinstance(X, tuple) and bool(X) and all(isinstance(x, (np.ndarray, Tensor)) for x in X)


def _check_array(estimator: Any, X: Any, *, own_module: bool, reset: bool, name: str) -> Any:
    dtype = "numeric" if own_module else [np.float64, np.float32]
    given = X
    fills = _fills(estimator, X, own_module=own_module, reset=reset, name=name)
    refuse_kind(X, name)
    try:
        X = validate_data(
            estimator,
            X,
            reset=reset,
            dtype=dtype,
            accept_sparse="csr",
            allow_nd=own_module,
            ensure_all_finite="allow-nan" if fills and not issparse(X) else True,
        )
    except (ValueError, TypeError) as error:
        if own_module and "contains NaN" in str(error):
            raise ParameterError(_not_finite(name, "NaN", getattr(given, "ndim", 2))) from None
        advice = advise(given, error)
        if name == "X" and not advice:
            raise
        text = f"{str(error).rstrip('.')}. {advice}" if advice else error
        raise ParameterError(f"{name}: {text}") from error
    if X.dtype == np.longdouble:  # torch has no longer floats
        return X.astype(np.float64)
    if issparse(X):
        return csr_array(X)
    if isinstance(given, np.memmap) and np.shares_memory(given, X):
        return given  # told apart from arrays in memory by its class
    return X.astype(X.dtype.newbyteorder("="), copy=False)


def refuse_kind(X: Any, name: str) -> None:
    """Refuse arrays that NumPy would read as numbers, though they are none."""
    dtype = getattr(X, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "mMV":
        what = {"m": "durations", "M": "dates", "V": f"records with the fields {dtype.names}"}
        raise ParameterError(
            f"{name} is an array of {what[dtype.kind]} (dtype {dtype}). Expected numbers. Pass a "
            "frame, which may have such columns: pandas.DataFrame(X)."
        )
    if np.ma.is_masked(X):
        raise ParameterError(
            f"{name} is a masked array with {np.ma.count_masked(X)} masked values, and its mask "
            "would be lost. Fill them: X.filled(np.nan) for a built-in module, which takes "
            "missing numbers, or any other number."
        )


def sparse_tensor(X: Tensor, name: str) -> csr_array:
    """Return a sparse tensor as a sparse matrix, which has fast access to rows."""
    if X.layout not in (torch.sparse_csr, torch.sparse_coo) or X.ndim != 2:
        raise ParameterError(
            f"{name} is a sparse tensor of layout {X.layout} and shape {tuple(X.shape)}. Give one "
            "of two dimensions in CSR or COO layout, or X.to_dense()."
        )
    X, shape = X.detach().cpu(), tuple(X.shape)
    if X.layout is torch.sparse_csr:
        parts = (X.values().numpy(), X.col_indices().numpy(), X.crow_indices().numpy())
        return csr_array(parts, shape=shape)
    X = X.coalesce()
    return coo_array((X.values().numpy(), tuple(X.indices().numpy())), shape=shape).tocsr()


def _check_tensor(estimator: Any, X: Tensor, *, own_module: bool, reset: bool, name: str) -> Tensor:
    most = "two or more dimensions" if own_module else "two dimensions"
    if X.ndim < 2 or (X.ndim > 2 and not own_module):
        raise ValueError(
            f"{name} must have {most}. Got a tensor of shape {tuple(X.shape)}. Reshape your "
            "data (X.reshape(-1, 1) for one feature, X.reshape(len(X), -1) for images), or pass a "
            "module of your own, which takes any."
        )
    _check_sizes(X, name)
    if X.is_complex():
        raise ValueError(f"Complex data not supported. {name} is a tensor of {X.dtype}.")
    if X.is_floating_point():
        fills = _fills(estimator, X, own_module=own_module, reset=reset, name=name)
        good = _no_infinity if fills else torch.isfinite
        if not all(good(part).all() for part in in_chunks(X)):
            if fills:
                raise ValueError(
                    f"{name} contains infinity. Replace it by a number, or by NaN for a missing "
                    "one."
                )
            raise ParameterError(_not_finite(name, "NaN or infinity", X.ndim))
    _check_feature_names(estimator, X, reset=reset)
    if reset:
        _check_n_features(estimator, X, reset=True)
    else:
        _check_width(estimator, X, name)
    if not own_module and X.dtype not in (torch.float32, torch.float64):
        X = X.double()
    return X


def _no_infinity(X: Tensor) -> Tensor:
    return ~X.isinf()


def _fills(estimator: Any, X: Any, *, own_module: bool, reset: bool, name: str) -> bool:
    """Whether missing numbers are filled, and so may come."""
    if not own_module:
        return True
    if getattr(X, "ndim", 2) != 2:
        return False
    if name == "X" and not reset:  # as the fit did it, whatever is said since
        return estimator.model_.inputs_.preparation is not None
    said = estimator.numeric_transform
    return said is not None and not (isinstance(said, str) and said == "auto")


def _not_finite(name: str, what: str, n_dimensions: int | None = None) -> str:
    """Say what holds for a module of one's own, which gets the numbers as they are."""
    advice = "Impute or drop such rows first."
    if n_dimensions == 2:
        advice = (
            "A `module` of your own gets the numbers as they are. With "
            "numeric_transform='standard' missing ones are filled, and flagged in further columns. "
            "Or impute or drop such rows first."
        )
    return f"{name} contains {what}. {advice}"


def _check_sizes(X: Any, name: str) -> None:
    if 0 in X.shape:
        raise ValueError(
            f"{name} has 0 sample(s) or 0 feature(s) (shape={tuple(X.shape)}) while a minimum "
            "of 1 is required."
        )


def _check_frame(estimator: Any, X: Any, *, reset: bool, name: str) -> Any:
    """Remember the columns; what they hold is checked when they are encoded."""
    given, X = X, as_frame(X, name)
    if not len(X):
        raise ValueError(f"{name}: found array with 0 sample(s) while a minimum of 1 is required.")
    if not reset and not hasattr(estimator, "feature_names_in_"):
        _check_width(estimator, X, name)  # else compared by name
    if reset:
        names = X.columns
        estimator.n_features_in_ = len(names)
        if all(isinstance(column, str) for column in names):
            estimator.feature_names_in_ = np.asarray(names, dtype=object)
        else:
            _get_feature_names(given)  # scikit-learn's own error for names of several types
            vars(estimator).pop("feature_names_in_", None)
    return X


def _check_nested(estimator: Any, X: Any, *, reset: bool, name: str) -> Any:
    """Check each of several arrays; a mapping becomes a dict."""
    if isinstance(X, Mapping):
        if not X or not all(isinstance(key, str) and key.isidentifier() for key in X):
            raise ParameterError(
                f"{name}, several inputs as a dict, must have names of arguments of the module's "
                f"forward as its keys. Got {list(X)[:5]!r}."
            )
        checked: Any = {key: _check_part(X[key], f"{name}[{key!r}]") for key in X}
    else:
        checked = tuple(_check_part(part, f"{name}[{i}]") for i, part in enumerate(X))
    lengths = {part: int(array.shape[0]) for part, array in arrays_of(checked, name)}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{part} has {n}" for part, n in lengths.items())
        raise ParameterError(f"All arrays of {name} must have the same number of rows. {told}.")
    if reset:
        for attribute in ("n_features_in_", "feature_names_in_"):
            vars(estimator).pop(attribute, None)
    return checked


def _check_part(array: Any, name: str) -> Any:
    if (
        array is None
        or isinstance(array, (Mapping, Dataset, DataLoader))
        or (is_frame(array) or is_nested(array))
    ):
        raise ParameterError(
            f"{name} must be an array or a tensor. Got a {type(array).__name__}: give several "
            "inputs as one flat dict or tuple of arrays; a frame goes alone, as X itself."
        )
    if isinstance(array, Tensor) and array.layout is torch.strided:
        if not array.ndim:
            raise ParameterError(f"{name} must have rows. Got a tensor of shape ().")
        _check_sizes(array, name)
        if array.is_complex():
            raise ParameterError(f"Complex data not supported. {name} is of {array.dtype}.")
        if array.is_floating_point() and not all(
            torch.isfinite(part).all() for part in in_chunks(array)
        ):
            raise ValueError(_not_finite(name, "NaN or infinity"))
        return array
    if isinstance(array, Tensor):
        return sparse_tensor(array, name)
    refuse_kind(array, name)
    try:
        checked = check_array(
            array, accept_sparse="csr", ensure_2d=False, allow_nd=True, input_name=name
        )
    except (ValueError, TypeError) as error:
        raise ParameterError(f"{name}: {error}") from error
    if issparse(checked):
        return csr_array(checked)
    if isinstance(array, np.memmap) and np.shares_memory(array, checked):
        return array
    return checked


def check_weight(sample_weight: Any, n_rows: int, name: str = "sample_weight") -> np.ndarray | None:
    """Return weights as an ndarray of shape (n,), finite and not negative; None as None."""
    if sample_weight is None:
        return None
    sample_weight = as_numpy(sample_weight)
    stand_in = np.empty((n_rows, 1))  # tells the number of rows only
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
    y = y.detach().float() if y.dtype is torch.bfloat16 else y  # NumPy has no bfloat16
    return y.numpy(force=True)


def check_lengths(n_rows: int, n_targets: int, names: str, X: Any = None) -> None:
    """Refuse inputs and targets of different lengths; X as it was given is for advice alone."""
    if n_rows == n_targets:
        return
    advice, shape = "", np.shape(X) if isinstance(X, (np.ndarray, Tensor)) else ()
    if len(shape) == 2 and shape[1] == n_targets:
        advice = f". X has the shape {tuple(shape)}: pass X.T if its rows are the features."
    if isinstance(X, (list, tuple)) and all(
        hasattr(part, "__len__") and len(part) == n_targets for part in X
    ):
        advice = ". For several inputs pass a tuple of arrays: X = tuple(map(np.asarray, X))."
    raise ParameterError(
        f"{names} must have the same number of rows. Found input variables with inconsistent "
        f"numbers of samples: [{n_rows}, {n_targets}]{advice}"
    )
