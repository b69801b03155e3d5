"""One column of a frame, whatever its library and dtype, as plain arrays of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np

from skorchlike.exceptions import ParameterError

KIND_WORDS = {
    "number": "numbers",
    "boolean": "booleans",
    "category": "categories or strings",
    "datetime": "dates",
    "duration": "durations",
    "time": "times of day",
    "missing": "missing values only",
}

_OF_DTYPES = {
    "Boolean": "boolean",
    "String": "category",
    "Categorical": "category",
    "Enum": "category",
    "Date": "datetime",
    "Datetime": "datetime",
    "Duration": "duration",
    "Time": "time",
}
_OF_OBJECTS = {  # what pandas calls the values of an object column
    "string": "category",
    "boolean": "boolean",
    "integer": "number",
    "floating": "number",
    "mixed-integer-float": "number",
    "decimal": "number",
    "datetime64": "datetime",
    "datetime": "datetime",
    "date": "datetime",
    "timedelta64": "duration",
    "timedelta": "duration",
    "time": "time",
}
_REMEDIES = {
    "complex": "Complex data not supported: split it into its real and imaginary part",
    "bytes": "Decode it to strings",
    "period": "Convert it to dates, in pandas by .dt.to_timestamp()",
    "interval": "Convert it to strings, in pandas by .astype(str)",
    "nested": "Spread it over columns of their own, one value each",
    "mixed": "Make its values all numbers or all strings, in pandas by .astype(str)",
}
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
DAY = 86_400


@dataclass
class ColumnValues:
    """Values of one column.

    Attributes
    ----------
    kind : str
        One of `KIND_WORDS`; ``"missing"`` if not even the dtype tells more.
    dtype : object
        The dtype as the frame's library has it, for errors.
    values : ndarray of shape (n,)
        By kind: floating-point or integer numbers (number, boolean), codes that point into
        `keys`, -1 being missing (category), datetime64 in UTC or without time zone
        (datetime), timedelta64 (duration), seconds (time). Missing is NaN or NaT.
    keys : list of str, int, float or bool
        The categories that occur, in any order. Two may be equal.
    timezone : str or None
        The time zone, if the values have one.
    """

    kind: str
    dtype: Any
    values: np.ndarray
    keys: list[Any] | None = None
    timezone: str | None = None

    def missing(self) -> np.ndarray:
        """Return which values are missing, (n,) of bool."""
        if self.kind == "category":
            return self.values < 0
        if self.values.dtype.kind in "mM":
            return np.isnat(self.values)
        if self.values.dtype.kind == "f":
            return np.isnan(self.values)
        return np.zeros(len(self.values), dtype=bool)


def declared_kind(dtype: Any) -> str | None:
    """Return the kind that a dtype of narwhals promises, or None if the values decide.

    Examples
    --------
    >>> import narwhals.stable.v2 as nw
    >>> declared_kind(nw.Int8()), declared_kind(nw.Object())
    ('number', None)
    """
    return "number" if dtype.is_numeric() else _OF_DTYPES.get(type(dtype).__name__)


def column_kind(series: Any) -> str | None:
    """Return the kind of a column if its dtype alone tells it.

    Parameters
    ----------
    series : narwhals.Series
        The column.
    """
    # narwhals calls an object column of pandas a string column by a look at its values
    return None if _holds_objects(series) else declared_kind(series.dtype)


def read_column(series: Any, name: str) -> ColumnValues:
    """Read a column.

    Parameters
    ----------
    series : narwhals.Series of n values
        The column, or some of its rows.
    name : str
        How errors call it, such as ``"X: column 'age'"``.

    Returns
    -------
    ColumnValues
        Its values.

    Raises
    ------
    ParameterError
        If it holds what no kind covers: lists, bytes, complex numbers, mixed objects.
    """
    declared = series.dtype
    kind = None if _holds_objects(series) else declared_kind(declared)
    dtype = _native_dtype(series)
    if kind == "category":
        return _read_categories(series, dtype)
    if type(declared).__name__ in ("List", "Array", "Struct", "Binary"):
        binary = type(declared).__name__ == "Binary"
        raise _cannot_use(name, dtype, "bytes" if binary else "nested")
    if kind == "number" and "Int128" in type(declared).__name__:
        import narwhals.stable.v2 as nw

        series = series.cast(nw.Float64)  # NumPy has no such integers
    values = series.to_numpy()
    if kind is None:
        kind = _kind_of_values(values, name, dtype)
    if kind == "category":  # strings in an object column
        return ColumnValues(kind, dtype, *_factorize(values))
    if kind in ("number", "boolean"):
        values = _floats(values)
    elif kind in ("datetime", "duration"):
        return _read_datetimes(series, values, kind, name, dtype)
    elif kind == "time":
        values = _seconds_of_day(values)
    elif kind == "missing":
        values = np.full(len(values), np.nan)
    return ColumnValues(kind, dtype, values)


def as_categories(column: ColumnValues) -> ColumnValues:
    """Return numbers or booleans as categories."""
    return ColumnValues("category", column.dtype, *_factorize(column.values))


def split_seconds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return whole seconds (int64) and the rest (float in [0, 1)); zeros where missing.

    The same moments give the same bits in any unit.

    Examples
    --------
    >>> split_seconds(np.array(["1970-01-02T00:00:00.5"], dtype="datetime64[ms]"))
    (array([86400]), array([0.5]))
    """
    unit, step = np.datetime_data(values.dtype)
    if unit not in _TICKS or step != 1:
        values, unit = values.astype(f"{values.dtype.kind}8[s]"), "s"
    ticks = np.where(np.isnat(values), 0, values.view(np.int64))
    whole, rest = np.divmod(ticks, _TICKS[unit])
    return whole, rest / _TICKS[unit]


def wall_clock(values: np.ndarray, timezone: str) -> np.ndarray:
    """Return datetime64 in UTC as what clocks show in a time zone.

    Examples
    --------
    >>> str(wall_clock(np.array(["2024-07-01T12:00"], dtype="datetime64[s]"), "Asia/Tokyo")[0])
    '2024-07-01T21:00:00'
    """
    import pandas as pd

    return pd.DatetimeIndex(values, tz="UTC").tz_convert(timezone).tz_localize(None).to_numpy()


def _holds_objects(series: Any) -> bool:
    import pandas as pd

    dtype = getattr(series.to_native(), "dtype", None)
    return dtype is not None and pd.api.types.is_object_dtype(dtype)


def _native_dtype(series: Any) -> Any:
    native = series.to_native()
    dtype = getattr(native, "dtype", None)
    return dtype if dtype is not None else getattr(native, "type", series.dtype)


def _read_categories(series: Any, dtype: Any) -> ColumnValues:
    import pandas as pd

    native = series.to_native()
    if isinstance(getattr(native, "dtype", None), pd.CategoricalDtype):
        codes = np.asarray(native.cat.codes, dtype=np.int64)
        # most of the declared categories may be absent from these rows
        used = np.flatnonzero(np.bincount(codes[codes >= 0]))
        places = np.full(len(native.cat.categories) + 1, -1, dtype=np.int64)
        places[used] = np.arange(len(used))
        keys = [_plain_key(key) for key in native.cat.categories[used]]
        return ColumnValues("category", dtype, places[codes], keys)
    if hasattr(getattr(native, "type", None), "value_type"):
        # pyarrow turns missing entries of a chunked dictionary into its last word
        values = native.cast(native.type.value_type).to_numpy()
    else:
        values = series.to_numpy()
    return ColumnValues("category", dtype, *_factorize(values))


def _factorize(values: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    import pandas as pd

    codes, keys = pd.factorize(values)
    return codes.astype(np.int64, copy=False), [_plain_key(key) for key in keys]


def _plain_key(key: Any) -> str | int | float | bool:
    """Return a category as JSON can hold it; an interval or date by its text."""
    if type(key) is str:
        return key
    if isinstance(key, np.generic):
        key = key.item()
    return key if isinstance(key, (bool, int, float)) else str(key)


def _kind_of_values(values: np.ndarray, name: str, dtype: Any) -> str:
    import pandas as pd

    if values.dtype.kind == "c":
        raise _cannot_use(name, dtype, "complex")
    if pd.isna(values).all():
        return "missing"
    kinds = {"b": "boolean", "i": "number", "u": "number", "f": "number", "M": "datetime"}
    if values.dtype != object:
        return kinds.get(values.dtype.kind, "duration")
    found = pd.api.types.infer_dtype(values, skipna=True)
    if found in _OF_OBJECTS:
        return _OF_OBJECTS[found]
    if found in ("complex", "bytes", "period", "interval"):
        raise _cannot_use(name, dtype, found)
    known = values[~pd.isna(values)]
    types = list(dict.fromkeys(map(type, known)))
    numbers = [issubclass(t, (Number, np.bool_)) and not issubclass(t, complex) for t in types]
    if all(numbers):
        return "number"
    # the first type that does not go with the first value's
    other = next((t for t, number in zip(types, numbers, strict=True) if not number), types[0])
    offending = [types[0], other] if numbers[0] else types[:2]
    nested = not issubclass(types[0], (str, bytes)) and hasattr(types[0], "__len__")
    raise _cannot_use(name, dtype, "nested" if nested else "mixed", offending)


def _cannot_use(
    name: str, dtype: Any, what: str, types: Sequence[type] | None = None
) -> ParameterError:
    found = f"{what} values"
    if types is not None:
        found = f"values of type {types[0].__name__}"
        if len(types) > 1:
            found = f"values of several types, first {types[0].__name__}, then {types[1].__name__}"
    return ParameterError(
        f"{name} (dtype {dtype}) holds {found}. Expected numbers, booleans, strings, categories, "
        f"dates, durations or times. {_REMEDIES[what]}, or drop the column."
    )


def _floats(values: np.ndarray) -> np.ndarray:
    import pandas as pd

    if values.dtype.kind in "iufb":
        return values
    known = ~pd.isna(values)
    numbers = np.full(len(values), np.nan)
    numbers[known] = values[known].astype(np.float64)
    return numbers


def _read_datetimes(
    series: Any, values: np.ndarray, kind: str, name: str, dtype: Any
) -> ColumnValues:
    timezone = getattr(series.dtype, "time_zone", None)
    if values.dtype == object:
        values, timezone = _parse_objects(values, kind, name, dtype)
    if timezone is not None:
        try:
            wall_clock(values[:0], timezone)
        except (KeyError, ValueError, TypeError):
            timezone = "UTC"  # known to the frame's library alone
    return ColumnValues(kind, dtype, values, timezone=timezone)


def _parse_objects(
    values: np.ndarray, kind: str, name: str, dtype: Any
) -> tuple[np.ndarray, str | None]:
    import pandas as pd

    column = pd.Series(values, dtype=object)
    if kind == "duration":
        return pd.to_timedelta(column).to_numpy(), None
    aware = {getattr(v, "tzinfo", None) is not None for v in values[column.notna()]}
    if len(aware) > 1:
        raise ParameterError(
            f"{name} (dtype {dtype}) holds dates with and without a time zone. Give all of them "
            "one, or none."
        )
    parsed = pd.to_datetime(column, utc=True in aware)
    return parsed.to_numpy("datetime64[us]"), "UTC" if True in aware else None


def _seconds_of_day(values: np.ndarray) -> np.ndarray:
    import pandas as pd

    known = ~pd.isna(values)
    seconds = np.full(len(values), np.nan)
    seconds[known] = [
        t.hour * 3600 + t.minute * 60 + t.second + t.microsecond / 1e6 for t in values[known]
    ]
    return seconds
