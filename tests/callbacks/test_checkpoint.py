"""When the fit is saved, what is kept, and whose folder it is."""

import copy
import errno
import importlib
import json
import math
import os
import pickle
import random
import signal
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from doubles import make_data, make_net, same_weights, weights_of
from faulty_storage import Fault, FaultyStorage, make_snapshot
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from skorchlike import (
    Callback,
    CancelFitException,
    Checkpoint,
    EarlyStopping,
    GradientAccumulation,
    NeuralNetClassifier,
    explain,
)
from skorchlike.callbacks import checkpoint as its_module
from skorchlike.exceptions import CheckpointError, FormatError, ParameterError
from skorchlike.model.checkpoints import CheckpointFolder
from skorchlike.model.trust import packages_of

X, Y = make_data()
E = "epoch-{:06d}.safetensors".format
S = "epoch-{:06d}-step-{:06d}.safetensors".format
FINISHED = "finished.safetensors"


class Ctx(SimpleNamespace):
    """As much of a context as the callback may use."""

    def __init__(self, callback, max_epochs=4, **fields):
        super().__init__(
            **{
                "callback": callback,
                "callbacks": {"checkpoint": callback},
                "estimator": SimpleNamespace(module=None, criterion=None, optimizer=None),
                "epoch": 0,
                "max_epochs": max_epochs,
                "step": 0,
                "global_step": 0,
                "training": False,
                "resumable": False,
                "terminate": False,
                "interrupt_pending": False,
                "history": [],
                "columns": ("epoch", "train_loss", "valid_loss"),
                "run_id": "run",
                "fingerprint": "f" * 16,
                "finished": False,
                "deferred": 0,
                "saves": [],
                **fields,
            }
        )

    def defer_interrupts(self):
        self.deferred += 1

    def snapshot(self, *, copied):
        assert self.resumable
        snapshot = make_snapshot(self.epoch, self.step or None, self.finished, self.run_id, size=2)
        snapshot["position"]["global_step"] = self.global_step
        snapshot["callbacks"] = {"checkpoint": self.callback.state_dict()}
        self.saves.append(self.callback.last)
        return snapshot


def drive(callback, ctx, n_batches=4, scores=None, act=lambda ctx, place: None):
    """Call the stages as the loop does; `act` may change the context before each."""
    act(ctx, "begin")
    callback.on_begin(ctx)
    while ctx.epoch < ctx.max_epochs and not ctx.terminate:
        ctx.epoch += 1
        ctx.history.append({"epoch": ctx.epoch})
        ctx.training = True
        for ctx.step in range(1, n_batches + 1):
            ctx.global_step += 1
            ctx.resumable = True
            act(ctx, "batch")
            callback.on_batch_exit(ctx)
        ctx.training = False
        for ctx.step in (1, 2):  # of validation
            callback.on_batch_exit(ctx)
        ctx.step, ctx.resumable = 0, True
        if scores is not None and scores[ctx.epoch - 1] is not None:
            ctx.history[-1]["valid_loss"] = scores[ctx.epoch - 1]
        act(ctx, "epoch")
        callback.on_epoch_end(ctx)
        ctx.resumable = False
    ctx.finished = ctx.resumable = True
    callback.on_end(ctx)
    ctx.resumable = False
    return ctx.saves


def saves(tmp_path, n_batches=4, max_epochs=4, act=lambda ctx, place: None, **params):
    callback = Checkpoint(tmp_path / "run", **params)
    found = drive(callback, Ctx(callback, max_epochs), n_batches, act=act)
    callback.on_exit(None)
    return found


def files_in(folder):
    return sorted(p.name for p in Path(folder).glob("*.safetensors"))


# ------------------------------------------------------------------------- when it saves


@pytest.mark.parametrize(
    ("every", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (3, [3, 5]), (9, [5])]
)
def test_epochs_that_are_due_and_the_last_are_saved(tmp_path, every, expected):
    assert saves(tmp_path, max_epochs=5, every=every) == [*map(E, expected), FINISHED]


def test_the_epoch_with_which_the_fit_ends_is_saved(tmp_path):
    def act(ctx, place):
        ctx.terminate = ctx.epoch == 3

    assert saves(tmp_path, every=2, act=act) == [E(2), E(3), FINISHED]


def test_batches_are_counted_over_all_epochs(tmp_path):
    expected = [S(1, 3), S(2, 2), S(3, 1), S(3, 4), E(3), FINISHED]
    assert saves(tmp_path, max_epochs=3, unit="batch", every=3) == expected


def test_a_batch_after_which_a_fit_cannot_go_on_is_not_saved(tmp_path):
    def act(ctx, place):
        ctx.resumable = ctx.resumable and ctx.global_step != 3

    assert saves(tmp_path, max_epochs=1, unit="batch", every=3, act=act)[0] == E(1)


def test_seconds_are_counted_from_the_last_save(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(its_module.time, "monotonic", lambda: now)

    def act(ctx, place):
        nonlocal now
        now += {"begin": 0, "batch": 1, "epoch": 0.6}[place]

    # after 3, 5.6, 8.6, 11.2 and 13.8 s
    expected = [S(1, 3), S(2, 1), S(2, 4), S(3, 2), E(3), FINISHED]
    assert saves(tmp_path, max_epochs=3, unit="second", every=2.5, act=act) == expected


# ------------------------------------------------------------------------- what it keeps


def kept_by_hand(saved, scores, keep, sign):
    """Return what the rule says: the last `keep`, and the best of all scored ones."""
    best = None
    for file in saved:
        score = scores.get(file)
        if score is not None and not math.isnan(score) and score not in (sign * math.inf,):
            better = best is None or sign * score < sign * scores[best]
            best = file if better else best
    return {*saved[-keep:], *([best] if best else [])}, best


@pytest.mark.parametrize("seed", range(12))
def test_the_last_and_the_best_are_kept_after_every_save(tmp_path, seed):
    rng = random.Random(seed)
    every, keep, mode = rng.choice([1, 2, 3]), rng.choice([1, 2, 4]), rng.choice(["min", "max"])
    values = [None, math.nan, math.inf, -math.inf, 0.5, 0.5, 1, 2, 3, np.float32(0.25)]
    scores = [rng.choice(values) for _ in range(9)]
    monitor = None if seed == 0 else "valid_loss"
    folder = tmp_path / "run"
    callback = Checkpoint(folder, every=every, keep=keep, monitor=monitor, mode=mode)
    sign = 1 if mode == "min" else -1
    saved, by_file = [], {}

    def look(ctx, place):
        """Look at the folder as the stage before has left it."""
        if place == "batch" and ctx.saves:
            saved[:] = ctx.saves
            expected, best = kept_by_hand(saved, by_file, keep, sign)
            assert set(files_in(folder)) == expected == set(callback.files)
            assert callback.best_file == best
        if place == "epoch" and monitor and scores[ctx.epoch - 1] is not None:
            by_file[E(ctx.epoch)] = scores[ctx.epoch - 1]

    drive(callback, Ctx(callback, 9), 1, scores=scores, act=look)
    if monitor:
        firsts, best = [], math.inf
        for epoch, score in enumerate(scores, 1):
            is_best = score is not None and sign * score < best
            best = sign * score if is_best else best
            if is_best or epoch % every == 0 or epoch == 9:
                firsts.append(E(epoch))
        assert callback.best_score == (None if best == math.inf else sign * best)
    else:
        firsts = [E(n) for n in range(1, 10) if n % every == 0 or n == 9]
    assert [*saved, *callback.files][-1] == E(9)
    assert set(saved) | {E(9)} == set(firsts)
    assert set(files_in(folder)) == {*callback.files, FINISHED}
    callback.on_exit(None)


def test_the_best_is_saved_though_it_is_not_due(tmp_path):
    callback = Checkpoint(tmp_path, every=3, monitor="valid_loss")
    ctx = Ctx(callback, 6)
    drive(callback, ctx, scores=[3.0, 1.0, 2.0, 5.0, 0.5, 4.0])
    assert ctx.saves == [E(1), E(2), E(3), E(5), E(6), FINISHED]
    assert callback.state_dict() == {
        "folder": str(tmp_path),
        "files": [E(5), E(6)],
        "last": FINISHED,
        "best_file": E(5),
        "best_score": 0.5,
    }
    callback.on_exit(None)


def test_the_best_is_marked_in_the_manifest(tmp_path):
    callback = Checkpoint(tmp_path, monitor="valid_loss", mode="max")
    drive(callback, Ctx(callback, 3), scores=[1.0, 3.0, 2.0])
    callback.on_exit(None)
    listed = json.loads((tmp_path / "manifest.json").read_text())["checkpoints"]
    found = [(entry["file"], entry["best"], entry["score"]) for entry in listed]
    assert found == [(E(2), True, 3.0), (E(3), False, 2.0), (FINISHED, False, None)]


def test_a_checkpoint_holds_the_state_of_the_callback_with_itself_in_it(tmp_path):
    callback = Checkpoint(tmp_path, keep=2, monitor="valid_loss")
    seen = []

    def look(ctx, place):
        if place == "batch" and ctx.saves:
            snapshot = CheckpointFolder(tmp_path).newest()
            assert snapshot["callbacks"]["checkpoint"] == callback.state_dict()
            seen.append(snapshot["callbacks"]["checkpoint"]["files"])

    drive(callback, Ctx(callback, 5), 1, scores=[1.0, 2, 3, 4, 5], act=look)
    assert seen == [[E(1)], [E(1), E(2)], [E(1), E(2), E(3)], [E(1), E(3), E(4)]]
    snapshot = CheckpointFolder(tmp_path).newest()
    assert snapshot["callbacks"]["checkpoint"] == callback.state_dict()
    callback.on_exit(None)


# ------------------------------------------------------------------------- interruptions


def test_an_interruption_is_saved_at_once_and_does_not_count(tmp_path):
    folder = tmp_path / "run"
    callback = Checkpoint(folder, keep=2)
    ctx = Ctx(callback)

    class Interrupted(Exception):
        pass

    def act(ctx, place):
        ctx.interrupt_pending = ctx.global_step == 11
        if ctx.global_step == 12:
            raise Interrupted

    with pytest.raises(Interrupted):
        drive(callback, ctx, act=act)
    assert ctx.deferred == 1
    assert files_in(folder) == sorted([E(1), E(2), S(3, 3)])
    state = callback.state_dict()
    assert (state["files"], state["last"]) == ([E(1), E(2)], S(3, 3))
    callback.on_exit(ctx)

    snapshot = CheckpointFolder(folder).newest()
    assert snapshot["position"]["step"] == 3
    again = Checkpoint(folder, keep=2)
    ctx = Ctx(again, epoch=2, global_step=8)
    again.resolve(ctx)  # as where a fit is resumed
    again.on_begin(ctx)
    again.load_state_dict(snapshot["callbacks"]["checkpoint"])
    ctx.epoch, ctx.resumable, ctx.global_step = 3, True, 12
    ctx.history.append({})
    again.on_epoch_end(ctx)
    assert files_in(folder) == [E(2), E(3)]
    again.on_exit(ctx)


def test_an_interruption_at_the_end_of_an_epoch_is_saved(tmp_path):
    callback = Checkpoint(tmp_path, every=3)
    ctx = Ctx(callback, 6)

    def act(ctx, place):
        ctx.interrupt_pending = place == "epoch" and ctx.epoch == 2

    assert drive(callback, ctx, act=act) == [E(2), E(3), E(6), FINISHED]
    callback.on_exit(None)


def test_an_interruption_waits_where_a_fit_cannot_go_on(tmp_path):
    def act(ctx, place):
        ctx.interrupt_pending = place != "epoch"
        ctx.resumable = ctx.resumable and place != "batch"

    assert saves(tmp_path, max_epochs=1, every=9, act=act) == [E(1), FINISHED]


class Signal(Callback):
    """Send a signal to this process in a batch."""

    at = None

    def on_batch_begin(self, ctx):
        if ctx.global_step == Signal.at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def at_batch():
    """Let `Signal` strike in a batch."""

    def strike(number):
        Signal.at = number

    yield strike
    Signal.at = None


def test_ctrl_c_saves_the_batch_under_way_and_the_resumed_fit_ends_the_same(tmp_path, at_batch):
    def make(name):
        callbacks = {
            "signal": Signal(),
            "stop": EarlyStopping("train_loss", patience=9),
            "checkpoint": Checkpoint(tmp_path / name, keep=2, monitor="train_loss"),
        }
        return make_net(callbacks=callbacks, max_epochs=5)

    whole = make("whole").fit(X, Y)
    at_batch(6)
    with pytest.raises(KeyboardInterrupt):
        make("cut").fit(X, Y)
    assert CheckpointFolder(tmp_path / "cut").files()[-1] == S(3, 2)
    at_batch(None)
    resumed = make("cut").fit(X, Y, resume=True)
    assert same_weights(weights_of(whole.model_.module_), weights_of(resumed.model_.module_))
    states = [dict(net.model_.callbacks_.checkpoint) for net in (whole, resumed)]
    assert [Path(state.pop("folder")).name for state in states] == ["whole", "cut"]
    assert states[0] == states[1]
    assert files_in(tmp_path / "whole") == files_in(tmp_path / "cut")


# ---------------------------------------------------------------------------- the folder


def test_the_folder_is_taken_before_anything_is_trained(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.claim("other")
    folder.save(make_snapshot(1, run_id="other"))
    folder.release()
    seen = []

    class Look(Callback):
        def on_epoch_begin(self, ctx):
            seen.append(ctx.epoch)

    net = make_net(callbacks=[Checkpoint(tmp_path), Look()])
    with pytest.raises(CheckpointError, match=r"another fit.*resume=True") as told:
        net.fit(X, Y)
    assert seen == []
    assert "checkpoint" in told.value.__notes__[-1]
    (tmp_path / "file").write_text("")
    net.set_params(callbacks__checkpoint__path=tmp_path / "file" / "run")
    with pytest.raises(OSError, match="file"):
        net.fit(X, Y)
    assert seen == []


def test_a_second_fit_in_the_same_folder_is_refused_and_one_that_goes_on_is_not(tmp_path):
    net = make_net(callbacks=[Checkpoint(tmp_path)], max_epochs=2, warm_start=True)
    net.fit(X, Y)
    assert files_in(tmp_path) == [E(2), FINISHED]
    net.fit(X, Y)
    assert files_in(tmp_path) == [E(4), FINISHED]
    net.partial_fit(X, Y)
    assert files_in(tmp_path) == [E(5), FINISHED]
    with pytest.raises(CheckpointError, match="another fit"):
        clone(net).fit(X, Y)
    assert net.n_iter_ == 5
    assert files_in(tmp_path) == [E(5), FINISHED]


def test_a_fit_that_goes_on_elsewhere_keeps_only_what_is_there(tmp_path):
    checkpoint = Checkpoint(tmp_path / "one", keep=9)
    net = make_net(callbacks=[checkpoint], max_epochs=3, warm_start=True).fit(X, Y)
    net.set_params(callbacks__checkpoint__path=tmp_path / "two").fit(X, Y)
    state = net.model_.callbacks_.checkpoint
    assert state["folder"] == str(tmp_path / "two")
    assert state["files"] == [E(4), E(5), E(6)]
    assert files_in(tmp_path / "one") == [E(1), E(2), E(3), FINISHED]
    assert files_in(tmp_path / "two") == [E(4), E(5), E(6), FINISHED]


def test_an_older_copy_of_the_model_does_not_delete_what_is_later(tmp_path):
    net = make_net(callbacks=[Checkpoint(tmp_path, keep=9)], max_epochs=3).fit(X, Y)
    older = pickle.loads(pickle.dumps(net))
    for _ in range(4):
        net.partial_fit(X, Y)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        CheckpointError,
        match=r"later checkpoints \(epoch 7\) of this fit than .* goes on \(epoch 3\).*resume=True",
    ):
        older.partial_fit(X, Y)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert files_in(tmp_path) == [*map(E, range(1, 8)), FINISHED]
    assert older.n_iter_ == 3
    net.partial_fit(X, Y)
    older.set_params(callbacks__checkpoint__path=tmp_path / "older").partial_fit(X, Y)
    assert files_in(tmp_path / "older") == [E(4), FINISHED]


def test_a_model_that_was_interrupted_in_an_epoch_goes_on_in_its_folder(tmp_path, at_batch):
    net = make_net(callbacks=[Signal(), Checkpoint(tmp_path)], max_epochs=3, warm_start=True)
    at_batch(4)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y)
    at_batch(None)
    assert net.fit(X, Y).n_iter_ > 3
    assert files_in(tmp_path)[-1] == FINISHED


@pytest.mark.parametrize("moved", [False, True])
def test_the_best_of_a_fit_that_goes_on_elsewhere_is_known_if_it_is_there(tmp_path, moved):
    first = Checkpoint(tmp_path / "one", monitor="valid_loss")
    drive(first, Ctx(first, 2), scores=[1.0, 2.0])
    first.on_exit(None)
    if moved:
        (tmp_path / "one").rename(tmp_path / "two")
    second = Checkpoint(tmp_path / "two", monitor="valid_loss")
    ctx = Ctx(second, 3, epoch=2, global_step=20, resumable=True)
    second.on_begin(ctx)
    second.load_state_dict(first.state_dict())
    ctx.epoch = 3
    ctx.history.append({"valid_loss": 3.0})
    second.on_epoch_end(ctx)
    state = second.state_dict()
    assert state["best_score"] == 1.0
    assert state["best_file"] == (E(1) if moved else None)
    assert state["files"] == ([E(1), E(3)] if moved else [E(3)])
    assert set(state["files"]) <= set(files_in(tmp_path / "two"))
    second.on_exit(None)


def test_a_place_that_is_saved_again_counts_once(tmp_path):
    callback = Checkpoint(tmp_path, keep=2)
    ctx = Ctx(callback, 3)
    drive(callback, ctx)
    ctx.finished, ctx.resumable = False, True
    callback.on_epoch_end(ctx)
    assert callback.state_dict()["files"] == [E(2), E(3)]
    callback.on_exit(None)


def test_a_fit_that_goes_on_may_monitor_nothing_more(tmp_path):
    checkpoint = Checkpoint(tmp_path, monitor="train_loss")
    net = make_net(callbacks=[checkpoint], max_epochs=2, warm_start=True).fit(X, Y)
    before = net.model_.callbacks_.checkpoint["best_file"]
    net.set_params(callbacks__checkpoint__monitor=None).fit(X, Y)
    assert net.model_.callbacks_.checkpoint["files"] == [before, E(4)]


def test_the_fingerprint_stands_in_the_path_and_is_asked_for_only_there(tmp_path):
    for path in (f"{tmp_path}/runs/{{fingerprint}}/x", tmp_path / "runs" / "{fingerprint}" / "x"):
        resolved = Checkpoint(path).resolve(Ctx(None, fingerprint="0a1b"))
        assert resolved == tmp_path / "runs" / "0a1b" / "x"
    ctx = Ctx(None)
    del ctx.fingerprint
    assert Checkpoint(tmp_path).resolve(ctx) == tmp_path
    made = Checkpoint(lambda ctx: tmp_path / "{fingerprint}").resolve(Ctx(None, fingerprint="b2"))
    assert made == tmp_path / "b2"


@pytest.mark.parametrize("path", ["{epoch}", "{fingerprint}/{}", "a/{fingerprint:.3}", "{a b}"])
def test_no_other_placeholder_is_allowed_in_the_path(tmp_path, path):
    with pytest.raises(ParameterError, match=r"may hold \{fingerprint\}; \{.*\} has no meaning"):
        make_net(callbacks=[Checkpoint(tmp_path / path)]).fit(X, Y)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", r"The 'path' .* must be a folder, a non-empty string or a path\. Got ''"),
        ("a\0b", r"The 'path' .* must be a folder, a non-empty string or a path"),
        (__file__, r"The 'path' .* must be a folder\. '.*' is a file"),
        (lambda ctx: __file__, r"must be a folder\. '.*' is a file"),
        (lambda ctx: None, r"A function as the 'path' .* must return a folder.*Got None"),
        (lambda ctx: b"bytes", r"must return a folder.*Got b'bytes'"),
        (5, "path"),
        (None, "path"),
    ],
)
def test_what_is_no_path_is_refused(path, message):
    with pytest.raises(ValueError, match=message):
        make_net(callbacks=[Checkpoint(path)]).fit(X, Y)


def test_a_function_of_the_path_is_called_once_a_fit(tmp_path):
    calls = []

    def path(ctx):
        calls.append(ctx)
        return tmp_path / f"fit{len(calls)}"

    callback = Checkpoint(path)
    ctx = Ctx(callback, 1)
    assert callback.resolve(ctx) == callback.resolve(ctx) == tmp_path / "fit1"
    drive(callback, ctx)
    assert calls == [ctx]
    callback.on_exit(ctx)
    drive(callback, Ctx(callback, 1))
    callback.on_exit(ctx)
    assert len(calls) == 2
    assert files_in(tmp_path / "fit1") == files_in(tmp_path / "fit2") == [E(1), FINISHED]


def test_the_folder_stays_though_the_working_folder_changes(tmp_path, monkeypatch):
    class Move(Callback):
        def on_epoch_begin(self, ctx):
            os.chdir("/")

    monkeypatch.chdir(tmp_path)
    net = make_net(callbacks=[Checkpoint("run"), Move()], max_epochs=1).fit(X, Y)
    assert net.model_.callbacks_.checkpoint["folder"] == str(tmp_path / "run")
    assert files_in(tmp_path / "run") == [E(1), FINISHED]


def test_a_fit_ended_before_on_begin_leaves_no_folder(tmp_path):
    class End(Callback):
        def on_begin(self, ctx):
            raise CancelFitException

    net = make_net(callbacks=[End(), Checkpoint(tmp_path / "run")]).fit(X, Y)
    assert "checkpoint" not in net.model_.callbacks_
    assert not (tmp_path / "run").exists()


def test_two_fits_at_once_in_one_folder_are_refused(tmp_path):
    class FitInside(Callback):
        def on_epoch_begin(self, ctx):
            clone(ctx.estimator).set_params(callbacks=[Checkpoint(tmp_path)]).fit(X, Y)

    net = make_net(callbacks=[FitInside(), Checkpoint(tmp_path)])
    with pytest.raises(CheckpointError, match="Another fit writes its checkpoints"):
        net.fit(X, Y)
    net.set_params(callbacks=[Checkpoint(tmp_path)]).fit(X, Y)


# ---------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"every": 0}, "every"),
        ({"every": -1}, "every"),
        ({"every": 1.5}, "'every'.*whole number of epochs"),
        ({"every": 0.5, "unit": "batch"}, "'every'.*whole number of batches"),
        ({"unit": "hour"}, "unit"),
        ({"keep": 0}, "keep"),
        ({"keep": 1.0}, "keep"),
        ({"monitor": 3}, "monitor"),
        ({"monitor": "trian_loss"}, "Checkpoint monitors 'trian_loss'.*Did you mean 'train_loss'"),
        ({"monitor": "valid_loss"}, "Checkpoint monitors 'valid_loss'.*no validation data"),
        ({"monitor": "epoch"}, "Checkpoint cannot tell whether lower or higher is better"),
        ({"monitor": "train_loss", "mode": "least"}, "mode"),
    ],
)
def test_impossible_arguments_are_errors_before_training(tmp_path, params, message):
    with pytest.raises(ValueError, match=message):
        make_net(callbacks=[Checkpoint(tmp_path / "run", **params)]).fit(X, Y)
    assert not (tmp_path / "run").exists()


def test_explain_tells_what_is_wrong(tmp_path):
    net = make_net(callbacks=[Checkpoint(tmp_path, monitor="trian_loss")])
    assert "Checkpoint monitors 'trian_loss'" in str(explain(net))


def test_two_of_them_in_one_fit_are_refused_with_a_way_out(tmp_path):
    callbacks = {"one": Checkpoint(tmp_path / "1"), "two": Checkpoint(tmp_path / "2")}
    with pytest.raises(ParameterError, match=r"'two'.*One fit can have one Checkpoint: drop one"):
        make_net(callbacks=callbacks).fit(X, Y)

    class Late(Callback):
        order = math.inf

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    callbacks["two"] = Late()
    with pytest.raises(ParameterError, match=r"'two'.*Give it a finite order"):
        make_net(callbacks=callbacks).fit(X, Y)


# ------------------------------------------------------------------ what can be read again


class Holding(Callback):
    """Has something in its state."""

    def __init__(self, held=None):
        self.held = held

    def state_dict(self):
        return {"deep": [0, {"held": self.held}]}

    def load_state_dict(self, state):
        self.loaded = state["deep"][1]["held"]


@pytest.mark.parametrize("held", [StandardScaler(), StandardScaler, lambda: 0])
def test_a_state_that_could_not_be_read_again_is_an_error_at_the_first_save(tmp_path, held):
    net = make_net(callbacks={"own": Holding(held), "checkpoint": Checkpoint(tmp_path, every=2)})
    with pytest.raises(FormatError, match=r"callbacks\.own.*deep\.1\.held.*(state_dict|written)"):
        net.set_params(max_epochs=9).fit(X, Y)
    assert files_in(tmp_path) == []
    assert CheckpointFolder(tmp_path).newest() is None


PACKAGE = {
    "__init__": "",
    "states": """
        import dataclasses, enum

        class Mood(enum.Enum):
            GOOD = 1

        @dataclasses.dataclass
        class Kept:
            count: int
            mood: Mood
        """,
    "callbacks": """
        from skorchlike import Callback
        from .states import Kept, Mood

        class Counting(Callback):
            kept = None

            def on_epoch_end(self, ctx):
                self.kept = Kept(ctx.epoch, Mood.GOOD)

            def state_dict(self):
                return {"kept": self.kept}

            def load_state_dict(self, state):
                self.kept = state["kept"]
        """,
}


@pytest.fixture
def counting(tmp_path, monkeypatch):
    """A callback in a package of the user's, whose state is of another module there."""
    folder = tmp_path / "package_of_a_user"
    folder.mkdir()
    for name, text in PACKAGE.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("package_of_a_user.callbacks").Counting
    for name in [name for name in sys.modules if name.startswith("package_of_a_user")]:
        del sys.modules[name]


def test_a_state_of_another_module_of_the_callbacks_package_is_read_again(tmp_path, counting):
    def make(max_epochs):
        callbacks = {"own": counting(), "checkpoint": Checkpoint(tmp_path / "run")}
        return make_net(callbacks=callbacks, max_epochs=max_epochs)

    make(2).fit(X, Y)
    trusted = packages_of([counting()])
    assert trusted == ["package_of_a_user"]
    kept = CheckpointFolder(tmp_path / "run").newest(trusted=trusted)["callbacks"]["own"][1]["kept"]
    assert (kept.count, kept.mood.name) == (2, "GOOD")
    assert make(3).fit(X, Y, resume=True).model_.callbacks_.own["kept"].count == 3


def test_sparse_gradients_that_wait_for_their_step_are_saved(tmp_path):
    class Words(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(9, 3, sparse=True)
            self.out = torch.nn.Linear(6, 3)

        def forward(self, X):
            return self.out(self.table(X).flatten(1))

    class Cut(Callback):
        passive = True
        to_come = True

        def on_batch_begin(self, ctx):
            if Cut.to_come and ctx.global_step == 6:
                Cut.to_come = False
                raise OSError("cut")

    def make(name, *more):
        accumulation = GradientAccumulation(4)
        checkpoint = Checkpoint(tmp_path / name, unit="batch")
        return NeuralNetClassifier(
            Words,
            optimizer=torch.optim.SGD,
            optimizer__fused=False,
            lr=0.5,
            max_epochs=3,
            batch_size=5,
            random_state=0,
            callbacks=[accumulation, checkpoint, *more],
        )

    words = np.random.default_rng(0).integers(0, 9, (40, 2))
    y = words[:, 0] % 3
    whole = make("whole").fit(words, y)
    with pytest.raises(OSError, match="cut"):
        make("cut", Cut()).fit(words, y)
    waiting = CheckpointFolder(tmp_path / "cut").newest()["gradients"]
    assert waiting["table.weight"].is_sparse
    resumed = make("cut", Cut()).fit(words, y, resume=True)
    assert same_weights(weights_of(whole.model_.module_), weights_of(resumed.model_.module_))


# ------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
def test_a_failed_write_is_an_error_and_what_was_saved_before_is_good(tmp_path, number):
    net = make_net(callbacks=[Checkpoint(tmp_path / "run")], max_epochs=3)
    before = copy.deepcopy(vars(net))
    with FaultyStorage() as counted:
        clone(net).set_params(callbacks__checkpoint__path=tmp_path / "counted").fit(X, Y)
    writes = [i for i, (name, *_) in enumerate(counted.log) if name == "write"]
    # the claim's manifest, then four writes an epoch (three are the checkpoint): in the third
    # epoch the disk is full
    with (
        FaultyStorage(writes[9], Fault("full", number, lasting=True)),
        pytest.raises(OSError, match=os.strerror(number)) as told,
    ):
        net.fit(X, Y)
    assert told.value.errno == number
    notes = " ".join(told.value.__notes__)
    assert E(3) in notes
    assert "on_epoch_end" in notes
    assert vars(net).keys() == before.keys()
    assert CheckpointFolder(tmp_path / "run").newest()["position"]["epoch"] == 2
    net.fit(X, Y, resume=True)
    assert files_in(tmp_path / "run") == [E(3), FINISHED]


def test_the_state_is_as_before_when_a_save_fails(tmp_path):
    callback = Checkpoint(tmp_path, monitor="valid_loss")
    ctx = Ctx(callback, 3)
    callback.on_begin(ctx)
    for ctx.epoch, score in ((1, 2.0), (2, 1.0)):
        ctx.history.append({"valid_loss": score})
        ctx.resumable = True
        if ctx.epoch == 1:
            callback.on_epoch_end(ctx)
            before = callback.state_dict()
            continue
        with FaultyStorage(1, Fault("full", errno.ENOSPC)), pytest.raises(OSError, match="space"):
            callback.on_epoch_end(ctx)
    assert callback.state_dict() == before
    callback.on_epoch_end(ctx)
    assert callback.state_dict()["best_file"] == E(2)
    callback.on_exit(ctx)


def test_a_failed_fit_gives_the_folder_back(tmp_path):
    class Fail(Callback):
        def on_before_valid(self, ctx):
            if ctx.epoch == 2:
                raise RuntimeError("broken")

    net = make_net(callbacks=[Fail(), Checkpoint(tmp_path)], max_epochs=3)
    with pytest.raises(RuntimeError, match="broken"):
        net.fit(X, Y)
    folder = CheckpointFolder(tmp_path)
    folder.claim(folder.newest()["run_id"])
    folder.release()
    assert files_in(tmp_path) == [E(1)]


# --------------------------------------------------------------------- copies, processes


def test_copies_made_in_a_fit_hold_no_lock_and_write_nothing(tmp_path):
    copies = []

    class Copy(Callback):
        def on_epoch_end(self, ctx):
            original = ctx.callbacks["checkpoint"]
            for again in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
                assert again.store is None
                assert again.state_dict() == original.state_dict()
                copies.append(again)
            assert vars(clone(original)).keys() == vars(Checkpoint("x")).keys()

    make_net(callbacks=[Copy(), Checkpoint(tmp_path)], max_epochs=2).fit(X, Y)
    assert len(copies) == 4
    for again in copies:
        again.on_exit(None)
    assert files_in(tmp_path) == [E(2), FINISHED]


def test_the_fits_of_a_search_have_a_folder_each_and_are_not_trained_twice(tmp_path):
    X, y = make_data(24)
    path = f"{tmp_path}/{{fingerprint}}"
    net = NeuralNetClassifier(
        module__hidden_layer_sizes=(2,),
        max_epochs=2,
        batch_size=8,
        random_state=0,
        callbacks=[Checkpoint(path)],
    )
    grid = {"lr": [0.01, 0.1]}
    search = GridSearchCV(net, grid, cv=2, n_jobs=2).fit(X, y)
    assert len(os.listdir(tmp_path)) == 5  # two candidates by two folds, and the refit
    assert all(files_in(folder) == [E(2), FINISHED] for folder in tmp_path.iterdir())
    plain = GridSearchCV(clone(net).set_params(callbacks=None), grid, cv=2).fit(X, y)
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(search.cv_results_[name], plain.cv_results_[name])
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = GridSearchCV(net, grid, cv=2).fit(X, y, resume=True)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], again.cv_results_["mean_test_score"]
    )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == written


def test_with_one_folder_the_fits_of_a_search_are_refused(tmp_path):
    net = make_net(callbacks=[Checkpoint(tmp_path / "one")], max_epochs=1)
    search = GridSearchCV(net, {"lr": [0.01, 0.1]}, cv=2, n_jobs=2, error_score="raise")
    with pytest.raises(CheckpointError, match=r"\{fingerprint\}"):
        search.fit(*make_data(24))


def test_time_between_saves_is_real_time(tmp_path):
    class Slow(Callback):
        def on_batch_begin(self, ctx):
            time.sleep(0.02)

    checkpoint = Checkpoint(tmp_path, unit="second", every=0.01, keep=99)
    net = make_net(callbacks=[Slow(), checkpoint], max_epochs=2).fit(X, Y)
    expected = [S(1, 1), S(1, 2), S(2, 1), S(2, 2), E(2)]
    assert set(expected) <= set(net.model_.callbacks_.checkpoint["files"])
