"""A fit under way: its context, and the model as it is at any moment."""

from __future__ import annotations

import copy
import dataclasses
import uuid
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from sklearn.utils import Bunch

from skorchlike.building import Parts, parameters_by_name, said_about
from skorchlike.collecting import history_columns, n_updates
from skorchlike.data.batches import FitData
from skorchlike.data.inputs import Inputs
from skorchlike.model.trained import TrainedModel
from skorchlike.params.continuing import class_name
from skorchlike.putting_back import (
    PutBack,
    buffers_beside,
    loader_generators,
    modes_of,
)
from skorchlike.resuming import Found, states_of
from skorchlike.training.calls import acts_in_predict
from skorchlike.training.context import Context
from skorchlike.training.interrupts import Interrupts
from skorchlike.training.losses import LossFunction
from skorchlike.training.position import Resumed
from skorchlike.training.randomness import GlobalGenerators, rng_state


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
    train : Data
        The training batches.
    given : FitData
        The data as they were given, of which the fingerprint is made.
    split : array or None
        The rows that are set apart for validation.
    """

    def __init__(
        self,
        estimator: Any,
        parts: Parts,
        inputs: Inputs,
        seed: int,
        generator: torch.Generator,
        train: Any,
        given: FitData,
        split: Any,
    ) -> None:
        self.estimator, self.parts, self.inputs = estimator, parts, inputs
        self.seed, self.generator, self.train = seed, generator, train
        self.given, self.split = given, split
        self.globals = GlobalGenerators()
        self.ctx: Any = None
        self.loop: Any = None
        self.start = 0
        self.run_id = ""

    def open_context(
        self,
        callbacks: Mapping[str, Any],
        n_epochs: int,
        score: Any,
        loss_function: LossFunction,
        continued: TrainedModel | None,
        interrupts: Interrupts,
    ) -> Context:
        """Make the context of this fit."""
        parts, train = self.parts, self.train
        epoch = self.start = 0 if continued is None else continued.n_epochs_
        self.run_id = uuid.uuid4().hex
        if continued is not None:
            self.run_id = continued.continuation_["run_id"]
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
            run_id=self.run_id,
            fingerprint=lambda: self.identity.fingerprint,
            interrupts=interrupts,
        )
        return self.ctx

    @cached_property
    def identity(self) -> Any:
        """What the fit is made of."""
        # most fits are never asked
        from skorchlike.fingerprints import Identity

        names = ("classes_", "_target_kind", "n_outputs_", "_target_ndim", "_scale")
        learned = {name: getattr(self.estimator, name, None) for name in names}
        learned["inputs"] = self.inputs
        return Identity(self.estimator, self.ctx.callbacks, self.given, self.split, learned)

    def go_on_from(self, found: Found, max_epochs: int) -> Resumed:
        """Put a checkpoint in place of the new fit; return what the loop needs to go on."""
        snapshot, ctx = found.snapshot, self.ctx
        assert snapshot is not None
        position = found.position
        self.run_id, self.start = snapshot["run_id"], snapshot["start"]
        put_back = PutBack(snapshot, self.parts, self.train, self.generator)
        put_back.before_begin()
        n_complete = position.n_complete
        history = copy.deepcopy(snapshot["history"])
        record = history.pop() if position.in_epoch else {}
        ctx._run_id, ctx._history, ctx._max_epochs = self.run_id, history, max_epochs
        ctx._epoch, ctx._start, ctx._start_epoch = n_complete, n_complete, self.start
        ctx._global_step = position.global_step
        ctx._n_updates = n_updates(ctx.callbacks, max_epochs - self.start, self.train.n_batches)
        states = states_of(snapshot, ctx.callbacks)
        return Resumed(
            position, snapshot["data"], record, ctx.callbacks, states, put_back.everything
        )

    def finished_model(self, found: Found) -> TrainedModel:
        """Return the model of a checkpoint that was made at the end of the fit."""
        snapshot, position = found.snapshot, found.position
        assert snapshot is not None
        self.run_id = snapshot["run_id"]
        # without the optimizer: a callback may have changed its groups
        PutBack(snapshot, self.parts, self.train, self.generator).everything(optimizer=False)
        ctx = self.ctx
        ctx._history, ctx._epoch = copy.deepcopy(snapshot["history"]), position.epoch
        ctx._global_step, ctx.stop_reason = position.global_step, position.stop_reason
        model = self.model(states_of(snapshot, ctx.callbacks))
        return dataclasses.replace(model, optimizer_=copy.deepcopy(snapshot["optimizer"]))

    def model(self, states: Mapping[str, Any]) -> TrainedModel:
        """Return the model with these states of its callbacks."""
        parts, ctx = self.parts, self.ctx
        classes = {name: class_name(ctx.callbacks[name]) for name in states}
        path = None if self.loop is None else self.loop.path
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
            path_="" if path is None else path.name,
            path_reason_="" if path is None or not path.name else path.reason,
            continuation_={
                "callbacks": {name: (classes[name], state) for name, state in states.items()},
                "classes": {name: class_name(cb) for name, cb in ctx.callbacks.items()},
                "module": said_about(self.estimator, "module"),
                "criterion": said_about(self.estimator, "criterion"),
                "transforms": transforms(self.estimator),
                "global_step": ctx.global_step,
                "optimizer": type(parts.optimizer),
                "options": parts.options,
                "run_id": self.run_id,
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

    def snapshot(self, *, copied: bool = True) -> dict[str, Any]:
        """Return all that a checkpoint must hold."""
        model, parts = self.live_model(), self.parts
        loaders = {n: g.get_state() for n, g in loader_generators(self.train).items()}
        rng = {**model.continuation_["rng"], "loaders": loaders, "globals": self.globals.state()}
        parameters = parameters_by_name(parts.module, parts.criterion)
        gradients = {n: p.grad for n, p in parameters.items() if p.grad is not None}
        snapshot = {
            "module": parts.module.state_dict(),
            "buffers": buffers_beside(parts.module),
            "criterion": parts.criterion.state_dict(),
            "optimizer": model.optimizer_,
            "gradients": gradients,
            "modes": modes_of(parts),
            "callbacks": model.continuation_["callbacks"],
            "history": model.history_,
            "position": dataclasses.asdict(self.loop.position()),
            "data": self.train.began_with if self.ctx.training else None,
            "rng": rng,
            "seed": self.seed,
            "start": self.start,
            "max_epochs": self.ctx.max_epochs,
            "run_id": self.run_id,
            "identity": self.identity.parts(),
        }
        return copy.deepcopy(snapshot) if copied else snapshot


def transforms(estimator: Any) -> dict[str, Any]:
    """Return what is said about the transforms of numbers, by the parameters' names."""
    names = ("numeric_transform", "target_transform")
    return {name: getattr(estimator, name) for name in names if hasattr(estimator, name)}
