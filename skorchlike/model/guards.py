"""What a file may hold, beyond that it can be read: checks of what hostile authors have tried."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, NoneType
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch
from torch import Tensor, nn

from skorchlike.exceptions import DamagedFileError

MOST_PARTS = 2**24
"""So many parts may be repeated, what stands at several places counted at each."""

SEED_POOL = 1024
"""The largest pool of a seed sequence that is read; NumPy's own is 4."""

LIBRARIES = ("skorchlike", "torch", "sklearn", "collections")
"""Whose classes a file may name without leave: of these nothing may be replaced."""

MODEL = {
    "module_": nn.Module,
    "criterion_": nn.Module,
    "optimizer_": dict,
    "callbacks_": Bunch,
    "history_": list,
    "n_epochs_": int,
    "seed_": int,
    "continuation_": dict,
}
"""What a `TrainedModel` consists of."""


def plain_list(value: Any) -> list[Any]:
    """Return a list as it is: a range in its place would have as many parts as it likes.

    Raises
    ------
    DamagedFileError
        If it is none.
    """
    if type(value) is not list:
        raise DamagedFileError("Its content has a container without a list of parts")
    return value


def plain_dict(value: Any) -> dict[str, Any]:
    """Return a dict with names as it is: what only behaves like one could call something.

    Raises
    ------
    DamagedFileError
        If it is none.
    """
    if type(value) not in (dict, OrderedDict) or not all(type(key) is str for key in value):
        raise DamagedFileError("Its content has a state that is no dict of attributes")
    return value


def check_shared(plain: Any) -> None:
    """Refuse what is small and, counted part by part, has no end.

    What stands at several places may hold what stands at several places: sixty of these, one
    in the other, are 2 ** 60 parts for whatever hashes or prints them. (Known from XML as
    "billion laughs".)

    Parameters
    ----------
    plain : object
        What JSON gave.

    Raises
    ------
    DamagedFileError
        If it repeats itself too often.
    """
    counts: dict[int, int] = {}
    done: list[int] = []
    n_written = 0
    # a node is met twice: before its parts and after them
    todo: list[tuple[Any, int | None]] = [(plain, None)]
    while todo:
        node, n_parts = todo.pop()
        if n_parts is None:
            parts = _parts(node)
            todo.append((node, len(parts)))
            todo.extend((part, None) for part in reversed(parts))
            continue
        n_written += 1
        count = 1 + sum(done.pop() for _ in range(n_parts))
        tag = node.get("$") if isinstance(node, dict) else None
        if tag in ("again", "shared") and type(node.get("id")) is int:
            count = counts.get(node["id"], 1) if tag == "again" else count
            counts[node["id"]] = count
        done.append(count)
    if done[0] > MOST_PARTS + 16 * n_written:
        raise DamagedFileError("Its content repeats itself too often")


def _parts(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []


# --------------------------------------------------------------------- attributes


def of_library(cls: type) -> bool:
    """Whether a class is one that a file may name without leave."""
    return cls.__module__.partition(".")[0] in LIBRARIES


def replaced(cls: type, attributes: Mapping[Any, Any]) -> Iterator[str]:
    """Yield which attributes of an object stand in the place of methods of its class."""
    for name in attributes if of_library(cls) else ():
        if str(name).startswith("__") or isinstance(
            inspect.getattr_static(cls, str(name), None), (FunctionType, staticmethod, classmethod)
        ):
            yield str(name)


def attributes_of(cls: type, state: Any) -> dict[str, Any]:
    """Return what may become the attributes of an object.

    Raises
    ------
    DamagedFileError
        If it may not.
    """
    attributes = plain_dict(state)
    for name in replaced(cls, attributes):
        raise DamagedFileError(f"Its content replaces {name!r:.80} of a {cls.__name__}")
    return attributes


def check_module_state(cls: type, state: Mapping[str, Any]) -> None:
    """Refuse what cannot be the state of a module.

    Raises
    ------
    DamagedFileError
        If parts, hooks or flags are of the wrong kind.
    """
    parts = {"_parameters": Tensor, "_buffers": Tensor, "_modules": nn.Module}
    for name, default in vars(nn.Module()).items():
        value = state.get(name, default)
        ok = type(value) is type(default) or name == "_is_full_backward_hook"
        if ok and name in parts:
            ok = all(part is None or isinstance(part, parts[name]) for part in value.values())
        elif ok and isinstance(default, OrderedDict):
            ok = all(callable(hook) or isinstance(hook, bool) for hook in value.values())
        if not ok:
            raise DamagedFileError(f"Its content has a {cls.__name__} with a wrong {name!r}")
    if issubclass(cls, nn.RNNBase):
        # else torch would make up names for as many layers as it is told of
        names = state.get("_all_weights")
        ok = isinstance(names, list) and "all_weights" not in state
        if not (ok and names and all(type(n) is str for of_layer in names for n in of_layer)):
            raise DamagedFileError(f"Its content has a {cls.__name__} without names of its weights")


# --------------------------------------------------------------- random generators


def check_bits(state: Any, seed: Any) -> None:
    """Refuse what cannot be the state and the seeds of a generator of NumPy's.

    NumPy takes any place in the numbers that were drawn ahead, and reads there.

    Raises
    ------
    DamagedFileError
        If it is not.
    """
    state = plain_dict(state)
    inner = plain_dict(state.get("state"))
    ok = all(_is_number(part) for part in [*state.values(), *inner.values()] if part is not inner)
    if state.get("bit_generator") == "MT19937":
        key = inner.get("key")
        ok = ok and isinstance(key, np.ndarray) and key.shape == (624,)
        ok = ok and _is_int(inner.get("pos"), 624)
    ok = ok and _is_int(state.get("buffer_pos", 0), 4) and _is_int(state.get("has_uint32", 0), 1)
    if seed is not None:
        seed = plain_dict(seed)
        ok = ok and _is_int(seed.get("pool_size"), SEED_POOL)
        ok = ok and _is_int(seed.get("n_children_spawned"), 2**32)
        ok = ok and all(_are_numbers(seed.get(name)) for name in ("entropy", "spawn_key"))
    if not ok:
        raise DamagedFileError("Its content has a random generator in an impossible state")


def check_python_bits(state: Any) -> None:
    """Refuse what cannot be the state of a generator of Python's.

    Raises
    ------
    DamagedFileError
        If it is not.
    """
    if type(state) is not tuple or len(state) != 3 or not _are_numbers(state[1]):
        raise DamagedFileError("Its content has a random generator in an impossible state")


def _is_int(value: Any, largest: int) -> bool:
    return bool(isinstance(value, (int, np.integer)) and 0 <= value <= largest)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, str, np.ndarray, np.generic))


def _are_numbers(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "iu"
    parts = value if type(value) in (list, tuple) else [value]
    return all(isinstance(part, (int, np.integer, NoneType)) for part in parts)


# ----------------------------------------------------------------------- estimators


def check_estimator(estimator: Any) -> None:
    """Refuse an object that is no whole estimator.

    Raises
    ------
    DamagedFileError
        If parameters are missing, or its model is none.
    """
    cls = type(estimator)
    if not callable(inspect.getattr_static(cls, "get_params", None)):
        raise DamagedFileError("it holds no estimator.")
    try:
        parameters = estimator.get_params(deep=False)
        if cls.__module__.startswith("skorchlike."):
            cls(**parameters)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DamagedFileError(f"its {cls.__name__} is not whole: {error}") from error
    if cls.__module__.startswith("skorchlike."):
        for name in vars(estimator).keys() - parameters.keys():
            if not (name.startswith("_") or name.endswith("_")):
                raise DamagedFileError(f"its {cls.__name__} has no parameter {name!r:.80}.")
        if "model_" in vars(estimator):
            check_model(estimator.model_)


def check_model(model: Any) -> None:
    """Refuse what is no trained model.

    Raises
    ------
    DamagedFileError
        It names the part that is wrong.
    """
    for name, kind in MODEL.items():
        if not isinstance(getattr(model, name, None), kind):
            raise DamagedFileError(f"its model has no {name!r}.")
    checks: dict[str, Callable[[], bool]] = {
        "history_": lambda: all(type(record) is dict for record in model.history_),
        "n_epochs_": lambda: 0 <= model.n_epochs_ < 2**53,
        "place_": lambda: _is_place(getattr(model, "place_", None)),
        "inputs_": lambda: of_library(type(getattr(model, "inputs_", None))),
    }
    for name, check in checks.items():
        if not check():
            raise DamagedFileError(f"its model has a wrong {name!r}.")


def _is_place(place: Any) -> bool:
    dtypes = (getattr(place, "dtype", None), getattr(place, "input_dtype", None))
    return isinstance(getattr(place, "device", None), torch.device) and all(
        isinstance(dtype, (torch.dtype, NoneType)) for dtype in dtypes
    )
