"""Errors and interruptions at every stage and in every action."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from doubles import (
    EarlyRecorder,
    FailingCallback,
    FailingState,
    LateRecorder,
    Linear,
    Log,
    RecordingCallback,
    StatefulRecorder,
    make_data,
    make_net,
    same_weights,
    weights_of,
)
from simulated_fit import ACTIONS, TARGETS, expected_log, run_fit

from skorchlike import (
    Callback,
    CancelFitException,
    NeuralNetClassifier,
    StageError,
    make_callback,
)
from skorchlike.exceptions import ParameterError


class Failure(Exception):
    """An error of a user's own."""


def notes_of(error):
    return "\n".join(getattr(error, "__notes__", []))


def attributes(net):
    """Return what an estimator holds, but scikit-learn's own bookkeeping of callbacks."""
    bookkeeping = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")
    return {name: value for name, value in vars(net).items() if name not in bookkeeping}


# ------------------------------------------------------------ every stage


@pytest.mark.parametrize("place", TARGETS, ids=str)
def test_an_error_runs_the_exits_and_nothing_else(place):
    outcome = run_fit(place, Failure)
    assert type(outcome.raised) is Failure
    assert str(outcome.raised) == f"from {place.name}"
    assert outcome.entries() == expected_log(place, Failure)


@pytest.mark.parametrize("place", TARGETS, ids=str)
def test_an_error_has_a_note_that_names_callback_stage_epoch_and_batch(place):
    notes = notes_of(run_fit(place, Failure).raised)
    owner = "RecordingActions" if place.name in ACTIONS else "FailingCallback"
    where = f"do_{place.name}" if place.name in ACTIONS else place.name
    epoch = {"on_begin": 0, "on_end": 3, "on_exit": 3}.get(place.name, place.epoch)
    assert f"the callback 'bad' ({owner}) in {where}" in notes
    assert f"epoch {epoch}" in notes
    assert (f"batch {place.batch}" in notes) is (place.batch is not None)
    assert notes.count("Raised by") == 1


@pytest.mark.parametrize("place", TARGETS, ids=str)
def test_a_failed_first_fit_leaves_the_estimator_unfitted(place):
    net = make_net()
    before = dict(vars(net))
    outcome = run_fit(place, Failure, net)
    assert outcome.raised is not None
    assert attributes(net) == before
    assert not net.__sklearn_is_fitted__()


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("place", TARGETS, ids=str)
def test_a_failed_further_fit_leaves_the_fitted_estimator_as_it_was(place, warm_start):
    X, y = make_data(seed=5)
    net = make_net(callbacks=[StatefulRecorder()], warm_start=warm_start).fit(X, y)
    if warm_start:
        place = replace(place, epoch=place.epoch and place.epoch + 3)
    before, model, weights = attributes(net), net.model_, weights_of(net.model_.module_)
    predicted, history = net.predict_proba(X), net.history_
    assert type(run_fit(place, Failure, net).raised) is Failure
    assert attributes(net) == before
    assert net.model_ is model
    assert same_weights(weights_of(net.model_.module_), weights)
    np.testing.assert_array_equal(net.predict_proba(X), predicted)
    assert net.history_.equals(history)
    assert net.model_.callbacks_ == {"stateful_recorder": {"n_batches": 6}}


@pytest.mark.parametrize("place", TARGETS, ids=str)
def test_an_interruption_is_raised_and_keeps_the_model_so_far(place):
    outcome = run_fit(place, KeyboardInterrupt)
    assert type(outcome.raised) is KeyboardInterrupt
    assert outcome.entries() == expected_log(place, KeyboardInterrupt)
    model = outcome.net.model_
    # on_exit comes when the run has ended, and has said why
    assert model.stop_reason_ == ("completed" if place.name == "on_exit" else "interrupted")
    epoch = {"on_begin": 0, "on_end": 3, "on_exit": 3}.get(place.name, place.epoch)
    assert model.n_epochs_ == len(model.history_) == epoch
    ended = sum(e.place == "on_batch_end" and e.who == "early" for e in outcome.log)
    # the counter runs after the early recorder and before what interrupts
    assert model.callbacks_["counter"] == {"n_batches": ended}
    assert not model.module_.training
    assert outcome.net.predict(make_data()[0]).shape == (8,)


# ------------------------------------------------------------ what errors say


def test_an_error_of_the_estimators_own_action_names_the_estimator():
    class Net(NeuralNetClassifier):
        def do_step(self, ctx):
            raise Failure

    with pytest.raises(Failure) as caught:
        Net(Linear).fit(*make_data())
    assert "the estimator (Net) in do_step, epoch 1, batch 1" in notes_of(caught.value)


def test_an_error_of_the_module_has_its_place_in_a_note():
    class Broken(Linear):
        def forward(self, X):
            raise Failure("no forward")

    with pytest.raises(Failure, match="no forward") as caught:
        make_net(module=Broken).fit(*make_data())
    assert "do_predict, epoch 1, batch 1" in notes_of(caught.value)


@pytest.mark.parametrize("error", [ZeroDivisionError, StopIteration, MemoryError, OSError])
def test_errors_keep_their_type(error):
    with pytest.raises(error) as caught:
        make_net(callbacks=[FailingCallback("on_batch_end", error)]).fit(*make_data())
    assert type(caught.value) is error


def test_a_loss_that_is_no_scalar_tensor_is_an_error_that_says_so():
    for wrong, got in [("ctx.y_pred", "shape (4, 2)"), ("3.0", "3.0"), ("None", "None")]:

        class Wrong(Callback):
            def on_after_loss(self, ctx, wrong=wrong):
                ctx.loss = {"ctx.y_pred": ctx.y_pred, "3.0": 3.0, "None": None}[wrong]

        with pytest.raises(ParameterError, match=r"ctx\.loss must be a tensor") as caught:
            make_net(callbacks=[Wrong()]).fit(*make_data())
        assert got in str(caught.value)


# ------------------------------------------------------------------ exits


def failing(*stages, error=Failure):
    def fail(stage):
        return lambda self, ctx: _raise(error(f"{self.name} in {stage}"))

    def __init__(self, name):
        self.name = name

    body = {"__init__": __init__, **{stage: fail(stage) for stage in stages}}
    return type("FailingThere", (Callback,), body)


EXITS = ["on_exit", "on_phase_exit", "on_batch_exit"]


@pytest.mark.parametrize("stage", EXITS)
def test_one_error_in_an_exit_stage_is_raised_as_it_is(stage):
    with pytest.raises(Failure, match=f"a in {stage}") as caught:
        make_net(callbacks={"a": failing(stage)("a")}).fit(*make_data())
    assert f"the callback 'a' (FailingThere) in {stage}" in notes_of(caught.value)


@pytest.mark.parametrize("stage", EXITS)
def test_several_errors_in_an_exit_stage_are_one_exception_group(stage):
    log = Log()
    bad = failing(stage)
    callbacks = {"a": bad("a"), "b": bad("b"), "log": LateRecorder(log), "c": bad("c")}
    net = make_net(callbacks=callbacks)
    before = dict(vars(net))
    with pytest.raises(ExceptionGroup) as caught:
        net.fit(*make_data())
    assert type(caught.value) is ExceptionGroup
    assert [str(e) for e in caught.value.exceptions] == [f"{n} in {stage}" for n in "abc"]
    assert all("Raised by" in notes_of(e) for e in caught.value.exceptions)
    assert stage in str(caught.value)
    assert [e.place for e in log].count(stage) == 1
    assert log[-1].place == "on_exit"
    assert attributes(net) == before


def test_an_error_in_an_exit_stage_after_an_earlier_error_is_a_note_of_that_one():
    log = Log()
    callbacks = {
        "first": FailingCallback("on_batch_end", Failure, step=1),
        "a": failing(*EXITS, error=OSError)("a"),
        "b": failing("on_exit", error=ValueError)("b"),
        "log": LateRecorder(log),
    }
    with pytest.raises(Failure, match="from on_batch_end") as caught:
        make_net(callbacks=callbacks).fit(*make_data())
    notes = notes_of(caught.value)
    for said in ("a in on_batch_exit", "a in on_phase_exit", "a in on_exit", "b in on_exit"):
        assert said in notes
    assert "OSError" in notes
    assert "the callback 'b'" in notes
    assert [e.place for e in log][-3:] == EXITS[::-1]


def test_an_error_in_an_exit_stage_is_not_hidden_by_a_cancel():
    callbacks = [FailingCallback("on_batch_end", CancelFitException), failing("on_exit")("a")]
    with pytest.raises(Failure, match="a in on_exit"):
        make_net(callbacks=callbacks).fit(*make_data())


@pytest.mark.parametrize("stage", EXITS[1:])
def test_an_error_in_the_exit_of_a_cancelled_level_fails_the_fit(stage):
    callbacks = [FailingCallback("on_batch_end", CancelFitException), failing(stage)("a")]
    net = make_net(callbacks=callbacks)
    with pytest.raises(Failure, match=f"a in {stage}"):
        net.fit(*make_data())
    assert not hasattr(net, "model_")


def test_an_error_in_on_exit_does_not_hide_an_interruption():
    callbacks = [FailingCallback("on_batch_end", KeyboardInterrupt), failing("on_exit")("a")]
    net = make_net(callbacks=callbacks)
    with pytest.raises(KeyboardInterrupt) as caught:
        net.fit(*make_data())
    assert "a in on_exit" in notes_of(caught.value)
    assert net.model_.stop_reason_ == "interrupted"


def test_a_cancel_in_an_exit_stage_is_told_beside_other_failures():
    cancels = failing("on_exit", error=CancelFitException)
    callbacks = {"a": failing("on_exit")("a"), "b": cancels("b")}
    with pytest.raises(ExceptionGroup) as caught:
        make_net(callbacks=callbacks).fit(*make_data())
    assert [type(e) for e in caught.value.exceptions] == [Failure, StageError]


def test_the_context_is_dead_in_no_exit_stage():
    log = Log()
    callbacks = {"early": EarlyRecorder(log), "bad": failing("on_exit")("a")}
    with pytest.raises(Failure):
        make_net(callbacks={**callbacks, "late": LateRecorder(log)}).fit(*make_data())
    assert [e.place for e in log][-2:] == ["on_exit", "on_exit"]


# ------------------------------------------------------------------ states


def test_a_failing_state_dict_fails_the_fit_and_every_on_exit_runs():
    log = Log()
    callbacks = {"log": RecordingCallback(log), "bad": FailingState(Failure)}
    net = make_net(callbacks=callbacks)
    with pytest.raises(Failure, match="no state") as caught:
        net.fit(*make_data())
    assert "'bad'" in notes_of(caught.value)
    assert "state_dict" in notes_of(caught.value)
    assert [e.place for e in log][-2:] == ["on_end", "on_exit"]
    assert not hasattr(net, "model_")


def test_a_failing_state_dict_after_an_interruption_is_a_note():
    callbacks = [FailingCallback("on_batch_end", KeyboardInterrupt), FailingState(Failure)]
    net = make_net(callbacks=callbacks)
    with pytest.raises(KeyboardInterrupt) as caught:
        net.fit(*make_data())
    assert "no state" in notes_of(caught.value)
    assert net.model_.stop_reason_ == "interrupted"


def test_states_are_gathered_after_on_end_and_before_on_exit():
    class Changing(Callback):
        def on_begin(self, ctx):
            self.value = "begun"

        def on_end(self, ctx):
            self.value = "ended"

        def on_exit(self, ctx):
            self.value = "left"

        def state_dict(self):
            return self.value

        def load_state_dict(self, state):
            self.value = state

    net = make_net(callbacks=[Changing()]).fit(*make_data())
    assert net.model_.callbacks_ == {"changing": "ended"}


def test_a_failing_load_state_dict_names_the_callback():
    class Unloadable(StatefulRecorder):
        def load_state_dict(self, state):
            raise Failure("unloadable")

    X, y = make_data()
    net = make_net(callbacks=[Unloadable()], warm_start=True).fit(X, y)
    with pytest.raises(Failure, match="unloadable") as caught:
        net.fit(X, y)
    assert "'unloadable'" in notes_of(caught.value)
    assert "load_state_dict" in notes_of(caught.value)


# ------------------------------------------------------------ after an error


def test_after_an_error_the_same_estimator_fits_as_a_new_one_does():
    X, y = make_data()
    net = make_net()
    with pytest.raises(Failure):
        net.fit(X, y, callbacks=[FailingCallback("on_batch_end", Failure)])
    expected = make_net().fit(X, y)
    assert same_weights(
        weights_of(net.fit(X, y).model_.module_), weights_of(expected.model_.module_)
    )


@pytest.mark.parametrize("what", [Failure, KeyboardInterrupt, CancelFitException])
def test_the_global_generators_are_put_back_however_the_fit_ends(what):
    def states():
        return (
            torch.get_rng_state().tolist(),
            random.getstate(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
        )

    before = states()
    with suppress(Failure, KeyboardInterrupt):
        make_net(callbacks=[FailingCallback("on_batch_end", what)]).fit(*make_data())
    assert states() == before
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("stage", ["on_valid_begin", "on_batch_valid_end", "on_batch_exit"])
def test_gradients_are_on_again_after_an_error_in_validation(stage):
    X, y = make_data()
    net = make_net()
    with pytest.raises(Failure):
        net.fit(X, y, X_val=X, y_val=y, callbacks=[FailingCallback(stage, Failure, training=False)])
    assert torch.is_grad_enabled()


def _raise(error):
    raise error


def test_on_exit_sees_that_a_fit_has_failed():
    seen = []
    reads = make_callback("reads", on_exit=lambda self, ctx: seen.append(ctx.stop_reason))()
    fails = make_callback("fails", on_batch_end=lambda self, ctx: 1 / 0)()
    with pytest.raises(ZeroDivisionError):
        NeuralNetClassifier(callbacks=[reads, fails]).fit([[0.0], [1.0]], [0, 1])
    assert seen == ["failed"]
