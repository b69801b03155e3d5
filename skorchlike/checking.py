"""All data of a fit, checked before anything is built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from skorchlike.data.advice import advise_on_rows
from skorchlike.data.batches import AUTO_BATCH_SIZE, FitData
from skorchlike.data.checks import check_lengths, check_weight, check_X, n_inputs
from skorchlike.data.frames import is_frame
from skorchlike.data.loading import LoaderBatches, is_loader
from skorchlike.data.peeking import (
    ORDER_OPTIONS,
    collect_targets,
    first_batch,
    gather_targets,
    tensors_of,
)
from skorchlike.data.sampling import check_options
from skorchlike.exceptions import ParameterError
from skorchlike.nested import is_nested
from skorchlike.params.components import follows_input_dtype


def check_fit_data(
    estimator: Any, data: Mapping[str, Any], *, reset: bool, classes: Any
) -> FitData:
    """Check all data of a fit, and learn what the target is like.

    Parameters
    ----------
    estimator : BaseNeuralNet
        Learns the number of features and what the target is like.
    data : mapping
        X, y, sample_weight, X_val, y_val, sample_weight_val as `fit` was given them.
    reset : bool
        Whether this is a new fit.
    classes : array-like or None
        All labels, where they were said.

    Returns
    -------
    FitData
        The checked data.
    """
    own = estimator.module is not None and not follows_input_dtype(estimator.module)
    for prefix in ("train_loader", "valid_loader"):
        make_loader = getattr(estimator, prefix)
        check_options(
            DataLoader if make_loader is None else make_loader, estimator._said_to(prefix), prefix
        )
    given = _unpacked(data, "")
    given.update(_unpacked(data, "_val"))
    if is_loader(given["X"]):
        checked = _check_loader(estimator, given["X"], own=own, reset=reset, classes=classes)
    else:
        checked = _check_arrays(estimator, given, own=own, reset=reset, classes=classes)
    _check_validation(estimator, given, checked, own=own)
    return checked


def _unpacked(data: Mapping[str, Any], suffix: str) -> dict[str, Any]:
    """Return X, y and sample_weight, taken out of a dataset of tensors if that is X."""
    names = [f"{name}{suffix}" for name in ("X", "y", "sample_weight")]
    X, y, weight = (data[name] for name in names)
    if is_loader(X):
        if y is not None or weight is not None:
            name = names[1] if y is not None else names[2]
            raise ParameterError(
                f"{names[0]} (of class {type(X).__name__}) holds the targets and weights itself, "
                f"as (X, y) or (X, y, sample_weight). Leave out {name}."
            )
        tensors = tensors_of(X)
        if tensors is not None and len(tensors) > 1:
            X, y, weight = (*tensors, None)[:3]
    return dict(zip(names, (X, y, weight), strict=True))


def _check_arrays(
    estimator: Any, given: Mapping[str, Any], *, own: bool, reset: bool, classes: Any
) -> FitData:
    X, y = given["X"], given["y"]
    if y is None:
        advice = advise_on_rows(X)
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target "
            f"y is None. A torch Dataset or DataLoader as X holds it. Got a {type(X).__name__}."
            f"{' ' if advice else ''}{advice}"
        )
    _check_kind_of_target(y, "y", X)
    if len(_shape(X)) == 1 and len(_shape(y)) == 2 and len(X) == len(y):
        raise ParameterError(
            f"X has the shape {_shape(X)} and y {_shape(y)}: they seem to be swapped. Call "
            "fit(X, y). (For one feature reshape: X.reshape(-1, 1).)"
        )
    X, as_given = check_X(estimator, X, own_module=own, reset=reset), X
    _check_inputs_of_built_in(estimator, X)
    n_rows = n_inputs(X)
    if _shape(y):
        check_lengths(n_rows, _shape(y)[0], "X and y", as_given)
    y = estimator._encode_target(y, "y", learn=reset, classes=classes)
    check_lengths(n_rows, len(y), "X and y")
    weight = check_weight(given["sample_weight"], n_rows)
    data = FitData(X, y, weight, labels=np.issubdtype(y.dtype, np.integer))
    data.classes = getattr(estimator, "classes_", None)
    return data


def _shape(array: Any) -> tuple[int, ...]:
    """Return the shape of an array as far as it shows."""
    shape = getattr(array, "shape", None)
    return tuple(shape) if isinstance(shape, tuple) else ()


def _check_kind_of_target(y: Any, name: str, X: Any) -> None:
    """Refuse what is no array of targets, before NumPy makes one of it."""
    no_array = isinstance(y, (str, bytes, Mapping, Set, Iterator)) or is_loader(y)
    if not no_array and not callable(y):
        return
    advice = ""
    if isinstance(y, str) and is_frame(X):
        advice = f" For a column of a frame pass it apart: {name}=X[{y!r}], without it in X."
    elif isinstance(y, Iterator):
        advice = f" Pass list({name})."
    elif is_loader(y):
        advice = " A torch Dataset or DataLoader goes in as X, and holds the targets itself."
    raise ParameterError(
        f"{name} must be an array, tensor, list or column of a target for each row. Got "
        f"{f'the string {y!r:.40}' if isinstance(y, str) else f'a {type(y).__name__}'}.{advice}"
    )


def _check_inputs_of_built_in(estimator: Any, X: Any) -> None:
    """Refuse several inputs that a module of this package has no arguments for."""
    if not is_nested(X) or not (estimator.module is None or isinstance(estimator.module, str)):
        return
    if isinstance(X, dict) and X.keys() <= {"numeric", "categorical"}:
        return
    if isinstance(X, tuple) and "n_features_in" in estimator._said_to("module"):
        return
    came = f"a dict of {', '.join(X)}" if isinstance(X, dict) else f"a tuple of {len(X)} arrays"
    raise ParameterError(
        f"The built-in module {estimator.module or 'mlp'!r} takes columns: an array, a frame, or a "
        f"dict of `numeric` and `categorical`. Got X as {came}. Join them to one array or frame, "
        "or pass a `module` of your own, whose forward takes them."
    )


def _check_loader(estimator: Any, X: Any, *, own: bool, reset: bool, classes: Any) -> FitData:
    """Read the first batch, and all labels where they are to be learned."""
    said = {
        "options": estimator._said_to("train_loader"),
        "make_loader": estimator.train_loader or DataLoader,
    }
    shown, y, weight = first_batch(X, 2, **said)
    weights = None
    check_X(estimator, shown, own_module=own, reset=reset)
    _check_inputs_of_built_in(estimator, shown)
    looks = reset and classes is None and estimator._learns_labels()
    if looks and weight is None:
        y = collect_targets(X, AUTO_BATCH_SIZE, **said)
    elif looks:
        options = {k: v for k, v in said["options"].items() if k not in ORDER_OPTIONS}
        said["options"] = options
        y, weights = gather_targets(LoaderBatches(X, AUTO_BATCH_SIZE, **said))
    y = estimator._encode_target(y, "y", learn=reset, classes=classes)
    labels = np.issubdtype(y.dtype, np.integer)
    data = FitData(X, y if looks else None, weights, labels=labels, first_inputs=shown)
    data.classes = getattr(estimator, "classes_", None)
    return data


def _check_validation(
    estimator: Any, given: Mapping[str, Any], checked: FitData, *, own: bool
) -> None:
    X_val, y_val = given["X_val"], given["y_val"]
    weight = given["sample_weight_val"]
    if is_loader(X_val):
        _check_valid_loader(estimator, X_val, own=own)
        checked.X_val = X_val
        return
    if (X_val is None) != (y_val is None):
        missing = "y_val" if y_val is None else "X_val"
        raise ParameterError(f"X_val and y_val go together. Got no {missing}.")
    if X_val is None and weight is not None:
        raise ParameterError("sample_weight_val needs X_val and y_val. Got neither.")
    if X_val is None:
        return
    _check_kind_of_target(y_val, "y_val", X_val)
    X_val = check_X(estimator, X_val, own_module=own, reset=False, name="X_val")
    checked.X_val = X_val
    if _shape(y_val):
        check_lengths(n_inputs(X_val), _shape(y_val)[0], "X_val and y_val")
    checked.y_val = estimator._encode_target(y_val, "y_val")
    n_val = n_inputs(X_val)
    check_lengths(n_val, len(checked.y_val), "X_val and y_val")
    checked.sample_weight_val = check_weight(weight, n_val, "sample_weight_val")


def _check_valid_loader(estimator: Any, X_val: Any, *, own: bool) -> None:
    """Read the first batch: what is wrong in it shows before training."""
    shown, y, _ = first_batch(
        X_val,
        2,
        estimator._said_to("valid_loader"),
        make_loader=estimator.valid_loader or DataLoader,
        name="X_val",
        prefix="valid_loader",
    )
    check_X(estimator, shown, own_module=own, reset=False, name="X_val")
    estimator._encode_target(y, "y_val")
