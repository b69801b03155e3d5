"""What a training step costs, counted and not timed: calls, operators, tensors.

Each number is the difference of two fits that differ in their number of steps alone, so it is
that of one step, exactly. Bounds were measured with Python 3.11 and torch 2.13 on a chain of three
linear layers, and stand some way above that; a step that exceeds one has become dearer.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training.fast.ways import GENERAL, PARAMS, at, classes, layers, nothing

from skorchlike import NeuralNetClassifier
from skorchlike.training.fast import kernels

N_LAYERS = 3
# The least that keeps a fit from the hand-written step: an empty stage of one callback. It is
# part of what is counted: the loop's call of the stage, and two calls within the callback.
WAYS = {
    "hand-written": (NeuralNetClassifier, []),
    "direct": (NeuralNetClassifier, [at(on_batch_begin=nothing)]),
    "general": (GENERAL[NeuralNetClassifier], [at(on_batch_begin=nothing)]),
}
OPTIMIZERS = ("adamw", "sgd")


@pytest.fixture(autouse=True)
def modes_that_count_change_no_way(monkeypatch):
    """A mode that looks at operators would be shown those of a slower way."""
    monkeypatch.setattr(kernels, "is_overridden", lambda: False)


def fit(way, n_batches, optimizer="adamw", callbacks=()):
    """Fit so many batches in one epoch; callbacks lie beside those that make the way."""
    cls, own = WAYS[way]
    named = {f"callback_{i}": callback for i, callback in enumerate([*own, *callbacks])}
    params = {**PARAMS, "max_epochs": 1, "optimizer": optimizer, "callbacks": named}
    net = cls(layers(4, 6, nn.ReLU(), 5, nn.ReLU(), 3), **params)
    net.fit(*classes(n_batches * PARAMS["batch_size"]))
    assert net.model_.path_ == way
    assert net.model_.n_epochs_ == 1


def per_step(counting, way, **options):
    """Return what `counting` counts, by name, for one step."""
    sizes, counts = (10, 20, 30), []
    for n_batches in sizes:  # what is looked up or imported once
        fit(way, n_batches, **options)
    for n_batches in sizes:
        with counting() as counter:
            fit(way, n_batches, **options)
        counts.append(counter.counts)
    few, some, many = counts
    for name in few.keys() | many.keys():
        assert some[name] - few[name] == many[name] - some[name], name
    return Counter({name: (many[name] - few[name]) // 20 for name in many}) + Counter()


# ---------------------------------------------------------------------------- calls


class Calls:
    """Count calls of functions, those written in Python apart from those in C."""

    def __enter__(self):
        self.counts = Counter()
        gc.disable()  # what it calls comes at any time
        sys.setprofile(self.see)
        return self

    def __exit__(self, *args):
        sys.setprofile(None)
        gc.enable()

    def see(self, frame, event, function):
        if event in ("call", "c_call"):
            self.counts[event] += 1


# way → calls of Python's functions, and of C's
CALLS = {
    # 37 and 55 by AdamW: 10 and 12 of no_grad, 5 of torch's functions of layers and losses, 2 of
    # operators that have a wrapper in Python, 7 and 6 of the update; the rest is the step's own
    "hand-written": (42, 62),
    # 87 and 64: 40 of torch's modules and functions, 22 of the optimizer's update and of looking
    # at all that may have changed, 5 of actions; the rest is the loop's
    "direct": (97, 72),
    # 169 and 149: as before, and some 100 of Optimizer.step and zero_grad and what is around them
    "general": (190, 170),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("way", WAYS)
def test_calls_of_functions(way, optimizer):
    calls, (in_python, in_c) = per_step(Calls, way, optimizer=optimizer), CALLS[way]
    assert calls["call"] <= in_python
    assert calls["c_call"] <= in_c


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_way_has_fewer_calls_than_the_slower_one(optimizer):
    by_hand, direct, general = (per_step(Calls, way, optimizer=optimizer) for way in WAYS)
    assert by_hand["call"] <= 0.5 * direct["call"]
    assert direct["call"] <= 0.65 * general["call"]
    assert by_hand["c_call"] <= direct["c_call"] + 5 <= 0.65 * general["c_call"]


@pytest.mark.parametrize("way", WAYS)
def test_callbacks_outside_of_batches_cost_a_step_nothing(way):
    stages = dict.fromkeys(("on_epoch_begin", "on_before_train", "on_epoch_end"), nothing)
    ten = [at(**stages) for _ in range(10)]
    assert per_step(Calls, way, callbacks=ten) == per_step(Calls, way)


@pytest.mark.parametrize("way", ["direct", "general"])
def test_a_callback_in_the_batch_costs_its_own_calls(way):
    # one for what it does, and one for the method that the test puts around it
    alone, ten = per_step(Calls, way), [at(on_batch_begin=nothing) for _ in range(10)]
    assert per_step(Calls, way, callbacks=ten) == alone + Counter({"call": 20})


# ------------------------------------------------------------------------- operators


class Operators(TorchDispatchMode):
    """Count the operators that are dispatched, and the tensors that they make.

    It does not keep a fit from any way, as a profiler would.
    """

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        self.counts[operator.overloadpacket.__name__] += 1
        self.counts["operators"] += 1
        given = {memory_of(tensor) for tensor in tensors((args, kwargs))}
        self.counts["new tensors"] += len({memory_of(t) for t in tensors(out)} - given)
        return out


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def memory_of(tensor):
    return tensor.untyped_storage()._cdata


# way → operators, and tensors with memory of their own
OPERATORS = {
    # 31 by AdamW: 3 layers' product, bias and activation, forward (5) and backward (10, and 6
    # views), 6 of the loss, 2 to fetch it, 2 of the update. Gradients have their memory.
    "hand-written": (33, 13),
    # 53: 12 and 8 more of detach and t, by which autograd keeps what it needs; the loss's seed
    "direct": (56, 22),
    # 57: 4 of the profiler's, around step and zero_grad
    "general": (60, 22),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("way", WAYS)
def test_operators_and_new_tensors(way, optimizer):
    found, (operators, new) = per_step(Operators, way, optimizer=optimizer), OPERATORS[way]
    assert found["operators"] <= operators
    assert found["new tensors"] <= new


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("way", WAYS)
def test_the_work_of_a_step_is_done_once(way, optimizer):
    found = per_step(Operators, way, optimizer=optimizer)
    assert found["addmm"] == N_LAYERS
    # the gradient by each weight, and by each input but the first layer's
    assert found["mm"] == 2 * N_LAYERS - 1
    assert found["sum"] == N_LAYERS
    assert found["relu"] + found["relu_"] == found["threshold_backward"] == N_LAYERS - 1
    assert found["_log_softmax"] == found["_log_softmax_backward_data"] == 1
    assert found[f"_fused_{optimizer}_"] == 1
    # the loss is fetched once, and by nothing else
    assert found["_local_scalar_dense"] == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_step_copies_and_gathers_nothing(way):
    found = per_step(Operators, way)
    copying = {"clone", "copy_", "_to_copy", "cat", "stack", "index", "index_select", "empty_like"}
    assert not copying & found.keys()


def test_each_way_dispatches_fewer_operators_than_the_slower_one():
    by_hand, direct, general = (per_step(Operators, way) for way in WAYS)
    assert by_hand["operators"] < 0.65 * direct["operators"]
    assert direct["operators"] < general["operators"]
    assert by_hand["new tensors"] < 0.65 * direct["new tensors"]
    assert direct["new tensors"] <= general["new tensors"]


# ------------------------------------------------------------------------- autograd


@pytest.mark.parametrize(("way", "n_graphs"), [("hand-written", 0), ("direct", 1), ("general", 1)])
def test_backward_passes_of_autograd(monkeypatch, way, n_graphs):
    class Passes:
        def __enter__(self):
            self.counts = Counter()
            engine = torch.autograd.Variable._execution_engine.run_backward

            def run(*args, **options):
                self.counts["passes"] += 1
                return engine(*args, **options)

            monkeypatch.setattr(kernels, "run_backward", run)
            monkeypatch.setattr(torch.autograd.graph, "_engine_run_backward", run)
            monkeypatch.setattr(torch.autograd, "_engine_run_backward", run)
            return self

        def __exit__(self, *args):
            monkeypatch.undo()

    assert per_step(Passes, way)["passes"] == n_graphs


@pytest.mark.parametrize("way", WAYS)
def test_by_hand_no_operator_runs_with_gradients_on(way):
    class WithGradients(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.counts = Counter()

        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            self.counts["with gradients"] += torch.is_grad_enabled()
            return operator(*args, **(kwargs or {}))

    found = per_step(WithGradients, way)["with gradients"]
    assert (found == 0) is (way == "hand-written")
