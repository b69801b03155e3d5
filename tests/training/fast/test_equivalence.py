"""Whatever way a fit goes, it leaves the same bits."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from training.fast.drawn import COMMON, OF_ADAM, OF_SGD, STAGES, chains, fits
from training.fast.ways import (
    GENERAL,
    GENERATED,
    PARAMS,
    at,
    bits,
    chain,
    classes,
    compare,
    layers,
    nothing,
    numbers,
    of_one,
)

from skorchlike import Callback, NeuralNetClassifier, NeuralNetRegressor
from skorchlike.criteria import CRITERIA

# ------------------------------------------------------------------ random configurations


@settings(GENERATED, max_examples=80)
@given(fits())
def test_any_fit_leaves_the_bits_of_the_general_way(drawn):
    cls, params, X, y, fit = drawn
    net = compare(cls, params, X, y, fails=None, **fit)
    event(str(net)[:60] if isinstance(net, Exception) else net.model_.path_)


@settings(GENERATED, max_examples=150)
@given(chains())
def test_any_hand_written_fit_leaves_the_bits_of_the_general_way(drawn):
    cls, params, X, y, fit = drawn
    compare(cls, params, X, y, path="hand-written", **fit)


@pytest.mark.parametrize("stages", [{}, {"on_batch_end": nothing}], ids=["alone", "in batch"])
@pytest.mark.parametrize("common", COMMON[1:], ids=str)
@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        *(("adamw", options) for options in OF_ADAM),
        ("adam", {}),
        ("adam", {"decoupled_weight_decay": True}),
        *(("sgd", options) for options in OF_SGD[1:]),
    ],
    ids=str,
)
def test_options_of_optimizers(optimizer, options, common, stages):
    said = {f"optimizer__{name}": value for name, value in {**common, **options}.items()}
    params = {"module": chain(), "optimizer": optimizer, "callbacks": [at(**stages)], **said}
    compare(NeuralNetClassifier, params, *classes())


@pytest.mark.parametrize("stage", STAGES)
def test_a_passive_callback_in_the_batch_changes_no_bit(stage):
    alone = NeuralNetClassifier(chain(), **PARAMS).fit(*classes())
    watched = compare(
        NeuralNetClassifier,
        {"module": chain(), "callbacks": [at(passive=True, **{stage: nothing})]},
        *classes(),
        path="hand-written" if stage == "on_batch_exit" else "direct",
    )
    assert alone.model_.path_ == "hand-written"
    assert bits(alone) == bits(watched)


OF_TORCH = ["cross_entropy", "bce_with_logits", "multi_margin", "mse", "l1", "smooth_l1", "huber"]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("criterion", sorted({*OF_TORCH, *CRITERIA}))
def test_criteria_by_name(criterion, weighted):
    """Whatever a criterion's gradient is like, the layers get the one that autograd gives."""
    ways, (X, y) = set(), numbers(30)
    for cls, data in [
        (NeuralNetClassifier, classes(30)),
        (NeuralNetClassifier, classes(30, n_classes=2)),
        (NeuralNetRegressor, (X, np.abs(y))),
    ]:
        fit = {"sample_weight": np.linspace(0.1, 2, 30)} if weighted else {}
        for n_outputs in (1, 2, 3, 9):
            params = {"module": layers(4, 7, nn.Tanh(), n_outputs), "criterion": criterion}
            net = compare(cls, params, *data, fails=None, **fit)
            ways.add("failed" if isinstance(net, Exception) else net.model_.path_)
    assert "hand-written" in ways


# ------------------------------------------------------------- a loop written by hand


def plain_loop(module, X, y, make_optimizer, loss_of, size, n_epochs):
    """Train in the order of the rows as one writes it; return what is left, and gradients."""
    module = copy.deepcopy(module)
    optimizer = make_optimizer(module.parameters())
    X, y, curve, gradients = torch.from_numpy(X), torch.from_numpy(y), [], []
    for _ in range(n_epochs):
        total = 0.0
        for start in range(0, len(X), size):
            loss = loss_of(module(X[start : start + size]), y[start : start + size])
            loss.backward()
            gradients += [of_one(p.grad) for p in module.parameters()]
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item() * len(X[start : start + size])
        curve.append(total / len(X))
    return module, optimizer, curve, gradients


class KeepGradients(Callback):
    """Keep what `ctx.module` has for gradients after each backward."""

    passive = True
    found: list

    def on_begin(self, ctx):
        self.found = []

    def on_after_backward(self, ctx):
        self.found += [of_one(p.grad) for p in ctx.module.parameters()]

    def state_dict(self):
        return {"found": [repr(gradient) for gradient in self.found]}

    def load_state_dict(self, state):
        raise NotImplementedError


MAKERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.02, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.02, fused=True),
}


def assert_as_by_hand(net, module, optimizer, curve):
    got, expected = net.model_.module_.state_dict(), module.state_dict()
    assert {k: of_one(v) for k, v in got.items()} == {k: of_one(v) for k, v in expected.items()}
    got, expected = net.model_.optimizer_["state"], optimizer.state_dict()["state"]
    assert got.keys() == expected.keys()
    for i, state in got.items():
        assert {k: of_one(v) for k, v in state.items()} == {
            k: of_one(v) for k, v in expected[i].items()
        }
    assert list(map(float.hex, net.loss_curve_)) == list(map(float.hex, curve))


@settings(GENERATED, max_examples=40)
@given(
    regression=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    optimizer=st.sampled_from(sorted(MAKERS)),
    activation=st.sampled_from([nn.ReLU, nn.Tanh, nn.GELU, nn.Mish]),
    size=st.sampled_from([1, 4, 9, 50]),
    seed=st.integers(0, 50),
)
def test_every_way_is_the_plain_loop(regression, dtype, optimizer, activation, size, seed):
    make = numbers if regression else classes
    X, y = make(19, 4, 3, dtype, seed)
    module = layers(4, 7, activation(), 5, activation(), 3, dtype=getattr(torch, dtype))
    loss_of = functional.mse_loss if regression else functional.cross_entropy
    expected = plain_loop(module, X, y, MAKERS[optimizer], loss_of, size, 3)
    *left, gradients = expected
    params = {**PARAMS, "batch_size": size, "shuffle": False, "lr": 0.02, "optimizer": optimizer}
    cls = NeuralNetRegressor if regression else NeuralNetClassifier
    ways = []
    for way, callbacks in [(cls, []), (cls, [KeepGradients()]), (GENERAL[cls], [KeepGradients()])]:
        net = way(module, callbacks=callbacks, **params).fit(X, y)
        assert_as_by_hand(net, *left)
        ways.append(net.model_.path_)
        for state in net.model_.callbacks_.values():
            assert state["found"] == list(map(repr, gradients))
    assert ways == ["hand-written", "direct", "general"]


# ------------------------------------------------------------------- continued fits


@pytest.mark.parametrize("stages", [{}, {"on_batch_end": nothing}], ids=["alone", "in batch"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_fits_that_continue_one_another(optimizer, stages):
    X, y = classes()
    nets = []
    for cls in (NeuralNetClassifier, GENERAL[NeuralNetClassifier]):
        params = {**PARAMS, "optimizer": optimizer, "callbacks": [at(**stages)]}
        net = cls(chain(), warm_start=True, **params).fit(X, y)
        net.partial_fit(X, y).set_params(lr=0.05).fit(X, y)
        assert net.n_iter_ == 7
        nets.append(net)
    fast, general = nets
    assert bits(fast) == bits(general)
    assert fast.model_.path_ == ("direct" if stages else "hand-written")


def test_a_fit_goes_on_where_another_way_left_it():
    X, y = classes()
    whole = NeuralNetClassifier(chain(), **PARAMS, shuffle=False).fit(X, y)
    net = NeuralNetClassifier(chain(), **PARAMS, shuffle=False)
    ways = []
    for callbacks in ([], [at(on_batch_end=nothing)], [at(do_step=own_step)]):
        net.set_params(callbacks=callbacks).partial_fit(X, y)
        ways.append(net.model_.path_)
    assert ways == ["hand-written", "direct", "general"]
    got, expected = bits(net), bits(whole)
    assert {k: v for k, v in got.items() if k.startswith(("module", "state"))} == {
        k: v for k, v in expected.items() if k.startswith(("module", "state"))
    }


def own_step(ctx):
    ctx.estimator.do_step(ctx)
