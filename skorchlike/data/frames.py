"""Frames of mixed columns: what is learned from the training rows, and the arrays they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from skorchlike.data.frame_encoding import (
    CHUNK_ROWS,
    Column,
    column_key,
    encode_category,
    encode_numbers,
    learn_column,
    numeric_names,
    sort_key,
)
from skorchlike.exceptions import ParameterError, did_you_mean, import_extra

_NEVER_FRAMES = (
    np.ndarray,
    torch.Tensor,
    list,
    tuple,
    dict,
    str,
    bytes,
    int,
    float,
    type,
    type(None),
)


def is_frame(X: Any) -> bool:
    """Tell whether X is a frame: columns with names and dtypes of their own.

    Parameters
    ----------
    X : object
        Anything.

    Returns
    -------
    bool
        True for the frames of pandas, polars, modin, pyarrow and what else narwhals knows,
        lazy ones too, and for objects with ``__dataframe__`` or ``__arrow_c_stream__``. A
        single column (a pandas Series) is none.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"a": [1, 2]})
    >>> is_frame(frame), is_frame(frame["a"]), is_frame(frame.to_numpy())
    (True, False, False)
    """
    if isinstance(X, _NEVER_FRAMES):
        return False
    kind = type(X)
    if hasattr(kind, "__dataframe__"):
        return True
    if hasattr(kind, "tocsr") or isinstance(X, torch.utils.data.Dataset):
        return False
    import narwhals.stable.v2 as nw

    if hasattr(kind, "__arrow_c_stream__"):
        return not nw.dependencies.is_into_series(X)
    X = nw.to_native(X, pass_through=True)
    return isinstance(nw.from_native(X, pass_through=True), (nw.DataFrame, nw.LazyFrame))


def as_frame(X: Any, name: str = "X") -> Any:
    """Return a frame of any library as an eager frame of narwhals.

    Parameters
    ----------
    X : frame
        What `is_frame` takes; lazy frames are collected.
    name : str
        The argument's name, for errors.

    Returns
    -------
    narwhals.DataFrame
        The frame; its data are shared where that is possible.

    Raises
    ------
    ParameterError
        If two columns have one name, or the object cannot be read.
    ImportError
        If pyarrow is not there to read a foreign frame (for a stream: nor polars).
    """
    import narwhals.stable.v2 as nw

    X = nw.to_native(X, pass_through=True)
    try:
        frame = nw.from_native(X, pass_through=True)
        if isinstance(frame, nw.LazyFrame):
            frame = frame.collect()
        elif not isinstance(frame, nw.DataFrame):
            frame = nw.from_native(_convert(X))
    except nw.exceptions.DuplicateError as error:
        raise ParameterError(f"{name} has columns of the same name. Rename them. {error}") from None
    except (ValueError, TypeError, RuntimeError) as error:
        raise ParameterError(
            f"{name} could not be read as a frame, but it is a {type(X).__name__}, which claims to "
            f"be one: {error}. Convert it to pandas or polars."
        ) from error
    return frame


def frame_names(X: Any) -> list[Any]:
    """Return the names of a frame's columns.

    Examples
    --------
    >>> import pandas as pd
    >>> frame_names(pd.DataFrame({"a": [1], "b": [2]}))
    ['a', 'b']
    """
    return list(as_frame(X).columns)


def n_frame_rows(X: Any) -> int:
    """Return the number of rows of a frame.

    Examples
    --------
    >>> import pandas as pd
    >>> n_frame_rows(pd.DataFrame({"a": [1, 2, 3]}))
    3
    """
    shape = getattr(X, "shape", None)  # most have one, which is faster
    if isinstance(shape, tuple) and isinstance(shape[0], int):
        return shape[0]
    return len(as_frame(X))


def _convert(X: Any) -> Any:
    """Read a foreign frame by pyarrow, or a stream by polars if only that is installed."""
    streams = hasattr(X, "__arrow_c_stream__")
    if streams and find_spec("pyarrow") is None and find_spec("polars") is not None:
        return import_module("polars").DataFrame(X)
    pyarrow = import_extra("pyarrow.interchange", "frames", f"A {type(X).__name__} as input")
    return import_module("pyarrow").table(X) if streams else pyarrow.from_dataframe(X)


@dataclass
class FrameSchema:
    """What the columns of a frame are, learned from training rows.

    Columns are found by name, so their order does not matter. All attributes are plain data:
    ``FrameSchema(**json.loads(json.dumps(vars(schema))))`` is the same schema.

    Parameters
    ----------
    columns : list of dict
        A `Column` for each column, in the order of fit.
    dtype : {"float32", "float64"}
        The dtype of the numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> train = pd.DataFrame({"age": [31, None, 50], "city": ["Ulm", "Bonn", None]})
    >>> schema = FrameSchema.learn(train)
    >>> schema.kinds, schema.cat_cardinalities
    (['number', 'category'], [4])
    >>> numeric, categorical = schema.encode(pd.DataFrame({"city": ["Bonn", "Rom"], "age": 7}))
    >>> numeric.tolist(), categorical.tolist()
    ([[7.0], [7.0]], [[1], [0]])
    """

    columns: list[Column]
    dtype: str

    @classmethod
    def learn(cls, frame: Any, rows: np.ndarray | None = None, name: str = "X") -> FrameSchema:
        """Learn names, kinds and categories from the training rows.

        Parameters
        ----------
        frame : frame of n rows
            Anything for which `is_frame` is true.
        rows : ndarray of int or None
            The numbers of the training rows; None is all. No other row has any influence.
        name : str
            The argument's name, for errors.

        Returns
        -------
        FrameSchema
            What was learned.

        Raises
        ------
        ParameterError
            If the frame is empty, two columns have one name, or a column holds what cannot
            be used.
        """
        frame = _checked_frame(frame, name)
        learned = [learn_column(frame, column, rows, name) for column in frame.columns]
        dtypes = {dtype for _, dtype in learned if dtype is not None}
        return cls([column for column, _ in learned], "float32" if dtypes == {32} else "float64")

    def encode(
        self, frame: Any, name: str = "X", *, ordered: bool = False
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the numbers and the codes of the categories of a frame.

        Parameters
        ----------
        frame : frame of n rows
            It has the columns of fit, in any order.
        name : str
            The argument's name, for errors.
        ordered : bool
            Whether another order of the columns is an error, as for scikit-learn's own
            estimators.

        Returns
        -------
        numeric : ndarray of shape (n, len(numeric_names)) or None
            Numbers of `dtype`, NaN where missing; None if there are no such columns.
        categorical : ndarray of int64, shape (n, len(categorical_names)), or None
            0 is a category not seen in training, 1 to C are the known ones in sorted order,
            C + 1 is missing, if that occurred in training (else it is 0).

        Raises
        ------
        ParameterError
            If columns are missing, unknown or of another kind than in fit, or a number is
            infinite.
        """
        frame = _checked_frame(frame, name)
        found = {column_key(column): column for column in frame.columns}
        _check_names(list(found), self.names, name, ordered)
        n = len(frame)
        width, n_categorical = len(self.numeric_names), len(self.categorical_names)
        numeric = np.empty((n, width), self.dtype) if width else None
        categorical = np.empty((n, n_categorical), np.int64) if n_categorical else None
        for start in range(0, n, CHUNK_ROWS):
            part = frame if n <= CHUNK_ROWS else frame[start : start + CHUNK_ROWS]
            here = slice(start, start + CHUNK_ROWS)
            i = j = 0
            for column in self.columns:
                label = f"{name}: column {column['name']!r}"
                series = part.get_column(found[column["name"]])
                if column["kind"] == "category":
                    assert categorical is not None
                    categorical[here, j] = encode_category(column, series, label)
                    j += 1
                    continue
                assert numeric is not None
                for feature in encode_numbers(column, series, label):
                    with np.errstate(over="ignore"):  # told below
                        numeric[here, i] = feature
                    i += 1
            if numeric is not None:
                self._check_finite(numeric[here], name)
        return numeric, categorical

    @property
    def names(self) -> list[str | int]:
        """The columns' names in the order of fit."""
        return [column["name"] for column in self.columns]

    @property
    def kinds(self) -> list[str]:
        """The columns' kinds in the order of fit."""
        return [column["kind"] for column in self.columns]

    @property
    def categories(self) -> list[list[Any]]:
        """The known categories of each categorical column; code 1 is the first."""
        return [column["categories"] for column in self.columns if column["kind"] == "category"]

    @property
    def numeric_names(self) -> list[str]:
        """Names of the numbers, such as ``"when: weekday sin"`` for a part of a date."""
        return [part for column in self.columns for part in numeric_names(column)]

    @property
    def categorical_names(self) -> list[str]:
        """Names of the categorical columns."""
        return [str(column["name"]) for column in self.columns if column["kind"] == "category"]

    @property
    def cat_cardinalities(self) -> list[int]:
        """How many codes each categorical column has, the one for unseen included."""
        return [
            1 + len(column["categories"]) + column["missing"]
            for column in self.columns
            if column["kind"] == "category"
        ]

    @property
    def only_numbers(self) -> bool:
        """Whether the frame holds numbers and booleans only."""
        return set(self.kinds) <= {"number", "boolean", "missing"}

    def _check_finite(self, numeric: np.ndarray, name: str) -> None:
        infinite = np.isinf(numeric)
        if infinite.any():
            at = self.numeric_names[int(infinite.any(axis=0).argmax())]
            raise ParameterError(
                f"{name}: column {at!r} contains infinity or a value too large for "
                f"{self.dtype}. Replace it, for example by a missing value."
            )


def _checked_frame(frame: Any, name: str) -> Any:
    frame = as_frame(frame, name)
    keys = [column_key(column) for column in frame.columns]
    if len(set(keys)) < len(keys):
        raise ParameterError(f"{name} has columns of the same name: {keys}. Rename them.")
    for size, what in ((len(keys), "feature"), (len(frame), "sample")):
        if size == 0:
            raise ParameterError(
                f"Found a frame {name} with 0 {what}(s) (shape={frame.shape}) while a minimum of 1 "
                "is required."
            )
    return frame


def _check_names(
    given: Sequence[str | int], fitted: Sequence[str | int], name: str, ordered: bool
) -> None:
    """Compare names; the words are scikit-learn's, which its common checks look for."""
    unseen = sorted(set(given) - set(fitted), key=sort_key)
    missing = sorted(set(fitted) - set(given), key=sort_key)
    if not unseen and not missing and (not ordered or list(given) == list(fitted)):
        return
    message = "The feature names should match those that were passed during fit.\n"
    for title, names in (
        ("Feature names unseen at fit time:", unseen),
        ("Feature names seen at fit time, yet now missing:", missing),
    ):
        if names:
            shown = [f"- {n}\n" for n in names[:5]] + ["- ...\n"] * (len(names) > 5)
            message += f"{title}\n{''.join(shown)}"
    if not unseen and not missing:
        message += "Feature names must be in the same order as they were in fit.\n"
    if name != "X":
        message += f"These are the columns of {name}.\n"
    for lost in missing[:5]:
        hint = did_you_mean(str(lost), [str(n) for n in unseen])
        if "Did you mean" in hint:
            message += f"For {lost!r}:{hint}\n"
    raise ParameterError(message)
