"""What to do about inputs that no array of numbers can be made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse
from torch import Tensor

from skorchlike.data.frames import is_frame

KINDS = (
    "an array, a tensor, a DataFrame, a sparse matrix, a dict or tuple of arrays, or a torch "
    "Dataset or DataLoader"
)

NO_FOLDS = (
    "It looks like the items of a Dataset: scikit-learn's cross-validation, searches and splits "
    "make a list of those, since they cannot cut a Dataset. Use arrays, or fit and score each fold "
    "yourself, on torch.utils.data.Subset(dataset, rows)."
)


def advise(X: Any, error: Exception) -> str:
    """Return what to do about an array that cannot be used, if there is more to say.

    Parameters
    ----------
    X : object
        What was given.
    error : Exception
        What scikit-learn said of it.

    Examples
    --------
    >>> advise(["a review", "another one"], ValueError("could not convert string to float"))[:25]
    'These are strings, one a '
    """
    text = str(error)
    if _is_text(X):
        return (
            "These are strings, one a row. Make numbers of texts first, by "
            "sklearn.feature_extraction.text.TfidfVectorizer in a Pipeline. For categories pass a "
            "frame of one column: pandas.DataFrame({'name': X})."
        )
    advice = advise_on_rows(X)
    if advice:
        return advice
    if not isinstance(X, (list, tuple)) and not (issparse(X) or hasattr(X, "__array__")):
        return f"Expected {KINDS}. Got a {type(X).__name__}."
    if "string" in text or "argument must be" in text:
        return "Columns of strings or objects go into a frame: pandas.DataFrame(X)."
    if "dim <= 2" in text:
        return (
            f"Got shape {np.shape(X)}. Reshape it, X.reshape(len(X), -1), or pass a module of "
            "your own, which takes any number of dimensions."
        )
    return ""


def advise_on_rows(X: Any) -> str:
    """Return what to do about a list whose entries are no rows of one length."""
    of_objects = isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1
    if (not isinstance(X, (list, tuple)) and not of_objects) or not len(X):
        return ""
    first = X[0]
    if isinstance(first, Mapping):
        return "For a list of records pass a frame: pandas.DataFrame(X)."
    if isinstance(first, tuple) and any(isinstance(part, (np.ndarray, Tensor)) for part in first):
        return f"The entries of X are tuples. {NO_FOLDS}"
    if is_frame(first):
        return "Several inputs are a dict or tuple of arrays."
    if _are_sequences(X):
        return (
            "The entries of X have different lengths. Pad sequences to one length, "
            "skorchlike.pad_sequences(X), for a module of your own with forward(self, X, lengths)."
        )
    if isinstance(first, Tensor):
        return "Several inputs are a dict or tuple of arrays; rows are joined by torch.stack."
    return ""


def _is_text(X: Any) -> bool:
    """Whether these are strings in one dimension."""
    if isinstance(X, (list, tuple)):
        return bool(X) and isinstance(X[0], str)
    if isinstance(X, (str, bytes)) or len(getattr(X, "shape", ())) != 1 or not len(X):
        return False
    return isinstance(np.asarray(X)[0], str)


def _are_sequences(X: Any) -> bool:
    """Whether the entries are sequences that differ in their first dimension."""
    kinds = (list, tuple, np.ndarray, Tensor)
    if not all(isinstance(row, kinds) and np.ndim(row) for row in X[:1]):
        return False
    return len({len(row) if hasattr(row, "__len__") else -1 for row in X}) > 1
