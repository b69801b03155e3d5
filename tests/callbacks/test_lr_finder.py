"""The sweep over learning rates, against one by hand in plain PyTorch."""

from __future__ import annotations

import copy
import math
import pickle
import random
import warnings

import matplotlib as mpl
import numpy as np
import pytest
import torch
from doubles import Linear, Log, make_data, make_net, same_weights, weights_of
from matplotlib import pyplot as plt
from scipy.stats import linregress
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional

from skorchlike import (
    Callback,
    CancelFitException,
    Checkpoint,
    EarlyStopping,
    LRFinder,
    LRScheduler,
    NeuralNetClassifier,
    NeuralNetRegressor,
    lr_find,
)
from skorchlike.callbacks.base import Setup
from skorchlike.callbacks.tools.lr_records import LRFinderResult

mpl.use("Agg")
X, Y = make_data()


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    plt.close("all")


def numpys_state():
    return np.random.get_state()[1].tolist()  # noqa: NPY002


class Watch(Callback):
    """Write down the weights at the beginning, and the lrs of every step."""

    order = 1000

    def __init__(self, first, lrs=None):
        self.first = first
        self.lrs = lrs

    def on_begin(self, ctx):
        self.first.append(weights_of(ctx.module))

    def on_before_step(self, ctx):
        if self.lrs is not None:
            self.lrs.append([group["lr"] for group in ctx.optimizer.param_groups])


def finder_net(finder=None, others=(), **params):
    callbacks = {"lr_finder": finder or LRFinder(n_steps=6), **dict(others)}
    return make_net(callbacks=callbacks, **{"optimizer": "sgd", "max_epochs": 50, **params})


def sweep_by_hand(first, lrs, accumulate=1):
    """Return the loss before each step of an SGD sweep, and the module."""
    module = Linear(3, 2)
    module.load_state_dict(first)
    optimizer = torch.optim.SGD(module.parameters(), fused=True)
    inputs, target = torch.from_numpy(X), torch.from_numpy(Y)
    losses, batches, i = [], [slice(0, 4), slice(4, 8)], 0
    for lr in lrs:
        means = []
        for _ in range(accumulate):
            rows = batches[i % 2]
            loss = functional.cross_entropy(module(inputs[rows]), target[rows])
            loss.backward()
            means.append(loss.item())
            i += 1
        losses.append(sum(means) / accumulate)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        optimizer.zero_grad()
    return losses


def smoothed_by_hand(losses, smoothing):
    """The weighted mean of all losses so far, written out."""
    means = []
    for n in range(1, len(losses) + 1):
        weights = [smoothing ** (n - 1 - i) for i in range(n)]
        means.append(np.average(losses[:n], weights=weights))
    return means


# ----------------------------------------------------------------- sweep by hand


@pytest.mark.parametrize("smoothing", [0.0, 0.9])
@pytest.mark.parametrize("mode", ["exp", "linear"])
def test_losses_are_those_of_a_sweep_by_hand(mode, smoothing):
    first, n = Log(), 25
    options = {"stop_factor": None, "smoothing": smoothing, "mode": mode}
    finder = LRFinder(1e-3, 5.0, n, **options)
    net = finder_net(finder, {"watch": Watch(first)}, shuffle=False).fit(X, Y)
    records = net.model_.callbacks_.lr_finder.records
    part = np.arange(n) / (n - 1)
    lrs = 1e-3 * 5000**part if mode == "exp" else 1e-3 + (5 - 1e-3) * part
    np.testing.assert_allclose(records["lr"], lrs, rtol=1e-12)
    assert records["loss"].tolist() == sweep_by_hand(first[0], records["lr"])
    means = smoothed_by_hand(records["loss"].tolist(), smoothing)
    np.testing.assert_allclose(records["smoothed"], means, rtol=1e-12)
    assert net.model_.stop_reason_ == "lr_finder"
    assert net.n_iter_ == 13


class Accumulate(Callback):
    """Step once in three batches, over the ends of epochs too."""

    order = -20

    def on_begin(self, ctx):
        self.seen = 0

    def on_batch_begin(self, ctx):
        self.seen += 1
        if self.seen % 3:
            ctx.skip_step()


def test_a_step_over_several_batches_has_their_mean_loss():
    first = Log()
    others = {"watch": Watch(first), "accumulate": Accumulate()}
    net = finder_net(LRFinder(1e-2, 1.0, 7), others, shuffle=False).fit(X, Y)
    records = net.model_.callbacks_.lr_finder.records
    expected = sweep_by_hand(first[0], records["lr"], accumulate=3)
    assert records["loss"].tolist() == pytest.approx(expected, rel=1e-14)
    assert len(records) == 7


class Script(Callback):
    """Replace the losses of the batches."""

    def __init__(self, losses):
        self.losses = losses

    def on_after_loss(self, ctx):
        ctx.loss = ctx.loss * 0 + self.losses[ctx.global_step - 1]


@pytest.mark.parametrize(
    ("losses", "stop_factor", "n_records"),
    [
        ([4, 2, 1, 3, 4, 5, 9, 9], 4.0, 6),
        ([4, 2, 1, 3, 4, 4, 4, 4], 4.0, 8),
        ([4, 2, 1, 3, 4, 5, 9, 9], 2.0, 4),
        ([4, 2, 1, 3, 4, 5, 9, 9], None, 8),
        ([-1, -2, -1, 0, 1, 3, 5, 9], 2.0, 5),
        ([-1, -2, -1, 0, 1, 3, 5, 9], 4.0, 7),
    ],
)
def test_it_ends_when_the_loss_exceeds_its_minimum_so_many_times(losses, stop_factor, n_records):
    finder = LRFinder(n_steps=8, stop_factor=stop_factor, smoothing=0.0)
    net = finder_net(finder, {"script": Script(losses)}).fit(X, Y)
    assert net.model_.callbacks_.lr_finder.records["loss"].tolist() == losses[:n_records]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it_without_a_warning(bad):
    finder = LRFinder(n_steps=8, stop_factor=None)
    net = finder_net(finder, {"script": Script([4, 3, 2, 1, bad, 1, 1, 1])}).fit(X, Y)
    result = net.model_.callbacks_.lr_finder
    np.testing.assert_equal(result.records["loss"].tolist(), [4, 3, 2, 1, bad])
    assert result.suggestion in result.records["lr"].tolist()[:4]
    assert net.model_.stop_reason_ == "lr_finder"


def test_the_losses_are_recorded_as_the_loop_records_them():
    seen = Log()

    class LastLoss(Callback):
        def on_before_backward(self, ctx):
            seen.append(ctx.last_loss)

    net = finder_net(others={"seen": LastLoss()}).fit(X, Y)
    assert net.model_.callbacks_.lr_finder.records["loss"].tolist() == seen


def test_other_parameter_groups_keep_their_ratio_and_a_schedule_has_no_say():
    lrs = Log()
    others = {"watch": Watch(Log(), lrs), "lr": LRScheduler("exponential", policy__gamma=0.1)}
    groups = {"weight": {"lr": 0.02}, "bias": {"lr": 0.1}}
    finder_net(LRFinder(1e-4, 1.0, 5), others, optimizer__param_groups=groups).fit(X, Y)
    # the last step is not taken: it would be undone at once
    expected = [[lr, 5 * lr] for lr in (1e-4, 1e-3, 1e-2, 1e-1)]
    np.testing.assert_allclose(lrs, expected, rtol=1e-12)


def test_an_lr_that_is_a_tensor_is_written_in_place():
    seen = Log()

    class Same(Callback):
        def on_begin(self, ctx):
            self.lr = ctx.optimizer.param_groups[0]["lr"]

        def on_after_step(self, ctx):
            seen.append(self.lr.item())

    lr = torch.tensor(0.05, dtype=torch.float64)
    net = finder_net(others={"same": Same()}, optimizer="adam", optimizer__lr=lr).fit(X, Y)
    records = net.model_.callbacks_.lr_finder.records
    assert seen == records["lr"][:-1].tolist()
    assert lr.item() == 0.05
    assert net.model_.optimizer_["param_groups"][0]["lr"].item() == 0.05


# --------------------------------------------------------------- everything back


class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.BatchNorm1d(3), nn.Linear(3, 2))


class Scaled(nn.CrossEntropyLoss):
    """A criterion with a parameter."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, y_pred, y):
        return super().forward(self.scale * y_pred, y)


class Everything(Callback):
    """Write down all states at the beginning, after the finder's own on_begin."""

    order = 1000

    def __init__(self, seen, error=None):
        self.seen = seen
        self.error = error

    def on_begin(self, ctx):
        self.seen.append(states_of(ctx))
        self.seen.append(ctx.module)

    def on_before_step(self, ctx):
        if self.error is not None and ctx.epoch == ctx.max_epochs - 8:
            raise self.error

    def on_end(self, ctx):
        with torch.no_grad():  # as one that restores the best weights
            for parameter in ctx.module.parameters():
                parameter += 1

    def on_exit(self, ctx):
        self.seen.append(states_of(ctx))


def states_of(ctx):
    parts = (ctx.module, ctx.criterion, ctx.optimizer)
    return copy.deepcopy([part.state_dict() for part in parts])


@pytest.mark.parametrize("continued", [False, True])
@pytest.mark.parametrize("error", [None, CancelFitException, ValueError, KeyboardInterrupt])
def test_all_states_are_put_back_however_the_fit_ends(error, continued):
    seen = Log()
    params = {"module": Normed, "criterion": Scaled, "optimizer": "adam", "warm_start": True}
    net = make_net(**params)
    if continued:
        net.fit(X, Y)
        before = copy.deepcopy(net.model_)
    callbacks = {"finder": LRFinder(n_steps=6), "watch": Everything(seen, error)}
    net.set_params(max_epochs=10)
    if error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            net.fit(X, Y, callbacks=callbacks)
    else:
        net.fit(X, Y, callbacks=callbacks)
    first, module, last = seen
    for was, now in zip(first[:2], last[:2], strict=True):
        assert same_weights(was, now)
    torch.testing.assert_close(first[2], last[2], rtol=0, atol=0)
    assert len(last[2]["state"]) == (5 if continued else 0)
    assert all(p.grad is None for p in module.parameters())
    if continued:
        for was, now in [
            (before.module_, net.model_.module_),
            (before.criterion_, net.model_.criterion_),
        ]:
            assert same_weights(weights_of(was), weights_of(now))


def test_an_optimizer_in_a_wrapper_that_closes_before_is_put_back():
    from skorchlike import Accelerate

    seen = Log()
    net = make_net(optimizer="adam", module=None, dtype="float32", warm_start=True).fit(X, Y)
    before = copy.deepcopy(net.model_)
    callbacks = {"accelerate": Accelerate(), "finder": LRFinder(n_steps=4), "watch": Watch(seen)}
    net.fit(X, Y, callbacks=callbacks)
    assert same_weights(weights_of(before.module_), weights_of(net.model_.module_))
    torch.testing.assert_close(before.optimizer_, net.model_.optimizer_, rtol=0, atol=0)


def test_those_who_come_later_in_on_end_find_the_first_weights():
    first, last = Log(), Log()

    class Save(Watch):
        def on_end(self, ctx):
            last.append(weights_of(ctx.module))

    finder_net(others={"save": Save(first)}).fit(X, Y)
    assert same_weights(first[0], last[0])


def test_a_further_sweep_has_its_own_records():
    net = finder_net(warm_start=True).fit(X, Y)
    once = net.model_.callbacks_.lr_finder
    again = net.fit(X, Y).model_.callbacks_.lr_finder
    assert len(once.records) == len(again.records) == 6
    assert once.records["lr"].tolist() == again.records["lr"].tolist()


def test_an_early_failure_of_another_callback_is_not_hidden():
    class Fail(Callback):
        def on_begin(self, ctx):
            raise OSError("mine")

    with pytest.raises(OSError, match="mine") as caught:
        finder_net(others={"fail": Fail()}).fit(X, Y)
    assert all("lr_finder" not in note for note in caught.value.__notes__)


def test_a_fit_too_short_for_the_sweep_warns_and_keeps_what_there_is():
    net = finder_net(LRFinder(n_steps=9), max_epochs=4)
    with pytest.warns(UserWarning, match="n_steps=9 and this fit takes 8"):
        net.fit(X, Y)
    assert len(net.model_.callbacks_.lr_finder.records) == 8
    assert net.model_.stop_reason_ == "completed"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        finder_net(LRFinder(n_steps=8), max_epochs=4).fit(X, Y)


# -------------------------------------------------------------------- suggestion


def brute_force(lrs, smoothed):
    """The middle of the window with the steepest fall, before the minimum."""
    half = max(1, len(lrs) // 7)
    middles = np.arange(half, len(lrs) - half)
    fits = [
        linregress(np.log10(lrs[m - half : m + half + 1]), smoothed[m - half : m + half + 1])
        for m in middles
    ]
    slopes = np.array([fit.slope for fit in fits])
    minimum = min(range(half, len(lrs)), key=lambda i: smoothed[i])
    slopes[middles > minimum] = 0
    return lrs[middles[slopes.argmin()]] if slopes.min() < 0 else None


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("linear", [False, True])
def test_the_suggestion_is_where_the_smoothed_loss_falls_most_steeply(seed, linear):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 60))
    lrs = np.linspace(1e-3, 1, n) if linear else np.geomspace(1e-6, 10, n)
    smoothed = rng.normal(size=n).cumsum()
    records = {"lr": lrs, "loss": smoothed, "smoothed": smoothed}
    assert LRFinderResult(records).suggestion == brute_force(lrs, smoothed)


@pytest.mark.parametrize("losses", [[], [1.0], [2.0, 1.0], [1.0, 2.0, 3.0], [0.1] * 9])
def test_without_a_fall_there_is_no_suggestion(losses):
    records = {"lr": np.geomspace(1e-3, 1, len(losses)), "loss": losses, "smoothed": losses}
    assert LRFinderResult(records).suggestion is None


def test_the_suggestion_trains_better_than_lrs_far_from_it():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(256, 5))
    target = inputs[:, 0] * inputs[:, 1] + inputs[:, 2]
    net = NeuralNetRegressor(max_epochs=15, batch_size=32, random_state=0)
    lr = lr_find(net, inputs, target).suggestion
    losses = [
        clone(net).set_params(lr=factor * lr).fit(inputs, target).loss_curve_[-1]
        for factor in (1, 0.01, 100)
    ]
    assert losses[0] < 0.5 * min(losses[1:])


# ------------------------------------------------------------------------- result


def test_a_result_can_be_copied_and_pickled_with_all_it_can_do():
    result = finder_net().fit(X, Y).model_.callbacks_.lr_finder
    for again in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert isinstance(again, LRFinderResult)
        assert again["suggestion"] == again.suggestion == result.suggestion
        assert again.records.equals(result.records)
        assert again.records is not result.records
        assert again.plot().get_xscale() == "log"
    assert repr(result) == f"LRFinderResult(suggestion={result.suggestion}, 6 steps)"
    assert dict(result).keys() == {"suggestion", "records"}


def test_the_plot_shows_both_curves_and_the_suggestion():
    result = lr_find(make_net(optimizer="sgd"), X, Y, n_steps=30)
    _, ax = plt.subplots()
    assert result.plot(ax) is ax
    loss, smoothed, mark = ax.get_lines()
    assert loss.get_ydata().tolist() == result.records["loss"].tolist()
    assert smoothed.get_ydata().tolist() == result.records["smoothed"].tolist()
    assert smoothed.get_xdata().tolist() == result.records["lr"].tolist()
    assert set(mark.get_xdata()) == {result.suggestion}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("learning rate", "training loss")
    rising = {"lr": [0.1, 1.0, 2.0], "loss": [1.0, 2.0, math.inf], "smoothed": [1, 2, math.inf]}
    assert len(LRFinderResult(rising).plot().get_lines()) == 2
    assert len(LRFinderResult().plot().get_lines()) == 2


# ------------------------------------------------------------------------ lr_find


def test_lr_find_leaves_estimator_module_and_generators_alone():
    module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    generator = np.random.RandomState(3)
    net = NeuralNetClassifier(module, random_state=generator, callbacks=["early_stopping"])
    net.set_params(callbacks__early_stopping__monitor="train_loss", max_epochs=2).fit(X, Y)
    weights, model, params = weights_of(module), net.model_, repr(net.get_params())
    trained = weights_of(model.module_)
    before = torch.get_rng_state(), numpys_state(), random.getstate()
    drawn = copy.deepcopy(generator).rand()
    result = lr_find(net, X, Y, n_steps=7)
    assert len(result.records) == 7
    after = torch.get_rng_state(), numpys_state(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert same_weights(weights_of(module), weights)
    assert net.model_ is model
    assert same_weights(weights_of(model.module_), trained)
    assert repr(net.get_params()) == params
    assert copy.deepcopy(generator).rand() == drawn


def test_lr_find_is_the_sweep_of_the_callback_and_reproducible():
    net = make_net(max_epochs=1)
    result = lr_find(net, X, Y, n_steps=9, start_lr=1e-3, end_lr=0.5, mode="linear", smoothing=0.5)
    finder = LRFinder(1e-3, 0.5, 9, "linear", smoothing=0.5)
    callbacks = {"lr_finder": finder}
    same = make_net(max_epochs=9, callbacks=callbacks).fit(X, Y).model_.callbacks_.lr_finder
    assert result.records.equals(same.records)
    again = lr_find(net, X, Y, n_steps=9, start_lr=1e-3, end_lr=0.5, mode="linear", smoothing=0.5)
    assert result.records.equals(again.records)


def test_lr_find_never_validates_and_prints_nothing(capsys):
    class Count(Callback):
        def on_valid_begin(self, ctx):
            raise AssertionError("validated")

    net = make_net(callbacks=[Count()], validation_fraction=0.25, verbose=1, batch_size=8)
    assert len(lr_find(net, X, Y, n_steps=5, keep_callbacks=True).records) == 5
    assert capsys.readouterr() == ("", "")


def test_lr_find_runs_without_the_estimators_callbacks_unless_told():
    seen = Log()

    class Double(Callback):
        def on_after_loss(self, ctx):
            seen.append(1)
            ctx.loss = 2 * ctx.loss

    stopping = EarlyStopping("train_loss", patience=1, min_delta=1e9)
    net = make_net(optimizer="sgd", callbacks=[Double(), stopping], shuffle=False)
    alone = lr_find(net, X, Y, n_steps=8)
    assert seen == []
    assert len(alone.records) == 8
    kept = lr_find(net, X, Y, n_steps=8, keep_callbacks=True)
    assert kept.records["loss"][0] == 2 * alone.records["loss"][0]
    assert len(kept.records) == 4  # the callback that ends the fit ended the sweep


class OfSklearn:
    """A callback of scikit-learn's own protocol, which does not want to be called."""

    def setup(self, estimator, context):
        raise AssertionError("called")

    on_fit_task_begin = on_fit_task_end = teardown = setup


def test_lr_find_runs_without_scikit_learns_callbacks():
    net = make_net().set_callbacks(OfSklearn())
    assert len(lr_find(net, X, Y, n_steps=4).records) == 4
    with pytest.raises(AssertionError, match="called"):
        net.fit(X, Y)


class Noise(TransformerMixin, BaseEstimator):
    """Draws from numpy's global generator."""

    def fit(self, X, y=None):
        self.shift_ = np.random.normal()  # noqa: NPY002
        return self

    def transform(self, X):
        return X + self.shift_


def test_lr_find_takes_a_pipeline_and_fits_copies_of_its_steps():
    net = make_net(optimizer="sgd")
    scaler = StandardScaler()
    pipe = make_pipeline(scaler, make_pipeline("passthrough", net))
    result = lr_find(pipe, 5 + 3 * X, Y, n_steps=9)
    assert not hasattr(scaler, "mean_")
    assert not hasattr(net, "model_")
    direct = lr_find(net, StandardScaler().fit_transform(5 + 3 * X), Y, n_steps=9)
    assert result.records.equals(direct.records)
    assert lr_find(make_pipeline(net), X, Y, n_steps=9).records.equals(
        lr_find(net, X, Y, n_steps=9).records
    )
    before = numpys_state()
    lr_find(make_pipeline(Noise(), net), X, Y, n_steps=3)
    assert numpys_state() == before


def test_lr_find_passes_weights_on():
    net = make_net(optimizer="sgd", batch_size=-1)
    weight = np.where(Y == 1, 3.0, 0.5)
    got = lr_find(net, X, Y, n_steps=3, sample_weight=weight).records["loss"][0]
    first = Log()
    net.fit(X, Y, callbacks=[Watch(first)])
    module = Linear(3, 2)
    module.load_state_dict(first[0])
    losses = functional.cross_entropy(
        module(torch.from_numpy(X)), torch.from_numpy(Y), reduction="none"
    )
    assert got == pytest.approx(np.average(losses.detach(), weights=weight), rel=1e-12)


@pytest.mark.parametrize(
    "est",
    [StandardScaler(), make_pipeline(StandardScaler(), "passthrough"), NeuralNetClassifier, "net"],
)
def test_lr_find_refuses_what_is_no_such_estimator(est):
    with pytest.raises(ValueError, match="lr_find takes a NeuralNetClassifier"):
        lr_find(est, X, Y)


# ------------------------------------------------------------- errors and advice

ARGUMENTS = [
    ({"start_lr": 0.0}, "'start_lr' parameter of LRFinder .* Got 0.0"),
    ({"end_lr": -1}, "'end_lr' .* Got -1"),
    ({"start_lr": 1.0, "end_lr": 0.1}, "'start_lr' .* below end_lr. Got start_lr=1.0"),
    ({"n_steps": 1}, "'n_steps' .* Got 1"),
    ({"n_steps": 2.5}, "'n_steps' .* Got 2.5"),
    ({"mode": "log"}, "'mode' .* Got 'log'"),
    ({"stop_factor": 1}, "'stop_factor' .* Got 1"),
    ({"smoothing": 1.0}, "'smoothing' .* Got 1.0"),
]


@pytest.mark.parametrize(("params", "message"), ARGUMENTS)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    first, lrs = Log(), Log()
    net = finder_net(LRFinder(**params), {"watch": Watch(first, lrs)})
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert lrs == []
    with pytest.raises(ValueError, match=message):
        lr_find(make_net(), X, Y, **params)


def test_an_optimizer_without_an_lr_is_an_error():
    class NoLR(torch.optim.SGD):
        def __init__(self, params, momentum=0.0):
            super().__init__(params, lr=0.1, momentum=momentum)
            for group in self.param_groups:
                del group["lr"]

    with pytest.raises(ValueError, match="optimizer with an lr; NoLR has none"):
        finder_net(optimizer=NoLR).fit(X, Y)


def test_it_advises_that_nothing_is_trained():
    finder = LRFinder()
    assert "lr_find" in finder.advise(Setup("f", {"f": finder}, (), 5))[0]


def test_it_plans_the_epochs_of_the_sweep():
    assert LRFinder(n_steps=100).plan(50, 8) == (13, 8)
    assert LRFinder(n_steps=100).plan(5, 8) == (5, 8)


def test_a_finder_among_the_callbacks_kept_gives_way():
    X, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    net = NeuralNetClassifier(callbacks=["lr_finder"], random_state=0)
    kept = lr_find(net, X, y, n_steps=10, keep_callbacks=True)
    assert kept.records.equals(lr_find(net, X, y, n_steps=10).records)


def test_a_sweep_leaves_the_folder_of_checkpoints_to_the_fit_to_come(tmp_path):
    net = NeuralNetClassifier(max_epochs=2, callbacks=[Checkpoint(tmp_path / "run")])
    lr_find(net, X, Y, n_steps=5, keep_callbacks=True)
    assert not (tmp_path / "run").exists()
    net.fit(X, Y)
