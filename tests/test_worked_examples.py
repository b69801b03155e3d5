"""The worked examples of replaced actions, against loops written by hand."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles import Linear, Log, make_data
from torch import nn
from torch.nn.functional import cross_entropy, softplus

from skorchlike import Callback, NeuralNetClassifier

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"
X, Y = make_data(n=22, n_features=3, n_classes=2)
TENSORS = torch.from_numpy(X), torch.from_numpy(Y)


def load(name):
    """Import an example, which is in no package."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Look(Callback):
    """Keep a copy of the module as the fit begins, and the inputs of every batch."""

    order = 1

    def __init__(self, starts, inputs=None):
        self.starts = starts
        self.inputs = inputs

    def on_begin(self, ctx):
        self.starts.append(copy.deepcopy(ctx.module))

    def on_batch_begin(self, ctx):
        if self.inputs is not None:
            self.inputs.append(ctx.X.clone())


class Net(nn.Sequential):
    """Two layers in double precision: a loss that is not quadratic."""

    def __init__(self, n_features_in, n_outputs):
        layers = nn.Linear(n_features_in, 5), nn.Tanh(), nn.Linear(5, n_outputs)
        super().__init__(*layers)
        self.double()


def fit(cls=NeuralNetClassifier, module=Net, callbacks=(), **params):
    """Fit in the order of the data; return the estimator and the module it began with."""
    starts = Log()
    fixed = {"optimizer": "sgd", "lr": 0.1, "batch_size": 8, "max_epochs": 4, "shuffle": False}
    net = cls(
        module=module,
        callbacks=[*callbacks, Look(starts)],
        random_state=0,
        **{**fixed, **params},
    )
    return net.fit(X, Y), starts[0]


def batches(n_epochs=4, size=8):
    for _ in range(n_epochs):
        yield from zip(*(tensor.split(size) for tensor in TENSORS), strict=True)


def assert_same(net, module):
    pairs = zip(net.model_.module_.parameters(), module.parameters(), strict=True)
    for got, expected in pairs:
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


# ------------------------------------------------------------------------ momentum


def test_momentum_in_the_step_is_that_of_torch():
    example = load("custom_actions")
    net, module = fit(example.HandMadeMomentum, momentum=0.8)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.8)
    for inputs, labels in batches():
        cross_entropy(module(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert_same(net, module)
    assert net.get_params()["momentum"] == 0.8


def test_the_momentum_goes_on_when_the_fit_does():
    cls = load("custom_actions").HandMadeMomentum
    whole, _ = fit(cls, max_epochs=4)
    halves, _ = fit(cls, max_epochs=2, warm_start=True)
    assert_same(halves.fit(X, Y), whole.model_.module_)


def test_a_frozen_parameter_has_no_momentum():
    class Half(Net):
        def __init__(self, n_features_in, n_outputs):
            super().__init__(n_features_in, n_outputs)
            self[0].requires_grad_(False)

    net, start = fit(load("custom_actions").HandMadeMomentum, Half)
    weights = net.model_.module_[0].weight
    assert torch.equal(weights, start[0].weight)
    assert not torch.equal(net.model_.module_[2].weight, start[2].weight)


def test_momentum_in_the_gradients_is_that_of_torch_too():
    net, module = fit(load("custom_actions").MomentumLearner, momentum=0.8)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.8)
    for inputs, labels in batches():
        cross_entropy(module(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert_same(net, module)


# ------------------------------------------------------------------------- L-BFGS

LBFGS = {"lr": 0.7, "max_iter": 4, "line_search_fn": "strong_wolfe"}


def by_lbfgs(module, size):
    """Train by torch's L-BFGS, as its documentation says; return how often it evaluated."""
    optimizer = torch.optim.LBFGS(module.parameters(), **LBFGS)
    n_evaluations = []
    for _ in range(4):
        n_evaluations.append(0)
        for inputs, labels in batches(1, size):

            def closure():
                optimizer.zero_grad()
                loss = cross_entropy(module(inputs), labels)
                loss.backward()
                n_evaluations[-1] += 1
                return loss

            optimizer.step(closure)
    return n_evaluations


@pytest.mark.parametrize("size", [22, 8])
def test_lbfgs_is_torchs_with_a_closure_by_hand(size):
    options = {f"optimizer__{name}": value for name, value in LBFGS.items()}
    callbacks = [load("lbfgs").LBFGSStep()]
    net, module = fit(callbacks=callbacks, optimizer="lbfgs", batch_size=size, **options)
    n_evaluations = by_lbfgs(module, size)
    assert_same(net, module)
    assert net.history_["n_evaluations"].tolist() == n_evaluations
    assert max(n_evaluations) > 4


def test_lbfgs_records_the_loss_before_each_step():
    options = {f"optimizer__{name}": value for name, value in LBFGS.items()}
    losses = Log()

    class Watch(Callback):
        def on_batch_end(self, ctx):
            losses.append((ctx.loss.item(), ctx.last_loss))

    callbacks = [load("lbfgs").LBFGSStep(), Watch()]
    net, module = fit(callbacks=callbacks, optimizer="lbfgs", batch_size=-1, **options)
    before = cross_entropy(module(TENSORS[0]), TENSORS[1]).item()
    assert losses[0] == (pytest.approx(before), pytest.approx(before))
    assert net.loss_curve_ == [loss for loss, _ in losses]


def test_lbfgs_evaluates_a_replaced_loss():
    class Doubled(NeuralNetClassifier):
        def do_get_loss(self, ctx):
            super().do_get_loss(ctx)
            ctx.loss = ctx.loss + 0.1 * sum(p.square().sum() for p in ctx.module.parameters())

    example = load("lbfgs")
    net, _ = fit(Doubled, Linear, [example.LBFGSStep()], optimizer="lbfgs", lr=1, batch_size=-1)
    # at the minimum of what was replaced, by scipy
    from scipy.optimize import minimize

    def objective(flat):
        weight, bias = torch.tensor(flat[:6]).view(2, 3), torch.tensor(flat[6:])
        loss = cross_entropy(TENSORS[0] @ weight.T + bias, TENSORS[1])
        return float(loss + 0.1 * (weight.square().sum() + bias.square().sum()))

    best = minimize(objective, np.zeros(8), tol=1e-12).fun
    assert net.loss_curve_[-1] == pytest.approx(best, abs=1e-8)


# ---------------------------------------------------------------------------- SAM


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sam_is_its_two_steps_by_hand(momentum):
    rho = 0.3
    callbacks = [load("sam").SAM(rho)]
    net, module = fit(callbacks=callbacks, optimizer__momentum=momentum)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=momentum)
    for inputs, labels in batches():
        weights = [p.detach().clone() for p in module.parameters()]
        gradients = torch.autograd.grad(
            cross_entropy(module(inputs), labels), tuple(module.parameters())
        )
        norm = sum(float((g**2).sum()) for g in gradients) ** 0.5
        with torch.no_grad():
            for parameter, gradient in zip(module.parameters(), gradients, strict=True):
                parameter += rho * gradient / norm
        cross_entropy(module(inputs), labels).backward()
        with torch.no_grad():
            for parameter, weight in zip(module.parameters(), weights, strict=True):
                parameter.copy_(weight)
        optimizer.step()
        optimizer.zero_grad()
    assert_same(net, module)


def test_sam_with_no_radius_is_the_optimizer_alone():
    plain, _ = fit()
    sam, _ = fit(callbacks=[load("sam").SAM(0.0)])
    assert_same(sam, plain.model_.module_)


def test_sam_goes_back_when_its_second_pass_fails():
    weights = Log()

    class Fails(NeuralNetClassifier):
        def do_predict(self, ctx):
            super().do_predict(ctx)
            weights.append([p.detach().clone() for p in ctx.module.parameters()])
            if len(weights) == 2:
                weights.append(ctx.module)
                raise OSError("out of memory")

    with pytest.raises(OSError, match="out of memory"):
        fit(Fails, callbacks=[load("sam").SAM(0.3)])
    before, climbed, module = weights
    assert not torch.equal(before[0], climbed[0])
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


# ---------------------------------------------------------------------------- GAN


def fit_gan(starts=None, inputs=None, **params):
    example = load("gan")
    looks = {} if starts is None else {"look": Look(starts, inputs)}
    points = example.true_points(40)
    noise = np.zeros((40, 3), dtype="float32")  # only says how much of it is wanted
    net = example.make_net(dtype="float64", batch_size=16, max_epochs=2, shuffle=False, **params)
    return net.fit(noise, points, callbacks=looks), torch.from_numpy(points).double()


def test_both_optimizers_of_the_gan_take_the_turns_of_a_loop_by_hand():
    starts, noises = Log(), Log()
    net, points = fit_gan(starts, noises)
    module = starts[0]
    options = {"lr": 1e-3, "betas": (0.5, 0.99)}
    of_generator = torch.optim.Adam(module.generator.parameters(), **options)
    of_discriminator = torch.optim.Adam(module.discriminator.parameters(), **options)
    losses = []
    for noise, real in zip(noises, [*points.split(16)] * 2, strict=True):
        made = module.generator(noise).detach()
        of_true, of_made = module.discriminator(real), module.discriminator(made)
        loss = softplus(-of_true).mean() + softplus(of_made).mean()
        of_discriminator.zero_grad()
        loss.backward()
        of_discriminator.step()
        losses.append(loss.item())
        of_generator.zero_grad()
        softplus(-module.discriminator(module.generator(noise))).mean().backward()
        of_generator.step()
    assert_same(net, module)
    columns = net.history_["discriminator_loss"]
    assert columns.tolist() == pytest.approx([np.mean(losses[:3]), np.mean(losses[3:])])
    assert len({tuple(noise.flatten().tolist()) for noise in noises}) == 6


def test_a_gan_goes_on_with_both_optimizers():
    whole, _ = fit_gan()
    halves, points = fit_gan(warm_start=True)
    halves.fit(np.zeros((40, 3), dtype="float32"), points.numpy())
    starts = Log()
    longer, _ = fit_gan(starts)
    assert_same(longer, whole.model_.module_)
    state = halves.model_.callbacks_.turns["state"]
    assert {entry["step"].item() for entry in state.values()} == {12}


def test_predict_of_a_gan_makes_points():
    net, _ = fit_gan()
    noise = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    made = net.predict(noise)
    assert made.shape == (5, 2)
    expected = net.model_.module_.generator(torch.from_numpy(noise).double()).detach().numpy()
    np.testing.assert_allclose(made, expected)


def test_the_distance_of_two_clouds_is_the_energy_distance_of_scipy():
    from scipy.stats import energy_distance

    rng = np.random.default_rng(0)
    one, other = rng.normal(size=50), rng.normal(1, 2, size=60)
    # scipy's is its root, in one dimension
    got = load("gan").distance(one[:, None], other[:, None])
    assert got == pytest.approx(energy_distance(one, other) ** 2)
