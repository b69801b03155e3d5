"""One fit from start to end, and one prediction: the hall from which the wings are reached."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch

from skorchlike.building import SIZES, Parts, build_parts, check_components, constructor, said_about
from skorchlike.callbacks.sklearn_tasks import SklearnTasks
from skorchlike.checking import check_fit_data
from skorchlike.collecting import (
    OWN_COLUMNS,
    collect_callbacks,
    history_columns,
    n_updates,
    states_to_load,
)
from skorchlike.data.batches import FitData
from skorchlike.data.checks import as_numpy, check_X
from skorchlike.data.inputs import Inputs
from skorchlike.data.loading import is_loader
from skorchlike.data.preparation import TRANSFORMS
from skorchlike.feeding import learn_inputs_of, make_feed
from skorchlike.model.display import HistoryDisplay
from skorchlike.model.history import history_frame
from skorchlike.model.trained import TrainedModel
from skorchlike.params.callbacks import build_callbacks, named_callbacks
from skorchlike.params.components import (
    follows_input_dtype,
)
from skorchlike.params.continuing import check_same_transforms, class_name
from skorchlike.params.placing import check_device
from skorchlike.training.actions import DefaultActions
from skorchlike.training.calls import acts_in_predict, in_order
from skorchlike.training.context import Context
from skorchlike.training.loop import Loop
from skorchlike.training.losses import INDICATOR_CRITERIA, LossFunction
from skorchlike.training.randomness import draw_seed, private_rng, restore_rng, rng_state
from skorchlike.training.scores import R2, Accuracy
from skorchlike.training.stages import PROVIDERS

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
    "LossFunction",
    "as_numpy",
    "build_callbacks",
    "check_X",
    "check_components",
    "check_fit_data",
    "constructor",
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
) -> tuple[TrainedModel, KeyboardInterrupt | None]:
    """Run one fit.

    Parameters
    ----------
    estimator : BaseNeuralNet
        Says the parameters; nothing of it is changed.
    data : FitData
        The checked data.
    n_epochs : int
        How many epochs to train.
    extra_callbacks : None, dict or list
        Callbacks for this fit alone.
    continued : TrainedModel or None
        The model of the fit that this one continues; it is not changed.
    sklearn_task : tuple or None
        The task of the fit and its data, where there are callbacks of scikit-learn's own.

    Returns
    -------
    model : TrainedModel
        What the fit produced.
    interrupt : KeyboardInterrupt or None
        To be raised once the model is kept.
    """
    device = check_device(estimator.device)
    seed = draw_seed(estimator.random_state) if continued is None else continued.seed_
    init_seed, shuffle_seed, split_seed = np.random.SeedSequence(seed).generate_state(3).tolist()
    generator = torch.Generator().manual_seed(shuffle_seed)
    before = {} if continued is None else continued.continuation_
    feed = make_feed(estimator, data, split_seed)
    if continued is None:
        estimator._learn_scale(*feed.train_target())
    else:
        check_same_transforms(continued.continuation_["transforms"], _transforms(estimator))
    feed.scale_targets(estimator._scale_target)
    with private_rng(init_seed, device):
        inputs = learn_inputs_of(estimator, feed, continued)
        parts = build_parts(estimator, inputs, feed, device, continued)
        train, valid = feed.batches(parts.place, inputs.preparation, generator)
        fit = Fit(estimator, parts, inputs, seed, generator)
        callbacks = collect_callbacks(estimator, extra_callbacks)
        if sklearn_task is not None:
            callbacks["sklearn__callbacks"] = SklearnTasks(*sklearn_task, view=fit.live_model)
        callbacks = in_order(callbacks)
        score = None if valid is None else estimator._make_score(parts.criterion)
        loss_function = estimator._make_loss(parts.criterion, *feed.train_target())
        loss_function.n_members = getattr(parts.module, "n_members", None)
        ctx = fit.open_context(callbacks, n_epochs, train, score, loss_function, continued)
        if before:
            restore_rng(before["rng"], generator)
        try:
            loop = Loop(
                ctx, train, valid, score, estimator.valid_every, states_to_load(callbacks, before)
            )
            interrupt = _run(loop)
            parts.module.eval()
            _warn_diverged(ctx.history)
            return fit.model(loop.states), interrupt
        finally:
            ctx._kill()
            interrupt = None  # its traceback would keep this frame alive, and that the data


def _transforms(estimator: Any) -> dict[str, Any]:
    """Return what is said about the transforms of numbers, by the parameters' names."""
    names = ("numeric_transform", "target_transform")
    return {name: getattr(estimator, name) for name in names if hasattr(estimator, name)}


def _run(loop: Loop) -> KeyboardInterrupt | None:
    """Run the loop; an interrupt is handed on, since the model so far is kept."""
    try:
        loop.fit()
    except KeyboardInterrupt as interrupt:
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
    except BaseException:
        after = vars(estimator)
        bookkeeping = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")
        kept = {name: after[name] for name in bookkeeping if name in after}
        after.clear()
        after.update(before)
        after.update(kept)
        raise


class Fit:
    """A fit under way: its context, and the model as it is at any moment.

    Parameters
    ----------
    estimator : BaseNeuralNet
        Whose fit it is.
    parts : Parts
        The components.
    inputs : Inputs
        What was learned of the inputs.
    seed : int
        Where all randomness comes from.
    generator : torch.Generator
        What shuffles the rows.
    """

    def __init__(
        self,
        estimator: Any,
        parts: Parts,
        inputs: Inputs,
        seed: int,
        generator: torch.Generator,
    ) -> None:
        self.estimator, self.parts, self.inputs = estimator, parts, inputs
        self.seed, self.generator = seed, generator
        self.ctx: Any = None
        self.start = 0

    def open_context(
        self,
        callbacks: Mapping[str, Any],
        n_epochs: int,
        train: Any,
        score: Any,
        loss_function: LossFunction,
        continued: TrainedModel | None,
    ) -> Context:
        """Make the context of this fit."""
        parts = self.parts
        epoch = self.start = 0 if continued is None else continued.n_epochs_
        self.ctx = Context(
            estimator=self.estimator,
            module=parts.module,
            device=parts.place.device,
            criterion=parts.criterion,
            optimizer=parts.optimizer,
            loss_function=loss_function,
            callbacks=callbacks,
            max_epochs=epoch + n_epochs,
            n_updates=n_updates(callbacks, n_epochs, train.n_batches),
            columns=history_columns(callbacks, score),
            history=[] if continued is None else [dict(record) for record in continued.history_],
            epoch=epoch,
            global_step=0 if continued is None else continued.continuation_["global_step"],
            fitted_estimator=self.view,
            snapshot=self.snapshot,
            train_inputs=train.inputs,
        )
        return self.ctx

    def model(self, states: Mapping[str, Any]) -> TrainedModel:
        """Return the model with these states of its callbacks."""
        parts, ctx = self.parts, self.ctx
        classes = {name: class_name(ctx.callbacks[name]) for name in states}
        return TrainedModel(
            module_=parts.module,
            criterion_=parts.criterion,
            optimizer_=parts.optimizer.state_dict(),
            callbacks_=Bunch(**states),
            history_=ctx.history,
            n_epochs_=ctx.epoch,
            stop_reason_=ctx.stop_reason,
            seed_=self.seed,
            place_=parts.place,
            inputs_=self.inputs,
            continuation_={
                "callbacks": {name: (classes[name], state) for name, state in states.items()},
                "classes": {name: class_name(cb) for name, cb in ctx.callbacks.items()},
                "module": said_about(self.estimator, "module"),
                "criterion": said_about(self.estimator, "criterion"),
                "transforms": _transforms(self.estimator),
                "global_step": ctx.global_step,
                "optimizer": type(parts.optimizer),
                "options": parts.options,
                "rng": rng_state(parts.place.device, self.generator),
            },
        )

    def live_model(self) -> TrainedModel:
        """Return the model as it is now; it shares the tensors in training."""
        states = {}
        for name, callback in self.ctx.callbacks.items():
            try:
                state = callback.state_dict()
            except Exception as error:
                if self.ctx.epoch == self.start and not acts_in_predict(callback):
                    continue  # asked for in on_begin, when a later callback has nothing yet
                error.add_note(f"Raised by state_dict() of the callback {name!r}.")
                raise
            if state is not None:
                states[name] = state
        return self.model(states)

    def view(self) -> Any:
        """Return a copy of the estimator with the model as it is now."""
        view = copy.copy(self.estimator)
        view.model_ = self.live_model()
        return view

    def snapshot(self) -> dict[str, Any]:
        """Return copies of all that a checkpoint must hold."""
        model = self.live_model()
        return copy.deepcopy(
            {
                "module": model.module_.state_dict(),
                "criterion": model.criterion_.state_dict(),
                "optimizer": model.optimizer_,
                "callbacks": model.continuation_["callbacks"],
                "history": model.history_,
                "epoch": model.n_epochs_,
                "global_step": model.continuation_["global_step"],
                "rng": model.continuation_["rng"],
                "seed": model.seed_,
            }
        )
