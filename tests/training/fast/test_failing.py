"""What fails or is cut short in a step does so in the same words, whatever way it goes."""

from __future__ import annotations

import functools
import os
import signal

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, default_collate
from training.fast.ways import (
    GENERAL,
    at,
    bits,
    chain,
    classes,
    compare,
    nothing,
    numbers,
    run,
)

from skorchlike import (
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    NeuralNetClassifier,
    NeuralNetRegressor,
)

BESIDE = {"alone": [], "in batch": [at(on_batch_end=nothing)]}


class Failure(Exception):
    """An error of a user's own."""


@pytest.fixture(params=BESIDE)
def beside(request):
    return BESIDE[request.param]


def fails(data=None, **params):
    params = {"module": chain(), **params}
    return compare(NeuralNetClassifier, params, *(data or classes()), fails=None)


# ------------------------------------------------------------------------- criteria


class Late(nn.Module):
    """A criterion that does something else in one batch."""

    def __init__(self, number, act):
        super().__init__()
        self.number, self.act, self.count = number, act, 0

    def forward(self, y_pred, y):
        self.count += 1
        loss = functional.cross_entropy(y_pred, y)
        return self.act(loss) if self.count == self.number else loss


def raising(error):
    def act(loss):
        raise error("said by the criterion")

    return act


def hooked(error):
    """Return what lets the backward pass raise."""

    def raise_it(gradient):
        raise error("said by a gradient")

    def act(loss):
        doubled = loss * 2
        doubled.register_hook(raise_it)
        return doubled

    return act


def sent(signal_number):
    def act(loss):
        os.kill(os.getpid(), signal_number)
        return loss

    return act


ACTS = {
    "an error": raising(Failure),
    "an error of torch": raising(RuntimeError),
    "an error of Python": raising(StopIteration),
    "no memory": raising(MemoryError),
    "no batch": raising(CancelBatchException),
    "no epoch": raising(CancelEpochException),
    "no fit": raising(CancelFitException),
    "Ctrl-C": raising(KeyboardInterrupt),
    "a signal": sent(signal.SIGINT),
    "an error of backward": hooked(Failure),
    "no batch in backward": hooked(CancelBatchException),
    "no epoch in backward": hooked(CancelEpochException),
    "NaN": lambda loss: loss * float("nan"),
    "a vector": lambda loss: loss * torch.ones(3),
    "a number": lambda loss: 1.0,
    "nothing": lambda loss: None,
    "an integer": lambda loss: torch.tensor(1),
    "without a graph": lambda loss: loss.detach(),
    "a complex loss": lambda loss: loss * torch.tensor(1 + 1j),
}


@pytest.mark.parametrize("number", [1, 2, 4, 9])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("act", ACTS)
def test_a_criterion_in_any_batch(act, optimizer, number, beside):
    fails(criterion=Late(number, ACTS[act]), optimizer=optimizer, callbacks=beside)


@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_what_an_interrupted_fit_leaves(signal_number, number, beside):
    """A signal in the middle of a step."""
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    left = []
    try:
        for cls in (NeuralNetClassifier, GENERAL[NeuralNetClassifier]):
            criterion = Late(number, sent(signal_number))
            outcome = run(cls, {"module": chain(), "criterion": criterion}, *classes())
            assert type(outcome.error) is KeyboardInterrupt
            assert outcome.net.model_.stop_reason_ == "interrupted"
            left.append(bits(outcome.net))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert left[0] == left[1]


# ----------------------------------------------------------------------------- data


class Rows(Dataset):
    """Rows, of which those from the third batch on are changed."""

    def __init__(self, change):
        self.change = change

    def __len__(self):
        return 24

    def __getitem__(self, i):
        X, y = classes(24)
        row = torch.from_numpy(X[i]), torch.tensor(y[i])
        return self.change(*row) if i >= 16 else row


def broken(X, y):
    raise OSError("no such row")


ROWS = {
    "another dtype": lambda X, y: (X.double(), y),
    "half precision": lambda X, y: (X.half(), y),
    "integers": lambda X, y: (X.long(), y),
    "too wide": lambda X, y: (torch.cat([X, X]), y),
    "three dimensions": lambda X, y: (X.expand(2, 4), y),
    "NaN": lambda X, y: (X * float("nan"), y),
    "an ignored label": lambda X, y: (X, torch.tensor(-100)),
    "a negative label": lambda X, y: (X, torch.tensor(-1)),
    "a label too many": lambda X, y: (X, torch.tensor(9)),
    "a label as a float": lambda X, y: (X, y.float()),
    "a label as int32": lambda X, y: (X, y.int()),
    "soft labels": lambda X, y: (X, functional.one_hot(y, 3).float()),
    "labels in a column": lambda X, y: (X, y[None]),
    "an error": broken,
}


@pytest.mark.parametrize("ignored", [-100, -1])
@pytest.mark.parametrize("rows", ROWS)
def test_rows_that_a_later_batch_has(rows, ignored, beside):
    loader = DataLoader(Rows(ROWS[rows]), batch_size=8)
    criterion = nn.CrossEntropyLoss(ignore_index=ignored)
    fails((loader,), criterion=criterion, callbacks=beside, shuffle=False)


BATCHES = {
    "labels lacking": lambda X, y: (X, y[:-1]),
    "sparse": lambda X, y: (X.to_sparse(), y),
    "a parameter": lambda X, y: (nn.Parameter(X), y),
    "with gradients": lambda X, y: (X.requires_grad_(), y),
    "columns first": lambda X, y: (X.t().contiguous().t(), y),
    "one row expanded": lambda X, y: (X[:1].expand(8, 4), y),
    "with gaps": lambda X, y: (X.repeat(1, 2)[:, ::2], y),
    "without rows": lambda X, y: (X[:0], y[:0]),
    "one row": lambda X, y: (X[0], y[0]),
    "a list": lambda X, y: ([X], y),
    "without labels": lambda X, y: (X, None),
    "a tensor of its own": lambda X, y: (Own(X), y),
}


class Own(torch.Tensor):
    """A subclass of a tensor."""


def changed(rows, change, which):
    """Collate rows, and change all batches or the third one alone."""
    X, y = default_collate(rows)
    third = torch.equal(X[0], torch.from_numpy(classes(24)[0][16]))
    return change(X, y) if third or which == "all" else (X, y)


def unchanged(X, y):
    return X, y


@pytest.mark.parametrize("which", ["all", "third"])
@pytest.mark.parametrize("kind", BATCHES)
def test_batches_of_another_form(kind, which, beside):
    collate = functools.partial(changed, change=BATCHES[kind], which=which)
    loader = DataLoader(Rows(unchanged), batch_size=8, collate_fn=collate)
    fails((loader,), callbacks=beside)


# -------------------------------------------------------------- gradients and losses


def transposed(ctx):
    """Let gradients lie in memory otherwise than their parameters."""
    for parameter in ctx.module.parameters():
        if parameter.ndim == 2:
            parameter.grad = parameter.grad.t().contiguous().t()


def sparse(ctx):
    ctx.module[0].weight.grad = ctx.module[0].weight.grad.to_sparse()


def gone(ctx):
    if ctx.step == 2:
        ctx.module[0].weight.grad = None


def all_gone(ctx):
    if ctx.step == 2:
        for parameter in ctx.module.parameters():
            parameter.grad = None


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("change", [transposed, gone, all_gone])
def test_gradients_that_a_callback_replaces(change, optimizer):
    net = fails(callbacks=[at(on_after_backward=change)], optimizer=optimizer)
    assert net.model_.path_ == "direct"


def test_a_sparse_gradient_is_refused_as_by_torch():
    error = fails(callbacks=[at(on_after_backward=sparse)])
    assert "sparse gradients" in str(error)


@pytest.mark.parametrize("stage", ["on_after_loss", "on_before_backward"])
@pytest.mark.parametrize(
    "change",
    [
        lambda loss: loss * torch.ones(3),
        lambda loss: loss * torch.ones(1),
        lambda loss: loss * torch.tensor(1 + 1j),
        lambda loss: loss.detach(),
        lambda loss: loss * float("nan"),
        lambda loss: loss.double(),
        lambda loss: loss.as_subclass(Own),
        lambda loss: 1.0,
    ],
    ids=["vector", "one element", "complex", "no graph", "NaN", "double", "own", "number"],
)
def test_a_loss_that_a_callback_replaces(stage, change):
    def replace(ctx):
        ctx.loss = change(ctx.loss)

    fails(callbacks=[at(**{stage: replace})])


# ---------------------------------------------------------------- behind the batch


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("n_callbacks", [1, 2])
@pytest.mark.parametrize(
    "error",
    [
        Failure,
        KeyboardInterrupt,
        MemoryError,
        CancelBatchException,
        CancelEpochException,
        CancelFitException,
    ],
)
def test_passive_callbacks_that_fail_at_the_exit_of_a_batch(error, n_callbacks, number):
    def fail(ctx):
        if ctx.global_step == number:
            raise error("said at the exit")

    callbacks = {f"own_{i}": at(passive=True, on_batch_exit=fail) for i in range(n_callbacks)}
    assert fails(callbacks=callbacks) is not None


def test_a_passive_callback_that_ends_the_fit_at_the_exit_of_a_batch():
    def end(ctx):
        ctx.terminate = ctx.global_step >= 4
        ctx.log("seen", ctx.step)

    net = fails(callbacks=[at(passive=True, on_batch_exit=end)])
    assert net.model_.path_ == "hand-written"
    assert net.n_iter_ == 2


# ------------------------------------------------------------ functions within a step


@pytest.mark.parametrize("error", [Failure, KeyboardInterrupt, MemoryError, CancelBatchException])
@pytest.mark.parametrize("number", [1, 5, 6])
@pytest.mark.parametrize("name", ["linear", "leaky_relu", "mse_loss"])
def test_a_function_of_torch_that_fails(monkeypatch, name, number, error, beside):
    """The note names the action that the function belongs to."""
    function, count = getattr(functional, name), []

    def failing(*args, **options):
        count.append(name)
        if len(count) == number:
            raise error("said by a function")
        return function(*args, **options)

    def watch(ctx):
        count.clear()
        monkeypatch.setattr(functional, name, failing)

    callbacks = {"watch": at(on_begin=watch), **{f"own_{i}": cb for i, cb in enumerate(beside)}}
    params = {"module": chain(), "callbacks": callbacks}
    failed = compare(NeuralNetRegressor, params, *numbers(n_targets=3), fails=None)
    assert len(count) >= number
    if error is CancelBatchException:
        assert failed.model_.path_ == ("direct" if beside else "hand-written")
    elif error is not KeyboardInterrupt:
        action = "do_get_loss" if name == "mse_loss" else "do_predict"
        assert f"{action}, epoch" in failed.__notes__[0]
