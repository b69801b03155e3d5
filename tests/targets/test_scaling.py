"""Mean and standard deviation of targets, to the bit those of NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skorchlike.data.columns import Taken
from skorchlike.exceptions import ParameterError
from skorchlike.targets import pieces
from skorchlike.targets.scaling import TargetScale


def by_numpy(y, weight):
    center = np.average(y, axis=0, weights=weight)
    return center, np.sqrt(np.average((y - center) ** 2, axis=0, weights=weight))


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(2, 5000),
    n_outputs=st.integers(1, 3),
    weighted=st.booleans(),
    some=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
    order=st.sampled_from("CF"),
    piece_rows=st.sampled_from([128, 1000, 2**16]),
)
def test_mean_and_spread_are_to_the_bit_those_of_numpy(
    n, n_outputs, weighted, some, dtype, order, piece_rows
):
    rng = np.random.default_rng(n)
    y = np.asarray(rng.standard_normal((n, n_outputs)) * 1e3 + 17, dtype=dtype, order=order)
    weight = rng.random(n) + 0.01 if weighted else None
    rows = np.arange(0, n, 2) if some else None
    taken = y if rows is None else y[rows]
    center, spread = by_numpy(
        taken.astype(np.float64), weight if rows is None or weight is None else weight[rows]
    )
    before, pieces.PIECE_ROWS = pieces.PIECE_ROWS, piece_rows
    try:
        weights = None if weight is None else Taken(weight, rows)
        found = TargetScale.learn(Taken(y, rows), weights)
        if rows is None:
            whole = TargetScale.learn(y, weight)
            assert np.array_equal(whole.scale, found.scale)
    finally:
        pieces.PIECE_ROWS = before
    assert np.array_equal(found.center, center)
    if len(taken) > 1:
        assert np.array_equal(found.scale, spread)


@pytest.mark.parametrize("piece_rows", [128, 2**16])
def test_targets_whose_squares_are_infinite_are_refused(monkeypatch, piece_rows):
    monkeypatch.setattr(pieces, "PIECE_ROWS", piece_rows)
    y = np.linspace(-1e200, 1e200, 1000)[:, None]
    with pytest.raises(ParameterError, match=r"too large, up to 1e\+200"):
        TargetScale.learn(Taken(y, np.arange(1000)), None)


@pytest.mark.parametrize("piece_rows", [128, 2**16])
def test_a_target_of_one_value_is_divided_by_one(monkeypatch, piece_rows):
    monkeypatch.setattr(pieces, "PIECE_ROWS", piece_rows)
    scale = TargetScale.learn(np.full((1000, 1), 0.1), None)
    assert scale.scale.tolist() == [1.0]
