"""Criteria of regression by name: quantiles, counts, a mean with its variance."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import PoissonRegressor, QuantileRegressor
from sklearn.metrics import mean_pinball_loss, mean_poisson_deviance, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn

from skorchlike import (
    GradientAccumulation,
    Metrics,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
)
from skorchlike.criteria import CRITERIA, GaussianNLL, PoissonLoss, QuantileLoss

RNG = np.random.RandomState(0)
X = RNG.randn(90, 4)
MU = np.exp(0.4 * X[:, 0] + 0.5)
COUNTS = RNG.poisson(MU).astype(float)
NUMBERS = 2 * X[:, 1] + (0.5 + np.abs(X[:, 2])) * RNG.randn(90)
TWO = np.c_[NUMBERS, COUNTS]
WEIGHT = RNG.uniform(0.1, 3, 90)
LEVELS = (0.1, 0.5, 0.9)
STILL = {"optimizer": "sgd", "lr": 1e-30, "max_epochs": 1}


def linear(n_outputs, n_features=4):
    torch.manual_seed(1)
    return nn.Linear(n_features, n_outputs).double()


def outputs_of(net):
    return net.model_.module_(torch.from_numpy(X)).detach().numpy()


def brute(name, outputs, y):
    """Losses of each row, from other people's functions one number at a time."""
    y = y.reshape(len(y), -1)
    n_targets = y.shape[1]
    o = outputs.reshape(len(y), n_targets, -1)
    if name == "quantile":
        each = [
            [
                mean_pinball_loss([y[i, t]], [o[i, t, q]], alpha=LEVELS[q])
                for t in range(n_targets)
                for q in range(len(LEVELS))
            ]
            for i in range(len(y))
        ]
    elif name == "poisson":
        mu = np.exp(o[..., 0])
        each = mu - y * np.log(mu)
    else:
        std = np.sqrt(np.log1p(np.exp(o[..., 1])) + 1e-6)
        each = -norm.logpdf(y, o[..., 0], std) - np.log(2 * np.pi) / 2
    return np.mean(each, axis=1)


CASES = {
    "quantile": ({"criterion__quantile": LEVELS}, 3),
    "poisson": ({}, 1),
    "gaussian_nll": ({}, 2),
}
BY_NAME = pytest.mark.parametrize("name", CASES)
BY_TARGET = pytest.mark.parametrize("y", [COUNTS, COUNTS[:, None], np.abs(TWO)], ids=str)


def still(name, y, **params):
    said, per_target = CASES[name]
    n_targets = y.reshape(len(y), -1).shape[1]
    return NeuralNetRegressor(
        linear(per_target * n_targets), criterion=name, **said, **STILL, **params
    )


# ------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("y", [COUNTS, COUNTS[:, None], np.abs(TWO)], ids=["1d", "column", "two"])
@BY_NAME
def test_losses_are_those_by_hand_in_training_and_validation(name, y, weight):
    net = still(name, y, predict_batch_size=40, batch_size=25)
    net.fit(X, y, sample_weight=weight, X_val=X, y_val=y, sample_weight_val=weight)
    expected = np.average(brute(name, outputs_of(net), y), weights=weight)
    record = net.history_.iloc[0]
    assert record.train_loss == pytest.approx(expected, rel=1e-9)
    assert record.valid_loss == pytest.approx(expected, rel=1e-9)
    r2 = r2_score(y, net.predict(X), sample_weight=weight)
    assert record.valid_r2 == pytest.approx(r2, rel=1e-9)
    assert net.score(X, y, weight) == pytest.approx(r2, rel=1e-12)
    assert net.predict(X).shape == y.shape


@BY_NAME
def test_reductions_agree(name):
    said, per_target = CASES[name]
    options = {key.removeprefix("criterion__"): value for key, value in said.items()}
    outputs, y = torch.from_numpy(RNG.randn(6, 2 * per_target)), torch.from_numpy(TWO[:6])
    none = CRITERIA[name](**options, reduction="none")(outputs, y)
    assert none.shape[:2] == (6, 2)
    assert CRITERIA[name](**options)(outputs, y) == pytest.approx(float(none.mean()), rel=1e-12)
    total = CRITERIA[name](**options, reduction="sum")(outputs, y)
    assert total == pytest.approx(float(none.sum()), rel=1e-12)


@BY_NAME
def test_gradients_are_right(name):
    said, per_target = CASES[name]
    options = {key.removeprefix("criterion__"): value for key, value in said.items()}
    outputs = torch.from_numpy(RNG.randn(4, 2 * per_target)).requires_grad_()
    y = torch.from_numpy(np.abs(TWO[:4]))
    assert torch.autograd.gradcheck(lambda o: CRITERIA[name](**options)(o, y), (outputs,))


def test_the_poisson_loss_is_half_the_deviance_but_for_a_term_of_the_target():
    loss = PoissonLoss()
    o = torch.from_numpy(RNG.randn(2, 90, 1))
    y = torch.from_numpy(COUNTS + 0.5)[:, None]
    got = float(loss(o[0], y) - loss(o[1], y))
    deviances = [mean_poisson_deviance(y[:, 0], np.exp(part[:, 0])) for part in o.numpy()]
    assert got == pytest.approx((deviances[0] - deviances[1]) / 2, rel=1e-9)


def test_the_gaussian_loss_is_torchs():
    mean, raw, y = torch.from_numpy(RNG.randn(3, 20, 1))
    variance = nn.functional.softplus(raw) + 1e-6
    expected = nn.GaussianNLLLoss()(mean, y, variance)
    got = GaussianNLL()(torch.cat([mean, raw], 1), y)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=0)


# ----------------------------------------------------------------------------- predictions


def test_trained_quantiles_are_scikit_learns():
    net = NeuralNetRegressor(
        linear(3), criterion="quantile", criterion__quantile=LEVELS, batch_size=-1, lr=0.05
    )
    quantiles = net.set_params(max_epochs=1500).fit(X, NUMBERS).predict_quantiles(X)
    assert quantiles.shape == (90, 3)
    for level, column in zip(LEVELS, quantiles.T, strict=True):
        best = QuantileRegressor(quantile=level, alpha=0).fit(X, NUMBERS)
        least = mean_pinball_loss(NUMBERS, best.predict(X), alpha=level)
        assert mean_pinball_loss(NUMBERS, column, alpha=level) == pytest.approx(least, rel=0.01)
        assert np.mean(column > NUMBERS) == pytest.approx(level, abs=0.06)


def test_trained_counts_are_scikit_learns():
    best = PoissonRegressor(alpha=0, max_iter=1000, tol=1e-8).fit(X, COUNTS)
    net = NeuralNetRegressor(linear(1), criterion="poisson", batch_size=-1, lr=0.05, max_epochs=500)
    np.testing.assert_allclose(net.fit(X, COUNTS).predict(X), best.predict(X), rtol=1e-3)


def test_trained_means_and_spreads_are_those_of_the_groups():
    group = RNG.randint(0, 2, 300)
    y = 3.0 * group + (0.5 + group) * RNG.randn(300)
    net = NeuralNetRegressor(linear(2, 2), criterion="gaussian_nll", optimizer="adam", lr=0.05)
    net.set_params(batch_size=-1, max_epochs=800)
    mean, std = net.fit(np.eye(2)[group], y).predict(np.eye(2), return_std=True)
    for g in (0, 1):
        # the estimates of maximum likelihood
        assert mean[g] == pytest.approx(y[group == g].mean(), abs=1e-3)
        assert std[g] == pytest.approx(y[group == g].std(), rel=1e-3)


@pytest.mark.parametrize(
    ("levels", "at"),
    [(0.3, 0), ((0.1, 0.9), 0), ((0.9, 0.1), 1), ((0.05, 0.55, 0.4), 1), (LEVELS, 1)],
    ids=str,
)
def test_the_prediction_is_the_quantile_nearest_to_the_median(levels, at):
    width = np.size(levels)
    net = NeuralNetRegressor(linear(2 * width), criterion="quantile", criterion__quantile=levels)
    net.set_params(**STILL).fit(X, TWO)
    outputs = outputs_of(net).reshape(90, 2, width)
    assert np.array_equal(net.predict_quantiles(X), outputs)
    assert np.array_equal(net.predict(X), outputs[..., at])
    assert net.predict_quantiles(X[:1]).shape == (1, 2, width)


def test_predictions_of_a_likelihood_have_the_shape_of_the_target():
    for y, shape in ((NUMBERS, (90,)), (NUMBERS[:, None], (90, 1)), (TWO, (90, 2))):
        mean, std = (
            NeuralNetRegressor(criterion="gaussian_nll", max_epochs=1)
            .fit(X, y)
            .predict(X, return_std=True)
        )
        assert mean.shape == std.shape == shape
        assert (std > 0).all()


@pytest.mark.parametrize("log_input", [True, False])
def test_torchs_poisson_loss_predicts_the_mean(log_input):
    module = linear(1) if log_input else nn.Sequential(linear(1), nn.Softplus())
    criterion = nn.PoissonNLLLoss(log_input=log_input)
    net = NeuralNetRegressor(module, criterion=criterion, **STILL).fit(X, COUNTS)
    raw = outputs_of(net)[:, 0]
    expected = np.exp(raw) if log_input else raw
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-12)


def test_the_built_in_module_is_sized_by_the_criterion():
    for name, (said, per_target) in CASES.items():
        net = NeuralNetRegressor(criterion=name, **said, max_epochs=1).fit(X, np.abs(TWO))
        assert outputs_of(net).shape == (90, 2 * per_target)


# ------------------------------------------------------------------------ with the others


@BY_NAME
def test_scorers_of_the_metrics_callback_see_predictions(name):
    net = still(name, COUNTS, callbacks=[Metrics({"r": "r2"})])
    net.fit(X, COUNTS, X_val=X, y_val=COUNTS, sample_weight_val=WEIGHT)
    expected = r2_score(COUNTS, net.predict(X), sample_weight=WEIGHT)
    assert net.history_.valid_r.iloc[0] == pytest.approx(expected, rel=1e-9)


@BY_NAME
def test_they_go_through_searches_pickles_and_partial_fit(name):
    said, _ = CASES[name]
    net = NeuralNetRegressor(criterion=name, **said, max_epochs=3, random_state=0)
    assert np.isfinite(cross_val_score(net, X, COUNTS, cv=3)).all()
    GridSearchCV(net, {"lr": [1e-3, 1e-2]}, cv=2).fit(X, COUNTS)
    net.fit(X, COUNTS)
    again = pickle.loads(pickle.dumps(net))
    assert np.array_equal(again.predict(X), net.predict(X))
    parts = clone(net)
    for _ in range(3):
        parts.partial_fit(X, COUNTS)
    assert np.array_equal(parts.predict(X), net.predict(X))


@BY_NAME
def test_accumulated_batches_train_as_the_large_batch_does(name):
    large = still(name, COUNTS).set_params(lr=0.05, max_epochs=3, batch_size=-1, shuffle=False)
    small = clone(large).set_params(batch_size=20, callbacks=[GradientAccumulation(5)])
    for net in (large, small):
        net.fit(X, COUNTS, sample_weight=WEIGHT)
    np.testing.assert_allclose(outputs_of(small), outputs_of(large), rtol=1e-9)


@BY_NAME
def test_an_instance_and_a_class_serve_as_the_name_does(name):
    said, _ = CASES[name]
    options = {key.removeprefix("criterion__"): value for key, value in said.items()}
    nets = [
        still(name, COUNTS),
        still(name, COUNTS).set_params(criterion=CRITERIA[name], **said),
        still(name, COUNTS).set_params(criterion=CRITERIA[name](**options)),
    ]
    losses = [net.set_params(lr=0.1, max_epochs=2).fit(X, COUNTS).loss_curve_ for net in nets]
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_follow_the_dtype_of_X(dtype):
    data = X.astype(dtype)
    for name, (said, _) in CASES.items():
        net = NeuralNetRegressor(criterion=name, **said, max_epochs=1).fit(data, COUNTS)
        assert net.predict(data).dtype == dtype
    net = NeuralNetRegressor(criterion="gaussian_nll", max_epochs=1).fit(data, COUNTS)
    assert net.predict(data, return_std=True)[1].dtype == dtype


def test_the_prediction_is_better_than_the_mean_on_real_data():
    X, y = load_diabetes(return_X_y=True)
    X, y = X / X.std(0), (y - y.mean()) / y.std()
    for name in ("quantile", "gaussian_nll"):
        net = NeuralNetRegressor(criterion=name, max_epochs=15, random_state=0)
        assert cross_val_score(net, X, y, cv=3).mean() > 0.3


# ------------------------------------------------------------------------------ one's own


class LogNormal(nn.Module):
    """A criterion of a user: median and spread of a positive target."""

    n_outputs_per_target = 2

    def __init__(self, reduction="mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, y_pred, y):
        location, log_scale = y_pred.reshape(*y.shape, 2).unbind(-1)
        losses = log_scale + ((y.log() - location) / log_scale.exp()).square() / 2
        return losses if self.reduction == "none" else losses.mean()

    def predict(self, outputs):
        return outputs.reshape(len(outputs), -1, 2)[..., 0].exp()

    @staticmethod
    def check_target(y, name):
        if (y <= 0).any():
            raise ParameterError(f"{name} must be positive.")


class Sized(nn.Linear):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs, dtype=torch.float64)


@pytest.mark.parametrize("y", [MU, np.c_[MU, 2 * MU]], ids=["one", "two"])
def test_a_criterion_of_ones_own_tells_outputs_and_predictions(y):
    net = NeuralNetRegressor(Sized, criterion=LogNormal, lr=0.05, max_epochs=100, random_state=0)
    net.fit(X, y, sample_weight=WEIGHT, X_val=X, y_val=y)
    outputs = outputs_of(net)
    assert outputs.shape == (90, 2 * (y.size // 90))
    np.testing.assert_allclose(net.predict(X), np.exp(outputs[:, ::2]).reshape(y.shape), rtol=1e-12)
    assert net.history_.valid_r2.iloc[-1] == pytest.approx(net.score(X, y), rel=1e-9)
    assert net.score(X, y) > 0.7
    with pytest.raises(ParameterError, match="y_val must be positive"):
        clone(net).fit(X, y, X_val=X, y_val=-y)


def test_a_prediction_of_the_wrong_shape_is_an_error():
    class Wrong(LogNormal):
        def predict(self, outputs):
            return outputs

    net = NeuralNetRegressor(criterion=Wrong, max_epochs=1).fit(X, MU)
    with pytest.raises(ParameterError, match=r"Wrong.*one number a target, 90.*\(90, 2\)"):
        net.predict(X)


# -------------------------------------------------------------------------------- errors

WRONG = {
    "quantile-0": ({"criterion": "quantile", "criterion__quantile": 0}, "between 0 and 1.*Got 0"),
    "quantile-empty": ({"criterion": "quantile", "criterion__quantile": ()}, "between 0 and 1"),
    "quantile-name": ({"criterion": "quantile", "criterion__quantile": "x"}, "between 0 and 1"),
    "quantile-twice": ({"criterion": "quantile", "criterion__quantile": (0.5, 0.5)}, "twice"),
    "option": ({"criterion": "quantile", "criterion__quantil": 0.5}, "Did you mean 'quantile'"),
    "name": ({"criterion": "quantiles"}, "Did you mean 'quantile'"),
    "variance": ({"criterion": "gaussian_nll", "criterion__min_variance": 0}, "positive number"),
    "reduction": (
        {"criterion": "gaussian_nll", "criterion__reduction": "men"},
        "reduction.*mean.*'men'",
    ),
    "torchs-gaussian": ({"criterion": nn.GaussianNLLLoss()}, "criterion='gaussian_nll'"),
    "narrow-module": (
        {"criterion": "gaussian_nll", "module": linear(1)},
        r"\(90, 1\).*2 outputs for each column.*\(90, 2\)",
    ),
}


@pytest.mark.parametrize(("params", "match"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_an_error(params, match):
    with pytest.raises(ParameterError, match=match):
        NeuralNetRegressor(**params).fit(X, NUMBERS)


def test_negative_counts_are_an_error_that_names_them():
    net = NeuralNetRegressor(criterion="poisson", max_epochs=1)
    with pytest.raises(ParameterError, match=r"y must not be negative.*Got -"):
        net.fit(X, NUMBERS)
    with pytest.raises(ParameterError, match="'poisson' y_val must not be negative"):
        net.fit(X, COUNTS, X_val=X, y_val=NUMBERS)


def test_what_the_criterion_does_not_tell_is_an_error():
    net = NeuralNetRegressor(max_epochs=1).fit(X, NUMBERS)
    with pytest.raises(ParameterError, match=r"MSELoss.*standard deviation.*'gaussian_nll'"):
        net.predict(X, return_std=True)
    with pytest.raises(ParameterError, match=r"MSELoss.*quantiles.*'quantile'"):
        net.predict_quantiles(X)


def test_criteria_are_copied_as_any():
    for name, (said, _) in CASES.items():
        options = {key.removeprefix("criterion__"): value for key, value in said.items()}
        criterion = CRITERIA[name](**options)
        assert repr(copy.deepcopy(criterion)) == repr(criterion)
        assert criterion.state_dict() == {}
    assert "quantile=0.5" in repr(QuantileLoss())


def test_labels_have_none_of_these():
    with pytest.raises(ParameterError, match="compares numbers"):
        NeuralNetClassifier(criterion="quantile").fit(X, COUNTS > 1)
