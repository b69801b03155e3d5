"""The validation split."""

import numpy as np
import pytest

from skorchlike.data.split import split_rows
from skorchlike.exceptions import ParameterError


def test_the_parts_are_disjoint_complete_and_sorted():
    rows = np.arange(100, 200)
    train, valid = split_rows(rows, 0.25, 0, None)
    assert len(valid) == 25
    assert sorted([*train, *valid]) == rows.tolist()
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()


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
