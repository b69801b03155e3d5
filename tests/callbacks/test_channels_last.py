"""Channels last: the same numbers in another order in memory."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from doubles import FailingCallback, Log, weights_of
from torch import nn

from skorchlike import (
    Callback,
    CancelBatchException,
    ChannelsLast,
    NeuralNetClassifier,
    ParameterError,
)

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(22, 3, 6, 5)), np.arange(22) % 2
VOLUMES = RNG.normal(size=(10, 2, 4, 3, 3))
LAST = {"memory_format": torch.channels_last}


class Images(nn.Module):
    """Convolution, batch norm, linear; in double precision."""

    def __init__(self, n_outputs):
        super().__init__()
        # no bias: before a batch norm its gradient would be nothing but rounding
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, n_outputs)
        self.double()

    def forward(self, x):
        return self.linear(self.norm(self.conv(x)).relu().mean((2, 3)))


class Volumes(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.deep = nn.Conv3d(2, 4, 2, dtype=torch.float64)
        self.flat = nn.Conv2d(4, 4, 2, dtype=torch.float64)
        self.linear = nn.Linear(4, n_outputs, dtype=torch.float64)

    def forward(self, x):
        return self.linear(self.flat(self.deep(x).mean(2)).mean((2, 3)))


class Look(Callback):
    """Keep at a stage whether batch, output and gradient of the convolution are so stored."""

    order = 100

    def __init__(self, seen):
        self.seen = seen

    def look(self, ctx):
        self.seen.append((ctx.training, ctx.X.is_contiguous(**LAST), ctx.X.shape[1:]))

    def on_after_predict(self, ctx):
        self.look(ctx)

    def on_batch_valid_after_predict(self, ctx):
        self.look(ctx)

    def on_batch_predict_end(self, ctx):
        self.look(ctx)

    def on_after_backward(self, ctx):
        self.seen.append(("gradient", ctx.module.conv.weight.grad.is_contiguous(**LAST)))


def make_net(callbacks=(), module=Images, **params):
    fixed = {"batch_size": 8, "max_epochs": 3, "lr": 0.05, "random_state": 0}
    return NeuralNetClassifier(module, callbacks=list(callbacks), **{**fixed, **params})


def assert_close(net, other):
    got, expected = (weights_of(n.model_.module_) for n in (net, other))
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-9, atol=1e-9)


OPTIMIZERS = [
    {"optimizer": "sgd", "optimizer__momentum": 0.9},
    {"optimizer": "adamw"},
    {"optimizer": "adamw", "optimizer__fused": True},
    {"optimizer": "adamw", "optimizer__foreach": True},
    {"optimizer": "adam", "optimizer__fused": True, "optimizer__amsgrad": True},
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_results_are_those_without_it(optimizer):
    with_it = make_net([ChannelsLast()], **optimizer).fit(X, Y)
    without = make_net(**optimizer).fit(X, Y)
    assert_close(with_it, without)
    np.testing.assert_allclose(with_it.predict_proba(X), without.predict_proba(X), rtol=1e-8)
    np.testing.assert_allclose(with_it.loss_curve_, without.loss_curve_, rtol=1e-8)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
@pytest.mark.parametrize(("first", "then"), [(0, 1), (1, 0), (1, 1)])
def test_it_may_come_and_go_where_a_fit_is_continued(first, then, optimizer):
    net = make_net([ChannelsLast()] * first, warm_start=True, **optimizer).fit(X, Y)
    net.set_params(callbacks=[ChannelsLast()] * then).fit(X, Y)
    plain = make_net(warm_start=True, **optimizer).fit(X, Y).fit(X, Y)
    assert_close(net, plain)


def test_batches_weights_and_gradients_are_stored_with_the_channels_last():
    seen = Log()
    net = make_net([ChannelsLast(), Look(seen)], max_epochs=1)
    net.fit(X, Y, X_val=X[:4], y_val=Y[:4]).predict(X[:4])
    image = (3, 6, 5)
    train = [(True, True, image), ("gradient", True)]
    assert seen == [*train * 3, (False, True, image), (False, True, image)]
    conv = net.model_.module_.conv.weight
    assert conv.is_contiguous(**LAST)
    assert not conv.is_contiguous()


def test_the_order_is_really_another_one():
    seen = Log()
    make_net([Look(seen)], max_epochs=1).fit(X, Y)
    assert set(seen) == {(True, False, (3, 6, 5)), ("gradient", False)}


def test_volumes_too_and_modules_that_have_both():
    net = make_net([ChannelsLast()], Volumes).fit(VOLUMES, Y[:10])
    assert_close(net, make_net((), Volumes).fit(VOLUMES, Y[:10]))
    module = net.model_.module_
    assert module.deep.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert module.flat.weight.is_contiguous(**LAST)
    assert not module.deep.weight.is_contiguous()


class Plain(nn.Sequential):
    def __init__(self, n_outputs):
        super().__init__(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(24, n_outputs))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_and_single_rows(dtype):
    images = X.astype(dtype)
    net = make_net([ChannelsLast()], Plain, dtype=dtype, batch_size=7).fit(images, Y)
    assert net.predict(images[:1]).shape == (1,)
    assert net.model_.module_[0].weight.dtype == getattr(torch, dtype)
    assert make_net([ChannelsLast()], Plain, dtype=dtype).fit(images[:1], Y[:1]).n_iter_ == 3


@pytest.mark.parametrize("shape", [(22, 90), (22, 3, 30), (22, 3, 5, 3, 2, 1)])
def test_data_that_are_no_images_are_an_error_before_training(shape):
    seen = Log()

    class Never(Callback):
        def on_epoch_begin(self, ctx):
            seen.append(1)

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(90, 2)

        def forward(self, x):
            return self.linear(x.flatten(1))

    net = make_net([ChannelsLast(), Never()], Flat)
    with pytest.raises(ParameterError, match=r"ChannelsLast needs images.*X has the shape"):
        net.fit(X.reshape(shape), Y)
    assert not seen
    assert not hasattr(net, "model_")


def test_a_batch_that_another_callback_made_no_image_is_an_error():
    class Flatten(Callback):
        order = -75

        def on_batch_begin(self, ctx):
            ctx.X = ctx.X.flatten(1)

    with pytest.raises(ParameterError, match=r"shape \(8, 90\)"):
        make_net([ChannelsLast(), Flatten()]).fit(X, Y)


def test_it_survives_cancelled_batches_and_errors():
    cancel = FailingCallback("on_batch_begin", CancelBatchException, step=1)
    assert_close(make_net([cancel, ChannelsLast()]).fit(X, Y), make_net([cancel]).fit(X, Y))
    with pytest.raises(OSError, match="on_batch_end"):
        make_net([ChannelsLast(), FailingCallback("on_batch_end", OSError)]).fit(X, Y)


def test_a_fitted_model_can_be_pickled_and_copied():
    net = make_net([ChannelsLast()]).fit(X, Y)
    for copied in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert copied.model_.module_.conv.weight.is_contiguous(**LAST)
        np.testing.assert_array_equal(copied.predict_proba(X), net.predict_proba(X))


def test_the_users_module_and_data_stay_as_they_were():
    module, images = Images(2), torch.from_numpy(X.copy())
    make_net([ChannelsLast()], module).fit(images, Y)
    assert module.conv.weight.is_contiguous()
    assert images.is_contiguous()
