"""In which order callbacks run, and who does not run."""

from __future__ import annotations

import math

import pytest
from doubles import Log, StatefulRecorder, make_data, make_net

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    EarlyStopping,
    ParameterError,
)
from skorchlike.training.stages import FIT_STAGES, PREDICT_STAGES, STAGES


class Named(Callback):
    """Write its name to a log at every stage."""

    def __init__(self, log, name):
        self.log = log
        self.name = name


for _stage in STAGES:
    setattr(Named, _stage, lambda self, ctx, stage=_stage: self.log.append((stage, self.name)))


def with_order(value):
    return type("Ordered", (Named,), {"order": value})


def run(log, callbacks):
    X, y = make_data()
    return make_net(callbacks=callbacks, max_epochs=1).fit(X, y, X_val=X[:4], y_val=y[:4])


@pytest.mark.parametrize(
    "orders",
    [
        (0, 0, 0),
        (3, 2, 1),
        (1, 0, 1, 0),
        (-1, math.inf, 0.5, -math.inf, 0),
        (math.inf, math.inf, 1),
    ],
)
def test_callbacks_run_by_ascending_order_and_ties_as_given(orders):
    log = Log()
    callbacks = {f"c{i}": with_order(order)(log, i) for i, order in enumerate(orders)}
    net = run(log, callbacks)
    net.predict(make_data()[0])
    expected = sorted(range(len(orders)), key=lambda i: orders[i])
    for stage in (*FIT_STAGES, *PREDICT_STAGES):
        names = [name for where, name in log if where == stage]
        assert names[: len(orders)] == expected, stage
        assert names == expected * (len(names) // len(orders)), stage


def test_ctx_callbacks_names_them_in_the_order_in_which_they_run():
    seen = []

    class Look(Callback):
        def on_begin(self, ctx):
            seen.extend(ctx.callbacks)

    log = Log()
    callbacks = {"late": with_order(5)(log, 1), "look": Look(), "early": with_order(-5)(log, 2)}
    run(log, callbacks)
    assert seen == ["early", "look", "late"]


def test_callbacks_of_fit_come_after_those_of_the_estimator_among_equals():
    log = Log()
    X, y = make_data()
    net = make_net(callbacks={"own": Named(log, "own")}, max_epochs=1)
    net.fit(X, y, callbacks={"early": with_order(-1)(log, "early"), "extra": Named(log, "extra")})
    assert [name for stage, name in log if stage == "on_begin"] == ["early", "own", "extra"]


CANCELLED = [
    ("on_batch_end", CancelBatchException),
    ("on_after_predict", CancelBatchException),
    ("on_before_train", CancelEpochException),
    ("on_epoch_begin", CancelEpochException),
    ("on_valid_begin", CancelEpochException),
    ("on_begin", CancelFitException),
    ("on_epoch_end", CancelFitException),
]


@pytest.mark.parametrize(("stage", "cancel"), CANCELLED)
def test_a_cancel_skips_the_later_callbacks_of_its_stage(stage, cancel):
    log = Log()

    def there(self, ctx):
        raise cancel

    raising = type("Raising", (Callback,), {stage: there})
    callbacks = {"a": Named(log, "a"), "raising": raising(), "z": Named(log, "z")}
    run(log, callbacks)
    assert {name for where, name in log if where == stage} == {"a"}
    assert {name for where, name in log if where == "on_exit"} == {"a", "z"}


def test_terminate_skips_no_callback():
    log = Log()

    class Stop(Callback):
        def on_batch_end(self, ctx):
            ctx.terminate = True

    run(log, {"stop": Stop(), "z": Named(log, "z")})
    assert [name for where, name in log if where == "on_batch_end"] == ["z", "z"]


def test_early_stopping_is_late_and_before_a_checkpoint():
    assert 0 < EarlyStopping.order < math.inf


class LastAndStateful(StatefulRecorder):
    order = math.inf


class Checkpoint(Callback):
    order = math.inf


def test_a_stateful_callback_that_acts_after_the_checkpoint_is_refused():
    ran = Log()
    callbacks = {"checkpoint": Checkpoint(), "late": LastAndStateful(), "log": Named(ran, "x")}
    with pytest.raises(ParameterError, match=r"'late'.*'checkpoint'"):
        run(ran, callbacks)
    assert not ran


@pytest.mark.parametrize(
    "callbacks",
    [
        {"late": LastAndStateful(), "checkpoint": Checkpoint()},
        {"checkpoint": Checkpoint(), "counter": StatefulRecorder()},
        {"checkpoint": Checkpoint(), "second": Checkpoint()},
    ],
)
def test_a_stateful_callback_before_the_checkpoint_is_fine(callbacks):
    assert run(Log(), callbacks).n_iter_ == 1
