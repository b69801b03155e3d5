"""A folder of checkpoints: each one whole or absent, the newest good one found again."""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from skorchlike.exceptions import CheckpointError, DamagedFileError, FormatError
from skorchlike.model import storage
from skorchlike.model.checkpoint_lock import FolderLock
from skorchlike.model.checkpoint_manifest import (
    CHECKPOINT,
    MANIFEST,
    UNFINISHED,
    Entry,
    Head,
    Manifest,
)
from skorchlike.model.codec import check_names, decode, encode
from skorchlike.model.files import packed, read_whole, unpack, write_atomically
from skorchlike.model.tensor_files import safetensors
from skorchlike.model.trust import Trusted

LOCK = ".lock"

_Content = tuple[Any, dict[str, Any]]  # what `encode` returned


class CheckpointFolder:
    """The checkpoints of one fit, in a folder of their own.

    Its files are ``epoch-000005.safetensors`` (the end of epoch 5),
    ``epoch-000005-step-000120.safetensors`` (after the 120th batch of epoch 5),
    ``finished.safetensors`` (the fit's end), and ``manifest.json``, which lists them.

    A file is written beside, synced and renamed; then the manifest is, in the same way; only
    then what is no longer kept is removed. So at every moment the folder reads as it was
    before or after a save.

    Parameters
    ----------
    path : str or path-like
        The folder; it need not exist.

    Examples
    --------
    >>> import tempfile
    >>> from skorchlike.model.checkpoints import CheckpointFolder
    >>> position = {"epoch": 1, "step": 0, "global_step": 9, "in_epoch": False, "finished": False}
    >>> with tempfile.TemporaryDirectory() as path:
    ...     folder = CheckpointFolder(path)
    ...     folder.claim("run")
    ...     folder.save({"run_id": "run", "position": position, "history": [{"epoch": 1}]})
    ...     folder.release()
    ...     CheckpointFolder(path).newest()["history"]
    'epoch-000001.safetensors'
    [{'epoch': 1}]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(path))
        self._lock: FolderLock | None = None
        self._listed: Manifest | None = None  # once it is claimed

    # ------------------------------------------------------------------ whose it is

    def claim(self, run_id: str, epoch: int | None = None) -> None:
        """Make the folder this fit's: from now on no other one can write there.

        The folder is made where it is missing, and what a crash left there of this fit (parts
        of files, checkpoints that are not listed) is removed.

        Parameters
        ----------
        run_id : str
            The fit.
        epoch : int, optional
            Where the fit goes on, if what is later must not be there. Without it, as for a fit
            that is resumed, that goes with the next save.

        Raises
        ------
        CheckpointError
            If another fit has checkpoints there, or writes there now; or there are later ones
            than `epoch`. Then nothing is changed.
        OSError
            If the folder cannot be written.
        ImportError
            If safetensors is not installed.
        """
        safetensors()  # before anything is trained
        try:
            self._make()
            self._take_lock()
            known = self._known()
            self._check_owner(known, run_id)
            self._check_later(known, epoch)
            if known is None or known.run_id != run_id:
                known = Manifest(run_id)
            known.write(self.path)
            self._clear_up(known)
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                error.add_note(f"Checkpoints cannot be written to the folder {str(self.path)!r}.")
            raise
        self._listed = known

    def wait(self, seconds: float) -> None:
        """Wait until no other fit writes there, at most so long.

        Parameters
        ----------
        seconds : float
            A worker of a search that was killed gives the folder back after its next batch.
        """
        end = time.monotonic() + seconds
        while (self.path / LOCK).exists():
            try:
                FolderLock(self.path / LOCK).release()
                return
            except BlockingIOError:
                if time.monotonic() >= end:
                    return
                time.sleep(0.05)
            except OSError:  # where nothing can be written nobody writes
                return

    def release(self) -> None:
        """Let others claim the folder."""
        lock, self._lock, self._listed = self._lock, None, None
        if lock is not None:
            lock.release()

    def _make(self) -> None:
        missing = [path for path in (self.path, *self.path.parents) if not path.exists()]
        storage.make_folder(self.path)
        for path in missing:  # else a power cut could take the folder with all that is in it
            storage.sync_folder(path.parent)

    def _take_lock(self) -> None:
        if self._lock is None:
            try:
                self._lock = FolderLock(self.path / LOCK)
            except BlockingIOError:
                raise CheckpointError(
                    f"Another fit writes its checkpoints to {str(self.path)!r} now: one in this or "
                    "another process, such as a worker of a search that was killed. Wait for its "
                    "end (or end it), or use another path; with '{fingerprint}' in the path the "
                    "fits of a search have a folder each."
                ) from None

    def _check_owner(self, known: Manifest | None, run_id: str) -> None:
        names = self._names()
        if known is None and names:
            raise CheckpointError(
                f"The folder {str(self.path)!r} has checkpoints ({', '.join(names)}), and none of "
                "them can be read. Use another path, or delete them."
            )
        if known is not None and known.run_id != run_id and (known.entries or names):
            raise CheckpointError(
                f"The folder {str(self.path)!r} has the checkpoints of another fit, or of an "
                "earlier run of this one. To go on with that one pass resume=True; else use "
                "another path, such as one with '{fingerprint}' in it, or delete the folder."
            )

    def _check_later(self, known: Manifest | None, epoch: int | None) -> None:
        if (self.path / MANIFEST).is_dir():
            raise CheckpointError(
                f"{str(self.path / MANIFEST)!r} is a folder, and the list of the checkpoints has "
                "to be written there. Use another path, or rename that folder."
            )
        last = max((entry.head.epoch for entry in known.entries), default=0) if known else 0
        if epoch is not None and last > epoch:
            raise CheckpointError(
                f"The folder {str(self.path)!r} has later checkpoints (epoch {last}) of this fit "
                f"than the model that goes on (epoch {epoch}), and they would be deleted. Go on "
                "from them by fit(..., resume=True) without warm_start, use another path, or leave "
                "out the `Checkpoint` of this fit: fit(..., callbacks={'checkpoint': None})."
            )

    def _clear_up(self, known: Manifest) -> None:
        """Remove what a crash left: parts of our files, and checkpoints that are not listed."""
        for name in self._names(UNFINISHED):
            self._remove(name)
        listed = {entry.head.file for entry in known.entries}
        for name in self._names():
            if name not in listed and self._is_left_over(name, known.run_id):
                self._remove(name)

    def _is_left_over(self, name: str, run_id: str) -> bool:
        # what cannot be read may be anybody's
        try:
            return self._open(name)[0].run_id == run_id
        except (OSError, FormatError):
            return False

    # ----------------------------------------------------------------------- saving

    def save(
        self,
        snapshot: Mapping[str, Any],
        keep: Collection[str] = (),
        score: float | None = None,
        best: str | None = None,
        trusted: Any = None,
    ) -> str:
        """Save what ``ctx.snapshot()`` returned.

        Parameters
        ----------
        snapshot : mapping
            With ``run_id`` and ``position``, which gives the file its name.
        keep : collection of str
            Which other files stay. A finished one that is not later stays too.
        score : float, optional
            The monitored value.
        best : str, optional
            Which file is the best so far; it is marked in the manifest.
        trusted : iterable, optional
            What the file may name beside what `Trusted` always trusts, since it will be read
            with that; without, it may name all that can be written.

        Returns
        -------
        str
            The file's name.

        Raises
        ------
        OSError
            If it cannot be written: what was saved before is as it was.
        CheckpointError
            If the folder was not claimed for this fit.
        FormatError
            If something cannot be written, or could not be read again; it names the place.
        """
        before = self._listed
        if before is None or before.run_id != snapshot["run_id"]:
            raise CheckpointError(f"The folder {str(self.path)!r} was not claimed for this fit.")
        head = Head.of(snapshot, score)
        plain, tensors = encode(snapshot, "")
        if trusted is not None:
            check_names(plain, Trusted(trusted))
        data = packed({"head": head.said(), "snapshot": plain}, tensors, "checkpoint")
        new = Entry.of(head, data, best=best == head.file)
        others = [
            entry.marked(best=best == entry.head.file)
            for entry in before.entries
            if entry.head.file != head.file
            and (entry.head.file in keep or entry.head.finished)
            and entry.head.place <= head.place
        ]
        after = Manifest(before.run_id, (), snapshot.get("identity")).with_entries([*others, new])
        try:
            write_atomically(self.path / head.file, data)
            after.write(self.path)
        except BaseException:
            self._take_back(head.file)
            raise
        self._listed = after
        stays = {entry.head.file for entry in after.entries}
        for entry in before.entries:
            if entry.head.file not in stays:
                self._remove(entry.head.file)
        return head.file

    def _take_back(self, name: str) -> None:
        """Remove a file that could not be listed; it does no harm, but takes room."""
        try:
            listed = Manifest.read(self.path).entries
            if all(entry.head.file != name for entry in listed):
                self._remove(name)
        except (OSError, FormatError):
            pass  # the error that is on its way says enough; the next claim removes it

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):  # somebody has deleted it already
            storage.remove(self.path / name)

    # ---------------------------------------------------------------------- reading

    def files(self) -> list[str]:
        """Return the checkpoints that there are, in the order of the fit."""
        known = self._known()
        return [] if known is None else [entry.head.file for entry in known.entries]

    def newest(self, finished: bool | None = None, trusted: Any = ()) -> dict[str, Any] | None:
        """Return the newest checkpoint that is whole.

        One that is damaged or missing is warned about and passed over. A damaged manifest is
        warned about, and the files themselves tell.

        Parameters
        ----------
        finished : bool, optional
            Only one of a fit's end, or only one from before it.
        trusted : iterable, default=()
            What a checkpoint may name beside what `Trusted` always trusts.

        Returns
        -------
        dict or None
            The snapshot; None if the folder has no (such) checkpoint.

        Raises
        ------
        CheckpointError
            If there are checkpoints and none of them is whole. (Of a missing or damaged
            finished one alone it is only warned.)
        FormatError
            If one is of another version, or names what is not trusted.
        """
        known = self._known()
        if known is None or not known.entries:
            names = self._names()
            if names:
                raise self._none_is_good(names)
            return None
        wanted = [e for e in known.entries if finished in (None, e.head.finished)]
        snapshot = self._first_good(wanted, trusted)
        if snapshot is not None or not wanted or finished:
            return snapshot
        listed = {entry.head.file for entry in known.entries}
        others = self._from_files([n for n in self._names() if n not in listed], known.run_id)
        if others is not None:
            snapshot = self._first_good(others.entries, trusted)
        if snapshot is None:
            raise self._none_is_good([entry.head.file for entry in wanted])
        return snapshot

    def _none_is_good(self, names: Iterable[str]) -> CheckpointError:
        return CheckpointError(
            f"No checkpoint in the folder {str(self.path)!r} is whole: {', '.join(names)}. Put "
            "back a copy, or delete the folder to start afresh."
        )

    def _first_good(self, entries: Iterable[Entry], trusted: Any) -> dict[str, Any] | None:
        for entry in sorted(entries, key=lambda e: e.head.place, reverse=True):
            name = entry.head.file
            try:
                return self._load(entry, trusted)
            except DamagedFileError as error:
                self._warn(name, error)
        return None

    def _load(self, entry: Entry, trusted: Any) -> dict[str, Any]:
        head, content, _ = self._open(entry.head.file)
        # not compared by the sha256 in the manifest: a save under a name that there was
        # already, cut off before the manifest, leaves the new file, which is as good
        if (head.run_id, head.place) != (entry.head.run_id, entry.head.place):
            raise DamagedFileError("it is not the file that was saved under this name")
        return _decode(head, content, trusted, self.path / head.file)

    def _open(self, name: str) -> tuple[Head, _Content, bytes]:
        """Read a file, whose own checksum must hold."""
        path = self.path / name
        try:
            if not path.is_file():
                raise DamagedFileError("it is missing")
            data = read_whole(path)
        except OSError as error:
            raise DamagedFileError(f"it cannot be read ({error})") from error
        head, content = _unpack(data, path)
        if head.file != name:
            raise DamagedFileError(f"it was {head.file}, and has been renamed")
        return head, content, data

    def _known(self) -> Manifest | None:
        """Return the manifest, or where that cannot be, what the files themselves say."""
        try:
            listed = Manifest.read(self.path)
        except (FileNotFoundError, NotADirectoryError):
            listed = None
        except DamagedFileError as error:
            self._warn(MANIFEST, error, "the files themselves are read")
            listed = None
        if listed is not None and listed.entries:
            return listed
        # none, or a first save that was cut off before the manifest
        run_id = None if listed is None else listed.run_id
        return self._from_files(self._names(), run_id) or listed

    def _from_files(self, names: Iterable[str], run_id: str | None) -> Manifest | None:
        entries = []
        for name in names:
            try:
                head, _, data = self._open(name)
            except DamagedFileError as error:
                self._warn(name, error)
            else:
                entries.append(Entry.of(head, data))
        runs = {entry.head.run_id for entry in entries}
        if len(runs | {run_id} - {None}) > 1:
            raise CheckpointError(
                f"The folder {str(self.path)!r} has checkpoints of several fits. Keep those of one."
            )
        return Manifest(runs.pop()).with_entries(entries) if runs else None

    def _names(self, pattern: re.Pattern[str] = CHECKPOINT) -> list[str]:
        """Return the files that are named as checkpoints."""
        try:
            return [name for name in storage.names(self.path) if pattern.fullmatch(name)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _warn(self, name: str, why: Exception, then: str = "it is passed over") -> None:
        path = str(self.path / name)
        warnings.warn(f"The checkpoint file {path!r} is not good, {then}: {why}", stacklevel=4)


def read_checkpoint(path: str | os.PathLike[str], trusted: Any = ()) -> dict[str, Any]:
    """Return the snapshot in one file.

    Parameters
    ----------
    path : str or path-like
        The file.
    trusted : iterable, default=()
        What it may name beside what `Trusted` always trusts.

    Raises
    ------
    DamagedFileError
        If it is no checkpoint, or not as it was written.
    FormatError
        If it is of another version, or names what is not trusted.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    with _named(path):
        data = read_whole(path)
    head, content = _unpack(data, path)
    return _decode(head, content, trusted, path)


def _unpack(data: bytes, path: Path) -> tuple[Head, _Content]:
    with _named(path):
        plain, tensors = unpack(data, "checkpoint")
        if not isinstance(plain, dict) or "snapshot" not in plain:
            raise DamagedFileError("it holds no snapshot")
        return Head.read(plain.get("head")), (plain["snapshot"], tensors)


def _decode(head: Head, content: _Content, trusted: Any, path: Path) -> dict[str, Any]:
    with _named(path):
        snapshot = decode(*content, Trusted(trusted))
        try:
            of_snapshot = Head.read(Head.of(snapshot, head.score).said())
        except FormatError:
            raise
        except Exception as error:  # whatever stands where numbers should
            raise DamagedFileError("it holds no snapshot") from error
        if of_snapshot != head:
            raise DamagedFileError("its snapshot is of another place than it says")
        return snapshot


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        error.add_note(f"Raised while reading the checkpoint {str(path)!r}.")
        raise
