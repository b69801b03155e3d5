"""Whole fits in float64 against loops written by hand in plain PyTorch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error, r2_score
from torch import nn
from torch.nn import functional

from skorchlike import Callback, NeuralNetClassifier, NeuralNetRegressor

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def make_module(n_outputs, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, n_outputs)).double()


@pytest.fixture(autouse=True)
def _global_rng_as_it_was():
    with torch.random.fork_rng():
        yield


def make_data(n, n_classes=None, n_outputs=1, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    if n_classes:
        return X, np.arange(n) % n_classes
    return X, X[:, :n_outputs] ** 2 + rng.normal(scale=0.1, size=(n, n_outputs))


def by_hand(module, X, y, orders, size, make_optimizer, loss_of_rows, weight=None):
    """Train by hand; return the module and the mean loss of each epoch.

    `orders` holds the row numbers of each epoch, `loss_of_rows` gives one loss a row.
    """
    module = copy.deepcopy(module)
    optimizer = make_optimizer(module.parameters())
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    weight = torch.ones(len(X)).double() if weight is None else torch.from_numpy(weight)
    curve = []
    for order in orders:
        total = weights = 0.0
        for start in range(0, len(order), size):
            rows = torch.tensor(order[start : start + size])
            optimizer.zero_grad()
            w = weight[rows]
            loss = (w * loss_of_rows(module(X[rows]), y[rows])).sum() / w.sum()
            loss.backward()
            optimizer.step()
            total += loss.item() * w.sum().item()
            weights += w.sum().item()
        curve.append(total / weights)
    return module, curve


class Order(Callback):
    """Write down which rows each epoch trained on."""

    passive = True

    def __init__(self, orders):
        self.orders = orders

    def on_epoch_begin(self, ctx):
        self.orders.append([])

    def on_batch_end(self, ctx):
        self.orders[-1].extend(ctx.index.tolist())


class Orders(list):
    def __deepcopy__(self, memo):
        return self


def assert_same(net, module, curve):
    got, expected = net.model_.module_.state_dict(), module.state_dict()
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], **CLOSE)
    np.testing.assert_allclose(net.loss_curve_, curve, rtol=1e-12)


def cross_entropy(output, y):
    return functional.cross_entropy(output, y, reduction="none")


def squares(output, y):
    return functional.mse_loss(output, y, reduction="none").mean(1)


def bce(output, y):
    return functional.binary_cross_entropy_with_logits(output[:, 0], y.double(), reduction="none")


# name, optimizer's parameters, optimizer by hand
OPTIMIZERS = [
    ("sgd", {}, lambda p: torch.optim.SGD(p, lr=0.05)),
    (
        "sgd",
        {"optimizer__momentum": 0.9, "optimizer__weight_decay": 0.01},
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    ),
    ("adamw", {}, lambda p: torch.optim.AdamW(p, lr=0.05, fused=True)),
    ("adamw", {"optimizer__fused": False}, lambda p: torch.optim.AdamW(p, lr=0.05, fused=False)),
    (torch.optim.Adam, {}, lambda p: torch.optim.Adam(p, lr=0.05)),
    ("rmsprop", {"optimizer__lr": 0.01}, lambda p: torch.optim.RMSprop(p, lr=0.01)),
]


@pytest.mark.parametrize(("optimizer", "options", "make_optimizer"), OPTIMIZERS)
def test_optimizers(optimizer, options, make_optimizer):
    X, y = make_data(23, n_classes=3)
    module, orders = make_module(3), Orders()
    net = NeuralNetClassifier(
        module, optimizer=optimizer, lr=0.05, batch_size=8, max_epochs=4, random_state=0, **options
    )
    net.fit(X, y, callbacks=[Order(orders)])
    assert_same(net, *by_hand(module, X, y, orders, 8, make_optimizer, cross_entropy))


def test_plain_sgd_without_shuffling():
    X, y = make_data(23, n_outputs=2)
    module = make_module(2)
    net = NeuralNetRegressor(
        module, optimizer="sgd", lr=0.1, batch_size=5, max_epochs=3, shuffle=False
    ).fit(X, y)
    orders = [list(range(23))] * 3
    assert_same(
        net, *by_hand(module, X, y, orders, 5, lambda p: torch.optim.SGD(p, lr=0.1), squares)
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_bce_with_one_output(weighted):
    X, y = make_data(30, n_classes=2)
    weight = np.random.default_rng(1).uniform(0.1, 2, 30) if weighted else None
    module, orders = make_module(1), Orders()
    net = NeuralNetClassifier(
        module, criterion="bce_with_logits", optimizer="sgd", lr=0.1, batch_size=7, max_epochs=3
    ).fit(X, y, weight, callbacks=[Order(orders)])
    make_optimizer = lambda p: torch.optim.SGD(p, lr=0.1)  # noqa: E731
    assert_same(net, *by_hand(module, X, y, orders, 7, make_optimizer, bce, weight))


def test_drop_last_trains_on_full_batches_alone():
    X, y = make_data(23, n_classes=3)
    module, orders = make_module(3), Orders()
    net = NeuralNetClassifier(
        module, optimizer="sgd", lr=0.1, batch_size=5, max_epochs=4, drop_last=True, random_state=0
    ).fit(X, y, callbacks=[Order(orders)])
    assert [len(order) for order in orders] == [20] * 4
    # shuffling leaves out other rows in other epochs
    assert len({frozenset(order) for order in orders}) > 1
    make_optimizer = lambda p: torch.optim.SGD(p, lr=0.1)  # noqa: E731
    assert_same(net, *by_hand(module, X, y, orders, 5, make_optimizer, cross_entropy))


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(4, 30),
    size=st.integers(1, 35),
    shuffle=st.booleans(),
    weighted=st.booleans(),
    regression=st.booleans(),
    seed=st.integers(0, 100),
)
def test_any_size_batch_order_and_weights(n, size, shuffle, weighted, regression, seed):
    cls, loss = (
        (NeuralNetRegressor, squares) if regression else (NeuralNetClassifier, cross_entropy)
    )
    X, y = make_data(n, n_classes=None if regression else 2, n_outputs=2, seed=seed)
    weight = np.random.default_rng(seed).uniform(0.1, 3, n) if weighted else None
    module, orders = make_module(2, seed), Orders()
    net = cls(
        module,
        optimizer="sgd",
        lr=0.05,
        batch_size=size,
        max_epochs=2,
        shuffle=shuffle,
        random_state=seed,
    ).fit(X, y, weight, callbacks=[Order(orders)])
    assert [sorted(order) for order in orders] == [list(range(n))] * 2
    if not shuffle:
        assert orders == [list(range(n))] * 2
    make_optimizer = lambda p: torch.optim.SGD(p, lr=0.05)  # noqa: E731
    assert_same(net, *by_hand(module, X, y, orders, size, make_optimizer, loss, weight))


def test_shuffling_gives_another_order_each_epoch():
    orders = Orders()
    X, y = make_data(30, n_classes=3)
    NeuralNetClassifier(batch_size=10, max_epochs=5).fit(X, y, callbacks=[Order(orders)])
    assert len({tuple(order) for order in orders}) == 5


# ------------------------------------------------------------------- validation


class Keep(Callback):
    """Keep a copy of the module at the end of every epoch."""

    def __init__(self, modules):
        self.modules = modules

    def on_epoch_end(self, ctx):
        self.modules.append(copy.deepcopy(ctx.module).eval())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_validation_loss_and_accuracy_are_scikit_learns(size, weighted):
    X, y = make_data(24, n_classes=3)
    X_val, y_val = make_data(17, n_classes=3, seed=1)
    weight = np.random.default_rng(2).uniform(0.1, 2, 17) if weighted else None
    modules = Orders()
    net = NeuralNetClassifier(make_module(3), max_epochs=3, predict_batch_size=size, random_state=0)
    extra = {"X_val": X_val, "y_val": y_val, "sample_weight_val": weight}
    net.fit(X, y, **extra, callbacks=[Keep(modules)])
    for module, record in zip(modules, net.model_.history_, strict=True):
        with torch.no_grad():
            proba = module(torch.from_numpy(X_val)).softmax(1).numpy()
        loss = log_loss(y_val, proba, sample_weight=weight)
        accuracy = accuracy_score(y_val, proba.argmax(1), sample_weight=weight)
        assert record["valid_loss"] == pytest.approx(loss, rel=1e-12)
        assert record["valid_accuracy"] == pytest.approx(accuracy, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_validation_loss_and_r2_are_scikit_learns(n_outputs, weighted):
    X, y = make_data(24, n_outputs=n_outputs)
    X_val, y_val = make_data(17, n_outputs=n_outputs, seed=1)
    weight = np.random.default_rng(2).uniform(0.1, 2, 17) if weighted else None
    modules = Orders()
    net = NeuralNetRegressor(make_module(n_outputs), max_epochs=3, predict_batch_size=5)
    extra = {"X_val": X_val, "y_val": y_val, "sample_weight_val": weight}
    net.fit(X, y, **extra, callbacks=[Keep(modules)])
    for module, record in zip(modules, net.model_.history_, strict=True):
        with torch.no_grad():
            y_pred = module(torch.from_numpy(X_val)).numpy()
        mse = mean_squared_error(y_val, y_pred, sample_weight=weight)
        r2 = r2_score(y_val, y_pred, sample_weight=weight)
        assert record["valid_loss"] == pytest.approx(mse, rel=1e-12)
        assert record["valid_r2"] == pytest.approx(r2, rel=1e-9)


def test_validation_changes_no_bit_of_the_training():
    X, y = make_data(24, n_classes=3)
    module = make_module(3)
    params = {"max_epochs": 3, "batch_size": 5, "random_state": 0}
    plain = NeuralNetClassifier(module, **params).fit(X, y)
    validated = NeuralNetClassifier(module, **params).fit(X, y, X_val=X[:9], y_val=y[:9])
    for name, tensor in plain.model_.module_.state_dict().items():
        assert torch.equal(tensor, validated.model_.module_.state_dict()[name])
    assert plain.loss_curve_ == validated.loss_curve_


def test_the_score_of_the_estimator_is_that_of_its_last_validation():
    X, y = make_data(24, n_classes=3)
    net = NeuralNetClassifier(make_module(3), max_epochs=3).fit(X, y, X_val=X, y_val=y)
    assert net.score(X, y) == pytest.approx(net.history_["valid_accuracy"].iloc[-1])
