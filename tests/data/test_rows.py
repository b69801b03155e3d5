"""Row numbers, and rows that are cast as they are taken."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skorchlike.data import pages as pages_module
from skorchlike.data import rows as rows_module
from skorchlike.data.arrays import ArrayBatches
from skorchlike.data.rows import Placement, Rows, all_rows, rows_where
from skorchlike.exceptions import ParameterError

CPU = torch.device("cpu")
FLOAT = Placement(CPU, torch.float32, torch.float32)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 200_000), every=st.integers(1, 7), of_floats=st.booleans())
def test_marked_rows_are_those_of_flatnonzero(n, every, of_floats):
    marks = np.arange(n) % every == 0
    marks = marks * 0.5 if of_floats else marks
    rows = rows_where(marks)
    assert rows.dtype == np.int32
    assert np.array_equal(rows, np.flatnonzero(marks))


def test_all_rows_are_an_arange_in_four_bytes():
    assert all_rows(5).tolist() == [0, 1, 2, 3, 4]
    assert all_rows(5).dtype == np.int32


KINDS = {
    "float64": lambda rng: rng.standard_normal((60, 5)),
    "integers": lambda rng: rng.integers(-9, 9, (60, 5)),
    "bytes of images": lambda rng: rng.integers(0, 255, (60, 2, 3), dtype=np.uint8),
    "columns in memory": lambda rng: np.asfortranarray(rng.standard_normal((60, 5))),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own_pages", [1, 2**17])
def test_rows_cast_as_they_are_taken_are_those_of_a_cast_of_the_whole(monkeypatch, kind, own_pages):
    monkeypatch.setattr(pages_module, "OWN_PAGES", own_pages)
    monkeypatch.setattr(rows_module, "CAST_BYTES", 100)
    X = KINDS[kind](np.random.default_rng(0))
    at_once = Rows(X, FLOAT)
    monkeypatch.setattr(rows_module, "SMALL_BYTES", 0)
    late = Rows(X, FLOAT)
    assert late.parts.values.data_ptr() == X.ctypes.data
    assert late.row_bytes == at_once.row_bytes
    index = torch.tensor([3, 0, 59, 3])
    for one, other in (
        (late.take(index), at_once.take(index)),
        (late.narrow(7, 20), at_once.narrow(7, 20)),
    ):
        assert one.dtype is torch.float32
        assert one.is_contiguous()
        assert torch.equal(one, other)
    expected = torch.from_numpy(np.ascontiguousarray(X)).float()
    assert torch.equal(late.take(torch.arange(60)), expected)


def test_batches_begin_at_the_same_places_in_memory_whether_cast_before_or_after(monkeypatch):
    X, y = np.random.default_rng(0).standard_normal((50, 7)), torch.zeros(50)
    chunks = []
    for small_bytes in (2**25, 0):
        monkeypatch.setattr(rows_module, "SMALL_BYTES", small_bytes)
        chunks.append(ArrayBatches(Rows(X, FLOAT), y, None, 3).chunk)
    assert chunks[0] == chunks[1]


def test_values_too_large_for_the_dtype_are_refused_before_training(monkeypatch):
    monkeypatch.setattr(rows_module, "SMALL_BYTES", 0)
    X = np.ones((30, 2))
    X[20, 1] = 1e39
    for scan_bytes in (32, 2**20):
        monkeypatch.setattr(rows_module, "SCAN_BYTES", scan_bytes)
        with pytest.raises(ParameterError, match=r"^X_val has values that are too large"):
            Rows(X, FLOAT, name="X_val")


def test_what_needs_no_cast_is_not_cast(monkeypatch):
    monkeypatch.setattr(rows_module, "SMALL_BYTES", 0)
    X = np.ones((4, 2), dtype=np.float32)
    rows = Rows(X, FLOAT)
    assert rows.parts.values.data_ptr() == X.ctypes.data
    taken = rows.take(torch.tensor([1, 2]))
    taken.zero_()
    assert X.all()
