"""What callbacks keep is all they need: taken apart in the middle of a fit, they go on."""

import copy

import pytest
import torch
from callbacks.resume_cases import BATCHES, MORE_NAMES, NAMES, WARNINGS, case, outcome
from sklearn.base import clone

from skorchlike import Callback

pytestmark = [pytest.mark.filterwarnings(warning) for warning in WARNINGS]


class TakesApart(Callback):
    """After a training batch makes all others anew, from nothing but their states.

    By the rules by which a fit is resumed, with no use of the code that resumes: what the
    stages that run again change is put back by hand.
    """

    order = float("inf")
    passive = True

    def __init__(self, at=None):
        self.at = at

    def on_batch_exit(self, ctx):
        if ctx.training and ctx.global_step == self.at:
            others = {n: cb for n, cb in ctx.callbacks.items() if cb is not self}
            states = {n: copy.deepcopy(cb.state_dict()) for n, cb in others.items()}
            put_back = keep(ctx)
            for callback in others.values():
                callback.on_phase_exit(ctx)
            for callback in others.values():
                callback.on_exit(ctx)
                fresh = clone(callback)
                vars(callback).clear()
                vars(callback).update(vars(fresh))
            put_back()
            record, epoch = ctx._history.pop(), ctx._epoch
            ctx._epoch = ctx._start = epoch - 1
            ctx._step, ctx._training = 0, False
            run_again("on_begin", ctx, others, states)
            ctx._epoch = epoch
            ctx._history.append({"epoch": epoch})
            run_again("on_epoch_begin", ctx, others, states)
            ctx._training = ctx._can_limit = True
            run_again("on_before_train", ctx, others, states)
            ctx._can_limit = False
            ctx._history[-1] = record
            put_back()


def run_again(stage, ctx, callbacks, states):
    for name, callback in callbacks.items():
        getattr(callback, stage)(ctx)
        if states[name] is not None:
            callback.load_state_dict(copy.deepcopy(states[name]))


def keep(ctx):
    """Return what puts back all but the callbacks."""
    module, criterion = ctx.module, ctx.criterion
    optimizer = getattr(ctx.optimizer, "optimizer", ctx.optimizer)  # without a wrapper
    parameters = [*module.parameters(), *criterion.parameters()]
    kept = copy.deepcopy(
        [part.state_dict() for part in (module, criterion, optimizer)]
        + [[p.grad for p in parameters], ctx._history[-1]]
    )
    rng = torch.get_rng_state()
    fields = {
        n: getattr(ctx, n) for n in ("_epoch", "_start", "_step", "_global_step", "_training")
    }
    fields |= {n: getattr(ctx, n) for n in ("_limit", "_n_steps", "terminate", "stop_reason")}
    wrapped = ctx._module, ctx._optimizer

    def put_back():
        states = copy.deepcopy(kept)
        module.load_state_dict(states[0])
        criterion.load_state_dict(states[1])
        optimizer.load_state_dict(states[2])  # which makes its groups anew
        for parameter, gradient in zip(parameters, states[3], strict=True):
            parameter.grad = gradient
        ctx._history[-1].clear()
        ctx._history[-1].update(states[4])
        torch.set_rng_state(rng)
        for name, value in fields.items():
            setattr(ctx, name, value)
        ctx._optimizer = optimizer if ctx._optimizer is wrapped[1] else ctx._optimizer

    return put_back


def fit(name, folder, at):
    folder.mkdir()
    net, X, y = case(name, folder)
    net.fit(X, y, callbacks={"stops": TakesApart(at)})
    return outcome(net, folder)


# a profile's clock runs on in the calls that it wraps, which cannot be made anew here
TAKEN_APART = [name for name in (*NAMES, *MORE_NAMES) if name not in ("profile", "many")]


@pytest.mark.parametrize("name", TAKEN_APART)
def test_a_callback_taken_apart_in_the_middle_goes_on_to_the_bit(name, tmp_path):
    expected = fit(name, tmp_path / "whole", None)
    for at in (2, BATCHES + 1, 2 * BATCHES, 4 * BATCHES - 1):
        got = fit(name, tmp_path / str(at), at)
        for part, value in expected.items():
            assert got[part] == value, f"{part}, after batch {at}"
