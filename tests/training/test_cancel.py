"""Cancelling, ending and skipping: at every stage and in every action."""

from __future__ import annotations

import pytest
import torch
from doubles import (
    Log,
    RecordingActions,
    RecordingCallback,
    StatefulRecorder,
    make_data,
    make_net,
    same_weights,
    weights_of,
)
from simulated_fit import (
    CANCELS,
    TARGETS,
    TRAIN_BATCH,
    Place,
    expected_log,
    has_meaning,
    run_fit,
    still_runs,
)

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    StageError,
)
from skorchlike.training.stages import STAGES, TABLE

ALLOWED = [(p, c) for c in CANCELS for p in TARGETS if has_meaning(c, p)]
MISPLACED = [(p, c) for c in CANCELS for p in TARGETS if not has_meaning(c, p)]


def named(cases):
    return [f"{place}-{getattr(what, '__name__', 'terminate')}" for place, what in cases]


def test_the_cases_reach_every_stage_and_action_of_a_fit():
    reached = {p.name for p in TARGETS}
    assert reached == {row.name for row in TABLE if "predict" not in row.phases}


# ------------------------------------------------------------ every stage


@pytest.mark.parametrize(("place", "cancel"), ALLOWED, ids=named(ALLOWED))
def test_a_cancel_skips_its_level_and_runs_the_exits(place, cancel):
    outcome = run_fit(place, cancel)
    assert outcome.raised is None
    assert outcome.entries() == expected_log(place, cancel)
    model = outcome.net.model_
    cancelled = cancel is CancelFitException
    assert model.stop_reason_ == ("cancelled" if cancelled else "completed")
    epochs = {p.epoch for p in still_runs(place, cancel)} | {0 if not place.epoch else place.epoch}
    assert model.n_epochs_ == max(epoch or 0 for epoch in epochs)
    assert [record["epoch"] for record in model.history_] == [*range(1, model.n_epochs_ + 1)]


@pytest.mark.parametrize(("place", "cancel"), MISPLACED, ids=named(MISPLACED))
def test_a_cancel_where_it_has_no_meaning_is_an_error_that_says_so(place, cancel):
    outcome = run_fit(place, cancel)
    error = outcome.raised
    assert isinstance(error, StageError)
    assert isinstance(error.__cause__, cancel)
    message = str(error)
    owner = "RecordingActions" if place.name in ("zero_grad",) else "FailingCallback"
    for part in (cancel.__name__, f"in {place.name}", "'bad'", owner):
        assert part in message
    assert "has no meaning" in message
    if place.epoch:
        assert f"epoch {place.epoch}" in message
    if place.batch:
        assert f"batch {place.batch}" in message
    assert outcome.entries() == expected_log(place, cancel)
    assert not hasattr(outcome.net, "model_")


@pytest.mark.parametrize("place", TARGETS, ids=str)
def test_terminate_finishes_the_epoch_and_its_validation(place):
    outcome = run_fit(place, None)
    assert outcome.raised is None
    assert outcome.entries() == expected_log(place, None)
    too_late = place.name in ("on_end", "on_exit")
    assert outcome.net.model_.stop_reason_ == ("completed" if too_late else "terminated")
    n_epochs = 3 if too_late else place.epoch or 0
    assert outcome.net.model_.n_epochs_ == n_epochs


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.name}-{row.level}")
def test_the_table_says_which_cancels_are_allowed(row):
    if "predict" in row.phases:
        assert row.cancels == ()
        return
    phase = row.level.partition("_batch")[0]
    batch = 1 if row.level.endswith("_batch") else None
    epoch = None if row.level == "fit" else 2
    place = Place(row.name, epoch, phase if phase in ("train", "valid") else None, batch)
    assert set(row.cancels) == {c.__name__ for c in CANCELS if has_meaning(c, place)}


# ----------------------------------------------------------- some in plain words


class RaiseIn(Callback):
    """Raise a cancel at one stage of every batch or epoch, `when` told by step or epoch."""

    def __init__(self, stage, cancel, steps=(1, 2), epochs=(1, 2, 3)):
        self.stage = stage
        self.cancel = cancel
        self.steps = steps
        self.epochs = epochs

    def at(self, stage, ctx):
        in_batch = STAGES[stage].level.endswith("_batch")
        now = ctx.epoch in self.epochs and (not in_batch or ctx.step in self.steps)
        if stage == self.stage and now:
            raise self.cancel


for _stage in STAGES:
    setattr(RaiseIn, _stage, lambda self, ctx, stage=_stage: self.at(stage, ctx))


def fit_and_log(callback, **params):
    log = Log()
    callbacks = {"callback": callback, "log": RecordingCallback(log)}
    callbacks["actions"] = RecordingActions(log)
    X, y = make_data()
    net = make_net(callbacks=callbacks, **params).fit(X, y, X_val=X[:4], y_val=y[:4])
    return net, list(log)


def test_cancel_batch_in_on_batch_begin_goes_on_with_the_next_batch():
    net, log = fit_and_log(RaiseIn("on_batch_begin", CancelBatchException, steps=(1,)))
    assert [e.step for e in log if e.place == "step"] == [2, 2, 2]
    assert sum(e.place == "on_batch_exit" and e.training for e in log) == 6
    assert net.model_.stop_reason_ == "completed"


def test_cancelling_every_training_batch_trains_nothing_and_records_no_loss():
    net, log = fit_and_log(RaiseIn("on_batch_begin", CancelBatchException))
    assert not [e for e in log if e.place == "backward"]
    assert "train_loss" not in net.history_.columns
    assert "valid_loss" in net.history_.columns
    assert net.loss_curve_ == []


def test_a_batch_cancelled_after_its_loss_counts_in_the_mean_and_one_before_does_not():
    counted, _ = fit_and_log(RaiseIn("on_before_backward", CancelBatchException), shuffle=False)
    plain, _ = fit_and_log(Callback(), shuffle=False, lr=1e-12, max_epochs=1)
    assert counted.loss_curve_[0] == pytest.approx(plain.loss_curve_[0], abs=1e-9)
    one = fit_and_log(RaiseIn("on_after_predict", CancelBatchException, (1,)), shuffle=False)[0]
    assert one.loss_curve_[0] != pytest.approx(plain.loss_curve_[0], abs=1e-6)


def test_cancel_epoch_in_training_is_followed_by_validation():
    net, log = fit_and_log(RaiseIn("on_batch_end", CancelEpochException, steps=(1,)))
    assert net.history_["valid_loss"].notna().all()
    assert [e.step for e in log if e.place == "on_batch_begin"] == [1, 1, 1]
    assert not [e for e in log if e.place == "on_after_train"]
    # the loss of the batches there were
    assert net.history_["train_loss"].notna().all()


def test_cancel_epoch_in_validation_is_followed_by_on_epoch_end():
    net, log = fit_and_log(RaiseIn("on_batch_valid_begin", CancelEpochException))
    assert "valid_loss" not in net.history_.columns
    assert sum(e.place == "on_epoch_end" for e in log) == 3
    assert not [e for e in log if e.place == "on_valid_end"]


def test_after_a_cancelled_validation_the_module_trains_on_in_train_mode():
    modes = []

    class Watch(Callback):
        def on_batch_begin(self, ctx):
            modes.append((ctx.module.training, torch.is_grad_enabled()))

        def on_batch_valid_begin(self, ctx):
            raise CancelEpochException

    fit_and_log(Watch())
    assert modes == [(True, True)] * 6


def test_cancel_fit_keeps_the_record_of_the_epoch_cut_off():
    net, _ = fit_and_log(RaiseIn("on_batch_end", CancelFitException, steps=(1,), epochs=(2,)))
    assert len(net.history_) == 2
    assert net.history_["train_loss"].notna().all()
    assert net.n_iter_ == 2
    assert net.predict(make_data()[0]).shape == (8,)


@pytest.mark.parametrize("name", ["early_stopping", "print_log", "progress"])
def test_cancel_fit_in_on_begin_ends_normally_with_built_in_callbacks_after_it(name):
    X, y = make_data()
    callbacks = [RaiseIn("on_begin", CancelFitException, epochs=(0,)), name]
    net = make_net(callbacks=callbacks).fit(X, y, X_val=X, y_val=y)
    assert (net.model_.stop_reason_, net.n_iter_) == ("cancelled", 0)


def test_a_subclass_of_a_cancel_exception_cancels_like_it():
    class Diverged(CancelFitException):
        pass

    net, _ = fit_and_log(RaiseIn("on_batch_end", Diverged, epochs=(2,)))
    assert net.model_.stop_reason_ == "cancelled"
    assert net.n_iter_ == 2


def test_an_action_of_an_estimator_may_cancel_too():
    from skorchlike import NeuralNetClassifier

    class OneStep(NeuralNetClassifier):
        def do_step(self, ctx):
            if ctx.global_step > 1:
                raise CancelFitException
            super().do_step(ctx)

    X, y = make_data()
    net = OneStep(batch_size=4, random_state=0).fit(X, y)
    assert net.model_.stop_reason_ == "cancelled"
    assert net.model_.optimizer_["state"][0]["step"] == 1


# ------------------------------------------------------------------ terminate


def test_terminate_in_on_begin_trains_nothing():
    class Never(Callback):
        def on_begin(self, ctx):
            ctx.terminate = True
            start.append(weights_of(ctx.module))

    start = []
    net, log = fit_and_log(Never())
    assert [e.place for e in log] == ["on_begin", "on_end", "on_exit"]
    assert same_weights(weights_of(net.model_.module_), start[0])
    assert net.n_iter_ == 0
    assert net.history_.empty


@pytest.mark.parametrize(("epoch", "valid_epochs"), [(1, [1]), (2, [2]), (3, [2, 3])])
def test_the_epoch_in_which_terminate_is_set_validates_as_the_last_one(epoch, valid_epochs):
    class Stop(Callback):
        def on_batch_begin(self, ctx):
            ctx.terminate = ctx.epoch == epoch

    net, log = fit_and_log(Stop(), max_epochs=9, valid_every=2)
    assert sorted({e.epoch for e in log if e.place == "on_valid_begin"}) == valid_epochs
    assert net.n_iter_ == epoch


def test_terminate_may_be_taken_back_before_the_epoch_ends():
    class Waver(Callback):
        def on_batch_begin(self, ctx):
            ctx.terminate = True

        def on_epoch_end(self, ctx):
            ctx.terminate = False

    net, _ = fit_and_log(Waver())
    assert (net.n_iter_, net.model_.stop_reason_) == (3, "completed")


@pytest.mark.parametrize("how", ["terminate", "cancel", "nothing"])
def test_stop_reason_is_what_a_callback_wrote_and_is_set_before_on_end(how):
    seen = []

    class Reason(Callback):
        def on_epoch_end(self, ctx):
            ctx.stop_reason = "satisfied"
            if how == "terminate":
                ctx.terminate = True
            if how == "cancel":
                raise CancelFitException

        def on_end(self, ctx):
            seen.append(ctx.stop_reason)

    net, _ = fit_and_log(Reason())
    assert seen == [net.model_.stop_reason_] == ["satisfied"]


@pytest.mark.parametrize("how", ["terminated", "cancelled", "completed"])
def test_stop_reason_in_on_end_says_how_the_fit_ended(how):
    seen = []

    class Reason(Callback):
        def on_epoch_end(self, ctx):
            ctx.terminate = how == "terminated"
            if how == "cancelled":
                raise CancelFitException

        def on_end(self, ctx):
            seen.append(ctx.stop_reason)

    fit_and_log(Reason())
    assert seen == [how]


# ------------------------------------------------------------------ skip_step

MAY_SKIP = [
    "on_batch_begin",
    "on_after_predict",
    "on_after_loss",
    "on_before_backward",
    "on_after_backward",
]


class SkipIn(Callback):
    """Call skip_step at one stage, in the first batch of every epoch."""

    order = -20

    def __init__(self, stage):
        self.stage = stage

    def at(self, stage, ctx):
        in_batch = STAGES[stage].level.endswith("_batch")
        if stage == self.stage and (ctx.step == 1 or not in_batch):
            ctx.skip_step()


for _stage in STAGES:
    setattr(SkipIn, _stage, lambda self, ctx, stage=_stage: self.at(stage, ctx))


@pytest.mark.parametrize("stage", MAY_SKIP)
def test_skip_step_leaves_out_the_step_and_keeps_on_batch_end(stage):
    net, log = fit_and_log(SkipIn(stage), max_epochs=1)
    skipped = ("on_before_step", "step", "on_after_step", "zero_grad")
    ran = [[e.place for e in log if e.training and e.step == n] for n in (1, 2)]
    assert ran[0] == [name for name in TRAIN_BATCH if name not in skipped]
    assert ran[1] == [*TRAIN_BATCH, "on_after_train"]
    assert net.model_.optimizer_["state"][0]["step"] == 1


FORBIDDEN = [
    name for name, row in STAGES.items() if name not in MAY_SKIP and "predict" not in row.phases
]


@pytest.mark.parametrize("stage", FORBIDDEN)
def test_skip_step_elsewhere_is_an_error(stage):
    with pytest.raises(StageError, match="skip_step"):
        fit_and_log(SkipIn(stage))


def test_skip_step_in_predict_is_an_error():
    X, y = make_data()
    net = make_net(callbacks=[SkipIn("on_batch_predict_begin")]).fit(X, y)
    with pytest.raises(StageError, match="skip_step"):
        net.predict(X)


def test_skip_step_is_allowed_in_the_actions_up_to_backward():
    class Skip(Callback):
        def __init__(self, action):
            self.action = action

        def do_backward(self, ctx):
            ctx.estimator.do_backward(ctx)
            ctx.skip_step()

    X, y = make_data()
    net = make_net(callbacks=[Skip("backward")]).fit(X, y)
    assert net.model_.optimizer_["state"] == {}


def test_gradients_are_kept_over_a_skipped_step():
    grads = []

    class Skip(Callback):
        def on_batch_begin(self, ctx):
            weight = next(ctx.module.parameters())
            grads.append(None if weight.grad is None else weight.grad.clone())

        def on_after_backward(self, ctx):
            if not ctx.is_last_batch:
                ctx.skip_step()

    fit_and_log(Skip(), max_epochs=2)
    first, second, third, fourth = grads
    assert first is None
    assert third is None
    assert second.abs().sum() > 0
    assert fourth.abs().sum() > 0


@pytest.mark.parametrize("stage", ["on_after_step", "on_batch_end"])
@pytest.mark.parametrize("cancel", CANCELS)
def test_zero_grad_runs_once_step_has_run_also_when_cancelled(stage, cancel):
    left = []

    class CancelThere(Callback):
        def on_batch_exit(self, ctx):
            if ctx.training:
                left.append([p.grad for p in ctx.module.parameters()])

    setattr(CancelThere, stage, lambda self, ctx: _raise(cancel))
    fit_and_log(CancelThere(), max_epochs=1)
    assert len(left) == (2 if cancel is CancelBatchException else 1)
    assert all(grad is None for grads in left for grad in grads)


def test_a_batch_cancelled_before_its_step_keeps_the_gradients():
    left = []

    class CancelThere(Callback):
        def on_before_step(self, ctx):
            raise CancelBatchException

        def on_batch_exit(self, ctx):
            if ctx.training:
                left.append([p.grad for p in ctx.module.parameters()])

    fit_and_log(CancelThere(), max_epochs=1)
    assert all(grad is not None for grads in left for grad in grads)


def test_a_skipped_batch_counts_in_train_loss_and_state():
    class Skip(Callback):
        def on_batch_begin(self, ctx):
            ctx.skip_step()

    X, y = make_data()
    net = make_net(callbacks=[Skip(), StatefulRecorder()], max_epochs=2).fit(X, y)
    assert net.model_.callbacks_["stateful_recorder"] == {"n_batches": 4}
    assert len(net.loss_curve_) == 2


def _raise(error):
    raise error
