"""What every callback must keep to, as checks that anybody can run on their own."""

from __future__ import annotations

import copy
import pickle
import random
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import torch
from sklearn.base import clone

from skorchlike.callbacks.base import Callback
from skorchlike.estimator import BaseNeuralNet
from skorchlike.exceptions import (
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    ParameterError,
)
from skorchlike.inspection.leaks import find_leaks, watch
from skorchlike.inspection.trial import (
    NAME,
    Breaker,
    Companion,
    LateBreaker,
    Loader,
    Saver,
    Seen,
    Trial,
    Watcher,
)
from skorchlike.params.continuing import same
from skorchlike.training.context import Context
from skorchlike.training.stages import FIT_STAGES, STAGES


def check_callback(
    callback: Callback,
    estimator: Any = None,
    X: Any = None,
    y: Any = None,
    *,
    on_fail: str | None = "raise",
) -> list[dict[str, Any]]:
    """Check that a callback keeps to what estimators and searches rely on.

    It is cloned, pickled, routed, trained, continued, interrupted and resumed, cancelled and
    failed beside; what it writes (a file) it writes many times, so give it a temporary place.

    Parameters
    ----------
    callback : Callback
        An instance that fits the data.
    estimator : NeuralNetClassifier or NeuralNetRegressor, default=None
        The estimator to check it in; by default a small classifier with validation data,
        two epochs and several batches an epoch. It should be quick: it is fitted about
        eighty times.
    X, y : array-like, default=None
        Data; by default 48 rows of four features and three classes.
    on_fail : {"raise", "warn"} or None, default="raise"
        What to do about a check that fails; None only returns it.

    Returns
    -------
    list of dict
        One a check: ``check_name``, ``status`` ("passed" or "failed"), ``exception``.

    Raises
    ------
    AssertionError
        By default at the first check that fails; it says what was promised and broken.

    Notes
    -----
    The counterpart of scikit-learn's ``check_estimator``.

    Examples
    --------
    >>> from skorchlike import Callback, check_callback
    >>> class Greedy(Callback):
    ...     def __init__(self, alpha=0.1):
    ...         self.alpha = 2 * alpha
    >>> check_callback(Greedy())
    Traceback (most recent call last):
        ...
    AssertionError: init_only_stores: Greedy.__init__ must store its arguments as they are...
    """
    if not isinstance(callback, Callback):
        raise ParameterError(f"check_callback takes an instance of Callback. Got {callback!r}.")
    if estimator is not None and not isinstance(estimator, BaseNeuralNet):
        raise ParameterError(
            "The estimator given to check_callback must be a NeuralNetClassifier or a "
            f"NeuralNetRegressor. Got {estimator!r}."
        )
    if (X is None) != (y is None):
        raise ParameterError("X and y of check_callback go together. Got one of them.")
    if on_fail not in ("raise", "warn", None):
        raise ParameterError(f"on_fail must be 'raise', 'warn' or None. Got {on_fail!r}.")
    results = []
    for check in CHECKS:
        result: dict[str, Any] = {"check_name": check.__name__, "status": "passed"}
        result["exception"] = None
        try:
            check(Trial(callback, estimator, X, y))
        except Exception as error:
            failure = AssertionError(f"{check.__name__}: {_told(error)}")
            if on_fail == "raise":
                raise failure from error
            if on_fail == "warn":
                warnings.warn(str(failure), stacklevel=2)
            result.update(status="failed", exception=error)
        results.append(result)
    return results


def _told(error: Exception) -> str:
    """Return what a check says, or which error came in its way and from where."""
    if isinstance(error, AssertionError) and not getattr(error, "__notes__", []):
        return str(error)
    notes = " ".join(getattr(error, "__notes__", []))
    return f"the check could not be made. {type(error).__name__}: {error}. {notes}".rstrip()


# ------------------------------------------------------------------------- checks


def init_only_stores(trial: Trial) -> None:
    """Check that ``__init__`` stores its arguments under their own names, and does nothing more."""
    names = set(trial.callback.get_params(deep=False))
    values = {name: object() for name in type(trial.callback)._get_param_names()}
    try:
        probe = type(trial.callback)(**values)
    except Exception as error:
        raise AssertionError(
            f"{trial.cls}.__init__ must store its arguments as they are, whatever they are. It "
            f"raised {error!r}. Check and convert in on_begin, or by _parameter_constraints."
        ) from error
    for name, value in values.items():
        assert getattr(probe, name, None) is value, (
            f"{trial.cls}.__init__ must store `{name}` as it is: self.{name} = {name}. Check and "
            "convert in on_begin, or by _parameter_constraints."
        )
    more = set(vars(probe)) - set(values) - {"_routed"}
    assert not more, f"{trial.cls}.__init__ sets {sorted(more)} beside {sorted(names)}."


def can_be_cloned_and_shown(trial: Trial) -> None:
    """Check that ``clone`` gives one with the same parameters; ``repr`` works."""
    copied = clone(trial.callback)
    assert type(copied) is type(trial.callback), "clone gave another class"
    before, after = (cb.get_params(deep=False) for cb in (trial.callback, copied))
    assert before.keys() == after.keys(), "clone lost a parameter"
    assert trial.cls in repr(trial.callback), "repr does not show the class"


def can_be_pickled(trial: Trial) -> None:
    """Check that pickle and deepcopy keep class and parameters, before and after a fit."""
    for again in (pickle.loads(pickle.dumps(trial.callback)), copy.deepcopy(trial.callback)):
        assert type(again) is type(trial.callback)
        assert again.get_params(deep=False).keys() == trial.callback.get_params(deep=False).keys()
    pickle.loads(pickle.dumps(trial.fit())).predict(trial.X)


def parameters_are_routed(trial: Trial) -> None:
    """Check that each parameter is ``callbacks__name__parameter``, and None drops it all."""
    for name, value in trial.callback.get_params(deep=False).items():
        key = f"callbacks__{NAME}__{name}"
        estimator = trial.make()
        assert key in estimator.get_params(), f"{key} is no parameter of the estimator"
        estimator.set_params(**{key: value})
        assert clone(estimator).get_params()[key] is not None or value is None
    nothing: dict[str, Any] = {f"callbacks__{NAME}": None}
    dropped = trial.fit(**nothing)
    assert NAME not in dropped.model_.callbacks_, "a dropped callback left a state"


def fit_leaves_the_object_alone(trial: Trial) -> None:
    """Check that a fit works on a copy: the object that the user passed stays as it is."""
    before = joblib.hash(vars(trial.callback))
    trial.fit()
    assert joblib.hash(vars(trial.callback)) == before, "fit changed the callback that was passed"


def fits_are_reproducible(trial: Trial) -> None:
    """Check that two fits with one ``random_state`` give the same weights."""
    _assert_same_weights(trial.fit(), trial.fit(), "two fits with the same random_state")


def global_generators_stay(trial: Trial) -> None:
    """Check that a fit draws nothing from the global generators of torch, numpy and Python."""
    before = _generators()
    trial.fit().predict(trial.X)
    for name, state in _generators().items():
        assert same(before[name], state), f"the global generator of {name} has moved"


def _generators() -> dict[str, Any]:
    # numpy's legacy generator is the one that anybody may draw from
    legacy = np.random.get_state()  # noqa: NPY002
    return {"torch": torch.get_rng_state(), "numpy": legacy, "random": random.getstate()}


def state_round_trips(trial: Trial) -> None:
    """Check that a state can be copied, pickled and loaded, and then is the same."""
    if getattr(type(trial.callback).state_dict, "is_no_op", False):
        return
    saved, loaded = Seen(), Seen()
    trial.fit(Saver(saved))
    for state in saved.states:
        loaded.states = [pickle.loads(pickle.dumps(state))]
        trial.fit(Loader(loaded))
        assert same(state, loaded.states[0]), (
            "after load_state_dict(state), right after on_begin, state_dict() is not that state"
            f"{_difference(state, loaded.states[0])}"
        )
    state = trial.fit().model_.callbacks_.get(NAME)
    pickle.loads(pickle.dumps(state))
    copy.deepcopy(state)
    parameters = set(trial.callback.get_params(deep=False))
    held = parameters & set(state) if isinstance(state, dict) else set()
    assert not held, f"the state holds the parameters {sorted(held)}, which the estimator holds"


def _difference(state: Any, other: Any) -> str:
    if not (isinstance(state, dict) and isinstance(other, dict)):
        return f": {state!r} became {other!r}"
    wrong = [key for key in {**state, **other} if not same(state.get(key), other.get(key))]
    return f" in {', '.join(map(repr, wrong))}"


def fits_continue(trial: Trial) -> None:
    """Check that ``warm_start`` and ``partial_fit`` go on from an earlier, pickled fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = pickle.loads(pickle.dumps(trial.fit(warm_start=True)))
        net.fit(trial.X, trial.y).partial_fit(trial.X, trial.y).predict(trial.X)


def resumes_exactly(trial: Trial) -> None:
    """Check that a fit that is interrupted and resumed ends as one that was not.

    In the middle of an epoch ``on_epoch_begin`` and ``on_before_train`` run again, and the state
    is loaded after each of them: what a callback has gathered since must be in its state.
    """
    seen = Seen()
    whole, again = trial.fit(Watcher(seen)), trial.fit()
    state = whole.model_.callbacks_.get(NAME)
    repeats = same(state, again.model_.callbacks_.get(NAME))  # else it holds times or the like
    for snapshot, when in zip(seen.states, ("in an epoch", "after an epoch"), strict=False):
        resumed = trial.fit(Watcher(Seen()), resume=snapshot)
        what = f"a fit and the same interrupted {when} and resumed (state_dict() must return what "
        _assert_same_weights(whole, resumed, what + "the callback has gathered)")
        other = resumed.model_.callbacks_.get(NAME)
        assert not repeats or same(state, other), (
            f"a fit that was interrupted {when} and resumed leaves another state"
            f"{_difference(state, other)}; state_dict() must return all that was gathered"
        )


def history_columns_are_named(trial: Trial) -> None:
    """Check that every column that it adds to the history is in ``logs``."""
    added = set(trial.fit().history_.columns) - set(trial.fit(alone=True).history_.columns)
    logs = trial.callback.logs
    unnamed = [column for column in added if not any(fnmatchcase(column, name) for name in logs)]
    assert not unnamed, (
        f"{trial.cls} logs {sorted(unnamed)} without naming them in its class attribute `logs`, "
        "a tuple of names or globs such as ('grad_*',)"
    )


def watching_changes_nothing(trial: Trial) -> None:
    """Check that ``passive = True`` holds: same weights, same losses, same random numbers."""
    if not trial.callback.passive:
        return
    with_it, without = trial.fit(), trial.fit(alone=True)
    _assert_same_weights(with_it, without, "a fit with this passive callback and one without")
    for was, now in zip(without.model_.history_, with_it.model_.history_, strict=True):
        changed = [k for k in was if k != "duration" and not same(was[k], now.get(k))]
        assert not changed, f"the history's {changed} differ without this passive callback"
    rng = [net.model_.continuation_["rng"] for net in (with_it, without)]
    assert same(*rng), "this passive callback draws random numbers"


def cancels_are_survived(trial: Trial) -> None:
    """Check that others may cancel a batch, a phase or the fit at any stage."""
    kinds = {
        kind.__name__: kind
        for kind in (CancelBatchException, CancelEpochException, CancelFitException)
    }
    for stage in FIT_STAGES:
        for name in STAGES[stage].cancels:
            for breaker in (Breaker, LateBreaker):
                seen = Seen()
                with watch() as leaks:
                    net = trial.fit(breaker(seen, stage, kinds[name]()))
                net.predict(trial.X)
                _assert_clean(trial, seen, leaks, f"{name} in {stage}")


def everything_is_given_back(trial: Trial) -> None:
    """Check that no hook, context, file or thread is left after a fit, good or failed."""
    seen = Seen()
    with watch() as leaks:
        trial.fit(Companion(seen))
    _assert_clean(trial, seen, leaks, "a fit")
    for stage in FIT_STAGES:
        for breaker in (Breaker, LateBreaker):
            _fail(trial, breaker, stage, OSError("broken on purpose"))
    for stage in ("on_begin", "on_batch_begin", "on_after_backward", "on_batch_valid_end"):
        _fail(trial, LateBreaker, stage, KeyboardInterrupt())


def _fail(trial: Trial, breaker: type[Breaker], stage: str, error: BaseException) -> None:
    seen = Seen()
    what = f"{type(error).__name__} in {stage}"
    with watch() as leaks:
        raised = _error_of(trial, breaker(seen, stage, error))
    if raised is not None:
        notes = " ".join(getattr(raised, "__notes__", []))
        assert repr(NAME) not in notes, f"{what}: then the callback failed too: {notes}"
        own = type(raised) is type(error) and str(raised) == str(error)
        assert own, f"{what}: the callback's own error hides it: {raised!r}"
    _assert_clean(trial, seen, leaks, what)


def _error_of(trial: Trial, breaker: Breaker) -> BaseException | None:
    try:
        trial.fit(breaker)
    except (Exception, KeyboardInterrupt) as error:
        return error
    return None  # a stage that this fit did not reach


CHECKS = (
    init_only_stores,
    can_be_cloned_and_shown,
    can_be_pickled,
    parameters_are_routed,
    fit_leaves_the_object_alone,
    fits_are_reproducible,
    global_generators_stay,
    state_round_trips,
    fits_continue,
    resumes_exactly,
    history_columns_are_named,
    watching_changes_nothing,
    cancels_are_survived,
    everything_is_given_back,
)


# --------------------------------------------------------------------- assertions


def _assert_same_weights(one: Any, other: Any, what: str) -> None:
    weights = [net.model_.module_.state_dict() for net in (one, other)]
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), f"{what} differ in the weight {name!r}"


def _assert_clean(trial: Trial, seen: Seen, leaks: list[str], after: str) -> None:
    found = [*leaks, *(leak for module in seen.modules for leak in find_leaks(module))]
    assert not found, f"after {after} there is left: {'; '.join(found)}"
    for callback in seen.callbacks:
        kept = [name for name, value in _attributes(callback) if isinstance(value, Context)]
        assert not kept, (
            f"after {after} {trial.cls}.{kept[0]} keeps the context: copy what you need"
        )


def _attributes(callback: Any) -> Iterator[tuple[str, Any]]:
    yield from vars(callback).items() if callback is not None else ()
