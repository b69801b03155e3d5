"""Event files of TensorBoard, read back by TensorBoard's own reader."""

from __future__ import annotations

import copy
import os
import pickle
import random
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles import FailingCallback, Linear, Log, make_data, make_net, same_weights, weights_of
from sklearn.model_selection import GridSearchCV
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from skorchlike import (
    Callback,
    CancelEpochException,
    CancelFitException,
    NeuralNetClassifier,
    TensorBoard,
)
from skorchlike.callbacks.base import Setup

X, Y = make_data()
N_BATCHES = 2


def fit(log_dir, *others, valid=True, **params):
    board = TensorBoard(log_dir, **{k: params.pop(k) for k in [*params] if k in OWN})
    net = make_net(callbacks=[board, *others], **params)
    return net.fit(X, Y, **({"X_val": X, "y_val": Y} if valid else {}))


OWN = ("unit", "every", "histograms", "gradients")


def read(folder):
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0}).Reload()


def scalars(folder, tag):
    """Return step → value, of which a step may have one alone."""
    events = read(folder).Scalars(tag)
    values = {event.step: event.value for event in events}
    assert len(values) == len(events)
    return dict(sorted(values.items()))


def assert_holds_history(folder, net, steps=None):
    history = net.history_.drop(columns="epoch")
    steps = net.history_["epoch"].tolist() if steps is None else steps
    assert set(read(folder).Tags()["scalars"]) >= set(history)
    for name in history:
        column = dict(zip(steps, history[name].astype("float32"), strict=True))
        expected = {step: value for step, value in column.items() if not np.isnan(value)}
        assert scalars(folder, name) == expected, name


class Logs(Callback):
    def on_epoch_end(self, ctx):
        ctx.log("my_flag", ctx.epoch > 1)
        ctx.log("my_count", ctx.epoch * 10)
        ctx.log("my_word", "word")


# -------------------------------------------------------------------------- scalars


def test_the_scalars_are_the_history(tmp_path):
    net = fit(tmp_path, max_epochs=5, valid_every=2)
    assert_holds_history(tmp_path, net)
    assert set(read(tmp_path).Tags()["scalars"]) == set(net.history_) - {"epoch"}


def test_numbers_that_callbacks_log_are_written_and_words_are_not(tmp_path):
    fit(tmp_path, Logs())
    assert scalars(tmp_path, "my_flag") == {1: 0.0, 2: 1.0, 3: 1.0}
    assert scalars(tmp_path, "my_count") == {1: 10.0, 2: 20.0, 3: 30.0}
    assert "my_word" not in read(tmp_path).Tags()["scalars"]


def test_after_each_epoch_a_viewer_can_see_it(tmp_path):
    seen = Log()

    class Look(Callback):
        order = 1000

        def on_epoch_end(self, ctx):
            seen.append([*scalars(tmp_path, "train_loss")])

    fit(tmp_path, Look())
    assert seen == [[1], [1, 2], [1, 2, 3]]


class Losses(Callback):
    """Keep the loss of every batch."""

    def __init__(self, log):
        self.log = log

    def on_batch_end(self, ctx):
        self.log.append(ctx.loss.item())


@pytest.mark.parametrize("every", [1, 2, 3])
def test_by_batches_the_loss_of_each_or_some_is_written(every, tmp_path):
    losses = Log()
    net = fit(tmp_path, Losses(losses), unit="batch", every=every, max_epochs=4)
    steps = range(every, 4 * N_BATCHES + 1, every)
    expected = {step: np.float32(losses[step - 1]) for step in steps}
    assert scalars(tmp_path, "batch_loss") == expected
    assert scalars(tmp_path, "batch_lr") == dict.fromkeys(steps, np.float32(0.001))
    # the history stands at the number of batches so far
    assert_holds_history(tmp_path, net, steps=[2, 4, 6, 8])


# ----------------------------------------------------------------------- histograms


def test_histograms_of_the_parameters_meant_are_written_each_epoch(tmp_path):
    net = fit(tmp_path, histograms="w*")
    reader = read(tmp_path)
    assert reader.Tags()["histograms"] == ["parameters/weight"]
    events = reader.Histograms("parameters/weight")
    assert [event.step for event in events] == [1, 2, 3]
    weights = net.model_.module_.weight.detach().numpy()
    last = events[-1].histogram_value
    assert (last.min, last.max, last.num) == (weights.min(), weights.max(), weights.size)
    assert last.sum == pytest.approx(weights.sum())


def test_histograms_of_gradients_are_those_of_the_last_batch_of_the_epoch(tmp_path):
    gradients = Log()

    class Keep(Callback):
        def on_batch_end(self, ctx):
            gradients.append(ctx.module.weight.grad.clone())

    fit(tmp_path, Keep(), histograms=["weight", "bias"], gradients=True)
    reader = read(tmp_path)
    tags = {f"{what}/{name}" for what in ("parameters", "gradients") for name in ("weight", "bias")}
    assert set(reader.Tags()["histograms"]) == tags
    events = reader.Histograms("gradients/weight")
    assert [event.step for event in events] == [1, 2, 3]
    for event, gradient in zip(events, gradients[1::2], strict=True):
        value = event.histogram_value
        assert (value.min, value.max) == (gradient.min().item(), gradient.max().item())


def test_frozen_diverged_and_empty_parameters_do_not_fail(tmp_path):
    class Freeze(Callback):
        def on_begin(self, ctx):
            ctx.module.bias.requires_grad_(False)

    class Diverge(Callback):
        def on_epoch_end(self, ctx):
            with torch.no_grad():
                ctx.module.bias[0] = torch.nan

    class Empty(Linear):
        def __init__(self, n_features_in, n_outputs):
            super().__init__(n_features_in, n_outputs)
            self.empty = torch.nn.Parameter(torch.zeros(0))

    params = {"histograms": "*", "gradients": True, "max_epochs": 1, "module": Empty}
    fit(tmp_path, Freeze(), Diverge(), **params)
    assert "gradients/bias" not in read(tmp_path).Tags()["histograms"]
    assert "parameters/bias" in read(tmp_path).Tags()["histograms"]


# ---------------------------------------------------------------------- the folder


def test_without_a_folder_each_fit_has_its_own_below_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nets = [make_net(callbacks=["tensorboard"]).fit(X, Y) for _ in range(3)]
    folders = [Path(net.model_.callbacks_.tensorboard["folder"]) for net in nets]
    assert len(set(folders)) == 3
    assert sorted((tmp_path / "runs").iterdir()) == sorted(folders)
    for folder, net in zip(folders, nets, strict=True):
        assert_holds_history(folder, net)


def test_a_relative_folder_is_that_of_the_fits_begin(tmp_path, monkeypatch):
    class Move(Callback):
        def on_batch_end(self, ctx):
            os.chdir(tmp_path / "elsewhere")

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    net = fit("a/b", Move())
    assert_holds_history(tmp_path / "a/b", net)


def test_a_function_names_the_folder_once_a_fit_and_a_continued_fit_keeps_it(tmp_path):
    asked = Log()

    def folder(ctx):
        asked.append(ctx.estimator.lr)
        return tmp_path / str(len(asked))

    net = fit(folder, lr=0.25, warm_start=True).fit(X, Y, X_val=X, y_val=Y)
    assert asked == [0.25]
    assert_holds_history(tmp_path / "1", net)


@pytest.mark.parametrize("unit", ["epoch", "batch"])
def test_in_a_continued_fit_the_steps_go_on(unit, tmp_path, monkeypatch):
    def wait(files):
        raise AssertionError("nothing is hidden, so there is nothing to wait for")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("skorchlike.callbacks.tensorboard._wait_for_a_later_name", wait)
    net = fit(None, unit=unit, warm_start=True).fit(X, Y, X_val=X, y_val=Y)
    net.partial_fit(X, Y)
    steps = [1, 2, 3, 4, 5, 6, 7] if unit == "epoch" else [2, 4, 6, 8, 10, 12, 14]
    folder = net.model_.callbacks_.tensorboard["folder"]
    assert_holds_history(folder, net, steps)
    if unit == "batch":
        assert [*scalars(folder, "batch_loss")] == [*range(1, 15)]
    assert len(os.listdir(tmp_path / "runs")) == 1


@pytest.mark.parametrize("unit", ["epoch", "batch"])
def test_what_was_written_beyond_the_epoch_continued_from_is_hidden(unit, tmp_path):
    net = fit(tmp_path, unit=unit, warm_start=True)
    earlier = copy.deepcopy(net)
    net.fit(X, Y, X_val=X, y_val=Y)
    earlier.set_params(max_epochs=1).fit(X, X[:, 0] > 0, X_val=X, y_val=Y)
    steps = [1, 2, 3, 4] if unit == "epoch" else [2, 4, 6, 8]
    assert_holds_history(tmp_path, earlier, steps)
    if unit == "batch":
        assert [*scalars(tmp_path, "batch_loss")] == [*range(1, 9)]


def test_a_new_fit_in_the_same_folder_hides_the_earlier_one(tmp_path):
    fit(tmp_path, max_epochs=5)
    (written,) = tmp_path.iterdir()
    # within a second the reader takes files by the name of the host, here the last
    written.rename(tmp_path / f"events.out.tfevents.{int(time.time()):010d}.zzzz")
    net = fit(tmp_path, max_epochs=2, lr=0.1)
    assert_holds_history(tmp_path, net)


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_each_fit_of_a_search_has_its_folder(n_jobs, tmp_path):
    board = TensorBoard(lambda ctx: f"{tmp_path}/{ctx.estimator.lr}/{uuid.uuid4()}")
    net = make_net(callbacks=[board])
    search = GridSearchCV(net, {"lr": [0.1, 0.2]}, cv=2, n_jobs=n_jobs).fit(X, Y)
    assert len([*tmp_path.glob("0.1/*")]) + len([*tmp_path.glob("0.2/*")]) == 5
    best = search.best_estimator_
    assert_holds_history(best.model_.callbacks_.tensorboard["folder"], best)


# ------------------------------------------------------------------ ends of a fit


class Early(FailingCallback):
    order = -1


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("on_batch_begin", CancelFitException),
        ("on_valid_begin", CancelFitException),
        ("on_epoch_begin", CancelEpochException),
        ("on_batch_begin", KeyboardInterrupt),
        ("on_end", KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("epoch", [1, 3])
def test_however_a_fit_ends_the_history_is_written(place, error, epoch, tmp_path):
    net = make_net(callbacks=[TensorBoard(tmp_path), Early(place, error, epoch=epoch)])
    try:
        net.fit(X, Y, X_val=X, y_val=Y)
    except KeyboardInterrupt:
        assert error is KeyboardInterrupt
    assert_holds_history(tmp_path, net)


@pytest.mark.parametrize("place", ["on_begin", "on_epoch_begin", "on_batch_end", "on_exit"])
def test_after_an_error_no_writer_is_left(place, tmp_path):
    before = threading.enumerate()
    with pytest.raises(OSError, match=f"from {place}") as caught:
        fit(tmp_path, Early(place, OSError))
    assert threading.enumerate() == before
    assert not any("failed too" in note for note in caught.value.__notes__)


# --------------------------------------------------------------------- being passive


def test_it_changes_no_bit_of_training_and_draws_no_random_number(tmp_path):
    nets, states = [], Log()

    class States(Callback):
        order = 400

        def on_epoch_end(self, ctx):
            numpy = np.random.get_state()[1].sum()  # noqa: NPY002
            states.append((random.getstate(), numpy, torch.get_rng_state().sum().item()))

    board = TensorBoard(tmp_path, unit="batch", histograms="*", gradients=True)
    for others in ((), (board,)):
        net = NeuralNetClassifier(
            module__dropout=0.3, max_epochs=2, callbacks=[*others, States()], random_state=0
        )
        nets.append(net.fit(X, Y))
    assert same_weights(*(weights_of(net.model_.module_) for net in nets))
    assert states[:2] == states[2:]


def test_it_can_be_pickled_and_copied_at_any_time(tmp_path):
    copies = Log()

    class Copy(Callback):
        order = 400

        def on_epoch_end(self, ctx):
            callback = ctx.callbacks["tensorboard"]
            copies.append(pickle.loads(pickle.dumps(callback)))
            copies.append(copy.deepcopy(callback))

    net = fit(tmp_path, Copy())
    assert_holds_history(tmp_path, net)
    net.set_params(callbacks=[net.callbacks[0]])
    copies.append(pickle.loads(pickle.dumps(net)).callbacks[0])
    assert {copied.log_dir for copied in copies} == {tmp_path}
    assert len(copies) == 7


# --------------------------------------------------------------------------- errors

ARGUMENTS = [
    ({"log_dir": 3}, "'log_dir' parameter of TensorBoard .* Got 3"),
    ({"unit": "step"}, "'unit' .* Got 'step'"),
    ({"every": 0}, "'every' .* Got 0"),
    ({"every": 1.5}, "'every' .* Got 1.5"),
    ({"histograms": 3}, "'histograms' .* Got 3"),
    ({"histograms": ["weight", 3]}, "`histograms` parameter of TensorBoard must be a glob"),
    ({"histograms": "wieght"}, "`histograms`.*matches no parameter.*Did you mean 'weight'"),
    ({"gradients": 3}, "'gradients' .* Got 3"),
    ({"gradients": True}, r"needs `histograms`.*histograms='\*' is all"),
]


def assert_refused(message, **params):
    batches = []

    class Count(Callback):
        def on_batch_begin(self, ctx):
            batches.append(1)

    net = make_net(callbacks=[TensorBoard(**params), Count()])
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert batches == []
    assert not hasattr(net, "model_")


@pytest.mark.parametrize(("params", "message"), ARGUMENTS)
def test_an_impossible_argument_is_an_error_before_training(params, message, tmp_path):
    assert_refused(message, **{"log_dir": tmp_path / "runs", **params})
    assert not (tmp_path / "runs").exists()


def test_before_a_fit_it_advises_on_gradients_of_no_parameter():
    for board, advised in ((TensorBoard(gradients=True), 1), (TensorBoard("x", histograms="*"), 0)):
        assert len(board.advise(Setup("board", {"board": board}, (), 3))) == advised


def test_a_folder_that_cannot_be_written_is_an_error_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "runs").touch()
    monkeypatch.chdir(tmp_path)
    for log_dir in (tmp_path / "file", tmp_path / "file/x", "a\0b", lambda ctx: 3, None):
        assert_refused("`log_dir` of TensorBoard must be a folder", log_dir=log_dir)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "runs"]


def test_without_tensorboard_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"TensorBoard needs .*'tensorboard'.*\[tensorboard\]"):
        fit(tmp_path)
    assert [*tmp_path.iterdir()] == []
