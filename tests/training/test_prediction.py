"""The prediction loop: its callbacks, its modes, its batches and its errors."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from doubles import (
    EarlyRecorder,
    FailingCallback,
    LateRecorder,
    Linear,
    Log,
    RecordingCallback,
    make_data,
    make_net,
    same_weights,
    weights_of,
)
from torch import nn

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    NeuralNetRegressor,
    ParameterError,
    StageError,
)
from skorchlike.training.stages import PREDICT_STAGES

X, Y = make_data()


class Shift(Callback):
    """Learn a number in training and add it to the outputs in predict."""

    def __init__(self, by=1.0):
        self.by = by

    def on_begin(self, ctx):
        self.shift = 0.0

    def on_epoch_end(self, ctx):
        self.shift += self.by

    def on_batch_predict_end(self, ctx):
        ctx.y_pred = ctx.y_pred + self.shift

    def state_dict(self):
        return {"shift": self.shift}

    def load_state_dict(self, state):
        self.shift = state["shift"]


def regressor(**params):
    return NeuralNetRegressor(Linear, max_epochs=3, random_state=0, **params)


def test_predict_callbacks_are_clones_with_the_state_of_the_fit():
    plain = regressor().fit(X, Y).predict(X)
    callback = Shift()
    net = regressor(callbacks=[callback]).fit(X, Y)
    np.testing.assert_allclose(net.predict(X), plain + 3, rtol=1e-12)
    np.testing.assert_allclose(net.predict(X), plain + 3, rtol=1e-12)
    assert vars(callback) == {"by": 1.0}


def test_predict_does_not_change_the_state_in_the_model():
    class Counting(Shift):
        def on_batch_predict_end(self, ctx):
            self.shift += 100
            ctx.y_pred = ctx.y_pred + self.shift

    net = regressor(callbacks={"shift": Counting()}).fit(X, Y)
    first = net.predict(X)
    np.testing.assert_array_equal(net.predict(X), first)
    assert net.model_.callbacks_ == {"shift": {"shift": 3.0}}


def test_predict_callbacks_take_the_parameters_said_now():
    class Scale(Callback):
        def __init__(self, by=1.0):
            self.by = by

        def on_batch_predict_end(self, ctx):
            ctx.y_pred = ctx.y_pred * self.by

    net = regressor(callbacks={"scale": Scale()}).fit(X, Y)
    plain = net.predict(X)
    net.set_params(callbacks__scale__by=2.0)
    np.testing.assert_allclose(net.predict(X), 2 * plain)
    net.set_params(callbacks__scale=None)
    np.testing.assert_allclose(net.predict(X), plain)


def test_callbacks_given_to_fit_do_not_run_in_predict():
    log = Log()
    net = make_net().fit(X, Y, callbacks=[RecordingCallback(log)])
    log.clear()
    net.predict(X)
    assert log == []


def test_inputs_replaced_before_predicting_are_those_predicted():
    class Double(Callback):
        def on_batch_predict_begin(self, ctx):
            ctx.X = 2 * ctx.X

    net = regressor().fit(X, Y)
    doubled = regressor(callbacks=[Double()]).fit(X, Y)
    np.testing.assert_array_equal(doubled.predict(X), net.predict(2 * X))


def test_writing_to_the_batch_changes_no_inputs():
    class Destroy(Callback):
        def on_batch_predict_begin(self, ctx):
            ctx.X.zero_()

    net = make_net(callbacks=[Destroy()]).fit(X, Y)
    for inputs in (X.copy(), torch.from_numpy(X.copy())):
        net.predict(inputs)
        np.testing.assert_array_equal(np.asarray(inputs), X)


@pytest.mark.parametrize("size", [1, 3, 8, 1000, -1, "auto"])
def test_the_batch_size_of_predict_changes_no_prediction(size):
    net = make_net().fit(X, Y)
    expected = net.decision_function(X)
    net.set_params(predict_batch_size=size)
    np.testing.assert_allclose(net.decision_function(X), expected, rtol=1e-12)


def test_predictions_of_module_by_hand():
    net = make_net().fit(X, Y)
    with torch.no_grad():
        logits = net.model_.module_(torch.from_numpy(X))
    np.testing.assert_allclose(net.predict_proba(X), logits.softmax(1).numpy(), rtol=1e-12)
    np.testing.assert_array_equal(net.predict(X), logits.argmax(1).numpy())


# --------------------------------------------------------------- modes and rng


class Noisy(nn.Sequential):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(nn.Dropout(0.5), Linear(n_features_in, n_outputs))


def test_predict_runs_in_eval_mode_without_gradients_and_restores_the_mode():
    seen = []

    class Look(Callback):
        def on_batch_predict_end(self, ctx):
            parts = [part.training for part in ctx.module.modules()]
            seen.append((parts, torch.is_grad_enabled(), ctx.y_pred.requires_grad))

    net = make_net(module=Noisy, callbacks=[Look()], predict_batch_size=-1).fit(X, Y)
    net.model_.module_.train()
    net.model_.module_[1].eval()
    net.predict(X)
    assert seen == [([False] * 3, False, False)]
    assert [part.training for part in net.model_.module_.modules()] == [True, True, False]
    assert torch.is_grad_enabled()


def test_predict_uses_no_random_numbers_and_is_repeatable():
    net = make_net(module=Noisy).fit(X, Y)
    before = torch.get_rng_state()
    first = net.predict_proba(X)
    np.testing.assert_array_equal(net.predict_proba(X), first)
    assert torch.equal(torch.get_rng_state(), before)


# ----------------------------------------------------------------------- errors


@pytest.mark.parametrize("stage", PREDICT_STAGES)
def test_an_error_in_predict_runs_every_on_predict_exit_and_has_a_note(stage):
    log = Log()
    callbacks = {
        "early": EarlyRecorder(log, "early"),
        "bad": FailingCallback(stage, OSError),
        "late": LateRecorder(log, "late"),
    }
    net = make_net(callbacks=callbacks, predict_batch_size=-1).fit(X, Y)
    weights = weights_of(net.model_.module_)
    log.clear()
    with pytest.raises(OSError, match=stage) as caught:
        net.predict(X)
    notes = "\n".join(caught.value.__notes__)
    assert f"the callback 'bad' (FailingCallback) in {stage}" in notes
    assert ("batch 1" in notes) is ("batch" in stage)
    places = [(e.who, e.place) for e in log if e.place in PREDICT_STAGES]
    ran = [*PREDICT_STAGES[: PREDICT_STAGES.index(stage)]]
    expected = [(who, place) for place in ran for who in ("early", "late")]
    if stage != "on_predict_exit":
        expected.append(("early", stage))
    expected += [("early", "on_predict_exit"), ("late", "on_predict_exit")]
    assert places == expected
    assert same_weights(weights_of(net.model_.module_), weights)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("cancel", [CancelBatchException, CancelEpochException, CancelFitException])
@pytest.mark.parametrize("stage", PREDICT_STAGES)
def test_a_cancel_has_no_meaning_in_predict(stage, cancel):
    net = make_net(callbacks={"bad": FailingCallback(stage, cancel)}).fit(X, Y)
    with pytest.raises(StageError, match=f"{cancel.__name__} has no meaning in {stage}") as caught:
        net.predict(X)
    assert "'bad'" in str(caught.value)


def test_a_cancel_in_do_predict_has_a_meaning_in_training_alone():
    class Skip(Callback):
        def do_predict(self, ctx):
            if not ctx.training or ctx.step == 1:
                raise CancelBatchException
            ctx.estimator.do_predict(ctx)

    net = make_net(callbacks=[Skip()]).fit(X, Y)
    with pytest.raises(StageError, match="CancelBatchException has no meaning in do_predict"):
        net.predict(X)


def test_an_interruption_of_predict_is_raised():
    log = Log()
    callbacks = [FailingCallback("on_batch_predict_end", KeyboardInterrupt), LateRecorder(log)]
    net = make_net(callbacks=callbacks).fit(X, Y)
    with pytest.raises(KeyboardInterrupt):
        net.predict(X)
    assert log[-1].place == "on_predict_exit"
    assert make_net().fit(X, Y).predict(X).shape == (8,)


def test_several_failing_predict_exits_are_one_group():
    bad = FailingCallback("on_predict_exit", OSError)
    net = make_net(callbacks={"a": bad, "b": bad}).fit(X, Y)
    with pytest.raises(ExceptionGroup, match="on_predict_exit") as caught:
        net.predict(X)
    assert len(caught.value.exceptions) == 2


def test_terminate_in_predict_leaves_all_rows_predicted():
    net = make_net(callbacks=[FailingCallback("on_batch_predict_begin")]).fit(X, Y)
    assert net.predict(X).shape == (8,)


def test_a_prediction_leaves_the_history_of_the_model_alone():
    class Log(Callback):
        def on_predict_end(self, ctx):
            try:
                ctx.log("predicted", 1)
            except StageError:
                refused.append(True)

    refused = []
    net = make_net(callbacks=[Log()]).fit(X, Y)
    before = copy.deepcopy(net.model_.history_)
    net.predict(X)
    assert net.model_.history_ == before
    assert refused


# ---------------------------------------------------------------------- outputs


def module_that_returns(function):
    class Module(Linear):
        def forward(self, X):
            return function(super().forward(X))

    return Module


def test_the_first_of_several_outputs_is_predicted():
    class Loss(Callback):
        def do_get_loss(self, ctx):
            ctx.loss = ctx.criterion(ctx.y_pred[0], ctx.y)

    for kind in (tuple, list):
        module = module_that_returns(lambda out, kind=kind: kind([out, out.sum()]))
        net = make_net(module=module, callbacks=[Loss()]).fit(X, Y)
        expected = make_net().fit(X, Y).predict_proba(X)
        np.testing.assert_array_equal(net.predict_proba(X), expected)


def test_an_output_that_is_no_tensor_is_an_error_that_says_so():
    class Loss(Callback):
        def do_get_loss(self, ctx):
            ctx.loss = ctx.criterion(ctx.y_pred.logits, ctx.y)

    def wrap(outputs):
        return SimpleNamespace(logits=outputs)

    net = make_net(module=module_that_returns(wrap), callbacks=[Loss()])
    net.fit(X, Y)
    with pytest.raises(ParameterError, match="returned a SimpleNamespace; predict needs a tensor"):
        net.predict(X)


@pytest.mark.parametrize("size", [1, 3, -1])
def test_a_module_that_squeezes_its_output_predicts_every_row(size):
    net = NeuralNetRegressor(
        module_that_returns(torch.squeeze), max_epochs=2, predict_batch_size=size, random_state=0
    ).fit(X, Y)
    plain = NeuralNetRegressor(Linear, max_epochs=2, random_state=0).fit(X, Y)
    np.testing.assert_allclose(net.predict(X), plain.predict(X), rtol=1e-12)
    np.testing.assert_allclose(net.predict(X[:1]), plain.predict(X[:1]), rtol=1e-12)
