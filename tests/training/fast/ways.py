"""The same fit by different ways, and what it left, bit by bit."""

from __future__ import annotations

import copy
import functools
import os
import re
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import settings
from torch import nn

from skorchlike import Callback, NeuralNetClassifier, NeuralNetRegressor
from skorchlike.training.stages import ACTIONS


def by_own_actions(cls):
    """Return a subclass whose actions are the estimator's own, called by ``super()``.

    To the loop they are replaced actions, so it goes the general way.
    """

    def calling(action):
        own = getattr(cls, f"do_{action}")
        return lambda self, ctx: own(self, ctx)

    return type(cls.__name__, (cls,), {f"do_{action}": calling(action) for action in ACTIONS})


GENERAL = {cls: by_own_actions(cls) for cls in (NeuralNetClassifier, NeuralNetRegressor)}
PARAMS = {"batch_size": 8, "max_epochs": 3, "random_state": 0, "numeric_transform": None}
GENERATED = settings(
    deadline=None,
    # the same examples in each run; with FUZZ=1 in the environment others
    derandomize="FUZZ" not in os.environ,
    database=None,
)


class Outcome(NamedTuple):
    """What a fit came to."""

    net: Any
    error: BaseException | None
    warned: list[str]


def run(cls, params, X, y=None, **fit):
    """Fit an estimator to copies of all that is given."""
    params, fit = copy.deepcopy(params), copy.deepcopy(fit)
    net, error = cls(**{**PARAMS, **params}), None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            net.fit(X, y, **fit)
        except BaseException as raised:
            error = raised
    return Outcome(net, error, sorted(str(w.message) for w in warned))


def bits(net):
    """Return all that a fit left, by name, as bytes."""
    model = net.model_
    left = {f"module {k}": v for k, v in model.module_.state_dict().items()}
    left |= {f"gradient {k}": p.grad for k, p in model.module_.named_parameters()}
    left |= {f"criterion {k}": v for k, v in model.criterion_.state_dict().items()}
    for i, state in model.optimizer_["state"].items():
        left |= {f"state {i} {k}": v for k, v in state.items()}
    for i, group in enumerate(model.optimizer_["param_groups"]):
        left |= {f"group {i} {k}": v for k, v in group.items()}
    for i, record in enumerate(model.history_):
        left |= {f"epoch {i} {k}": v for k, v in record.items() if k != "duration"}
    left["random numbers"] = model.continuation_["rng"]["torch"]
    return {name: of_one(value) for name, value in left.items()}


def of_one(value):
    """Return a value as something that is equal only to the same bits."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.detach().numpy().tobytes()
    return float.hex(value) if isinstance(value, float) else repr(value)


def said_by(error):
    """Return type, text and notes of an error."""
    if error is None:
        return None
    notes = getattr(error, "__notes__", [])
    # where objects lie in memory is no matter
    return type(error), re.sub(r"\d{9,}", "", str(error)), notes


def compare(cls, params, X, y=None, *, path=None, reason=None, fails=False, **fit):
    """Fit on the way that the loop chooses and on the general way; return the first estimator.

    Assert that both leave the same; or, where they may (``fails=None``) or must (True), fail in
    the same words: then return the error.
    """
    fast, general = run(cls, params, X, y, **fit), run(GENERAL[cls], params, X, y, **fit)
    assert said_by(fast.error) == said_by(general.error)
    assert fast.warned == general.warned
    assert fails is not True or fast.error is not None
    if fails is not False and fast.error is not None:
        return fast.error
    assert fast.error is None, repr(fast.error)
    assert general.net.model_.path_ == "general"
    got, expected = bits(fast.net), bits(general.net)
    assert got.keys() == expected.keys()
    assert not [name for name in got if got[name] != expected[name]]
    model = fast.net.model_
    assert path is None or model.path_ == path, (model.path_, model.path_reason_)
    assert reason is None or reason in model.path_reason_, model.path_reason_
    return fast.net


def at(order=0, passive=False, **stages):
    """Return a callback that calls these functions of the context at stages."""

    def calling(function):
        return lambda self, ctx: function(ctx)

    named = {name: calling(function) for name, function in stages.items()}
    return type("At", (Callback,), {"order": order, "passive": passive, **named})()


def nothing(ctx):
    """Do nothing: a callback's stage that keeps the hand-written step away."""


def in_epoch(number, act):
    """Return a function of the context that acts in one epoch."""

    @functools.wraps(act)
    def acting(ctx):
        if ctx.epoch == number:
            act(ctx)

    return acting


def classes(n=23, n_features=4, n_classes=3, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_features)).astype(dtype), np.arange(n) % n_classes


def numbers(n=23, n_features=4, n_targets=1, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, n_features)), rng.normal(size=(n, n_targets))
    return X.astype(dtype), (y[:, 0] if n_targets == 1 else y).astype(dtype)


def layers(*kinds, dtype=torch.float32):
    """Return a small chain; numbers are sizes of linear layers, the rest stands between them."""
    torch.manual_seed(0)
    built, width = [], kinds[0]
    for kind in kinds[1:]:
        if isinstance(kind, int):
            built.append(nn.Linear(width, kind))
            width = kind
        else:
            built.append(kind)
    return nn.Sequential(*built).to(dtype)


def chain(*, dtype=torch.float32):
    """Return a chain for `classes()`: linear layers with a leaky ReLU between them."""
    return layers(4, 6, nn.LeakyReLU(), 3, dtype=dtype)
