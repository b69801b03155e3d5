"""With every built-in callback an interrupted fit goes on to the bits of one that was not."""

import time
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from callbacks.resume_cases import (
    BATCHES,
    EPOCHS,
    MORE_NAMES,
    NAMES,
    WARNINGS,
    X,
    Y,
    case,
    outcome,
)
from sklearn.base import clone

from skorchlike import (
    SWA,
    Callback,
    EarlyStopping,
    GradientAccumulation,
    LRFinder,
    NeuralNetClassifier,
    TimeLimit,
)
from skorchlike.model.codec import decode, encode
from skorchlike.model.files import pack, unpack
from skorchlike.model.trust import Trusted

pytestmark = [pytest.mark.filterwarnings(warning) for warning in WARNINGS]


class Stops(Callback):
    """Writes the fit down after a training batch, or an epoch; there or later it breaks off."""

    order = float("inf")
    passive = True

    def __init__(self, written=None, batch=None, epoch=None, last=None):
        self.written = written
        self.batch = batch
        self.epoch = epoch
        self.last = last

    def on_batch_exit(self, ctx):
        if ctx.training and self.batch == ctx.global_step:
            self.write(ctx)

    def on_epoch_end(self, ctx):
        if self.epoch == ctx.epoch:
            self.write(ctx)
        if self.last == ctx.epoch:
            raise InterruptedError

    def write(self, ctx):
        plain, tensors = encode(ctx.snapshot(copied=False), "")
        self.written.append(pack(plain, tensors, "checkpoint"))
        if self.last is None:
            raise InterruptedError


class Written(list):
    """What clones share."""

    def __deepcopy__(self, memo):
        return self


def whole(name, folder):
    folder.mkdir()
    net, X, y = case(name, folder)
    return net.fit(X, y, callbacks={"stops": Stops()})


def resumed(name, folder, **where):
    """Return a fit that was broken off and goes on in an estimator of its own."""
    folder.mkdir(exist_ok=True)
    written = Written()
    net, X, y = case(name, folder)
    with pytest.raises(InterruptedError):
        clone(net).fit(X, y, callbacks={"stops": Stops(written, **where)})
    plain, tensors = unpack(written[0], "checkpoint")
    snapshot = decode(plain, tensors, Trusted(["callbacks", __name__]))
    net = case(name, folder)[0]
    return net.fit(X, y, callbacks={"stops": Stops()}, resume=snapshot)


LENGTHS = {
    **{"lr_finder": 4, "single_batch": 1, "single_epoch": BATCHES},
    **{"guard, every third": 9, "sweep": 10, "sweep, accumulated": 7, "two epochs": 2 * BATCHES},
}
"""So many batches are trained where a callback ends the fit."""


def random_places(name):
    """Return a batch in an epoch's middle, the last one of an epoch, and an epoch's end."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    n = LENGTHS.get(name, EPOCHS * BATCHES)
    batches = np.arange(1, n + 1)
    yield {"batch": int(rng.choice(batches[batches % BATCHES != 0]))}
    if n >= BATCHES:
        yield {"batch": int(rng.choice(batches[batches % BATCHES == 0]))}
        yield {"epoch": int(rng.integers(1, n // BATCHES + 1))}


def assert_same(expected, got, where):
    for part, value in expected.items():
        assert got[part] == value, f"{part} differs where the fit was broken off at {where}"


@pytest.mark.parametrize("name", [*NAMES, *MORE_NAMES])
def test_a_fit_with_a_callback_goes_on_to_the_bit(name, tmp_path):
    expected = outcome(whole(name, tmp_path / "whole"), tmp_path / "whole")
    places = [*random_places(name)][: 1 if name == "mlflow" else None]  # more of it below
    for number, where in enumerate(places):
        folder = tmp_path / str(number)
        assert_same(expected, outcome(resumed(name, folder, **where), folder), where)


@pytest.mark.parametrize("place", range(1, EPOCHS * BATCHES + 1))
def test_a_fit_with_many_callbacks_goes_on_from_any_batch(place, tmp_path):
    expected = outcome(whole("many", tmp_path / "whole"), tmp_path / "whole")
    got = outcome(resumed("many", tmp_path / "cut", batch=place), tmp_path / "cut")
    assert_same(expected, got, place)


@pytest.mark.parametrize("name", ["many", "metrics", "accumulation in float16", "sweep"])
def test_a_snapshot_after_each_batch_changes_nothing(name, tmp_path):
    class Looks(Callback):
        order = 1e6
        passive = True

        def on_batch_exit(self, ctx):
            if ctx.resumable:
                ctx.snapshot()

    expected = outcome(whole(name, tmp_path / "whole"), tmp_path / "whole")
    (tmp_path / "watched").mkdir()
    net = case(name, tmp_path / "watched")[0].fit(X, Y, callbacks={"stops": Looks()})
    assert_same(expected, outcome(net, tmp_path / "watched"), "nowhere")


# ------------------------------------------------------------------- files and stores

# what was written after the point from which the fit goes on, and what was under way
LATER = [{"epoch": 2, "last": 3}, {"batch": BATCHES + 2, "last": 3}, {"epoch": EPOCHS}]
later = pytest.mark.parametrize("where", LATER, ids=str)


@later
def test_the_rows_of_a_file_are_those_of_the_history(where, tmp_path):
    net = resumed("csv_logger", tmp_path, **where)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "log.csv"), net.history_)


@later
@pytest.mark.parametrize("name", ["tensorboard", "board"])
def test_each_step_of_a_board_has_one_value(name, where, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    net = resumed(name, tmp_path, **where)
    folder = net.model_.callbacks_.tensorboard["folder"]
    board = EventAccumulator(folder, size_guidance={"scalars": 0}).Reload()
    losses = {event.step: event.value for event in board.Scalars("train_loss")}
    assert len(losses) == len(board.Scalars("train_loss")) == EPOCHS
    expected = net.history_["train_loss"].astype(np.float32).tolist()
    assert [losses[step] for step in sorted(losses)] == expected
    if name == "board":
        assert [event.step for event in board.Scalars("batch_loss")] == [*range(1, 17)]


@later
def test_each_epoch_is_in_a_store_once(where, tmp_path):
    from mlflow.tracking import MlflowClient

    net = resumed("mlflow", tmp_path, **where)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs(["0"])
    assert (run.info.status, run.data.tags["stop_reason"]) == ("FINISHED", "completed")
    for name in ("train_loss", "valid_loss", "duration"):
        found = client.get_metric_history(run.info.run_id, name)
        assert sorted(metric.step for metric in found) == [1, 2, 3, 4]
        if name != "duration":
            values = sorted((metric.step, metric.value) for metric in found)
            assert [value for _, value in values] == net.history_[name].tolist()


def test_the_plot_of_a_fit_broken_off_after_its_last_epoch_is_drawn(tmp_path):
    tmp_path.joinpath("plots").mkdir()

    def make():
        net = case("live_plot", tmp_path)[0]
        return net.set_params(callbacks__live_plot__path=tmp_path / "plots" / "p.png")

    written = Written()
    with pytest.raises(InterruptedError):
        make().fit(X, Y, callbacks={"stops": Stops(written, epoch=EPOCHS)})
    tmp_path.joinpath("plots", "p.png").unlink()
    make().fit(X, Y, resume=decode(*unpack(written[0], "checkpoint"), Trusted(["callbacks"])))
    assert tmp_path.joinpath("plots", "p.png").exists()


def test_the_bar_of_an_epoch_that_goes_on_counts_all_its_batches(tmp_path):
    seen = Written()

    class Looks(Callback):
        order = 149
        passive = True

        def on_phase_exit(self, ctx):
            seen.append((ctx.epoch, ctx.training, ctx.callbacks["progress"].bars[-1].n))

    written = Written()
    with pytest.raises(InterruptedError):
        case("progress", tmp_path)[0].fit(X, Y, callbacks={"stops": Stops(written, batch=7)})
    snapshot = decode(*unpack(written[0], "checkpoint"), Trusted())
    case("progress", tmp_path)[0].fit(X, Y, resume=snapshot, callbacks=[Looks()])
    assert seen[:2] == [(2, True, BATCHES), (2, False, 1)]


# ------------------------------------------------------------------------------ time


class Tick(Callback):
    """Let a second pass with each batch."""

    order = -1000
    passive = True

    def __init__(self, clock):
        self.clock = clock

    def on_batch_begin(self, ctx):
        self.clock[0] += 1


@pytest.mark.parametrize("place", [{"batch": 2}, {"batch": 6}, {"epoch": 1}], ids=str)
def test_the_time_that_an_interrupted_fit_has_taken_counts(place, monkeypatch):
    clock = Written([100.0])
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def make():
        callbacks = {"tick": Tick(clock), "limit": TimeLimit(9.5)}
        params = {"batch_size": 12, "max_epochs": 9, "random_state": 0}
        return NeuralNetClassifier(callbacks=callbacks, **params)

    whole = make().fit(X, Y)
    assert (whole.model_.stop_reason_, whole.n_iter_) == ("time_limit", 3)
    written = Written()
    with pytest.raises(InterruptedError):
        make().fit(X, Y, callbacks={"stops": Stops(written, **place)})
    clock[0] = 5.0  # another process has another clock
    snapshot = decode(*unpack(written[0], "checkpoint"), Trusted([__name__]))
    again = make().fit(X, Y, resume=snapshot)
    assert again.model_.stop_reason_ == "time_limit"
    assert again.model_.continuation_["global_step"] == whole.model_.continuation_["global_step"]
    assert "limit" not in whole.model_.callbacks_


# ------------------------------------------------ interrupted, and continued otherwise


class Interrupts(Callback):
    order = 1000
    passive = True

    def __init__(self, batch):
        self.batch = batch

    def on_batch_end(self, ctx):
        if ctx.global_step == self.batch:
            raise KeyboardInterrupt


def interrupted(callback, batch, **params):
    params = {"max_epochs": EPOCHS, "batch_size": 12, "random_state": 0, **params}
    net = NeuralNetClassifier(callbacks={"mine": callback}, warm_start=True, **params)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, callbacks=[Interrupts(batch)])
    return net


def test_a_sweep_that_was_interrupted_and_put_back_begins_anew():
    net = interrupted(LRFinder(n_steps=6), 4)
    assert len(net.model_.callbacks_.mine.records) == 4
    net.set_params(max_epochs=EPOCHS - 1).fit(X, Y)
    records = net.model_.callbacks_.mine.records
    assert len(records) == 6
    assert records["lr"][0] == pytest.approx(1e-6)


def test_a_group_whose_gradients_are_gone_begins_anew():
    steps = Written()

    class Counts(Callback):
        def on_after_step(self, ctx):
            steps.append(ctx.global_step)

    net = interrupted(GradientAccumulation(3), 5, batch_size=6)  # eight batches an epoch
    assert net.model_.callbacks_.mine["n_pending"] == 2
    net.set_params(max_epochs=1).fit(X, Y, callbacks=[Counts()])
    assert steps == [8, 11, 13]
    assert "mine" not in net.model_.callbacks_


def test_an_average_that_early_stopping_put_back_counts_the_epochs_that_are_in_it():
    seen = Written()

    class Worse(Callback):
        logs = ("my_loss",)

        def on_epoch_end(self, ctx):
            ctx.log("my_loss", [3, 2, 1, 2, 2, 0][ctx.epoch - 1])

    class Trained(Callback):
        order = 39

        def on_after_train(self, ctx):
            seen.append([p.detach().clone() for p in ctx.module.parameters()])

    callbacks = [SWA(1), Worse(), EarlyStopping("my_loss", patience=2), Trained()]
    net = NeuralNetClassifier(
        callbacks=callbacks, warm_start=True, max_epochs=9, lr=0.1, batch_size=12, random_state=0
    ).fit(X, Y)
    assert net.n_iter_ == 5
    assert net.model_.callbacks_.early_stopping["best_epoch"] == 3
    net.set_params(max_epochs=1).fit(X, Y)
    assert net.model_.callbacks_.swa["n_averaged"] == 4
    # the mean of the first three epochs, and the sixth
    for i, parameter in enumerate(net.model_.module_.parameters()):
        mean = torch.stack([seen[epoch][i] for epoch in (0, 1, 2, 5)]).mean(0)
        torch.testing.assert_close(parameter.detach(), mean, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------- tidiness


def test_the_states_of_a_finished_fit_hold_nothing_that_was_under_way(tmp_path):
    none = ("gradient_accumulation", "gradient_clipping", "single_epoch", "time_limit", "metrics")
    for name in none:
        assert whole(name, tmp_path / name).model_.callbacks_ == {}
    kept = {
        "early_stopping": {"best_score", "best_epoch", "best_weights", "n_bad"},
        "ema": {"n_averaged", "average_in_module", "other_weights"},
        "nan_guard": {"report"},
        "tensorboard": {"folder", "n_files"},
        "lr_finder": {"suggestion", "records"},
        "profile": {"rows", "total_ns", "steps"},
    }
    for name, keys in kept.items():
        assert set(whole(name, tmp_path / name).model_.callbacks_[name]) == keys
