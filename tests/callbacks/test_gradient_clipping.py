"""Clipping, against loops written by hand."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from doubles import Log, make_data, make_net, same_weights, weights_of
from sklearn.model_selection import GridSearchCV
from torch import nn

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    EarlyStopping,
    GradientClipping,
    NeuralNetClassifier,
)

X, Y = make_data(22, n_features=4, n_classes=3)
X[5] *= 30  # one row with large gradients


class Scaled(nn.Module):
    """A criterion with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, y_pred, y):
        return nn.functional.cross_entropy(self.scale * y_pred, y) + self.scale**2


def make_module(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def net(*callbacks, **params):
    fixed = {"module": make_module(), "optimizer": "sgd", "lr": 0.1, "max_epochs": 3}
    fixed.update(batch_size=5, shuffle=False, random_state=0, callbacks=[*callbacks])
    return NeuralNetClassifier(**{**fixed, **params})


def norm_of(parameters, norm_type):
    values = torch.cat([p.grad.flatten() for p in parameters]).abs()
    if math.isinf(norm_type):
        return values.max()
    return (values**norm_type).sum() ** (1 / norm_type)


def by_hand(max_norm=1.0, norm_type=2.0, clip_value=None, criterion=None):
    """Train by hand; return the parameters and each epoch's norms before clipping."""
    module, criterion = make_module(), criterion or nn.CrossEntropyLoss()
    parameters = [*module.parameters(), *criterion.double().parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    rows, labels = torch.from_numpy(X), torch.from_numpy(Y)
    norms = []
    for _ in range(3):
        norms.append([])
        for part in torch.arange(len(X)).split(5):
            optimizer.zero_grad()
            criterion(module(rows[part]), labels[part]).backward()
            norm = norm_of(parameters, norm_type)
            norms[-1].append(norm.item())
            for p in parameters:
                if max_norm is not None and norm + 1e-6 > max_norm:
                    p.grad *= max_norm / (norm + 1e-6)  # torch's own guard against 0
                if clip_value is not None:
                    np.clip(p.grad.numpy(), -clip_value, clip_value, out=p.grad.numpy())
            optimizer.step()
    return parameters, norms


LIMITS = [
    {},
    {"max_norm": 0.05},
    {"max_norm": 0.05, "norm_type": 1.0},
    {"max_norm": 0.02, "norm_type": math.inf},
    {"max_norm": 0.1, "norm_type": 3},
    {"max_norm": None, "clip_value": 0.01},
    {"max_norm": 0.3, "clip_value": 0.01},
    {"max_norm": 0.02, "clip_value": 0.01},
    {"max_norm": None},
    {"max_norm": math.inf},
]


@pytest.mark.parametrize("criterion", [None, Scaled])
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_it_clips_and_records_as_a_loop_by_hand(limits, criterion):
    params = {} if criterion is None else {"criterion": criterion}
    fitted = net(GradientClipping(**limits), **params).fit(X, Y)
    parameters, norms = by_hand(**limits, criterion=criterion and criterion())
    got = [*fitted.model_.module_.parameters(), *fitted.model_.criterion_.parameters()]
    for one, other in zip(got, parameters, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    history = fitted.history_
    np.testing.assert_allclose(history["gradient_norm"], np.mean(norms, axis=1), rtol=1e-10)
    np.testing.assert_allclose(history["gradient_norm_max"], np.max(norms, axis=1), rtol=1e-10)


class Gradients(Callback):
    """Keep the gradients of each step."""

    order = 25

    def __init__(self, kept):
        self.kept = kept

    def on_before_step(self, ctx):
        self.kept.append(torch.cat([p.grad.flatten() for p in ctx.module.parameters()]))


def test_both_limits_hold_together():
    kept = Log()
    net(GradientClipping(max_norm=0.1, clip_value=0.02), Gradients(kept)).fit(X, Y)
    norms = torch.stack([gradient.norm() for gradient in kept])
    values = torch.stack([gradient.abs().max() for gradient in kept])
    assert norms.max() <= 0.1
    assert values.max() == 0.02


@pytest.mark.parametrize("limits", [{"max_norm": 1e9}, {"max_norm": None}, {"clip_value": 1e9}])
def test_limits_that_are_not_reached_change_no_bit(limits):
    limits = {"max_norm": 1e9, **limits}
    clipped, plain = net(GradientClipping(**limits)).fit(X, Y), net().fit(X, Y)
    assert same_weights(weights_of(clipped.model_.module_), weights_of(plain.model_.module_))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("limits", [{}, {"max_norm": None, "clip_value": 1.0}])
def test_a_gradient_that_is_not_finite_shows_in_both_columns(bad, limits):
    class Spoil(Callback):
        def on_after_backward(self, ctx):
            if ctx.global_step == 3:
                next(ctx.module.parameters()).grad[0, 0] = bad

        def on_after_step(self, ctx):
            if ctx.global_step == 3:
                raise CancelFitException  # before NaN parameters make everything NaN

    history = net(GradientClipping(**limits), Spoil()).fit(X, Y).history_
    for column in ("gradient_norm", "gradient_norm_max"):
        assert not np.isfinite(history[column]).any()
    assert history["gradient_norm_max"].isna().all() == math.isnan(bad)


def test_frozen_parameters_are_left_out():
    class FreezeFirst(Callback):
        def on_begin(self, ctx):
            ctx.module[0].requires_grad_(False)

    fitted = net(GradientClipping(0.05), FreezeFirst()).fit(X, Y)
    assert torch.equal(fitted.model_.module_[0].weight, make_module()[0].weight)
    assert not torch.equal(fitted.model_.module_[2].weight, make_module()[2].weight)


# ------------------------------------------------------------------------- the columns


class Cancel(Callback):
    def __init__(self, stage, error, global_step=None):
        self.stage = stage
        self.error = error
        self.global_step = global_step

    def on_before_train(self, ctx):
        if self.stage == "on_before_train" and ctx.epoch == 2:
            raise self.error

    def on_after_backward(self, ctx):
        if self.stage == "on_after_backward" and self.global_step in (None, ctx.global_step):
            raise self.error

    def on_batch_end(self, ctx):
        if self.stage == "on_batch_end" and ctx.global_step == self.global_step:
            raise self.error


def test_an_epoch_that_is_cut_off_has_the_norms_of_its_steps():
    _, norms = by_hand(max_norm=None)
    clipping = GradientClipping(max_norm=None)
    cut = net(clipping, Cancel("on_batch_end", CancelFitException, 7)).fit(X, Y)
    expected = [np.mean(norms[0]), np.mean(norms[1][:2])]
    np.testing.assert_allclose(cut.history_["gradient_norm"], expected)
    cancelled = net(clipping, Cancel("on_after_backward", CancelBatchException, 2)).fit(X, Y)
    assert cancelled.history_["gradient_norm"].notna().all()


def test_an_epoch_without_a_step_has_no_norm():
    clipping, none = GradientClipping(), Cancel("on_after_backward", CancelBatchException)
    assert "gradient_norm" not in net(clipping, none).fit(X, Y).history_
    skipped = net(clipping, Cancel("on_before_train", CancelEpochException)).fit(X, Y)
    assert skipped.history_["gradient_norm"].isna().tolist() == [False, True, False]


def test_early_stopping_can_monitor_the_norm():
    stopping = EarlyStopping("gradient_norm", mode="min", patience=1, min_delta=1e9)
    assert net(GradientClipping(), stopping).fit(X, Y).n_iter_ == 2


def test_it_waits_for_the_device_once_an_epoch(monkeypatch):
    fetched = []
    item = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda t: fetched.append(1) or item(t))
    plain = net().fit(X, Y)
    without = len(fetched)
    net(GradientClipping()).fit(X, Y)
    assert len(fetched) - 2 * without == 2 * plain.n_iter_


def test_a_continued_fit_goes_on():
    twice = net(GradientClipping(0.05), max_epochs=1, warm_start=True).fit(X, Y).fit(X, Y)
    once = net(GradientClipping(0.05), max_epochs=2).fit(X, Y)
    assert same_weights(weights_of(twice.model_.module_), weights_of(once.model_.module_))
    assert twice.history_["gradient_norm"].tolist() == once.history_["gradient_norm"].tolist()


# ------------------------------------------------------------------------- parameters

ARGUMENTS = [
    ({"max_norm": 0}, "'max_norm' .* Got 0"),
    ({"max_norm": -1.0}, "'max_norm' .* Got -1.0"),
    ({"max_norm": math.nan}, "'max_norm' .* Got nan"),
    ({"max_norm": "1"}, "'max_norm' .* Got '1'"),
    ({"norm_type": 0}, "'norm_type' .* Got 0"),
    ({"norm_type": None}, "'norm_type' .* Got None"),
    ({"clip_value": 0.0}, "'clip_value' .* Got 0.0"),
    ({"clip_value": math.inf}, "'clip_value' .* Got inf"),
]


@pytest.mark.parametrize(("params", "message"), ARGUMENTS)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    with pytest.raises(ValueError, match=f"{message[:10]}.*parameter of GradientClipping"):
        net(GradientClipping(**params)).fit(X, Y)
    with pytest.raises(ValueError, match=message):
        net(GradientClipping(**params)).fit(X, Y)


def test_a_search_chooses_the_limit():
    grid = {"callbacks__gradient_clipping__max_norm": [0.01, None], "max_epochs": [1]}
    estimator = net(GradientClipping(clip_value=0.1))
    search = GridSearchCV(pickle.loads(pickle.dumps(estimator)), grid, cv=2).fit(X, Y)
    chosen = search.best_params_["callbacks__gradient_clipping__max_norm"]
    expected = net(GradientClipping(chosen, clip_value=0.1), max_epochs=1).fit(X, Y)
    best = search.best_estimator_.model_.module_
    assert same_weights(weights_of(best), weights_of(expected.model_.module_))
    assert estimator.callbacks[0].max_norm == 1.0


def test_it_stands_for_its_name():
    named, given = net(callbacks=["gradient_clipping"]), net(GradientClipping())
    weights = [weights_of(one.fit(X, Y).model_.module_) for one in (named, given)]
    assert same_weights(*weights)


@pytest.mark.parametrize("order", [-100, 100])
def test_it_leaves_orderly_when_another_fails_in_on_begin(order):
    class Fails(Callback):
        def __init__(self, order):
            self.order = order

        def on_begin(self, ctx):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        make_net(callbacks=[GradientClipping(), Fails(order)]).fit(*make_data())
    assert not any("failed too" in note for note in caught.value.__notes__)
