"""Stand-ins that several tests share: callbacks that record, fail or act, and small data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from skorchlike import Callback, NeuralNetClassifier
from skorchlike.training.stages import ACTIONS, STAGES


class Log(list):
    """A list that clones share, so that a test reads what the clone in a fit wrote."""

    def __deepcopy__(self, memo):
        return self


class Event(NamedTuple):
    """What a callback saw at one stage or action."""

    who: str
    place: str
    epoch: int
    step: int
    global_step: int
    n_steps: int | None
    is_last_batch: bool
    training: bool
    index: list[int] | None


def seen(who, place, ctx):
    index = None if ctx.index is None else ctx.index.tolist()
    counters = (ctx.epoch, ctx.step, ctx.global_step, ctx.n_steps)
    return Event(who, place, *counters, ctx.is_last_batch, ctx.training, index)


class RecordingCallback(Callback):
    """Record every stage, in training and in predict."""

    def __init__(self, log, who="recorder"):
        self.log = log
        self.who = who


class EarlyRecorder(RecordingCallback):
    order = -10


class LateRecorder(RecordingCallback):
    order = 10


class _Acting(Callback):
    """Raise an error at one place, or set ``ctx.terminate`` there (``error=None``)."""

    def __init__(self, place="nowhere", error=None, epoch=None, step=None, training=None):
        self.place = place
        self.error = error
        self.epoch = epoch
        self.step = step
        self.training = training

    def act(self, place, ctx):
        wanted = (self.place, self.epoch, self.step, self.training)
        here = (place, ctx.epoch, ctx.step, ctx.training)
        if all(w is None or w == h for w, h in zip(wanted, here, strict=True)):
            if self.error is None:
                ctx.terminate = True
            else:
                raise self.error(f"from {place}")


class FailingCallback(_Acting):
    """Fail, or end the fit, at one stage."""


class RecordingActions(_Acting):
    """Record the five actions, run the estimator's own; fail, or end the fit, in one."""

    def __init__(self, log, place="nowhere", error=None, epoch=None, step=None, training=None):
        super().__init__(place, error, epoch, step, training)
        self.log = log


def _record_stage(stage):
    return lambda self, ctx: self.log.append(seen(self.who, stage, ctx))


def _fail_stage(stage):
    return lambda self, ctx: self.act(stage, ctx)


def _record_action(action):
    def provider(self, ctx):
        self.log.append(seen("actions", action, ctx))
        self.act(action, ctx)
        getattr(ctx.estimator, f"do_{action}")(ctx)

    return provider


for _stage in STAGES:
    setattr(RecordingCallback, _stage, _record_stage(_stage))
    setattr(FailingCallback, _stage, _fail_stage(_stage))
for _action in ACTIONS:
    setattr(RecordingActions, f"do_{_action}", _record_action(_action))


class StatefulRecorder(Callback):
    """Keep the number of training batches as a state."""

    order = -5

    def on_begin(self, ctx):
        self.n_batches = 0

    def on_batch_end(self, ctx):
        self.n_batches += 1

    def state_dict(self):
        return {"n_batches": self.n_batches}

    def load_state_dict(self, state):
        self.n_batches = state["n_batches"]


class FailingState(Callback):
    """Fail when its state is gathered."""

    def __init__(self, error=ValueError):
        self.error = error

    def state_dict(self):
        raise self.error("no state")

    def load_state_dict(self, state):
        raise AssertionError("nothing was saved")


class Linear(nn.Linear):
    """A linear layer that takes its sizes from the data, in float64."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs, dtype=torch.float64)


def make_data(n=8, n_features=3, n_classes=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_features)), np.arange(n) % n_classes


class OnDevice(torch.Tensor):
    """A tensor of the CPU that says it is none: a stand-in for one of an accelerator."""

    is_cpu = False


def make_net(**params):
    """Return a classifier of two batches an epoch on ``make_data()``, as the numbers are."""
    fixed = {"module": Linear, "batch_size": 4, "predict_batch_size": 2, "max_epochs": 3}
    fixed["numeric_transform"] = None
    return NeuralNetClassifier(**{**fixed, "random_state": 0, **params})


def weights_of(module):
    """Return a copy of a module's state."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
