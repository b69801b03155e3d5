"""What is learned of one column of a frame, and how its values become numbers or codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

import numpy as np

from skorchlike.data.frame_columns import (
    DAY,
    KIND_WORDS,
    ColumnValues,
    as_categories,
    column_kind,
    read_column,
    split_seconds,
    wall_clock,
)
from skorchlike.exceptions import ParameterError

MAX_CATEGORIES = 1000
"""So many categories of a column are kept, the most frequent; the rest count as unseen."""

CHUNK_ROWS = 2**16
"""Rows that are read at a time: a bound on the memory beside the result."""


class Column(TypedDict):
    """What is known of one column; plain data.

    ``kind`` is one of ``number, boolean, category, datetime, duration, time, missing`` (no
    value in training), ``categories`` the sorted known ones, ``missing`` whether a category
    was missing in training, ``time_of_day`` whether some date was not midnight, ``timezone``
    that of the dates.
    """

    name: str | int
    kind: str
    categories: list[Any]
    missing: bool
    time_of_day: bool
    timezone: str | None


def column_key(name: Any) -> str | int:
    """Return a column's name as JSON can hold it."""
    if isinstance(name, (int, np.integer)):
        return int(name)
    return str(name)


def _pieces(frame: Any, column: Any, rows: np.ndarray | None) -> Iterator[Any]:
    series = frame.get_column(column)
    n = len(series) if rows is None else len(rows)
    for start in range(0, n, CHUNK_ROWS):
        stop = min(n, start + CHUNK_ROWS)
        yield series[start:stop] if rows is None else series[rows[start:stop]]


def learn_column(
    frame: Any, name: Any, rows: np.ndarray | None, label: str
) -> tuple[Column, int | None]:
    """Return what is learned, and the bits of its numbers (None if any will do)."""
    column = Column(
        name=column_key(name), kind="missing", categories=[], missing=False, time_of_day=False,
        timezone=None,
    )  # fmt: skip
    series = frame.get_column(name)
    short = str(series.dtype) in ("Float32", "Float16")
    declared = column_kind(series)
    if declared in ("number", "boolean", "duration", "time"):  # nothing to learn from values
        column["kind"] = declared
    else:
        counts: dict[Any, int] = {}
        label = f"{label}: column {column['name']!r}"
        for piece in _pieces(frame, name, rows):
            values = read_column(piece, label)
            short |= declared is None and values.values.dtype in (np.float32, np.float16)
            _learn_piece(column, values, counts, label)
        column["categories"] = _most_frequent(counts)
    if column["kind"] in ("boolean", "missing", "category"):
        return column, None
    return column, 32 if short and column["kind"] == "number" else 64


def _learn_piece(column: Column, values: ColumnValues, counts: dict[Any, int], label: str) -> None:
    kind = values.kind
    if column["kind"] == "missing":
        column["kind"] = kind
    elif {column["kind"], kind} == {"number", "boolean"}:
        column["kind"] = "number"
    elif kind not in (column["kind"], "missing"):
        raise ParameterError(
            f"{label} (dtype {values.dtype}) holds {KIND_WORDS[column['kind']]} and "
            f"{KIND_WORDS[kind]}. Make them all the same."
        )
    column["missing"] |= bool(values.missing().any())
    if kind == "category":
        assert values.keys is not None
        known = values.values[values.values >= 0]
        for key, count in zip(
            values.keys, np.bincount(known, minlength=len(values.keys)).tolist(), strict=True
        ):
            counts[key] = counts.get(key, 0) + count
    elif kind == "datetime":
        column["timezone"] = column["timezone"] or values.timezone
        whole, rest = split_seconds(_local(values.values, column["timezone"]))
        column["time_of_day"] |= bool((whole % DAY).any() or rest.any())


def _most_frequent(counts: dict[Any, int]) -> list[Any]:
    """Return the categories to keep, sorted, whatever the order of the rows was."""
    keys = sorted(counts, key=sort_key)
    if len(keys) > MAX_CATEGORIES:
        # sorting is stable: ties stay in sorted order
        keys = sorted(sorted(keys, key=lambda k: -counts[k])[:MAX_CATEGORIES], key=sort_key)
    return keys


def encode_category(column: Column, series: Any, label: str) -> np.ndarray:
    """Return the codes of a column, int64 of shape (n,).

    Raises
    ------
    ParameterError
        If the column is of another kind than in fit.
    """
    values = read_column(series, label)
    known = {key: code for code, key in enumerate(column["categories"], start=1)}
    texts = {isinstance(key, str) for key in known}
    if values.kind != "category" and not values.missing().all():
        if values.kind not in ("number", "boolean") or texts == {True}:
            raise _changed(column, values, label)
        values = as_categories(values)
    keys = values.keys or []
    if texts and not texts >= {isinstance(key, str) for key in keys}:
        raise _changed(column, values, label)
    codes = [known.get(key, 0) for key in keys]
    missing_code = len(known) + 1 if column["missing"] else 0
    if values.kind != "category":
        return np.full(len(values.values), missing_code)
    # a missing value is -1: the last entry
    return np.array([*codes, missing_code], dtype=np.int64)[values.values]


def encode_numbers(column: Column, series: Any, label: str) -> list[np.ndarray]:
    """Return a column as one or more arrays of numbers, each of shape (n,).

    Raises
    ------
    ParameterError
        If the column is of another kind than in fit.
    """
    kind = column["kind"]
    nothing = [np.full(len(series), np.nan)] * len(numeric_names(column))
    if kind == "missing":  # training told nothing about what it means
        return nothing
    values = read_column(series, label)
    missing = values.missing()
    if missing.all():
        return nothing
    alike = {"number", "boolean"} if kind in ("number", "boolean") else {kind}
    if values.kind not in alike:
        raise _changed(column, values, label)
    if kind == "duration":
        whole, rest = split_seconds(values.values)
        return [np.where(missing, np.nan, whole + rest)]
    if kind == "datetime":
        _check_timezone(column, values, label)
        parts = _parts_of_dates(column, values.values)
        return [np.where(missing, np.nan, part) for part in parts]
    if kind == "boolean" and not np.isin(values.values[~missing], (0, 1)).all():
        raise _changed(column, values, label)
    return [values.values]


def _check_timezone(column: Column, values: ColumnValues, label: str) -> None:
    if (column["timezone"] is None) == (values.timezone is None):
        return
    was, now = ("with", "without") if column["timezone"] else ("without", "with")
    raise ParameterError(
        f"{label} held dates {was} a time zone in fit and now holds dates {now} one (dtype "
        f"{values.dtype}). Convert it to what it was in fit, or fit again."
    )


def _local(values: np.ndarray, timezone: str | None) -> np.ndarray:
    return values if timezone is None else wall_clock(values, timezone)


def _parts_of_dates(column: Column, values: np.ndarray) -> Iterator[np.ndarray]:
    whole, rest = split_seconds(values)
    yield whole + rest
    whole, rest = split_seconds(_local(values, column["timezone"]))
    days, second = np.divmod(whole, DAY)
    time_of_day = (second + rest) / DAY
    years = days.astype("datetime64[D]").astype("datetime64[Y]")
    first, next_first = (y.astype("datetime64[D]").astype(np.int64) for y in (years, years + 1))
    cycles = [(days - first + time_of_day) / (next_first - first), (days + 3) % 7 / 7]
    if column["time_of_day"]:
        cycles.append(time_of_day)
    for fraction in cycles:
        yield np.sin(2 * np.pi * fraction)
        yield np.cos(2 * np.pi * fraction)


def numeric_names(column: Column) -> list[str]:
    """Return the names of the numbers that a column becomes."""
    name, kind = str(column["name"]), column["kind"]
    if kind == "category":
        return []
    if kind != "datetime":
        return [name]
    cycles = ["time of year", "weekday"] + ["time of day"] * column["time_of_day"]
    waves = [f"{name}: {cycle} {wave}" for cycle in cycles for wave in ("sin", "cos")]
    return [f"{name}: seconds", *waves]


def _changed(column: Column, values: ColumnValues, label: str) -> ParameterError:
    was = KIND_WORDS[column["kind"]]
    if column["kind"] == "category":
        numbers = any(not isinstance(key, str) for key in column["categories"])
        was = "categories that are numbers" if numbers else was
    now = KIND_WORDS[values.kind]
    if values.kind == "number" and column["kind"] == "boolean":
        now = "numbers other than 0 and 1"
    return ParameterError(
        f"{label} held {was} in fit and now holds {now} (dtype {values.dtype}). Convert it to what "
        "it was in fit, or fit again."
    )


def sort_key(key: Any) -> tuple[bool, Any]:
    """Sort numbers before strings, each in its own order."""
    return isinstance(key, str), key
