"""Which classes and functions a file may name: found by import path, nothing else imported."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from skorchlike.exceptions import FormatError, ParameterError, UntrustedError

PACKAGE = "skorchlike"

DATA_TYPES = frozenset(
    [
        bool,
        bytearray,
        bytes,
        complex,
        dict,
        float,
        frozenset,
        int,
        list,
        object,
        range,
        set,
        slice,
        str,
        tuple,
        type,
    ]
)
"""What of `builtins` is only a kind of data."""

TENSOR_FUNCTIONS = frozenset(
    [
        "abs",
        "arctan",
        "asinh",
        "atan",
        "clamp",
        "cos",
        "erf",
        "exp",
        "expm1",
        "flatten",
        "log",
        "log1p",
        "log_softmax",
        "logit",
        "logsumexp",
        "nan_to_num",
        "neg",
        "relu",
        "selu",
        "sigmoid",
        "sign",
        "sin",
        "softmax",
        "sqrt",
        "square",
        "tanh",
    ]
)
"""Names in `torch` of functions that compute a tensor from a tensor and do nothing else."""

OTHERS = frozenset(
    [
        "builtins:print",  # where PrintLog writes to
        "collections:Counter",
        "collections:OrderedDict",
        "collections:defaultdict",
        "sklearn.preprocessing._data:QuantileTransformer",  # numeric_transform="quantile"
        "sklearn.utils._bunch:Bunch",
        "torch.nn.modules.module:_WrappedHook",
        "torch.nn.parameter:Buffer",
        "torch.nn.parameter:Parameter",
        "torch.nn.parameter:UninitializedBuffer",
        "torch.nn.parameter:UninitializedParameter",
        "torch.nn.utils.spectral_norm:SpectralNorm",
        "torch.nn.utils.weight_norm:WeightNorm",
        "torch.utils.data.dataloader:DataLoader",
        "torch.utils.hooks:RemovableHandle",
    ]
)
"""What else the package itself and torch's modules are made of."""

KNOWN = frozenset([PACKAGE, "numpy", "sklearn", "torch"])
"""Of these `Trusted` itself knows what a file may name; the rest of them is never trusted."""

HOMES = ("torch.nn.functional", "torch", "numpy", "math", "operator")
"""Where functions written in C, which do not know where they are from, are looked for."""

_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)


def name_of(thing: Any) -> str:
    """Return the import path of a class or function, as ``"module:qualified.name"``.

    Raises
    ------
    FormatError
        If nothing is found under that path, or something else.

    Examples
    --------
    >>> import torch
    >>> name_of(torch.nn.Linear), name_of(torch.tanh)
    ('torch.nn.modules.linear:Linear', 'torch:tanh')
    """
    name = getattr(thing, "__name__", None)
    if isinstance(name, str) and not isinstance(thing, (type, types.FunctionType)):
        for home in HOMES:
            if home in sys.modules and vars(sys.modules[home]).get(name) is thing:
                return f"{home}:{name}"
    module, qualname = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    found = None
    if isinstance(module, str) and isinstance(qualname, str):
        found = _look_up(module, qualname)
    if found is thing:
        return f"{module}:{qualname}"
    what = f"{module}.{qualname}" if qualname else repr(thing)
    raise FormatError(
        f"{what} cannot be written: it has to be found by its name when the file is read, and "
        f"{'another object has' if found is not None else 'nothing has'} that name. Define it "
        "with def or class at the top level of a module that can be imported (no lambda, nothing "
        "inside a function)."
    )


def _look_up(module: str, qualname: str) -> Any:
    """Return what has that path among what is imported, or None; attributes of classes alone."""
    owner: Any = sys.modules.get(module)
    for i, step in enumerate(qualname.split(".")):
        if owner is None or (i and not isinstance(owner, type)):
            return None
        owner = vars(owner).get(step)
        owner = owner.__func__ if i and isinstance(owner, (staticmethod, classmethod)) else owner
    return owner


class Trusted:
    """What may be named by a file that is read.

    Of the package itself every class; of ``torch.nn`` the modules and the functions in
    ``functional`` and ``init``; of ``torch.optim`` optimizers and schedulers; kinds of data;
    and what the caller lists.

    Parameters
    ----------
    extra : iterable of type, function, module or str, or dict
        Classes and functions; their dotted names; names of packages or modules, of which
        everything is trusted. A dict gives for a name in the file what it stands for now:
        ``{"old_package.Own": Own}``.

    Raises
    ------
    ParameterError
        If an entry is nothing that can be trusted.

    Examples
    --------
    >>> Trusted().find("torch.nn.modules.linear:Linear")
    <class 'torch.nn.modules.linear.Linear'>
    >>> Trusted().find("os:system")
    Traceback (most recent call last):
        ...
    skorchlike.exceptions.UntrustedError: The file names 'os.system', ...
    """

    def __init__(self, extra: Any = ()) -> None:
        self.objects: dict[str, Any] = {}
        self.prefixes: set[str] = set()
        if isinstance(extra, (str, type)) or callable(extra) or not isinstance(extra, Iterable):
            raise ParameterError(
                f"The `trusted` parameter must be a list of classes, functions and names, or a "
                f"dict. Got {extra!r}: put it into a list."
            )
        if isinstance(extra, Mapping):
            self.objects = {str(name): _value(name, thing) for name, thing in extra.items()}
            return
        for thing in extra:
            if isinstance(thing, str) and thing.strip(". "):
                self.prefixes.add(thing)
            elif isinstance(thing, types.ModuleType):
                self.prefixes.add(thing.__name__)
            else:
                self.objects[dotted(name_of(_checked(thing)))] = thing

    def allows(self, name: str) -> bool:
        """Whether an import path may be looked up; nothing is imported to tell."""
        module, _, qualname = name.partition(":")
        path = dotted(name)
        if name.count(":") != 1 or not all(part.isidentifier() for part in path.split(".")):
            return False
        if path in self.objects or any(_is_beneath(path, prefix) for prefix in self.prefixes):
            return True
        private = any(part.startswith("_") for part in qualname.split("."))
        return name in OTHERS or (not private and _rule(module, qualname) is not None)

    def check(self, names: Iterable[str]) -> None:
        """Refuse names that are not trusted, all at once.

        Raises
        ------
        UntrustedError
            Names them, and says how to trust them.
        """
        bad = sorted({dotted(name) for name in names if not self.allows(name)})
        if bad:
            _refuse(bad)

    def find(self, name: str) -> Any:
        """Return the class or function with this import path.

        Parameters
        ----------
        name : str
            ``"module:qualified.name"``.

        Raises
        ------
        UntrustedError
            If it is not trusted; then nothing has been imported.
        FormatError
            If it does not exist (any more), or is known by another name.
        """
        self.check([name])
        if dotted(name) in self.objects:
            return self.objects[dotted(name)]
        module, _, qualname = name.partition(":")
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise FormatError(
                f"The file needs {dotted(name)!r}, and its module cannot be imported: {error}. "
                "Install or put back what it was made with; if it has moved, say where to by "
                f"trusted={{{dotted(name)!r}: ...}}."
            ) from error
        found = _look_up(module, qualname)
        if found is None and qualname.partition(".")[0] in vars(sys.modules[module]):
            _refuse([dotted(name)])  # through something that is no class
        if found is None:
            raise FormatError(
                f"The file needs {dotted(name)!r}, which does not exist. If it has moved, say "
                f"where to by trusted={{{dotted(name)!r}: ...}}."
            )
        self._check_found(found, name)
        return found

    def _check_found(self, found: Any, name: str) -> None:
        """Refuse what is no class or function, is imported from elsewhere, or not of the kind."""
        module, _, qualname = name.partition(":")
        try:
            genuine = (isinstance(found, type) or callable(found)) and name_of(found) == name
        except FormatError:
            genuine = False
        if genuine and not any(_is_beneath(dotted(name), prefix) for prefix in self.prefixes):
            rule = _rule(module, qualname)
            genuine = name in OTHERS or (rule is not None and rule(found))
        if not genuine:
            _refuse([dotted(name)])


def dotted(name: str) -> str:
    """Return an import path as a user writes it."""
    return name.replace(":", ".", 1)


def _checked(thing: Any) -> Any:
    if isinstance(thing, type) or (callable(thing) and hasattr(thing, "__name__")):
        return thing
    raise ParameterError(
        f"The `trusted` parameter takes classes, functions and names. Got {thing!r}"
        + (f": list its class, {type(thing).__name__}." if not isinstance(thing, str) else ".")
    )


def _value(name: Any, thing: Any) -> Any:
    """Return what a name stands for in the dict: the thing itself, as it is not looked up."""
    if isinstance(thing, str):
        raise ParameterError(
            f"In a dict as the `trusted` parameter every value must be a class or function itself, "
            f"not its name. Got {{{name!r}: {thing!r}}}: import {thing} and give that."
        )
    return _checked(thing)


def _is_beneath(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}.")


def _refuse(names: list[str]) -> None:
    listed = ", ".join(map(repr, names))
    raise UntrustedError(
        f"The file names {listed}, which it is not trusted to use. If you know the file's origin "
        f"and these names, read it by load(path, trusted=[{listed}])."
    )


def packages_of(things: Iterable[Any]) -> list[str]:
    """Return the packages that objects are from, to be trusted by a file of theirs.

    Parameters
    ----------
    things : iterable
        Objects, classes and functions. The classes that a class derives from count too.

    Returns
    -------
    list of str
        Names of top-level packages, ``"__main__"`` among them; without Python's own and those
        of which `Trusted` knows what a file may name.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.model.trust import packages_of
    >>> class Own(torch.nn.Linear):
    ...     __module__ = "mine.layers"
    >>> packages_of([Own(2, 1), torch.optim.Adam, dict, 3])
    ['mine']
    """
    owners: list[Any] = []
    for thing in things:
        if isinstance(thing, types.FunctionType):
            owners.append(thing)
        else:
            owners += (thing if isinstance(thing, type) else type(thing)).__mro__
    packages = {str(owner.__module__).partition(".")[0] for owner in owners}
    return sorted(packages - KNOWN - sys.stdlib_module_names)


# ----------------------------------------------------------------- the built-in rules


def _is_own(thing: Any) -> bool:
    # what closes or ends something when it goes must not be made of numbers in a file
    return isinstance(thing, type) and not hasattr(thing, "__del__")


def _is_function(thing: Any) -> bool:
    return isinstance(thing, _FUNCTIONS)


def _is_data_type(thing: Any) -> bool:
    return isinstance(thing, type) and (thing in DATA_TYPES or issubclass(thing, Exception))


def _is_module_class(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, nn.Module)


def _is_of_optim(thing: Any) -> bool:
    from torch.optim.lr_scheduler import LRScheduler

    kinds = (torch.optim.Optimizer, LRScheduler, nn.Module)
    return isinstance(thing, type) and issubclass(thing, kinds)


def _rule(module: str, qualname: str) -> Callable[[Any], bool] | None:
    """Return what a thing at this path has to be, or None if nothing there is trusted."""
    if _is_beneath(module, PACKAGE):
        return _is_own
    if module == "builtins":
        return _is_data_type
    if module == "torch":
        return _is_function if qualname in TENSOR_FUNCTIONS else None
    if module in ("torch.nn.functional", "torch.nn.init"):
        return _is_function
    if _is_beneath(module, "torch.nn"):
        return _is_module_class
    return _is_of_optim if _is_beneath(module, "torch.optim") else None
