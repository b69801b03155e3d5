"""The recorded order of stages and actions, and the counters at each, against the table."""

from __future__ import annotations

import sys
from itertools import chain, groupby

import numpy as np
import pytest
from doubles import Log, RecordingActions, RecordingCallback, make_data, make_net
from simulated_fit import TRAIN_BATCH, VALID_BATCH

from skorchlike import Callback
from skorchlike.training.loop import Loop
from skorchlike.training.stages import ACTIONS, FIT_STAGES, PREDICT_STAGES, STAGES, TABLE

MLR3TORCH = [
    "on_begin",
    "on_epoch_begin",
    "on_batch_begin",
    "on_after_backward",
    "on_batch_end",
    "on_before_valid",
    "on_batch_valid_begin",
    "on_batch_valid_end",
    "on_valid_end",
    "on_epoch_end",
    "on_end",
    "on_exit",
]

PREDICT_BATCH = ["on_batch_predict_begin", "predict", "on_batch_predict_end"]


def epoch_by_hand(n_train, n_valid):
    valid = ["on_valid_begin", *VALID_BATCH * n_valid, "on_valid_end", "on_phase_exit"]
    return [
        "on_epoch_begin",
        "on_before_train",
        *TRAIN_BATCH * n_train,
        "on_after_train",
        "on_phase_exit",
        "on_before_valid",
        *(valid if n_valid else []),
        "on_epoch_end",
    ]


def epoch_by_table(n_train, n_valid):
    """Walk down the table: a batch's rows repeat, a row shared with validation comes again."""
    rows = [row for row in TABLE if row.level in ("epoch", "train", "train_batch")]
    valid = [row for row in TABLE if row.level in ("valid", "valid_batch")]
    shared = [row for row in rows if "valid" in row.phases]
    exits = {row.level.replace("train", "valid"): row.name for row in shared}
    places = []
    for level, group in groupby([r for r in TABLE if r in rows + valid], key=lambda r: r.level):
        names = [row.name for row in group]
        if level == "train_batch":
            names *= n_train
        elif level == "valid_batch":
            names = [*names, exits[level]] * n_valid
        elif level == "valid" and not n_valid:
            names = []
        elif level == "valid" and "on_valid_end" in names:
            names.append(exits[level])
        places += names
    return places


def fit_by_table(n_epochs, n_train, n_valid, valid_every=1):
    fit = [row.name for row in TABLE if row.level == "fit"]
    epochs = []
    for epoch in range(1, n_epochs + 1):
        validates = epoch % valid_every == 0 or epoch == n_epochs
        epochs += epoch_by_table(n_train, n_valid if validates else 0)
    return [fit[0], *epochs, *fit[1:]]


def record_fit(n_train=2, n_valid=0, **params):
    X, y = make_data(4 * n_train)
    log = Log()
    callbacks = [RecordingCallback(log), RecordingActions(log)]
    data = {}
    if n_valid:
        data["X_val"], data["y_val"] = make_data(2 * n_valid, seed=1)
    net = make_net(callbacks=callbacks, **params).fit(X, y, **data)
    return net, log


def test_the_table_is_the_documented_loop():
    assert epoch_by_table(1, 1) == epoch_by_hand(1, 1)
    fit = [row.name for row in TABLE if row.level == "fit"]
    assert fit == ["on_begin", "on_end", "on_exit"]
    assert PREDICT_STAGES == (
        "on_predict_begin",
        "on_batch_predict_begin",
        "on_batch_predict_end",
        "on_predict_end",
        "on_predict_exit",
    )
    assert ACTIONS == ("predict", "get_loss", "backward", "step", "zero_grad")


def test_the_stage_names_of_mlr3torch_stand_as_they_are():
    assert [row.name for row in TABLE if row.mlr3torch] == MLR3TORCH
    assert all(row.name == row.mlr3torch for row in TABLE if row.mlr3torch)


def test_every_row_says_in_one_line_when_it_runs():
    assert all(row.meaning and "\n" not in row.meaning for row in TABLE)
    assert set(FIT_STAGES) | set(PREDICT_STAGES) == set(STAGES)


@pytest.mark.parametrize(
    ("n_epochs", "n_train", "n_valid", "valid_every"),
    [(1, 1, 0, 1), (3, 4, 0, 1), (1, 1, 1, 1), (3, 2, 3, 1), (3, 3, 2, 2), (4, 2, 1, 3)],
)
def test_a_fit_runs_the_stages_in_the_order_of_the_table(n_epochs, n_train, n_valid, valid_every):
    _, log = record_fit(n_train, n_valid, max_epochs=n_epochs, valid_every=valid_every)
    places = [event.place for event in log]
    assert places == fit_by_table(n_epochs, n_train, n_valid, valid_every)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "score", "decision_function"])
def test_prediction_runs_the_predict_stages_in_the_order_of_the_table(method):
    net, log = record_fit()
    log.clear()
    X, y = make_data(6)
    getattr(net, method)(*([X, y] if method == "score" else [X]))
    batch = [row.name for row in TABLE if row.level == "predict_batch"]
    assert batch == PREDICT_BATCH
    first, *rest = [row.name for row in TABLE if row.level == "predict"]
    assert [event.place for event in log] == [first, *batch * 3, *rest]
    steps = [(e.step, e.is_last_batch, e.index) for e in log if e.place == "predict"]
    assert steps == [(1, False, [0, 1]), (2, False, [2, 3]), (3, True, [4, 5])]
    assert {(e.epoch, e.training, e.n_steps) for e in log} == {(3, False, 3)}


def expected_counters(n_epochs, n_train, n_valid, valid_every):
    """Yield (place, epoch, global_step, training, batch) of a fit; batch is its number or None."""
    yield "on_begin", 0, 0, False, None
    for epoch in range(1, n_epochs + 1):
        done = (epoch - 1) * n_train
        validates = epoch % valid_every == 0 or epoch == n_epochs
        batch, training = 0, False
        for place in epoch_by_hand(n_train, n_valid if validates else 0):
            if place in ("on_batch_begin", "on_batch_valid_begin"):
                batch += 1
                done += place == "on_batch_begin"
            training = training or place == "on_before_train"
            if place == "on_before_valid":
                batch, training = 0, False
            in_batch = place in TRAIN_BATCH + VALID_BATCH
            yield place, epoch, done, training, batch if in_batch else None
    for place in ("on_end", "on_exit"):
        yield place, n_epochs, n_epochs * n_train, False, None


@pytest.mark.parametrize("valid_every", [1, 2])
def test_counters_at_every_stage(valid_every):
    n_epochs, n_train, n_valid = 3, 4, 2
    _, log = record_fit(
        n_train, n_valid, max_epochs=n_epochs, valid_every=valid_every, shuffle=False
    )
    expected = list(expected_counters(n_epochs, n_train, n_valid, valid_every))
    assert len(expected) == len(log)
    in_validation = False
    for event, (place, epoch, global_step, training, batch) in zip(log, expected, strict=True):
        got = (event.place, event.epoch, event.global_step)
        assert got == (place, epoch, global_step)
        in_validation = place == "on_valid_begin" or (in_validation and place != "on_epoch_end")
        assert event.training is training, event
        if batch is None:
            continue
        n_steps, size = (n_valid, 2) if in_validation else (n_train, 4)
        rows = list(range((batch - 1) * size, batch * size))
        assert (event.step, event.n_steps, event.index) == (batch, n_steps, rows), event
        assert event.is_last_batch is (batch == n_steps), event


def test_index_says_the_rows_of_the_data_given_when_validation_is_split_off():
    X, y = make_data(20)
    rows = {True: [], False: []}
    right = Log()

    class Look(Callback):
        def on_batch_exit(self, ctx):
            rows[ctx.training].append(ctx.index.tolist())
            right.append(bool((ctx.X.numpy() == X[ctx.index.numpy()]).all()))

    make_net(max_epochs=2, validation_fraction=0.25, callbacks=[Look()]).fit(X, y)
    train, valid = rows[True], rows[False]
    assert all(right)
    first = sorted(chain(*train[:4]))
    assert first == sorted(chain(*train[4:]))
    assert sorted(chain(first, *valid[:3])) == list(range(20))


def test_n_steps_counts_a_short_last_batch_and_drop_last_leaves_it_out():
    X, y = make_data(10)
    for drop_last, n_steps in [(False, 3), (True, 2)]:
        log = Log()
        net = make_net(max_epochs=1, drop_last=drop_last, callbacks=[RecordingCallback(log)])
        net.fit(X, y)
        ends = [event for event in log if event.place == "on_batch_end"]
        assert [event.is_last_batch for event in ends] == [False] * (n_steps - 1) + [True]
        assert {event.n_steps for event in ends} == {n_steps}
        assert len(ends) == n_steps


def test_the_epoch_begins_where_the_continued_fit_stopped():
    X, y = make_data()
    log = Log()
    net = make_net(max_epochs=2, warm_start=True, callbacks=[RecordingCallback(log)]).fit(X, y)
    log.clear()
    net.fit(X, y)
    begin = log[0]
    assert (begin.place, begin.epoch, begin.global_step) == ("on_begin", 2, 4)
    assert [e.epoch for e in log if e.place == "on_epoch_begin"] == [3, 4]
    assert log[-1].global_step == 8
    log.clear()
    net.partial_fit(X, y)
    assert [e.epoch for e in log if e.place == "on_epoch_begin"] == [5]


# --------------------------------------------------------------------- cost


class Idle(Callback):
    """Act once a fit only."""

    def on_end(self, ctx):
        pass


class OneStage(Callback):
    def on_batch_end(self, ctx):
        pass


def calls_per_batch(monkeypatch, callbacks):
    """Count all calls, of Python and C functions, that one training batch makes."""
    counts = []
    original = Loop.train_batch

    def counted(self, batch):
        n = 0

        def count(frame, event, arg):
            nonlocal n
            n += event in ("call", "c_call")

        outer = sys.getprofile()
        sys.setprofile(count)
        try:
            original(self, batch)
        finally:
            sys.setprofile(outer)
        counts.append(n)

    monkeypatch.setattr(Loop, "train_batch", counted)
    X, y = make_data(40)
    make_net(callbacks=callbacks, max_epochs=2).fit(X, y)
    monkeypatch.undo()
    return int(np.median(counts))


def test_a_stage_that_no_callback_uses_costs_no_call(monkeypatch):
    none = calls_per_batch(monkeypatch, None)
    idle = calls_per_batch(monkeypatch, {f"idle{i}": Idle() for i in range(10)})
    assert idle == none


def test_a_used_stage_costs_its_own_calls_alone(monkeypatch):
    none = calls_per_batch(monkeypatch, None)
    counts = [
        calls_per_batch(monkeypatch, {f"one{i}": OneStage() for i in range(n)}) for n in (1, 2, 5)
    ]
    # running the stage, and then one call a callback
    assert [count - counts[0] for count in counts] == [0, 1, 4]
    assert 2 <= counts[0] - none <= 3


def test_a_batch_without_callbacks_runs_the_five_actions_and_nothing_else(monkeypatch):
    ran = []
    original = Loop.run
    monkeypatch.setattr(
        Loop, "run", lambda self, calls: ran.append(calls.place) or original(self, calls)
    )
    original_batch = Loop.train_batch

    def train_batch(self, batch):
        ran.clear()
        original_batch(self, batch)
        batches.append(list(ran))

    batches = []
    monkeypatch.setattr(Loop, "train_batch", train_batch)
    X, y = make_data()
    make_net(max_epochs=1).fit(X, y)
    assert batches == [[f"do_{action}" for action in ACTIONS]] * 2


def test_callbacks_are_looked_up_once_a_fit_not_at_every_batch():
    lookups = Log()

    class Watched(Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                lookups.append(name)
            return super().__getattribute__(name)

        def on_batch_end(self, ctx):
            pass

    X, y = make_data(8)
    counts = []
    for n_epochs in (1, 5):
        lookups.clear()
        make_net(max_epochs=n_epochs, callbacks=[Watched()]).fit(X, y)
        counts.append(len(lookups))
    assert counts[0] == counts[1] > 0
