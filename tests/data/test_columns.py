"""Targets and weights, kept small and cast as they are read."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skorchlike.data import rows as rows_module
from skorchlike.data.columns import Columns, Taken
from skorchlike.data.rows import Placement, Rows
from skorchlike.exceptions import ParameterError

FLOAT = Placement(torch.device("cpu"), torch.float32, torch.float32)


def standardized(y):
    return (y - 3.0) / 7.0


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40),
    start=st.integers(0, 40),
    stop=st.integers(0, 45),
    some=st.booleans(),
    changed=st.booleans(),
)
def test_taken_rows_are_those_of_a_copy(n, start, stop, some, changed):
    values = np.arange(2.0 * n).reshape(n, 2)
    rows = np.arange(0, n, 3) if some else None
    copy = values if rows is None else values[rows]
    copy = standardized(copy) if changed else copy
    taken = Taken(values, rows, standardized if changed else None)
    assert np.array_equal(taken[start:stop], copy[start:stop])
    assert np.array_equal(np.asarray(taken), copy)
    assert np.array_equal(np.asarray(taken, dtype=np.float32), copy.astype(np.float32))
    assert (len(taken), taken.shape, taken.ndim) == (len(copy), copy.shape, 2)


def batches_of(columns, n, batch_size):
    X = Rows(torch.zeros(n, 1))
    found = list(columns.batches(X, batch_size, None))
    weights = [w for _, _, w, *_ in found]
    return torch.cat([y for _, y, *_ in found]), None if weights[0] is None else torch.cat(weights)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_labels_are_int64_in_batches_however_they_are_kept(dtype):
    y = np.array([2, 0, 1, 1, 2], dtype=dtype)
    columns = Columns.place(y, None, FLOAT, labels=True)
    assert columns.y.data_ptr() == y.ctypes.data
    seen, weight = batches_of(columns, 5, 2)
    assert seen.dtype is torch.int64
    assert seen.tolist() == y.tolist()
    assert weight is None
    assert columns.cast()[0].dtype is torch.int64


def test_numbers_and_weights_are_those_of_a_cast_of_the_whole():
    rng = np.random.default_rng(0)
    y, weight = rng.standard_normal((50, 2)), rng.random(50) + 0.1
    columns = Columns.place(y, weight, FLOAT)
    assert columns.y.data_ptr() == y.ctypes.data
    assert columns.sample_weight.data_ptr() == weight.ctypes.data
    seen, seen_weight = batches_of(columns, 50, 7)
    assert torch.equal(seen, torch.from_numpy(y).float())
    assert torch.equal(seen_weight, torch.from_numpy(weight).float())
    assert all(torch.equal(*pair) for pair in zip(columns.cast(), (seen, seen_weight), strict=True))


@pytest.mark.parametrize("scan_bytes", [16, 100, 2**20])
def test_targets_are_scaled_piece_by_piece_as_at_once(monkeypatch, scan_bytes):
    monkeypatch.setattr(rows_module, "SCAN_BYTES", scan_bytes)
    y = np.random.default_rng(1).standard_normal((41, 2)) * 1e3
    columns = Columns.place(y, None, FLOAT, scale=standardized)
    assert torch.equal(columns.y, torch.from_numpy(standardized(y)).float())
    assert columns.y.dtype is torch.float32


@pytest.mark.parametrize("scan_bytes", [16, 2**20])
@pytest.mark.parametrize("scale", [None, standardized])
@pytest.mark.parametrize("suffix", ["", "_val"])
def test_numbers_too_large_for_the_dtype_are_refused_by_their_name(
    monkeypatch, scan_bytes, scale, suffix
):
    monkeypatch.setattr(rows_module, "SCAN_BYTES", scan_bytes)
    y = np.ones((9, 1))
    y[7] = 1e40
    with pytest.raises(ParameterError, match=f"^y{suffix} has values that are too large"):
        Columns.place(y, None, FLOAT, scale=scale, suffix=suffix)


@pytest.mark.parametrize("bad", [1e-45, 1e39, [3e38] * 2])
@pytest.mark.parametrize("scan_bytes", [16, 2**20])
def test_weights_that_vanish_or_overflow_are_refused(monkeypatch, bad, scan_bytes):
    monkeypatch.setattr(rows_module, "SCAN_BYTES", scan_bytes)
    weight = np.ones(9)
    weight[:2] = bad
    with pytest.raises(ParameterError, match=r"sample_weight_val, up to .* too small or too large"):
        Columns.place(np.ones(9), weight, FLOAT, suffix="_val")
    double = Placement(torch.device("cpu"), torch.float64, torch.float64)
    assert Columns.place(np.ones(9), weight, double).sample_weight is not None


def test_weights_of_zero_are_no_weights_that_vanish():
    weight = np.array([0.0, 1.0, 2.0])
    assert Columns.place(np.ones(3), weight, FLOAT).sample_weight.tolist() == [0, 1, 2]
