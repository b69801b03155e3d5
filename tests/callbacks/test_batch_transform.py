"""Transforms of batches, against fits on transformed data."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from doubles import Log, make_data, make_net, same_weights, weights_of
from torch import nn

from skorchlike import BatchTransform, Callback, NeuralNetRegressor, explain
from skorchlike.exceptions import ParameterError

X, Y = make_data()
VALID = {"X_val": X[:6], "y_val": Y[:6]}


def double(X):
    return 2 * X


def double_in_place(X):
    return X.mul_(2)


def add_noise(X):
    return X + torch.randn_like(X)


def log_in(log, *, with_target=False):
    """Return a transform that notes the number of rows of each call and changes nothing."""

    def transform(X, y=None):
        log.append(len(X))
        return (X, y) if with_target else X

    return transform


@pytest.mark.parametrize(
    ("on", "calls"),
    [
        ("train", [4, 4]),
        ("valid", [2, 2, 2]),
        ("both", [4, 4, 2, 2, 2]),
        ("all", [4, 4, 2, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_it_acts_on_the_batches_asked_for(on, calls):
    log = Log()
    net = make_net(callbacks=[BatchTransform(log_in(log), on=on)], max_epochs=1)
    net.fit(X, Y, **VALID).predict(X)
    assert log == calls


@pytest.mark.parametrize("transform", [double, double_in_place])
def test_a_fit_is_that_on_transformed_data(transform):
    data = torch.from_numpy(X.copy())
    expected = make_net().fit(2 * X, Y, X_val=2 * X[:6], y_val=Y[:6])
    net = make_net(callbacks=[BatchTransform(transform, on="all")]).fit(data, Y, **VALID)
    assert same_weights(weights_of(net.model_.module_), weights_of(expected.model_.module_))
    columns = ["train_loss", "valid_loss", "valid_accuracy"]
    assert net.history_[columns].equals(expected.history_[columns])
    np.testing.assert_array_equal(net.predict_proba(X), expected.predict_proba(2 * X))
    assert (data.numpy() == X).all()
    assert net.model_.callbacks_ == {}


def test_the_target_is_transformed_with_the_inputs():
    def double_both(X, y):
        return 2 * X, 2 * y

    params = {"batch_size": 4, "max_epochs": 3, "random_state": 0}
    params |= {"numeric_transform": None, "target_transform": None}
    target = X[:, 0]
    expected = NeuralNetRegressor(**params).fit(2 * X, 2 * target, X_val=2 * X, y_val=2 * target)
    transform = BatchTransform(double_both, on="both", with_target=True)
    net = NeuralNetRegressor(**params, callbacks=[transform])
    net.fit(X, target, X_val=X, y_val=target)
    np.testing.assert_array_equal(net.predict(X), expected.predict(X))
    columns = ["train_loss", "valid_loss", "valid_r2"]
    assert net.history_[columns].equals(expected.history_[columns])


def test_random_transforms_draw_from_the_generators_of_the_fit():
    weights = []
    for seed in (0, 0, 1):
        torch.rand(3)
        before = torch.get_rng_state()
        net = make_net(callbacks=[BatchTransform(add_noise)], shuffle=False, random_state=seed)
        weights.append(weights_of(net.fit(X, Y).model_.module_))
        assert torch.equal(torch.get_rng_state(), before)
    assert same_weights(weights[0], weights[1])
    assert not same_weights(weights[0], weights[2])
    plain = make_net(shuffle=False).fit(X, Y)
    assert not same_weights(weights[0], weights_of(plain.model_.module_))


# ---------------------------------------------------------------------- modules


class Watched(nn.Module):
    """Note how it is called."""

    def __init__(self, log):
        super().__init__()
        self.log = log
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def to(self, device):
        self.log.append(("to", device))
        return super().to(device)

    def forward(self, X):
        self.log.append((self.training, torch.is_grad_enabled()))
        return X * self.scale


def test_a_module_is_placed_and_in_train_mode_for_training_alone():
    log = Log()
    net = make_net(callbacks=[BatchTransform(Watched(log), on="all")], max_epochs=2)
    net.fit(X, Y, X_val=X[:2], y_val=Y[:2])
    epoch = [(True, False), (True, False), (False, False)]
    assert log == [("to", torch.device("cpu")), *epoch, *epoch]
    log.clear()
    net.predict(X[:2])
    assert log == [("to", torch.device("cpu")), (False, False)]


class Running(nn.Module):
    """Subtract the mean of what it has seen in training."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(3, dtype=torch.float64))
        self.register_buffer("n", torch.zeros((), dtype=torch.int64))

    def forward(self, X):
        if self.training:
            self.total += X.sum(0)
            self.n += len(X)
        return X - self.total / self.n


def test_what_a_module_learns_is_kept_and_the_users_own_is_left_alone():
    module = Running()
    net = make_net(callbacks=[BatchTransform(module, on="all")], warm_start=True)
    net.fit(X + 5, Y)
    learned = net.model_.callbacks_.batch_transform
    assert (learned["n"], module.n) == (24, 0)
    np.testing.assert_allclose(learned["total"], 3 * (X + 5).sum(0))
    for fitted in (net, pickle.loads(pickle.dumps(net))):
        centred = torch.from_numpy(X + 5) - learned["total"] / learned["n"]
        expected = net.model_.module_(centred).detach()
        got = fitted.decision_function(X + 5)
        np.testing.assert_allclose(got, expected[:, 1] - expected[:, 0], rtol=0, atol=1e-12)
    net.fit(X + 5, Y)
    assert net.model_.callbacks_.batch_transform["n"] == 48


def test_a_module_that_learns_nothing_leaves_no_state():
    net = make_net(callbacks=[BatchTransform(nn.Identity())]).fit(X, Y)
    assert net.model_.callbacks_ == {}


# ----------------------------------------------------------------------- errors


RESULTS = [
    (lambda X: None, False, r"X as a tensor with the batch's 4 rows.*None \(is a `return` missing"),
    (lambda X: X[:3], False, r"batch's 4 rows. It returned a tensor of shape \(3, 3\)"),
    (lambda X: X.sum(), False, r"It returned a tensor of shape \(\)"),
    (lambda X: X.numpy(), False, "It returned a ndarray"),
    (lambda X: (X, X), False, "It returned a tuple"),
    (lambda X, y: X, True, r"must return \(X, y\), since with_target=True. It returned a tensor"),
    (lambda X, y: None, True, r"\(X, y\), since with_target=True. It returned None"),
    (lambda X, y: (X, y, y), True, r"\(X, y\), since with_target=True. It returned a tuple"),
    (lambda X, y: (X, y[:1]), True, r"y as a tensor with the batch's 4 rows.*\(1,\)"),
    (lambda X, y: (X, None), True, "y as a tensor .* None"),
]


@pytest.mark.parametrize(("transform", "with_target", "message"), RESULTS)
def test_a_transform_that_returns_something_else_is_an_error(transform, with_target, message):
    net = make_net(callbacks=[BatchTransform(transform, with_target=with_target)])
    with pytest.raises(ParameterError, match=f"`transform` <lambda> of BatchTransform .*{message}"):
        net.fit(X, Y)
    assert not hasattr(net, "model_")


@pytest.mark.parametrize("on", ["valid", "all"])
def test_the_result_is_checked_wherever_it_acts(on):
    class Cut(nn.Module):
        def forward(self, X):
            return X if self.training else X[:1]

    net = make_net(callbacks=[BatchTransform(Cut(), on=on)])
    with pytest.raises(ParameterError, match=r"Cut of BatchTransform .* 2 rows"):
        net.fit(X, Y, **VALID)
    if on == "all":
        with pytest.raises(ParameterError, match=r"Cut of BatchTransform .* 2 rows"):
            net.fit(X, Y).predict(X)


WRONG = [
    (BatchTransform(None), "'transform' parameter of BatchTransform must be a callable. Got None"),
    (BatchTransform("noise"), "'transform' .* Got 'noise'"),
    (BatchTransform(double, on="test"), "'on' .* Got 'test'"),
    (BatchTransform(double, on=None), "'on' .* Got None"),
    (BatchTransform(double, with_target="yes"), "'with_target' .* Got 'yes'"),
    (BatchTransform(double, on="all", with_target=True), "on='all'.*predict too, which have no y"),
]


@pytest.mark.parametrize(("transform", "message"), WRONG)
def test_an_impossible_argument_is_an_error_before_training(transform, message):
    batches = Log()

    class Count(Callback):
        order = -1

        def on_batch_begin(self, ctx):
            batches.append(1)

    net = make_net(callbacks=[transform, Count()])
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert batches == []


def test_explain_says_that_predict_has_no_target():
    transform = BatchTransform(double, on="all", with_target=True)
    assert "which have no y" in explain(make_net(callbacks=[transform])).warnings[0]
    assert explain(make_net(callbacks=[BatchTransform(double)])).warnings == []


def test_an_error_of_the_transform_says_where():
    def fail(X):
        raise OSError("no such file")

    with pytest.raises(OSError, match="no such file") as caught:
        make_net(callbacks=[BatchTransform(fail)]).fit(X, Y)
    assert (
        "'batch_transform' (BatchTransform) in on_batch_begin, epoch 1" in caught.value.__notes__[0]
    )


def test_its_parameters_can_be_searched():
    from sklearn.model_selection import GridSearchCV

    net = make_net(callbacks=[BatchTransform(double)])
    grid = {"callbacks__batch_transform__transform": [double, add_noise]}
    search = GridSearchCV(net, grid, cv=2).fit(X, Y)
    assert list(search.cv_results_["param_callbacks__batch_transform__transform"]) == [
        double,
        add_noise,
    ]
    chosen = search.best_estimator_.get_params()["callbacks__batch_transform__transform"]
    assert chosen is search.best_params_["callbacks__batch_transform__transform"]
