"""A callback made from functions."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import CallbackDefinitionError, ParameterError


def make_callback(
    name: str,
    params: Mapping[str, Any] | None = None,
    *,
    order: float = 0,
    passive: bool = False,
    logs: tuple[str, ...] = (),
    doc: str | None = None,
    **functions: Callable[..., Any],
) -> type[Callback]:
    """Make a `Callback` class from functions.

    The counterpart of mlr3torch's ``torch_callback()`` and luz's ``luz_callback()``.

    Parameters
    ----------
    name : str
        Name of the class, an identifier. Assign the result to a module-level variable of
        that name and its instances can be pickled, as with a namedtuple.
    params : mapping, optional
        Parameters of the callback with their defaults; ``...`` as default makes one
        required. Each becomes an attribute of ``self``.
    order : float, default=0
        Its place among the callbacks.
    passive : bool, default=False
        Whether it only watches.
    logs : tuple of str, default=()
        The history columns that it adds.
    doc : str, optional
        The docstring of the class.
    **functions : callable
        Stages and actions, ``on_batch_end=lambda self, ctx: ...``, and ``state_dict(self)``
        with ``load_state_dict(self, state)``.

    Returns
    -------
    type
        A subclass of `Callback`; call it to get an instance.

    Raises
    ------
    CallbackDefinitionError
        If a name is no stage, action or state function, or has a wrong signature.

    Examples
    --------
    >>> from skorchlike import make_callback
    >>> printer = make_callback(
    ...     "printer",
    ...     params={"message": ...},
    ...     on_epoch_end=lambda self, ctx: print(self.message),
    ... )
    >>> printer(message="Done!")
    printer(message='Done!')
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise ParameterError(f"The name of a callback must be an identifier. Got {name!r}.")
    for key, function in functions.items():
        known = key.startswith(("on_", "do_")) or key in ("state_dict", "load_state_dict")
        if not known or not callable(function):
            raise CallbackDefinitionError(
                f"make_callback({name!r}, {key}=...) takes functions named on_*, do_*, "
                f"state_dict or load_state_dict. Got {key}={function!r}."
            )
    signature = _signature(params or {})

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise ParameterError(f"{name}{signature}: {error}.") from None
        bound.apply_defaults()
        for key in signature.parameters:
            if key != "self":
                setattr(self, key, bound.arguments[key])

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    namespace = {
        "__doc__": doc or f"Callback {name!r}, made from functions.",
        # the caller's module, so that pickle finds the class where it is assigned
        "__module__": sys._getframe(1).f_globals.get("__name__", "__main__"),
        "__init__": __init__,
        "order": order,
        "passive": passive,
        "logs": tuple(logs),
        **functions,
    }
    return type(name, (Callback,), namespace)


def _signature(params: Mapping[str, Any]) -> inspect.Signature:
    """Return ``(self, *, ...)`` with required parameters first, ``...`` marking them."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    required = [inspect.Parameter(key, kind) for key, value in params.items() if value is ...]
    optional = [
        inspect.Parameter(key, kind, default=value)
        for key, value in params.items()
        if value is not ...
    ]
    return inspect.Signature([inspect.Parameter("self", kind), *required, *optional])
