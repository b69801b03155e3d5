"""Calling what a user named, with what was said to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from skorchlike.exceptions import ParameterError, did_you_mean


def parameters_of(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a constructor; none can be told of some built-in types."""
    try:
        return dict(inspect.signature(make).parameters)
    except ValueError:
        return {}


def check_options(
    component: str,
    make: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    options: Mapping[str, Any],
) -> None:
    """Refuse options that the constructor has not, and name those that it misses."""
    kinds = {p.kind for p in parameters.values()}
    named = {
        name: p for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    for name in options:
        if name not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ParameterError(
                f"Unknown parameter '{component}__{name}': {name_of(make)} has no parameter "
                f"{name!r}.{did_you_mean(name, named)}"
            )
    missing = [n for n, p in named.items() if p.default is p.empty and n not in options]
    if missing:
        raise ParameterError(
            f"{name_of(make)} needs {', '.join(map(repr, missing))}. Say it as "
            f"{component}__{missing[0]}=..."
        )


def call(component: str, make: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a constructor; an error is noted with what was said."""
    try:
        return make(*args, **options)
    except Exception as error:
        said = ", ".join(f"{k}={v!r}" for k, v in options.items())
        error.add_note(f"Raised while building the {component} {name_of(make)}({said}).")
        raise


def name_of(make: Any) -> str:
    """Return the name of a class or function."""
    return getattr(make, "__name__", None) or type(make).__name__


def short(value: Any) -> str:
    """Show a value in an error, cut where it is long."""
    text = " ".join(repr(value).split())
    text = text if len(text) < 80 else f"{text[:77]}..."
    return f"{text} ({type(value).__name__})"
