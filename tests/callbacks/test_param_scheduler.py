"""Options of the optimizer and attributes of submodules by a schedule."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from doubles import make_data, make_net
from torch import nn

from skorchlike import Callback, GradientAccumulation, ParamScheduler, explain

X, Y = make_data()  # two batches an epoch
N_STEPS = 2 * 4


class Watch(Callback):
    """Keep what holds while a batch is trained."""

    order = 40

    def __init__(self, seen):
        self.seen = seen

    def __sklearn_clone__(self):
        return self

    def on_after_predict(self, ctx):
        rates = [part.p for part in ctx.module.modules() if isinstance(part, nn.Dropout)]
        options = [(group["lr"], group.get("weight_decay")) for group in ctx.optimizer.param_groups]
        self.seen.append({"options": options, "rates": rates})


class Net(nn.Sequential):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(
            nn.Dropout(0.4), nn.Linear(n_features_in, 8), nn.Dropout(0.2), nn.Linear(8, n_outputs)
        )


def fit(*schedules, **params):
    seen = []
    callbacks = {f"schedule{i}": schedule for i, schedule in enumerate(schedules)}
    callbacks["watch"] = Watch(seen)
    net = make_net(callbacks=callbacks, **{"max_epochs": 4, "optimizer": "adamw", **params})
    return net.fit(X, Y), seen


def by_hand(shape, t):
    """Return the factor as the paper and torch's documentation write it."""
    if shape == "linear":
        return 1 - t
    if shape == "cosine":
        return (1 + math.cos(math.pi * t)) / 2
    if shape == "flat_cos":
        return (1 + math.cos(math.pi * (2 * max(t, 0.5) - 1))) / 2
    return (1 - math.cos(2 * math.pi * math.log(1 + (2**4 - 1) * t, 2))) / 2


@pytest.mark.parametrize("shape", ["linear", "cosine", "flat_cos", "coslog4"])
def test_a_shape_is_a_factor_of_the_value_by_the_share_of_steps_taken(shape):
    _, seen = fit(ParamScheduler("lr", shape), lr=0.1)
    expected = [0.1 * by_hand(shape, step / N_STEPS) for step in range(N_STEPS)]
    np.testing.assert_allclose([s["options"][0][0] for s in seen], expected, atol=1e-12)


def test_coslog4_has_four_waves_each_twice_as_long_as_the_one_before():
    t = np.linspace(0, 1, 15_001)
    factors = np.array([by_hand("coslog4", value) for value in t])
    rises = np.flatnonzero((factors[1:-1] < factors[:-2]) & (factors[1:-1] < factors[2:])) + 1
    np.testing.assert_allclose(t[rises], [1 / 15, 3 / 15, 7 / 15], atol=1e-3)


def test_a_function_gives_the_factor():
    _, seen = fit(ParamScheduler("lr", lambda t: 1 + t), lr=0.1)
    expected = [0.1 * (1 + step / N_STEPS) for step in range(N_STEPS)]
    np.testing.assert_allclose([s["options"][0][0] for s in seen], expected)


def test_by_epochs_it_changes_between_epochs_alone():
    net, seen = fit(ParamScheduler("lr", "linear", unit="epoch"), lr=0.1)
    np.testing.assert_allclose(net.history_["lr"], [0.1, 0.075, 0.05, 0.025])
    np.testing.assert_allclose([s["options"][0][0] for s in seen[::2]], net.history_["lr"])


def test_every_group_keeps_its_own_part():
    groups = {"bias": {"lr": 0.01, "weight_decay": 0.0}}
    _, seen = fit(
        ParamScheduler("lr", "linear"),
        ParamScheduler("weight_decay", "linear"),
        lr=0.1,
        optimizer__weight_decay=0.5,
        optimizer__param_groups=groups,
    )
    for step, now in enumerate(seen):
        left = 1 - step / N_STEPS
        np.testing.assert_allclose(now["options"], [(0.01 * left, 0.0), (0.1 * left, 0.5 * left)])


def test_with_a_dot_it_is_an_attribute_of_submodules():
    _, seen = fit(ParamScheduler("*.p", "linear"), module=Net)
    for step, now in enumerate(seen):
        left = 1 - step / N_STEPS
        np.testing.assert_allclose(now["rates"], [0.4 * left, 0.2 * left])


def test_a_glob_chooses_among_submodules():
    _, seen = fit(ParamScheduler("0.p", "linear"), module=Net)
    assert {now["rates"][1] for now in seen} == {0.2}
    assert len({now["rates"][0] for now in seen}) == N_STEPS


def test_an_attribute_has_its_own_value_again_when_the_fit_ends():
    net, _ = fit(ParamScheduler("*.p", "linear"), module=Net)
    assert [net.model_.module_[i].p for i in (0, 2)] == [0.4, 0.2]


def test_also_when_the_fit_fails():
    class Fail(Callback):
        def on_after_train(self, ctx):
            modules.append(ctx.module)
            raise RuntimeError("no")

    modules = []
    net = make_net(module=Net, callbacks=[ParamScheduler("*.p", "linear"), Fail()])
    with pytest.raises(RuntimeError, match="no"):
        net.fit(X, Y)
    assert [modules[0][i].p for i in (0, 2)] == [0.4, 0.2]


def test_the_same_weights_as_a_hand_written_loop():
    module = nn.Linear(X.shape[1], 2)
    net, _ = fit(
        ParamScheduler("lr", "coslog4"),
        optimizer="sgd",
        module=module,
        lr=0.1,
        shuffle=False,
    )
    inputs = torch.as_tensor(X, dtype=torch.float32)
    labels = torch.as_tensor(Y)
    for step in range(N_STEPS):
        rows = slice(4 * (step % 2), 4 * (step % 2) + 4)
        loss = nn.functional.cross_entropy(module(inputs[rows]), labels[rows])
        module.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in module.parameters():
                p -= 0.1 * by_hand("coslog4", step / N_STEPS) * p.grad
    for ours, theirs in zip(net.model_.module_.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_accumulated_batches_are_one_step():
    _, seen = fit(ParamScheduler("lr", "linear"), GradientAccumulation(2), lr=0.1)
    lrs = [now["options"][0][0] for now in seen]
    np.testing.assert_allclose(lrs, np.repeat([0.1, 0.075, 0.05, 0.025], 2))


def test_a_learning_rate_that_is_a_tensor_is_set_in_place():
    lr = torch.tensor(0.1)
    net, seen = fit(ParamScheduler("lr", "linear"), optimizer__lr=lr)
    assert isinstance(net.model_.optimizer_["param_groups"][0]["lr"], torch.Tensor)
    assert lr == torch.tensor(0.1)
    assert len(seen) == N_STEPS


def test_further_epochs_begin_a_new_schedule_from_the_first_values():
    net, seen = fit(ParamScheduler("lr", "linear"), lr=0.1, warm_start=True)
    pickle.loads(pickle.dumps(net)).fit(X, Y)
    del seen[:]
    net.fit(X, Y)
    expected = [0.1 * (1 - step / N_STEPS) for step in range(N_STEPS)]
    np.testing.assert_allclose([s["options"][0][0] for s in seen], expected)


def test_a_learning_rate_said_in_between_is_the_new_base():
    net, seen = fit(ParamScheduler("lr", "linear"), lr=0.1, warm_start=True)
    del seen[:]
    net.set_params(lr=0.4).fit(X, Y)
    assert seen[0]["options"][0][0] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("weight_deca", "Did you mean 'weight_decay'"),
        ("betas", "an option of the optimizer that is a number"),
        ("*.q", "has a number 'q'"),
        ("hidden*.p", "'hidden\\*'"),
    ],
)
def test_what_is_no_number_is_an_error_before_training(param, message):
    net = make_net(module=Net, optimizer="adamw", callbacks=[ParamScheduler(param)])
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)


def test_two_of_one_number_are_seen_by_explain():
    net = make_net(callbacks={"a": ParamScheduler("lr"), "b": ParamScheduler("lr", "linear")})
    assert "'b' schedules 'lr' too" in str(explain(net))
