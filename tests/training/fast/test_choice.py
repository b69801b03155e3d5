"""Which way a fit goes, and why; whatever is chosen, the result is that of the general way."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn
from training.fast.ways import (
    PARAMS,
    at,
    bits,
    chain,
    classes,
    compare,
    in_epoch,
    layers,
    nothing,
    numbers,
    of_one,
)

from skorchlike import (
    Callback,
    CancelFitException,
    Checkpoint,
    NeuralNetClassifier,
    NeuralNetRegressor,
)
from skorchlike.training.fast.path import BATCH_STAGES
from skorchlike.training.stages import ACTIONS, TABLE

HAND_WRITTEN, DIRECT, GENERAL = "hand-written", "direct", "general"


def goes(path, reason="", *, data=None, cls=NeuralNetClassifier, fit=None, **params):
    """Assert that a fit goes a way for a reason, and leaves what the general way leaves."""
    params = {"module": chain(), **params}
    net = compare(cls, params, *(data or classes()), path=path, reason=reason, **(fit or {}))
    assert bool(net.model_.path_reason_) is (net.model_.path_ != HAND_WRITTEN)
    return net


# ------------------------------------------------------------------------- hand-written


def test_the_built_in_module_is_trained_by_hand():
    goes(HAND_WRITTEN, module=None)
    goes(HAND_WRITTEN, module=None, cls=NeuralNetRegressor, data=numbers())


def test_callbacks_outside_of_the_batch_do_not_matter():
    stages = [row.name for row in TABLE if row.name.startswith("on_")]
    outside = [name for name in stages if name not in IN_BATCH and "batch" not in name]
    assert "on_after_train" in outside
    assert len(outside) > 8
    goes(HAND_WRITTEN, callbacks=[at(**dict.fromkeys(outside, nothing))])


def test_callbacks_of_validation_batches_do_not_matter():
    X, y = classes()
    acting = at(on_batch_valid_begin=nothing, on_batch_valid_end=nothing)
    goes(HAND_WRITTEN, callbacks=[acting], fit={"X_val": X, "y_val": y})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "kinds",
    [
        (4, 3),
        (4, 6, 5, 3),
        (4, 6, nn.Tanh(), nn.Identity(), 5, nn.ReLU(inplace=True), 3),
        (4, 6, nn.GELU("tanh"), 3, nn.Sigmoid()),
    ],
    ids=str,
)
def test_linear_layers_with_activations_between_them(kinds, dtype):
    name = str(dtype).removeprefix("torch.")
    goes(HAND_WRITTEN, module=layers(*kinds, dtype=dtype), data=classes(dtype=name))


def test_one_linear_layer_with_one_output():
    goes(HAND_WRITTEN, module=layers(4, 1), cls=NeuralNetRegressor, data=numbers())


def test_nested_sequences_are_one_chain():
    module = nn.Sequential(layers(4, 6, nn.Tanh()), nn.Sequential(nn.Identity(), layers(6, 3)))
    goes(HAND_WRITTEN, module=module)


class Renamed(nn.Sequential):
    """A sequence without a forward of its own."""


def test_a_subclass_of_a_sequence_with_its_forward():
    goes(HAND_WRITTEN, module=Renamed(*chain()))


# ------------------------------------------------------------------ actions and stages


@pytest.mark.parametrize("action", ACTIONS)
def test_a_replaced_action(action):
    way = GENERAL if action in ("step", "zero_grad") else DIRECT
    own = at(**{f"do_{action}": lambda ctx: getattr(ctx.estimator, f"do_{action}")(ctx)})
    goes(way, f"the callback 'at' (At) replaces do_{action}", callbacks=[own])


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_of_a_subclass_of_the_estimator(action):
    way = GENERAL if action in ("step", "zero_grad") else DIRECT
    calls = []

    def do(self, ctx):
        calls.append(action)
        getattr(NeuralNetClassifier, f"do_{action}")(self, ctx)

    Net = type("Net", (NeuralNetClassifier,), {f"do_{action}": do})
    net = Net(chain(), batch_size=8, max_epochs=2).fit(*classes())
    assert net.model_.path_ == way
    assert f"the estimator (Net) replaces do_{action}" in net.model_.path_reason_
    assert calls == [action] * 6


class Wrapping(Callback):
    """Count the calls of one place."""

    def __init__(self, place, counted):
        self.place = place
        self.counted = counted

    def wrap_call(self, owner, place, call):
        if place != self.place:
            return call

        def counting(ctx):
            self.counted.append(place)
            call(ctx)

        return counting


class Shared(list):
    """A list that clones share."""

    def __deepcopy__(self, memo):
        return self


@pytest.mark.parametrize("action", ACTIONS)
def test_a_wrapped_action(action):
    way, counted = GENERAL if action in ("step", "zero_grad") else DIRECT, Shared()
    wrapping = Wrapping(f"do_{action}", counted)
    goes(way, f"wrap_call wraps do_{action}", callbacks=[wrapping])
    assert len(counted) == 2 * 9  # by two fits


IN_BATCH = (
    "on_batch_begin",
    "on_after_predict",
    "on_after_loss",
    "on_before_backward",
    "on_after_backward",
    "on_before_step",
    "on_after_step",
    "on_batch_end",
)


def test_the_stages_in_a_batch_are_these():
    assert BATCH_STAGES == IN_BATCH


@pytest.mark.parametrize("passive", [False, True])
@pytest.mark.parametrize("stage", IN_BATCH)
def test_a_callback_in_the_batch(stage, passive):
    callback = at(passive=passive, **{stage: nothing})
    goes(DIRECT, f"the callback 'at' (At) acts in {stage}", callbacks=[callback])


def test_the_stages_are_all_of_a_training_batch():
    rows = [row.name for row in TABLE]
    first, last = rows.index("on_batch_begin"), rows.index("on_batch_exit")
    assert tuple(name for name in rows[first:last] if name.startswith("on_")) == IN_BATCH


def test_a_passive_callback_between_batches():
    """It sees each batch, and changes nothing that is looked at once a phase."""
    seen = Shared()

    def see(ctx):
        weight, loss = ctx.module[0].weight, ctx.loss.item()
        gradients = [parameter.grad for parameter in ctx.module.parameters()]
        counters = ctx.epoch, ctx.step, ctx.global_step, ctx.is_last_batch, ctx.training
        flags = ctx.resumable, ctx.step_skipped, len(ctx.index), ctx.last_loss
        outputs = of_one(ctx.y_pred), of_one(ctx.X), of_one(ctx.y)
        seen.append(repr((of_one(weight), loss, gradients, counters, flags, outputs)))

    goes(HAND_WRITTEN, callbacks=[at(passive=True, on_batch_exit=see)])
    assert len(seen) == 2 * 9
    assert seen[:9] == seen[9:]


def test_a_callback_that_may_change_something_between_batches():
    callback = at(on_batch_exit=nothing)
    goes(DIRECT, "(At), which is not passive, acts in on_batch_exit", callbacks=[callback])


@pytest.mark.parametrize("unit", ["epoch", "batch"])
def test_checkpoints_do_not_matter(tmp_path, unit):
    alone = NeuralNetClassifier(chain(), **PARAMS).fit(*classes())
    saved = NeuralNetClassifier(chain(), **PARAMS, callbacks=[Checkpoint(tmp_path, unit=unit)])
    saved.fit(*classes())
    assert saved.model_.path_ == alone.model_.path_ == HAND_WRITTEN
    assert bits(saved) == bits(alone)


class Wrapped(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, X):
        return self.inner(X) * 2


def test_a_module_wrapped_in_the_context():
    wrap = at(on_begin=lambda ctx: ctx.wrap(module=Wrapped(ctx.module)))
    goes(DIRECT, "Wrapped has a forward of its own", callbacks=[wrap])


class Halving:
    """Stands around an optimizer and halves the gradients."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.param_groups, self.state = optimizer.param_groups, optimizer.state

    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad.mul_(0.5)
        self.optimizer.step()

    def zero_grad(self):
        self.optimizer.zero_grad()


def test_an_optimizer_wrapped_in_the_context():
    wrap = at(on_begin=lambda ctx: ctx.wrap(optimizer=Halving(ctx.optimizer)))
    goes(GENERAL, "Halving is not one of torch's", callbacks=[wrap])


# --------------------------------------------------------------------------- optimizers


class OwnAdam(torch.optim.AdamW):
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad.clamp_(-0.01, 0.01)
        return super().step(closure)


@pytest.mark.parametrize(
    ("reason", "params"),
    [
        ("fused=False", {"optimizer__fused": False}),
        ("fused=False", {"optimizer__foreach": True}),
        ("amsgrad=True", {"optimizer__amsgrad": True}),
        ("a tensor as lr", {"optimizer__lr": torch.tensor(0.01)}),
        (
            "tensors as betas",
            {"optimizer__betas": (torch.tensor(0.5), torch.tensor(0.9)), "optimizer__fused": True},
        ),
        ("SGD has momentum=0.9", {"optimizer": "sgd", "optimizer__momentum": 0.9}),
        (
            "momentum=0.9",
            {"optimizer": "sgd", "optimizer__momentum": 0.9, "optimizer__fused": True},
        ),
        ("RMSprop is not one", {"optimizer": "rmsprop"}),
        ("NAdam is not one", {"optimizer": "nadam"}),
        ("OwnAdam is not one", {"optimizer": OwnAdam}),
    ],
)
def test_an_optimizer_whose_step_is_more_than_the_kernel(reason, params):
    goes(GENERAL, reason, **params)


@pytest.mark.parametrize("when", ["on_begin", "on_epoch_begin", "on_before_train"])
@pytest.mark.parametrize("which", ["pre", "post"])
def test_hooks_of_the_optimizer_are_called(which, when):
    seen = Shared()

    def watch(ctx):
        hook = getattr(ctx.optimizer, f"register_step_{which}_hook")
        hook(lambda optimizer, args, kwargs: seen.append(ctx.epoch))

    number = 0 if when == "on_begin" else 2
    net = goes(None, "hooks", callbacks=[at(**{when: in_epoch(number, watch)})])
    assert net.model_.path_ == GENERAL or when != "on_begin"
    of_one_fit = [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert seen == 2 * (of_one_fit if when == "on_begin" else of_one_fit[3:])


# -------------------------------------------------- an optimizer's methods, replaced


def halve(optimizer):
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad.mul_(0.5)


def replace_step(ctx):
    optimizer, step = ctx.optimizer, ctx.optimizer.step

    def halving(*args, **options):
        halve(optimizer)
        return step(*args, **options)

    optimizer.step = halving


def replace_step_in_disguise(ctx):
    optimizer, step = ctx.optimizer, ctx.optimizer.step

    @functools.wraps(step)
    def halving(*args, **options):
        halve(optimizer)
        return step(*args, **options)

    optimizer.step = halving


def schedule_and_replace_step(ctx):
    make_schedule(ctx)
    replace_step_in_disguise(ctx)


def make_schedule(ctx):
    torch.optim.lr_scheduler.StepLR(ctx.optimizer, 1)


def keep_gradients(ctx):
    ctx.optimizer.zero_grad = lambda: None


def zero_in_place(ctx):
    ctx.optimizer.zero_grad = functools.partial(ctx.optimizer.zero_grad, set_to_none=False)


@pytest.mark.parametrize("beside", [{}, {"on_batch_end": nothing}], ids=["alone", "in batch"])
@pytest.mark.parametrize("stage", ["on_begin", "on_epoch_begin", "on_epoch_end"])
@pytest.mark.parametrize(
    "change",
    [
        replace_step,
        replace_step_in_disguise,
        schedule_and_replace_step,
        keep_gradients,
        zero_in_place,
    ],
)
def test_a_replaced_method_of_the_optimizer_is_called(change, stage, beside):
    number = {"on_begin": 0, "on_epoch_begin": 2, "on_epoch_end": 1}[stage]
    callback = at(**{stage: in_epoch(number, change)}, **beside)
    net = goes(None, callbacks=[callback])
    assert net.model_.path_ != HAND_WRITTEN


@pytest.mark.parametrize("stage", ["on_begin", "on_epoch_end"])
def test_a_schedule_of_torch_is_told_of_the_steps(stage):
    """It warns where none was taken before its own."""
    schedules = []

    def make(ctx):
        schedules.append(torch.optim.lr_scheduler.StepLR(ctx.optimizer, 1, gamma=0.5))

    def step(ctx):
        if schedules and (ctx.epoch > 1 or stage == "on_begin"):
            schedules[-1].step()

    number = 0 if stage == "on_begin" else 1
    callbacks = {
        "make": at(**{stage: in_epoch(number, make)}),
        "step": at(order=1, on_epoch_end=step),
    }
    goes(HAND_WRITTEN, callbacks=callbacks)


@pytest.mark.parametrize("stage", ["on_begin", "on_epoch_begin"])
def test_a_fit_that_trains_nothing_went_no_way(stage):
    def cancel(ctx):
        raise CancelFitException

    net = NeuralNetClassifier(chain(), callbacks=[at(**{stage: cancel})], **PARAMS)
    model = net.fit(*classes()).model_
    assert (model.path_, model.path_reason_) == ("", "")
