"""Targets that are missing, where NumPy would not see it or make a value of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from skorchlike.exceptions import ParameterError


def refuse_missing(y: Any, name: str, what: str) -> None:
    """Refuse None, NaN, NaT and pandas.NA among objects, strings and categories.

    Parameters
    ----------
    y : array-like
        Targets as they were given. Arrays of numbers are not looked at: scikit-learn does.
    name : str
        The argument's name, for errors.
    what : str
        What is missing, for errors: "labels" or "numbers".

    Raises
    ------
    ParameterError
        If one is missing.

    Examples
    --------
    >>> from skorchlike.targets.missing import refuse_missing
    >>> refuse_missing(["a", float("nan")], "y", "labels")
    Traceback (most recent call last):
    ...
    skorchlike.exceptions.ParameterError: y contains NaN: 1 of 2 labels is missing, in row 1. ...
    """
    missing = _missing(y)
    if missing is None or not missing.any():
        return
    rows = np.unique(np.nonzero(missing)[0])
    one = missing.sum() == 1
    label = ", or give them a label of their own" if what == "labels" else ""
    raise ParameterError(
        f"{name} contains NaN: {missing.sum()} of {missing.size} {what} {'is' if one else 'are'} "
        f"missing, {'in' if one else 'the first in'} row {rows[0]}. Leave out such rows{label}."
    )


def _missing(y: Any) -> np.ndarray | None:
    """Return where values are missing; None where that is not looked at."""
    for name in ("isna", "is_null"):  # pandas; polars and Arrow
        ask = getattr(y, name, None)
        if callable(ask):
            return np.asarray(ask(), dtype=bool)
    if isinstance(y, np.ndarray) and y.dtype == object:
        return np.reshape([_is_missing(value) for value in y.flat], y.shape)
    if isinstance(y, (list, tuple)) and len(y):
        return np.array([_is_missing(value) for value in y])
    return None


def _is_missing(value: Any) -> bool:
    if isinstance(value, (str, int)):
        return False
    own = type(value).__name__ in ("NAType", "NaTType")
    return value is None or own or (isinstance(value, (float, np.floating)) and value != value)
