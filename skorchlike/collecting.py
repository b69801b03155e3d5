"""The callbacks of one fit, and what they say of it beforehand."""

from __future__ import annotations

import copy
import operator
from collections.abc import Mapping
from typing import Any

from skorchlike.callbacks.print_log import PrintLog
from skorchlike.exceptions import ParameterError, did_you_mean, warn_continued
from skorchlike.params.callbacks import build_callbacks, named_callbacks
from skorchlike.params.continuing import class_name
from skorchlike.training.calls import columns_of

OWN_COLUMNS = ("epoch", "train_loss", "lr", "duration")


def collect_callbacks(estimator: Any, extra: Any) -> dict[str, Any]:
    """Clone the estimator's callbacks, add those of this fit, and the log if asked for."""
    callbacks: dict[str, Any] = dict(
        build_callbacks(estimator.callbacks, estimator._said_to("callbacks"))
    )
    for name in (n for n, cb in named_callbacks(extra).items() if cb is None):
        if name not in callbacks:
            raise ParameterError(
                f"fit(..., callbacks={{{name!r}: None}}) drops a callback for this fit, and there "
                f"is none of that name.{did_you_mean(name, callbacks)}"
            )
        del callbacks[name]
    for name, callback in build_callbacks(extra, {}).items():
        if name in callbacks:
            raise ParameterError(
                f"The callback name {name!r} given to fit is taken by one of the estimator's. "
                "Give it another: fit(..., callbacks={'name': callback})."
            )
        callbacks[name] = callback
    for callback in callbacks.values():
        callback._validate_params()
    if estimator.verbose and not any(isinstance(c, PrintLog) for c in callbacks.values()):
        name = "print_log"
        while name in callbacks:
            name += "_"
        callbacks[name] = PrintLog()
    return callbacks


def n_updates(callbacks: Mapping[str, Any], n_epochs: int, n_batches: int | None) -> int | None:
    """Return the optimizer steps of a fit, as far as callbacks leave them.

    None where the batches of an epoch cannot be counted beforehand.
    """
    if n_batches is None:
        return None
    for name, callback in callbacks.items():
        planned = callback.plan(n_epochs, n_batches)
        try:
            n_epochs, n_batches = map(operator.index, planned)
            if n_epochs < 0 or n_batches < 0:
                raise ValueError
        except (TypeError, ValueError):
            raise ParameterError(
                f"plan() of the callback {name!r} ({type(callback).__name__}) must return two "
                f"integers of at least 0, n_epochs and n_updates. Got {planned!r}."
            ) from None
    return n_epochs * n_batches


def history_columns(callbacks: Mapping[str, Any], score: Any) -> tuple[str, ...]:
    """Return the columns that the history of a fit will have."""
    columns = [*OWN_COLUMNS]
    if score is not None:
        columns += ["valid_loss", f"valid_{score.name}"]
    return tuple(dict.fromkeys([*columns, *columns_of(callbacks)]))


def states_to_load(callbacks: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of the states to take up: of the same name and class."""
    states = {}
    for name, (cls, state) in before.get("callbacks", {}).items():
        if name not in callbacks:
            continue
        if cls == class_name(callbacks[name]):
            states[name] = copy.deepcopy(state)
        else:
            warn_continued(
                f"The callback {name!r} is a {class_name(callbacks[name])} and was a {cls} in "
                "the fit that is continued: it starts afresh."
            )
    return states
