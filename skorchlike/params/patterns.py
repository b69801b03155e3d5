"""Names chosen by patterns: of parameters, of submodules."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from typing import Any

from skorchlike.exceptions import ParameterError

Patterns = str | Iterable[str] | Callable[[str], bool]


def check_patterns(patterns: Any, what: str) -> None:
    """Refuse what is no pattern.

    Parameters
    ----------
    patterns : object
        What a user gave.
    what : str
        Whose it is, as the error begins: ``"The `patterns` parameter of Freeze"``.

    Raises
    ------
    ParameterError
        If it is neither a glob, a list of globs, nor a function of a name.
    """
    if isinstance(patterns, str) or callable(patterns):
        return
    if isinstance(patterns, (list, tuple, set, frozenset)) and all(
        isinstance(pattern, str) for pattern in patterns
    ):
        return
    raise ParameterError(
        f"{what} must be a glob such as 'hidden.*', a list of globs, or a function that takes a "
        f"name and returns whether it is meant. Got {patterns!r}."
    )


def matching(patterns: Patterns, names: Iterable[str]) -> list[str]:
    """Return the names that a pattern matches, in their own order.

    Parameters
    ----------
    patterns : str, list of str, or callable
        Globs as in `fnmatch` (``*`` also matches dots), of which one must match; or a
        function of the name.
    names : iterable of str
        What to choose from.

    Returns
    -------
    list of str
        Those meant.

    Examples
    --------
    >>> matching("*.bias", ["0.weight", "0.bias", "2.bias"])
    ['0.bias', '2.bias']
    """
    if callable(patterns):
        return [name for name in names if patterns(name)]
    globs = [patterns] if isinstance(patterns, str) else list(patterns)
    return [name for name in names if any(fnmatch.fnmatchcase(name, glob) for glob in globs)]
