"""The validation scores, against scikit-learn's metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, r2_score

from skorchlike.training.scores import R2, Accuracy, main_output


def in_batches(score, y_pred, y, weight, size):
    score.reset()
    for start in range(0, len(y), size):
        rows = slice(start, start + size)
        score.update(y_pred[rows], y[rows], None if weight is None else weight[rows])
    return score.compute()


def weights(rng, n, weighted):
    return torch.from_numpy(rng.uniform(0.1, 3, n)) if weighted else None


def as_numpy(weight):
    return None if weight is None else weight.numpy()


@given(st.integers(1, 40), st.integers(1, 17), st.booleans(), st.integers(0, 9))
def test_accuracy_in_batches_is_scikit_learns(n, size, weighted, seed):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(n, 3)))
    y, weight = torch.from_numpy(rng.integers(0, 3, n)), weights(rng, n, weighted)
    got = in_batches(Accuracy(lambda outputs: outputs.argmax(1)), logits, y, weight, size)
    expected = accuracy_score(y, logits.argmax(1), sample_weight=as_numpy(weight))
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(st.integers(2, 40), st.integers(1, 17), st.integers(1, 3), st.booleans(), st.integers(0, 9))
def test_r2_in_batches_is_scikit_learns(n, size, n_outputs, weighted, seed):
    rng = np.random.default_rng(seed)
    y = torch.from_numpy(rng.normal(size=(n, n_outputs)) + 5)
    y_pred = y + torch.from_numpy(rng.normal(size=(n, n_outputs)))
    weight = weights(rng, n, weighted)
    got = in_batches(R2(), y_pred, y, weight, size)
    expected = r2_score(y, y_pred, sample_weight=as_numpy(weight))
    assert got == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1e6, -1e9])
def test_r2_keeps_its_digits_far_from_zero(offset):
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.normal(size=(200, 1)) + offset)
    y_pred = y + torch.from_numpy(rng.normal(size=(200, 1)))
    assert in_batches(R2(), y_pred, y, None, 7) == pytest.approx(r2_score(y, y_pred), rel=1e-6)


@pytest.mark.parametrize("error", [0.0, 1.0])
@pytest.mark.parametrize("value", [0.0, 0.25, 1e6])
def test_r2_of_a_constant_target_is_scikit_learns(value, error):
    y = torch.full((6, 1), value, dtype=torch.float64)
    y_pred = y + error
    assert in_batches(R2(), y_pred, y, None, 2) == r2_score(y, y_pred)


def test_r2_of_a_constant_target_has_no_rounding_for_a_spread():
    y = torch.full((6, 1), 0.1, dtype=torch.float64)  # its mean is not 0.1 in float64
    assert in_batches(R2(), y + 1, y, None, 2) == 0.0


def test_r2_of_one_row_is_nan():
    assert math.isnan(in_batches(R2(), torch.ones(1, 1), torch.zeros(1, 1), None, 1))


def test_r2_takes_an_output_without_its_one_column():
    y, y_pred = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([1.5, 2.0, 3.0])
    assert in_batches(R2(), y_pred, y, None, 2) == pytest.approx(r2_score(y, y_pred))


def test_r2_of_float32_sums_in_float64():
    rng = np.random.default_rng(0)
    y = torch.from_numpy((rng.normal(size=(5000, 1)) + 1000).astype(np.float32))
    y_pred = y + torch.from_numpy(rng.normal(size=(5000, 1)).astype(np.float32))
    expected = r2_score(y.double(), y_pred.double())
    assert in_batches(R2(), y_pred, y, None, 64) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_accuracy_of_several_labels_counts_rows_that_are_right_in_all(weighted):
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(50, 3)))
    y = torch.from_numpy(rng.integers(0, 2, (50, 3)))
    y[:20] = (logits[:20] > 0).long()
    weight = weights(rng, 50, weighted)
    got = in_batches(Accuracy(lambda out: (out > 0).long()), logits, y.double(), weight, 7)
    expected = accuracy_score(y, logits > 0, sample_weight=as_numpy(weight))
    assert got == pytest.approx(expected, rel=1e-12)


def test_accuracy_may_read_the_label_off_the_target():
    rng = np.random.default_rng(0)
    logits, y = (torch.from_numpy(rng.normal(size=(50, 3))) for _ in range(2))
    score = Accuracy(lambda out: out.argmax(1), lambda target: target.argmax(1))
    expected = accuracy_score(y.argmax(1), logits.argmax(1))
    assert in_batches(score, logits, y, None, 7) == pytest.approx(expected, rel=1e-12)


def test_r2_may_be_of_predictions_made_of_several_outputs():
    rng = np.random.default_rng(0)
    outputs, y = torch.from_numpy(rng.normal(size=(50, 4))), torch.from_numpy(rng.random((50, 2)))
    score = R2(lambda out: out.reshape(-1, 2, 2).mean(2), per_target=2)
    assert score.suits(outputs, y)
    assert not score.suits(outputs[:, :2], y)
    expected = r2_score(y, outputs.reshape(-1, 2, 2).mean(2))
    assert in_batches(score, outputs, y, None, 7) == pytest.approx(expected, rel=1e-9)


def test_the_main_output_of_several_is_the_first():
    first, second = torch.zeros(2), torch.ones(2)
    for outputs in (first, (first, second), [first, second], {"a": first, "b": second}):
        assert main_output(outputs) is first
