"""Labels as users give them: one a row, several a row, or probabilities of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d

from skorchlike.exceptions import ParameterError
from skorchlike.targets.missing import refuse_missing
from skorchlike.training.matching import LABELS, MULTI_LABEL, SOFT


def read_labels(
    y: Any, name: str, estimator: Any = None, *, learn: bool = True
) -> tuple[str, np.ndarray]:
    """Tell which kind of target this is, and return it checked.

    Parameters
    ----------
    y : array-like or sparse matrix of shape (n,) or (n, k)
        A label a row; k >= 2 columns of integers or booleans, 0 or 1, are several labels
        a row; of floats, the probabilities of k classes.
    name : str
        The argument's name, for errors.
    estimator : estimator, optional
        Whose argument it is, for errors.
    learn : bool, default=True
        Whether the labels are to be learned; else they are compared with known ones, and
        may be few and of many classes, as in a batch.

    Returns
    -------
    kind : {"labels", "multi-label", "soft labels"}
        What it is.
    y : ndarray of shape (n,) or (n, k)
        The labels as they are, or floats.

    Raises
    ------
    ParameterError
        If it is none of the three, or a label is missing.
    """
    refuse_missing(y, name, "labels")
    of_integers = _has_integer_columns(y)
    if hasattr(y, "toarray"):  # sparse, as scikit-learn may make several labels a row
        y = y.toarray()
    y = check_array(y, ensure_2d=False, dtype=None, input_name=name, estimator=estimator)
    if y.ndim == 1 or y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
        if learn:
            _check_sortable(y, name)
        return LABELS, y
    if y.dtype.kind == "O":
        y = np.asarray(y.tolist())  # of Python's own numbers, or of frames of several dtypes
    if of_integers or y.dtype.kind in "biu":
        return MULTI_LABEL, _several_a_row(y, name)
    if y.dtype.kind == "f":
        return SOFT, _probabilities(y, name)
    raise ParameterError(
        f"{name} must be one label a row, of shape (n,). Got shape {y.shape} of {y.dtype}: for "
        "several labels a row pass integers or booleans, 1 where a row has the label, as "
        "sklearn.preprocessing.MultiLabelBinarizer makes them."
    )


def _has_integer_columns(y: Any) -> bool:
    """Whether y is a frame of integers or booleans; nullable ones would become floats."""
    dtypes = getattr(y, "dtypes", None)
    kinds = [getattr(dtype, "kind", "") for dtype in np.atleast_1d(np.asarray(dtypes, object))]
    return dtypes is not None and all(kind in ("b", "i", "u") for kind in kinds)


def _check_sortable(y: np.ndarray, name: str) -> None:
    try:
        check_classification_targets(y)
    except TypeError as error:
        raise ParameterError(
            f"{name} has labels of several types, which cannot be sorted: {error}. Make "
            "them all numbers or all strings."
        ) from error


def _several_a_row(y: np.ndarray, name: str) -> np.ndarray:
    wrong = ~((y == 0) | (y == 1))
    if wrong.any():
        raise ParameterError(
            f"{name} of shape {y.shape} has values other than 0 and 1, such as {y[wrong][0]}. "
            "Several labels a row (multi-label) are 0 or 1 in a column for each label. Several "
            "targets of more than two classes are not supported: fit a classifier for each, or "
            "use sklearn.multioutput.MultiOutputClassifier."
        )
    return y.astype(np.float32)


def _probabilities(y: np.ndarray, name: str) -> np.ndarray:
    # single precision that was cast to double keeps its errors
    tolerance = max(float(np.sqrt(np.finfo(y.dtype).eps)), 1e-6)
    if y.dtype not in (np.float32, np.float64):
        y = y.astype(np.float32 if y.dtype == np.float16 else np.float64)
    sums = y.sum(axis=1)
    wrong = np.flatnonzero(~(np.abs(sums - 1) <= tolerance) | (y < 0).any(axis=1))
    if len(wrong):
        row = wrong[0]
        raise ParameterError(
            f"{name} has shape {y.shape} and floats, and row {row} is {y[row][:5].tolist()}, with "
            f"sum {sums[row]:g}. Floats are read as probabilities of {y.shape[1]} classes (soft "
            "labels): none negative, each row with sum 1. For several labels a row (multi-label) "
            "pass integers or booleans, 0 or 1: y.astype(int)."
        )
    return y


def encode_labels(y: np.ndarray, classes: np.ndarray, name: str, advice: str) -> np.ndarray:
    """Return the positions of labels in the sorted `classes`, int64 of shape (n,).

    Raises
    ------
    ParameterError
        If there are labels that are not in `classes`; the error ends in `advice`.
    """
    try:
        codes = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
        unseen = classes[codes] != y
    except TypeError as error:
        raise ParameterError(
            f"{name} has labels of another type than those that the classifier knows, "
            f"{classes[:10].tolist()}: {error}."
        ) from error
    if unseen.any():
        unknown = list(dict.fromkeys(y[unseen].tolist()))[:5]
        raise ParameterError(
            f"{name} has labels that the classifier does not know: {unknown}. Known: "
            f"{classes[:10].tolist()}. {advice}"
        )
    return codes.astype(np.int64)
