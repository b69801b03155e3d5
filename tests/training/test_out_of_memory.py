"""What an error for want of memory says, and that it keeps no memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import traceback
import types
import weakref

import numpy as np
import pytest
import torch
from doubles import Linear, make_data, make_net

from skorchlike.training.memory import is_out_of_memory, let_go, note_out_of_memory


def too_much(n_bytes=2**60):
    return torch.empty(n_bytes, dtype=torch.uint8)


def too_much_for_numpy():
    return np.empty(2**60, dtype=np.uint8)


def raised(function, *args):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        function(*args)
    return caught.value


def out_of_cuda():
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def context(**fields):
    """Stand for a context in a training batch of 6 rows."""
    return types.SimpleNamespace(
        **{
            "X": torch.zeros(6, 3, dtype=torch.float16),
            "training": True,
            "optimizer": object(),
            "device": torch.device("cpu"),
            "module": torch.nn.Linear(3, 2),
            "estimator": types.SimpleNamespace(batch_size="auto", predict_batch_size=64),
            "callbacks": {},
            **fields,
        }
    )


def note(error=None, **fields):
    error = out_of_cuda() if error is None else error
    note_out_of_memory(error, context(**fields))
    return "\n".join(getattr(error, "__notes__", []))


# ------------------------------------------------------------- recognised


def test_what_torch_and_numpy_raise_on_this_machine_is_recognised():
    for error in (raised(too_much), raised(too_much_for_numpy)):
        assert is_out_of_memory(error), error
        assert "Out of memory in training on a batch of 6 rows" in note(error)


@pytest.mark.parametrize(
    "error",
    [
        out_of_cuda(),
        MemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.89 GB, max allowed: 9.07 GB)."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=repr,
)
def test_errors_of_other_devices_are_recognised(error):
    assert "What helps" in note(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (6x3 and 4x2)"),
        ValueError("out of memory"),
        OSError("out of memory"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_other_errors_get_no_note(error):
    assert not is_out_of_memory(error)
    assert note(error) == ""


# ------------------------------------------------------------------- said


def test_the_note_says_batch_shapes_device_and_what_the_module_takes():
    said = note()
    for part in (
        "a batch of 6 rows (X: (6, 3) float16)",
        "device 'cpu'",
        "parameters take 32 bytes (float32)",
        "batch_size=3 (now 'auto'",
        "'gradient_accumulation' (n_batches=2)",
        "'mixed_precision'",
        "a smaller module",
    ):
        assert part in said
    assert "predict_batch_size" not in said


def test_every_one_of_several_inputs_is_named():
    X = {"image": torch.zeros(4, 3, 8, 8), "age": torch.zeros(4)}
    assert "4 rows (X['image']: (4, 3, 8, 8) float32, X['age']: (4,) float32)" in note(X=X)


@pytest.mark.parametrize(("optimizer", "what"), [(object(), "validation"), (None, "prediction")])
def test_without_gradients_the_other_batch_size_is_named(optimizer, what):
    said = note(training=False, optimizer=optimizer)
    assert f"in a {what} on a batch of 6 rows" in said
    assert "predict_batch_size=3 (now 64" in said
    assert " batch_size=" not in said
    assert "accumulation" not in said


def test_callbacks_that_are_there_already_are_not_advised():
    class GradientAccumulation:
        n_batches = 4

    class MixedPrecision:
        pass

    said = note(callbacks={"a": GradientAccumulation(), "b": MixedPrecision()})
    assert "n_batches=8" in said
    assert "mixed_precision" not in said


def test_of_a_batch_of_one_row_no_smaller_one_is_advised():
    said = note(X=torch.zeros(1, 3))
    assert "batch_size" not in said
    assert "a smaller module" in said


def test_before_the_first_batch_it_says_what_it_knows():
    said = note(X=None, training=False)
    assert "Out of memory in training, on the device" in said
    assert "a smaller batch_size (now 'auto')" in said


def test_the_innermost_note_is_the_only_one():
    error = out_of_cuda()
    note(error)
    assert note(error, X=None).count("Out of memory") == 1


def test_memory_of_an_accelerator_is_told_as_far_as_it_answers(monkeypatch):
    def broken(device):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.accelerator, "memory_allocated", lambda device: 3 << 30)
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda device: (1 << 20, 4 << 30))
    assert "'cuda:0', where torch holds 3.0 GiB and 1.0 MiB of 4.0 GiB are free" in note(
        device=device
    )
    monkeypatch.setattr(torch.accelerator, "get_memory_info", broken)
    assert "where torch holds 3.0 GiB; the module" in note(device=device)
    monkeypatch.setattr(torch.accelerator, "memory_allocated", broken)
    assert "on the device 'cuda:0'; the module" in note(device=device)


# ---------------------------------------------------------------- let go


class Thing:
    """What is large."""


def failing(alive, kind):
    thing = Thing()
    alive.append(weakref.ref(thing))
    raise kind


@pytest.mark.parametrize(("kind", "lives"), [(out_of_cuda(), False), (ValueError(), True)])
def test_an_error_for_want_of_memory_lets_go_of_the_frames_it_came_through(kind, lives):
    alive = []
    try:
        failing(alive, kind)
    except Exception as error:
        assert alive[0]() is not None
        let_go(error)
        assert (alive[0]() is not None) is lives
        told = "".join(traceback.format_exception(error))
    assert "failing" in told


def test_the_cause_lets_go_too_but_not_what_else_is_being_handled():
    other, alive = [], []
    try:
        failing(other, ValueError())
    except ValueError:
        try:
            try:
                failing(alive, KeyError())
            except KeyError as cause:
                raise out_of_cuda() from cause
        except torch.OutOfMemoryError as error:
            let_go(error)
            assert alive[0]() is None
            assert other[0]() is not None


# ---------------------------------------------------------- end to end


class Greedy(Linear):
    """A linear layer that asks for too much in one phase, with a graph in its hands."""

    phase = "train"
    alive = []

    def forward(self, X):
        hidden = super().forward(X)
        grad = torch.is_grad_enabled()
        if self.phase == ("train" if grad else "eval"):
            self.alive.extend(map(weakref.ref, (X, hidden, self)))
            too_much()
        return hidden


class GreedyInEval(Greedy):
    phase = "eval"


def fit_or_predict(where):
    X, y = make_data()
    if where == "training":
        make_net(module=Greedy).fit(X, y)
    elif where == "a validation":
        make_net(module=GreedyInEval).fit(X, y, X_val=X, y_val=y)
    else:
        make_net(module=GreedyInEval).fit(X, y).predict(X)


PLACES = {"training": 4, "a validation": 2, "a prediction": 2}


@pytest.mark.parametrize(("where", "n_rows"), PLACES.items())
def test_a_fit_and_a_prediction_say_so(where, n_rows):
    notes = "\n".join(raised(fit_or_predict, where).__notes__)
    assert notes.count("Out of memory") == 1
    assert f"Out of memory in {where} on a batch of {n_rows} rows" in notes
    assert "Raised by the estimator (NeuralNetClassifier) in do_predict" in notes


@pytest.mark.parametrize("where", PLACES)
def test_neither_batch_nor_graph_nor_module_outlives_the_error(where):
    Greedy.alive.clear()
    gc.disable()
    try:
        with pytest.raises(RuntimeError, match="allocate"):
            fit_or_predict(where)
        assert [ref() for ref in Greedy.alive] == [None, None, None]
    finally:
        gc.enable()


def test_already_in_the_except_block_the_memory_of_a_fit_is_free():
    Greedy.alive.clear()
    gc.disable()
    try:
        try:
            fit_or_predict("training")
        except RuntimeError:
            alive = [ref() for ref in Greedy.alive]
        assert alive == [None, None, None]
    finally:
        gc.enable()


def test_the_estimator_is_as_before_and_fits_with_smaller_batches():
    class Limited(Linear):
        def forward(self, X):
            if len(X) > 3:
                too_much()
            return super().forward(X)

    X, y = make_data()
    net = make_net(module=Limited)
    before = dict(vars(net))
    with pytest.raises(RuntimeError, match="allocate"):
        net.fit(X, y)
    assert {name: vars(net)[name] for name in before} == before
    assert not hasattr(net, "model_")
    net.set_params(batch_size=2).fit(X, y)


RETRY = """
import resource, torch, numpy as np
from skorchlike import NeuralNetClassifier
torch.set_num_threads(1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = used + 500 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
X = np.zeros((20_000, 4), dtype=np.float32)
y = np.arange(20_000) % 2
module = torch.nn.Sequential(torch.nn.Linear(4, 8000), torch.nn.ReLU(), torch.nn.Linear(8000, 2))
net = NeuralNetClassifier(module, max_epochs=1, batch_size=20_000, optimizer="sgd")
while True:
    try:
        net.fit(X, y)
        break
    except (RuntimeError, MemoryError) as error:
        print(net.batch_size, "Out of memory in training on a batch" in str(error.__notes__))
        net.set_params(batch_size=net.batch_size // 4)
print(net.batch_size, net.n_iter_)
"""


def test_a_real_limit_is_met_by_smaller_batches():
    done = subprocess.run(
        [sys.executable, "-c", RETRY], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first == "20000 True"
    assert last.endswith(" 1")
