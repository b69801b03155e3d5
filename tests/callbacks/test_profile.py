"""The profiler: every call counted, and timed by a clock that the test moves."""

from __future__ import annotations

import copy
import json
import pickle
import sys
import time

import pytest
import torch
from doubles import (
    FailingCallback,
    Log,
    RecordingActions,
    RecordingCallback,
    make_data,
    make_net,
    same_weights,
    weights_of,
)

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    NeuralNetClassifier,
    Profile,
    SingleBatch,
)
from skorchlike.callbacks import profile
from skorchlike.callbacks.tools import profile_report

X, Y = make_data(n=20)  # five training batches of four, ten validation batches of two
MS = 10**6


class Clock:
    """Stands for time: it moves when a callback says so."""

    now = 0


class Slow(Callback):
    """Let milliseconds pass at some places."""

    def __init__(self, **places):
        self.places = places

    def get_params(self, deep=True):
        return {**self.places}


def _slow(place):
    def take_time(self, ctx):
        Clock.now += self.places.get(place, 0) * MS

    return take_time


for _place in ("on_begin", "on_epoch_begin", "on_batch_begin", "on_after_loss", "on_epoch_end"):
    setattr(Slow, _place, _slow(_place))


class SlowNet(NeuralNetClassifier):
    """Take milliseconds for predict and backward."""

    def do_predict(self, ctx):
        Clock.now += 5 * MS
        super().do_predict(ctx)

    def do_backward(self, ctx):
        Clock.now += 7 * MS
        super().do_backward(ctx)


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(Clock, "now", 0)
    for module in (profile, profile_report):
        monkeypatch.setattr(module, "perf_counter_ns", lambda: Clock.now)


def fit(*callbacks, cls=None, valid=True, **params):
    named = {f"other{i}": callback for i, callback in enumerate(callbacks)}
    net = make_net(callbacks={**named, "profile": Profile()})
    if cls is not None:
        net = cls(**net.get_params(deep=False))
    net.set_params(**params)
    return net.fit(X, Y, **({"X_val": X, "y_val": Y} if valid else {}))


def report_of(*callbacks, **params):
    return fit(*callbacks, **params).model_.callbacks_.profile


def entries(report):
    """Return (phase, place, owner) → the row of the table."""
    rows = report.table.set_index(["phase", "place", "owner"]).to_dict("index")
    assert len(rows) == len(report.table)
    return rows


# ------------------------------------------------------------------- what is counted


def test_every_call_of_every_callback_and_action_is_counted():
    log = Log()
    report = report_of(RecordingCallback(log), RecordingActions(log))
    found = {(p, place, owner): row["calls"] for (p, place, owner), row in entries(report).items()}
    by_hand = {}
    for event in log:
        if event.place == "on_exit":
            continue  # it comes after the report
        shared = event.place in ("predict", "get_loss", "on_batch_exit", "on_phase_exit")
        valid = shared or event.place.startswith(("on_batch_valid", "on_valid"))
        phase = "train" if event.training else "valid" if valid else "fit"
        owner, place = "other0", event.place
        if event.who == "actions":
            owner, place = "other1", f"do_{event.place}"
        by_hand[phase, place, owner] = by_hand.get((phase, place, owner), 0) + 1
    data = {("train", "data", "loop"): 15, ("valid", "data", "loop"): 30}
    assert found == {**by_hand, **data, ("fit", "loop", "loop"): 1}


def test_actions_that_nobody_replaces_are_the_estimators():
    rows = entries(report_of(valid=False))
    assert {key: row["calls"] for key, row in rows.items()} == {
        **{("train", f"do_{a}", "estimator"): 15 for a in ("predict", "get_loss", "backward")},
        **{("train", f"do_{a}", "estimator"): 15 for a in ("step", "zero_grad")},
        ("train", "data", "loop"): 15,
        ("fit", "loop", "loop"): 1,
    }


def test_cancelled_and_failing_calls_are_counted_too():
    cancel = FailingCallback("on_after_loss", CancelBatchException, step=2)
    rows = entries(report_of(cancel))
    assert rows["train", "on_after_loss", "other0"]["calls"] == 15
    assert rows["train", "do_backward", "estimator"]["calls"] == 12


# --------------------------------------------------------------------- what is timed


def test_times_are_those_that_passed(clock):
    slow = Slow(on_begin=100, on_batch_begin=1, on_after_loss=2, on_epoch_end=10)
    report = report_of(slow, cls=SlowNet)
    rows = entries(report)
    total = 100 + 15 * (1 + 5 + 2 + 7) + 30 * 5 + 3 * 10
    assert report.total_ns == total * MS
    expected = {
        ("fit", "on_begin", "other0"): (100, 1),
        ("train", "on_batch_begin", "other0"): (15, 15),
        ("train", "on_after_loss", "other0"): (30, 15),
        ("fit", "on_epoch_end", "other0"): (30, 3),
        ("train", "do_predict", "estimator"): (75, 15),
        ("train", "do_backward", "estimator"): (105, 15),
        ("valid", "do_predict", "estimator"): (150, 30),
    }
    for key, (milliseconds, calls) in expected.items():
        row = rows[key]
        assert row["total_ms"] == milliseconds
        assert row["mean_us"] == pytest.approx(1000 * milliseconds / calls)
        assert row["share"] == pytest.approx(milliseconds / total)
    rest = [row["total_ms"] for key, row in rows.items() if key not in expected]
    assert rest == [0] * len(rest)


def test_shares_of_the_step_are_shares_of_the_training_batches(clock):
    report = report_of(Slow(on_batch_begin=1, on_after_loss=2), cls=SlowNet)
    assert report.steps == (15, 15 * 15 * MS)
    rows = entries(report)
    assert rows["train", "do_backward", "estimator"]["step_share"] == pytest.approx(7 / 15)
    assert rows["train", "on_batch_begin", "other0"]["step_share"] == pytest.approx(1 / 15)
    outside = [row["step_share"] for (phase, *_), row in rows.items() if phase != "train"]
    assert all(share != share for share in outside)
    table = report.table
    assert table["step_share"].sum() == pytest.approx(1)
    assert table["share"].sum() == pytest.approx(1)
    assert table["total_ms"].is_monotonic_decreasing


def test_time_between_batches_is_the_datas_and_the_rest_is_the_loops(clock, monkeypatch):
    from skorchlike.data.arrays import ArrayBatches
    from skorchlike.training.records import Records

    batches, record = ArrayBatches.__iter__, Records.loss

    def slow_batches(self):
        for batch in batches(self):
            Clock.now += 3 * MS
            yield batch
        Clock.now += 50 * MS

    def slow_record(self, *arguments):
        Clock.now += 4 * MS
        return record(self, *arguments)

    monkeypatch.setattr(ArrayBatches, "__iter__", slow_batches)
    monkeypatch.setattr(Records, "loss", slow_record)
    report = report_of()
    rows = entries(report)
    assert rows["train", "data", "loop"]["total_ms"] == 15 * 3
    assert rows["valid", "data", "loop"]["total_ms"] == 30 * 3
    # after a last batch nothing is waited for
    assert rows["fit", "loop", "loop"]["total_ms"] == 45 * 4 + 6 * 50


def test_without_a_slowed_clock_the_parts_add_up_to_the_whole():
    began = time.perf_counter_ns()
    report = report_of()
    took = time.perf_counter_ns() - began
    assert 0 < report.total_ns < took
    assert report.table["total_ms"].sum() == pytest.approx(report.total_ns / 1e6)
    assert (report.table["total_ms"] >= 0).all()


def test_on_an_accelerator_it_waits_before_and_after_each_call_if_told(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waits.append)

    class Ctx:
        training = True
        device = torch.device("cuda")

    called = []
    for synchronize, n_waits in ((False, 0), (True, 2)):
        callback = Profile(synchronize=synchronize)
        callback.wrap_call("me", "do_step", lambda ctx: called.append(len(waits)))(Ctx)
        assert len(waits) == n_waits
        assert callback.state_dict().rows[0][:4] == ("train", "do_step", "me", 1)
    assert called == [0, 1]
    assert report_of(callbacks__profile__synchronize=True).steps[0] == 15
    assert len(waits) == 2


# -------------------------------------------------------------------- what it leaves


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_changes_no_bit(dtype):
    plain = make_net(dtype=dtype, module=None).fit(X, Y)
    profiled = make_net(dtype=dtype, module=None, callbacks=["profile"]).fit(X, Y)
    assert same_weights(weights_of(plain.model_.module_), weights_of(profiled.model_.module_))
    assert plain.loss_curve_ == profiled.loss_curve_


@pytest.mark.parametrize(
    ("stage", "note"),
    [
        ("on_batch_begin", "the callback 'other0' (FailingCallback) in on_batch_begin, epoch 1"),
        ("on_exit", "the callback 'other0' (FailingCallback) in on_exit"),
    ],
)
def test_an_error_still_says_who_raised_it(stage, note):
    with pytest.raises(OSError, match="from ") as caught:
        fit(FailingCallback(stage, OSError))
    assert any(note in text for text in caught.value.__notes__)


def test_an_error_in_an_action_still_says_who_raised_it():
    class Breaks(Callback):
        def do_step(self, ctx):
            raise OSError("broken")

    with pytest.raises(OSError, match="broken") as caught:
        fit(Breaks())
    note = "Raised by the callback 'other0' (Breaks) in do_step, epoch 1, batch 1."
    assert note in caught.value.__notes__


def test_a_cancel_where_it_has_no_meaning_still_says_who_raised_it():
    with pytest.raises(RuntimeError, match=r"where the callback 'other0' \(Fail"):
        fit(FailingCallback("on_epoch_end", CancelEpochException))


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ("on_begin", CancelFitException),
        ("on_epoch_begin", CancelEpochException),
        ("on_batch_begin", CancelFitException),
        ("on_valid_begin", CancelEpochException),
        ("on_batch_valid_end", CancelBatchException),
    ],
)
def test_a_fit_that_is_cancelled_has_its_report(stage, error):
    report = report_of(FailingCallback(stage, error))
    assert report.total_ns > 0
    assert report.table["share"].sum() == pytest.approx(1)


def test_an_interrupted_fit_has_its_report():
    net = make_net(callbacks=["profile", FailingCallback("on_batch_end", KeyboardInterrupt)])
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y)
    assert entries(net.model_.callbacks_.profile)["train", "do_step", "estimator"]["calls"] == 1


def test_a_continued_fit_adds_to_the_report(clock):
    net = fit(Slow(on_begin=100, on_after_loss=2), cls=SlowNet, warm_start=True)
    once = net.model_.callbacks_.profile
    net = pickle.loads(pickle.dumps(net))
    net.fit(X, Y, X_val=X, y_val=Y)
    twice = net.model_.callbacks_.profile
    assert twice.total_ns == 2 * once.total_ns
    assert twice.steps == tuple(2 * value for value in once.steps)
    doubled = {key: 2 * row["total_ms"] for key, row in entries(once).items()}
    assert {key: row["total_ms"] for key, row in entries(twice).items()} == doubled


def test_two_profilers_measure_one_another():
    net = make_net(callbacks={"one": Profile(), "two": Profile()}).fit(X, Y)
    one, two = (entries(net.model_.callbacks_[name]) for name in ("one", "two"))
    assert ("fit", "on_epoch_end", "two") in one
    assert ("fit", "on_epoch_end", "one") in two
    assert ("fit", "on_epoch_end", "one") not in one


def test_a_callback_that_wraps_calls_works_in_predict():
    printed = []

    class InPredict(Profile):
        def on_predict_end(self, ctx):
            rows = self.state_dict().rows
            printed.append([row[1:4] for row in rows if row[1] == "on_batch_predict_end"])

    net = make_net(callbacks={"mine": InPredict(), "log": RecordingCallback(Log())}).fit(X, Y)
    expected = net.set_params(callbacks__mine=None).predict(X)
    assert (net.set_params(callbacks__mine=InPredict()).predict(X) == expected).all()
    assert printed == [[("on_batch_predict_end", "log", 10)]]


# ------------------------------------------------------------------------- the trace


def traces(folder):
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


def test_a_trace_has_the_calls_of_some_batches(tmp_path):
    folder = tmp_path / "new" / "folder"
    params = {"callbacks__profile__trace": folder, "callbacks__profile__trace_steps": 2}
    fit(RecordingCallback(Log()), **params)
    [trace] = traces(folder)
    names = [event.get("name") for event in trace["traceEvents"]]
    # each is there once a batch for the user and once for the machine's part
    for name in ("estimator.do_backward", "other0.on_batch_end"):
        marks = [e for e in trace["traceEvents"] if e.get("name") == name and e.get("dur")]
        assert len({event["ts"] for event in marks}) == 2
    assert any("addmm" in str(name) for name in names)
    assert not torch.autograd.profiler._is_profiler_enabled


def test_a_fit_too_short_for_a_trace_says_so(tmp_path):
    net = make_net(callbacks=["profile"], max_epochs=1, batch_size=20)
    net.set_params(callbacks__profile__trace=str(tmp_path))
    with pytest.warns(UserWarning, match="ended before the third training batch"):
        net.fit(X, Y)
    assert traces(tmp_path) == []


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("error", [OSError, CancelFitException])
def test_a_fit_that_is_cut_off_leaves_no_profiler_on(step, error, tmp_path):
    breaks = FailingCallback("on_after_loss", error, step=step)
    params = {"callbacks__profile__trace": tmp_path}
    if error is OSError:
        with pytest.raises(OSError, match="from on_after_loss"):
            fit(breaks, **params)
    elif step == 4:
        fit(breaks, **params)
    else:
        with pytest.warns(UserWarning, match="ended before the third"):
            fit(breaks, **params)
    assert not torch.autograd.profiler._is_profiler_enabled
    # what was recorded until then is kept
    assert len(traces(tmp_path)) == (step == 4)


# --------------------------------------------------------------------- the report


def test_the_report_is_a_dict_that_can_be_pickled_and_copied():
    report = report_of()
    for again in (pickle.loads(pickle.dumps(report)), copy.deepcopy(report)):
        assert type(again) is type(report)
        assert again == report
        assert again.table.equals(report.table)
    assert {"table", "plot", "total_ns"} <= set(dir(report))


def test_the_report_shows_its_largest_entries(clock):
    report = report_of(Slow(on_batch_begin=1, on_after_loss=2), cls=SlowNet)
    lines = repr(report).splitlines()
    assert lines[0] == "ProfileReport: 0.375 s, 15 training batches"
    assert lines[2].split() == ["40.0%", "150.00", "30", "5000.00", "valid:", "do_predict"]
    assert lines[4].split()[-2:] == ["train:", "do_predict"]
    assert lines[5].split() == [
        "8.0%",
        "30.00",
        "15",
        "2000.00",
        "train:",
        "on_after_loss",
        "(other0)",
    ]


def test_a_report_of_a_fit_that_trained_nothing_can_be_shown():
    report = report_of(FailingCallback("on_begin", None))
    assert "0 training batches" in repr(report)


@pytest.fixture
def pyplot():
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_the_plot_shows_the_largest_entries_as_bars(clock, pyplot):
    report = report_of(Slow(on_batch_begin=1, on_after_loss=2), cls=SlowNet)
    figure = report.plot(n_rows=4)
    figure.canvas.draw()
    [ax] = figure.axes
    bars = sorted((round(bar.get_y() + 0.4), bar.get_width()) for bar in ax.patches)
    assert bars == [(0, 150), (1, 105), (2, 75), (3, 30)]
    labels = [label.get_text() for label in ax.get_yticklabels()]
    expected = ["valid: do_predict", "train: do_backward", "train: do_predict"]
    assert labels == [*expected, "train: on_after_loss (other0)"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["action", "callback"]


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    report = report_of(SingleBatch())
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"ProfileReport.plot needs .*skorchlike\[plot\]"):
        report.plot()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"synchronize": "yes"}, r"'synchronize' parameter of Profile.*Got 'yes'"),
        ({"trace": 3}, r"'trace' parameter of Profile.*Got 3"),
        ({"trace_steps": 0}, r"'trace_steps' parameter of Profile.*Got 0"),
        ({"trace_steps": 2.5}, r"'trace_steps' parameter of Profile.*Got 2.5"),
    ],
)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    net = make_net(callbacks=[Profile(**params)])
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert not hasattr(net, "model_")
