"""Targets scaled for training, and predictions in the units of the target."""

import numpy as np
import pytest
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import make_regression
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import TensorDataset

from skorchlike import EarlyStopping, Metrics, NeuralNetRegressor, ParameterError

X, Y = make_regression(200, 5, n_targets=2, noise=3.0, random_state=0)
Y = Y * [1e4, 1e-3] + [1e6, 0.0]  # dollars, and something tiny
WEIGHTS = np.random.default_rng(0).integers(0, 4, 200).astype(float)
PARAMS = {"max_epochs": 20, "random_state": 0}


def fit(y=Y, X=X, fit_params=None, **params):
    return NeuralNetRegressor(**{**PARAMS, **params}).fit(X, y, **(fit_params or {}))


@pytest.mark.parametrize("criterion", ["mse", "l1", "huber", "gaussian_nll"])
@pytest.mark.parametrize("y", [Y, Y[:, 0], Y[:, :1]], ids=["two", "flat", "column"])
def test_it_trains_as_a_scaler_around_the_estimator_does(y, criterion):
    ours = fit(y, criterion=criterion)
    around = TransformedTargetRegressor(
        regressor=NeuralNetRegressor(**PARAMS, criterion=criterion, target_transform=None),
        transformer=StandardScaler(),
    ).fit(X, y)
    np.testing.assert_allclose(ours.predict(X), around.predict(X), rtol=1e-6)


def test_large_targets_are_learned_without_a_word_about_it():
    assert fit(Y[:, 0], max_epochs=100).score(X, Y[:, 0]) > 0.95


def test_the_scores_of_the_history_are_in_the_units_of_the_target():
    net = fit(
        Y[:, 0],
        fit_params={"X_val": X, "y_val": Y[:, 0]},
        callbacks={"error": Metrics("neg_mean_absolute_error"), "stop": EarlyStopping()},
        callbacks__stop__restore_best=False,
    )
    last = net.history_.iloc[-1]
    error = np.abs(net.predict(X) - Y[:, 0]).mean()
    assert last["valid_neg_mean_absolute_error"] == pytest.approx(-error, rel=1e-6)
    assert last["valid_r2"] == pytest.approx(net.score(X, Y[:, 0]), rel=1e-6)


def test_the_losses_are_those_of_the_scaled_target():
    net = fit(lr=1e-300, max_epochs=1, batch_size=-1)
    scaled = (Y - Y.mean(0)) / Y.std(0)
    raw = (net.predict(X) - Y.mean(0)) / Y.std(0)
    assert net.loss_curve_[0] == pytest.approx(((raw - scaled) ** 2).mean(), rel=1e-9)


def test_weights_count_in_mean_and_spread():
    rows = np.repeat(np.arange(200), WEIGHTS.astype(int))
    weighted = fit(fit_params={"sample_weight": WEIGHTS}, batch_size=-1)
    repeated = fit(Y[rows], X[rows], batch_size=-1)
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-6)


def test_quantiles_and_spreads_are_in_the_units_of_the_target():
    net = fit(criterion="quantile", criterion__quantile=(0.1, 0.5, 0.9), max_epochs=100)
    quantiles = net.predict_quantiles(X)
    assert quantiles.shape == (200, 2, 3)
    np.testing.assert_array_equal(quantiles[:, :, 1], net.predict(X))
    inside = (quantiles[:, :, 0] < Y) & (quantiles[:, :, 2] > Y)
    assert (inside.mean(0) > 0.5).all()
    mean, spread = fit(criterion="gaussian_nll", max_epochs=100).predict(X, return_std=True)
    assert ((np.abs(mean - Y) < 3 * spread).mean(0) > 0.9).all()


def test_only_the_rows_that_train_tell_mean_and_spread():
    class Seen(NeuralNetRegressor):
        def _learn_scale(self, y, sample_weight):
            self.n_seen = len(y)
            super()._learn_scale(y, sample_weight)

    assert Seen(**PARAMS, validation_fraction=0.25).fit(X, Y).n_seen == 150


def test_a_fit_that_goes_on_keeps_the_scale():
    net = fit(Y[:, 0], warm_start=True)
    before = net.predict(X)
    net.set_params(max_epochs=1, lr=1e-300).fit(X[:50], 3 * Y[:50, 0])
    np.testing.assert_allclose(net.predict(X), before, rtol=1e-9)


def test_a_dataset_is_scaled_as_its_arrays():
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    items = torch.utils.data.ConcatDataset([data])  # no shortcut to its tensors
    net = NeuralNetRegressor(**PARAMS).fit(items)
    np.testing.assert_allclose(net.predict(items), fit().predict(X), rtol=1e-6)
    assert net.score(items) == pytest.approx(fit().score(X, Y), rel=1e-6)


def test_a_target_of_one_value_is_predicted():
    net = fit(np.full(200, 7e5))
    np.testing.assert_allclose(net.predict(X), 7e5, rtol=1e-5)


def test_ones_own_module_gets_the_target_as_it_is_unless_told_otherwise():
    class Linear(nn.Linear):
        def __init__(self, in_features, out_features):
            super().__init__(in_features, out_features)

    assert fit(module=Linear)._scale is None
    assert fit(module=Linear, target_transform="standard")._scale is not None
    assert fit(target_transform=None)._scale is None


@pytest.mark.parametrize("criterion", ["poisson", nn.PoissonNLLLoss, nn.PoissonNLLLoss()])
def test_counts_are_never_moved(criterion):
    counts = np.random.default_rng(0).poisson(3, 200)
    assert fit(counts, criterion=criterion)._scale is None
    with pytest.raises(ParameterError, match="target_transform='standard' moves the target"):
        fit(counts, criterion=criterion, target_transform="standard")
