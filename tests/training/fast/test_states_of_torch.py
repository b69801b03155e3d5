"""What torch itself was told to do in a step is done, whatever way a fit goes."""

from __future__ import annotations

import functools

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from training.fast.ways import PARAMS, chain, classes, compare, nothing

from skorchlike import Callback, NeuralNetClassifier

# beside what is inside of training phases: nothing, or a stage that keeps a fit off the fastest way
BESIDE = [{}, {"on_batch_end": lambda self, ctx: nothing(ctx)}]


class Inside(Callback):
    """Do the training phases inside of a context manager."""

    def __init__(self, make):
        self.make = make

    def on_before_train(self, ctx):
        self.inside = self.make()
        self.inside.__enter__()

    def on_phase_exit(self, ctx):
        if ctx.training:
            self.inside.__exit__(None, None, None)


class Scaling(TorchFunctionMode):
    """Scale what a function returns."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        return result * 0.5 if function is self.function else result


class ScaledBackward(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.backward:
            args = (args[0] * 2, *args[1:])
        return function(*args, **(kwargs or {}))


class RoundedProducts(TorchDispatchMode):
    """Round what matrix products return, by the operator that autograd calls."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        products = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return rounded(result) if function in products else result


def rounded(tensor):
    return tensor.half().to(tensor.dtype) if tensor.is_floating_point() else tensor


STATES = {
    "autocast": functools.partial(torch.autocast, "cpu", dtype=torch.bfloat16),
    "anomaly mode": functools.partial(torch.autograd.detect_anomaly, check_nan=True),
    "hooks of saved tensors": functools.partial(
        torch.autograd.graph.saved_tensors_hooks, rounded, lambda tensor: tensor
    ),
    "saved elsewhere": torch.autograd.graph.save_on_cpu,
    "the function linear": functools.partial(Scaling, torch.nn.functional.linear),
    "an activation": functools.partial(Scaling, torch.nn.functional.leaky_relu),
    "a loss": functools.partial(Scaling, torch.nn.functional.cross_entropy),
    "the method backward": ScaledBackward,
    "operators": RoundedProducts,
}


@pytest.mark.parametrize("beside", BESIDE, ids=["alone", "in batch"])
@pytest.mark.parametrize("state", STATES)
def test_a_state_of_torch_has_its_effect(state, beside):
    make = STATES[state]
    inside = type("Inside", (Inside,), beside)(make)
    net = compare(NeuralNetClassifier, {"module": chain(), "callbacks": [inside]}, *classes())
    assert net.model_.path_ != "hand-written"


def test_gradients_that_are_off_are_an_error():
    inside = Inside(torch.no_grad)
    params = {"module": chain(), "callbacks": [inside]}
    error = compare(NeuralNetClassifier, params, *classes(), fails=True)
    assert "gradients are off" in str(error)


@pytest.mark.parametrize("beside", BESIDE, ids=["alone", "in batch"])
def test_a_profiler_sees_the_steps_by_their_names(beside):
    found = []

    class Profiling(torch.profiler.profile):
        def __exit__(self, *args):
            super().__exit__(*args)
            found.append({event.key: event.count for event in self.key_averages()})

    inside = type("Inside", (Inside,), beside)(Profiling)
    compare(NeuralNetClassifier, {"module": chain(), "callbacks": [inside]}, *classes())
    fast, general = found[:3], found[3:]
    names = ("Optimizer.step#AdamW.step", "Optimizer.zero_grad#AdamW.zero_grad")
    for epoch, expected in zip(fast, general, strict=True):
        assert epoch["Optimizer.step#AdamW.step"] == 3
        assert {name: epoch.get(name) for name in names} == {
            name: expected.get(name) for name in names
        }


def patched(owner, name, seen):
    """Return what stands for a function of torch and calls it, with its name and signature."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        seen.append(name)
        return function(*args, **kwargs)

    return wrapper


PATCHED = [
    (torch.optim.AdamW, "step"),
    (torch.optim.Optimizer, "zero_grad"),
    (torch.optim.AdamW, "zero_grad"),
    (torch.Tensor, "backward"),
    (torch.autograd, "backward"),
    (torch.nn.Linear, "forward"),
    (torch.nn.LeakyReLU, "forward"),
    (torch.nn.CrossEntropyLoss, "forward"),
]


@pytest.mark.parametrize("beside", BESIDE, ids=["alone", "in batch"])
@pytest.mark.parametrize(("owner", "name"), PATCHED)
def test_a_function_of_torch_that_somebody_replaced_is_called(monkeypatch, owner, name, beside):
    X, y = classes(32)
    params = {**PARAMS, "max_epochs": 2, "callbacks": [type("Beside", (Callback,), beside)()]}
    NeuralNetClassifier(chain(), **params).fit(X, y)  # which wraps the step of the class
    seen = []
    monkeypatch.setattr(owner, name, patched(owner, name, seen))
    NeuralNetClassifier(chain(), **params).fit(X, y)
    n_steps = 2 * -(-len(X) // PARAMS["batch_size"])
    assert len(seen) >= n_steps
