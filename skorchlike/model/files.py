"""One file for a result: tensors as safetensors, the rest as JSON in the header, a checksum."""

from __future__ import annotations

import errno
import hashlib
import json
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
    METADATA,
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
    "checkpoint": "a checkpoint: go on with it by fit(X, y, resume=path), or put its weights into "
    "a fitted estimator by skorchlike.load_weights(estimator, path)",
}
LONG = 2**24
"""JSON of so many characters goes into a tensor of bytes: for headers there is a limit, 10^8."""

LONGEST = 10**8
"""So many bytes may a header of safetensors have."""

AT_ONCE = 2**24
"""So many bytes are handed to the system in one call: one of gigabytes takes longer."""

START = 512
"""So many bytes tell what a file is that is not ours."""

ZIP = b"PK\x03\x04"
OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""A pickle of the number with which torch.save began before it wrote archives."""

PROTOCOLS = frozenset([b"\x02", b"\x03", b"\x04", b"\x05"])
IS_FOLDER = (
    "It is a folder: name a file in it (of a Checkpoint's: "
    "net.model_.callbacks_.checkpoint['last'] or ['best_file'])"
)

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
        _check_version(data, metadata, kind)
        return _checked_content(data, metadata)
    except DamagedFileError as error:
        raise damaged(where, error, data) from error.__cause__
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
    IsADirectoryError
        If it is a folder; it says what to name instead.
    OSError
        If it cannot be read.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, IS_FOLDER, str(path))
    if path.is_file():  # what is read from a pipe is gone
        size = path.stat().st_size
        length = int.from_bytes(storage.read(path, 8), "little")
        try:
            if size < 8 or length > min(size - 8, LONGEST):
                raise DamagedFileError("it is cut off, or no safetensors file")
            if size != 8 + length + size_of_tensors(storage.read(path, 8 + length)):
                raise DamagedFileError("its size is not that of its tensors")
        except DamagedFileError as error:
            raise damaged(str(path), error, storage.read(path, START)) from error.__cause__
    return storage.read(path)


def damaged(where: str, error: DamagedFileError, start: bytes) -> DamagedFileError:
    r"""Return the error about a file that cannot be read, with what to do.

    Parameters
    ----------
    where : str
        The file.
    error : DamagedFileError
        What is wrong with it.
    start : bytes
        Its first bytes; they tell what other programs write.

    Examples
    --------
    >>> print(damaged("net.pkl", DamagedFileError("it is cut off"), b"\x80\x04\x95"))
    net.pkl cannot be read: it looks like a pickle. Read it by pickle or joblib, only if you ...
    """
    told = _foreign(start) or (
        f"{error}. It is damaged, or no file that skorchlike has written. If there is a backup "
        "of it, use that."
    )
    return DamagedFileError(f"{where} cannot be read: {told}")


def _foreign(start: bytes) -> str:
    """Return what a file of another kind looks like and how to read it, or nothing."""
    if not start:
        return "it is empty. If there is a backup of it, use that."
    if METADATA.encode() in start[:START]:
        return ""  # one of ours that is damaged: its length may start like anything
    if start.startswith(ZIP):
        name = start[30 : 30 + int.from_bytes(start[26:28], "little")]
        if b"/data" not in name:
            return "it looks like a zip archive, such as numpy.savez writes, not like safetensors."
    elif not start.startswith(OLD_TORCH):
        is_pickle = start[0] == 0x80 and start[1:2] in PROTOCOLS and start[2:3] != b"\0"
        advice = "it looks like a pickle. Read it by pickle or joblib, only if you trust it."
        return advice if is_pickle else ""
    return (
        "it looks like a file of torch.save. For a module's state_dict: "
        "state = torch.load(path, weights_only=True), then "
        "net.model_.module_.load_state_dict(state)."
    )


def _check_version(data: bytes, metadata: dict[str, str], kind: str) -> None:
    if metadata.get("format") != FORMAT:
        raise DamagedFileError(
            "it was not written by skorchlike (weights in any safetensors file are read by "
            "skorchlike.load_weights)"
        )
    found, version = metadata.get("kind", ""), metadata.get("version", "")
    if not (version.isascii() and version.isdigit() and len(version) < 9):
        raise DamagedFileError("its header has no version of the format")
    if int(version) != VERSION and _is_ours_but_for_the_version(data, version):
        raise DamagedFileError("its version is not the one that was written")
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


def _check_sum(data: bytes, metadata: dict[str, str]) -> None:
    place = _place_of_checksum(data, metadata.get("sha256", ""))
    checksum = hashlib.sha256(memoryview(data)[:place])
    checksum.update(_ZEROS)
    checksum.update(memoryview(data)[place + 64 :])
    if checksum.hexdigest() != metadata["sha256"]:
        raise DamagedFileError("its checksum is wrong")


def _is_ours_but_for_the_version(data: bytes, version: str) -> bool:
    """Whether only the number of the version was damaged: with the right one the sum is right."""
    mended = data.replace(f'"version":"{version}"'.encode(), f'"version":"{VERSION}"'.encode(), 1)
    try:
        _check_sum(mended, read_metadata(mended))
    except DamagedFileError:
        return False
    return True


def _checked_content(data: bytes, metadata: dict[str, str]) -> tuple[Any, dict[str, Tensor]]:
    _check_sum(data, metadata)
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
        _tell(error, target, sum(map(len, pieces)))
        raise


def _tell(error: OSError, target: Path, n_bytes: int) -> None:
    """Let an error name the file that was to be written, and what is wrong with its place."""
    folder = target.parent
    why = ""
    if not os.path.isdir(folder):
        if error.filename is not None and error.filename2 is None:
            error.filename = str(target)  # and not that of the temporary file
        missing = f" The folder {folder} does not exist: make it first."
        why = f" {folder} is no folder." if os.path.exists(folder) else missing
    elif os.path.isdir(target):
        why = " That is a folder: name a file in it."
    error.add_note(f"Raised while writing {target} ({_in_words(n_bytes)}).{why}")


def _in_words(n_bytes: float) -> str:
    """Return a size in words.

    Examples
    --------
    >>> [_in_words(n) for n in (1, 312, 82_400, 999_999, 4.2e9)]
    ['1 byte', '312 bytes', '82.4 kB', '1.0 MB', '4.2 GB']
    """
    if n_bytes < 1000:
        return f"{n_bytes} byte{'' if n_bytes == 1 else 's'}"
    for unit in ("kB", "MB", "GB"):
        n_bytes /= 1000
        if n_bytes < 999.95:
            return f"{n_bytes:.1f} {unit}"
    return f"{n_bytes / 1000:.1f} TB"


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
