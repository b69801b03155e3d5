"""The prediction loop: the stages of predict, predict_proba and score."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch

from skorchlike.training.actions import DefaultActions, call_module
from skorchlike.training.calls import Calls, explain, resolve_action, resolve_stages, run_exits
from skorchlike.training.context import Context
from skorchlike.training.memory import note_out_of_memory
from skorchlike.training.modes import InEvalMode
from skorchlike.training.stages import PREDICT_STAGES


class Outputs(Protocol):
    """What outputs are put into, such as a list."""

    def append(self, output: Any, /) -> None:
        """Take the output of the next batch."""


def predict_batches(
    ctx: Context,
    batches: Iterable[tuple[Any, Any, bool]],
    n_batches: int | None,
    outputs: Outputs,
) -> None:
    """Run the module over batches, with the predict stages around it.

    Parameters
    ----------
    ctx : Context
        Its callbacks already hold their trained state.
    batches : iterable of (X, index, is_last)
        The inputs on the device.
    n_batches : int or None
        How many there are, if that is known.

    outputs : Outputs
        Gets what ``do_predict`` left in ``ctx.y_pred``, batch by batch.
    """
    on = resolve_stages(ctx.callbacks, names=PREDICT_STAGES)
    # no cancel has a meaning here, whatever the action allows in training
    do_predict = resolve_action("predict", ctx.callbacks, ctx.estimator)
    error: BaseException | None = None

    def run(calls: Calls) -> None:
        try:
            for call in calls:
                call(ctx)
        except BaseException as failure:
            where = f", batch {ctx.step}" if ctx.step else ""
            explain(failure, calls, call, where)
            raise

    ctx._n_steps = n_batches
    try:
        with torch.no_grad(), InEvalMode(ctx.module):
            run(on.on_predict_begin)
            for ctx.X, ctx._index, ctx._is_last_batch in batches:
                ctx._step += 1
                ctx.y_pred = None
                run(on.on_batch_predict_begin)
                run(do_predict)
                run(on.on_batch_predict_end)
                outputs.append(ctx.y_pred)
            ctx.X = ctx.y_pred = ctx._index = None
            ctx._step = 0
            run(on.on_predict_end)
    except BaseException as failure:
        error = failure
        note_out_of_memory(failure, ctx)
        raise
    finally:
        run_exits(on.on_predict_exit, ctx, error, "")
        ctx._kill()
        error = None  # else its traceback and this frame keep one another alive


_DEFAULT_PREDICT = DefaultActions.do_predict


def has_default_predict(estimator: Any) -> bool:
    """Whether ``do_predict`` of an estimator is the default one, which just calls the module."""
    replaced = "do_predict" in vars(estimator)
    return type(estimator).do_predict is _DEFAULT_PREDICT and not replaced


def predict_alone(
    estimator: Any,
    module: torch.nn.Module,
    batches: Iterable[tuple[Any, Any, bool]],
    outputs: Outputs,
    make_context: Callable[[], Context],
) -> None:
    """Run the module over batches where nobody looks on.

    Without callbacks and with the default ``do_predict`` this is all that `predict_batches`
    does. A context is made for the notes on an error alone: for one row it would cost as much as
    the module.

    Parameters
    ----------
    estimator : BaseNeuralNet
        Whose action it is, for the notes.
    module : torch.nn.Module
        The module.
    batches : iterable of (X, index, is_last)
        The inputs on the device.
    outputs : Outputs
        Gets what the module returns, batch by batch.
    make_context : callable
        Returns the context, without callbacks.
    """
    X, step = None, 0

    def run(X: Any) -> Any:
        try:
            return call_module(module, X)
        except BaseException as failure:
            calls = resolve_action("predict", {}, estimator)
            explain(failure, calls, calls[0], f", batch {step}")
            raise

    try:
        with torch.no_grad(), InEvalMode(module):
            for X, _, _ in batches:
                step += 1
                outputs.append(run(X))
    except BaseException as failure:
        ctx = make_context()
        ctx.X = X
        note_out_of_memory(failure, ctx)
        ctx._kill()
        raise
