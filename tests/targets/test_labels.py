"""Labels, told apart and encoded a piece at a time."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.multiclass import check_classification_targets

from skorchlike.exceptions import ParameterError
from skorchlike.targets import pieces
from skorchlike.targets.labels import distinct, encode_labels, read_labels

KINDS = {
    "integers": lambda codes: codes * 3 - 5,
    "unsigned": lambda codes: (codes * 7).astype(np.uint8),
    "booleans": lambda codes: codes % 2 == 0,
    "floats": lambda codes: codes.astype(np.float32),
    "strings": lambda codes: np.array(["dog", "cat", "a longer one", "bee"])[codes % 4],
    "objects": lambda codes: np.array(["dog", "cat", "a", "bee"], dtype=object)[codes % 4],
}


@pytest.fixture(params=[4, 2**16])
def piece_rows(request, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_ROWS", request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_learned_and_encoded_as_by_scikit_learn(kind, piece_rows):
    y = KINDS[kind](np.random.default_rng(0).integers(0, 9, 101))
    encoder = LabelEncoder().fit(y)
    classes = distinct(y)
    assert classes.tolist() == encoder.classes_.tolist()
    assert classes.dtype == encoder.classes_.dtype
    assert encode_labels(y, classes, "y", "").tolist() == encoder.transform(y).tolist()


@pytest.mark.parametrize(
    ("n_classes", "dtype"), [(2, np.uint8), (256, np.uint8), (257, np.int16), (40_000, np.int32)]
)
def test_codes_have_the_smallest_dtype_that_holds_them(n_classes, dtype):
    y = np.arange(n_classes)
    codes = encode_labels(y, y, "y", "")
    assert codes.dtype == dtype
    assert np.array_equal(codes, y)


def test_unknown_labels_are_named_in_the_order_in_which_they_come(piece_rows):
    y = np.array([1, 2, 9, 1, 8, 2, 2, 9, 7, 6, 5, 4, 1])
    with pytest.raises(
        ParameterError, match=r"does not know: \[9, 8, 7, 6, 5\]. Known: \[1, 2\]. X"
    ):
        encode_labels(y, np.array([1, 2]), "y", "X")


def test_labels_of_another_type_are_refused(piece_rows):
    with pytest.raises(ParameterError, match="labels of another type"):
        encode_labels(np.array(["a", 3] * 9, dtype=object), np.array([1, 2]), "y", "")


def told(function, *args):
    """Return what a function warns of and raises."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            function(*args)
            error = None
        except ValueError as raised:
            error = str(raised)
    return [str(warning.message) for warning in caught], error


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(1, 120),
    n_values=st.integers(1, 120),
    dtype=st.sampled_from([np.int64, np.float64, np.uint8]),
    broken_at=st.integers(0, 500),
)
def test_scikit_learns_errors_and_warnings_about_labels_come_piecewise_too(
    n, n_values, dtype, broken_at
):
    y = np.random.default_rng(n).integers(0, n_values, n).astype(dtype)
    if dtype is np.float64 and broken_at < n:
        y[broken_at] += 0.5
    before, pieces.PIECE_ROWS = pieces.PIECE_ROWS, 8
    try:
        found = told(read_labels, y, "y")
    finally:
        pieces.PIECE_ROWS = before
    assert found == told(check_classification_targets, y)


def test_labels_too_many_to_join_piecewise_are_learned_too(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_ROWS", 16)
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(50), 4))
    assert distinct(y).tolist() == list(range(50))


def test_several_labels_a_row_are_booleans_whatever_they_were(piece_rows):
    given_y = np.random.default_rng(0).integers(0, 2, (30, 3))
    for dtype in (np.int64, np.uint8, bool):
        kind, y = read_labels(given_y.astype(dtype), "y")
        assert kind == "multi-label"
        assert y.dtype == bool
        assert y.tolist() == given_y.astype(bool).tolist()
    given_y[20, 1] = 2
    with pytest.raises(ParameterError, match=r"of shape \(30, 3\) .* such as 2\."):
        read_labels(given_y, "y")
