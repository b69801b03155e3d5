"""Mixed precision, against loops by hand with torch's own autocast and GradScaler."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from doubles import FailingCallback, Log, same_weights, weights_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from torch import nn

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    GradientAccumulation,
    GradientClipping,
    MixedPrecision,
    NeuralNetClassifier,
    NeuralNetRegressor,
)
from skorchlike.callbacks.base import Setup
from skorchlike.training.stages import FIT_STAGES

rng = np.random.default_rng(0)
X = rng.normal(size=(48, 6)).astype("float32")
Y = np.arange(48) % 3
MOMENTUM = {"optimizer__momentum": 0.9, "optimizer__fused": False}
HUGE = 2.0**21  # overflows float16 until it was halved a few times


def make_module(n_outputs=3, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, n_outputs))


class Elementwise(nn.Module):
    """A linear layer of operations that autocast leaves in float32."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-0.5, 0.5, 18).view(6, 3))

    def forward(self, X):
        return (X[:, :, None] * self.weight).sum(1)


def net(*callbacks, **params):
    fixed = {"module": make_module(), "optimizer": "sgd", "lr": 0.1, "max_epochs": 3}
    fixed.update(batch_size=8, shuffle=False, random_state=0, callbacks=[*callbacks])
    return NeuralNetClassifier(**{**fixed, **params})


def by_hand(dtype, *, init_scale=65536.0, growth_interval=2000, group=1, max_norm=None, size=8):
    """Train as torch's documentation of automatic mixed precision shows."""
    module = make_module()
    # torch 2.13's fused SGD takes up its momentum before it is set when the first step overflows
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, fused=False)
    scaler = torch.amp.GradScaler(
        "cpu",
        enabled=dtype is torch.float16,
        init_scale=init_scale,
        growth_interval=growth_interval,
    )
    rows, labels = torch.from_numpy(X), torch.from_numpy(Y)
    scales = []
    for _ in range(3):
        for i, part in enumerate(torch.arange(len(X)).split(size), start=1):
            with torch.autocast("cpu", dtype):
                loss = nn.functional.cross_entropy(module(rows[part]), labels[part])
            scaler.scale(loss).backward()
            if i % group == 0:
                for p in module.parameters():
                    p.grad /= group
                scaler.unscale_(optimizer)
                if max_norm is not None:
                    torch.nn.utils.clip_grad_norm_(module.parameters(), max_norm)
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                scales.append(scaler.get_scale())
    return module, scales


SETTINGS = [
    {},
    {"group": 2},
    {"max_norm": 0.1},
    {"group": 2, "max_norm": 0.1},
    {"init_scale": HUGE},
    {"init_scale": HUGE, "growth_interval": 1},
    {"init_scale": HUGE, "group": 2, "max_norm": 0.1},
    {"init_scale": 2.0**8, "growth_interval": 2, "max_norm": 0.1, "size": 4, "group": 4},
]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_it_trains_as_autocast_and_scaler_by_hand(setting, dtype):
    module, scales = by_hand(getattr(torch, dtype), **setting)
    scaling = {key: setting[key] for key in ("init_scale", "growth_interval") if key in setting}
    callbacks = [MixedPrecision(dtype, **scaling)]
    if "group" in setting:
        callbacks.append(GradientAccumulation(setting["group"]))
    if "max_norm" in setting:
        callbacks.append(GradientClipping(setting["max_norm"]))
    fitted = net(*callbacks, batch_size=setting.get("size", 8), **MOMENTUM).fit(X, Y)
    for one, other in zip(fitted.model_.module_.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
        if "group" not in setting:
            assert torch.equal(one, other)
    if dtype == "float16":
        state = fitted.model_.callbacks_.mixed_precision
        falls = sum(b < a for a, b in zip([setting.get("init_scale", 65536.0), *scales], scales))  # noqa: B905
        assert (state["scale"], state["n_skipped"]) == (scales[-1], falls)
        assert fitted.history_["skipped_steps"].sum() == falls
        assert (falls > 0) == (setting.get("init_scale") == HUGE)
    else:
        assert "mixed_precision" not in fitted.model_.callbacks_
        assert "skipped_steps" not in fitted.history_


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_dtype_of_torch_is_the_same_as_its_name(dtype):
    named = net(MixedPrecision(str(dtype).removeprefix("torch."))).fit(X, Y)
    given_ = net(MixedPrecision(dtype)).fit(X, Y)
    assert same_weights(weights_of(named.model_.module_), weights_of(given_.model_.module_))
    assert given_.model_.callbacks_ == named.model_.callbacks_


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_regression_with_sample_weights_and_the_built_in_module(dtype):
    target = X[:, 0] ** 2
    fixed = {"max_epochs": 5, "random_state": 0, "batch_size": 7, "target_transform": None}
    lower = NeuralNetRegressor(callbacks=[MixedPrecision(dtype, init_scale=1024)], **fixed)
    full = NeuralNetRegressor(**fixed)
    predictions = [n.fit(X, target, np.arange(1, 49)).predict(X) for n in (lower, full)]
    np.testing.assert_allclose(*predictions, atol=0.02)
    assert not np.array_equal(*predictions)
    assert predictions[0].dtype == np.float32


# ------------------------------------------------------------------ where it is active


class Probe(Callback):
    """Note at each stage whether autocast is on, and the dtype of the output."""

    def __init__(self, seen, order):
        self.seen = seen
        self.order = order

    def note(self, stage, ctx):
        dtype = None if ctx.y_pred is None else ctx.y_pred.dtype
        self.seen.append((stage, self.order, torch.is_autocast_enabled("cpu"), dtype))


for _stage in FIT_STAGES:
    setattr(Probe, _stage, lambda self, ctx, _stage=_stage: self.note(_stage, ctx))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_on_from_the_begin_of_a_batch_to_its_loss_and_nowhere_else(dtype):
    seen = Log()
    probes = [("early", Probe(seen, -1000)), ("late", Probe(seen, 1000))]
    callbacks = [("mixed", MixedPrecision(dtype)), *probes]
    net(callbacks=callbacks, max_epochs=1, batch_size=24).fit(X, Y, X_val=X, y_val=Y)
    inside = {
        ("on_batch_begin", 1000),
        ("on_after_predict", -1000),
        ("on_after_predict", 1000),
        ("on_after_loss", -1000),
        ("on_batch_valid_begin", 1000),
        ("on_batch_valid_after_predict", -1000),
        ("on_batch_valid_after_predict", 1000),
        ("on_batch_valid_after_loss", -1000),
    }
    assert {(stage, order) for stage, order, on, _ in seen if on} == inside
    assert {(stage, order) for stage, order, on, _ in seen if not on}.isdisjoint(inside)
    assert {got for *_, got in seen} == {None, dtype}


CANCELS = [CancelBatchException, CancelEpochException, CancelFitException]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, *CANCELS])
@pytest.mark.parametrize("stage", FIT_STAGES)
@pytest.mark.parametrize("order", [-1000, 1000])
def test_autocast_is_off_after_a_fit_that_anything_ended(stage, error, order):
    class Fails(FailingCallback):
        pass

    Fails.order = order
    fails = Fails(stage, error)
    fitted = net(MixedPrecision("float16"), fails, max_epochs=2, batch_size=24)
    try:
        fitted.fit(X, Y, X_val=X, y_val=Y)
    except (ZeroDivisionError, KeyboardInterrupt, RuntimeError) as caught:
        assert not any("MixedPrecision" in note for note in getattr(caught, "__notes__", []))  # noqa: PT017
    assert not torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cuda")


@pytest.mark.parametrize("action", ["predict", "get_loss", "backward", "step", "zero_grad"])
def test_autocast_is_off_after_an_action_failed(action):
    def fail(self, ctx):
        raise ZeroDivisionError

    fails = type("Fails", (Callback,), {f"do_{action}": fail})()
    with pytest.raises(ZeroDivisionError):
        net(MixedPrecision(), fails).fit(X, Y)
    assert not torch.is_autocast_enabled("cpu")


def test_an_autocast_of_the_caller_stays_as_it_was():
    with torch.autocast("cpu", torch.float16):
        net(MixedPrecision()).fit(X, Y)
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.float16


# ------------------------------------------- scaled gradients never meet unscaled ones

WAYS = [
    None,
    ("on_batch_begin", 0, "skip"),
    ("on_after_loss", 0, CancelBatchException),
    ("on_before_backward", 50, CancelBatchException),
    ("on_after_backward", -50, CancelBatchException),
    ("on_after_backward", 0, "skip"),
    ("on_after_backward", 50, "skip"),
    ("on_after_backward", 50, CancelBatchException),
    ("on_before_step", -50, CancelBatchException),
    ("on_before_step", 15, CancelBatchException),
    ("on_after_step", -50, CancelBatchException),
    ("on_after_step", 50, CancelBatchException),
]


class Interfere(Callback):
    """Do to each batch what a list says."""

    def __init__(self, ways, order):
        self.ways = ways
        self.order = order

    def act(self, stage, ctx):
        way = self.ways[ctx.global_step - 1]
        if way is not None and way[:2] == (stage, self.order):
            if way[2] == "skip":
                ctx.skip_step()
            else:
                raise way[2]


for _stage in {way[0] for way in WAYS if way}:
    setattr(Interfere, _stage, lambda self, ctx, _stage=_stage: self.act(_stage, ctx))


class MomentumLearner(NeuralNetClassifier):
    """Keep a share of the gradients instead of clearing them."""

    def do_zero_grad(self, ctx):
        with torch.no_grad():
            for p in ctx.module.parameters():
                p.grad *= 0.5


@settings(deadline=None, max_examples=80)
@given(
    ways=st.lists(st.sampled_from(WAYS), min_size=12, max_size=12),
    group=st.sampled_from([None, 2, 3]),
    keeps=st.booleans(),
)
def test_scaling_alone_changes_no_bit_whatever_batches_are_cut_off(ways, group, keeps):
    # factors of 2 are exact, and nothing here is computed in float16
    others = [(f"at{order}", Interfere(ways, order)) for order in (-50, 0, 15, 50)]
    if group is not None:
        others.append(("accumulation", GradientAccumulation(group)))
    others.append(("clipping", GradientClipping(0.5)))
    scaling = ("scaling", MixedPrecision("float16", init_scale=2.0**10, growth_interval=1))
    cls = MomentumLearner if keeps else NeuralNetClassifier
    weights = []
    for callbacks in (others, [scaling, *others]):
        fitted = cls(
            Elementwise, optimizer="sgd", lr=0.1, batch_size=8, max_epochs=2, shuffle=False
        )
        fitted.set_params(optimizer__momentum=0.9, callbacks=callbacks).fit(X, Y)
        weights.append(weights_of(fitted.model_.module_))
    assert same_weights(*weights)


def test_recorded_losses_are_not_scaled():
    plain = net(module=Elementwise).fit(X, Y)
    scaled = net(MixedPrecision("float16"), module=Elementwise).fit(X, Y)
    assert scaled.loss_curve_ == plain.loss_curve_


def test_after_an_overflow_accumulation_begins_a_new_group():
    # the first group is dropped whole: the fit is the one without its 3 batches
    class Overflow(Callback):
        order = 5  # before the gradients are looked at

        def on_after_backward(self, ctx):
            if ctx.global_step == 2:
                next(ctx.module.parameters()).grad[0, 0] = math.inf

    mixed = MixedPrecision("float16")
    callbacks = [mixed, Overflow(), GradientAccumulation(3)]
    dropped = net(*callbacks, module=Elementwise, max_epochs=1).fit(X, Y)
    assert dropped.model_.callbacks_.mixed_precision["n_skipped"] == 1
    rest = net(GradientAccumulation(3), module=Elementwise, max_epochs=1).fit(X[24:], Y[24:])
    assert same_weights(weights_of(dropped.model_.module_), weights_of(rest.model_.module_))


class Seen(Callback):
    """Note norms of the gradients and which stages of a step there were."""

    order = 60

    def __init__(self, seen):
        self.seen = seen

    def on_before_step(self, ctx):
        self.seen.append(max(p.grad.abs().max().item() for p in ctx.module.parameters()))

    def on_after_step(self, ctx):
        self.seen.append("step")

    def on_batch_end(self, ctx):
        self.seen.append("skipped" if ctx.step_skipped else "taken")


def test_a_step_that_overflowed_has_no_stages_of_a_step_and_gradients_are_unscaled():
    seen = Log()
    net(MixedPrecision("float16", init_scale=HUGE), Seen(seen), max_epochs=6).fit(X, Y)
    norms = [value for value in seen if isinstance(value, float)]
    assert seen[:2] == ["skipped", "skipped"]
    assert seen.count("step") == seen.count("taken") == len(norms) == 36 - seen.count("skipped")
    assert 0 < max(norms) < 1


# --------------------------------------------------------------------- counts and states


def test_it_warns_when_no_step_of_the_last_epoch_was_taken():
    with pytest.warns(ConvergenceWarning, match="all steps of the last epoch.*init_scale"):
        fitted = net(MixedPrecision("float16", init_scale=2.0**100), max_epochs=2).fit(X, Y)
    assert fitted.history_["skipped_steps"].tolist() == [6, 6]
    assert same_weights(weights_of(fitted.model_.module_), weights_of(make_module()))


@pytest.mark.parametrize("scaling", [{}, {"init_scale": HUGE}, {"growth_interval": 4}])
def test_a_continued_fit_goes_on_with_the_scale(scaling):
    mixed = MixedPrecision("float16", **scaling)
    parts = net(mixed, max_epochs=6, warm_start=True).fit(X, Y).fit(X, Y)
    whole = net(mixed, max_epochs=12).fit(X, Y)
    assert same_weights(weights_of(parts.model_.module_), weights_of(whole.model_.module_))
    assert parts.model_.callbacks_ == whole.model_.callbacks_
    counts = [fitted.history_["skipped_steps"].tolist() for fitted in (parts, whole)]
    assert counts[0] == counts[1]


def test_a_continued_fit_takes_a_parameter_that_was_set_since():
    fitted = net(MixedPrecision("float16"), max_epochs=2, warm_start=True).fit(X, Y)
    state = fitted.model_.callbacks_.mixed_precision
    assert state == {"scale": 65536.0, "growth_tracker": 12, "n_skipped": 0}
    fitted.set_params(callbacks__mixed_precision__growth_interval=13, max_epochs=1).fit(X, Y)
    assert fitted.model_.callbacks_.mixed_precision["scale"] == 2 * 65536
    fitted.set_params(callbacks__mixed_precision__dtype="bfloat16").partial_fit(X, Y)
    assert fitted.n_iter_ == 4


def test_a_fitted_estimator_can_be_pickled():
    fitted = net(MixedPrecision("float16")).fit(X, Y)
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.model_.callbacks_ == fitted.model_.callbacks_


# ------------------------------------------------------------------------- what it refuses


def assert_refused(message, *callbacks, data=(X, Y), **params):
    batches = Log()

    class Count(Callback):
        def on_batch_begin(self, ctx):
            batches.append(1)

    with pytest.raises(ValueError, match=message):
        net(*callbacks, Count(), **params).fit(*data)
    assert batches == []
    assert not torch.is_autocast_enabled("cpu")


ARGUMENTS = [
    ({"dtype": "float32"}, "'dtype' parameter of MixedPrecision.*Got 'float32'"),
    ({"dtype": torch.float64}, "'dtype' parameter.*Got torch.float64"),
    ({"dtype": None}, "'dtype' .*Got None"),
    ({"init_scale": 0}, "'init_scale' .*Got 0"),
    ({"init_scale": math.inf}, "'init_scale' .*Got inf"),
    ({"init_scale": "1"}, "'init_scale' .*Got '1'"),
    ({"growth_interval": 0}, "'growth_interval' .*Got 0"),
    ({"growth_interval": 2.5}, "'growth_interval' .*Got 2.5"),
]


@pytest.mark.parametrize(("params", "message"), ARGUMENTS)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    assert_refused(message, MixedPrecision(**params))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_parameters_that_are_not_float32_are_an_error_before_training(dtype):
    mixed = MixedPrecision(dtype)
    float64 = (X.astype("float64"), Y)
    assert_refused("are torch.float64.*dtype='float32'", mixed, module=None, data=float64)
    assert_refused("are torch.float16", mixed, dtype="float16")
    net(mixed, module=None, dtype="float32").fit(*float64)


def test_a_device_that_cannot_do_it_is_an_error_before_training(monkeypatch):
    def refuse(device_type, dtype):
        raise RuntimeError("Current CUDA Device does not support bfloat16.")

    monkeypatch.setattr(torch, "autocast", refuse)
    assert_refused("cannot use torch.bfloat16 on the device cpu: Current CUDA", MixedPrecision())


def test_it_advises_against_reading_gradients_before_they_are_unscaled():
    class Reads(Callback):
        changes_gradients = True

        def on_after_backward(self, ctx):
            pass

    callbacks = {"a": Reads(), "mixed": MixedPrecision("float16"), "clip": GradientClipping()}
    (advice,) = callbacks["mixed"].advise(Setup("mixed", callbacks, (), 3))
    assert "'a'" in advice
    assert "on_before_step" in advice
    after = {"mixed": callbacks["mixed"], "b": Reads()}
    assert after["mixed"].advise(Setup("mixed", after, (), 3)) == []
    assert MixedPrecision().advise(Setup("mixed", callbacks, (), 3)) == []


# --------------------------------------------------------------- together with other parts


def test_it_works_with_a_subclass_and_a_callback_that_replace_actions():
    class OwnLoss(Callback):
        def do_get_loss(self, ctx):
            ctx.loss = nn.functional.cross_entropy(ctx.y_pred, ctx.y)

    class OwnPredict(NeuralNetClassifier):
        def do_predict(self, ctx):
            ctx.y_pred = ctx.module(ctx.X)

    module, _ = by_hand(torch.float16)
    fitted = OwnPredict(
        make_module(), optimizer="sgd", lr=0.1, batch_size=8, max_epochs=3, shuffle=False
    )
    fitted.set_params(callbacks=[MixedPrecision("float16"), OwnLoss()], **MOMENTUM).fit(X, Y)
    for one, other in zip(fitted.model_.module_.parameters(), module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_module_with_two_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 3)

        def forward(self, X):
            return self.linear(X), X

    class FirstLoss(Callback):
        def do_get_loss(self, ctx):
            ctx.loss = ctx.criterion(ctx.y_pred[0], ctx.y)

    fitted = net(MixedPrecision("float16"), FirstLoss(), module=Two, max_epochs=1)
    fitted.fit(X, Y, X_val=X, y_val=Y)
    assert fitted.predict(X).shape == (48,)


def test_one_row_and_a_last_batch_of_one_row():
    for n in (1, 9):
        regressor = NeuralNetRegressor(callbacks=[MixedPrecision("float16")], batch_size=8)
        regressor.fit(X[:n], X[:n, 0])
        assert np.isfinite(regressor.predict(X)).all()


def test_a_search_chooses_the_precision():
    grid = {"callbacks__mixed_precision__dtype": ["float16", "bfloat16"], "max_epochs": [1]}
    search = GridSearchCV(pickle.loads(pickle.dumps(net(MixedPrecision()))), grid, cv=2)
    search.fit(X, Y)
    dtype = search.best_params_["callbacks__mixed_precision__dtype"]
    expected = net(MixedPrecision(dtype), max_epochs=1).fit(X, Y)
    best = search.best_estimator_.model_.module_
    assert same_weights(weights_of(best), weights_of(expected.model_.module_))
    named = net(callbacks=["mixed_precision"], max_epochs=1).fit(X, Y)
    default = net(MixedPrecision("bfloat16"), max_epochs=1).fit(X, Y)
    assert same_weights(weights_of(named.model_.module_), weights_of(default.model_.module_))
