"""Early stopping, against a simulation by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from doubles import Log, make_data, make_net, same_weights, weights_of
from hypothesis import given, settings
from hypothesis import strategies as st

from skorchlike import (
    Callback,
    CancelFitException,
    EarlyStopping,
    NeuralNetClassifier,
    NeuralNetRegressor,
)

NAN = math.nan
X, Y = make_data()


def by_hand(scores, patience, min_delta=0.0, lower_is_better=True):
    """Return (last epoch, best epoch, best score) of a script; None is no evaluation."""
    best, best_epoch, bad = None, None, 0
    for epoch, score in enumerate(scores, start=1):
        if score is None:
            continue
        gain = None if best is None else (best - score if lower_is_better else score - best)
        if not math.isnan(score) and (gain is None or gain > min_delta):
            best, best_epoch, bad = score, epoch, 0
        else:
            bad += 1
            if bad >= max(patience, 1):
                return epoch, best_epoch, best
    return len(scores), best_epoch, best


class Script(Callback):
    """Log a column as written, and keep the weights of every epoch."""

    logs = ("scripted_loss", "scripted_score")

    def __init__(self, scores, name="scripted_loss", weights=None):
        self.scores = scores
        self.name = name
        self.weights = weights

    def on_epoch_end(self, ctx):
        score = self.scores[ctx.epoch - 1]
        if score is not None:
            ctx.log(self.name, score)
        if self.weights is not None:
            self.weights.append(weights_of(ctx.module))


def fit(scores, name="scripted_loss", **params):
    """Fit on a script; return the estimator, the state and the weights of every epoch."""
    weights = Log()
    stopping = EarlyStopping(monitor=name, **params)
    callbacks = {"stopping": stopping, "script": Script(scores, name, weights)}
    net = make_net(callbacks=callbacks, max_epochs=len(scores), lr=0.05).fit(X, Y)
    return net, net.model_.callbacks_["stopping"], weights


# quarters, so that differences are exact
SCORE = st.one_of(st.integers(-8, 8).map(lambda n: n / 4), st.just(NAN), st.none())


@settings(deadline=None, max_examples=120)
@given(
    scores=st.lists(SCORE, min_size=1, max_size=12),
    patience=st.integers(0, 4),
    min_delta=st.sampled_from([0.0, 0.25, 0.5]),
    mode=st.sampled_from(["min", "max", "auto"]),
    name=st.sampled_from(["scripted_loss", "scripted_score"]),
    restore_best=st.booleans(),
)
def test_it_stops_where_a_simulation_by_hand_stops(
    scores, patience, min_delta, mode, name, restore_best
):
    options = {"patience": patience, "min_delta": min_delta, "mode": mode}
    net, state, weights = fit(scores, name, restore_best=restore_best, **options)
    lower = mode == "min" or (mode == "auto" and name.endswith("loss"))
    last, best_epoch, best = by_hand(scores, patience, min_delta, lower)
    assert (net.n_iter_, state["best_epoch"]) == (last, best_epoch)
    if best_epoch is not None:
        assert state["best_score"] == best
    kept = best_epoch if restore_best and best_epoch else last
    assert same_weights(weights_of(net.model_.module_), weights[kept - 1])


CASES = [
    # scores, patience, min_delta, last epoch
    ([5, 4, 3, 2, 1], 1, 0.0, 5),
    ([5, 4, 4, 3, 1], 1, 0.0, 3),
    ([5, 4, 4, 3, 1], 0, 0.0, 3),
    ([5, 4, 4, 4, 1], 2, 0.0, 4),
    ([5, 6, 4, 6, 6, 6], 3, 0.0, 6),
    ([5, 4.5, 4.0, 3.5, 3.0], 2, 0.5, 5),
    ([5, 4.5, 4.0, 3.5, 3.0], 1, 0.5, 2),
    ([NAN, NAN, NAN, 1], 3, 0.0, 3),
    ([NAN, 1, NAN, NAN, 0.5], 2, 0.0, 4),
    ([-1, -2, -3, -3, -3], 2, 0.0, 5),
    ([1, None, 2, None, 2, None, 0], 2, 0.0, 5),
]


@pytest.mark.parametrize(("scores", "patience", "min_delta", "last"), CASES)
def test_the_last_epoch_of_some_scripts(scores, patience, min_delta, last):
    net, _, _ = fit(scores, patience=patience, min_delta=min_delta)
    assert net.n_iter_ == last
    assert by_hand(scores, patience, min_delta)[0] == last
    stopped = last < len(scores) or net.model_.stop_reason_ == "early_stopping"
    assert net.model_.stop_reason_ == ("early_stopping" if stopped else "completed")


def test_the_epoch_in_which_it_stops_is_finished():
    ended = []

    class Late(Callback):
        order = 1000

        def on_epoch_end(self, ctx):
            ended.append(ctx.epoch)

        def on_end(self, ctx):
            ended.append(ctx.stop_reason)

    stopping = EarlyStopping(monitor="scripted_loss", patience=1)
    make_net(callbacks=[Script([1, 2, 3]), stopping, Late()]).fit(X, Y)
    assert ended == [1, 2, "early_stopping"]


class ScriptedValidation(Callback):
    """Replace the validation loss."""

    def __init__(self, losses):
        self.losses = losses

    def on_batch_valid_after_loss(self, ctx):
        ctx.loss = torch.tensor(self.losses[ctx.epoch - 1])


def test_patience_is_counted_in_evaluations():
    losses = [9.0, 1.0, 9.0, 2.0, 0.0, 2.0, 0.0, 2.0, 0.0, 2.0]
    callbacks = [ScriptedValidation(losses), EarlyStopping(patience=3)]
    net = make_net(callbacks=callbacks, max_epochs=10, valid_every=2)
    net.fit(X, Y, X_val=X, y_val=Y)
    # evaluated in epochs 2, 4, 6 and 8; epochs 4, 6 and 8 are no improvement
    assert net.n_iter_ == 8
    assert net.model_.callbacks_.early_stopping["best_epoch"] == 2


def test_by_default_it_monitors_the_validation_loss_and_restores_its_best_epoch():
    losses = [3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.5]
    weights = Log()
    callbacks = [ScriptedValidation(losses), EarlyStopping(), Script([0] * 8, weights=weights)]
    net = make_net(callbacks=callbacks, max_epochs=8).fit(X, Y, X_val=X, y_val=Y)
    assert net.n_iter_ == 7
    assert same_weights(weights_of(net.model_.module_), weights[1])


@pytest.mark.parametrize(
    ("monitor", "lower"),
    [("train_loss", True), ("valid_accuracy", False), ("valid_loss", True), ("duration", True)],
)
def test_auto_tells_the_direction_of_the_loops_own_columns(monitor, lower):
    net = make_net(callbacks=[EarlyStopping(monitor=monitor, patience=1)], max_epochs=12)
    net.fit(X, Y, X_val=X, y_val=Y)
    values = net.history_[monitor].tolist()
    assert by_hand(values, 1, lower_is_better=lower)[0] == net.n_iter_
    state = net.model_.callbacks_.early_stopping
    assert state["best_score"] == (min if lower else max)(values)


def test_auto_tells_the_direction_of_r2():
    stopping = EarlyStopping("valid_r2", patience=2)
    net = NeuralNetRegressor(max_epochs=30, lr=0.05, callbacks=[stopping], random_state=0)
    net.fit(X, X[:, 0] ** 2, X_val=-X, y_val=X[:, 0] ** 2)
    values = net.history_["valid_r2"].tolist()
    assert by_hand(values, 2, lower_is_better=False)[0] == net.n_iter_


# ------------------------------------------------------------- restore_best


def test_the_best_weights_are_restored_also_when_the_fit_ends_otherwise():
    class Cancel(Callback):
        order = 500

        def on_epoch_end(self, ctx):
            if ctx.epoch == 3:
                raise CancelFitException

    weights = Log()
    script, stopping = Script([2, 1, 3, 3], weights=weights), EarlyStopping("scripted_loss")
    cancelled = make_net(callbacks=[script, stopping, Cancel()], max_epochs=4).fit(X, Y)
    assert same_weights(weights_of(cancelled.model_.module_), weights[1])
    weights.clear()
    completed = make_net(callbacks=[script, stopping], max_epochs=4).fit(X, Y)
    assert same_weights(weights_of(completed.model_.module_), weights[1])


def test_nothing_is_restored_after_an_interruption():
    class Interrupt(Callback):
        order = 500

        def on_epoch_end(self, ctx):
            if ctx.epoch == 3:
                raise KeyboardInterrupt

    weights = Log()
    script, stopping = Script([1, 2, 3], weights=weights), EarlyStopping("scripted_loss")
    net = make_net(callbacks=[script, stopping, Interrupt()])
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y)
    assert same_weights(weights_of(net.model_.module_), weights[2])


def test_the_state_says_the_best_epoch_and_holds_no_second_copy_of_the_weights():
    _, state, _ = fit([3, 1, 2, 2], patience=2)
    assert state == {"best_score": 1, "best_epoch": 2, "best_weights": None, "n_bad": 0}


def test_buffers_are_restored_too():
    class Normed(torch.nn.Sequential):
        def __init__(self):
            super().__init__(torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))

    weights = Log()
    script, stopping = Script([1, 2, 3], weights=weights), EarlyStopping("scripted_loss")
    net = make_net(module=Normed, callbacks=[script, stopping]).fit(X, Y)
    got = weights_of(net.model_.module_)
    assert "0.running_mean" in got
    assert same_weights(got, weights[0])


def test_a_continued_fit_goes_on_from_the_best_and_has_its_full_patience():
    scores = [3.0, 1.0, 2.0, 2.0, 2.0, 0.5, 2.0, 2.0]
    callbacks = [Script(scores), EarlyStopping("scripted_loss", patience=2)]
    net = make_net(callbacks=callbacks, max_epochs=8, warm_start=True).fit(X, Y)
    assert net.n_iter_ == 4
    net.fit(X, Y)
    # epochs 5 (worse), 6 (better), 7 and 8 (worse)
    assert net.n_iter_ == 8
    state = net.model_.callbacks_.early_stopping
    assert (state["best_score"], state["best_epoch"]) == (0.5, 6)


def test_a_continued_fit_without_an_improvement_gives_the_best_of_the_first():
    callbacks = [Script([1.0] + [2.0] * 9), EarlyStopping("scripted_loss", patience=2)]
    net = make_net(callbacks=callbacks, max_epochs=5, warm_start=True).fit(X, Y)
    best = weights_of(net.model_.module_)
    net.fit(X, Y)
    assert net.n_iter_ == 5
    assert same_weights(weights_of(net.model_.module_), best)


# -------------------------------------------------------- errors before training


def assert_refused(message, *, fit_params=None, others=(), **params):
    batches = []

    class Count(Callback):
        order = -1

        def on_batch_begin(self, ctx):
            batches.append(1)

    net = make_net(callbacks=[EarlyStopping(**params), Count(), *others])
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y, **(fit_params or {}))
    assert batches == []
    assert not hasattr(net, "model_")


VALID = {"X_val": X, "y_val": Y}
ARGUMENTS = [
    ({"patience": -1}, r"'patience' parameter of EarlyStopping.*\[0, inf\). Got -1"),
    ({"patience": 1.5}, "'patience' .* Got 1.5"),
    ({"patience": "3"}, "'patience' .* Got '3'"),
    ({"patience": None}, "'patience' .* Got None"),
    ({"min_delta": -0.1}, "'min_delta' .* Got -0.1"),
    ({"min_delta": NAN}, "'min_delta' .* Got nan"),
    ({"min_delta": "1"}, "'min_delta' .* Got '1'"),
    ({"mode": "minimum"}, "'mode' .* among .*'max'.* Got 'minimum'"),
    ({"monitor": 3}, "'monitor' .* Got 3"),
    ({"monitor": "valid_los"}, "'valid_los', which nothing.*Did you mean 'valid_loss'"),
    ({"monitor": "train_los"}, "'train_los'.*Did you mean 'train_loss'"),
    ({"monitor": "valid_r2"}, "'valid_r2', which nothing in this fit records"),
    ({"monitor": "lr"}, "cannot tell whether lower or higher.*Set mode='min' or mode='max'"),
    ({"monitor": "epoch"}, "cannot tell whether"),
]


@pytest.mark.parametrize(("params", "message"), ARGUMENTS)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    assert_refused(message, fit_params=VALID, **params)


@pytest.mark.parametrize("monitor", ["valid_loss", "valid_accuracy", "valid_anything"])
def test_a_validation_column_without_validation_data_is_an_error_before_training(monitor):
    assert_refused("no validation data.*validation_fraction", monitor=monitor)


def test_a_column_that_a_callback_logs_without_naming_it_is_an_error_before_training():
    class Unnamed(Callback):
        def on_epoch_end(self, ctx):
            ctx.log("my_loss", 1)

    assert_refused("names it in its attribute `logs`", monitor="my_loss", others=[Unnamed()])


@pytest.mark.parametrize("patience", [np.int64(2), np.int32(2)])
def test_numbers_of_numpy_are_numbers_as_search_grids_hold_them(patience):
    net, _, _ = fit([1, 2, 2, 2], patience=patience, min_delta=np.float32(0.5))
    assert net.n_iter_ == 3


def test_it_says_when_it_is_told_by_a_search_what_it_learned():
    from sklearn.model_selection import GridSearchCV

    stopping = EarlyStopping("scripted_loss", patience=1)
    net = make_net(callbacks={"script": Script([1, 2, 2, 2, 2, 2]), "stopping": stopping})
    net.set_params(max_epochs=6)
    search = GridSearchCV(net, {"callbacks__stopping__patience": [1, 3]}, cv=2, refit=False)
    search.fit(X, Y)
    for patience, last in [(1, 2), (3, 4)]:
        chosen = net.set_params(callbacks__stopping__patience=patience).fit(X, Y)
        assert chosen.n_iter_ == last
    assert stopping.patience == 1


# ------------------------------------------------------------ one epoch at a time


def test_a_loop_of_partial_fit_trains_on_and_stops_as_one_fit_would():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 2, 60)  # noise: it soon overfits
    data = {"X_val": rng.normal(size=(60, 4)), "y_val": rng.integers(0, 2, 60)}
    params = {"lr": 0.05, "batch_size": 10, "random_state": 0}
    whole = NeuralNetClassifier(callbacks=[EarlyStopping(patience=3)], max_epochs=50, **params)
    whole.fit(X, y, **data)
    assert whole.model_.stop_reason_ == "early_stopping"
    steps = NeuralNetClassifier(callbacks=[EarlyStopping(patience=3)], **params)
    for _ in range(whole.n_iter_):
        assert getattr(steps, "model_", None) is None or steps.model_.stop_reason_ == "completed"
        steps.partial_fit(X, y, **data)
    assert steps.model_.stop_reason_ == "early_stopping"
    assert steps.history_["valid_loss"].tolist() == whole.history_["valid_loss"].tolist()
    np.testing.assert_array_equal(steps.predict_proba(X), whole.predict_proba(X))
