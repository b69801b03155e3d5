"""Smoke runs: a few batches, a few epochs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from doubles import Log, RecordingCallback, make_data, make_net, same_weights, weights_of

from skorchlike import (
    Callback,
    CancelBatchException,
    EarlyStopping,
    GradientAccumulation,
    SingleBatch,
    SingleEpoch,
    StageError,
)

X, Y = make_data(n=20)  # five training batches of four, ten validation batches of two


def fit(*callbacks, **params):
    net = make_net(callbacks=list(callbacks), **params)
    return net.fit(X, Y, X_val=X, y_val=Y)


def batches(log, place):
    return [(event.epoch, event.step) for event in log if event.place == place]


class Updates(Callback):
    """Keep what schedules would go by."""

    def __init__(self, log):
        self.log = log

    def on_begin(self, ctx):
        self.log.append(ctx.n_updates)


class HalfTheSteps(Callback):
    """Plan as accumulation over two batches does."""

    order = -20

    def plan(self, n_epochs, n_updates):
        return n_epochs, -(-n_updates // 2)


# -------------------------------------------------------------------- SingleBatch


@pytest.mark.parametrize("n_batches", [1, 2, 5, 9])
def test_so_many_batches_are_trained_and_so_many_validated(n_batches):
    log = Log()
    net = fit(SingleBatch(n_batches), RecordingCallback(log))
    assert batches(log, "on_batch_end") == [(1, s + 1) for s in range(min(n_batches, 5))]
    assert batches(log, "on_after_step") == batches(log, "on_batch_end")
    assert batches(log, "on_batch_valid_end") == [(1, s + 1) for s in range(min(n_batches, 10))]
    assert (net.n_iter_, net.model_.stop_reason_) == (1, "single_batch")


@pytest.mark.parametrize("n_batches", [1, 2, 5, 9])
def test_the_other_batches_are_not_even_gathered(n_batches):
    log = Log()
    net = fit(SingleBatch(n_batches), RecordingCallback(log))
    for phase, n_steps in (("train", min(n_batches, 5)), ("valid", min(n_batches, 10))):
        exits = [e for e in log if e.place == "on_batch_exit" and e.training == (phase == "train")]
        assert [e.step for e in exits] == list(range(1, n_steps + 1))
        assert [e.is_last_batch for e in exits] == [False] * (n_steps - 1) + [True]
        assert {e.n_steps for e in exits} == {n_steps}
    assert net.model_.continuation_["global_step"] == min(n_batches, 5)


def test_accumulation_takes_its_step():
    log = Log()
    fit(SingleBatch(3), GradientAccumulation(2), RecordingCallback(log))
    assert batches(log, "on_after_step") == [(1, 2), (1, 3)]


def test_batches_are_limited_at_the_beginning_of_a_phase_alone():
    class TooLate(Callback):
        def on_batch_begin(self, ctx):
            ctx.limit_batches(1)

    with pytest.raises(StageError, match="works in on_before_train and on_valid_begin"):
        fit(TooLate())


def test_the_weights_are_those_of_one_step_by_hand():
    net = fit(SingleBatch(), shuffle=False, optimizer="sgd", lr=0.1)
    module = torch.nn.Linear(3, 2, dtype=torch.float64)
    module.load_state_dict(first_weights())
    inputs, target = torch.from_numpy(X[:4]), torch.from_numpy(Y[:4])
    torch.nn.functional.cross_entropy(module(inputs), target).backward()
    # fused, as the estimator has it: it rounds otherwise than a subtraction
    torch.optim.SGD(module.parameters(), lr=0.1, fused=True).step()
    assert same_weights(weights_of(net.model_.module_), weights_of(module))


def first_weights():
    seen = Log()

    class Look(Callback):
        def on_begin(self, ctx):
            seen.append(weights_of(ctx.module))

    make_net(callbacks=[Look()], max_epochs=1).fit(X, Y)
    return seen[0]


def test_the_record_of_the_epoch_is_complete_and_of_those_batches_alone():
    net = fit(SingleBatch(2), shuffle=False, valid_every=3)
    full = fit(SingleEpoch(), shuffle=False)
    assert list(net.history_.columns) == list(full.history_.columns)
    with torch.no_grad():
        logits = net.model_.module_(torch.from_numpy(X[:4]))
    target = torch.from_numpy(Y[:4])
    valid_loss = torch.nn.functional.cross_entropy(logits, target).item()
    assert net.history_["valid_loss"][0] == pytest.approx(valid_loss, rel=1e-12)
    accuracy = (logits.argmax(1) == target).double().mean().item()
    assert net.history_["valid_accuracy"][0] == pytest.approx(accuracy)


@pytest.mark.parametrize("n_batches", [1, 3])
def test_every_stage_of_the_other_callbacks_runs(n_batches):
    smoke, whole = Log(), Log()
    fit(SingleBatch(n_batches), RecordingCallback(smoke))
    fit(RecordingCallback(whole))
    assert {event.place for event in smoke} == {event.place for event in whole}


def test_a_column_of_the_validation_can_be_monitored():
    net = fit(SingleBatch(), EarlyStopping(patience=1))
    assert net.model_.callbacks_.early_stopping["best_epoch"] == 1


def test_batches_that_are_cancelled_count():
    class CancelFirst(Callback):
        def on_batch_begin(self, ctx):
            if ctx.step == 1:
                raise CancelBatchException

    log = Log()
    fit(SingleBatch(2), CancelFirst(), RecordingCallback(log))
    assert batches(log, "on_after_step") == [(1, 2)]


def test_a_continued_fit_trains_the_batches_once_more():
    net = fit(SingleBatch(), warm_start=True)
    net.fit(X, Y)
    assert net.n_iter_ == 2
    assert net.model_.stop_reason_ == "single_batch"


# -------------------------------------------------------------------- SingleEpoch


@pytest.mark.parametrize(
    ("n_epochs", "max_epochs", "last", "reason"),
    [
        (1, 4, 1, "single_epoch"),
        (3, 4, 3, "single_epoch"),
        (4, 4, 4, "completed"),
        (9, 4, 4, "completed"),
    ],
)
def test_so_many_epochs_are_trained(n_epochs, max_epochs, last, reason):
    log = Log()
    net = fit(SingleEpoch(n_epochs), RecordingCallback(log), max_epochs=max_epochs, valid_every=9)
    assert (net.n_iter_, net.model_.stop_reason_) == (last, reason)
    assert len(batches(log, "on_batch_end")) == 5 * last
    assert np.isfinite(net.history_["valid_loss"].iloc[-1])


def test_it_gives_the_weights_of_a_fit_of_so_many_epochs():
    short = fit(max_epochs=2)
    single = fit(SingleEpoch(2), max_epochs=50)
    assert same_weights(weights_of(single.model_.module_), weights_of(short.model_.module_))
    assert single.loss_curve_ == short.loss_curve_


def test_epochs_of_the_fit_that_is_continued_do_not_count():
    net = fit(SingleEpoch(2), max_epochs=9, warm_start=True)
    assert net.n_iter_ == 2
    assert net.fit(X, Y).n_iter_ == 4
    assert net.partial_fit(X, Y).n_iter_ == 5


# --------------------------------------------------------------------------- both


@pytest.mark.parametrize(
    ("callbacks", "n_updates"),
    [
        ([SingleBatch()], 1),
        ([SingleBatch(2)], 2),
        ([SingleBatch(99)], 5),
        ([SingleEpoch()], 5),
        ([SingleEpoch(2)], 10),
        ([SingleEpoch(99)], 15),
        ([HalfTheSteps(), SingleBatch(4)], 2),
        ([HalfTheSteps(), SingleEpoch()], 3),
    ],
)
def test_schedules_are_told_how_many_steps_are_left(callbacks, n_updates):
    log = Log()
    fit(*callbacks, Updates(log))
    assert log == [n_updates]


@pytest.mark.parametrize("callback", [SingleBatch(), SingleEpoch()])
def test_it_ends_a_fit_without_validation_too(callback):
    net = make_net(callbacks=[callback]).fit(X, Y)
    assert net.n_iter_ == 1
    assert list(net.history_.columns) == ["epoch", "train_loss", "lr", "duration"]


def test_by_name_and_dropped_again():
    net = make_net(callbacks=["single_batch"], callbacks__single_batch__n_batches=3)
    assert net.fit(X, Y).n_iter_ == 1
    assert net.set_params(callbacks__single_batch=None).fit(X, Y).n_iter_ == 3


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (SingleBatch(0), r"'n_batches' parameter of SingleBatch.*Got 0"),
        (SingleBatch(1.5), r"'n_batches' parameter of SingleBatch.*Got 1.5"),
        (SingleBatch("all"), r"'n_batches' parameter of SingleBatch.*Got 'all'"),
        (SingleEpoch(0), r"'n_epochs' parameter of SingleEpoch.*Got 0"),
        (SingleEpoch(-1), r"'n_epochs' parameter of SingleEpoch.*Got -1"),
        (SingleEpoch(None), r"'n_epochs' parameter of SingleEpoch.*Got None"),
    ],
)
def test_an_impossible_argument_is_an_error_before_training(callback, message):
    net = make_net(callbacks=[callback])
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert not hasattr(net, "model_")
