"""Hugging Face Accelerate: the same fit through it, and nothing left of it."""

from __future__ import annotations

import copy
import os
import pickle
import random
import sys
from contextlib import nullcontext

import accelerate
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from doubles import (
    FailingCallback,
    Log,
    RecordingActions,
    make_data,
    make_net,
    same_weights,
    weights_of,
)
from sklearn.base import clone
from torch import nn

from skorchlike import (
    Accelerate,
    Callback,
    CancelBatchException,
    CancelFitException,
    GradientAccumulation,
    GradientClipping,
    LRScheduler,
    MixedPrecision,
    NeuralNetClassifier,
    ParameterError,
)

X, Y = make_data(n=22, n_features=4)
VALID = {"X_val": X[:5], "y_val": Y[:5]}
STATES = (PartialState, AcceleratorState, GradientState)


def states():
    return [dict(cls._shared_state) for cls in STATES]


@pytest.fixture(autouse=True)
def nothing_global():
    """Each test begins, and must end, without states of the library."""
    assert states() == [{}, {}, {}]
    before = environment()
    yield
    assert states() == [{}, {}, {}]
    assert environment() == before


def environment():
    # the first two are of pytest, and of torch as it compiles
    own = ("PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR")
    return {name: value for name, value in os.environ.items() if name not in own}


class Net(nn.Sequential):
    """In single precision."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__(
            nn.Linear(n_features_in, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, n_outputs)
        )


def weights(net):
    return weights_of(net.model_.module_)


# ------------------------------------------------------------------- the same fit


@pytest.mark.parametrize("module", [None, Net])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_fit_is_the_plain_one_to_the_bit(module, optimizer):
    def fit(**params):
        net = make_net(module=module, optimizer=optimizer, warm_start=True, **params)
        net.fit(X, Y, **VALID).fit(X, Y, np.linspace(0.1, 1, len(X)))
        return net.partial_fit(X, Y)

    through, plain = fit(callbacks=[Accelerate()]), fit()
    assert same_weights(weights(through), weights(plain))
    assert through.loss_curve_ == plain.loss_curve_
    np.testing.assert_array_equal(through.predict_proba(X), plain.predict_proba(X))


def test_backward_and_step_go_through_the_library():
    seen = Log()

    class Look(Callback):
        order = 100

        def on_begin(self, ctx):
            seen.append((type(ctx.optimizer), ctx.module._is_accelerate_prepared))

        def on_after_backward(self, ctx):
            seen.append(len(calls))

    calls = []

    class Counting(accelerate.Accelerator):
        def backward(self, loss, **kwargs):
            calls.append(loss.item())
            super().backward(loss, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accelerate, "Accelerator", Counting)
        net = make_net(callbacks=[Accelerate(), Look()], max_epochs=1).fit(X, Y)
    assert seen == [(accelerate.optimizer.AcceleratedOptimizer, True), 1, 2, 3, 4, 5, 6]
    assert np.average(calls, weights=[4] * 5 + [2]) == pytest.approx(net.loss_curve_[0])


def test_other_callbacks_work_as_without_it():
    others = [
        GradientAccumulation(2),
        GradientClipping(max_norm=0.1),
        LRScheduler("exponential", policy__gamma=0.9),
    ]
    through = make_net(callbacks=[Accelerate(), *map(clone, others)]).fit(X, Y)
    plain = make_net(callbacks=others).fit(X, Y)
    assert same_weights(weights(through), weights(plain))
    columns = ["train_loss", "gradient_norm", "lr"]
    assert through.history_[columns].equals(plain.history_[columns])


def test_it_replaces_backward_so_another_that_does_is_an_error():
    actions = RecordingActions(Log())
    with pytest.raises(ParameterError, match=r"'accelerate'.*'recording_actions'.*both replace"):
        make_net(callbacks=[Accelerate(), actions]).fit(X, Y)


# --------------------------------------------------------------- mixed precision


def test_its_bf16_is_autocast_of_the_forward_pass():
    def fit(*callbacks):
        net = NeuralNetClassifier(Net, callbacks=[*callbacks], max_epochs=3, batch_size=8)
        return net.set_params(random_state=0).fit(X.astype("float32"), Y)

    through, by_autocast, plain = fit(Accelerate("bf16")), fit(MixedPrecision()), fit()
    assert not same_weights(weights(through), weights(plain))
    for name, value in weights(by_autocast).items():
        torch.testing.assert_close(weights(through)[name], value, rtol=1e-2, atol=1e-4)
    assert through.predict_proba(X.astype("float32")).dtype == np.float32


def test_what_accelerate_launch_says_holds_where_nothing_is_said(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    data = X.astype("float32"), Y
    launched = make_net(module=Net, callbacks=[Accelerate()]).fit(*data)
    said = make_net(module=Net, callbacks=[Accelerate("bf16")]).fit(*data)
    refused = make_net(module=Net, callbacks=[Accelerate("no")]).fit(*data)
    plain = make_net(module=Net).fit(*data)
    assert same_weights(weights(launched), weights(said))
    assert same_weights(weights(refused), weights(plain))
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")


# ---------------------------------------------------------------------- afterwards

ENDS = [
    ("on_begin", CancelFitException),
    ("on_batch_begin", CancelBatchException),
    ("on_batch_end", CancelFitException),
    ("on_begin", OSError),
    ("on_after_loss", OSError),
    ("on_batch_valid_end", OSError),
    ("on_batch_end", KeyboardInterrupt),
]


@pytest.mark.parametrize(("stage", "error"), ENDS)
@pytest.mark.parametrize("order", [-100, 100])
def test_however_a_fit_ends_nothing_of_it_is_left(stage, error, order):
    modules, attributes = Log(), Log()

    class Keep(Callback):
        order = -1000

        def on_begin(self, ctx):
            modules.append(ctx.module)
            attributes.append(dict(vars(ctx.module)))

    class Failing(FailingCallback):
        pass

    Failing.order = order
    fails = error in (OSError, KeyboardInterrupt)
    net = make_net(module=Net, callbacks=[Keep(), Accelerate("bf16"), Failing(stage, error)])
    with pytest.raises(error) if fails else nullcontext() as caught:
        net.fit(X, Y, **VALID)
    notes = getattr(caught.value, "__notes__", ()) if fails else ()
    assert not any("failed too" in note for note in notes)
    left = dict(vars(modules[0]))
    assert left.keys() == attributes[0].keys()
    assert all(left[name] is attributes[0][name] for name in left if name != "training")


def test_the_fitted_model_is_plain_and_can_be_pickled():
    net = make_net(module=Net, callbacks=[Accelerate("bf16")]).fit(X, Y)
    assert "forward" not in vars(net.model_.module_)
    for copied in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        np.testing.assert_array_equal(copied.predict_proba(X), net.predict_proba(X))
    assert pickle.loads(pickle.dumps(net)).set_params(warm_start=True).fit(X, Y).n_iter_ == 6


def test_a_forward_of_the_module_itself_stays():
    module = Net(4, 2)
    module.forward = _double  # on the object, not its class
    net = make_net(module=module, callbacks=[Accelerate("bf16")]).fit(X, Y)
    assert net.model_.module_.forward is _double


def _double(x):
    return torch.stack([x.sum(1), -x.sum(1)], 1).requires_grad_()


def test_a_second_fit_may_use_other_options():
    first = make_net(module=Net, callbacks=[Accelerate("bf16")]).fit(X, Y)
    second = clone(first).set_params(callbacks__accelerate__mixed_precision="no").fit(X, Y)
    assert same_weights(weights(second), weights(make_net(module=Net).fit(X, Y)))


def test_an_accelerator_of_the_user_is_as_it_was():
    own = accelerate.Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=3)
    try:
        before = states()
        through = make_net(callbacks=[Accelerate()]).fit(X, Y)
        assert states() == before
        assert (own.mixed_precision, own.gradient_accumulation_steps) == ("bf16", 3)
        assert same_weights(weights(through), weights(make_net().fit(X, Y)))
    finally:
        for cls in STATES:
            cls._reset_state()


def test_no_random_number_is_drawn():
    torch.manual_seed(0), np.random.seed(0), random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    make_net(callbacks=[Accelerate()]).fit(X, Y)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]


# -------------------------------------------------------------------------- errors

ARGUMENTS = [
    ({"mixed_precision": "fp8"}, "'mixed_precision' parameter of Accelerate .* Got 'fp8'"),
    ({"mixed_precision": True}, "'mixed_precision' parameter of Accelerate .* Got True"),
    ({"mixed_precision": "fp16"}, "mixed_precision='fp16' on the device 'cpu'.*'bf16' or 'no'"),
    ({"mixed_precision": "bf16"}, "needs float32 parameters.*dtype='float32'"),
]


@pytest.mark.parametrize(("params", "message"), ARGUMENTS)
def test_what_it_cannot_do_is_an_error_before_training(params, message):
    net = make_net(callbacks=[Accelerate(**params)])  # its module has double precision
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert not hasattr(net, "model_")


def test_accumulation_that_accelerate_launch_asks_for_is_an_error(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    with pytest.raises(ParameterError, match=r"over 4 steps.*GradientAccumulation"):
        make_net(callbacks=[Accelerate()]).fit(X, Y)
    monkeypatch.delenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")


def test_another_device_than_the_estimators_is_an_error(monkeypatch):
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    with pytest.raises(ParameterError, match=r"device 'meta' and the estimator 'cpu'"):
        make_net(callbacks=[Accelerate()]).fit(X, Y)
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE")


def test_that_several_processes_do_not_divide_the_rows_is_said(monkeypatch):
    monkeypatch.setattr(accelerate.Accelerator, "num_processes", 2)
    with pytest.warns(UserWarning, match="Each of the 2 processes trains on all rows"):
        make_net(callbacks=[Accelerate()]).fit(X, Y)


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "accelerate"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"Accelerate needs .*skorchlike\[accelerate\]"):
        make_net(callbacks=[Accelerate()]).fit(X, Y)
