"""The regressor: target shapes, outputs, dtypes."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import make_regression
from sklearn.metrics import mean_squared_error, r2_score
from torch import nn

from skorchlike import NeuralNetRegressor

X, T = make_regression(120, 5, n_informative=5, noise=1.0, random_state=0)
T = T / T.std()
T2 = np.c_[T, -2 * T + X[:, 0]]


class Outputs(nn.Module):
    """A linear module whose output may lose its last dimension, or all it can."""

    def __init__(self, n_features_in, n_outputs, form="columns"):
        super().__init__()
        self.linear = nn.Linear(n_features_in, n_outputs)
        self.form = form

    def forward(self, X):
        out = self.linear(X)
        return {"columns": out, "flat": out.flatten(), "squeeze": out.squeeze()}[self.form]


def fit(y=T, X=X, **params):
    params = {"max_epochs": 100, "lr": 0.05, "random_state": 0, **params}
    return NeuralNetRegressor(**params).fit(X, y)


@pytest.mark.parametrize(
    ("y", "shape"),
    [(T, (120,)), (T[:, None], (120, 1)), (T2, (120, 2)), (T2.tolist(), (120, 2))],
    ids=["flat", "column", "two", "list"],
)
@pytest.mark.parametrize("module", [None, Outputs])
def test_predictions_have_the_shape_of_the_target(y, shape, module):
    est = fit(y, module=module)
    assert est.predict(X).shape == shape
    assert r2_score(y, est.predict(X)) > 0.9
    assert est.score(X, y) == r2_score(y, est.predict(X))


def test_flat_target_trains_the_same_weights_as_a_column():
    assert np.array_equal(fit(T).predict(X), fit(T[:, None]).predict(X)[:, 0])


@pytest.mark.parametrize("form", ["flat", "squeeze"])
def test_module_that_returns_no_column_trains_as_one_that_does(form):
    est = fit(T, module=Outputs, module__form=form, batch_size=32)
    expected = fit(T, module=Outputs, batch_size=32)
    assert np.array_equal(est.predict(X), expected.predict(X))
    assert est.loss_curve_ == expected.loss_curve_


def test_module_that_squeezes_stands_a_batch_of_one_row():
    est = fit(T[:33], X[:33], module=Outputs, module__form="squeeze", batch_size=32, max_epochs=2)
    assert est.predict(X[:1]).shape == (1,)
    est.set_params(predict_batch_size=32)
    np.testing.assert_allclose(est.predict(X[:33])[32], est.predict(X[32:33])[0], rtol=1e-6)


def test_loss_is_the_mean_squared_error():
    est = fit(T2, module=Outputs, lr=1e-30, max_epochs=1)
    expected = mean_squared_error(T2, est.predict(X))
    assert est.loss_curve_[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("y", [T, T[:, None], T2], ids=["flat", "column", "two"])
def test_validation_columns_are_those_of_predict(y):
    est = NeuralNetRegressor(
        max_epochs=3, random_state=0, predict_batch_size=16, target_transform=None
    )
    est.fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:])
    last = est.history_.iloc[-1]
    assert last["valid_loss"] == pytest.approx(mean_squared_error(y[80:], est.predict(X[80:])))
    assert last["valid_r2"] == pytest.approx(r2_score(y[80:], est.predict(X[80:])))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target_dtype", [np.float32, np.float64, np.int64])
def test_predictions_follow_the_dtype_of_X_not_of_y(dtype, target_dtype):
    data, y = X.astype(dtype), (100 * T).round().astype(target_dtype)
    est = fit(y, data, max_epochs=3)
    assert est.predict(data).dtype == dtype
    assert {p.dtype for p in est.model_.module_.parameters()} == {torch.from_numpy(data[:0]).dtype}


@pytest.mark.parametrize(
    "y",
    [T.tolist(), pd.Series(T), torch.tensor(T), T.astype(">f8"), T[::-1][::-1]],
    ids=["list", "series", "tensor", "big-endian", "reversed"],
)
def test_targets_of_every_container_train_the_same(y):
    assert np.array_equal(fit(y, max_epochs=3).predict(X), fit(T, max_epochs=3).predict(X))


def test_column_frame_predicts_a_column():
    assert fit(pd.DataFrame(T), max_epochs=3).predict(X).shape == (120, 1)


@pytest.mark.parametrize("criterion", ["mse", "l1", "huber", "smooth_l1", nn.SmoothL1Loss(beta=2)])
def test_every_criterion_of_differences_learns(criterion):
    assert fit(T, criterion=criterion).score(X, T) > 0.9


def test_poisson_loss_learns_a_log_rate():
    rate = np.exp(0.3 * X[:, 0])
    y = np.random.RandomState(0).poisson(rate).astype(float)
    est = fit(y, criterion="poisson_nll", module=Outputs)
    assert np.corrcoef(est.predict(X), X[:, 0])[0, 1] > 0.8


def test_refit_on_another_target_shape_forgets_the_former():
    est = fit(T, max_epochs=2)
    assert est.fit(X, T2).predict(X).shape == (120, 2)
    assert est.fit(X, T).predict(X).shape == (120,)


def test_signals_of_three_dimensions():
    def module():
        return nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(1))

    data = np.random.RandomState(0).randn(150, 2, 6)
    y = data[:, 0].sum(1)
    est = fit(y, data, module=module)
    assert est.score(data, y) > 0.8


def test_fitted_attributes():
    est = fit(T, max_epochs=4, validation_fraction=0.25)
    assert est.n_iter_ == 4
    assert est.n_features_in_ == 5
    assert {"epoch", "train_loss", "valid_loss", "valid_r2", "lr", "duration"} == set(
        est.history_.columns
    )
    assert not hasattr(est, "classes_")
