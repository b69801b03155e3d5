"""A fit broken off on any way that goes on by any way ends with the bits of an unbroken one."""

from __future__ import annotations

import itertools
import signal

import pytest
from training.fast.ways import PARAMS, at, bits, chain, classes, nothing

from skorchlike import Checkpoint, NeuralNetClassifier
from skorchlike.training.stages import ACTIONS

X, Y = classes(40)
N_BATCHES = 5
LAST = float("inf")


def own(action):
    return lambda ctx: getattr(ctx.estimator, f"do_{action}")(ctx)


# what makes a fit go a way: callbacks of the fit, which may be others when it goes on
WAYS = {
    "hand-written": {},
    "direct": {"in_batch": at(passive=True, on_batch_end=nothing)},
    "general": {"actions": at(passive=True, **{f"do_{action}": own(action) for action in ACTIONS})},
}


def fit(way, optimizer, callbacks=None, **said):
    net = NeuralNetClassifier(chain(), optimizer=optimizer, **PARAMS)
    net.fit(X, Y, callbacks={**WAYS[way], **(callbacks or {})}, **said)
    assert said.get("resume") is None or net.model_.path_ == way
    return net


def breaking(epoch, step):
    """Return a callback that breaks a fit off, behind what is saved there."""

    def stop(ctx):
        if (ctx.epoch, ctx.step if step else None) == (epoch, step):
            raise InterruptedError

    stage = "on_batch_exit" if step else "on_epoch_end"
    return at(order=LAST, passive=True, **{stage: stop})


@pytest.fixture(scope="module", params=["adamw", "sgd"])
def unbroken(request):
    nets = {way: fit(way, request.param) for way in WAYS}
    assert {way: net.model_.path_ for way, net in nets.items()} == {way: way for way in WAYS}
    left = [bits(net) for net in nets.values()]
    assert left[0] == left[1] == left[2]
    return request.param, left[0]


@pytest.mark.parametrize(("before", "after"), [*itertools.product(WAYS, WAYS)])
@pytest.mark.parametrize(("epoch", "step"), [(1, 1), (2, 3), (2, None)])
def test_resumed_from_a_checkpoint(unbroken, tmp_path, before, after, epoch, step):
    optimizer, expected = unbroken
    checkpoint = {"checkpoint": Checkpoint(tmp_path, unit="batch"), "stop": breaking(epoch, step)}
    with pytest.raises(InterruptedError):
        fit(before, optimizer, checkpoint)
    # without a checkpoint of its own, so that no callback acts in the batch
    assert bits(fit(after, optimizer, resume=tmp_path)) == expected


@pytest.mark.parametrize(("before", "after"), [*itertools.product(WAYS, WAYS)])
@pytest.mark.parametrize("epoch", [1, 2])
def test_resumed_from_a_snapshot_at_the_end_of_an_epoch(unbroken, before, after, epoch):
    optimizer, expected = unbroken
    snapshots = []

    def keep(ctx):
        if ctx.epoch == epoch:
            snapshots.append(ctx.snapshot())
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(before, optimizer, {"keep": at(order=LAST, passive=True, on_epoch_end=keep)})
    assert bits(fit(after, optimizer, resume=snapshots[0])) == expected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("epoch", "step"), [(1, 2), (2, N_BATCHES)])
def test_resumed_where_ctrl_c_came(unbroken, tmp_path, way, epoch, step):
    """The batch under way is finished, and the fit saved behind it."""
    optimizer, expected = unbroken

    def press(ctx):
        if (ctx.epoch, ctx.step) == (epoch, step):
            signal.raise_signal(signal.SIGINT)

    callbacks = {
        "press": at(passive=True, on_batch_exit=press),
        "checkpoint": Checkpoint(tmp_path, every=100),
    }
    net = NeuralNetClassifier(chain(), optimizer=optimizer, **PARAMS)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, callbacks={**WAYS[way], **callbacks})
    assert net.model_.path_ == way
    assert bits(net) != expected
    for after in WAYS:
        assert bits(fit(after, optimizer, resume=tmp_path)) == expected


@pytest.mark.parametrize("step", [1, N_BATCHES])
def test_resumed_again_and_again_in_the_middle_of_an_epoch(unbroken, tmp_path, step):
    optimizer, expected = unbroken
    ways = itertools.cycle(WAYS)
    for epoch, way in zip((1, 2, 3), ways, strict=False):
        checkpoint = Checkpoint(tmp_path, unit="batch")
        callbacks = {"checkpoint": checkpoint, "stop": breaking(epoch, step)}
        with pytest.raises(InterruptedError):
            fit(way, optimizer, callbacks, **({} if epoch == 1 else {"resume": True}))
    assert bits(fit("hand-written", optimizer, resume=tmp_path)) == expected
