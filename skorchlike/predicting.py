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
from skorchlike.data.checks import check_form
from skorchlike.data.loading import LoaderBatches, is_loader
from skorchlike.data.peeking import gather_targets
from skorchlike.data.rows import Rows, finish
from skorchlike.exceptions import ParameterError
from skorchlike.model.trained import TrainedModel
from skorchlike.nested import concatenate, main_output, map_arrays
from skorchlike.params.callbacks import build_callbacks, named_callbacks
from skorchlike.params.continuing import class_name
from skorchlike.params.routing import is_dropped
from skorchlike.training.calls import acts_in_predict, in_order, uses_stage
from skorchlike.training.context import Context
from skorchlike.training.prediction import predict_batches


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
    return run_module(estimator, X, MainOutputs)


class MainOutputs:
    """The outputs that predictions are made of, written into one tensor as they come.

    Kept one by one, the small tensors would settle in the heap between the large ones that
    come and go, and the memory would grow with the data.

    Parameters
    ----------
    n_rows : int or None
        How many rows there will be, if that is known.
    """

    def __init__(self, n_rows: int | None) -> None:
        self.n_rows, self.n_filled = n_rows, 0
        self.whole: torch.Tensor | None = None
        self.parts: list[torch.Tensor] = []

    def append(self, output: Any) -> None:
        """Take the output of the next batch."""
        output = main_output(output)
        if not isinstance(output, torch.Tensor):
            raise ParameterError(
                f"The module returned a {type(output).__name__}; predict needs a tensor, or a "
                "tuple or dict that begins with one. A do_predict(self, ctx) of a callback or a "
                "subclass may assign it to ctx.y_pred."
            )
        # a module that squeezes its output returns no dimension for a single row
        output = output.reshape(1) if output.ndim == 0 else output
        n = len(output)
        if self.whole is None and not self.parts and n < (self.n_rows or 0):
            self.whole = output.new_empty((self.n_rows, *output.shape[1:]))
        if self.whole is not None and output.shape[1:] == self.whole.shape[1:]:
            # one too many shows in the count
            self.whole[self.n_filled : self.n_filled + n] = output[
                : len(self.whole) - self.n_filled
            ]
        else:
            self.parts.append(output)
        self.n_filled += n

    def result(self) -> torch.Tensor:
        """Return all outputs as one tensor."""
        if self.n_rows is not None and self.n_filled != self.n_rows:
            raise ParameterError(
                f"The module returned {self.n_filled} rows for {self.n_rows} rows of X. It must "
                "return one for each."
            )
        if self.whole is not None and not self.parts:
            return self.whole
        return self.parts[0] if len(self.parts) == 1 else torch.cat(self.parts)


class AllOutputs:
    """All that the module returns, on the CPU."""

    def __init__(self, n_rows: int | None) -> None:
        self.parts: list[Any] = []

    def append(self, output: Any) -> None:
        """Take the output of the next batch."""
        output = tuple(output) if isinstance(output, list) else output
        self.parts.append(map_arrays(lambda tensor: tensor.cpu(), output))

    def result(self) -> Any:
        """Return the joined outputs, in the structure of one."""
        return concatenate(self.parts)


def forward_model(estimator: Any, X: Any) -> Any:
    """Return all outputs of the module on the CPU, the batches joined."""
    return run_module(estimator, X, AllOutputs)


def run_module(estimator: Any, X: Any, make_outputs: Any) -> Any:
    """Run the module over inputs and return what `make_outputs` makes of its outputs.

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
    outputs = make_outputs(n_rows)
    predict_batches(ctx, batches, n_batches, outputs)
    return outputs.result()


def targets_of(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the targets and weights that a dataset or loader holds, in its order."""
    batches = LoaderBatches(
        X,
        AUTO_PREDICT_BATCH_SIZE,
        make_loader=estimator.valid_loader or DataLoader,
        options=estimator._said_to("valid_loader"),
        prefix="valid_loader",
    )
    return gather_targets(batches)


def _input_batches(
    estimator: Any, model: TrainedModel, X: Any
) -> tuple[Iterable[tuple[Any, Any, bool]], int | None, int | None]:
    """Return the batches of inputs, and how many and of how many rows as far as known."""
    place, prepare, said = model.place_, model.inputs_.preparation, estimator.predict_batch_size
    if not is_loader(X):
        rows = Rows(model.inputs_.encode(X), place, prepare, resident=False)
        size = resolve_batch_size(said, len(rows), AUTO_PREDICT_BATCH_SIZE)
        return input_batches(rows, size), -(-len(rows) // size), len(rows)

    def to_inputs(X: Any) -> Any:
        check_form(estimator, X)
        return finish(X, place, prepare)

    schema = model.inputs_.schema
    if schema is not None and not schema.only_numbers:
        raise ParameterError(
            "X must be a frame, as in the fit, since some of its columns are categorical or "
            f"otherwise no numbers. Got a {type(X).__name__}."
        )
    loader = LoaderBatches(
        X,
        AUTO_PREDICT_BATCH_SIZE if said in ("auto", -1) else int(said),
        make_loader=estimator.valid_loader or DataLoader,
        options=estimator._said_to("valid_loader"),
        prefix="valid_loader",
        with_target=False,
        to_inputs=to_inputs,
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
