"""The list of a folder's checkpoints: what each file is, and how it must read."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from skorchlike.exceptions import DamagedFileError, FormatError
from skorchlike.model import storage
from skorchlike.model.files import checksum_of, write_atomically

MANIFEST = "manifest.json"
FORMAT, VERSION = "skorchlike checkpoints", 1
FINISHED = "finished.safetensors"
LARGEST = 10**18  # numbers for which names of files have room
LONGEST = 2**26
"""So many bytes of a manifest are read: enough for a hundred thousand checkpoints."""

_NAME = r"(?:epoch-[0-9]{6,18}(?:-step-[0-9]{6,18})?|finished)\.safetensors"
CHECKPOINT = re.compile(_NAME)
# what `write_atomically` writes beside
UNFINISHED = re.compile(rf"\.(?:{_NAME}|manifest\.json)\.[0-9a-f]{{12}}\.tmp")


def checkpoint_name(epoch: int, step: int | None = None) -> str:
    """Return the file of a checkpoint at an epoch's end, or after one of its batches.

    Examples
    --------
    >>> checkpoint_name(5)
    'epoch-000005.safetensors'
    >>> checkpoint_name(5, step=120)
    'epoch-000005-step-000120.safetensors'
    """
    middle = "" if step is None else f"-step-{step:06d}"
    return f"epoch-{epoch:06d}{middle}.safetensors"


@dataclass(frozen=True)
class Head:
    """Whose a checkpoint is and where its fit was: what a file says of itself.

    Attributes
    ----------
    run_id : str
        The fit that it belongs to.
    epoch, step, global_step : int
        As in the context; `step` is 0 at the end of an epoch.
    in_epoch : bool
        Whether the epoch was under way.
    finished : bool
        Whether the fit had come to its end.
    score : float or None
        The monitored value.
    """

    run_id: str
    epoch: int
    step: int
    global_step: int
    in_epoch: bool
    finished: bool
    score: float | None = None

    @classmethod
    def of(cls, snapshot: Mapping[str, Any], score: Any = None) -> Head:
        """Read it from a snapshot."""
        position = snapshot["position"]
        known = {name: position[name] for name in ("epoch", "step", "global_step")}
        return cls(
            run_id=snapshot["run_id"],
            in_epoch=bool(position["in_epoch"]),
            finished=bool(position["finished"]),
            # JSON has no NaN
            score=float(score) if score is not None and math.isfinite(score) else None,
            **known,
        )

    @classmethod
    def read(cls, said: Any) -> Head:
        """Read it from JSON.

        Raises
        ------
        DamagedFileError
            If it does not say what it must.
        """
        counts = ("epoch", "step", "global_step")
        ok = (
            isinstance(said, dict)
            and isinstance(said.get("run_id"), str)
            and all(type(said.get(name)) is int and 0 <= said[name] < LARGEST for name in counts)
            and all(isinstance(said.get(name), bool) for name in ("in_epoch", "finished"))
            and isinstance(said.get("score", ""), (int, float, type(None)))
        )
        if not ok:
            raise DamagedFileError("it does not say which fit it belongs to and where that was")
        return cls(**{name: said[name] for name in cls.__dataclass_fields__})

    def said(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)

    @property
    def place(self) -> tuple[int, int, bool, bool]:
        """Where in the fit it is: the later the greater."""
        return self.epoch, self.global_step, self.finished or not self.in_epoch, self.finished

    @property
    def file(self) -> str:
        """The name of its file."""
        if self.finished:
            return FINISHED
        return checkpoint_name(self.epoch, self.step if self.in_epoch else None)


@dataclass(frozen=True)
class Entry:
    """One checkpoint of the list: its head, and size and own checksum of its file."""

    head: Head
    sha256: str
    size: int
    best: bool = False

    @classmethod
    def of(cls, head: Head, data: bytes | list[Any], best: bool = False) -> Entry:
        """Make it from the file's content, or the three pieces of it."""
        if isinstance(data, list):
            return cls(head, data[1].decode(), sum(map(len, data)), best)
        return cls(head, checksum_of(data), len(data), best)

    def marked(self, best: bool) -> Entry:
        """Return the same, as the best one or not."""
        return replace(self, best=best)


@dataclass(frozen=True)
class Manifest:
    """All checkpoints of a folder, and the one fit that they belong to."""

    run_id: str
    entries: tuple[Entry, ...] = ()
    identity: Any = None

    def with_entries(self, entries: list[Entry]) -> Manifest:
        """Return the same with other checkpoints, in the order of the fit."""
        return replace(self, entries=tuple(sorted(entries, key=lambda entry: entry.head.place)))

    def write(self, folder: Path) -> None:
        """Write it into a folder, at once."""
        text: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "run_id": self.run_id,
            # for those who look into it
            "identity": _readable(self.identity),
            "checkpoints": [
                {
                    "file": entry.head.file,
                    "sha256": entry.sha256,
                    "size": entry.size,
                    "best": entry.best,
                    **{k: v for k, v in entry.head.said().items() if k != "run_id"},
                }
                for entry in self.entries
            ],
        }
        text["sha256"] = _checksum(text)
        write_atomically(folder / MANIFEST, (json.dumps(text, indent=1) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read it from a folder.

        Raises
        ------
        FileNotFoundError
            If there is none.
        DamagedFileError
            If it is not as it was written.
        FormatError
            If a newer version wrote it.
        """
        path = folder / MANIFEST
        try:
            if path.exists() and not path.is_file():
                raise DamagedFileError("it is no plain file")  # a pipe would never end
            text = json.loads(storage.read(path, LONGEST).decode())
        except (FileNotFoundError, NotADirectoryError, DamagedFileError):
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise DamagedFileError(f"it cannot be read ({error!r:.200})") from error
        if not isinstance(text, dict) or text.get("format") != FORMAT:
            raise DamagedFileError("it is no list of checkpoints")
        try:
            good = text.pop("sha256", None) == _checksum(text)
        except RecursionError:  # what can just be read may be too deep to be written
            good = False
        if not good:
            raise DamagedFileError("its checksum is wrong")
        if text.get("version") != VERSION:
            raise FormatError(
                f"{str(path)!r} has the format version {text.get('version')!r}; this version of "
                f"skorchlike reads {VERSION}. Use the one that wrote it."
            )
        run_id, listed = text.get("run_id"), text.get("checkpoints")
        if not isinstance(run_id, str) or not isinstance(listed, list):
            raise DamagedFileError("it names no fit or no checkpoints")
        entries = [_read_entry(said, run_id) for said in listed]
        return cls(run_id, (), text.get("identity")).with_entries(entries)


def _read_entry(said: Any, run_id: Any) -> Entry:
    head = Head.read({**said, "run_id": run_id} if isinstance(said, dict) else said)
    ok = isinstance(said.get("sha256"), str) and type(said.get("size")) is int
    if not ok or said.get("file") != head.file or not isinstance(said.get("best"), bool):
        raise DamagedFileError("an entry is not as it was written")
    return Entry(head, said["sha256"], said["size"], said["best"])


def _readable(identity: Any) -> Any:
    try:
        return json.loads(json.dumps(identity, default=repr))
    except (TypeError, ValueError):
        return repr(identity)


def _checksum(text: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()
