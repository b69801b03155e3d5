"""Callbacks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.params.routing import snake_case

_REGISTRY: dict[str, type[Callback]] = {}

C = TypeVar("C", bound=type[Callback])


@overload
def register_callback(name: C) -> C: ...
@overload
def register_callback(name: str | None = None) -> Callable[[C], C]: ...


def register_callback(name: Any = None) -> Any:
    """Register a callback class, so that its name can stand for it.

    A class decorator. A name registered by another class is an error; the same class
    (by module and name) replaces itself, so that a notebook cell can run twice.

    Parameters
    ----------
    name : str, optional
        The name; by default the class's in snake case.

    Returns
    -------
    callable
        The decorator, or the class itself when used without parentheses.

    Raises
    ------
    ParameterError
        If the name is taken, or what is decorated is no `Callback` subclass.

    Notes
    -----
    A registration holds for one process. In the workers of a parallel search pass the
    callback object instead of a name that you registered yourself.

    Examples
    --------
    >>> from skorchlike import Callback, get_callback, register_callback
    >>> @register_callback("shout")
    ... class Shout(Callback):
    ...     def on_epoch_end(self, ctx):
    ...         print("EPOCH", ctx.epoch)
    >>> get_callback("shout")
    Shout()
    """
    if isinstance(name, type):
        return _register(snake_case(name.__name__), name)
    return lambda cls: _register(name or snake_case(cls.__name__), cls)


def _register(name: str, cls: Any) -> Any:
    if not (isinstance(cls, type) and issubclass(cls, Callback)):
        raise ParameterError(f"register_callback takes a subclass of Callback. Got {cls!r}.")
    if not isinstance(name, str) or not name or "__" in name:
        raise ParameterError(
            f"The name of a callback must be a non-empty string without '__'. Got {name!r}."
        )
    taken = _REGISTRY.get(name)
    if taken is not None and not _same(taken, cls):
        raise ParameterError(
            f"The callback name {name!r} is registered for {taken.__module__}."
            f"{taken.__qualname__}. Choose another."
        )
    _REGISTRY[name] = cls
    return cls


def _same(one: type, other: type) -> bool:
    """Whether two classes are the same, or one is the other imported or defined again."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def get_callback(name: str, **params: Any) -> Callback:
    """Build a registered callback.

    Parameters
    ----------
    name : str
        A name that `list_callbacks` shows.
    **params : dict
        Its arguments.

    Returns
    -------
    Callback
        A new instance.

    Raises
    ------
    ParameterError
        If the name or an argument is unknown.

    Examples
    --------
    >>> from skorchlike import get_callback
    >>> get_callback("early_stopping", patience=3)
    EarlyStopping(patience=3)
    """
    if name not in _REGISTRY:
        raise ParameterError(
            f"There is no registered callback named {name!r}.{did_you_mean(name, _REGISTRY)}"
        )
    cls = _REGISTRY[name]
    valid = cls._get_param_names()
    for key in params:
        if key not in valid and key.partition("__")[0] not in cls._components:
            raise ParameterError(
                f"{cls.__name__} has no parameter {key!r}.{did_you_mean(key, valid)}"
            )
    needed = [
        parameter.name
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind is not parameter.VAR_KEYWORD
        and parameter.name not in params
    ]
    if needed:
        raise ParameterError(
            f"{cls.__name__} needs {', '.join(map(repr, needed))}, so its name alone does not do: "
            f"pass {cls.__name__}({needed[0]}=...)."
        )
    return cls(**params)


def default_name(callback: Callback) -> str:
    """Return the name of a callback that was given none.

    The registered name of a built-in one, else the class's name in snake case: a
    registration by the user does not hold in the workers of a search.
    """
    cls = type(callback)
    built_in = cls.__module__.startswith("skorchlike.callbacks.")
    registered = (name for name, other in _REGISTRY.items() if built_in and _same(other, cls))
    return next(registered, snake_case(cls.__name__))


def list_callbacks() -> list[str]:
    """Return the names of all registered callbacks, sorted.

    Returns
    -------
    list of str
        The built-in ones and those registered by `register_callback`.

    Examples
    --------
    >>> from skorchlike import list_callbacks
    >>> "early_stopping" in list_callbacks()
    True
    """
    return sorted(_REGISTRY)
