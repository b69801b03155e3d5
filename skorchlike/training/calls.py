"""Who is called at which stage, looked up once a fit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from numbers import Real
from types import SimpleNamespace
from typing import Any

from skorchlike.exceptions import CancelException, ParameterError, StageError, did_you_mean
from skorchlike.training.interrupts import unbroken
from skorchlike.training.stages import ACTIONS, FIT_STAGES, PREDICT_STAGES, STAGES, TABLE

Call = Callable[[Any], None]


class Calls(tuple):
    """The callables of one stage or action, in the order in which they run.

    Empty, and so false, where nobody uses the stage: the loop asks before it calls.
    """

    place: str
    owners: tuple[str, ...]
    cancels: tuple[str, ...]

    def __new__(
        cls,
        place: str,
        pairs: Iterable[tuple[str, Callable[..., Any]]],
        cancels: tuple[str, ...] = (),
    ) -> Calls:
        """Make the tuple of the callables, and remember whose they are."""
        pairs = tuple(pairs)
        self = super().__new__(cls, (call for _, call in pairs))
        self.place = place
        self.owners = tuple(owner for owner, _ in pairs)
        self.cancels = cancels
        return self

    def describe(self, call: Callable[..., Any]) -> str:
        """Say in words who was called, and where."""
        owner = next((o for o, c in zip(self.owners, self, strict=True) if c is call), "?")
        return f"{owner} in {self.place}"


def describe_callback(name: str, callback: Any) -> str:
    """Name a callback as errors do."""
    return f"the callback {name!r} ({type(callback).__name__})"


def defines_stage(callback: Any, stage: str) -> bool:
    """Whether a callback defines a stage or other method (the base class's are no-ops)."""
    method = getattr(callback, stage, None)
    return method is not None and not getattr(method, "is_no_op", False)


def uses_stage(callback: Any, stage: str) -> bool:
    """Whether a callback defines a method and, with its parameters, a stage has work to do."""
    return defines_stage(callback, stage) and not (stage in STAGES and _is_idle(callback, stage))


def _is_idle(callback: Any, stage: str) -> bool:
    if stage not in callback.idle_stages or stage in vars(callback):
        return False
    # a base class that calls its stage idle does not know what a subclass does in it
    where = (cls for cls in type(callback).__mro__ if {"idle_stages", stage} & vars(cls).keys())
    return "idle_stages" in vars(next(where))


def _check_idle_stages(who: str, callback: Any) -> None:
    idle = callback.idle_stages
    if not isinstance(idle, (tuple, list)):
        raise ParameterError(
            f"`idle_stages` of {who} must be a tuple of names of stages. Got {idle!r}."
        )
    for name in idle:
        if name not in STAGES:
            raise ParameterError(
                f"`idle_stages` of {who} must be names of stages. Got {name!r}."
                f"{did_you_mean(str(name), STAGES)}"
            )


def acts_in_predict(callback: Any) -> bool:
    """Whether a callback has a predict stage or replaces ``do_predict``.

    Its parameters may not be set yet, so this is not about idle stages.
    """
    return hasattr(callback, "do_predict") or any(
        defines_stage(callback, s) for s in PREDICT_STAGES
    )


def columns_of(callbacks: Mapping[str, Any]) -> list[str]:
    """Return the history columns that callbacks name in their `logs`."""
    columns: list[str] = []
    for name, callback in callbacks.items():
        logs = callback.logs
        if not isinstance(logs, (tuple, list)) or not all(isinstance(n, str) for n in logs):
            raise ParameterError(
                f"`logs` of {describe_callback(name, callback)} must be a tuple of column names. "
                f"Got {logs!r}."
            )
        columns += logs
    return columns


def in_order(callbacks: Mapping[str, Any]) -> dict[str, Any]:
    """Sort by ascending ``order``; ties keep the order given."""
    for name, callback in callbacks.items():
        if not isinstance(callback.order, Real):
            raise ParameterError(
                f"`order` of {describe_callback(name, callback)} must be a number. Got "
                f"{callback.order!r}."
            )
    ranked = dict(sorted(callbacks.items(), key=lambda item: item[1].order))
    checkpoint = None
    for name, callback in ranked.items():
        if checkpoint and uses_stage(callback, "state_dict"):
            cls = type(callback)
            raise ParameterError(
                f"The callback {name!r} has a state and order = inf, and so acts after "
                f"{checkpoint!r}, which would save it too early. "
                + (
                    f"One fit can have one {cls.__name__}: drop one. What is saved, and what of it "
                    "is kept, is up to its parameters."
                    if type(ranked[checkpoint]) is cls
                    else "Give it a finite order."
                )
            )
        if callback.order == float("inf"):
            checkpoint = checkpoint or name
    return ranked


def wrapper(callbacks: Mapping[str, Any]) -> Callable[[str, str, Call], Call]:
    """Return what puts the wrappers of the callbacks that have one around a call."""
    wraps = {name: cb for name, cb in callbacks.items() if uses_stage(cb, "wrap_call")}

    def wrap(owner: str, place: str, call: Call) -> Call:
        for name, callback in wraps.items():
            call = callback.wrap_call(owner, place, call)
            if not callable(call):
                raise ParameterError(
                    f"wrap_call() of {describe_callback(name, callback)} must return a callable. "
                    f"Got {call!r}."
                )
        return call

    return wrap


def resolve_stages(
    callbacks: Mapping[str, Any],
    states: dict[str, Any] | None = None,
    names: tuple[str, ...] = FIT_STAGES,
    load_after: tuple[str, ...] = ("on_begin",),
) -> SimpleNamespace:
    """Look up who is called at each stage.

    Parameters
    ----------
    callbacks : mapping
        Name → callback, in the order in which they run.
    states : dict, optional
        Name → state of the fit that is continued. Each is loaded right after the callback's own
        ``on_begin``, and then taken out of the dict.
    names : tuple of str
        The stages to look up.
    load_after : tuple of str
        The stages after which states are loaded; after others than ``on_begin`` a copy is, and
        the state stays in the dict.

    Returns
    -------
    namespace
        One `Calls` for each stage, by the stage's name.

    Raises
    ------
    ParameterError
        If `idle_stages` of a callback names what is no stage.
    """
    for name, callback in callbacks.items():
        _check_idle_stages(describe_callback(name, callback), callback)
    stages, wrap = SimpleNamespace(), wrapper(callbacks)
    for stage in names:
        pairs = []
        for name, callback in callbacks.items():
            who = describe_callback(name, callback)
            if uses_stage(callback, stage):
                pairs.append((who, wrap(name, stage, getattr(callback, stage))))
            if stage in load_after and states and name in states:
                take = states.pop if stage == "on_begin" else partial(_copied, states)
                pairs.append((f"{who}: load_state_dict", _loader(callback, take, name)))
        setattr(stages, stage, Calls(stage, pairs, STAGES[stage].cancels))
    return stages


def _loader(callback: Any, take: Callable[[str], Any], name: str) -> Callable[[Any], None]:
    # taken out in on_begin: what is left in the end was never loaded
    return lambda ctx: callback.load_state_dict(take(name))


def _copied(states: Mapping[str, Any], name: str) -> Any:
    return copy.deepcopy(states[name])


def resolve_actions(callbacks: Mapping[str, Any], estimator: Any) -> SimpleNamespace:
    """Find the one provider of each action: a callback, else the estimator.

    Raises
    ------
    ParameterError
        If two callbacks provide the same action.
    """
    actions = SimpleNamespace()
    for action in ACTIONS:
        cancels = next(row.cancels for row in TABLE if row.name == action)
        setattr(actions, action, resolve_action(action, callbacks, estimator, cancels))
    return actions


def resolve_action(
    action: str, callbacks: Mapping[str, Any], estimator: Any, cancels: tuple[str, ...] = ()
) -> Calls:
    """Find the one provider of an action."""
    method = f"do_{action}"
    found = [name for name, callback in callbacks.items() if hasattr(callback, method)]
    if len(found) > 1:
        raise ParameterError(
            f"The callbacks {' and '.join(map(repr, found))} both replace the action "
            f"{action!r} (by {method}). One fit can have one provider of it: drop one, "
            "or let one callback do both."
        )
    if found:
        provider = callbacks[found[0]]
        who = describe_callback(found[0], provider)
    else:
        provider, who = estimator, f"the estimator ({type(estimator).__name__})"
    owner = found[0] if found else "estimator"
    call = wrapper(callbacks)(owner, method, getattr(provider, method))
    return Calls(method, [(who, call)], cancels)


def explain(error: BaseException, calls: Calls, call: Callable[..., Any], where: str) -> None:
    """Note on an error who raised it and where; refuse a misplaced cancel.

    Raises
    ------
    StageError
        If the error is a cancel exception that has no meaning at this stage.
    """
    if isinstance(error, CancelException):
        kinds = [kind.__name__ for kind in type(error).__mro__]
        if not any(kind in calls.cancels for kind in kinds):
            allowed = ", ".join(calls.cancels) or "none of the cancel exceptions"
            raise StageError(
                f"{type(error).__name__} has no meaning in {calls.place}, where "
                f"{calls.describe(call)} raised it{where}. Allowed there: {allowed}."
            ) from error
    elif isinstance(error, Exception):
        error.add_note(f"Raised by {calls.describe(call)}{where}.")


@unbroken
def run_exits(calls: Calls, ctx: Any, error: BaseException | None, where: str) -> None:
    """Run every call of an exit stage, also when some of them fail.

    Parameters
    ----------
    calls : Calls
        The exit stage.
    ctx : Context
        What the calls receive.
    error : exception or None
        What is on its way out already. Failures are added to it as notes.
    where : str
        Epoch and batch, for the notes.

    Raises
    ------
    BaseException
        Without an earlier error: the failure as it is, several as one group.
    """
    failures: list[BaseException] = []
    for call in calls:
        try:
            call(ctx)
        except BaseException as failure:
            ctx._resumable = False
            try:
                explain(failure, calls, call, where)
            except StageError as misplaced:
                failures.append(misplaced)
            else:
                failures.append(failure)
    if not failures:
        return
    if error is not None and not isinstance(error, CancelException):
        for failed in failures:
            notes = " ".join(getattr(failed, "__notes__", []))
            error.add_note(f"Then {calls.place} failed too: {failed!r}. {notes}".rstrip())
    elif len(failures) == 1:
        raise failures[0]
    else:
        raise BaseExceptionGroup(f"Several callbacks failed in {calls.place}", failures)
