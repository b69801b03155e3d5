"""check_callback finds each way to break a promise, and passes what keeps them all."""

import random
import tempfile
import threading

import numpy as np
import pytest
import torch

from skorchlike import Callback, NeuralNetRegressor, ParameterError, check_callback
from skorchlike.inspection.conformance import CHECKS


class Counting(Callback):
    """Keeps every promise."""

    passive = True
    logs = ("n_seen",)
    n_seen = 0

    def __init__(self, unit=1):
        self.unit = unit

    def on_begin(self, ctx):
        self.n_seen = 0

    def on_batch_end(self, ctx):
        self.n_seen += self.unit

    def on_epoch_end(self, ctx):
        ctx.log("n_seen", self.n_seen)

    def state_dict(self):
        return {"n_seen": self.n_seen}

    def load_state_dict(self, state):
        self.n_seen = state["n_seen"]


def test_a_callback_that_keeps_the_promises_passes_every_check():
    results = check_callback(Counting())
    assert [result["check_name"] for result in results] == [check.__name__ for check in CHECKS]
    assert {result["status"] for result in results} == {"passed"}


class Converts(Callback):
    def __init__(self, alpha=0.1):
        self.alpha = float(alpha) if isinstance(alpha, (int, float)) else None


class Computes(Callback):
    def __init__(self, alpha=0.1):
        self.alpha = 2 * alpha


class SetsMore(Callback):
    def __init__(self, alpha=0.1):
        self.alpha = alpha
        self.total = 0


class NeedsTwoColumns(Callback):
    def on_batch_begin(self, ctx):
        assert ctx.X.shape[1] == 2


class Unpicklable(Callback):
    def __init__(self, function=None):
        self.function = function


SHARED = []


class Aliases(list):
    def __deepcopy__(self, memo):
        return self


class WritesToParameter(Callback):
    def __init__(self, seen=None):
        self.seen = seen

    def on_epoch_end(self, ctx):
        self.seen.append(ctx.epoch)


class Irreproducible(Callback):
    def on_batch_begin(self, ctx):
        SHARED.append(1)
        ctx.X = ctx.X + len(SHARED)


class DrawsFromNumpy(Callback):
    def on_batch_begin(self, ctx):
        np.random.rand()  # noqa: NPY002


class DrawsFromPython(Callback):
    def on_batch_begin(self, ctx):
        random.random()


class ForgetsState(Counting):
    def load_state_dict(self, state):
        pass

    def state_dict(self):
        self.n_seen += 1
        return {"n_seen": self.n_seen}


class KeepsParameterInState(Counting):
    def state_dict(self):
        return {"unit": self.unit}

    def load_state_dict(self, state):
        pass


class StateThatCannotBePickled(Counting):
    def state_dict(self):
        return {"function": lambda: 1}

    def load_state_dict(self, state):
        pass


class CannotContinue(Callback):
    def on_begin(self, ctx):
        if ctx.epoch > 0:
            raise RuntimeError("no way back")


class ForgetsTheEpoch(Callback):
    """What it gathers in an epoch is not in the state, and so is lost in the middle of one."""

    def on_begin(self, ctx):
        self.sums = []

    def on_epoch_begin(self, ctx):
        self.total = 0.0

    def on_batch_end(self, ctx):
        self.total += ctx.last_loss

    def on_epoch_end(self, ctx):
        self.sums.append(self.total)

    def state_dict(self):
        return {"sums": list(self.sums)}

    def load_state_dict(self, state):
        self.sums = list(state["sums"])


class ForgetsItsStep(Callback):
    """It scales each loss by how many there were, and forgets how many there were."""

    def on_begin(self, ctx):
        self.n = 0

    def on_after_loss(self, ctx):
        self.n += 1
        ctx.loss = ctx.loss * (1 + self.n % 5)


class LogsUnnamed(Callback):
    def on_epoch_end(self, ctx):
        ctx.log("surprise", 1)


class ChangesGradients(Callback):
    passive = True

    def on_before_step(self, ctx):
        for parameter in ctx.module.parameters():
            parameter.grad.mul_(2)


class DrawsFromTorch(Callback):
    passive = True

    def on_end(self, ctx):
        torch.rand(1)


class NeedsEveryBatch(Callback):
    def on_begin(self, ctx):
        self.open = False

    def on_batch_begin(self, ctx):
        assert not self.open, "a batch began before the last had ended"
        self.open = True

    def on_batch_end(self, ctx):
        self.open = False


class LeaksHook(Callback):
    def on_begin(self, ctx):
        self.handle = ctx.module.register_forward_hook(lambda *args: None)

    def on_end(self, ctx):
        if hasattr(self, "handle"):
            self.handle.remove()


class LeaksAutocast(Callback):
    def on_batch_begin(self, ctx):
        self.autocast = torch.autocast("cpu", torch.bfloat16)
        self.autocast.__enter__()
        OPEN.append(self.autocast)

    def on_after_loss(self, ctx):
        OPEN.pop().__exit__(None, None, None)


class LeaksFile(Callback):
    def on_begin(self, ctx):
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        OPEN.append(self.file)

    def on_end(self, ctx):
        if hasattr(self, "file"):
            self.file.close()


OPEN = []


class LeaksThread(Callback):
    def on_begin(self, ctx):
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.done.wait, daemon=True)
        self.thread.start()
        OPEN.append(self.done)

    def on_end(self, ctx):
        if hasattr(self, "done"):
            self.done.set()
            self.thread.join()


class KeepsContext(Callback):
    def on_begin(self, ctx):
        self.ctx = ctx


class FailsInExit(Callback):
    def on_exit(self, ctx):
        self.made_in_begin.close()

    def on_begin(self, ctx):
        self.made_in_begin = tempfile.TemporaryFile()  # noqa: SIM115


BROKEN = {
    "Converts": (Converts(), "init_only_stores", "self.alpha = alpha"),
    "Computes": (Computes(), "init_only_stores", "must store its arguments as they are"),
    "SetsMore": (SetsMore(), "init_only_stores", "'total'"),
    "Unpicklable": (Unpicklable(lambda: 1), "can_be_pickled", "pickle"),
    "WritesToParameter": (
        WritesToParameter(Aliases()),
        "fit_leaves_the_object_alone",
        "changed the callback",
    ),
    "Irreproducible": (Irreproducible(), "fits_are_reproducible", "same random_state"),
    "DrawsFromNumpy": (DrawsFromNumpy(), "global_generators_stay", "numpy"),
    "DrawsFromPython": (DrawsFromPython(), "global_generators_stay", "random"),
    "ForgetsState": (ForgetsState(), "state_round_trips", "in 'n_seen'"),
    "KeepsParameterInState": (KeepsParameterInState(), "state_round_trips", "'unit'"),
    "StateThatCannotBePickled": (StateThatCannotBePickled(), "can_be_pickled", "lambda"),
    "CannotContinue": (CannotContinue(), "fits_continue", "no way back"),
    "ForgetsTheEpoch": (ForgetsTheEpoch(), "resumes_exactly", "leaves another state in 'sums'"),
    "ForgetsItsStep": (ForgetsItsStep(), "resumes_exactly", "differ in the weight"),
    "LogsUnnamed": (LogsUnnamed(), "history_columns_are_named", "'surprise'"),
    "ChangesGradients": (ChangesGradients(), "watching_changes_nothing", "differ in the weight"),
    "DrawsFromTorch": (DrawsFromTorch(), "watching_changes_nothing", "random numbers"),
    "NeedsEveryBatch": (NeedsEveryBatch(), "cancels_are_survived", "a batch began before"),
    "LeaksHook": (LeaksHook(), "everything_is_given_back", "a hook on the module"),
    "LeaksAutocast": (LeaksAutocast(), "cancels_are_survived", "autocast"),
    "LeaksFile": (LeaksFile(), "everything_is_given_back", "open file"),
    "LeaksThread": (LeaksThread(), "everything_is_given_back", "the thread"),
    "KeepsContext": (KeepsContext(), "cancels_are_survived", "KeepsContext.ctx keeps the context"),
    "FailsInExit": (FailsInExit(), "cancels_are_survived", "made_in_begin"),
}


@pytest.fixture(autouse=True)
def closed():
    """What the leaking doubles leave open is closed, so that tests do not disturb each other."""
    yield
    while OPEN:
        left = OPEN.pop()
        if isinstance(left, torch.autocast):
            left.__exit__(None, None, None)
        elif isinstance(left, threading.Event):
            left.set()
        else:
            left.close()


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found_by_its_check(name):
    callback, check, message = BROKEN[name]
    with pytest.raises(AssertionError, match=f"^{check}: ") as caught:
        check_callback(callback)
    assert message in str(caught.value)


def test_every_check_has_a_callback_that_fails_it():
    easy = {"can_be_cloned_and_shown", "parameters_are_routed"}  # scikit-learn's own machinery
    assert {check.__name__ for check in CHECKS} - {check for _, check, _ in BROKEN.values()} == easy


def test_all_failures_can_be_collected_or_warned_about():
    results = check_callback(LogsUnnamed(), on_fail=None)
    failed = [result["check_name"] for result in results if result["status"] == "failed"]
    assert failed == ["history_columns_are_named"]
    with pytest.warns(UserWarning, match="history_columns_are_named: .*surprise"):
        check_callback(LogsUnnamed(), on_fail="warn")


def test_it_takes_an_estimator_and_data():
    net = NeuralNetRegressor(max_epochs=1, batch_size=4, random_state=0)
    X = np.random.default_rng(0).normal(size=(8, 2))
    assert len(check_callback(NeedsTwoColumns(), net, X, X.sum(1))) == len(CHECKS)
    with pytest.raises(AssertionError):
        check_callback(NeedsTwoColumns())


@pytest.mark.parametrize("bad", [Counting, "early_stopping", None])
def test_only_an_instance_of_a_callback_is_taken(bad):
    with pytest.raises(ParameterError, match="takes an instance of Callback"):
        check_callback(bad)


def test_an_unknown_way_to_fail_is_an_error():
    with pytest.raises(ParameterError, match="on_fail"):
        check_callback(Counting(), on_fail="ignore")


def test_an_estimator_without_a_random_state_is_given_one():
    net = NeuralNetRegressor(max_epochs=1)
    X = np.random.default_rng(0).normal(size=(8, 2))
    check_callback(Counting(), net, X, X.sum(1))
    assert net.random_state is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimator": 3}, "must be a NeuralNetClassifier"),
        ({"X": [[1.0]]}, "X and y of check_callback go together"),
    ],
)
def test_wrong_arguments_are_errors(arguments, message):
    with pytest.raises(ParameterError, match=message):
        check_callback(Counting(), **arguments)
