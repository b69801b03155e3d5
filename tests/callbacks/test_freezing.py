"""Freezing and its schedules, against loops by hand with the same schedule."""

from __future__ import annotations

import fnmatch
import pickle
import warnings

import numpy as np
import pytest
import torch
from doubles import Log, make_data, same_weights, weights_of
from sklearn.model_selection import GridSearchCV
from torch import nn

from skorchlike import (
    Callback,
    CancelFitException,
    Freeze,
    GradientAccumulation,
    NeuralNetClassifier,
    Unfreeze,
)
from skorchlike.callbacks.base import Setup

X, Y = make_data(24, n_features=4, n_classes=3)
NAMES = ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias", "criterion.scale"]


class Scaled(nn.Module):
    """A criterion with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5).double())

    def forward(self, y_pred, y):
        return nn.functional.cross_entropy(self.scale * y_pred, y)


def make_module(frozen=()):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3)
        ).double()
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    return module


OPTIMIZERS = {
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
    "adamw": {"lr": 0.01, "weight_decay": 0.1},
    "rmsprop": {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1},
}


def net(*callbacks, module=None, optimizer="sgd", **params):
    options = {f"optimizer__{name}": value for name, value in OPTIMIZERS[optimizer].items()}
    fixed = {"criterion": Scaled, "optimizer": optimizer, "optimizer__fused": False, **options}
    if optimizer == "rmsprop":
        del fixed["optimizer__fused"]
    fixed.update(batch_size=8, shuffle=False, max_epochs=4, random_state=0, callbacks=[*callbacks])
    return NeuralNetClassifier(module or make_module(), **{**fixed, **params})


def all_parameters(fitted):
    criterion = fitted.model_.criterion_.named_parameters()
    named = [*fitted.model_.module_.named_parameters()]
    return dict([*named, *((f"criterion.{name}", p) for name, p in criterion)])


def by_hand(trained, optimizer="sgd", n_epochs=4, module=None):
    """Train what `trained(epoch, batch)` names; the rest is detached and has no gradient."""
    module, criterion = module or make_module(), Scaled()
    named = dict(module.named_parameters())
    named["criterion.scale"] = criterion.scale
    cls = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    opt = cls[optimizer](named.values(), **OPTIMIZERS[optimizer])
    rows, labels = torch.from_numpy(X), torch.from_numpy(Y)
    batch = 0
    for epoch in range(1, n_epochs + 1):
        for part in torch.arange(24).split(8):
            batch += 1
            now = {n: p if n in trained(epoch, batch) else p.detach() for n, p in named.items()}
            scale = now.pop("criterion.scale")
            output = torch.func.functional_call(module, now, rows[part])
            opt.zero_grad()
            nn.functional.cross_entropy(scale * output, labels[part]).backward()
            opt.step()
    return named


def matched(*globs):
    return {name for name in NAMES if any(fnmatch.fnmatch(name, glob) for glob in globs)}


def assert_same(fitted, expected):
    got = all_parameters(fitted)
    assert got.keys() == expected.keys()
    for name, parameter in expected.items():
        torch.testing.assert_close(got[name], parameter, rtol=1e-12, atol=1e-12, msg=name)


# ------------------------------------------------------------------------------- Freeze

SELECTIONS = [
    ("0.*", ["0.*"]),
    (["*.bias", "0.weight"], ["*.bias", "0.weight"]),
    ({"2.weight"}, ["2.weight"]),
    ("criterion.*", ["criterion.*"]),
    (lambda name: name.startswith(("0", "4")), ["0.*", "4.*"]),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("patterns", "globs"), SELECTIONS, ids=str)
def test_frozen_parameters_do_not_move_and_the_others_train_as_by_hand(patterns, globs, optimizer):
    fitted = net(Freeze(patterns), optimizer=optimizer).fit(X, Y)
    frozen = matched(*globs)
    assert_same(fitted, by_hand(lambda epoch, batch: set(NAMES) - frozen, optimizer))
    before = {**dict(make_module().named_parameters()), "criterion.scale": Scaled().scale}
    for name, parameter in all_parameters(fitted).items():
        assert torch.equal(parameter, before[name]) == (name in frozen)
        assert parameter.requires_grad


def test_a_built_in_modules_parameters_have_names_too():
    fitted = NeuralNetClassifier(callbacks=[Freeze("*.bias")], random_state=0, max_epochs=3)
    fitted.fit(X, Y)
    free = NeuralNetClassifier(random_state=0, max_epochs=1, lr=1e-30).fit(X, Y)
    start = dict(free.model_.module_.named_parameters())
    for name, parameter in fitted.model_.module_.named_parameters():
        same = torch.allclose(parameter, start[name], rtol=0, atol=1e-20)
        assert same == name.endswith("bias")


def test_what_was_frozen_before_the_fit_is_so_afterwards():
    module = make_module(frozen=["0.weight", "2.bias"])
    fitted = net(Freeze(["0.*", "4.bias"]), module=module).fit(X, Y)
    frozen = {n for n, p in fitted.model_.module_.named_parameters() if not p.requires_grad}
    assert frozen == {"0.weight", "2.bias"}


def test_the_users_own_module_is_not_touched():
    module = make_module()
    net(Freeze("0.*"), module=module).fit(X, Y)
    assert all(p.requires_grad for p in module.parameters())


class Act(Callback):
    """Raise at a stage, after noting what is trainable."""

    def __init__(self, error=None, epoch=2, early=False):
        self.error = error
        self.epoch = epoch
        self.early = early

    @property
    def order(self):
        return -1000 if self.early else 1000

    def on_begin(self, ctx):
        if self.early and self.error:
            raise self.error

    def on_epoch_begin(self, ctx):
        if self.error and ctx.epoch == self.epoch:
            raise self.error


@pytest.mark.parametrize("error", [CancelFitException, KeyboardInterrupt])
@pytest.mark.parametrize("callback", [Freeze("0.*"), Unfreeze("4.*", {3: "*"})])
def test_requires_grad_is_put_back_however_the_fit_ends(callback, error):
    fitted = net(callback, Act(error), module=make_module(frozen=["2.bias"]))
    try:
        fitted.fit(X, Y)
    except KeyboardInterrupt:
        assert error is KeyboardInterrupt
    frozen = {n for n, p in all_parameters(fitted).items() if not p.requires_grad}
    assert frozen == {"2.bias"}
    assert fitted.n_iter_ == 2


@pytest.mark.parametrize("callback", [Freeze("0.*"), Unfreeze("4.*", {3: "*"})])
@pytest.mark.parametrize("error", [ZeroDivisionError, CancelFitException])
def test_it_leaves_orderly_when_another_ends_the_fit_in_on_begin(callback, error):
    fitted = net(callback, Act(error, early=True))
    try:
        fitted.fit(X, Y)
    except ZeroDivisionError as caught:
        assert not any("failed too" in note for note in caught.__notes__)  # noqa: PT017
    assert hasattr(fitted, "model_") == (error is CancelFitException)


def test_gradients_left_from_before_do_not_move_frozen_parameters():
    def used_before():
        module = make_module()
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        return module

    fitted = net(Freeze("0.*"), module=used_before).fit(X, Y)
    assert torch.equal(fitted.model_.module_[0].weight, make_module()[0].weight)


def test_a_pattern_that_matches_nothing_warns_with_the_names():
    with pytest.warns(UserWarning, match=r"Freeze \('hidden.*'\) matches no parameter.*0\.weight"):
        fitted = net(Freeze("hidden*")).fit(X, Y)
    plain = net().fit(X, Y)
    assert same_weights(weights_of(fitted.model_.module_), weights_of(plain.model_.module_))


def refused(message, *callbacks, **params):
    seen = Log()

    class Count(Callback):
        def on_epoch_begin(self, ctx):
            seen.append(1)

    with pytest.raises(ValueError, match=message):
        net(*callbacks, Count(), **params).fit(X, Y)
    assert seen == []


def test_to_freeze_everything_is_an_error_before_training():
    refused("leaves nothing to train.*0.weight", Freeze("*"))
    partly = {"module": make_module(["0.weight", "0.bias"]), "criterion": "cross_entropy"}
    refused("leaves nothing to train", Freeze("[24].*"), **partly)
    # the criterion alone may be trained
    fitted = net(Freeze("[024].*")).fit(X, Y)
    assert_same(fitted, by_hand(lambda epoch, batch: {"criterion.scale"}))


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (None, "`patterns` parameter of Freeze must be a glob.*Got None"),
        (3, "`patterns` parameter of Freeze.*Got 3"),
        (["0.*", 1], r"`patterns` parameter of Freeze.*Got \['0"),
    ],
)
def test_what_is_no_pattern_is_an_error_before_training(patterns, message):
    refused(message, Freeze(patterns))


# ----------------------------------------------------------------------------- Unfreeze


def schedule_by_hand(starting, schedule, unit="epoch"):
    def trained(epoch, batch):
        now = epoch if unit == "epoch" else batch
        names = set(starting)
        for key, globs in schedule.items():
            if key <= now:
                names |= matched(*globs)
        return names

    return trained


SCHEDULES = [
    (["4.*"], {2: ["2.*"], 4: ["*"]}),
    (["4.*", "criterion.*"], {3: ["0.weight"]}),
    (["4.*"], {1: ["0.*"]}),
    (["4.*"], {4: ["0.*"], 2: ["2.bias"]}),
    (["4.*"], {100: ["*"]}),
    (["4.*"], {}),
    ([], {1: ["criterion.*"], 3: ["*"]}),
]


@pytest.mark.parametrize("unit", ["epoch", "batch"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("starting", "schedule"), SCHEDULES, ids=str)
def test_a_schedule_trains_as_by_hand(starting, schedule, unit, optimizer):
    if unit == "batch":
        schedule = {key + 3 * (key > 1): globs for key, globs in schedule.items()}
    fitted = net(Unfreeze(starting, schedule, unit), optimizer=optimizer).fit(X, Y)
    trained = schedule_by_hand(matched(*starting), schedule, unit)
    assert_same(fitted, by_hand(trained, optimizer))
    assert all(p.requires_grad for p in all_parameters(fitted).values())


def test_without_starting_what_the_schedule_names_is_frozen_until_then():
    fitted = net(Unfreeze(schedule={2: "0.*", 3: lambda name: name == "2.bias"})).fit(X, Y)
    rest = set(NAMES) - matched("0.*", "2.bias")
    assert_same(fitted, by_hand(schedule_by_hand(rest, {2: ["0.*"], 3: ["2.bias"]})))


def test_what_the_module_had_frozen_stays_so_until_the_schedule_names_it():
    frozen = ["0.weight", "2.weight"]
    fitted = net(Unfreeze("*", {3: ["0.*"]}), module=make_module(frozen)).fit(X, Y)
    trained = schedule_by_hand(set(NAMES) - set(frozen), {3: ["0.*"]})
    assert_same(fitted, by_hand(trained))
    still = {n for n, p in all_parameters(fitted).items() if not p.requires_grad}
    assert still == set(frozen)


@pytest.mark.parametrize("unit", ["epoch", "batch"])
@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_a_continued_fit_goes_on_with_the_schedule(way, unit):
    schedule = {2: ["2.*"], 4: ["0.*"]} if unit == "epoch" else {4: ["2.*"], 9: ["0.*"]}
    unfreeze = Unfreeze(["4.*", "criterion.*"], schedule, unit)
    fitted = net(unfreeze, max_epochs=1, warm_start=True)
    for _ in range(4):
        getattr(fitted, way)(X, Y)
    assert_same(fitted, all_parameters(net(unfreeze).fit(X, Y)))
    assert fitted.n_iter_ == 4


def test_what_is_due_is_trainable_before_the_first_epoch_of_a_continued_fit():
    seen = Log()

    class Trainable(Callback):
        def on_begin(self, ctx):
            seen.append({n for n, p in ctx.module.named_parameters() if p.requires_grad})

    callbacks = [Unfreeze("4.*", {2: "2.*", 3: "0.*"}), Trainable()]
    net(*callbacks, max_epochs=2, warm_start=True).fit(X, Y).fit(X, Y)
    assert seen == [matched("4.*"), matched("4.*", "2.*")]


def test_the_momentum_of_what_is_unfrozen_starts_clean():
    kept = Log()

    class States(Callback):
        order = -90  # before it is unfrozen

        def on_epoch_begin(self, ctx):
            kept.append([p in ctx.optimizer.state for p in ctx.module.parameters()])

    net(Unfreeze("4.*", {3: "*"}), States()).fit(X, Y)
    assert kept == [[False] * 6, *2 * [4 * [False] + 2 * [True]], [True] * 6]


def test_freeze_and_unfreeze_together_put_back_what_was():
    for callbacks in (
        [Freeze("0.*"), Unfreeze(schedule={2: "0.weight", 3: "4.*"})],
        [Unfreeze(schedule={2: "0.weight", 3: "4.*"}), Freeze("0.*")],
        [Freeze("*"), Unfreeze("*", {1: ["4.*"], 2: "0.weight"})],
    ):
        fitted = net(*callbacks, module=make_module(frozen=["2.bias"])).fit(X, Y)
        frozen = {n for n, p in all_parameters(fitted).items() if not p.requires_grad}
        assert frozen == {"2.bias"}
        assert torch.equal(fitted.model_.module_[0].bias, make_module()[0].bias)
        assert not torch.equal(fitted.model_.module_[0].weight, make_module()[0].weight)


def test_it_works_within_a_group_of_accumulated_batches():
    small = net(Unfreeze("4.*", {2: "*"}), GradientAccumulation(2), batch_size=4)
    large = net(Unfreeze("4.*", {2: "*"}))
    assert_same(small.fit(X, Y), all_parameters(large.fit(X, Y)))


def test_it_finds_parameters_whose_module_was_wrapped_later():
    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, X):
            return self.inner(X)

    class Wrap(Callback):
        order = -60

        def on_begin(self, ctx):
            ctx.wrap(module=Wrapper(ctx.module))

    wrapped, plain = net(Unfreeze("4.*", {2: "*"}), Wrap()), net(Unfreeze("4.*", {2: "*"}))
    assert_same(wrapped.fit(X, Y), all_parameters(plain.fit(X, Y)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.last = nn.Linear(4, 3)
        self.register_parameter("numbers", nn.Parameter(torch.arange(3), requires_grad=False))

    def forward(self, X):
        return self.last(self.second(self.first(X)))


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_shared_parameter_answers_to_all_of_its_names(name):
    frozen = net(Freeze(f"{name}.*"), module=Tied(), max_epochs=2).fit(X, Y).model_.module_
    assert torch.equal(frozen.first.weight, frozen.second.weight)
    for parts in (["last.*"], ["last.*", f"{name}.weight"]):
        fitted = net(Unfreeze(parts), module=Tied, max_epochs=2, random_state=3).fit(X, Y)
        free = net(module=Tied, max_epochs=1, lr=1e-30, random_state=3, **NO_DECAY).fit(X, Y)
        got, start = (f.model_.module_.first.weight for f in (fitted, free))
        assert torch.allclose(got, start, rtol=0, atol=1e-20) == (len(parts) == 1)


NO_DECAY = {"optimizer__weight_decay": 0.0, "optimizer__lr": 1e-30}


def test_parameters_that_cannot_have_gradients_are_left_alone():
    fitted = net(Unfreeze("last.*", {2: "*"}), module=Tied()).fit(X, Y)
    assert not fitted.model_.module_.numbers.requires_grad


# ---------------------------------------------------------------- what Unfreeze refuses


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "Unfreeze needs `schedule` or `starting`"),
        ({"schedule": {}}, "Unfreeze needs `schedule` or `starting`"),
        ({"schedule": {0: "*"}}, "key in the `schedule`.* number of an epoch, from 1. Got 0"),
        ({"schedule": {1.5: "*"}}, "key in the `schedule`.*Got 1.5"),
        ({"schedule": {True: "*"}}, "key in the `schedule`.*Got True"),
        ({"schedule": {"2": "*"}, "unit": "batch"}, "number of a batch, from 1. Got '2'"),
        ({"schedule": {2: 7}}, "entry 2 in the `schedule` parameter of Unfreeze.*Got 7"),
        ({"schedule": [("*", 2)]}, "'schedule' parameter of Unfreeze must be.*dict"),
        ({"schedule": {2: "*"}, "starting": 1}, "`starting` parameter of Unfreeze.*Got 1"),
        ({"schedule": {2: "*"}, "unit": "step"}, "'unit' parameter of Unfreeze.*Got 'step'"),
    ],
)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    refused(message, Unfreeze(**params))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"starting": "head.*", "schedule": {1: "*"}}, r"`starting` .*'head.*matches no parameter"),
        ({"starting": "4.*", "schedule": {2: "body.*"}}, "entry 2 .*'body.*matches no parameter"),
        ({"starting": "4.*", "schedule": {2: []}}, r"entry 2 .*\(\[\]\) matches no parameter"),
        ({"starting": "*", "schedule": {2: "0.*"}}, "entry 2 .*names only parameters that are tr"),
        ({"schedule": {1: "0.*", 3: "0.bias"}}, "entry 3 .*names only parameters that are trained"),
    ],
)
def test_what_has_no_effect_warns(params, message):
    with pytest.warns(UserWarning, match=message):
        net(Unfreeze(**params)).fit(X, Y)


def test_to_start_with_nothing_is_no_mistake_but_a_batch_of_nothing_is():
    fitted = net(Unfreeze([], {1: "4.*"})).fit(X, Y)
    assert_same(fitted, by_hand(lambda epoch, batch: matched("4.*")))
    with pytest.raises(ValueError, match="all parameters of the `module` are frozen"):
        net(Unfreeze([], {2: "4.*"})).fit(X, Y)


def test_numbers_of_numpy_are_numbers():
    one = net(Unfreeze("4.*", {np.int64(2): "*"})).fit(X, Y)
    other = net(Unfreeze("4.*", {2: "*"})).fit(X, Y)
    assert_same(one, all_parameters(other))


def test_it_advises_of_epochs_that_the_fit_does_not_reach():
    unfreeze = Unfreeze("4.*", {2: "2.*", 9: "0.*"})
    setup = Setup("thaw", {"thaw": unfreeze}, (), 8)
    assert unfreeze.advise(setup) == ["The schedule of 'thaw' names epoch 9, and the fit has 8."]
    assert unfreeze.set_params(unit="batch").advise(setup) == []


# --------------------------------------------------------------------------- parameters


def test_a_search_chooses_what_is_frozen():
    estimator = net(Freeze("0.*"), max_epochs=1)
    grid = {"callbacks__freeze__patterns": ["0.*", ["2.*", "4.*"]]}
    search = GridSearchCV(pickle.loads(pickle.dumps(estimator)), grid, cv=2).fit(X, Y)
    expected = net(Freeze(search.best_params_["callbacks__freeze__patterns"]), max_epochs=1)
    assert_same(search.best_estimator_, all_parameters(expected.fit(X, Y)))
    grid = {"callbacks__unfreeze__schedule": [{1: "0.*"}, {2: "0.*"}]}
    search = GridSearchCV(net(Unfreeze(["2.*", "4.*"], {3: "*"})), grid, cv=2).fit(X, Y)
    assert pickle.loads(pickle.dumps(search)).best_params_ == search.best_params_


def test_they_stand_for_their_names():
    named = net(callbacks=["freeze", "unfreeze"], callbacks__freeze__patterns="2.*")
    named.set_params(callbacks__unfreeze__schedule={3: "0.*"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named.fit(X, Y)
    assert_same(named, all_parameters(net(Freeze("2.*"), Unfreeze(schedule={3: "0.*"})).fit(X, Y)))


@pytest.mark.parametrize("nesterov", [False, True])
def test_unfreezing_under_sgd_with_momentum_equals_the_hand_written_loop(nesterov):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 5)), rng.integers(0, 2, 40)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    net = NeuralNetClassifier(
        module,
        optimizer="sgd",
        optimizer__momentum=0.9,
        optimizer__nesterov=nesterov,
        lr=0.1,
        batch_size=20,
        shuffle=False,
        max_epochs=4,
        callbacks=[Unfreeze("2.*", {3: "*"})],
    ).fit(X, y)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, nesterov=nesterov)
    x, target = torch.tensor(X), torch.tensor(y)
    for epoch in range(1, 5):
        module[0].requires_grad_(epoch >= 3)
        for rows in (slice(0, 20), slice(20, 40)):
            nn.functional.cross_entropy(module(x[rows]), target[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
    for mine, theirs in zip(net.model_.module_.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
