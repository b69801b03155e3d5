"""The learning rate's schedules, against loops by hand with torch's own schedulers."""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from doubles import Linear, Log, make_data, make_net, same_weights, weights_of
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch.nn import functional
from torch.optim import lr_scheduler as of_torch

from skorchlike import Callback, EarlyStopping, LRScheduler, NeuralNetClassifier
from skorchlike.callbacks.base import Setup

X, Y = make_data()
EPOCHS, BATCHES, LR = 6, 2, 0.5


def fade(step):
    return 0.9**step


def halve(step):
    return 0.5**step


def grow(step):
    return 1 + 0.1 * step


# name, class of torch, what is said, the argument that the fit's length gives
POLICIES = {
    "cosine": (of_torch.CosineAnnealingLR, {"eta_min": 0.01}, "T_max"),
    "cosine_warm_restarts": (of_torch.CosineAnnealingWarmRestarts, {"T_0": 2}, None),
    "step": (of_torch.StepLR, {"step_size": 2, "gamma": 0.5}, None),
    "multi_step": (of_torch.MultiStepLR, {"milestones": [1, 3], "gamma": 0.5}, None),
    "exponential": (of_torch.ExponentialLR, {"gamma": 0.8}, None),
    "linear": (of_torch.LinearLR, {"start_factor": 1.0, "end_factor": 0.1}, "total_iters"),
    "polynomial": (of_torch.PolynomialLR, {"power": 2.0}, "total_iters"),
    "constant": (of_torch.ConstantLR, {"factor": 0.5, "total_iters": 2}, None),
    "cyclic": (of_torch.CyclicLR, {"base_lr": 0.1, "max_lr": 0.4, "step_size_up": 2}, None),
    "one_cycle": (of_torch.OneCycleLR, {"pct_start": 0.5}, "total_steps"),
    "lambda": (of_torch.LambdaLR, {"lr_lambda": fade}, None),
    "multiplicative": (of_torch.MultiplicativeLR, {"lr_lambda": grow}, None),
    "plateau": (of_torch.ReduceLROnPlateau, {"patience": 0, "threshold": 0.3}, None),
}


class Watch(Callback):
    """Write down lr and momentum at every step, and the weights at the beginning."""

    order = 1000
    passive = True

    def __init__(self, seen, first=None):
        self.seen = seen
        self.first = first

    def on_begin(self, ctx):
        if self.first is not None:
            self.first.append(weights_of(ctx.module))

    def on_before_step(self, ctx):
        group = ctx.optimizer.param_groups[0]
        self.seen.append((group["lr"], group["momentum"]))


def scheduler_net(*args, others=(), **params):
    """Return a net with the scheduler, and where lr and momentum are written down."""
    said = {k: params.pop(k) for k in ("unit", "monitor", "warmup") if k in params}
    said |= {k: params.pop(k) for k in [*params] if k.startswith("policy__")}
    seen = Log()
    callbacks = {"sched": LRScheduler(*args, **said), "watch": Watch(seen), **dict(others)}
    fixed = {"optimizer": "sgd", "optimizer__momentum": 0.9, "lr": LR, "max_epochs": EPOCHS}
    return make_net(callbacks=callbacks, **{**fixed, **params}), seen


def lrs_of(*args, fit=None, **params):
    net, seen = scheduler_net(*args, **params)
    net.fit(X, Y, **(fit or {}))
    return [lr for lr, _ in seen]


def train_by_hand(first, build, unit, warmup, epochs=EPOCHS, lr=LR):
    """Train in plain torch; return (lr, momentum) of each step and the module.

    The warm-up is a LinearLR up to the lr at which the policy begins.
    """
    module = Linear(3, 2)
    module.load_state_dict(first)
    optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9)
    if warmup:
        build(optimizer)
        begin = optimizer.param_groups[0]["lr"]
        ramp = of_torch.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
    policy = None if warmup else build(optimizer)
    taken, seen = 0, []

    def step(loss):
        nonlocal taken, policy
        taken += 1
        if taken < warmup:
            ramp.step()
        elif taken == warmup:
            optimizer.param_groups[0].update(lr=lr)
            del optimizer.param_groups[0]["initial_lr"]
            policy = build(optimizer)
            assert optimizer.param_groups[0]["lr"] == begin
        elif isinstance(policy, of_torch.ReduceLROnPlateau):
            policy.step(loss)
        else:
            policy.step()

    inputs, target = torch.from_numpy(X), torch.from_numpy(Y)
    for _ in range(epochs):
        losses = []
        for rows in (slice(0, 4), slice(4, 8)):
            loss = functional.cross_entropy(module(inputs[rows]), target[rows])
            optimizer.zero_grad()
            loss.backward()
            group = optimizer.param_groups[0]
            seen.append((group["lr"], group["momentum"]))
            optimizer.step()
            losses.append(loss.item())
            if unit == "batch":
                step(None)
        if unit == "epoch":
            step(np.mean(losses))
    return seen, module


# ------------------------------------------------------------ each policy by hand


@pytest.mark.parametrize("warmup", [0, 1, 3])
@pytest.mark.parametrize("unit", ["epoch", "batch"])
@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_is_torchs_own_in_a_loop_by_hand(policy, unit, warmup):
    cls, said, total = POLICIES[policy]
    if policy == "plateau" and unit == "batch":
        return  # an error, among those below
    options = dict(said)
    length = (EPOCHS if unit == "epoch" else EPOCHS * BATCHES) - warmup
    if total:
        options[total] = length
    if policy == "one_cycle":
        options["max_lr"] = LR
    first = Log()
    net, seen = scheduler_net(
        policy,
        unit=unit,
        warmup=warmup,
        monitor="train_loss",
        shuffle=False,
        others={"first": Watch(Log(), first)},
        **{f"policy__{name}": value for name, value in said.items()},
    )
    net.fit(X, Y)
    expected, module = train_by_hand(first[0], lambda o: cls(o, **options), unit, warmup)
    assert seen == expected
    assert len({lr for lr, _ in seen}) > 1
    for name, tensor in module.state_dict().items():
        got = net.model_.module_.state_dict()[name]
        torch.testing.assert_close(got, tensor, rtol=1e-10, atol=1e-10)
    if unit == "epoch":
        assert net.history_["lr"].tolist() == [lr for lr, _ in expected[1::BATCHES]]


# those that torch's SequentialLR takes, and that begin at the base lr
SEQUENTIAL = ["cosine", "cosine_warm_restarts", "step", "multi_step", "exponential", "lambda"]


@pytest.mark.parametrize("policy", SEQUENTIAL)
def test_a_warm_up_is_that_of_torchs_sequential_scheduler(policy):
    cls, said, total = POLICIES[policy]
    warmup = 4
    options = {**said, total: EPOCHS * BATCHES - warmup} if total else said

    def build(optimizer):
        ramp = of_torch.LinearLR(optimizer, 1 / (warmup + 1), total_iters=warmup)
        return of_torch.SequentialLR(optimizer, [ramp, cls(optimizer, **options)], [warmup])

    expected, _ = train_by_hand(Linear(3, 2).state_dict(), build, "batch", 0)
    routed = {f"policy__{name}": value for name, value in said.items()}
    got = lrs_of(policy, unit="batch", warmup=warmup, **routed)
    assert got == pytest.approx([lr for lr, _ in expected], rel=1e-14)


def test_a_warm_up_rises_in_equal_parts_to_the_base_lr():
    got = lrs_of("constant", warmup=3, policy__factor=1.0, lr=0.4)
    assert got[::BATCHES] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4], rel=1e-14)


def test_every_schedulers_name_is_told_by_its_class():
    classes = {getattr(of_torch, name) for name in of_torch.__all__}
    classes -= {of_torch.LRScheduler, of_torch.SequentialLR, of_torch.ChainedScheduler}
    assert classes == {cls for cls, _, _ in POLICIES.values()}
    for name, cls in [
        ("cosine_annealing", of_torch.CosineAnnealingLR),
        ("cosine_annealing_warm_restarts", of_torch.CosineAnnealingWarmRestarts),
        ("reduce_on_plateau", of_torch.ReduceLROnPlateau),
        ("One_Cycle", of_torch.OneCycleLR),
        *((name, cls) for name, (cls, _, _) in POLICIES.items()),
    ]:
        assert LRScheduler(name)._takes("policy") is cls


class Halving(of_torch.LRScheduler):
    """A scheduler as a user writes one."""

    def __init__(self, optimizer, total_iters, last_epoch=-1):
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        n = min(self.last_epoch, self.total_iters)
        return [base / 2**n for base in self.base_lrs]


def chained(optimizer, gamma=0.5):
    first = of_torch.ConstantLR(optimizer, factor=0.5, total_iters=2)
    return of_torch.ChainedScheduler([first, of_torch.ExponentialLR(optimizer, gamma)])


@pytest.mark.parametrize("warmup", [0, 2])
def test_a_class_or_a_function_that_takes_the_optimizer_is_a_policy(warmup):
    for policy, options in [
        (of_torch.StepLR, {"step_size": 2}),
        (Halving, {}),
        (chained, {}),
        (chained, {"gamma": 0.9}),
    ]:
        routed = {f"policy__{name}": value for name, value in options.items()}
        if policy is Halving:
            options = {"total_iters": EPOCHS - warmup}
        first = Linear(3, 2).state_dict()
        expected, _ = train_by_hand(first, lambda o: policy(o, **options), "epoch", warmup)
        assert lrs_of(policy, warmup=warmup, **routed) == [lr for lr, _ in expected]


# -------------------------------------------------------------- totals and units


class Accumulate(Callback):
    """Step once in two batches."""

    order = -20

    def plan(self, n_epochs, n_updates):
        return n_epochs, n_updates // 2

    def on_batch_begin(self, ctx):
        if ctx.step % 2:
            ctx.skip_step()


def test_batches_without_a_step_do_not_count():
    others = {"accumulate": Accumulate()}
    got = lrs_of("cosine", unit="batch", others=others)
    expected = [LR * (1 + np.cos(np.pi * i / EPOCHS)) / 2 for i in range(EPOCHS)]
    assert got == pytest.approx(expected, rel=1e-12)


class PlansHalf(Callback):
    """Say that it leaves out half of the steps, and do not."""

    def plan(self, n_epochs, n_updates):
        return n_epochs, n_updates // 2


@pytest.mark.parametrize("policy", ["cosine", "one_cycle", "linear", "polynomial"])
def test_after_the_total_of_the_fit_the_lr_stays(policy):
    said = {"policy__eta_min": 0.1} if policy == "cosine" else {}
    got = lrs_of(policy, unit="batch", others={"half": PlansHalf()}, **said)
    alone = lrs_of(policy, **said)
    assert got[:EPOCHS] == alone[::BATCHES]
    assert len(set(got[EPOCHS:])) == 1


def test_one_cycle_with_a_total_of_ones_own_stays_at_its_end():
    got = lrs_of("one_cycle", policy__total_steps=4)[::BATCHES]
    assert got[4:] == [got[3]] * 2 == [min(got)] * 2


def test_a_cosine_with_a_length_of_ones_own_rises_again_as_torchs_does():
    got = lrs_of("cosine", policy__T_max=3)[::BATCHES]
    assert got[3:] == pytest.approx([0, LR / 4, LR * 3 / 4], abs=1e-15)


def test_one_cycle_takes_epochs_and_steps_of_each_instead_of_a_total():
    got = lrs_of("one_cycle", unit="batch", policy__epochs=3, policy__steps_per_epoch=3)
    assert got == lrs_of("one_cycle", unit="batch", policy__total_steps=9)
    assert got != lrs_of("one_cycle", unit="batch")


def test_a_policy_of_ones_own_may_take_any_number_for_a_length():
    got = lrs_of(lambda optimizer, step_size: chained(optimizer, step_size), policy__step_size=0.5)
    assert got == lrs_of(chained)


def test_one_cycle_peaks_at_each_groups_own_lr():
    class Groups(Callback):
        order = 1000

        def __init__(self, seen):
            self.seen = seen

        def on_before_step(self, ctx):
            self.seen.append([group["lr"] for group in ctx.optimizer.param_groups])

    seen = Log()
    net = make_net(
        max_epochs=10,
        optimizer="sgd",
        optimizer__param_groups={"bias": {"lr": 0.1}},
        lr=0.4,
        callbacks=[LRScheduler("one_cycle"), Groups(seen)],
    )
    net.fit(X, Y)
    assert np.max(seen, axis=0) == pytest.approx([0.1, 0.4])
    ratios = np.array(seen) @ np.diag([4, 1])
    np.testing.assert_allclose(ratios[:, 0], ratios[:, 1], rtol=1e-12)


def test_a_cancelled_epoch_counts_and_a_cut_off_one_does_not():
    from skorchlike import CancelEpochException, CancelFitException

    class Cut(Callback):
        def on_batch_begin(self, ctx):
            if ctx.epoch == 2:
                raise CancelEpochException
            if ctx.epoch == 4:
                raise CancelFitException

    net, seen = scheduler_net("exponential", policy__gamma=0.5, others={"cut": Cut()})
    net.fit(X, Y)
    assert [lr for lr, _ in seen] == [0.5, 0.5, 0.125, 0.125]
    assert net.model_.callbacks_.sched["taken"] == 3


# ------------------------------------------------------------------------ plateau


class Script(Callback):
    """Log a column as written; None logs nothing."""

    logs = ("my_score", "my_loss", "mine")

    def __init__(self, values, name="my_loss"):
        self.values = values
        self.name = name

    def on_epoch_end(self, ctx):
        value = self.values[ctx.epoch - 1]
        if value is not None:
            ctx.log(self.name, value)


class LateScript(Script):
    order = 60


@pytest.mark.parametrize("script", [Script, LateScript])
@pytest.mark.parametrize(
    ("values", "name", "options", "expected"),
    [
        ([3, 2, 2, 2, 1, 1], "my_loss", {"patience": 0}, [8, 8, 8, 4, 2, 2]),
        ([3, 2, 2, 2, 1, 1], "my_loss", {"patience": 1}, [8, 8, 8, 8, 4, 4]),
        ([1, 2, 2, 3, 3, 3], "my_score", {"patience": 0}, [8, 8, 8, 4, 4, 2]),
        ([1, 2, 2, 3, 3, 3], "mine", {"patience": 0, "mode": "min"}, [8, 8, 4, 2, 1, 0.5]),
        ([3, None, 3, None, 3, 3], "my_loss", {"patience": 0}, [8, 8, 8, 4, 4, 2]),
        ([3, np.nan, 2, 2, 1, 1], "my_loss", {"patience": 0}, [8, 8, 4, 4, 2, 2]),
    ],
)
def test_plateau_looks_at_any_column_in_epochs_that_have_it(
    script, values, name, options, expected
):
    routed = {f"policy__{key}": value for key, value in options.items()}
    others = {"script": script(values, name)}
    got = lrs_of("plateau", monitor=name, lr=8.0, policy__factor=0.5, others=others, **routed)
    assert got[::BATCHES] == expected


def test_plateau_looks_at_the_validation_loss_when_an_epoch_validates():
    # a threshold that nothing passes: the first evaluation is the best, the others are bad
    said = {"policy__patience": 0, "policy__threshold": 10.0, "policy__threshold_mode": "abs"}
    net, seen = scheduler_net("plateau", valid_every=2, **said)
    net.fit(X, Y, X_val=X, y_val=Y)
    assert [lr for lr, _ in seen][::BATCHES] == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.05, 0.05])


def test_the_patience_of_a_plateau_begins_after_the_warm_up():
    others = {"script": Script([1, 1, 1, 1, 1, 1])}
    got = lrs_of("plateau", monitor="my_loss", warmup=3, policy__patience=0, others=others)
    assert got[::BATCHES] == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.05])


def test_it_runs_before_early_stopping_and_a_plateau_after_what_logs():
    assert LRScheduler().order == 30
    assert 60 < LRScheduler("plateau").order < EarlyStopping.order
    assert LRScheduler(of_torch.ReduceLROnPlateau).order == LRScheduler("plateau").order
    assert LRScheduler("nonsense").order == LRScheduler(3).order == 30


# --------------------------------------------------------------------- continuing


def routed(policy):
    return {f"policy__{name}": value for name, value in POLICIES[policy][1].items()}


class Interrupt(Callback):
    order = 500

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, ctx):
        if ctx.epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("interrupted_after", [1, 3, 5])
@pytest.mark.parametrize("unit", ["epoch", "batch"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_fit_continued_to_the_same_end_goes_on_to_the_bit(policy, unit, interrupted_after):
    if (policy, unit) == ("plateau", "batch"):
        return
    said = {"unit": unit, "warmup": 2, "monitor": "train_loss", **routed(policy)}
    whole, expected = scheduler_net(policy, **said)
    whole.fit(X, Y)
    net, seen = scheduler_net(policy, warm_start=True, **said)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, callbacks=[Interrupt(interrupted_after)])
    assert len(seen) == BATCHES * interrupted_after
    net = pickle.loads(pickle.dumps(net))
    net.set_params(max_epochs=EPOCHS - interrupted_after, callbacks__watch=Watch(seen)).fit(X, Y)
    assert seen == expected
    assert same_weights(weights_of(net.model_.module_), weights_of(whole.model_.module_))
    assert net.model_.callbacks_.sched == whole.model_.callbacks_.sched


@pytest.mark.parametrize("unit", ["epoch", "batch"])
@pytest.mark.parametrize("policy", ["cosine", "linear", "polynomial", "one_cycle"])
def test_a_schedule_over_the_fit_begins_anew_over_further_epochs(policy, unit):
    cls, said, total = POLICIES[policy]
    options = {**said, total: EPOCHS * (BATCHES if unit == "batch" else 1)}
    if policy == "one_cycle":
        options["max_lr"] = LR
    first = Log()
    net, seen = scheduler_net(
        policy,
        unit=unit,
        warm_start=True,
        others={"first": Watch(Log(), first)},
        **routed(policy),
    )
    net.fit(X, Y)
    one, _ = train_by_hand(first[0], lambda o: cls(o, **options), unit, 0)
    assert seen == one
    net.fit(X, Y)
    assert seen == one + one
    longer = net.set_params(max_epochs=4)
    longer.fit(X, Y)
    options[total] = 4 * (BATCHES if unit == "batch" else 1)
    two, _ = train_by_hand(first[0], lambda o: cls(o, **options), unit, 0, epochs=4)
    assert seen == one + one + two


def test_a_warm_up_is_part_of_what_begins_anew():
    net, seen = scheduler_net("cosine", warmup=2, warm_start=True)
    net.fit(X, Y)
    once = list(seen)
    net.fit(X, Y)
    assert seen == once + once


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize(
    "policy",
    [name for name, (_, _, total) in POLICIES.items() if total is None],
)
def test_a_schedule_of_its_own_length_goes_on_over_further_epochs(policy, warmup):
    said = {"monitor": "my_loss", "warmup": warmup, **routed(policy)}
    others = {"script": Script([5.0, 3, 3, 2, 2, 2, 2, 1, 1, 1])}
    whole, expected = scheduler_net(policy, max_epochs=10, others=others, **said)
    whole.fit(X, Y)
    net, seen = scheduler_net(policy, max_epochs=5, warm_start=True, others=others, **said)
    net.fit(X, Y).fit(X, Y)
    assert seen == expected
    assert same_weights(weights_of(net.model_.module_), weights_of(whole.model_.module_))


def test_partial_fit_is_a_plan_of_one_epoch():
    net, seen = scheduler_net("cosine", unit="batch")
    for _ in range(3):
        net.partial_fit(X, Y)
    assert [lr for lr, _ in seen] == [LR, LR / 2] * 3
    net, seen = scheduler_net("exponential", policy__gamma=0.5)
    for _ in range(3):
        net.partial_fit(X, Y)
    assert [lr for lr, _ in seen][::2] == [0.5, 0.25, 0.125]


CHANGES = [
    {"callbacks__sched__policy__gamma": 0.9},
    {"callbacks__sched__policy": "cosine"},
    {"callbacks__sched__unit": "batch"},
    {"callbacks__sched__warmup": 1},
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_schedule_said_otherwise_begins_anew_from_the_base_lr_and_says_so(change):
    net, seen = scheduler_net("exponential", policy__gamma=0.5, warm_start=True)
    net.fit(X, Y)
    del seen[:]
    with pytest.warns(UserWarning, match="its schedule begins anew"):
        net.set_params(**change).fit(X, Y)
    fresh = clone(net).set_params(warm_start=False)
    log = Log()
    fresh.set_params(callbacks__watch=Watch(log)).fit(X, Y)
    assert seen == log


def test_another_monitor_is_another_plateau_and_nothing_to_a_cosine():
    script = {"script": Script([3.0, 3, 2, 2] * 3)}
    said = {"monitor": "my_loss", "warm_start": True, "max_epochs": 2, "others": script}
    net, _ = scheduler_net("cosine", **said)
    net.fit(X, Y).set_params(callbacks__sched__monitor="train_loss").fit(X, Y)
    net, _ = scheduler_net("plateau", **said)
    with pytest.warns(UserWarning, match="begins anew"):
        net.fit(X, Y).set_params(callbacks__sched__monitor="train_loss").fit(X, Y)


@pytest.mark.parametrize(
    ("policy", "said"),
    [("exponential", {"policy__gamma": 0.5}), ("lambda", {"policy__lr_lambda": halve})],
)
def test_a_new_lr_is_the_base_of_a_new_schedule(policy, said):
    net, seen = scheduler_net(policy, warm_start=True, max_epochs=2, **said)
    net.fit(X, Y)
    with pytest.warns(UserWarning, match="The lr .* its schedule begins anew"):
        net.set_params(lr=0.01).fit(X, Y)
    net.fit(X, Y)
    lrs = [lr for lr, _ in seen][::BATCHES]
    assert lrs == pytest.approx([0.5, 0.25, 0.01, 0.005, 0.0025, 0.00125], rel=1e-14)


def test_a_new_schedule_has_the_momentum_that_was_said():
    net, seen = scheduler_net("one_cycle", warm_start=True)
    net.fit(X, Y)
    assert seen[-1][1] != 0.9
    net.set_params(callbacks__sched__policy="cosine", optimizer__nesterov=True)
    with pytest.warns(UserWarning, match="begins anew"):
        net.fit(X, Y)
    assert {momentum for _, momentum in seen[-EPOCHS * BATCHES :]} == {0.9}
    assert net.model_.optimizer_["param_groups"][0]["nesterov"] is True


def test_a_new_optimizer_has_a_new_schedule():
    net, _ = scheduler_net("cosine", warm_start=True)
    net.fit(X, Y)
    seen = Log()
    for optimizer in ("adam", "adamw"):
        net.set_params(optimizer=optimizer, callbacks__watch=None, callbacks__sched__unit="epoch")
        with pytest.warns(UserWarning, match="starts afresh|begins anew"):
            net.fit(X, Y, callbacks={"lr": WatchLR(seen)})
        expected = [LR * (1 + np.cos(np.pi * i / EPOCHS)) / 2 for i in range(EPOCHS)]
        assert seen[-BATCHES * EPOCHS :: BATCHES] == pytest.approx(expected, rel=1e-12)
        group = net.model_.optimizer_["param_groups"][0]
        assert group["decoupled_weight_decay"] is (optimizer == "adamw")


class WatchLR(Callback):
    order = 1000

    def __init__(self, seen):
        self.seen = seen

    def on_before_step(self, ctx):
        self.seen.append(ctx.optimizer.param_groups[0]["lr"])


def test_a_schedule_that_was_not_in_the_fit_before_begins_at_the_lr_it_left():
    net, _ = scheduler_net("exponential", policy__gamma=0.5, warm_start=True, max_epochs=2)
    net.fit(X, Y)
    net.set_params(callbacks={"other": LRScheduler("lambda", policy__lr_lambda=fade)})
    net.fit(X, Y, callbacks=[WatchLR(log := Log())])
    assert log == pytest.approx([0.125, 0.125, 0.1125, 0.1125])


def test_states_can_be_copied_and_pickled_whatever_the_policy():
    for policy in POLICIES:
        net, _ = scheduler_net(policy, monitor="train_loss", **routed(policy))
        if policy in ("lambda", "multiplicative"):
            net.set_params(callbacks__sched__policy__lr_lambda=lambda step: 0.9**step)
        state = net.fit(X, Y).model_.callbacks_.sched
        assert pickle.loads(pickle.dumps(state)) == copy.deepcopy(state) == state


# ----------------------------------------------------------------------- warnings


class ByHand(NeuralNetClassifier):
    """Never calls optimizer.step."""

    def do_step(self, ctx):
        with torch.no_grad():
            for group in ctx.optimizer.param_groups:
                for p in group["params"]:
                    p -= group["lr"] * p.grad


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("unit", ["epoch", "batch"])
def test_a_step_of_ones_own_is_no_reason_to_warn(unit, warmup):
    net = ByHand(Linear, max_epochs=4, callbacks=[LRScheduler(unit=unit, warmup=warmup)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.fit(X, Y)
    assert net.history_["lr"].nunique() > 1  # it has been scheduled


class Warning_(of_torch.ExponentialLR):
    def get_lr(self):
        if self.last_epoch:
            warnings.warn("Detected call of mine", UserWarning, stacklevel=2)
        return super().get_lr()


def test_other_warnings_of_a_scheduler_are_shown():
    with pytest.warns(UserWarning, match="Detected call of mine"):
        lrs_of(Warning_, policy__gamma=0.5)


# --------------------------------------------------------------- errors and advice


def assert_refused(message, *args, fit=None, **params):
    seen = Log()
    net, seen = scheduler_net(*args, **params)
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y, **(fit or {}))
    assert seen == []
    assert not hasattr(net, "model_")


VALID = {"X_val": X, "y_val": Y}
ARGUMENTS = [
    ({"policy": "cosin"}, "'policy' parameter .* unknown name 'cosin'. Did you mean 'cosine'"),
    ({"policy": 3}, "'policy' parameter of LRScheduler must be .* Got 3"),
    ({"policy": torch.optim.SGD}, "'policy' parameter .* Got .*SGD"),
    ({"policy": of_torch.LRScheduler}, "'policy' .* Got .*LRScheduler"),
    ({"policy": of_torch.SequentialLR}, "'policy' .* Got .*SequentialLR"),
    ({"policy": lambda optimizer: 3}, "must give a torch.optim.lr_scheduler.*gave 3"),
    ({"policy__gama": 3}, "Unknown parameter 'policy__gama': CosineAnnealingLR has no"),
    ({"policy": "step"}, "StepLR needs 'step_size'. Say it as policy__step_size"),
    ({"policy": "step", "policy__step_siz": 1}, "Did you mean 'step_size'"),
    ({"policy": "cyclic"}, "CyclicLR needs 'base_lr', 'max_lr'. Say it as policy__base_lr"),
    ({"policy": "lambda"}, "LambdaLR needs 'lr_lambda'"),
    ({"policy__last_epoch": 3}, "Unknown parameter 'policy__last_epoch'"),
    ({"policy__T_max": 0}, "'policy__T_max' of LRScheduler must be at least 1. Got 0"),
    ({"policy__T_max": "5"}, "'policy__T_max' of LRScheduler must be at least 1. Got '5'"),
    ({"policy": "step", "policy__step_size": 0}, "'policy__step_size' .* Got 0"),
    ({"policy": "one_cycle", "policy__total_steps": 3}, "3 units.*policy__pct_start=0.3"),
    ({"unit": "epochs"}, "'unit' parameter of LRScheduler .* Got 'epochs'"),
    ({"monitor": 1}, "'monitor' parameter of LRScheduler .* Got 1"),
    ({"warmup": -1}, "'warmup' parameter of LRScheduler .* Got -1"),
    ({"warmup": 1.5}, "'warmup' .* Got 1.5"),
    ({"warmup": EPOCHS}, "'warmup' .* some of the 6 epochs .* Got 6.*policy__T_max"),
    ({"unit": "batch", "warmup": 12}, "'warmup' .* some of the 12 optimizer steps .* Got 12"),
    ({"policy": "plateau", "monitor": "valid_los"}, "Did you mean 'valid_loss'"),
    ({"policy": "plateau", "unit": "batch"}, "'plateau' needs unit='epoch'"),
    ({"policy": "plateau", "monitor": "lr"}, "Set policy__mode='min' or policy__mode='max'"),
    ({"policy": "plateau", "policy__mode": "up"}, "mode up is unknown"),
    ({"policy": of_torch.ReduceLROnPlateau, "monitor": "x"}, "'x', which nothing"),
    ({"policy": lambda o: of_torch.ReduceLROnPlateau(o), "monitor": "x"}, "'x', which nothing"),
]


@pytest.mark.parametrize(("params", "message"), ARGUMENTS)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    params = {"policy": "cosine", **params}
    assert_refused(message, params.pop("policy"), fit=VALID, **params)


def test_a_plateau_needs_validation_data_for_its_default_column():
    assert_refused("no validation data", "plateau")


def test_an_unknown_parameter_of_its_own_is_an_error_at_once():
    with pytest.raises(ValueError, match="Unknown parameter 'polic__gamma'"):
        LRScheduler("step", polic__gamma=3)
    with pytest.raises(ValueError, match=r"Unknown parameter 'warm_up'.*Did you mean 'warmup'"):
        LRScheduler().set_params(warm_up=3)


def test_an_unknown_number_of_steps_is_an_error_that_names_the_argument():
    class Unknown(Callback):
        order = -1

        def on_begin(self, ctx):
            ctx._n_updates = None

    others = {"unknown": Unknown()}
    assert_refused(
        "number of optimizer steps .* policy__T_max", "cosine", unit="batch", others=others
    )
    assert lrs_of("cosine", unit="batch", others=others, policy__T_max=2)[:3] == [0.5, 0.25, 0]


def test_an_optimizer_without_an_lr_is_an_error():
    class NoLR(torch.optim.SGD):
        def __init__(self, params, momentum=0.0):
            super().__init__(params, lr=0.1, momentum=momentum)
            for group in self.param_groups:
                del group["lr"]

    assert_refused("optimizer with an lr; NoLR has none", "cosine", optimizer=NoLR)


def test_an_early_failure_of_another_callback_is_not_hidden():
    class Fail(Callback):
        order = -1

        def on_begin(self, ctx):
            raise OSError("mine")

    net, _ = scheduler_net("cosine", others={"fail": Fail()})
    with pytest.raises(OSError, match="mine") as caught:
        net.fit(X, Y)
    assert all("sched" not in note for note in caught.value.__notes__)


def advice(*args, max_epochs=10, columns=("train_loss", "valid_loss"), **params):
    scheduler = LRScheduler(*args, **params)
    return scheduler.advise(Setup("sched", {"sched": scheduler}, columns, max_epochs))


def test_it_advises_about_totals_in_the_wrong_unit():
    assert advice() == advice(unit="batch") == advice(policy__T_max=20) == []
    assert advice("plateau") == advice("step", policy__step_size=9) == []
    assert "counts epochs, and the fit has 10" in advice(policy__T_max=500)[0]
    assert "set unit='epoch'" in advice("cosine", "batch", policy__T_max=10)[0]
    assert advice("cosine", "batch", policy__T_max=11) == []
    assert "first step" in advice("step", policy__step_size=10)[0]
    for wrong in (
        {"policy": "plateau", "monitor": "valid_acuracy"},
        {"policy": "cosin"},
        {"policy__gama": 1},
        {"warmup": 10},
    ):
        with pytest.raises(ValueError, match=r"LRScheduler|policy"):
            advice(**wrong)


# ------------------------------------------------------------------------ routing


def test_its_policys_arguments_are_parameters_of_the_estimator():
    net = make_net(
        callbacks=[LRScheduler("step", policy__step_size=1)],
        callbacks__lr_scheduler__policy__gamma=0.5,
        lr=0.4,
    )
    assert net.get_params()["callbacks__lr_scheduler__policy__gamma"] == 0.5
    assert net.get_params()["callbacks__lr_scheduler__policy__step_size"] == 1
    assert clone(net).fit(X, Y).history_["lr"].tolist() == [0.4, 0.2, 0.1]
    net.set_params(callbacks__lr_scheduler__policy__gamma=0.25)
    assert net.fit(X, Y).history_["lr"].tolist() == [0.4, 0.1, 0.025]
    net.set_params(callbacks__lr_scheduler__policy="cosine")
    assert net.fit(X, Y).history_["lr"].tolist() == pytest.approx([0.4, 0.3, 0.1])
    scheduler = LRScheduler("step", policy__step_size=1)
    assert clone(scheduler).get_params()["policy__step_size"] == 1
    assert "policy__step_size" not in scheduler.set_params(policy="cosine").get_params()


def test_a_search_sets_policies_and_their_arguments():
    net = make_net(callbacks=[LRScheduler("one_cycle", "batch")], lr=0.1, max_epochs=6)
    grid = [
        {"callbacks__lr_scheduler__policy__pct_start": np.array([0.2, 0.4])},
        {
            "callbacks__lr_scheduler__policy": [of_torch.StepLR],
            "callbacks__lr_scheduler__policy__step_size": np.arange(1, 3),
        },
        {"callbacks__lr_scheduler__policy": ["cosine_warm_restarts"]}
        | {"callbacks__lr_scheduler__policy__T_0": np.arange(1, 3)},
        {"callbacks__lr_scheduler": [None]},
    ]
    search = GridSearchCV(net, grid, cv=2, error_score="raise").fit(X, Y)
    assert len(search.cv_results_["params"]) == 7


def test_lrs_that_are_tensors_are_written_in_place():
    class Same(Callback):
        def on_begin(self, ctx):
            self.lr = ctx.optimizer.param_groups[0]["lr"]

        def on_before_step(self, ctx):
            assert ctx.optimizer.param_groups[0]["lr"] is self.lr

    lr = {"optimizer": "adam", "optimizer__lr": torch.tensor(0.4), "optimizer__capturable": False}
    net = make_net(
        callbacks=[LRScheduler("constant", warmup=3, policy__factor=1.0), Same()],
        max_epochs=4,
        **lr,
    )
    net.fit(X, Y)
    assert net.history_["lr"].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])
