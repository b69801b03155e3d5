"""Names of a package whose files are imported when they are first asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    A name is imported once and then stands in the package like any other. Files and folders
    of the package that hold such names can be asked for too, as if they had been imported.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    homes : mapping
        Name → the file that holds it, from the package on: ``{"Freeze": "freezing"}``.

    Returns
    -------
    __getattr__, __dir__ : callable
        To be assigned in the package, after ``if TYPE_CHECKING:`` has shown the same names to
        type checkers.
    """
    rooms = {home.partition(".")[0] for home in homes.values()}

    def __getattr__(name: str) -> Any:
        module = sys.modules[package]
        if name in homes:
            value = getattr(import_module(f"{package}.{homes[name]}"), name)
        elif name in rooms:
            value = import_module(f"{package}.{name}")
        else:
            message = f"module {package!r} has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=module)
        setattr(module, name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes, *rooms})

    return __getattr__, __dir__
