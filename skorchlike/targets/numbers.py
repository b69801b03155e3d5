"""Numbers to predict, as users give them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_array

from skorchlike.exceptions import ParameterError
from skorchlike.targets.missing import refuse_missing


def read_numbers(y: Any, name: str, estimator: Any = None) -> np.ndarray:
    """Return the targets of a regression, checked.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_outputs)
        Numbers or booleans.
    name : str
        The argument's name, for errors.
    estimator : estimator, optional
        Whose argument it is, for errors.

    Returns
    -------
    ndarray of shape (n,) or (n, n_outputs)
        Numbers, finite.

    Raises
    ------
    ParameterError
        If they are no numbers, or of another shape.

    Examples
    --------
    >>> from skorchlike.targets.numbers import read_numbers
    >>> read_numbers([1, 2.5], "y")
    array([1. , 2.5])
    """
    _refuse_dates(y, name)
    refuse_missing(y, name, "numbers")
    try:
        read = check_array(
            y,
            ensure_2d=False,
            allow_nd=True,
            dtype="numeric",
            input_name=name,
            estimator=estimator,
        )
        if read.dtype == object:  # lists of one column come so
            read = check_array(read.astype(np.float64), ensure_2d=False, allow_nd=True)
    except (ValueError, TypeError) as error:
        if "string" not in str(error):
            raise
        raise ParameterError(
            f"{name} must hold numbers: {str(error).rstrip('.')}. For strings as labels use "
            "NeuralNetClassifier."
        ) from error
    if read.ndim > 2 or (read.ndim == 2 and read.shape[1] == 0):
        raise ParameterError(f"{name} must have shape (n,) or (n, n_outputs). Got {read.shape}.")
    return read


def _refuse_dates(y: Any, name: str) -> None:
    """Refuse dates and durations, which NumPy would read as counts of nanoseconds, or days."""
    dtype = getattr(y, "dtype", None)
    dtypes = [dtype] if dtype is not None else list(getattr(y, "dtypes", ()))
    for dtype in dtypes:
        kind = getattr(dtype, "kind", "") or {"Da": "M", "Du": "m"}.get(str(dtype)[:2])  # polars
        if kind in ("M", "m"):
            what, remedy = "dates", f"({name} - {name}.min()) / pandas.Timedelta('1D')"
            if kind == "m":
                what, remedy = "durations", f"{name} / pandas.Timedelta('1D')"
            raise ParameterError(
                f"{name} holds {what} (dtype {dtype}), and a regressor predicts numbers. Make "
                f"numbers of them in a unit that suits, such as days: {remedy}."
            )
