"""When a fit fails or is interrupted: what is kept, what is as before, what goes on later."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles import FailingCallback, Log, make_data, make_net, same_weights, weights_of
from processes import Forked
from sklearn.model_selection import GridSearchCV

import skorchlike
from skorchlike import Callback, Checkpoint, NeuralNetClassifier, SigtermInterrupt
from skorchlike.model import storage
from skorchlike.model.checkpoint_manifest import UNFINISHED

SIGNALS = [signal.SIGINT, signal.SIGTERM]
RAISES = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SigtermInterrupt}
X, y = make_data()


class Failure(Exception):
    """An error of a user's own."""


class Passive(Callback):
    """A callback that changes no bit: a fit is resumed with it or without it."""

    passive = True


class Fails(FailingCallback):
    passive = True


class Watch(Passive):
    """Record the begin and the exit, as the first callback or near the end."""

    def __init__(self, log, order=0):
        self.log = log
        self.order = order

    def on_begin(self, ctx):
        self.log.append("begin")

    def on_exit(self, ctx):
        self.log.append("exit")


class Sends(Passive):
    """Send signals to this process at one training batch or stage."""

    def __init__(self, signals=(), stage="on_batch_end", epoch=2, step=1):
        self.signals = signals
        self.stage = stage
        self.epoch = epoch
        self.step = step

    def act(self, stage, ctx):
        step = self.step if ctx.training else 0
        if (stage, ctx.epoch, ctx.step) == (self.stage, self.epoch, step):
            for signum in self.signals:
                signal.raise_signal(signum)


for _stage in ("on_batch_begin", "on_batch_end", "on_batch_exit", "on_epoch_end", "on_end"):
    setattr(Sends, _stage, lambda self, ctx, stage=_stage: self.act(stage, ctx))


def sends(*signals, **where):
    return Sends(signals, **where)


def attributes(net):
    """Return what an estimator holds, but scikit-learn's own bookkeeping of callbacks."""
    bookkeeping = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")
    return {name: value for name, value in vars(net).items() if name not in bookkeeping}


def surroundings():
    """Return what a fit must put back in the process."""
    return (
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.is_grad_enabled(),
    )


@pytest.fixture(autouse=True)
def all_is_put_back():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    before = surroundings()
    yield
    assert surroundings() == before


def checkpointed(folder, log=None, **params):
    """Return an estimator with a checkpoint every epoch and, around it, two that watch."""
    log = Log() if log is None else log
    callbacks = {"first": Watch(log, -100), "last": Watch(log, 100)}
    callbacks["checkpoint"] = Checkpoint(folder, **params)
    return make_net(callbacks=callbacks)


def parts_of_files(folder):
    return [name for name in os.listdir(folder) if UNFINISHED.fullmatch(name)]


@pytest.fixture(scope="module")
def uninterrupted():
    return weights_of(make_net().fit(X, y).model_.module_)


def resumed(folder):
    net = checkpointed(folder).fit(X, y, resume=True)
    assert net.model_.n_epochs_ == len(net.history_) == 3
    return weights_of(net.model_.module_)


# ------------------------------------------------------- interrupted fits


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_without_checkpoint_ends_the_fit_at_once_and_keeps_the_model(signum):
    log = Log()
    net = make_net(callbacks={"watch": Watch(log)})
    with pytest.raises(KeyboardInterrupt) as caught:
        net.fit(X, y, callbacks=[sends(signum)])
    assert type(caught.value) is RAISES[signum]
    assert log == ["begin", "exit"]
    assert net.model_.stop_reason_ == "interrupted"
    assert (net.model_.n_epochs_, net.model_.continuation_["global_step"]) == (2, 3)
    assert net.predict(X).shape == y.shape


@pytest.mark.parametrize("stage", ["on_batch_begin", "on_batch_exit", "on_epoch_end", "on_end"])
@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_with_checkpoint_is_saved_and_the_resumed_fit_ends_in_the_same_bits(
    signum, stage, tmp_path, uninterrupted
):
    log = Log()
    net = checkpointed(tmp_path / "run", log)
    with pytest.raises(KeyboardInterrupt) as caught:
        net.fit(X, y, callbacks=[sends(signum, stage=stage, epoch=3 if stage == "on_end" else 2)])
    assert type(caught.value) is RAISES[signum]
    assert log == ["begin", "begin", "exit", "exit"]
    # after the last stage there is nothing left to interrupt
    assert net.model_.stop_reason_ == ("completed" if stage == "on_end" else "interrupted")
    assert parts_of_files(tmp_path / "run") == []
    saved = net.model_.callbacks_.checkpoint["last"]
    expected = {"on_epoch_end": "epoch-000002.", "on_end": "finished."}
    assert saved.startswith(expected.get(stage, "epoch-000002-step-000001."))
    assert same_weights(resumed(tmp_path / "run"), uninterrupted)


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_second_signal_ends_the_fit_at_once(signum, tmp_path, uninterrupted):
    log, batches = Log(), Log()

    class Counts(Passive):
        def on_batch_exit(self, ctx):
            batches.append(ctx.global_step)

    net = checkpointed(tmp_path / "run", log)
    with pytest.raises(KeyboardInterrupt) as caught:
        net.fit(X, y, callbacks=[sends(signal.SIGINT, signum, stage="on_batch_begin"), Counts()])
    assert type(caught.value) is RAISES[signum]
    assert batches == [1, 2, 3]
    assert log == ["begin", "begin", "exit", "exit"]
    assert net.model_.stop_reason_ == "interrupted"
    # the batch that was broken off is not saved
    assert net.model_.callbacks_.checkpoint["last"] == "epoch-000001.safetensors"
    assert same_weights(resumed(tmp_path / "run"), uninterrupted)


def test_a_fit_inside_of_a_callback_leaves_the_outer_fit_its_say(tmp_path, uninterrupted):
    inner = Log()

    class Fits(Passive):
        def on_epoch_end(self, ctx):
            if ctx.epoch == 2:
                inner.append(make_net())
                inner[0].fit(X, y, callbacks=[sends(signal.SIGINT)])

    outer = make_net()
    with pytest.raises(KeyboardInterrupt):
        outer.fit(X, y, callbacks=[Fits()])
    for net in (inner[0], outer):
        assert net.model_.stop_reason_ == "interrupted"
        assert net.model_.n_epochs_ == 2
    inner.clear()
    saving = checkpointed(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        saving.fit(X, y, callbacks=[Fits()])
    assert inner[0].model_.stop_reason_ == "completed"
    assert saving.model_.callbacks_.checkpoint["last"] == "epoch-000002.safetensors"
    assert same_weights(resumed(tmp_path / "run"), uninterrupted)


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_search_ends_with_the_fit_that_is_interrupted(signum):
    count = Counter()

    class SecondFit(Passive):
        def on_end(self, ctx):
            count["fits"] += 1
            if count["fits"] == 2:
                signal.raise_signal(signum)

    net = make_net(callbacks={"second": SecondFit()})
    with pytest.raises(KeyboardInterrupt) as caught:
        GridSearchCV(net, {"lr": [0.1, 0.2, 0.3]}, cv=2).fit(X, y)
    assert type(caught.value) is RAISES[signum]
    assert count["fits"] == 2


def test_a_signal_to_the_whole_group_with_a_loading_worker_keeps_the_model():
    def fit(say):
        class Says(Passive):
            def on_batch_end(self, ctx):
                say(f"batch {ctx.step}")

        net = make_net(train_loader__num_workers=1, max_epochs=200)
        try:
            net.fit(X, y, callbacks=[Says()])
        finally:
            say(f"{net.model_.stop_reason_} {net.predict(X).shape}")

    for signum in SIGNALS:
        forked = Forked(fit)
        assert forked.read() == "batch 1"
        os.killpg(forked.pid, signum)
        status, said = forked.end()
        assert status == 1
        assert said[-2:] == ["interrupted (8,)", f"{RAISES[signum].__name__}()"]


@pytest.mark.parametrize("signum", SIGNALS)
def test_an_interrupted_process_leaves_its_model_and_what_another_one_resumes(signum, tmp_path):
    params = {"max_epochs": 300, "random_state": 0}
    checkpoint = Checkpoint(tmp_path / "run", every=50)

    def fit(say):
        class Says(Passive):
            def on_batch_end(self, ctx):
                say(f"batch {ctx.global_step}")

        net = NeuralNetClassifier(callbacks=[checkpoint], **params)
        try:
            net.fit(X, y, callbacks=[Says()])
        except KeyboardInterrupt as interrupt:
            (tmp_path / "model").write_bytes(pickle.dumps(net))
            say(type(interrupt).__name__)

    forked = Forked(fit)
    assert [forked.read() for _ in range(10)][-1] == "batch 10"
    os.kill(forked.pid, signum)
    status, said = forked.end()
    assert (status, said[-1]) == (0, RAISES[signum].__name__)
    left = pickle.loads((tmp_path / "model").read_bytes())
    assert left.model_.stop_reason_ == "interrupted"
    assert 10 <= left.model_.n_epochs_ == left.model_.continuation_["global_step"] < 300
    assert left.predict(X).shape == y.shape
    there = NeuralNetClassifier(callbacks=[checkpoint], **params).fit(X, y, resume=True)
    whole = NeuralNetClassifier(**params).fit(X, y)
    assert there.model_.n_epochs_ == 300
    assert same_weights(weights_of(there.model_.module_), weights_of(whole.model_.module_))


# -------------------------------------------------- a signal at any moment


PACKAGE = os.path.dirname(skorchlike.__file__)


class Moment:
    """Raise a signal at the n-th moment at which the interpreter could run a handler.

    A profile function: it is called at every function's entry and after every call of a
    built-in one, which is where CPython runs handlers. Counted are those of the package.
    """

    def __init__(self, n, signum):
        self.n, self.signum, self.came = n, signum, False

    def __call__(self, frame, event, argument):
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(PACKAGE):
            self.n -= 1
            if self.n == 0:
                # SIGTERM where the fit has not taken it ends this process, and rightly so
                if signal.getsignal(self.signum) == signal.SIG_DFL:
                    self.n = 1
                    return
                self.came = True
                signal.raise_signal(self.signum)


def interrupt_at(n, signum, net, monkeypatch):
    """Fit, with a signal at a moment; return what was raised, or False at the fit's end."""
    swallowed = []
    # what Python frees it frees also while a handler raises, and then drops the exception
    monkeypatch.setattr(sys, "unraisablehook", swallowed.append)
    moment, raised = Moment(n, signum), None
    try:
        sys.setprofile(moment)
        net.fit(X, y)
    except BaseException as error:
        raised = error
    finally:
        sys.setprofile(None)
    if not moment.came:
        return False
    if swallowed:
        return None
    assert type(raised) is RAISES[signum]
    return raised


def any_moment(signum, folder, start, step, uninterrupted, monkeypatch):
    """Interrupt fits at moments, `step` apart; return how many there were."""
    before, count = surroundings(), Counter()
    for n in range(start, 10**6, step):
        log = Log()
        here = None if folder is None else folder / str(n)
        net = make_net(callbacks={"watch": Watch(log)}) if here is None else checkpointed(here, log)
        untouched = attributes(net)
        raised = interrupt_at(n, signum, net, monkeypatch)
        if raised is False:
            return count
        if raised is None:
            count["swallowed"] += 1
            continue
        count["raised"] += 1
        assert surroundings() == before
        kept, begun = hasattr(net, "model_"), "begin" in log
        # the exits are run of all callbacks or, where the loop was not yet reached, of none
        assert log.count("exit") == (1 if here is None else 2) * (begun or kept)
        if kept:
            count["kept"] += 1
            assert net.model_.stop_reason_ in ("interrupted", "completed")
        else:
            assert not begun
            assert attributes(net) == untouched
        if here is not None and here.exists():
            assert parts_of_files(here) == []
            assert same_weights(resumed(here), uninterrupted)
            count["resumed"] += 1
    return count


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("step", [19, pytest.param(1, marks=pytest.mark.slow)])
def test_a_signal_at_any_moment_leaves_the_model_or_all_as_before(
    signum, step, uninterrupted, monkeypatch
):
    count = any_moment(signum, None, signum, step, uninterrupted, monkeypatch)
    assert count["raised"] > 1000 // step
    assert count["kept"] > count["raised"] // 5
    assert count["swallowed"] < count["raised"] // 20


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("step", [211, pytest.param(29, marks=pytest.mark.slow)])
def test_a_signal_at_any_moment_leaves_a_checkpoint_that_resumes_to_the_same_bits(
    signum, step, tmp_path, uninterrupted, monkeypatch
):
    count = any_moment(signum, tmp_path, 50 + signum, step, uninterrupted, monkeypatch)
    assert count["raised"] > 5000 // step
    assert count["resumed"] > count["raised"] // 2


# ------------------------------------------------------ checkpoints that fail


def fails_at(monkeypatch, operation, n, error):
    """Let a file operation fail when it is called for the n-th time."""
    real, calls = getattr(storage, operation), Counter()

    def failing(*args):
        calls[operation] += 1
        if calls[operation] == n:
            raise error
        return real(*args)

    monkeypatch.setattr(storage, operation, failing)


def assert_as_before(net, before, log, folder):
    assert attributes(net) == before
    assert log == ["begin", "begin", "exit", "exit"]
    assert parts_of_files(folder) == []


ERRORS = {
    "a full disk": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "a disk that is read-only": OSError(errno.EROFS, os.strerror(errno.EROFS)),
    "no permission": PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    "a broken disk": OSError(errno.EIO, os.strerror(errno.EIO)),
}
# the first calls of each belong to the claim of the folder and to the first epoch's checkpoint
SECOND_SAVE = {"create": 4, "write": 6, "sync": 4, "close": 4, "rename": 4, "sync_folder": 5}


@pytest.mark.parametrize("operation", SECOND_SAVE)
@pytest.mark.parametrize("error", ERRORS)
def test_a_checkpoint_that_cannot_be_written_fails_the_fit_and_spares_the_one_before(
    operation, error, tmp_path, uninterrupted, monkeypatch
):
    log = Log()
    net = checkpointed(tmp_path / "run", log)
    before = attributes(net)
    with monkeypatch.context() as patch:
        fails_at(patch, operation, SECOND_SAVE[operation], ERRORS[error])
        with pytest.raises(OSError, match=ERRORS[error].strerror) as caught:
            net.fit(X, y)
    assert caught.value is ERRORS[error]
    notes = "\n".join(caught.value.__notes__)
    caught.value.__notes__.clear()
    assert "'checkpoint' (Checkpoint) in on_epoch_end, epoch 2" in notes
    assert str(tmp_path / "run") in notes
    assert_as_before(net, before, log, tmp_path / "run")
    assert same_weights(resumed(tmp_path / "run"), uninterrupted)


@pytest.mark.parametrize("operation", SECOND_SAVE)
def test_an_interrupt_in_the_midst_of_a_checkpoint_spares_the_one_before(
    operation, tmp_path, uninterrupted, monkeypatch
):
    log = Log()
    net = checkpointed(tmp_path / "run", log)
    with monkeypatch.context() as patch:
        fails_at(patch, operation, SECOND_SAVE[operation], KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            net.fit(X, y)
    assert net.model_.stop_reason_ == "interrupted"
    assert net.model_.n_epochs_ == 2
    assert log == ["begin", "begin", "exit", "exit"]
    assert parts_of_files(tmp_path / "run") == []
    assert same_weights(resumed(tmp_path / "run"), uninterrupted)


@pytest.mark.parametrize("operation", ["make_folder", "create"])
def test_a_folder_that_cannot_be_written_is_an_error_before_anything_is_trained(
    operation, tmp_path, monkeypatch
):
    batches = Log()

    class Counts(Passive):
        def on_batch_end(self, ctx):
            batches.append(ctx.step)

    net = make_net(callbacks={"checkpoint": Checkpoint(tmp_path / "run"), "counts": Counts()})
    before = attributes(net)
    with monkeypatch.context() as patch:
        fails_at(patch, operation, 1, PermissionError(errno.EACCES, "Permission denied"))
        with pytest.raises(PermissionError) as caught:
            net.fit(X, y)
    assert str(tmp_path / "run") in "\n".join(caught.value.__notes__)
    assert batches == []
    assert attributes(net) == before
    net.fit(X, y)


def test_a_path_below_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    log = Log()
    net = checkpointed(tmp_path / "file" / "run", log)
    before = attributes(net)
    with pytest.raises(OSError, match="file") as caught:
        net.fit(X, y)
    assert str(tmp_path / "file" / "run") in "\n".join(caught.value.__notes__)
    assert attributes(net) == before
    assert log.count("exit") == 2
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_real_limit_of_file_size_spares_the_checkpoint_before(tmp_path, uninterrupted):
    folder = tmp_path / "run"

    def fit(say):
        net = checkpointed(folder, keep=2)

        class Limits(Passive):
            def on_epoch_begin(self, ctx):
                if ctx.epoch == 3:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

        try:
            net.fit(X, y, callbacks=[Limits()])
        except OSError as error:
            say(errno.errorcode[error.errno])
            say(parts_of_files(folder))
            say(hasattr(net, "model_"))

    assert Forked(fit).end() == (0, ["EFBIG", "[]", "False"])
    names = sorted(path.name for path in folder.glob("epoch-*"))
    assert names == ["epoch-000001.safetensors", "epoch-000002.safetensors"]
    assert min(path.stat().st_size for path in folder.glob("epoch-*")) > 1000
    net = checkpointed(folder, keep=2).fit(X, y, resume=True)
    assert same_weights(weights_of(net.model_.module_), uninterrupted)


# ------------------------------------------------ callbacks that fail beside


@pytest.mark.parametrize("stage", ["on_epoch_end", "on_batch_exit"])
def test_a_callback_that_fails_before_the_checkpoint_at_its_stage_leaves_the_one_before(
    stage, tmp_path, uninterrupted
):
    log = Log()
    net = checkpointed(tmp_path / "run", log)
    before = attributes(net)
    with pytest.raises(Failure) as caught:
        net.fit(X, y, callbacks={"bad": Fails(stage, Failure, epoch=2)})
    assert "'bad'" in "\n".join(caught.value.__notes__)
    assert_as_before(net, before, log, tmp_path / "run")
    assert same_weights(resumed(tmp_path / "run"), uninterrupted)


def test_a_callback_that_fails_while_the_checkpoint_is_written_spares_the_one_before(
    tmp_path, uninterrupted
):
    class BadState(Passive):
        def on_epoch_end(self, ctx):
            self.bad = ctx.epoch == 2

        def state_dict(self):
            if getattr(self, "bad", False):
                raise Failure("no state")

        def load_state_dict(self, state):
            raise AssertionError

    log = Log()
    net = checkpointed(tmp_path / "run", log)
    before = attributes(net)
    with pytest.raises(Failure, match="no state") as caught:
        net.fit(X, y, callbacks={"bad": BadState()})
    assert "'bad'" in "\n".join(caught.value.__notes__)
    assert_as_before(net, before, log, tmp_path / "run")
    assert same_weights(resumed(tmp_path / "run"), uninterrupted)


def test_what_fails_in_on_exit_after_a_failed_checkpoint_is_told_beside_it(
    tmp_path, uninterrupted, monkeypatch
):
    log = Log()
    net = checkpointed(tmp_path / "run", log)
    before = attributes(net)
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fails_at(patch, "write", SECOND_SAVE["write"], full)
        with pytest.raises(OSError, match="No space left") as caught:
            net.fit(X, y, callbacks={"bad": Fails("on_exit", Failure)})
    assert "Then on_exit failed too: Failure('from on_exit')" in "\n".join(caught.value.__notes__)
    assert_as_before(net, before, log, tmp_path / "run")
    assert same_weights(resumed(tmp_path / "run"), uninterrupted)


def test_the_folder_is_free_for_the_next_fit_after_a_failure(tmp_path):
    net = make_net(callbacks={"checkpoint": Checkpoint(tmp_path / "{fingerprint}")})
    with pytest.raises(Failure):
        net.fit(X, y, callbacks=[Fails("on_epoch_end", Failure, epoch=2)])
    assert net.fit(X, y, resume=True).model_.n_epochs_ == 3
    assert len(list(Path(tmp_path).iterdir())) == 1


def test_a_fitted_estimator_is_as_it_was_after_a_failed_checkpoint(tmp_path, monkeypatch):
    net = checkpointed(tmp_path / "run").fit(X, y)
    before, model, predicted = attributes(net), net.model_, net.predict_proba(X)
    net.set_params(callbacks__checkpoint__path=tmp_path / "other")
    before["callbacks__checkpoint__path"] = tmp_path / "other"
    with monkeypatch.context() as patch:
        fails_at(patch, "rename", SECOND_SAVE["rename"], OSError(errno.EIO, "Input/output error"))
        with pytest.raises(OSError, match="Input/output"):
            net.fit(X, y)
    assert net.model_ is model
    np.testing.assert_array_equal(net.predict_proba(X), predicted)


class Interrupts(Callback):
    """Raises a signal in the third batch."""

    passive = True

    def on_batch_end(self, ctx):
        if ctx.global_step == 3:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_fit_says_where_it_was_saved(tmp_path, capfd):
    callbacks = [Checkpoint(tmp_path / "run"), Interrupts()]
    net = NeuralNetClassifier(max_epochs=9, callbacks=callbacks, random_state=0)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, y)
    told = capfd.readouterr().err
    file = next((tmp_path / "run").glob("epoch-000003-step*"))
    assert f"saved as {file}; resume=True goes on from there" in told
