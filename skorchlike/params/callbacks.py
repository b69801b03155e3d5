"""Callbacks, built from what was said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.base import clone

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import default_name, get_callback
from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.params.calling import short
from skorchlike.params.routing import beneath, is_dropped


def named_callbacks(callbacks: Any, said: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return name → callback of what ``callbacks`` says; dropped ones as None.

    Parameters
    ----------
    callbacks : None, dict or list
        ``{name: callback}``, ``[(name, callback)]``, or a list of callbacks and
        registered names.
    said : mapping, optional
        Replacements, from ``callbacks__name=...``, by name.

    Returns
    -------
    dict
        The user's own objects, not copies.

    Raises
    ------
    ParameterError
        If it is something else, or a name stands twice.
    """
    named: dict[str, Any] = {}
    for name, callback in _pairs(callbacks):
        callback = _one_callback(name, callback)
        if name is None and callback is not None:
            name = default_name(callback)
        if not isinstance(name, str) or not name or "__" in name:
            raise ParameterError(
                f"The name of a callback must be a non-empty string without '__'. Got {name!r}."
            )
        if name in named:
            raise ParameterError(
                f"The `callbacks` parameter has the name {name!r} twice. Give each its own: "
                "callbacks={'first': ..., 'second': ...}."
            )
        named[name] = callback
    for name, replaced in (said or {}).items():
        if "__" not in name and name in named:
            named[name] = None if is_dropped(replaced) else _one_callback(name, replaced)
    return named


def _pairs(callbacks: Any) -> list[tuple[Any, Any]]:
    if callbacks is None:
        return []
    if isinstance(callbacks, Mapping):
        return list(callbacks.items())
    if not isinstance(callbacks, (list, tuple)):
        raise ParameterError(
            "The `callbacks` parameter must be a dict {name: callback}, a list of (name, "
            "callback), or a list of callbacks and registered names. "
            f"Got {short(callbacks)}."
        )
    pairs: list[tuple[Any, Any]] = []
    for item in callbacks:
        if isinstance(item, tuple) and len(item) == 2:
            pairs.append(item)
        elif isinstance(item, str):
            pairs.append((item, get_callback(item)))
        else:
            pairs.append((None, item))
    return pairs


def _one_callback(name: Any, callback: Any) -> Callback | None:
    if is_dropped(callback) and name is not None:
        return None
    if isinstance(callback, str):
        return get_callback(callback)
    if isinstance(callback, Callback):
        return callback
    where = f"The callback {name!r}" if name is not None else "An entry of `callbacks`"
    if isinstance(callback, type) and issubclass(callback, Callback):
        raise ParameterError(
            f"{where} is the class {callback.__name__}. Pass an instance: {callback.__name__}()."
        )
    if hasattr(callback, "on_fit_task_begin"):
        raise ParameterError(
            f"{where} is {type(callback).__name__}, a callback of scikit-learn's own protocol. "
            "Give it to the estimator by set_callbacks(...)."
        )
    raise ParameterError(
        f"{where} must be an instance of skorchlike.Callback or a registered name. "
        f"Got {short(callback)}."
    )


def build_callbacks(callbacks: Any, said: Mapping[str, Any]) -> dict[str, Callback]:
    """Return clones of the callbacks, with the parameters said to them.

    Parameters
    ----------
    callbacks : None, dict or list
        As the estimator's ``callbacks``.
    said : mapping
        What was said to them: ``name`` replaces, ``name__parameter`` sets.

    Returns
    -------
    dict
        Name → callback that nobody else holds.
    """
    built = {}
    originals = named_callbacks(callbacks, said)
    for name in {key.partition("__")[0] for key in said}:
        if name not in originals:
            raise ParameterError(
                f"The parameters 'callbacks__{name}...' name no callback."
                f"{did_you_mean(name, originals)}"
            )
    for name, original in originals.items():
        if original is None:
            continue
        callback = clone(original)
        parameters = beneath(name, said)
        if parameters:
            callback.set_params(**parameters)
        built[name] = callback
    return built
