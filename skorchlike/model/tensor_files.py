"""The safetensors format: named tensors behind a header of JSON, and nothing that can run."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from skorchlike.exceptions import DamagedFileError, import_extra

DTYPES = frozenset(
    [
        torch.bfloat16,
        torch.bool,
        torch.complex64,
        torch.float16,
        torch.float32,
        torch.float64,
        torch.float8_e4m3fn,
        torch.float8_e4m3fnuz,
        torch.float8_e5m2,
        torch.float8_e5m2fnuz,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.int8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.uint8,
    ]
)
"""What the format holds."""

METADATA = "__metadata__"


def safetensors() -> Any:
    """Return the library that reads and writes the format.

    Raises
    ------
    ImportError
        If it is not installed; it names the extra.
    """
    return import_extra("safetensors.torch", "safetensors", "A checkpoint or a saved model")


def write_tensors(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Return the bytes of a file.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Contiguous, on the CPU, of dtypes in `DTYPES`.
    metadata : dict of str to str
        Goes into the header.
    """
    # what shares memory is written twice: the library refuses it
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.detach().clone() if memory in seen else tensor.detach()
        seen.add(memory)
    return safetensors().save(apart, metadata)


def read_metadata(data: bytes) -> dict[str, str]:
    """Return the metadata in the header, which the library gives for files alone.

    Raises
    ------
    DamagedFileError
        If there is no such header.
    """
    metadata = _header(data).get(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise DamagedFileError("its header is not that of a safetensors file")
    return metadata


def size_of_tensors(data: bytes) -> int:
    """Return how many bytes of tensors follow a header, by what it says.

    Raises
    ------
    DamagedFileError
        If there is no such header.
    """
    places = [entry for name, entry in _header(data).items() if name != METADATA]
    try:
        return max((int(entry["data_offsets"][1]) for entry in places), default=0)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise DamagedFileError("its header is not that of a safetensors file") from error


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        raise DamagedFileError("it is cut off, or no safetensors file")
    try:
        header = json.loads(data[8 : 8 + length].decode())
    except (ValueError, RecursionError) as error:
        raise DamagedFileError("its header is no JSON") from error
    if not isinstance(header, dict):
        raise DamagedFileError("its header is not that of a safetensors file")
    return header


def read_tensors(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a file, on the CPU, in memory of their own.

    Raises
    ------
    DamagedFileError
        If it is no such file. Nothing is allocated but for bytes that are there.
    """
    library = safetensors()
    from safetensors import SafetensorError

    try:
        return library.load(bytes(data))
    except (SafetensorError, KeyError, RuntimeError, ValueError, OverflowError) as error:
        raise DamagedFileError(f"its tensors are not what the format says ({error})") from error
