"""Which rows train and which validate."""

from __future__ import annotations

import numpy as np

from skorchlike.exceptions import ParameterError


def split_rows(
    rows: np.ndarray,
    fraction: float,
    seed: int,
    labels: np.ndarray | None,
    classes: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers into training and validation ones.

    Parameters
    ----------
    rows : ndarray of int of shape (n,)
        The rows to split.
    fraction : float
        Share of the validation rows, between 0 and 1.
    seed : int
        Makes the split.
    labels : ndarray of int of shape (n,) or None
        Labels of the rows, whose shares both parts keep.
    classes : ndarray or None
        What the labels stand for, for errors.

    Returns
    -------
    train_rows, valid_rows : ndarray of int
        Sorted, so that data are read in order.

    Raises
    ------
    ParameterError
        If there are too few rows, or too few of a class.
    """
    from sklearn.model_selection import train_test_split  # a third of the package's import time

    try:
        train, valid = train_test_split(
            rows, test_size=fraction, random_state=seed, stratify=labels
        )
    except ValueError as error:
        reason = _too_few(labels, classes) or f"{str(error).rstrip('.')}."
        raise ParameterError(
            f"The `validation_fraction` parameter ({fraction}) cannot split {len(rows)} rows: "
            f"{reason} Pass X_val and y_val to fit, or set validation_fraction=None."
        ) from error
    return np.sort(train), np.sort(valid)


def _too_few(labels: np.ndarray | None, classes: np.ndarray | None) -> str:
    """Say which classes have a single row, by the user's labels."""
    if labels is None or classes is None:
        return ""
    single = np.flatnonzero(np.bincount(labels) == 1)
    if not len(single):
        return ""
    return (
        f"each class needs two rows at least, and {classes[single].tolist()[:5]} "
        f"{'has' if len(single) == 1 else 'have'} one."
    )
