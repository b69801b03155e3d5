"""One fit from start to end, and one prediction: the hall from which the wings are reached."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from skorchlike.building import (
    SIZES,
    build_parts,
    check_components,
    constructor,
    example_optimizer,
)
from skorchlike.callbacks.checkpoint import components_of
from skorchlike.callbacks.sklearn_tasks import SklearnTasks
from skorchlike.checking import check_fit_data
from skorchlike.collecting import (
    OWN_COLUMNS,
    collect_callbacks,
    states_to_load,
)
from skorchlike.data.batches import FitData
from skorchlike.data.checks import as_numpy, check_X
from skorchlike.data.loading import is_loader
from skorchlike.data.preparation import TRANSFORMS
from skorchlike.feeding import learn_inputs_of, make_feed
from skorchlike.model.display import HistoryDisplay
from skorchlike.model.history import history_frame
from skorchlike.model.trained import TrainedModel
from skorchlike.model.trust import packages_of
from skorchlike.params.callbacks import build_callbacks, named_callbacks
from skorchlike.params.components import (
    follows_input_dtype,
)
from skorchlike.params.continuing import check_same_transforms
from skorchlike.params.placing import check_device
from skorchlike.resuming import (
    Found,
    check_can_go_on,
    check_resume,
    find_snapshot,
    states_of,
    tell_checkpoint,
)
from skorchlike.training.actions import DefaultActions
from skorchlike.training.calls import in_order
from skorchlike.training.interrupts import Interrupts
from skorchlike.training.loop import Loop
from skorchlike.training.losses import INDICATOR_CRITERIA, LossFunction
from skorchlike.training.memory import let_go
from skorchlike.training.randomness import draw_seed, private_rng, restore_rng
from skorchlike.training.scores import R2, Accuracy
from skorchlike.training.stages import PROVIDERS
from skorchlike.underway import Fit, transforms

# what the estimators need of the wings, which they reach through this hall alone
__all__ = [
    "INDICATOR_CRITERIA",
    "OWN_COLUMNS",
    "PROVIDERS",
    "R2",
    "SIZES",
    "TRANSFORMS",
    "Accuracy",
    "DefaultActions",
    "FitData",
    "HistoryDisplay",
    "Interrupts",
    "LossFunction",
    "as_numpy",
    "build_callbacks",
    "check_X",
    "check_components",
    "check_fit_data",
    "check_resume",
    "constructor",
    "example_optimizer",
    "fit_model",
    "follows_input_dtype",
    "history_frame",
    "in_order",
    "is_loader",
    "named_callbacks",
    "unchanged_on_failure",
]


def fit_model(
    estimator: Any,
    data: FitData,
    *,
    n_epochs: int,
    extra_callbacks: Any = None,
    continued: TrainedModel | None = None,
    sklearn_task: tuple[Any, dict[str, Any]] | None = None,
    resume: Any = None,
    interrupts: Interrupts,
) -> tuple[TrainedModel, KeyboardInterrupt | None]:
    """Run one fit.

    Parameters
    ----------
    estimator : BaseNeuralNet
        Says the parameters; nothing of it is changed.
    data : FitData
        The checked data.
    n_epochs : int
        How many epochs to train; when a fit is resumed, how many in all.
    extra_callbacks : None, dict or list
        Callbacks for this fit alone.
    continued : TrainedModel or None
        The model of the fit that this one continues; it is not changed.
    sklearn_task : tuple or None
        The task of the fit and its data, where there are callbacks of scikit-learn's own.
    resume : None, True, Path or dict
        Where an interrupted fit is looked for, to go on with it.
    interrupts : Interrupts
        What has taken Ctrl-C and SIGTERM, until the model is kept.

    Returns
    -------
    model : TrainedModel
        What the fit produced.
    interrupt : KeyboardInterrupt or None
        To be raised once the model is kept.
    """
    wanted = Wanted(estimator, data, n_epochs, extra_callbacks, continued, sklearn_task, resume)
    return _fit(wanted, interrupts)


@dataclass
class Wanted:
    """What `fit_model` was asked for."""

    estimator: Any
    data: FitData
    n_epochs: int
    extra_callbacks: Any
    continued: TrainedModel | None
    sklearn_task: tuple[Any, dict[str, Any]] | None
    resume: Any


def _fit(wanted: Wanted, interrupts: Interrupts) -> Any:
    """Run the fit; anew with the seed of the interrupted one, where that had another."""
    continued = wanted.continued
    seed = draw_seed(wanted.estimator.random_state) if continued is None else continued.seed_
    outcome = _attempt(wanted, seed, interrupts, None)
    if isinstance(outcome, Found):
        assert outcome.snapshot is not None
        outcome = _attempt(wanted, outcome.snapshot["seed"], interrupts, outcome)
    try:
        return outcome
    finally:
        del outcome  # its interrupt has this frame in its traceback


def _attempt(
    wanted: Wanted, seed: int, interrupts: Interrupts, found: Found | None
) -> tuple[TrainedModel, KeyboardInterrupt | None] | Found:
    """Run a fit with this seed, or return a checkpoint that has another one."""
    estimator, continued = wanted.estimator, wanted.continued
    device = check_device(estimator.device)
    init_seed, shuffle_seed, split_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    generator = torch.Generator().manual_seed(shuffle_seed)
    feed = make_feed(estimator, copy.copy(wanted.data), split_seed)
    if continued is None:
        estimator._learn_scale(*feed.train_target())
    else:
        check_same_transforms(continued.continuation_["transforms"], transforms(estimator))
    feed.scale_targets(estimator._scale_target)
    with private_rng(init_seed, device):
        inputs = learn_inputs_of(estimator, feed, continued)
        parts = build_parts(estimator, inputs, feed, device, continued)
        train, valid = feed.batches(parts.place, inputs.preparation, generator)
        fit = Fit(estimator, parts, inputs, seed, generator, train, wanted.data, feed.valid_rows)
        callbacks = collect_callbacks(estimator, wanted.extra_callbacks)
        if wanted.sklearn_task is not None:
            tasks = SklearnTasks(*wanted.sklearn_task, view=fit.live_model)
            callbacks["sklearn__callbacks"] = tasks
        callbacks = in_order(callbacks)
        score = None if valid is None else estimator._make_score(parts.criterion)
        loss_function = estimator._make_loss(parts.criterion, *feed.train_target())
        loss_function.n_members = getattr(parts.module, "n_members", None)
        ctx = fit.open_context(
            callbacks, wanted.n_epochs, score, loss_function, continued, interrupts
        )
        try:
            if wanted.resume is not None:
                found = _found(fit, wanted, found)
                if found.snapshot is not None and found.snapshot["seed"] != seed:
                    return found
            return _train(fit, wanted, valid, score, found)
        finally:
            ctx._kill()


def _found(fit: Fit, wanted: Wanted, found: Found | None) -> Found:
    """Return the checkpoint to go on from, compared with this fit."""
    ctx, n_epochs = fit.ctx, wanted.n_epochs
    if found is None:
        trusted = packages_of(components_of(ctx))
        found = find_snapshot(wanted.resume, ctx.callbacks, ctx, n_epochs, trusted)
        if found.snapshot is not None and found.snapshot["seed"] != fit.seed:
            return found
    tell_checkpoint(found, wanted.resume, ctx.callbacks)
    if found.snapshot is not None:
        check_can_go_on(found, fit.identity, n_epochs)
    if wanted.estimator.verbose:
        print(found.told())
    return found


def _train(
    fit: Fit, wanted: Wanted, valid: Any, score: Any, found: Found | None
) -> tuple[TrainedModel, KeyboardInterrupt | None]:
    """Run the loop, from the start or from where an interrupted fit was."""
    ctx, resumed = fit.ctx, None
    if any(callback.order == math.inf for callback in ctx.callbacks.values()):
        _ = fit.identity.parameters  # read now: callbacks may change theirs in training
    before = {} if wanted.continued is None else wanted.continued.continuation_
    to_load = states_to_load(ctx.callbacks, before)
    if found is not None and found.snapshot is not None:
        if found.position.finished:
            model = fit.finished_model(found)
            model.module_.eval()
            return model, None
        resumed = fit.go_on_from(found, wanted.n_epochs)
        to_load = states_of(found.snapshot, ctx.callbacks)
    if before:
        restore_rng(before["rng"], fit.generator)
    loop = fit.loop = Loop(
        ctx, fit.train, valid, score, fit.estimator.valid_every, to_load, resumed
    )
    interrupt = _run(loop)
    ctx._interrupts.defer()  # from here on the model is kept first
    try:
        fit.parts.module.eval()
        _warn_diverged(ctx.history)
        return fit.model(loop.states), interrupt
    finally:
        interrupt = None  # its traceback would keep this frame alive, and that the data


def _run(loop: Loop) -> KeyboardInterrupt | None:
    """Run the loop; an interrupt is handed on, since the model so far is kept."""
    try:
        loop.fit()
    except KeyboardInterrupt as interrupt:
        if loop.ctx.stop_reason is None:  # it came before the first stage: nothing has begun
            raise
        return interrupt
    return None


def _warn_diverged(history: list[dict[str, Any]]) -> None:
    """Warn where the last training loss is infinite or NaN: nothing else would tell."""
    loss = history[-1].get("train_loss", 0.0) if history else 0.0
    if not math.isfinite(loss):
        warnings.warn(
            f"The training loss of epoch {history[-1]['epoch']}, the last, is {loss}: the fit has "
            "diverged. Use a smaller lr or scale the inputs (and targets); "
            "callbacks=['nan_guard'] stops where it begins and says in which layer.",
            ConvergenceWarning,
            stacklevel=2,
        )


@contextmanager
def unchanged_on_failure(estimator: Any) -> Iterator[None]:
    """Put back all attributes but scikit-learn's own callback bookkeeping on an error."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException as error:
        let_go(error)
        after = vars(estimator)
        bookkeeping = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")
        kept = {name: after[name] for name in bookkeeping if name in after}
        after.clear()
        after.update(before)
        after.update(kept)
        raise
