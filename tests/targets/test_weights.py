"""Weights of classes, counted a piece at a time."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from skorchlike.data.columns import Taken
from skorchlike.targets import pieces
from skorchlike.targets.weights import class_weights

CLASSES = np.array(["ant", "bee", "cat"])


@pytest.mark.parametrize("piece_rows", [7, 2**16])
@pytest.mark.parametrize("rows", [None, np.arange(3, 400, 3, dtype=np.int32)])
def test_balanced_weights_are_those_of_scikit_learn(monkeypatch, piece_rows, rows):
    monkeypatch.setattr(pieces, "PIECE_ROWS", piece_rows)
    y = np.random.default_rng(0).integers(0, 3, 400).astype(np.uint8)
    taken = y if rows is None else y[rows]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=taken)
    found = class_weights("balanced", "labels", CLASSES, Taken(y, rows), None)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-15)


@pytest.mark.parametrize("rows", [None, np.arange(3, 400, 3, dtype=np.int32)])
def test_sums_of_weights_are_to_the_bit_those_of_one_pass(monkeypatch, rows):
    rng = np.random.default_rng(0)
    y, weight = rng.integers(0, 3, 400).astype(np.uint8), rng.random(400)
    part = slice(None) if rows is None else rows
    totals = np.bincount(y[part], weight[part], 3)
    expected = totals.sum() / (3 * totals)
    for piece_rows in (7, 64, 2**16):
        monkeypatch.setattr(pieces, "PIECE_ROWS", piece_rows)
        taken = Taken(y, rows), Taken(weight, rows)
        found = class_weights("balanced", "labels", CLASSES, *taken)
        assert found.tolist() == expected.tolist()
