"""Without a private function of torch the public way is taken, and gives the same bits."""

from __future__ import annotations

import contextlib

import pytest
from torch import nn
from training.fast.ways import (
    GENERAL,
    PARAMS,
    at,
    bits,
    chain,
    classes,
    compare,
    nothing,
    numbers,
)

from skorchlike import NeuralNetClassifier, NeuralNetRegressor
from skorchlike.training.fast import kernels

# what a version of torch may lack → the ways that a fit can go without it
LACKING = {
    "run_backward": ("hand-written", "direct"),
    "_graph_log": ("hand-written", "direct"),
    "log_softmax_backward": ("hand-written", "direct"),
    "_saved_tensors_hooks": ("direct", "direct"),
    "_n_function_modes": ("direct", "direct"),
    "_n_dispatch_modes": ("direct", "direct"),
    "foreach_add": ("general", "general"),
    "fused_adam": ("general", "general"),
    "fused_adamw": ("general", "general"),
    "fused_sgd": ("hand-written", "direct"),
}
BESIDE = {"alone": [], "in batch": [at(on_batch_end=nothing)]}


def fit(optimizer="adamw", callbacks=(), cls=NeuralNetClassifier, **params):
    data = numbers(n_targets=3) if issubclass(cls, NeuralNetRegressor) else classes()
    return cls(chain(), optimizer=optimizer, callbacks=[*callbacks], **PARAMS, **params).fit(*data)


def test_every_private_function_is_known_here():
    said = kernels.__annotations__
    assert {name for name, kind in said.items() if "None" in kind} == set(LACKING)


def test_this_version_of_torch_has_them_all():
    assert not [name for name in LACKING if getattr(kernels, name) is None]


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("missing", [*LACKING, "all of them"])
def test_without_a_private_function(monkeypatch, missing, beside):
    expected = bits(fit(callbacks=BESIDE[beside], cls=GENERAL[NeuralNetClassifier]))
    assert bits(fit(callbacks=BESIDE[beside])) == expected
    for name in LACKING if missing == "all of them" else [missing]:
        monkeypatch.setattr(kernels, name, None)
    net = fit(callbacks=BESIDE[beside])
    assert bits(net) == expected
    ways = LACKING.get(missing, ("general", "general"))
    assert net.model_.path_ == ways[list(BESIDE).index(beside)]


@pytest.mark.parametrize(
    ("missing", "optimizer", "way"),
    [
        ("fused_sgd", "sgd", "general"),
        ("fused_sgd", "adamw", "hand-written"),
        ("fused_adam", "sgd", "hand-written"),
        ("foreach_add", "sgd", "hand-written"),
    ],
)
def test_a_kernel_that_another_optimizer_needs(monkeypatch, missing, optimizer, way):
    monkeypatch.setattr(kernels, missing, None)
    net = compare(NeuralNetClassifier, {"module": chain(), "optimizer": optimizer}, *classes())
    assert net.model_.path_ == way
    if way == "general":
        assert net.model_.path_reason_ == f"this version of torch has no {missing}"


def test_a_regressor_needs_no_kernel_of_the_cross_entropy(monkeypatch):
    monkeypatch.setattr(kernels, "log_softmax_backward", None)
    net = compare(NeuralNetRegressor, {"module": chain()}, *numbers(n_targets=3))
    assert net.model_.path_ == "hand-written"


# The names of torch's own dicts of hooks are private too: where one is missing, it is as if
# there were a hook, or none could be.


def test_without_the_dicts_of_global_hooks_a_module_counts_as_hooked(monkeypatch):
    monkeypatch.setattr(kernels, "_GLOBAL_MODULE_HOOKS", [None])
    net = compare(NeuralNetClassifier, {"module": chain()}, *classes())
    assert net.model_.path_ == "direct"


def test_without_the_dicts_of_a_modules_hooks_it_counts_as_hooked(monkeypatch):
    monkeypatch.setattr(kernels, "_MODULE_HOOKS", ("_hooks_of_another_version",))
    net = compare(NeuralNetClassifier, {"module": chain()}, *classes())
    assert net.model_.path_ == "direct"


# ------------------------------------------------------------------------ the kernels


@contextlib.contextmanager
def counted(monkeypatch, name, counts):
    kernel = getattr(kernels, name)

    def counting(*args, **options):
        counts.append(name)
        return kernel(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(kernels, name, counting)
        yield


@pytest.mark.parametrize(
    ("optimizer", "options", "kernel"),
    [
        ("adam", {}, "fused_adam"),
        ("adam", {"optimizer__decoupled_weight_decay": True}, "fused_adamw"),
        ("adamw", {}, "fused_adamw"),
        ("sgd", {}, "fused_sgd"),
    ],
)
@pytest.mark.parametrize("beside", BESIDE)
def test_each_optimizer_has_its_kernel(monkeypatch, optimizer, options, kernel, beside):
    counts = []
    with contextlib.ExitStack() as stack:
        for name in ("fused_adam", "fused_adamw", "fused_sgd"):
            stack.enter_context(counted(monkeypatch, name, counts))
        net = fit(optimizer, BESIDE[beside], **options)
    n_steps = net.n_iter_ * 3
    hand_written_sgd = optimizer == "sgd" and beside == "alone"
    # its first step is the optimizer's own, which makes the state
    assert counts == [kernel] * (n_steps if hand_written_sgd else n_steps - 1)


def test_with_groups_each_has_one_call(monkeypatch):
    counts = []
    with counted(monkeypatch, "fused_adamw", counts):
        net = fit(optimizer__param_groups={"*bias": {"lr": 0.02}})
    assert len(counts) == 2 * (net.n_iter_ * 3 - 1)


# ------------------------------------------------- gradients that lie otherwise in memory


def turned(ctx):
    for parameter in ctx.module.parameters():
        if parameter.ndim == 2:
            parameter.grad = parameter.grad.t().contiguous().t()
            assert parameter.grad.stride() != parameter.stride()


class ColumnsFirst(nn.Linear):
    """A layer whose weight lies in memory column by column."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs)
        self.weight = nn.Parameter(self.weight.detach().t().contiguous().t())


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_gradients_with_other_strides_than_their_parameters(optimizer):
    params = {"module": chain(), "optimizer": optimizer}
    callbacks = [at(on_after_backward=turned)]
    compare(NeuralNetClassifier, {**params, "callbacks": callbacks}, *classes(), path="direct")


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_parameters_with_other_strides(optimizer):
    params = {"module": ColumnsFirst, "optimizer": optimizer}
    compare(NeuralNetClassifier, params, *classes(), path="direct")


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_gradients_written_by_hand_lie_as_the_parameters(monkeypatch, optimizer):
    """The trap: a kernel that gets others trains wrongly without an error."""
    name = f"fused_{optimizer}"
    kernel, seen = getattr(kernels, name), []

    def looking(parameters, gradients, *args, **options):
        seen.extend(zip(parameters, gradients, strict=True))
        assert all(p.stride() == g.stride() for p, g in seen)
        assert all(p.shape == g.shape and p.dtype is g.dtype for p, g in seen)
        return kernel(parameters, gradients, *args, **options)

    monkeypatch.setattr(kernels, name, looking)
    assert fit(optimizer).model_.path_ == "hand-written"
    assert seen


UNKNOWN = {
    "_STEP_HOOKS": ("general", "general"),
    "_GLOBAL_STEP_HOOKS": ("general", "general"),
    "_PROFILED": ("general", "general"),
    "_MODULE_HOOKS": ("direct", "direct"),
    "_PARAMETER_HOOKS": ("direct", "direct"),
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("names", UNKNOWN)
def test_what_torch_keeps_elsewhere_may_be_there(monkeypatch, names, beside):
    expected = bits(fit(callbacks=BESIDE[beside], cls=GENERAL[NeuralNetClassifier]))
    elsewhere = "_of_another_version"
    monkeypatch.setattr(kernels, names, elsewhere if names == "_PROFILED" else (elsewhere,))
    net = fit(callbacks=BESIDE[beside])
    assert bits(net) == expected
    assert net.model_.path_ == UNKNOWN[names][list(BESIDE).index(beside)]
