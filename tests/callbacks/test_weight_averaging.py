"""Averaged weights, against loops written by hand with torch."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from doubles import FailingCallback, Linear, Log, make_data, make_net, same_weights, weights_of
from torch import nn
from torch.optim.swa_utils import (
    SWALR,
    AveragedModel,
    get_ema_multi_avg_fn,
    get_swa_avg_fn,
    update_bn,
)

from skorchlike import (
    EMA,
    SWA,
    BatchTransform,
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    EarlyStopping,
    GradientAccumulation,
    LRScheduler,
    NeuralNetClassifier,
    explain,
)
from skorchlike.training.stages import FIT_STAGES, STAGES

X, Y = make_data()
XT, YT = torch.from_numpy(X), torch.from_numpy(Y)


class Normed(nn.Sequential):
    """A module with batch norm and dropout."""

    def __init__(self, dropout=0.5):
        super().__init__(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(dropout), nn.ReLU(), nn.Linear(4, 2)
        )
        self.double()


class Start(Callback):
    """Keep a copy of the module as it is before training."""

    order = -50

    def __init__(self, modules):
        self.modules = modules

    def on_begin(self, ctx):
        self.modules.append(copy.deepcopy(ctx.module))


def fit(*callbacks, fit_params=None, **params):
    """Return the fitted estimator and its module before training."""
    modules = Log()
    fixed = {"optimizer": "sgd", "lr": 0.3, "shuffle": False, "max_epochs": 4}
    named = {"start": Start(modules), **{f"cb{i}": cb for i, cb in enumerate(callbacks)}}
    net = make_net(callbacks=named, **{**fixed, **params})
    return net.fit(X, Y, **(fit_params or {})), modules[0]


def plain_epochs(module, n_epochs, lr=0.3):
    """Train by hand as `fit` does; yield after every step: (epoch, is the epoch's last)."""
    optimizer = torch.optim.SGD(module.parameters(), lr=lr)
    for epoch in range(1, n_epochs + 1):
        for rows in (slice(0, 4), slice(4, 8)):
            nn.functional.cross_entropy(module(XT[rows]), YT[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
            yield epoch, rows.start == 4


def assert_close(module, expected):
    weights = weights_of(expected)
    got = weights_of(module)
    assert got.keys() == weights.keys()
    for name, value in got.items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=1e-12)


def state(net, name="cb0"):
    return net.model_.callbacks_[name]


def training_weights(net, name="cb0"):
    """Return the state of the module with the weights as trained."""
    return {**weights_of(net.model_.module_), **state(net, name)["other_weights"]}


# ------------------------------------------------------------------------- EMA


@pytest.mark.parametrize("decay", [0, 0.5, 0.9])
@pytest.mark.parametrize("start", [1, 2, 4, 0.5])
@pytest.mark.filterwarnings("ignore:EMA:UserWarning")
def test_ema_is_the_average_of_torch_over_the_steps_from_start_on(decay, start):
    net, module = fit(EMA(decay, start))
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(decay))
    first = 3 if start == 0.5 else start
    for epoch, _ in plain_epochs(module, 4):
        if epoch >= first:
            average.update_parameters(module)
    assert_close(net.model_.module_, average.module)
    assert state(net)["n_averaged"] == int(average.n_averaged) == 2 * (5 - first)


def test_ema_averages_running_statistics_and_leaves_integers():
    net, module = fit(EMA(0.5), module=Normed, module__dropout=0.0)
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    for _ in plain_epochs(module, 4):
        average.update_parameters(module)
    # torch averages the count too, and cuts off the fraction each time
    assert average.module[1].num_batches_tracked != 8
    average.module[1].num_batches_tracked.fill_(8)
    assert_close(net.model_.module_, average.module)


def test_ema_averages_a_weight_used_twice_once():
    class Tied(nn.Sequential):
        def __init__(self):
            first, second = nn.Linear(3, 3).double(), nn.Linear(3, 3).double()
            second.weight = first.weight
            super().__init__(first, second, nn.Linear(3, 2).double())

    net, module = fit(EMA(0.5), module=Tied)
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    for _ in plain_epochs(module, 4):
        average.update_parameters(module)
    assert_close(net.model_.module_, average.module)
    assert net.model_.module_[0].weight is net.model_.module_[1].weight


@pytest.mark.parametrize("averaging", [EMA(0.5), SWA(0.25), SWA(2)])
@pytest.mark.parametrize("valid", [None, 0.25])
def test_training_goes_on_to_the_bit_as_without_averaging(averaging, valid):
    params = {"module": Normed, "optimizer": "adam", "lr": 0.01, "validation_fraction": valid}
    plain, _ = fit(**params)
    net, _ = fit(averaging, **params)
    assert same_weights(training_weights(net), weights_of(plain.model_.module_))
    assert not same_weights(weights_of(net.model_.module_), weights_of(plain.model_.module_))
    columns = ["train_loss", "lr"]
    assert net.history_[columns].equals(plain.history_[columns])


def test_validation_is_of_the_average_from_start_on():
    net, module = fit(EMA(0.5, start=3), max_epochs=5, fit_params={"X_val": X, "y_val": Y})
    losses = []
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    for epoch, last in plain_epochs(module, 5):
        if epoch >= 3:
            average.update_parameters(module)
        if last:
            validated = average if epoch >= 3 else module
            losses.append(nn.functional.cross_entropy(validated(XT), YT).item())
    np.testing.assert_allclose(net.history_["valid_loss"], losses, rtol=0, atol=1e-12)


@pytest.mark.parametrize("averaging", [EMA(0.5), SWA(2)])
def test_early_stopping_gives_the_average_of_the_best_epoch(averaging):
    seen = Log()

    class Worse(Callback):
        logs = ("my_loss",)

        def on_epoch_end(self, ctx):
            ctx.log("my_loss", [3, 2, 1, 2, 2][ctx.epoch - 1])
            seen.append(weights_of(ctx.module))

    net, _ = fit(averaging, Worse(), EarlyStopping("my_loss", patience=2), max_epochs=9)
    assert net.n_iter_ == 5
    assert same_weights(weights_of(net.model_.module_), seen[2])
    assert not same_weights(seen[2], seen[4])


def test_a_step_left_out_is_not_averaged():
    class EverySecond(Callback):
        def on_after_backward(self, ctx):
            if ctx.step == 1:
                ctx.skip_step()

    net, _ = fit(EMA(0.5), EverySecond())
    assert state(net)["n_averaged"] == 4


def test_accumulated_batches_are_averaged_as_one():
    large, _ = fit(EMA(0.5), batch_size=8)
    small, _ = fit(EMA(0.5), GradientAccumulation(2))
    assert_close(small.model_.module_, large.model_.module_)
    assert state(small)["n_averaged"] == state(large)["n_averaged"] == 4


def test_the_parameters_of_the_criterion_are_not_averaged():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, y_pred, y):
            return nn.functional.cross_entropy(self.scale * y_pred, y)

    net, _ = fit(EMA(0.5), criterion=Scaled)
    plain, _ = fit(criterion=Scaled)
    assert plain.model_.criterion_.scale != 1
    assert torch.equal(net.model_.criterion_.scale, plain.model_.criterion_.scale)


class TwoOutputs(Linear):
    def forward(self, X):
        y_pred = super().forward(X)
        return y_pred, y_pred.detach()


class TwoLosses(NeuralNetClassifier):
    def do_get_loss(self, ctx):
        ctx.loss = nn.functional.cross_entropy(ctx.y_pred[0], ctx.y)


@pytest.mark.parametrize("averaging", [EMA(0.5), SWA(2)])
def test_a_module_of_several_outputs_is_averaged(averaging):
    expected, _ = fit(averaging)
    params = {**expected.get_params(deep=False), "module": TwoOutputs}
    net = TwoLosses(**params).fit(X, Y)
    assert same_weights(weights_of(net.model_.module_), weights_of(expected.model_.module_))


# ------------------------------------------------------------------------- SWA


@pytest.mark.parametrize(
    ("start", "first"), [(1, 1), (3, 3), (4, 4), (0.0, 1), (0.3, 2), (0.99, 4)]
)
def test_swa_is_the_mean_of_the_weights_at_the_end_of_the_epochs(start, first):
    net, module = fit(SWA(start))
    average = AveragedModel(module, avg_fn=get_swa_avg_fn())
    ends = []
    for epoch, last in plain_epochs(module, 4):
        if last and epoch >= first:
            average.update_parameters(module)
            ends.append(weights_of(module)["weight"])
    assert_close(net.model_.module_, average.module)
    mean = torch.stack(ends).mean(0)
    torch.testing.assert_close(net.model_.module_.weight.detach(), mean, rtol=0, atol=1e-12)
    assert state(net)["n_averaged"] == len(ends) == 5 - first


def test_a_share_that_is_a_whole_number_of_epochs_is_that_number():
    net, _ = fit(SWA(0.29), max_epochs=100)
    assert 0.29 * 100 < 29
    assert state(net)["n_averaged"] == 71


def test_swa_measures_batch_norms_as_torch_does():
    params = {"module": Normed, "module__dropout": 0.0, "batch_size": -1}
    net, _ = fit(SWA(3), **params)
    got = net.model_.module_
    expected = copy.deepcopy(got)
    # the pass must not depend on what the statistics were
    expected[1].running_mean.fill_(7)
    update_bn([XT], expected)
    expected[1].num_batches_tracked.fill_(4)
    assert_close(got, expected)
    trained = training_weights(net)
    plain, _ = fit(**params)
    assert same_weights(trained, weights_of(plain.model_.module_))


def test_statistics_of_sorted_data_are_those_of_the_whole():
    class NormedInput(nn.Sequential):
        def __init__(self):
            super().__init__(nn.BatchNorm1d(1), nn.Linear(1, 2))
            self.double()

    y = np.repeat([0, 1], 50)
    sorted_X = np.random.default_rng(0).normal(size=(100, 1)) + 10.0 * y[:, None]
    net = make_net(module=NormedInput, callbacks=[SWA(1)], batch_size=20, shuffle=True)
    norm = net.fit(sorted_X, y).model_.module_[0]
    np.testing.assert_allclose(norm.running_mean, sorted_X.mean(0), rtol=1e-12)
    # of batches of one class it would be about 1
    np.testing.assert_allclose(norm.running_var, sorted_X.var(0), rtol=0.2)


def test_the_pass_changes_statistics_alone():
    seen = Log()

    class Frozen(Normed):
        """One batch norm stays in eval mode, and every prediction draws random numbers."""

        def __init__(self):
            super().__init__()
            self.append(nn.BatchNorm1d(2, momentum=0.3).double())
            self.append(nn.BatchNorm1d(2, track_running_stats=False).double())

        def train(self, mode=True):
            super().train(mode)
            self[5].eval()
            return self

        def forward(self, X):
            return super().forward(X + 1e-9 * torch.rand_like(X))

    class Look(Callback):
        order = 39

        def see(self, ctx):
            modes = [part.training for part in ctx.module.modules()]
            momenta = [ctx.module[1].momentum, ctx.module[5].momentum]
            count = int(ctx.module[1].num_batches_tracked)
            rng = torch.get_rng_state().tolist()
            seen.append((modes, momenta, count, rng, ctx.X, ctx.y_pred, ctx.module[5].running_mean))

        def on_before_valid(self, ctx):
            self.see(ctx)

    class LookAgain(Look):
        order = 41

    net, _ = fit(SWA(1), Look(), LookAgain(), module=Frozen)
    assert len(seen) == 8
    for before, after in zip(seen[::2], seen[1::2], strict=True):
        assert before[:-1] == after[:-1]
    assert seen[0][0][-2:] == [False, True]
    assert net.model_.module_[5].running_mean.tolist() == [0, 0]
    assert net.model_.module_[1].running_mean.tolist() != [0, 0, 0, 0]


def test_a_last_batch_of_one_row_that_training_drops_does_no_harm():
    net = make_net(module=Normed, callbacks=[SWA(1)], batch_size=2, drop_last=True)
    net.fit(X[:3], Y[:3])
    hidden = net.model_.module_[0](XT[:3])
    torch.testing.assert_close(net.model_.module_[1].running_mean, hidden.mean(0))


def test_the_pass_predicts_as_the_estimator_predicts():
    calls = Log()

    class Doubled(NeuralNetClassifier):
        def do_predict(self, ctx):
            ctx.X = 2 * ctx.X
            calls.append((len(ctx.X), ctx.module.training))
            super().do_predict(ctx)

    params = {"module": Normed, "batch_size": 4, "max_epochs": 2}
    net = Doubled(**params, callbacks=[SWA(2)], random_state=0).fit(X, Y)
    hidden = net.model_.module_[0](2 * XT)
    torch.testing.assert_close(net.model_.module_[1].running_mean, hidden.mean(0))
    # two epochs of training, then the pass
    assert calls == [(4, True)] * 4 + [(4, False)] * 2

    class Thrice(Callback):
        def do_predict(self, ctx):
            ctx.y_pred = ctx.module(3 * ctx.X)

    net = make_net(module=Normed, callbacks=[SWA(2), Thrice()]).fit(X, Y)
    hidden = net.model_.module_[0](3 * XT)
    torch.testing.assert_close(net.model_.module_[1].running_mean, hidden.mean(0))


@pytest.mark.parametrize(("on", "factor"), [("all", 5), ("train", 1), ("both", 1)])
def test_the_pass_sees_inputs_as_predict_does(on, factor):
    transform = BatchTransform(lambda X: 5 * X, on=on)
    net = make_net(module=Normed, callbacks=[SWA(2), transform]).fit(X, Y)
    hidden = net.model_.module_[0](factor * XT)
    torch.testing.assert_close(net.model_.module_[1].running_mean, hidden.mean(0))


# ---------------------------------------------------------------- learning rate


def swalr(lrs, lr, epochs, anneal, n):
    """Return the learning rates of n epochs by SWALR."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    optimizer = torch.optim.SGD(groups)
    scheduler = SWALR(optimizer, lr, epochs, anneal)
    seen = []
    for _ in range(n):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return seen


@pytest.mark.parametrize("anneal", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 3, np.int64(4), 10])
def test_the_lr_is_annealed_as_by_torch_from_start_on(anneal, epochs):
    averaging = SWA(3, lr=0.5, anneal_epochs=epochs, anneal=anneal)
    net, _ = fit(averaging, lr=0.1, max_epochs=8)
    expected = swalr([0.1], 0.5, int(epochs), anneal, 6)
    np.testing.assert_allclose(net.history_["lr"][2:], np.ravel(expected), rtol=1e-12)
    assert net.history_["lr"].tolist()[:2] == [0.1, 0.1]


def test_each_parameter_group_is_annealed_from_its_own_lr():
    seen = Log()

    class Rates(Callback):
        order = 50

        def on_before_step(self, ctx):
            if ctx.step == 2:
                seen.append([group["lr"] for group in ctx.optimizer.param_groups])

    groups = [("bias", {"lr": 0.4})]
    fit(SWA(2, lr=0.2, anneal_epochs=2), Rates(), lr=0.1, optimizer__param_groups=groups)
    assert sorted(seen[0]) == [0.1, 0.4]
    np.testing.assert_allclose(seen[1:], swalr(seen[0], 0.2, 2, "cos", 3), rtol=1e-12)


@pytest.mark.parametrize("unit", ["batch", "epoch"])
def test_the_lr_of_swa_wins_over_a_schedule_of_torch(unit):
    scheduler = LRScheduler("exponential", unit=unit, policy__gamma=0.5)
    alone, _ = fit(scheduler, max_epochs=6)
    net, _ = fit(scheduler, SWA(3, lr=0.2, anneal_epochs=2), max_epochs=6)
    assert net.history_["lr"].tolist()[:2] == alone.history_["lr"].tolist()[:2]
    # what the scheduler has come to before the first batch of epoch 3
    begin = 0.3 * 0.5 ** (4 if unit == "batch" else 2)
    expected = np.ravel(swalr([begin], 0.2, 2, "cos", 4))
    np.testing.assert_allclose(net.history_["lr"][2:], expected, rtol=1e-12)


def test_the_lr_of_swa_wins_over_one_set_in_every_batch():
    class Rate(Callback):
        def on_batch_begin(self, ctx):
            ctx.optimizer.param_groups[0]["lr"] = 7.0

    expected, _ = fit(SWA(1, lr=0.1, anneal_epochs=0))
    net, _ = fit(SWA(1, lr=0.1, anneal_epochs=0), Rate())
    assert same_weights(weights_of(net.model_.module_), weights_of(expected.model_.module_))


def test_an_lr_that_is_a_tensor_stays_as_the_user_gave_it():
    lr = torch.tensor(0.3)
    averaging = SWA(2, lr=0.1, anneal_epochs=0)
    net, _ = fit(averaging, optimizer="adam", optimizer__lr=lr, optimizer__foreach=False)
    np.testing.assert_allclose(net.history_["lr"], [0.3, 0.1, 0.1, 0.1], rtol=1e-6)
    assert lr == torch.tensor(0.3)


# ------------------------------------------------------------- continued fits


AVERAGING = {
    "ema": EMA(0.5, start=2),
    "late_ema": EMA(0.5, start=5),
    "swa": SWA(2),
    "late_swa": SWA(5),
    "swa_lr": SWA(2, lr=0.05, anneal_epochs=3),
}


@pytest.mark.parametrize("averaging", AVERAGING.values(), ids=AVERAGING)
@pytest.mark.parametrize("how", ["warm_start", "partial_fit", "pickled"])
@pytest.mark.filterwarnings("ignore:.*averages nothing:UserWarning")
def test_a_continued_fit_is_one_fit_to_the_bit(averaging, how):
    params = {"module": Normed, "optimizer": "adam", "shuffle": True}
    one, _ = fit(averaging, max_epochs=6, **params)
    net, _ = fit(averaging, max_epochs=3, warm_start=True, **params)
    if how == "partial_fit":
        for _ in range(3):
            net.partial_fit(X, Y)
    else:
        net = pickle.loads(pickle.dumps(net.set_params(callbacks__start=None)))
        net.fit(X, Y)
    assert net.n_iter_ == 6
    assert same_weights(weights_of(net.model_.module_), weights_of(one.model_.module_))
    assert same_weights(training_weights(net), training_weights(one))
    assert state(net)["n_averaged"] == state(one)["n_averaged"]
    assert net.history_["lr"].tolist() == one.history_["lr"].tolist()


def test_an_average_once_begun_goes_on_in_a_continued_fit():
    net, _ = fit(SWA(0.5), warm_start=True)
    assert state(net)["n_averaged"] == 2
    assert state(net.fit(X, Y))["n_averaged"] == 6


def test_a_fit_may_be_continued_in_another_dtype():
    net, _ = fit(EMA(0.5), warm_start=True, dtype="float32")
    assert net.set_params(dtype="float64").fit(X, Y).model_.module_.weight.dtype == torch.float64
    assert state(net)["other_weights"]["weight"].dtype == torch.float64


# --------------------------------------------------------- cancels and errors


class Shadow(Callback):
    """Average by hand, and compare the module with that wherever it should be in it."""

    order = 41

    def __init__(self, log, steps):
        self.log = log
        self.steps = steps

    def on_begin(self, ctx):
        self.average = []
        self.trained = weights_of(ctx.module)

    def on_before_train(self, ctx):
        assert same_weights(weights_of(ctx.module), self.trained)

    def on_after_step(self, ctx):
        if self.steps:
            self.average.append(weights_of(ctx.module))

    def on_batch_exit(self, ctx):
        if ctx.training:
            self.trained = weights_of(ctx.module)

    def mean(self):
        if not self.average:
            return self.trained
        mean = self.average[0]
        for i, weights in enumerate(self.average[1:], start=1):
            share = 0.5 if self.steps else 1 / (i + 1)
            mean = {name: mean[name].lerp(weights[name], share) for name in mean}
        return mean

    def on_before_valid(self, ctx):
        if not self.steps and "train_loss" in ctx.history[-1]:
            self.average.append(self.trained)

    def on_epoch_end(self, ctx):
        self.log.append(ctx.epoch)
        assert same_weights(weights_of(ctx.module), self.mean())

    on_valid_begin = on_batch_valid_end = on_valid_end = on_end = on_epoch_end

    def on_exit(self, ctx):
        self.log.append((self.mean(), self.trained))


CANCELS = [
    (stage, cancel)
    for stage in FIT_STAGES
    if stage not in ("on_begin", "on_before_valid") and not STAGES[stage].is_exit
    for cancel in (CancelBatchException, CancelEpochException, CancelFitException)
    if cancel.__name__ in STAGES[stage].cancels
]


@pytest.mark.parametrize("averaging", [EMA(0.5), SWA(1)], ids=["ema", "swa"])
@pytest.mark.parametrize("order", [0, 60])
@pytest.mark.parametrize(("stage", "cancel"), CANCELS)
@pytest.mark.filterwarnings("ignore:.*averages nothing:UserWarning")
def test_a_cancel_leaves_the_average_in_the_module(averaging, order, stage, cancel):
    class Acting(FailingCallback):
        pass

    Acting.order = order
    log = Log()
    shadow, acting = Shadow(log, isinstance(averaging, EMA)), Acting(stage, cancel, epoch=2)
    net, _ = fit(averaging, shadow, acting, validation_fraction=0.25)
    assert net.model_.stop_reason_ == ("cancelled" if cancel is CancelFitException else "completed")
    assert_consistent(net, log)


def assert_consistent(net, log):
    mean, trained = log[-1]
    assert len(log) > 1
    assert state(net)["n_averaged"] > 0
    assert state(net)["average_in_module"]
    assert same_weights(weights_of(net.model_.module_), mean)
    assert same_weights(training_weights(net), trained)


@pytest.mark.parametrize("averaging", [EMA(0.5), SWA(1)], ids=["ema", "swa"])
@pytest.mark.parametrize("order", [0, 60])
@pytest.mark.parametrize("stage", [s for s in FIT_STAGES if s not in ("on_begin", "on_exit")])
def test_an_interruption_leaves_the_average_in_the_module(averaging, order, stage):
    class Acting(FailingCallback):
        pass

    Acting.order = order
    log = Log()
    shadow = Shadow(log, isinstance(averaging, EMA))
    acting = Acting(stage, KeyboardInterrupt, epoch=None if stage == "on_end" else 3)
    starting = {"start": Start(Log()), "cb0": averaging, "cb1": shadow, "cb2": acting}
    net = make_net(callbacks=starting, max_epochs=4, validation_fraction=0.25)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y)
    assert_consistent(net, log)


@pytest.mark.parametrize("call", [7, 11, 12, 14])
def test_batch_norms_of_an_interrupted_fit_are_measured(call):
    calls = Log()

    class Interrupted(NeuralNetClassifier):
        def do_predict(self, ctx):
            calls.append(1)
            if len(calls) == call:  # 1 to 4 train, 5 to 8 measure, and so on
                raise KeyboardInterrupt
            super().do_predict(ctx)

    params = {"module": Normed, "batch_size": 2, "max_epochs": 4, "random_state": 0}
    net = Interrupted(**params, callbacks={"cb0": SWA(1)})
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y)
    norm = net.model_.module_[1]
    hidden = net.model_.module_[0](XT)
    torch.testing.assert_close(norm.running_mean, hidden.mean(0))
    assert norm.momentum == 0.1
    assert state(net)["n_averaged"] == (1 if call < 13 else 2)


@pytest.mark.parametrize("cancel", [CancelEpochException, CancelFitException])
@pytest.mark.parametrize("stage", ["on_after_train", "on_before_valid", "on_batch_end"])
def test_batch_norms_are_measured_also_after_a_cancel(cancel, stage):
    norms = Log()

    class Norms(Callback):
        order = 100

        def see(self, ctx):
            hidden = ctx.module[0](XT).detach()
            norms.append((ctx.module[1].running_mean.clone(), hidden.mean(0)))

        def on_epoch_end(self, ctx):
            self.see(ctx)

        def on_end(self, ctx):
            self.see(ctx)

    acting = FailingCallback(stage, cancel, epoch=2)
    make_net(module=Normed, callbacks=[SWA(1), acting, Norms()], max_epochs=3).fit(X, Y)
    assert len(norms) == (2 if cancel is CancelFitException else 4)
    for got, expected in norms:
        torch.testing.assert_close(got, expected)


def test_an_epoch_cut_short_is_averaged_by_swa_and_one_without_training_is_not():
    net, _ = fit(SWA(1), FailingCallback("on_batch_begin", CancelEpochException, step=2))
    assert state(net)["n_averaged"] == 4
    for stage in ("on_before_train", "on_epoch_begin"):
        net, _ = fit(SWA(1), FailingCallback(stage, CancelEpochException, epoch=3))
        assert state(net)["n_averaged"] == 3


@pytest.mark.parametrize("averaging", [EMA(), SWA()])
def test_a_fit_that_ends_in_on_begin_ends_well(averaging):
    net = make_net(
        callbacks={"end": FailingCallback("on_begin", CancelFitException), "a": averaging}
    )
    assert net.fit(X, Y).model_.stop_reason_ == "cancelled"
    assert state(net, "a")["n_averaged"] == 0
    # a failure before its own on_begin leaves nothing to clean up either
    net.set_params(callbacks__end__error=OSError)
    with pytest.raises(OSError, match="from on_begin") as caught:
        net.fit(X, Y)
    assert len(caught.value.__notes__) == 1


def test_a_snapshot_within_an_epoch_holds_both_sets_of_weights():
    seen = Log()

    class Save(Callback):
        order = 50

        def on_batch_exit(self, ctx):
            if not ctx.resumable:
                return
            saved = ctx.snapshot()
            trained, average = saved["module"], saved["callbacks"]["cb0"][1]
            seen.append((trained["weight"], average, weights_of(ctx.module)["weight"]))

    _, module = fit(EMA(0.5), Save())
    average = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    for (trained, kept, _), _ in zip(seen, plain_epochs(module, 4), strict=True):
        average.update_parameters(module)
        assert not kept["average_in_module"]
        expected = average.module.weight.detach()
        torch.testing.assert_close(kept["other_weights"]["weight"], expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(trained, module.weight.detach(), rtol=0, atol=1e-12)


# ---------------------------------------------------------- warnings and errors


@pytest.mark.parametrize("averaging", [EMA(start=5), SWA(start=5)])
def test_a_start_after_the_last_epoch_warns_before_training(averaging):
    batches = Log()

    class Count(Callback):
        def on_batch_begin(self, ctx):
            batches.append(1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=r"start=5\) averages nothing.*ends with epoch 4"):
            fit(averaging, Count())
    assert batches == []
    with pytest.warns(UserWarning, match="averages nothing"):
        net, _ = fit(averaging)
    assert same_weights(weights_of(net.model_.module_), weights_of(fit()[0].model_.module_))


def test_a_fit_that_ends_before_averaging_starts_warns():
    stop = FailingCallback("on_epoch_end", None, epoch=2)
    with pytest.warns(
        UserWarning, match=r"SWA\(start=0.75\).*starts in epoch 4.*ends with epoch 2"
    ):
        fit(SWA(), stop)


def test_partial_fit_does_not_warn_of_a_start_within_max_epochs():
    net = make_net(callbacks={"ema": EMA(0.5, start=3)}, max_epochs=3)
    counts = [state(net.partial_fit(X, Y), "ema")["n_averaged"] for _ in range(4)]
    assert counts == [0, 0, 2, 4]


@pytest.mark.parametrize(("decay", "n_warnings"), [(0.91, 1), (0.9, 0)])
def test_ema_warns_if_most_of_the_average_is_its_beginning(decay, n_warnings):
    # after the first step there are 7, and 0.91 ** 7 = 0.52, 0.9 ** 7 = 0.48
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(EMA(decay))
    assert len(caught) == n_warnings
    for warning in caught:
        assert "EMA(decay=0.91) had so few optimizer steps" in str(warning.message)


@pytest.mark.parametrize("other", [SWA(), EMA(0.9)])
def test_two_averages_are_an_error_before_training(other):
    net = make_net(callbacks={"one": EMA(), "two": other})
    with pytest.raises(ValueError, match="'one' and 'two' both average the weights"):
        net.fit(X, Y)
    assert any("both average" in warning for warning in explain(net).warnings)


def test_explain_says_that_averaging_starts_too_late():
    said = explain(make_net(callbacks=[SWA(start=9)], max_epochs=8)).warnings
    assert len(said) == 1
    assert "starts in epoch 9" in said[0]
    assert explain(make_net(callbacks=[SWA(start=8)], max_epochs=8)).warnings == []


WRONG = [
    (EMA(decay=1.0), r"'decay' parameter of EMA.*\[0.0, 1.0\). Got 1.0"),
    (EMA(decay=-0.1), "'decay' .* Got -0.1"),
    (EMA(decay="0.9"), "'decay' .* Got '0.9'"),
    (EMA(decay=float("nan")), "'decay' .* Got nan"),
    (EMA(start=0), "'start' parameter of EMA.* Got 0"),
    (EMA(start=-0.5), "'start' .* Got -0.5"),
    (EMA(start=1.0), "'start' .* Got 1.0"),
    (EMA(start=None), "'start' .* Got None"),
    (SWA(start=0), "'start' parameter of SWA.* Got 0"),
    (SWA(start=1.5), "'start' .* Got 1.5"),
    (SWA(lr=0), "'lr' parameter of SWA.* Got 0"),
    (SWA(lr="auto"), "'lr' .* Got 'auto'"),
    (SWA(anneal_epochs=-1), "'anneal_epochs' .* Got -1"),
    (SWA(anneal_epochs=2.0), "'anneal_epochs' .* Got 2.0"),
    (SWA(anneal="exp"), "'anneal' .* Got 'exp'"),
]


@pytest.mark.parametrize(("averaging", "message"), WRONG)
def test_an_impossible_argument_is_an_error_before_training(averaging, message):
    net = make_net(callbacks=[averaging])
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert not hasattr(net, "model_")
