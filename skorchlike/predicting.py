"""One prediction from start to end."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch.utils.data import DataLoader

from skorchlike.data.arrays import input_batches
from skorchlike.data.batches import AUTO_PREDICT_BATCH_SIZE, resolve_batch_size
from skorchlike.data.checks import check_form
from skorchlike.data.loading import LoaderBatches, is_loader
from skorchlike.data.peeking import gather_targets
from skorchlike.data.plain_inputs import plain_batches, plain_tensor
from skorchlike.data.rows import Rows, finish
from skorchlike.exceptions import ParameterError
from skorchlike.model.trained import TrainedModel
from skorchlike.nested import main_output, map_arrays
from skorchlike.params.callbacks import build_callbacks, named_callbacks
from skorchlike.params.continuing import class_name
from skorchlike.params.routing import is_dropped
from skorchlike.training.calls import acts_in_predict, in_order, uses_stage
from skorchlike.training.context import Context
from skorchlike.training.prediction import (
    has_default_predict,
    predict_alone,
    predict_batches,
)


def predict_model(estimator: Any, X: Any) -> torch.Tensor:
    """Return the module's output that predictions are made of, on the module's device.

    Parameters
    ----------
    estimator : BaseNeuralNet
        A fitted one, or the error says that it is not.
    X : inputs as a user gives them, Dataset or DataLoader
        The inputs; they are checked.

    Returns
    -------
    torch.Tensor of shape (n, ...)
        Of several outputs the first.
    """
    return run_module(estimator, X, MainOutputs)


class JoinedRows:
    """Tensors of neighbouring rows, written into one as they come.

    Kept one by one, the small tensors would settle in the heap between the large ones that
    come and go, and the memory would grow with the data.

    Parameters
    ----------
    n_rows : int or None
        How many rows there will be, if that is known.
    """

    def __init__(self, n_rows: int | None) -> None:
        self.n_rows, self.n_filled = n_rows or 0, 0
        self.whole: torch.Tensor | None = None
        self.parts: list[torch.Tensor] = []

    def append(self, part: torch.Tensor) -> None:
        """Take the next rows."""
        shape = part.shape
        n = shape[0] if shape else 0
        if self.whole is None and not self.parts and 0 < n < self.n_rows:
            self.whole = part.new_empty((self.n_rows, *shape[1:]))
        whole, end = self.whole, self.n_filled + n
        if whole is None:
            self.parts.append(part)
        elif end <= self.n_rows and n and (whole.shape[1:], whole.dtype) == (shape[1:], part.dtype):
            whole[self.n_filled : end] = part
            self.n_filled = end
        else:  # of another kind: torch says what is to be said of that
            self.parts, self.whole = [whole[: self.n_filled], part], None

    def result(self) -> torch.Tensor:
        """Return all rows as one tensor."""
        if self.whole is not None:
            whole = self.whole
            return whole if self.n_filled == self.n_rows else whole[: self.n_filled].clone()
        return self.parts[0] if len(self.parts) == 1 else torch.cat(self.parts)


class MainOutputs:
    """The outputs that predictions are made of, one row for each of the inputs.

    Parameters
    ----------
    n_rows : int or None
        How many rows there will be, if that is known.
    """

    def __init__(self, n_rows: int | None) -> None:
        self.n_rows, self.n_given = n_rows, 0
        self.rows = JoinedRows(n_rows)

    def append(self, output: Any) -> None:
        """Take the output of the next batch."""
        if not isinstance(output, torch.Tensor):
            output = main_output(output)
        if not isinstance(output, torch.Tensor):
            raise ParameterError(
                f"The module returned a {type(output).__name__}; predict needs a tensor, or a "
                "tuple or dict that begins with one. A do_predict(self, ctx) of a callback or a "
                "subclass may assign it to ctx.y_pred."
            )
        # a module that squeezes its output returns no dimension for a single row
        output = output.reshape(1) if output.ndim == 0 else output
        self.rows.append(output)
        self.n_given += output.shape[0]

    def result(self) -> torch.Tensor:
        """Return all outputs as one tensor."""
        if self.n_rows is not None and self.n_given != self.n_rows:
            raise ParameterError(
                f"The module returned {self.n_given} rows for {self.n_rows} rows of X. It must "
                "return one for each."
            )
        return self.rows.result()


class AllOutputs:
    """All that the module returns, on the CPU.

    Parameters
    ----------
    n_rows : int or None
        How many rows there will be, if that is known.
    """

    def __init__(self, n_rows: int | None) -> None:
        self.n_rows = n_rows
        self.rows: Any = None

    def append(self, output: Any) -> None:
        """Take the output of the next batch."""
        output = tuple(output) if isinstance(output, list) else output
        output = map_arrays(lambda tensor: tensor.cpu(), output)
        if self.rows is None:
            self.rows = map_arrays(lambda _: JoinedRows(self.n_rows), output)
        _append_each(self.rows, output)

    def result(self) -> Any:
        """Return the joined outputs, in the structure of one."""
        return map_arrays(JoinedRows.result, self.rows)


def _append_each(rows: Any, output: Any) -> None:
    if isinstance(rows, dict) and isinstance(output, dict) and rows.keys() == output.keys():
        for name, part in rows.items():
            _append_each(part, output[name])
    elif isinstance(rows, tuple) and isinstance(output, tuple) and len(rows) == len(output):
        for part, of_part in zip(rows, output, strict=True):
            _append_each(part, of_part)
    elif isinstance(rows, JoinedRows) and isinstance(output, torch.Tensor):
        rows.append(output)
    else:
        was = "tensor" if isinstance(rows, JoinedRows) else f"{type(rows).__name__} of {len(rows)}"
        parts = f" of {len(output)}" if isinstance(output, (dict, tuple)) else ""
        raise ParameterError(
            f"The module returned a {was} for one batch and a {type(output).__name__}{parts} for "
            "another. It must return the same structure for each."
        )


def forward_model(estimator: Any, X: Any) -> Any:
    """Return all outputs of the module on the CPU, the batches joined."""
    return run_module(estimator, X, AllOutputs)


def run_module(estimator: Any, X: Any, make_outputs: Any) -> Any:
    """Run the module over inputs and return what `make_outputs` makes of its outputs.

    Callbacks that define predict stages or ``do_predict`` run as clones, with the
    state that the fit left them.
    """
    if not estimator.__sklearn_is_fitted__():  # else there is nothing more to check
        check_is_fitted(estimator)
    model = estimator.model_
    batches, n_batches, n_rows = _input_batches(estimator, model, X)
    callbacks = _predict_callbacks(estimator, model)

    def make_context() -> Context:
        return Context(
            estimator=estimator,
            module=model.module_,
            device=model.device_,
            callbacks=callbacks,
            history=[dict(record) for record in model.history_] if callbacks else [],
            epoch=model.n_epochs_,
        )

    outputs = make_outputs(n_rows)
    if not callbacks and has_default_predict(estimator):
        predict_alone(estimator, model.module_, batches, outputs, make_context)
    else:
        predict_batches(make_context(), batches, n_batches, outputs)
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
    place, prepare, said = model.place_, model.inputs_.preparation, _said_size(estimator)
    plain = plain_tensor(estimator, X)
    if plain is not None:
        n_rows = plain.shape[0]
        size = resolve_batch_size(said, n_rows, AUTO_PREDICT_BATCH_SIZE)
        return plain_batches(plain, size, place, prepare), -(-n_rows // size), n_rows
    if not is_loader(X):
        X = estimator._checked_inputs(X)
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


def _said_size(estimator: Any) -> Any:
    said = estimator.predict_batch_size  # `fit` checks it, but it may have been set since
    if not (said == "auto" or (isinstance(said, Integral) and (said == -1 or int(said) > 0))):
        raise ParameterError(
            f"The `predict_batch_size` parameter of {type(estimator).__name__} must be 'auto', -1 "
            f"or a positive integer. Got {said!r}."
        )
    return said


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
