"""Classes, functions, objects and modules in a file, by import path and state."""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from skorchlike.exceptions import DamagedFileError, FormatError
from skorchlike.model.guards import (
    attributes_of,
    check_module_state,
    of_library,
    plain_dict,
    plain_list,
    replaced,
)
from skorchlike.model.trust import name_of

Made = Callable[[Any], None] | None

INSTEAD = (
    "Leave it out, use something with a name that can be imported, or keep the whole by pickle, "
    "joblib or cloudpickle."
)

SLOTS_OF_MODULE = ("_parameters", "_buffers", "_modules")


def encoder_of(value: Any) -> Callable[[Any, Any, str], Any]:
    """Return what encodes an object."""
    for kind, encode in BY_KIND:
        if isinstance(value, kind):
            return encode
    return _encode_object


def below(where: str, key: Any) -> str:
    """Return the place of a part."""
    return f"{where}.{key}" if where else str(key)


def _named(thing: Any, where: str) -> str:
    """Return an import path; an error says at which place it was needed."""
    try:
        return name_of(thing)
    except FormatError as error:
        raise FormatError(f"{where or 'The value'}: {error}") from None


# ----------------------------------------------------------- classes and functions


def _encode_name(encoder: Any, value: Any, where: str) -> Any:
    return {"$": "name", "name_of": _named(value, where)}


def _encode_partial(encoder: Any, value: functools.partial[Any], where: str) -> Any:
    if type(value) is not functools.partial:
        return _encode_object(encoder, value, where)
    parts = (value.func, value.args, value.keywords)
    return {"$": "partial", "items": [encoder(part, where) for part in parts]}


def _decode_partial(decoder: Any, node: dict[str, Any], made: Made) -> Any:
    function, args, keywords = decoder(plain_list(node["items"]))
    if type(args) is not tuple:
        raise DamagedFileError("Its content has a partial function without arguments")
    return functools.partial(function, *args, **plain_dict(keywords))


def _encode_method(encoder: Any, value: types.MethodType, where: str) -> Any:
    name = value.__func__.__name__
    if getattr(type(value.__self__), name, None) is not value.__func__:
        raise FormatError(f"{where or 'The value'} is the method {value!r}: {INSTEAD}")
    return {"$": "method", "name": name, "of": encoder(value.__self__, where)}


def _decode_method(decoder: Any, node: dict[str, Any], made: Made) -> Any:
    owner, name = decoder(node["of"]), str(node["name"])
    function = getattr(type(owner), name, None)
    if not isinstance(owner, nn.Module) or not isinstance(function, types.FunctionType):
        raise DamagedFileError(f"Its content has a method {name!r:.80} that does not exist")
    return types.MethodType(function, owner)


def _encode_enum(encoder: Any, value: enum.Enum, where: str) -> Any:
    return {
        "$": "enum",
        "class": _named(type(value), where),
        "value": encoder(value.value, where),
    }


def _decode_enum(decoder: Any, node: dict[str, Any], made: Made) -> Any:
    return _class(decoder, node, enum.Enum)(decoder(node["value"]))


# ------------------------------------------------------------------------- objects


def _encode_object(encoder: Any, value: Any, where: str) -> Any:
    cls = type(value)
    node: dict[str, Any] = {"$": "object"}
    base = next((kind for kind in (dict, list, tuple) if isinstance(value, kind)), None)
    if base is tuple and not hasattr(cls, "_fields"):
        raise FormatError(f"{where or 'The value'} is a tuple of the class {cls}: {INSTEAD}")
    plain = cls.__reduce__ is object.__reduce__ and cls.__reduce_ex__ is object.__reduce_ex__
    if base is None and not (plain and _can_be_made(cls)):
        what = f"{cls.__module__}.{cls.__qualname__}"
        raise FormatError(
            f"{where or 'The value'} is a {what}, which cannot be written: its state is no dict. "
            f"{INSTEAD}"
        )
    node["class"] = _named(cls, where)
    encoder.remember(value, node)
    if base is dict:
        pairs = [(key, dict.__getitem__(value, key)) for key in dict.__iter__(value)]
        node["items"] = [[encoder(k, where), encoder(v, below(where, k))] for k, v in pairs]
    elif base is not None:
        parts = enumerate(base.__iter__(value))
        node["items"] = [encoder(part, below(where, i)) for i, part in parts]
    if base is None:
        state = value.__getstate__()
    else:
        state = dict(getattr(value, "__dict__", {})) or None
    if state is not None:
        _check_methods(cls, state, where)
        node["state"] = encoder(state, where)
    return node


def _check_methods(cls: type, state: Any, where: str) -> None:
    """Refuse to write what would be refused when it is read."""
    for name in replaced(cls, state) if isinstance(state, dict) else ():
        raise FormatError(
            f"{below(where, name)} stands in the place of a method of {cls.__name__}, which "
            "cannot be written. Define a subclass with that method."
        )


def _can_be_made(cls: type) -> bool:
    """Whether an empty instance can be made without a call of anything in the class."""
    try:
        object.__new__(cls)
    except TypeError:
        return False
    return True


def _class(decoder: Any, node: dict[str, Any], kind: type) -> Any:
    cls = decoder.trusted.find(node["class"])
    if not isinstance(cls, type) or not issubclass(cls, kind):
        raise DamagedFileError(f"Its content has a {kind.__name__} of the wrong class {cls!r:.80}")
    return cls


def _decode_object(decoder: Any, node: dict[str, Any], made: Made) -> Any:
    cls = _class(decoder, node, object)
    if issubclass(cls, (torch.optim.Optimizer, nn.Module)):
        raise DamagedFileError(f"Its content has a {cls.__name__} of the wrong kind")
    if issubclass(cls, tuple):
        value = tuple.__new__(cls, decoder(plain_list(node["items"])))
    elif issubclass(cls, (dict, list)):
        base = dict if issubclass(cls, dict) else list
        value = base.__new__(cls)
        base.__init__(value)
    else:
        value = object.__new__(cls)
    if made is not None:
        made(value)
    if issubclass(cls, dict):
        for key, part in node["items"]:
            dict.__setitem__(value, decoder(key), decoder(part))
    elif issubclass(cls, list):
        list.extend(value, decoder(plain_list(node["items"])))
    if "state" in node:
        _set_state(value, decoder(node["state"]))
    return value


def _set_state(value: Any, state: Any) -> None:
    cls = type(value)
    own = hasattr(cls, "__setstate__") and not isinstance(value, dict)
    if own and (type(state) is tuple or not of_library(cls)):
        value.__setstate__(state)
        return
    attributes, slots = state if type(state) is tuple else (state, None)
    if attributes is not None:
        attributes = attributes_of(cls, attributes)
        value.__setstate__(attributes) if own else vars(value).update(attributes)
    for name, part in ({} if slots is None else plain_dict(slots)).items():
        if name.startswith("__"):
            raise DamagedFileError(f"Its content sets the attribute {name!r:.80}")
        object.__setattr__(value, name, part)


# ------------------------------------------------------------------------- modules


def _encode_module(encoder: Any, value: nn.Module, where: str) -> Any:
    cls = type(value)
    node: dict[str, Any] = {"$": "module", "class": _named(cls, where)}
    encoder.remember(value, node)
    state = value.__getstate__()
    if not isinstance(state, dict) or not all(name in state for name in SLOTS_OF_MODULE):
        node["state"] = encoder(state, where)
        return node
    _check_methods(cls, state, where)
    for name in SLOTS_OF_MODULE:
        node[name] = encoder(dict(state[name]), where)
    # what every module has, as it has it from the start, says nothing
    empty = vars(nn.Module())
    rest = {
        name: part
        for name, part in state.items()
        if name not in SLOTS_OF_MODULE and not _is_default(name, part, empty)
    }
    node["state"] = encoder(rest, where)
    return node


def _is_default(name: str, part: Any, empty: dict[str, Any]) -> bool:
    return name in empty and type(part) is type(empty[name]) and part == empty[name]


def _decode_module(decoder: Any, node: dict[str, Any], made: Made) -> Any:
    value = object.__new__(_class(decoder, node, nn.Module))
    if made is not None:
        made(value)
    if "_parameters" not in node:
        if of_library(type(value)):
            raise DamagedFileError(f"Its content has a {type(value).__name__} without parts")
        _set_state(value, decoder(node["state"]))
        return value
    state = vars(nn.Module())
    # a child may point back to its parent, so the containers are there before they are filled
    for name in SLOTS_OF_MODULE:
        state[name] = decoder(node[name])
    rest = attributes_of(type(value), decoder(node["state"]))
    if any(name in rest for name in SLOTS_OF_MODULE):
        raise DamagedFileError("Its content has the parts of a module twice")
    state.update(rest)
    check_module_state(type(value), state)
    value.__setstate__(state)
    return value


BY_KIND: list[tuple[Any, Callable[[Any, Any, str], Any]]] = [
    (nn.Module, _encode_module),
    (enum.Enum, _encode_enum),
    (functools.partial, _encode_partial),
    (types.MethodType, _encode_method),
    ((type, types.FunctionType, types.BuiltinFunctionType), _encode_name),
]

MAKERS: dict[str, Callable[[Any, dict[str, Any], Made], Any]] = {
    "enum": _decode_enum,
    "method": _decode_method,
    "module": _decode_module,
    "name": lambda decoder, node, made: decoder.trusted.find(node["name_of"]),
    "object": _decode_object,
    "partial": _decode_partial,
}
