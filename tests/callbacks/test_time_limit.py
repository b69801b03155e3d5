"""The time limit, by a clock that the test moves."""

from __future__ import annotations

import time
from datetime import timedelta

import numpy as np
import pytest
from doubles import FailingCallback, Log, RecordingCallback, make_data, make_net

from skorchlike import Callback, CancelBatchException, EarlyStopping, SingleEpoch, TimeLimit

X, Y = make_data()  # two batches an epoch


class Clock(Callback):
    """Let time pass: one second a training batch, and what is said in validation."""

    order = -1
    now = 0.0

    def __init__(self, validation=0.0):
        self.validation = validation

    def on_batch_end(self, ctx):
        Clock.now += 1

    def on_valid_end(self, ctx):
        Clock.now += self.validation


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    monkeypatch.setattr(Clock, "now", 1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: Clock.now)


def fit(limit, *others, validation=0.0, valid=True, **params):
    callbacks = {"clock": Clock(validation), "limit": limit}
    callbacks.update((f"other{i}", other) for i, other in enumerate(others))
    net = make_net(callbacks=callbacks, **{"max_epochs": 10, **params})
    return net.fit(X, Y, **({"X_val": X, "y_val": Y} if valid else {}))


def steps(log):
    return [(e.epoch, e.step) for e in log if e.place == "on_after_step"]


@pytest.mark.parametrize(
    ("seconds", "last"),
    [(0.5, (1, 1)), (1, (1, 1)), (1.5, (1, 2)), (2, (1, 2)), (3, (2, 1)), (7, (4, 1))],
)
def test_the_batch_in_which_the_time_is_over_is_the_last(seconds, last):
    log = Log()
    net = fit(TimeLimit(seconds), RecordingCallback(log))
    assert steps(log)[-1] == last
    assert net.model_.stop_reason_ == "time_limit"
    assert net.n_iter_ == last[0]


@pytest.mark.parametrize("seconds", [0.5, 1.5, 2])
def test_told_so_it_finishes_the_epoch(seconds):
    log = Log()
    net = fit(TimeLimit(seconds, when="epoch"), RecordingCallback(log))
    assert steps(log) == [(1, 1), (1, 2)]
    assert net.model_.stop_reason_ == "time_limit"


@pytest.mark.parametrize("when", ["batch", "epoch"])
@pytest.mark.parametrize("valid_every", [1, 7])
def test_the_last_epoch_is_validated_and_closed(when, valid_every):
    log = Log()
    net = fit(TimeLimit(3, when), RecordingCallback(log), valid_every=valid_every)
    assert [event.place for event in log][-3:] == ["on_epoch_end", "on_end", "on_exit"]
    last = net.history_.iloc[-1]
    assert last["epoch"] == 2
    assert np.isfinite([last["train_loss"], last["valid_loss"], last["lr"]]).all()


def test_no_stage_of_the_training_phase_is_skipped_when_it_was_its_last_batch():
    log = Log()
    fit(TimeLimit(2), RecordingCallback(log))
    places = [event.place for event in log]
    assert "on_after_train" in places
    assert places.count("on_batch_end") == 2


@pytest.mark.parametrize("when", ["batch", "epoch"])
def test_time_that_validation_takes_counts(when):
    net = fit(TimeLimit(100, when), validation=99)
    assert (net.n_iter_, net.model_.stop_reason_) == (1, "time_limit")


def test_a_fit_within_its_time_is_not_touched():
    net = fit(TimeLimit(100))
    assert (net.n_iter_, net.model_.stop_reason_) == (10, "completed")


def test_a_timedelta_is_a_limit_too():
    assert fit(TimeLimit(timedelta(seconds=3))).n_iter_ == fit(TimeLimit(3)).n_iter_ == 2


def test_time_before_the_fit_does_not_count_and_a_continued_fit_has_all_of_it_again():
    limit = TimeLimit(4)
    net = fit(limit, warm_start=True)
    assert net.n_iter_ == 2
    Clock.now += 500
    assert net.fit(X, Y).n_iter_ == 4


def test_it_ends_a_fit_whose_batches_are_all_cancelled():
    cancel = FailingCallback("on_batch_begin", CancelBatchException)
    net = fit(TimeLimit(5), cancel, validation=3)
    assert (net.n_iter_, net.model_.stop_reason_) == (2, "time_limit")


def test_who_ended_the_fit_first_keeps_its_reason():
    assert fit(TimeLimit(2, "epoch"), SingleEpoch()).model_.stop_reason_ == "single_epoch"
    stopped = fit(TimeLimit(100), EarlyStopping("train_loss", min_delta=1e9, patience=2))
    assert stopped.model_.stop_reason_ == "early_stopping"


def test_without_validation_data_the_fit_ends_as_well():
    assert fit(TimeLimit(3), valid=False).n_iter_ == 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"seconds": 0}, r"'seconds' parameter of TimeLimit.*Got 0"),
        ({"seconds": -1.0}, r"'seconds' parameter of TimeLimit.*Got -1"),
        ({"seconds": float("nan")}, r"'seconds' parameter of TimeLimit.*Got nan"),
        ({"seconds": "1h"}, r"'seconds' parameter of TimeLimit.*Got '1h'"),
        ({"seconds": None}, r"'seconds' parameter of TimeLimit.*Got None"),
        ({"seconds": timedelta(0)}, r"'seconds' parameter of TimeLimit.*positive time. Got 0"),
        ({"seconds": timedelta(-1)}, r"'seconds' parameter of TimeLimit.*positive time"),
        ({"seconds": 1, "when": "step"}, r"'when' parameter of TimeLimit.*Got 'step'"),
    ],
)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    net = make_net(callbacks=[TimeLimit(**params)])
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert not hasattr(net, "model_")
