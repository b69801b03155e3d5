"""The validation split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from skorchlike.data.split import split_rows
from skorchlike.exceptions import ParameterError


def test_the_parts_are_disjoint_complete_and_sorted():
    rows = np.arange(100, 200)
    train, valid = split_rows(rows, 0.25, 0, None)
    assert len(valid) == 25
    assert sorted([*train, *valid]) == rows.tolist()
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(2, 120),
    fraction=st.floats(0.02, 0.98),
    seed=st.integers(0, 2**32 - 1),
    n_classes=st.integers(0, 9),
    subset=st.booleans(),
)
def test_the_parts_are_those_of_scikit_learn(n, fraction, seed, n_classes, subset):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n).astype(np.uint8) * 2 if n_classes else None
    rows = np.sort(rng.permutation(2 * n)[:n]) if subset else np.arange(n)
    try:
        parts = train_test_split(rows, test_size=fraction, random_state=seed, stratify=labels)
    except ValueError:
        with pytest.raises(ParameterError, match="validation_fraction"):
            split_rows(rows if subset else n, fraction, seed, labels)
        return
    found = split_rows(rows if subset else n, fraction, seed, labels)
    assert [part.tolist() for part in found] == [np.sort(part).tolist() for part in parts]


@pytest.mark.parametrize("n_classes", [0, 2, 300])
def test_the_parts_of_many_rows_are_those_of_scikit_learn(n_classes):
    n = 150_000
    labels = np.random.default_rng(0).integers(0, n_classes, n) if n_classes else None
    parts = train_test_split(np.arange(n), test_size=0.1, random_state=7, stratify=labels)
    found = split_rows(n, 0.1, 7, labels)
    assert [part.dtype for part in found] == [np.int32, np.int32]
    assert all(np.array_equal(a, np.sort(b)) for a, b in zip(found, parts, strict=True))


def test_labels_keep_their_shares():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    train, valid = split_rows(np.arange(100), 0.2, 1, labels)
    assert np.bincount(labels[valid]).tolist() == [12, 6, 2]
    assert np.bincount(labels[train]).tolist() == [48, 24, 8]


def test_the_split_follows_the_seed_alone():
    one = split_rows(np.arange(50), 0.3, 5, None)
    np.random.default_rng().random()
    two = split_rows(np.arange(50), 0.3, 5, None)
    other = split_rows(np.arange(50), 0.3, 6, None)
    assert np.array_equal(one[1], two[1])
    assert not np.array_equal(one[1], other[1])


def test_classes_with_too_few_rows_are_named():
    labels, classes = np.array([0, 1, 1, 1, 2, 2, 3]), np.array(["ant", "bee", "cat", "dog"])
    with pytest.raises(ParameterError, match=r"two rows at least, and \['ant', 'dog'\] have one\."):
        split_rows(np.arange(7), 0.5, 0, labels, classes)
    with pytest.raises(ParameterError, match="number of classes = 2"):
        split_rows(np.arange(4), 0.1, 0, np.array([0, 0, 1, 1]), classes)


@pytest.mark.parametrize(
    ("n", "fraction", "labels"),
    [(1, 0.5, None), (4, 0.5, np.array([0, 0, 0, 1])), (3, 0.1, np.array([0, 1, 2]))],
)
def test_too_few_rows_are_an_error_that_names_the_parameter(n, fraction, labels):
    with pytest.raises(ParameterError, match=r"validation_fraction.*X_val"):
        split_rows(np.arange(n), fraction, 0, labels)
