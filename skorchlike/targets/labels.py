"""Labels as users give them: one a row, several a row, or probabilities of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d

from skorchlike.exceptions import ParameterError
from skorchlike.targets import pieces
from skorchlike.targets.missing import refuse_missing
from skorchlike.targets.pieces import pieces_of
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
        The labels as they are; several a row as booleans, probabilities as floats.

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
    if _are_few(y):
        return
    try:
        check_classification_targets(y)
    except TypeError as error:
        raise ParameterError(
            f"{name} has labels of several types, which cannot be sorted: {error}. Make "
            "them all numbers or all strings."
        ) from error


def _are_few(y: np.ndarray) -> bool:
    """Whether labels of many rows are whole numbers, and few: scikit-learn finds nothing then.

    Its own check takes up to 25 bytes a row.
    """
    if len(y) <= pieces.PIECE_ROWS or y.dtype.kind not in "biuf":
        return False
    if y.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            if any((part != part.astype(np.int64)).any() for part in pieces_of(y)):
                return False
    found = _distinct(y)
    return found is not None and len(found) < len(y) // 2


def distinct(y: np.ndarray) -> np.ndarray:
    """Return the labels that there are, sorted, as `numpy.unique` but without a copy of all.

    Parameters
    ----------
    y : ndarray of shape (n,)
        A label a row.

    Examples
    --------
    >>> import numpy as np
    >>> from skorchlike.targets.labels import distinct
    >>> distinct(np.array([3, 1, 3]))
    array([1, 3])
    """
    found = _distinct(y) if len(y) > pieces.PIECE_ROWS and y.dtype.kind in "biufUS" else None
    return np.unique(y) if found is None else found


def _distinct(y: np.ndarray) -> np.ndarray | None:
    """Return the labels that there are, or None where they are too many to join them piecewise."""
    found = y[:0]
    for part in pieces_of(y):
        found = np.unique(np.concatenate([found, np.unique(part)]))
        if len(found) > pieces.PIECE_ROWS // 8:
            return None
    return found


def _several_a_row(y: np.ndarray, name: str) -> np.ndarray:
    for part in pieces_of(y):
        wrong = ~((part == 0) | (part == 1))
        if wrong.any():
            raise ParameterError(
                f"{name} of shape {y.shape} has values other than 0 and 1, such as "
                f"{part[wrong][0]}. Several labels a row (multi-label) are 0 or 1 in a column for "
                "each label. Several targets of more than two classes are not supported: fit a "
                "classifier for each, or use sklearn.multioutput.MultiOutputClassifier."
            )
    return y.astype(bool)


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
    """Return the positions of labels in the sorted `classes`, of shape (n,).

    Their dtype is the smallest that torch has for so many classes: uint8, int16, int32 or int64.

    Raises
    ------
    ParameterError
        If there are labels that are not in `classes`; the error ends in `advice`.

    Examples
    --------
    >>> import numpy as np
    >>> from skorchlike.targets.labels import encode_labels
    >>> encode_labels(np.array(["b", "a", "b"]), np.array(["a", "b", "c"]), "y", "")
    array([1, 0, 1], dtype=uint8)
    """
    encoded = np.empty(len(y), dtype=_code_dtype(len(classes)))
    unknown: dict[Any, None] = {}
    try:
        for part, out in zip(pieces_of(y), pieces_of(encoded), strict=True):
            codes = np.minimum(np.searchsorted(classes, part), len(classes) - 1)
            unseen = classes[codes] != part
            if unseen.any():
                unknown.update(dict.fromkeys(part[unseen].tolist()))
            out[:] = codes
    except TypeError as error:
        raise ParameterError(
            f"{name} has labels of another type than those that the classifier knows, "
            f"{classes[:10].tolist()}: {error}."
        ) from error
    if unknown:
        raise ParameterError(
            f"{name} has labels that the classifier does not know: {[*unknown][:5]}. Known: "
            f"{classes[:10].tolist()}. {advice}"
        )
    return encoded


def _code_dtype(n_classes: int) -> Any:
    fitting = (t for t in (np.uint8, np.int16, np.int32) if n_classes - 1 <= np.iinfo(t).max)
    return next(fitting, np.int64)
