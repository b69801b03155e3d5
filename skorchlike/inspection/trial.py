"""One callback tried in many fits, beside companions that look on or break the fit."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from skorchlike.callbacks.base import Callback
from skorchlike.classifier import NeuralNetClassifier
from skorchlike.exceptions import CancelFitException
from skorchlike.training.context import Context
from skorchlike.training.stages import FIT_STAGES

NAME = "checked"


class Trial:
    """One callback with an estimator and data to try it in."""

    def __init__(self, callback: Callback, estimator: Any, X: Any, y: Any) -> None:
        self.callback = callback
        self.cls = type(callback).__name__
        if X is None:
            X = np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)
            y = np.arange(48) % 3
        self.X, self.y = X, y
        if estimator is None:
            estimator = NeuralNetClassifier(
                module__hidden_layer_sizes=(4,),
                lr=0.01,
                max_epochs=2,
                batch_size=10,
                validation_fraction=0.25,
                random_state=0,
            )
        self.estimator = clone(estimator)
        if estimator.random_state is None:
            self.estimator.set_params(random_state=0)  # what is checked is compared

    def make(self, *others: Callback, alone: bool = False, **params: Any) -> Any:
        """Return an estimator with the callback (unless alone) between the others."""
        first = {f"before{i}": cb for i, cb in enumerate(others) if cb.order < 0}
        last = {f"after{i}": cb for i, cb in enumerate(others) if cb.order >= 0}
        mine = {} if alone else {NAME: self.callback}
        return clone(self.estimator).set_params(callbacks={**first, **mine, **last}, **params)

    def fit(self, *others: Callback, alone: bool = False, resume: Any = None, **params: Any) -> Any:
        """Return such an estimator, fitted; warnings are the callback's own affair."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = self.make(*others, alone=alone, **params)
            return net.fit(self.X, self.y, resume=resume)


@dataclass
class Seen:
    """What a companion saw: shared by its clones."""

    callbacks: list[Any] = field(default_factory=list)
    modules: list[torch.nn.Module] = field(default_factory=list)
    states: list[Any] = field(default_factory=list)

    def __deepcopy__(self, memo: Any) -> Seen:
        return self


class Companion(Callback):
    """Remembers the checked callback and the module of a fit."""

    order = -1e9

    def __init__(self, seen: Seen) -> None:
        self.seen = seen

    def on_begin(self, ctx: Context) -> None:
        """Remember them."""
        self.seen.callbacks.append(ctx.callbacks.get(NAME))
        self.seen.modules.append(ctx.module)


class Saver(Companion):
    """Copies the checked callback's state after each epoch."""

    order = 1e9

    def on_epoch_end(self, ctx: Context) -> None:
        """Copy it."""
        self.seen.states.append(copy.deepcopy(ctx.callbacks[NAME].state_dict()))


class Watcher(Companion):
    """Takes a snapshot in the middle of the first epoch, and one after it."""

    order = float("inf")
    passive = True

    def on_batch_exit(self, ctx: Context) -> None:
        """Take one after the second batch, or the only one."""
        if ctx.resumable and ctx.training and ctx.epoch == 1 and ctx.step <= 2:
            self.seen.states[:] = [ctx.snapshot()]

    def on_epoch_end(self, ctx: Context) -> None:
        """Take one."""
        if ctx.epoch == 1:
            self.seen.states.append(ctx.snapshot())


class Loader(Companion):
    """Loads a state where a continued fit does, reads it back, and ends the fit."""

    order = 1e9

    def on_begin(self, ctx: Context) -> None:
        """Load and read back."""
        checked = ctx.callbacks[NAME]
        state = self.seen.states[0]
        if state is not None:
            checked.load_state_dict(copy.deepcopy(state))
            self.seen.states[0] = copy.deepcopy(checked.state_dict())
        raise CancelFitException


class Breaker(Callback):
    """Raises an exception at a stage; before the checked callback."""

    order = -1e9

    def __init__(self, seen: Seen, stage: str, error: BaseException) -> None:
        self.seen = seen
        self.stage = stage
        self.error = error


class LateBreaker(Breaker):
    """The same after the checked callback."""

    order = 1e9


def _act(stage: str) -> Callable[[Any, Context], None]:
    def act(self: Any, ctx: Context) -> None:
        if ctx.callbacks[NAME] not in self.seen.callbacks:
            self.seen.callbacks.append(ctx.callbacks[NAME])
            self.seen.modules.append(ctx.module)
        if self.stage == stage:
            raise self.error

    return act


for _stage in FIT_STAGES:
    setattr(Breaker, _stage, _act(_stage))
