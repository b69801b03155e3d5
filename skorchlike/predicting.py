"""One prediction from start to end."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from skorchlike.data.arrays import input_batches
from skorchlike.data.batches import AUTO_PREDICT_BATCH_SIZE, resolve_batch_size
from skorchlike.data.checks import as_numpy
from skorchlike.data.loading import LoaderBatches, is_loader
from skorchlike.data.rows import Rows, finish
from skorchlike.exceptions import ParameterError
from skorchlike.model.trained import TrainedModel
from skorchlike.nested import concatenate, map_arrays
from skorchlike.params.callbacks import build_callbacks, named_callbacks
from skorchlike.params.continuing import class_name
from skorchlike.params.routing import is_dropped
from skorchlike.training.calls import acts_in_predict, in_order, uses_stage
from skorchlike.training.context import Context
from skorchlike.training.prediction import predict_batches
from skorchlike.training.scores import main_output


def predict_model(estimator: Any, X: Any) -> torch.Tensor:
    """Return the module's output that predictions are made of, on the module's device.

    Parameters
    ----------
    estimator : BaseNeuralNet
        A fitted one.
    X : checked inputs, Dataset or DataLoader
        The inputs.

    Returns
    -------
    torch.Tensor of shape (n, ...)
        Of several outputs the first.
    """
    outputs, n_rows = run_module(estimator, X)
    outputs = [main_output(output) for output in outputs]
    for output in outputs:
        if not isinstance(output, torch.Tensor):
            raise ParameterError(
                f"The module returned a {type(output).__name__}; predict needs a tensor, or a "
                "tuple or dict that begins with one. A do_predict(self, ctx) of a callback or a "
                "subclass may assign it to ctx.y_pred."
            )
    # a module that squeezes its output returns no dimension for a single row
    outputs = [output.reshape(1) if output.ndim == 0 else output for output in outputs]
    result = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    if n_rows is not None and len(result) != n_rows:
        raise ParameterError(
            f"The module returned {len(result)} rows for {n_rows} rows of X. It must return one "
            "for each."
        )
    return result


def forward_model(estimator: Any, X: Any) -> Any:
    """Return all outputs of the module on the CPU, the batches joined."""
    outputs, _ = run_module(estimator, X)
    outputs = [tuple(output) if isinstance(output, list) else output for output in outputs]
    return map_arrays(lambda tensor: tensor.cpu(), concatenate(outputs))


def run_module(estimator: Any, X: Any) -> tuple[list[Any], int | None]:
    """Return all that the module returns, batch by batch, and the number of rows if known.

    Callbacks that define predict stages or ``do_predict`` run as clones, with the
    state that the fit left them.
    """
    model = estimator.model_
    batches, n_batches, n_rows = _input_batches(estimator, model, X)
    callbacks = _predict_callbacks(estimator, model)
    ctx = Context(
        estimator=estimator,
        module=model.module_,
        device=model.device_,
        callbacks=callbacks,
        history=[dict(record) for record in model.history_] if callbacks else [],
        epoch=model.n_epochs_,
    )
    return predict_batches(ctx, batches, n_batches), n_rows


def targets_of(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the targets and weights that a dataset or loader holds, in its order."""
    targets, weights = [], []
    batches = LoaderBatches(
        X,
        AUTO_PREDICT_BATCH_SIZE,
        make_loader=estimator.valid_loader or DataLoader,
        options=estimator._said_to("valid_loader"),
        prefix="valid_loader",
    )
    for _, y, weight, *_ in batches:
        targets.append(as_numpy(y))
        weights.append(weight)
    weighted = all(weight is not None for weight in weights)
    return np.concatenate(targets), np.concatenate(weights) if weighted else None


def _input_batches(
    estimator: Any, model: TrainedModel, X: Any
) -> tuple[Iterable[tuple[Any, Any, bool]], int | None, int | None]:
    """Return the batches of inputs, and how many and of how many rows as far as known."""
    place, prepare, said = model.place_, model.inputs_.preparation, estimator.predict_batch_size
    if not is_loader(X):
        rows = Rows(model.inputs_.encode(X), place, prepare, resident=False)
        size = resolve_batch_size(said, len(rows), AUTO_PREDICT_BATCH_SIZE)
        return input_batches(rows, size), -(-len(rows) // size), len(rows)
    loader = LoaderBatches(
        X,
        AUTO_PREDICT_BATCH_SIZE if said in ("auto", -1) else int(said),
        make_loader=estimator.valid_loader or DataLoader,
        options=estimator._said_to("valid_loader"),
        prefix="valid_loader",
        with_target=False,
        to_inputs=lambda X: finish(X, place, prepare),
    )
    batches = ((X, index, last) for X, _, _, index, _, last in loader)
    return batches, loader.n_batches, loader.n_rows


def _predict_callbacks(estimator: Any, model: TrainedModel) -> dict[str, Any]:
    """Clone the callbacks that act in predict, with their trained state."""
    said = estimator._said_to("callbacks")
    if estimator.callbacks is None and not said:
        return {}
    acting = {
        name: callback
        for name, callback in named_callbacks(estimator.callbacks, said).items()
        if not is_dropped(callback) and acts_in_predict(callback)
    }
    if not acting:
        return {}
    built = build_callbacks(estimator.callbacks, said)
    callbacks = in_order({name: built[name] for name in acting})
    for name, callback in callbacks.items():
        cls, state = model.continuation_["callbacks"].get(name, (None, None))
        if cls == class_name(callback):
            callback.load_state_dict(copy.deepcopy(state))
        elif uses_stage(callback, "state_dict") and (
            model.continuation_["classes"].get(name) != class_name(callback)
        ):
            raise ParameterError(
                f"The callback {name!r} ({type(callback).__name__}) acts in predict by a state "
                "that no fit gave it: it was not there, or another, when this estimator was "
                "fitted. Fit again, or drop it."
            )
    return callbacks
