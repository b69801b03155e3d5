"""Values as JSON and tensors, and back, to the bit, without pickle.

JSON's own kinds stand for themselves; everything else is a JSON object whose ``"$"`` says what
it is. What is an object of its own (a list, a tensor, a module) and stands at several places is
written once and is one object again when it is read.
"""

from __future__ import annotations

import base64
import struct
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from types import FunctionType, NoneType
from typing import Any

from torch import Tensor

from skorchlike.exceptions import DamagedFileError, FormatError
from skorchlike.model import arrays, objects, sparse, tables, values
from skorchlike.model.guards import check_shared, plain_list
from skorchlike.model.objects import below
from skorchlike.model.trust import Trusted, dotted

TAG = "$"
LONG_INT = 2**4000
"""Python refuses to read or write decimal numbers much longer than this."""

DEEPEST = 150
"""So deep may be nested what is written: what reads it must not run into Python's limit."""

NAMING = ("class", "name_of")
"""Where a node has an import path."""

CONTAINERS = frozenset(
    [
        "Generator",
        "Random",
        "RandomState",
        "array",
        "bytearray",
        "defaultdict",
        "deque",
        "dict",
        "frame",
        "generator",
        "index",
        "list",
        "module",
        "object",
        "ordered",
        "partial",
        "series",
        "set",
        "sparse tensor",
        "tensor",
        "unsized",
    ]
)
"""Kinds that are objects of their own: one at several places stays one."""

WRONG = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


def encode(value: Any, where: str = "") -> tuple[Any, dict[str, Tensor]]:
    """Return a value as what JSON can hold, and its tensors.

    Parameters
    ----------
    value : object
        Numbers, strings, containers, arrays, tensors, modules, classes and functions that
        can be imported, objects whose state is a dict, and any nesting of these.
    where : str
        What stands before the names of the tensors, and before places in errors.

    Returns
    -------
    plain : object
        What ``json.dumps(plain, allow_nan=False)`` takes.
    tensors : dict of str to Tensor
        Name → contiguous tensor on the CPU.

    Raises
    ------
    FormatError
        If something cannot be written; it names the place and what to do.

    Examples
    --------
    >>> import torch
    >>> encode({"epoch": 3, "loss": float("inf")}, "")[0]["loss"]
    {'$': 'float', 'bytes': '7ff0000000000000'}
    >>> list(encode({"layers": [torch.nn.Linear(2, 1)]}, "module")[1])
    ['module.layers.0.weight', 'module.layers.0.bias']
    """
    encoder = Encoder()
    return encoder.finish(encoder(value, where)), encoder.tensors


def decode(plain: Any, tensors: dict[str, Tensor], trusted: Trusted) -> Any:
    """Return what `encode` was given.

    Parameters
    ----------
    plain : object
        What `encode` returned, or what JSON made of it.
    tensors : dict of str to Tensor
        Its tensors; the value holds these, no copies.
    trusted : Trusted
        What may be named.

    Raises
    ------
    UntrustedError
        If it names something else; then nothing has been imported or made.
    DamagedFileError
        If it is not what `encode` can have returned.
    FormatError
        If it names something that does not exist any more.

    Examples
    --------
    >>> decode(*encode({1: (2.5, {"a"})}), Trusted())
    {1: (2.5, {'a'})}
    """
    trusted.check(parts_of(plain, *NAMING))
    check_shared(plain)
    try:
        return Decoder(tensors, trusted)(plain)
    except FormatError:
        raise
    except WRONG as error:
        raise DamagedFileError(f"Its content is not as it should be: {error!r}") from error


def check_names(plain: Any, trusted: Trusted) -> None:
    """Refuse what was encoded and could not be decoded, since it names what is not trusted.

    Parameters
    ----------
    plain : object
        What `encode` returned.
    trusted : Trusted
        What may be named when it is read.

    Raises
    ------
    FormatError
        If something else is named; it names the first such place and what is named there.
    """
    names = set(parts_of(plain, *NAMING))
    refused = {name for name in names if not _is_found(name, trusted)}
    if refused:
        where, name = next(_places_of(refused, plain))
        raise FormatError(
            f"{where or 'The value'} names {dotted(name)!r}, and so it could be written but not "
            "read again: a file may name what is of skorchlike, of torch's modules, or of a "
            "package that a component or callback of the fit is from. Let state_dict() return "
            "numbers, strings, arrays, tensors, dicts and lists of them, or such objects."
        )


def _places_of(names: set[str], plain: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield where an encoded value has these names, and which."""
    if isinstance(plain, list):
        for i, part in enumerate(plain):
            yield from _places_of(names, part, below(where, i))
    elif isinstance(plain, dict):
        tagged = TAG in plain
        if tagged:
            yield from ((where, plain[key]) for key in NAMING if plain.get(key) in names)
        for key, part in plain.items():
            yield from _places_of(names, part, where if tagged else below(where, key))


def _is_found(name: str, trusted: Trusted) -> bool:
    try:
        trusted.find(name)
    except FormatError:
        return False
    return True


def parts_of(plain: Any, *parts: str) -> Iterator[str]:
    """Yield what the nodes of an encoded value have under these keys: import paths, names."""
    todo = [plain]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            if TAG in node:
                yield from (str(node[part]) for part in parts if part in node)
            todo.extend(node.values())
        elif isinstance(node, list):
            todo.extend(node)


class Encoder:
    """One value on its way into a file.

    Parameters
    ----------
    renamed : dict
        Tensors whose place begins with a key are called by the value instead. The first
        that fits counts; the key ``""`` fits all.

    Attributes
    ----------
    tensors : dict of str to Tensor
        What has been met so far.
    """

    def __init__(self, renamed: dict[str, str] | None = None) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.renamed = renamed or {}
        self._nodes: dict[int, Any] = {}
        self._kept: list[Any] = []  # as long as they live, their ids are theirs
        self._under_way: set[int] = set()
        self._shared: dict[int, int] = {}

    def __call__(self, value: Any, where: str) -> Any:
        """Return a value as a node."""
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind is int:
            return value if -LONG_INT < value < LONG_INT else {TAG: "int", "hex": hex(value)}
        if kind is float:
            exact = value - value == 0
            return value if exact else {TAG: "float", "bytes": struct.pack(">d", value).hex()}
        if id(value) in self._nodes:
            return self._again(value)
        if id(value) in self._under_way:
            raise FormatError(f"{where or 'The value'} contains itself, which no file can hold.")
        if len(self._under_way) == DEEPEST:
            raise FormatError(f"{where} is nested too deeply: {DEEPEST} levels can be written.")
        self._under_way.add(id(value))
        try:
            node = self._encoder_of(value)(self, value, where)
        finally:
            self._under_way.discard(id(value))
        if id(value) not in self._nodes and is_container(node):
            self.remember(value, node)
        return node

    @staticmethod
    def _encoder_of(value: Any) -> Callable[[Encoder, Any, str], Any]:
        kind = type(value)
        found = ENCODERS.get(kind) or values.ENCODERS.get(kind) or tables.encoder_of(value)
        found = found or sparse.encoder_of(value) or arrays.encoder_of(value)
        return found or objects.encoder_of(value)

    def remember(self, value: Any, node: Any) -> None:
        """Note which node stands for an object, before what is in it may point back to it."""
        self._nodes[id(value)] = node
        self._kept += [value, node]

    def _again(self, value: Any) -> Any:
        node = self._nodes[id(value)]
        return {TAG: "again", "id": self._shared.setdefault(id(node), len(self._shared))}

    def finish(self, node: Any) -> Any:
        """Return the whole with an id at what stands at several places."""
        if not self._shared:
            return node
        number = self._shared.get(id(node))
        whole = node
        if isinstance(node, dict):
            whole = {key: self.finish(part) for key, part in node.items()}
        elif isinstance(node, list):
            whole = [self.finish(part) for part in node]
        return whole if number is None else {TAG: "shared", "id": number, "value": whole}

    def add(self, tensor: Tensor, where: str) -> str:
        """Keep a tensor, and return its name."""
        for start, instead in self.renamed.items():
            if not start or where.startswith(f"{start}."):
                where = below(instead, where[len(start) :].lstrip("."))
                break
        name = where or "value"
        while name in self.tensors or name == "__metadata__":
            name += "_"
        self.tensors[name] = tensor
        return name


class Decoder:
    """A value on its way out of a file.

    Parameters
    ----------
    tensors : dict of str to Tensor
        By their names.
    trusted : Trusted
        What may be named.
    """

    def __init__(self, tensors: dict[str, Tensor], trusted: Trusted) -> None:
        self.tensors, self.trusted = tensors, trusted
        self._shared: dict[int, Any] = {}

    def __call__(self, node: Any, made: Callable[[Any], None] | None = None) -> Any:
        """Return the value of a node; `made` is told of an object before its state is read."""
        if isinstance(node, list):
            return [self(part) for part in node]
        if not isinstance(node, dict):
            return node
        if TAG not in node:
            return {key: self(part) for key, part in node.items()}
        tag = node[TAG]
        if tag in objects.MAKERS:
            return objects.MAKERS[tag](self, node, made)
        if tag not in DECODERS:
            raise DamagedFileError(f"Its content has something of the unknown kind {tag!r:.80}")
        return DECODERS[tag](self, node)

    def shared(self, node: dict[str, Any]) -> Any:
        """Return what stands at several places, the first time."""
        number = int(node["id"])
        if not is_container(node["value"]) or number in self._shared:
            raise DamagedFileError("Its content has a plain value at several places")
        value = self(node["value"], lambda made: self._shared.__setitem__(number, made))
        self._shared[number] = value
        return value

    def again(self, node: dict[str, Any]) -> Any:
        """Return what stands at several places, the further times."""
        return self._shared[int(node["id"])]


# --------------------------------------------------------------------- containers


def is_container(node: Any) -> bool:
    """Whether a node is of an object of its own."""
    return isinstance(node, list) or (
        isinstance(node, dict) and node.get(TAG, "dict") in CONTAINERS
    )


def _encode_dict(encoder: Encoder, value: dict[Any, Any], where: str) -> Any:
    if all(type(key) is str and key[:1] != TAG for key in value):
        return {key: encoder(part, below(where, key)) for key, part in value.items()}
    return {TAG: "dict", "items": encode_items(encoder, value, where)}


def encode_items(encoder: Encoder, value: dict[Any, Any], where: str) -> list[Any]:
    """Return the entries of a dict whose keys may be anything."""
    items: list[Any] = []
    for key, part in value.items():
        name = key if type(key) in (str, int) else f"{type(key).__name__}-{len(items)}"
        place = below(where, name)
        items.append([encoder(key, place), encoder(part, place)])
    return items


def _encode_sequence(tag: str) -> Callable[[Encoder, Any, str], Any]:
    def encode_sequence(encoder: Encoder, value: Any, where: str) -> Any:
        items = [encoder(part, below(where, i)) for i, part in enumerate(value)]
        return items if tag == "list" else {TAG: tag, "items": items}

    return encode_sequence


def _encode_bytes(tag: str) -> Callable[[Encoder, Any, str], Any]:
    return lambda encoder, value, where: {
        TAG: tag,
        "base64": base64.b64encode(value).decode("ascii"),
    }


def _encode_parts(tag: str, *names: str) -> Callable[[Encoder, Any, str], Any]:
    def encode_parts(encoder: Encoder, value: Any, where: str) -> Any:
        return {
            TAG: tag,
            "items": [encoder(getattr(value, name), below(where, name)) for name in names],
        }

    return encode_parts


def _encode_defaultdict(encoder: Encoder, value: Any, where: str) -> Any:
    factory = encoder(value.default_factory, below(where, "default_factory"))
    return {TAG: "defaultdict", "factory": factory, "items": encode_items(encoder, value, where)}


def _decode_defaultdict(decoder: Decoder, node: dict[str, Any]) -> Any:
    factory = decoder(node["factory"])
    if not isinstance(factory, (type, FunctionType, NoneType)):
        raise DamagedFileError("Its content has a defaultdict that would call something else")
    return defaultdict(factory, decode_items(decoder, node["items"]))


def items_of(decoder: Decoder, node: dict[str, Any]) -> list[Any]:
    """Return the parts of a node: as many as are written there, no others."""
    return [decoder(part) for part in plain_list(node["items"])]


def decode_items(decoder: Decoder, items: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the entries of a dict whose keys may be anything."""
    for key, part in items:
        yield decoder(key), decoder(part)


def _decode_range(decoder: Decoder, node: dict[str, Any]) -> range:
    return range(*map(int, items_of(decoder, node)))


def _integer(decoder: Decoder, node: dict[str, Any]) -> int:
    return int(str(node["hex"]), 16)


ENCODERS: dict[type, Callable[[Encoder, Any, str], Any]] = {
    bytearray: _encode_bytes("bytearray"),
    bytes: _encode_bytes("bytes"),
    complex: _encode_parts("complex", "real", "imag"),
    defaultdict: _encode_defaultdict,
    deque: lambda encoder, value, where: {
        TAG: "deque",
        "items": [encoder(part, below(where, i)) for i, part in enumerate(value)],
        "maxlen": value.maxlen,
    },
    dict: _encode_dict,
    frozenset: _encode_sequence("frozenset"),
    list: _encode_sequence("list"),
    OrderedDict: lambda encoder, value, where: {
        TAG: "ordered",
        "items": encode_items(encoder, value, where),
    },
    range: _encode_parts("range", "start", "stop", "step"),
    set: _encode_sequence("set"),
    slice: _encode_parts("slice", "start", "stop", "step"),
    tuple: _encode_sequence("tuple"),
    type(Ellipsis): lambda encoder, value, where: {TAG: "ellipsis"},
    type(NotImplemented): lambda encoder, value, where: {TAG: "not implemented"},
}

DECODERS: dict[str, Callable[[Decoder, dict[str, Any]], Any]] = {
    "again": Decoder.again,
    "bytearray": lambda decoder, node: bytearray(base64.b64decode(node["base64"], validate=True)),
    "bytes": lambda decoder, node: base64.b64decode(node["base64"], validate=True),
    "complex": lambda decoder, node: complex(*items_of(decoder, node)),
    "defaultdict": _decode_defaultdict,
    "deque": lambda decoder, node: deque(items_of(decoder, node), decoder(node["maxlen"])),
    "dict": lambda decoder, node: dict(decode_items(decoder, node["items"])),
    "ellipsis": lambda decoder, node: ...,
    "float": lambda decoder, node: struct.unpack(">d", bytes.fromhex(node["bytes"]))[0],
    "frozenset": lambda decoder, node: frozenset(items_of(decoder, node)),
    "int": _integer,
    "not implemented": lambda decoder, node: NotImplemented,
    "ordered": lambda decoder, node: OrderedDict(decode_items(decoder, node["items"])),
    "range": _decode_range,
    "set": lambda decoder, node: set(items_of(decoder, node)),
    "shared": Decoder.shared,
    "slice": lambda decoder, node: slice(*items_of(decoder, node)),
    "tuple": lambda decoder, node: tuple(items_of(decoder, node)),
    **arrays.DECODERS,
    **sparse.DECODERS,
    **values.DECODERS,
    **tables.DECODERS,
}
