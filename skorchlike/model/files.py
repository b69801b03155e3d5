"""One file for a result: tensors as safetensors, the rest as JSON in the header, a checksum."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skorchlike.exceptions import DamagedFileError, FormatError
from skorchlike.model import storage
from skorchlike.model.tensor_files import (
    read_metadata,
    read_tensors,
    size_of_tensors,
    write_tensors,
)

FORMAT = "skorchlike"
VERSION = 1
KINDS = {
    "estimator": "an estimator: read it by skorchlike.load(path)",
    "weights": "weights alone: read them by skorchlike.load_weights(estimator, path)",
    "checkpoint": "a checkpoint: go on with it by fit(X, y, resume=path)",
}
LONG = 2**24
"""JSON of so many characters goes into a tensor of bytes: for headers there is a limit, 10^8."""

LONGEST = 10**8
"""So many bytes may a header of safetensors have."""

AT_ONCE = 2**24
"""So many bytes are handed to the system in one call: one of gigabytes takes longer."""

CONTENT = "skorchlike.content"
_ZEROS = b"0" * 64


def pack(plain: Any, tensors: dict[str, Tensor], kind: str) -> bytes:
    """Return the bytes of a file: `packed` in one piece.

    Examples
    --------
    >>> import torch
    >>> data = pack({"epoch": 3}, {"weight": torch.zeros(2)}, "checkpoint")
    >>> unpack(data, "checkpoint")
    ({'epoch': 3}, {'weight': tensor([0., 0.])})
    """
    return b"".join(packed(plain, tensors, kind))


def packed(plain: Any, tensors: dict[str, Tensor], kind: str) -> list[Any]:
    """Return a file in pieces, so that it is not copied once more.

    Parameters
    ----------
    plain : object
        What JSON can hold.
    tensors : dict of str to Tensor
        Name → tensor on the CPU, contiguous. The same tensor under several names is
        written once; in a file of weights under every name, for other readers.
    kind : {"estimator", "weights", "checkpoint"}
        What it is.

    Returns
    -------
    list of bytes and memoryview
        A safetensors file: what is before the checksum, the checksum, what is behind it.
    """
    written, aliases = _written_once(tensors, kind)
    try:
        content = json.dumps({"plain": plain, "aliases": aliases}, allow_nan=False)
    except RecursionError:
        raise FormatError("The content is nested too deeply to be written.") from None
    if len(content) > LONG:
        written[CONTENT] = torch.frombuffer(bytearray(content.encode()), dtype=torch.uint8)
        content = ""
    metadata = {
        "format": FORMAT,
        "kind": kind,
        "version": str(VERSION),
        "skorchlike": sys.modules["skorchlike"].__version__,
        "torch": torch.__version__,
        "content": content,
        "sha256": _ZEROS.decode(),
    }
    data = write_tensors(written, metadata)
    checksum = hashlib.sha256(data).hexdigest().encode()
    place = _place_of_checksum(data, metadata["sha256"])
    return [memoryview(data)[:place], checksum, memoryview(data)[place + 64 :]]


def checksum_of(data: bytes) -> str:
    """Return the checksum that a file carries; whether it holds `unpack` tells."""
    return read_metadata(data).get("sha256", "")


def _written_once(
    tensors: dict[str, Tensor], kind: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors to be written, and for every further name of one its first."""
    first: dict[Any, str] = {}
    written, aliases = {}, {}
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tensor.dtype, tensor.shape)
        if tensor.numel() and key in first and kind != "weights":
            aliases[name] = first[key]
            continue
        first.setdefault(key, name)
        written[name] = tensor
    return written, aliases


def _place_of_checksum(data: bytes, checksum: str) -> int:
    """Return where the checksum stands in the header."""
    end = 8 + int.from_bytes(data[:8], "little")
    place = data.find(f'"sha256":"{checksum}"'.encode(errors="replace"), 8, end)
    if place < 0:
        raise DamagedFileError("its header has no checksum")
    return place + len(b'"sha256":"')


def unpack(data: bytes | str | os.PathLike[str], kind: str) -> tuple[Any, dict[str, Tensor]]:
    """Read a file that `pack` made; nothing in it is run.

    Parameters
    ----------
    data : bytes or path
        The file.
    kind : str
        What it must be.

    Returns
    -------
    plain : object
        What was given to `pack`.
    tensors : dict of str to Tensor
        On the CPU; the same tensor under several names if it was written so.

    Raises
    ------
    DamagedFileError
        If it is no file of this package, cut off, or not what was written.
    FormatError
        If it is of another kind or version.
    OSError
        If it cannot be read.
    """
    where, data = _read(data)
    try:
        metadata = read_metadata(data)
        _check_version(metadata, kind)
        return _checked_content(data, metadata)
    except DamagedFileError as error:
        raise _damaged(where, error) from error.__cause__
    except FormatError as error:
        raise FormatError(f"{where} {error}") from None


def _read(data: bytes | str | os.PathLike[str]) -> tuple[str, bytes]:
    if isinstance(data, bytes):
        return "The file", data
    path = Path(data)
    return str(path), read_whole(path)


def read_whole(path: Path) -> bytes:
    """Return the content of a safetensors file: all of it, once its header fits its size.

    A file of nothing, or a hole of a terabyte, is not read into memory.

    Raises
    ------
    DamagedFileError
        If it is no such file.
    OSError
        If it cannot be read.
    """
    if path.is_file():  # what is read from a pipe is gone
        size = path.stat().st_size
        length = int.from_bytes(storage.read(path, 8), "little")
        try:
            if size < 8 or length > min(size - 8, LONGEST):
                raise DamagedFileError("it is cut off, or no safetensors file")
            if size != 8 + length + size_of_tensors(storage.read(path, 8 + length)):
                raise DamagedFileError("its size is not that of its tensors")
        except DamagedFileError as error:
            raise _damaged(str(path), error) from error.__cause__
    return storage.read(path)


def _damaged(where: str, error: DamagedFileError) -> DamagedFileError:
    return DamagedFileError(
        f"{where} cannot be read: {error}. It is damaged, or no file that skorchlike has written. "
        "Take a copy of it."
    )


def _check_version(metadata: dict[str, str], kind: str) -> None:
    if metadata.get("format") != FORMAT:
        raise DamagedFileError("it was not written by skorchlike")
    found, version = metadata.get("kind", ""), metadata.get("version", "")
    if not (version.isascii() and version.isdigit() and len(version) < 9):
        raise DamagedFileError("its header has no version of the format")
    by = f"skorchlike {metadata.get('skorchlike', '')}"
    if int(version) > VERSION:
        raise FormatError(
            f"was written by a newer skorchlike ({by}, format {int(version)}); this one reads up "
            f"to {VERSION}: upgrade skorchlike."
        )
    if int(version) < VERSION:
        raise FormatError(
            f"was written by an older skorchlike ({by}, format {int(version)}), which this one "
            f"reads no more: it reads format {VERSION}. Read it with the version that wrote it, "
            "and save it with one between the two, or train anew."
        )
    if found not in KINDS:
        raise DamagedFileError(f"it is of the unknown kind {found[:40]!r}")
    if found != kind:
        raise FormatError(f"is no {kind} file. It holds {KINDS[found]}.")


def _checked_content(data: bytes, metadata: dict[str, str]) -> tuple[Any, dict[str, Tensor]]:
    place = _place_of_checksum(data, metadata.get("sha256", ""))
    checksum = hashlib.sha256(memoryview(data)[:place])
    checksum.update(_ZEROS)
    checksum.update(memoryview(data)[place + 64 :])
    if checksum.hexdigest() != metadata["sha256"]:
        raise DamagedFileError("its checksum is wrong")
    tensors = read_tensors(data)
    text = metadata.get("content", "")
    try:
        if CONTENT in tensors and not text:
            text = tensors.pop(CONTENT).numpy().tobytes().decode()
        content = json.loads(text, parse_constant=_refuse_constant)
        for name, first in content["aliases"].items():
            tensors[name] = tensors[first]
        return content["plain"], tensors
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedFileError("its content is no JSON, or not as it should be") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def write_atomically(path: str | os.PathLike[str], data: bytes | list[Any]) -> None:
    """Write a file so that it is there complete, or not at all.

    It is written beside its place under another name, synced to the disk and renamed; then
    the folder is synced. A link is followed.

    Parameters
    ----------
    path : path
        The file; one that exists is replaced.
    data : bytes, or list of bytes and memoryview
        Its content, in one piece or several.

    Raises
    ------
    OSError
        If any of it fails; a note names the file. What was there before is there still,
        unless only the sync of the folder failed: then the new file is there, and only a
        crash of the machine may bring back the old one.
    """
    pieces = data if isinstance(data, list) else [data]
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        descriptor = storage.create(beside)
        try:
            try:
                for piece in pieces:
                    _write_all(descriptor, piece)
                storage.sync(descriptor)
            finally:
                storage.close(descriptor)
            storage.rename(beside, target)
        except BaseException as error:
            _clean_up(beside, error)
            raise
        storage.sync_folder(target.parent)
    except OSError as error:
        size = f"{math.ceil(sum(map(len, pieces)) / 2**20)} MiB"
        error.add_note(f"Raised while writing {target} ({size}).")
        raise


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        taken = storage.write(descriptor, left[:AT_ONCE])
        if taken <= 0:
            raise OSError(f"The disk took {taken} of {len(left)} bytes")
        left = left[taken:]


def _clean_up(beside: Path, error: BaseException) -> None:
    try:
        storage.remove(beside)
    except FileNotFoundError:
        pass
    except OSError as failed:
        error.add_note(f"The unfinished file {beside} could not be removed: {failed}")
