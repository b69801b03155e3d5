"""Tensors, arrays and random generators in a file."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skorchlike.exceptions import DamagedFileError, FormatError
from skorchlike.model.devices import usable_device
from skorchlike.model.guards import attributes_of, check_bits, check_python_bits
from skorchlike.model.tensor_files import DTYPES
from skorchlike.model.trust import name_of

CONSTANTS = (torch.dtype, torch.layout, torch.memory_format)
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
WIDEST = 2**16
"""So many bytes may have an element that holds objects."""


def encoder_of(value: Any) -> Callable[[Any, Any, str], Any] | None:
    """Return what encodes this kind of array, or None if it is none."""
    found = ENCODERS.get(type(value))
    if found is None:
        for kind, encode in BY_KIND:
            if isinstance(value, kind):
                return encode
    return found


# ------------------------------------------------------------------------ tensors


def _encode_tensor(encoder: Any, value: Tensor, where: str) -> Any:
    kind = type(value)
    node: dict[str, Any] = {"$": "tensor"}
    if isinstance(value, (nn.UninitializedParameter, nn.UninitializedBuffer)):
        return _encode_unsized(value)
    if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
        raise FormatError(
            f"{where or 'The value'} is a tensor of layout {value.layout} on {value.device}"
            f"{', quantized' if value.is_quantized else ''}, which cannot be written: make it a "
            "dense one."
        )
    if kind is nn.Parameter:
        node["parameter"] = True
    elif kind is not Tensor:
        node["class"] = name_of(kind)
    if value.requires_grad:
        node["requires_grad"] = True
    if value.device.type != "cpu":
        node["device"] = str(value.device)
    data = value.detach().as_subclass(Tensor).resolve_conj().resolve_neg()
    if not data.is_contiguous() and is_dense(data.shape, data.stride()):
        node["strides"] = list(data.stride())
    data = data.cpu().contiguous()
    if data.dtype not in DTYPES:
        node["dtype"], node["shape"] = str(data.dtype), list(data.shape)
        data = data.reshape(-1).view(torch.uint8)
    node["name"] = encoder.add(data, where)
    attributes = dict(vars(value))
    if attributes:
        node["attributes"] = encoder(attributes, where)
    return node


def _encode_unsized(value: Any) -> Any:
    return {
        "$": "unsized",
        "class": name_of(type(value)),
        "dtype": str(value.dtype),
        "requires_grad": value.requires_grad,
    }


def _decode_unsized(decoder: Any, node: dict[str, Any]) -> Any:
    cls, dtype = decoder.trusted.find(node["class"]), _constant(node["dtype"])
    if cls not in (nn.UninitializedParameter, nn.UninitializedBuffer):
        raise DamagedFileError("Its content has a tensor of the wrong class")
    return cls(requires_grad=bool(node["requires_grad"]), dtype=dtype)


def _decode_tensor(decoder: Any, node: dict[str, Any]) -> Any:
    value = decoder.tensors[node["name"]].detach()
    if "dtype" in node:
        value = value.view(_constant(node["dtype"])).reshape(node["shape"])
    if "strides" in node:
        value = _with_strides(value, node["strides"])
    if "device" in node:
        device = usable_device(node["device"])
        if device.type == "meta":
            raise DamagedFileError("Its content has a tensor without numbers")
        value = value.to(device)
    if node.get("requires_grad"):
        value.requires_grad_()
    if node.get("parameter"):
        value = nn.Parameter(value.detach(), requires_grad=value.requires_grad)
    elif "class" in node:
        cls = decoder.trusted.find(node["class"])
        if not issubclass(cls, Tensor):
            raise DamagedFileError("Its content has a tensor of the wrong class")
        value = value.as_subclass(cls)
    if "attributes" in node:
        vars(value).update(attributes_of(type(value), decoder(node["attributes"])))
    return value


def is_dense(shape: Any, strides: Any) -> bool:
    """Whether strides only put the dimensions into another order, without gaps."""
    if math.prod(shape) == 0:
        return False
    step = 1
    for stride, size in sorted((s, n) for n, s in zip(shape, strides, strict=True) if n != 1):
        if stride != step:
            return False
        step *= size
    return True


def _with_strides(value: Tensor, strides: Any) -> Tensor:
    if len(strides) != value.ndim or not is_dense(value.shape, strides):
        raise DamagedFileError(f"Its content has strides {strides!r:.80} for {value.shape}")
    return torch.empty_strided(value.shape, strides, dtype=value.dtype).copy_(value)


def _constant(name: Any) -> Any:
    """Return a dtype, layout or memory format by its name, such as ``"torch.float32"``."""
    # no getattr, by which torch imports what it has not imported yet
    found = vars(torch).get(str(name).removeprefix("torch."))
    if not isinstance(found, CONSTANTS):
        raise DamagedFileError(f"Its content names {name!r:.80}, which torch does not have")
    return found


# ------------------------------------------------------------------------- arrays


def _encode_array(encoder: Any, value: np.ndarray, where: str) -> Any:
    if type(value) not in (np.ndarray, np.memmap):
        raise FormatError(
            f"{where or 'The value'} is a {type(value).__name__}, of which only plain arrays can "
            "be written: make it one by np.asarray."
        )
    value = np.asarray(value)
    node: dict[str, Any] = {"$": "array", "shape": list(value.shape)}
    if not value.flags.writeable:
        node["read_only"] = True
    if value.flags.f_contiguous and not value.flags.c_contiguous:
        node["order"] = "F"
    if value.dtype.hasobject or not value.dtype.itemsize or value.dtype.kind == "T":
        node["dtype"] = _encode_dtype(encoder, value.dtype, where)
        return {**node, "items": [encoder(part, where) for part in value.ravel().tolist()]}
    node["dtype"] = _described(value.dtype)
    node["name"] = encoder.add(_as_tensor(value), where)
    return node


def _as_tensor(value: np.ndarray) -> Tensor:
    value = np.ascontiguousarray(value)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        if value.dtype.isnative and value.dtype.kind in "biufc":
            try:
                tensor = torch.from_numpy(value)
            except TypeError:
                pass
            else:
                if tensor.dtype in DTYPES:
                    return tensor
        return torch.from_numpy(value.reshape(-1).view(np.uint8))


def _decode_array(decoder: Any, node: dict[str, Any]) -> np.ndarray:
    shape = tuple(map(int, node["shape"]))
    if "items" in node:
        items = decoder(node["items"])
        if not isinstance(items, list) or len(items) != math.prod(shape):
            raise DamagedFileError("Its content has an array of the wrong length")
        dtype = decoder(node["dtype"])
        if not isinstance(dtype, np.dtype) or dtype.itemsize > WIDEST:
            raise DamagedFileError("Its content has an array of an impossible dtype")
        value = np.empty(len(items), dtype=dtype)
        for i, item in enumerate(items):
            value[i] = item
    else:
        dtype = _plain_dtype(node["dtype"])
        data = decoder.tensors[node["name"]].detach().reshape(-1).view(torch.uint8)
        if data.numel() != dtype.itemsize * math.prod(shape):
            raise DamagedFileError("Its content has an array of the wrong length")
        value = data.numpy().view(dtype)
    value = value.reshape(shape)
    value = np.asfortranarray(value) if node.get("order") == "F" else value
    if node.get("read_only"):
        value.flags.writeable = False
    return value


def _described(dtype: np.dtype) -> Any:
    """Return a dtype as strings and lists, as NumPy's own files have it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of metadata, which no file keeps
        return np.lib.format.dtype_to_descr(dtype)


def _plain_dtype(described: Any) -> np.dtype:
    """Return a dtype of numbers, strings or records of them."""
    dtype = np.lib.format.descr_to_dtype(_with_tuples(described))
    if dtype.hasobject or not dtype.itemsize or dtype.kind == "T":
        raise DamagedFileError(f"Its content has an array of the dtype {described!r:.80}")
    return dtype


def _with_tuples(described: Any) -> Any:
    """Return what JSON made of a description with its fields and shapes as tuples again."""
    if not isinstance(described, list):
        return described
    if described and all(isinstance(field, (list, tuple)) for field in described):
        return [tuple(_of_field(part) for part in field) for field in described]
    return tuple(_of_field(part) for part in described)


def _of_field(part: Any) -> Any:
    if isinstance(part, (list, tuple)) and all(isinstance(size, int) for size in part):
        return tuple(part)
    if isinstance(part, (list, tuple)) and all(isinstance(name, str) for name in part):
        return tuple(part)
    return _with_tuples(part)


def _encode_dtype(encoder: Any, dtype: np.dtype, where: str) -> Any:
    if dtype.kind == "T":
        return {"$": "dtype of strings", "missing": encoder(_missing(dtype), where)}
    return {"$": "dtype", "description": _described(dtype)}


def _missing(dtype: Any) -> list[Any]:
    return [dtype.na_object] if hasattr(dtype, "na_object") else []


def _decode_strings(decoder: Any, node: dict[str, Any]) -> Any:
    missing = decoder(node["missing"])
    if missing and not (
        isinstance(missing[0], (str, float, NoneType)) or type(missing[0]).__name__ == "NAType"
    ):
        raise DamagedFileError("Its content has strings with an impossible missing value")
    return np.dtypes.StringDType(na_object=missing[0]) if missing else np.dtypes.StringDType()


def _encode_scalar(encoder: Any, value: np.generic, where: str) -> Any:
    if isinstance(value, (np.str_, np.bytes_)):
        plain = str(value) if isinstance(value, np.str_) else bytes(value)
        return {"$": "text", "value": encoder(plain, where)}
    if value.dtype.hasobject or not value.dtype.itemsize:
        raise FormatError(f"{where or 'The value'} is a NumPy scalar that holds objects.")
    return {"$": "scalar", "dtype": _described(value.dtype), "bytes": value.tobytes().hex()}


def _decode_scalar(decoder: Any, node: dict[str, Any]) -> Any:
    data = bytearray(bytes.fromhex(node["bytes"]))
    return np.frombuffer(data, dtype=_plain_dtype(node["dtype"]), count=1)[0]


def _decode_text(decoder: Any, node: dict[str, Any]) -> Any:
    value = decoder(node["value"])
    if not isinstance(value, (str, bytes)):
        raise DamagedFileError("Its content has a text that is none")
    return np.str_(value) if isinstance(value, str) else np.bytes_(value)


# --------------------------------------------------------------------- generators


def _encode_generator(encoder: Any, value: torch.Generator, where: str) -> Any:
    state = encoder(value.get_state(), where)
    return {"$": "generator", "device": str(value.device), "state": state}


def _decode_generator(decoder: Any, node: dict[str, Any]) -> torch.Generator:
    generator = torch.Generator(torch.device(node["device"]))
    generator.set_state(decoder(node["state"]))
    return generator


def _encode_bits(tag: str) -> Callable[[Any, Any, str], Any]:
    def encode_bits(encoder: Any, value: Any, where: str) -> Any:
        bits = value._bit_generator if tag == "RandomState" else value.bit_generator
        if type(bits).__name__ not in BIT_GENERATORS:
            raise FormatError(f"{where or 'The value'} has a bit generator of another library.")
        seeds = bits.seed_seq if type(bits.seed_seq) is np.random.SeedSequence else None
        names = ("entropy", "spawn_key", "pool_size", "n_children_spawned")
        seed = None if seeds is None else {name: getattr(seeds, name) for name in names}
        state = value.get_state(legacy=False) if tag == "RandomState" else bits.state
        return {"$": tag, "state": encoder(state, where), "seed": encoder(seed, where)}

    return encode_bits


def _decode_bits(decoder: Any, node: dict[str, Any]) -> Any:
    state, seed = decoder(node["state"]), decoder(node["seed"])
    check_bits(state, seed)
    if state["bit_generator"] not in BIT_GENERATORS:
        raise DamagedFileError("Its content has a random generator that NumPy does not have")
    if node["$"] == "RandomState" and seed is None and state["bit_generator"] == "MT19937":
        legacy = np.random.RandomState(0)  # seeded in the old way, it has no sequence of seeds
        legacy.set_state(state)
        return legacy
    sequence = None if seed is None else np.random.SeedSequence(**seed)
    bits = getattr(np.random, state["bit_generator"])(sequence)
    bits.state = state
    if node["$"] == "Generator":
        return np.random.Generator(bits)
    made = np.random.RandomState(bits)
    made.set_state(state)
    return made


def _decode_random(decoder: Any, node: dict[str, Any]) -> random.Random:
    made, state = random.Random(0), decoder(node["state"])
    check_python_bits(state)
    made.setstate(state)
    return made


ENCODERS: dict[type, Callable[[Any, Any, str], Any]] = {
    np.random.Generator: _encode_bits("Generator"),
    np.random.RandomState: _encode_bits("RandomState"),
    random.Random: lambda encoder, value, where: {
        "$": "Random",
        "state": encoder(value.getstate(), where),
    },
    torch.Generator: _encode_generator,
    torch.Size: lambda encoder, value, where: {"$": "Size", "sizes": list(value)},
    torch.device: lambda encoder, value, where: {"$": "device", "name": str(value)},
}

BY_KIND: list[tuple[Any, Callable[[Any, Any, str], Any]]] = [
    (Tensor, _encode_tensor),
    (np.ndarray, _encode_array),
    (np.generic, _encode_scalar),
    (np.dtype, _encode_dtype),
    (CONSTANTS, lambda encoder, value, where: {"$": "constant", "name": str(value)}),
]

DECODERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "Generator": _decode_bits,
    "Random": _decode_random,
    "RandomState": _decode_bits,
    "Size": lambda decoder, node: torch.Size(map(int, node["sizes"])),
    "array": _decode_array,
    "constant": lambda decoder, node: _constant(node["name"]),
    "device": lambda decoder, node: torch.device(node["name"]),
    "dtype": lambda decoder, node: np.lib.format.descr_to_dtype(_with_tuples(node["description"])),
    "dtype of strings": _decode_strings,
    "generator": _decode_generator,
    "scalar": _decode_scalar,
    "tensor": _decode_tensor,
    "text": _decode_text,
    "unsized": _decode_unsized,
}
