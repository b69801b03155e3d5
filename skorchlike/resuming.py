"""An interrupted fit goes on: its checkpoint found, compared with the fit, put in place."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skorchlike.callbacks.checkpoint import Checkpoint
from skorchlike.exceptions import CheckpointError, DamagedFileError, ParameterError
from skorchlike.model.checkpoints import CheckpointFolder, read_checkpoint
from skorchlike.model.snapshots import check_snapshot
from skorchlike.params.continuing import class_name
from skorchlike.training.position import Position

if TYPE_CHECKING:
    from skorchlike.fingerprints import Identity


WAIT = 10.0
"""So many seconds a resumed fit waits where another one writes to its folder."""


@dataclass
class Found:
    """A snapshot that was found for a fit, and the folder that its `Checkpoint` writes to."""

    snapshot: dict[str, Any] | None
    folder: Path | None

    @property
    def position(self) -> Position:
        """Where the fit was."""
        assert self.snapshot is not None
        return Position(**self.snapshot["position"])

    def told(self) -> str:
        """Say where the fit goes on."""
        if self.snapshot is None:
            return f"No checkpoint in {str(self.folder)!r}: the fit begins anew."
        position = self.position
        if position.finished:
            return f"The fit is finished, with {position.epoch} epochs: its model is read."
        if position.in_epoch:
            return f"The fit goes on in epoch {position.epoch}, after batch {position.step}."
        return f"The fit goes on after epoch {position.epoch}."


def check_resume(resume: Any, continued: Any) -> Any:
    """Return what to resume from: a snapshot, a path, True, or None for a new fit.

    Raises
    ------
    ParameterError
        If it is something else, or the fit continues a fitted model.
    """
    if resume is None or resume is False:
        return None
    path = isinstance(resume, (str, os.PathLike)) and resume != ""
    if resume is not True and not path and not isinstance(resume, Mapping):
        raise ParameterError(
            "The `resume` argument of fit must be True (from the folder of the `Checkpoint` "
            "callback), the path of a folder of checkpoints or of one of them, or what "
            f"ctx.snapshot() returned. Got {resume!r}."
        )
    if continued is not None:
        raise ParameterError(
            "fit(..., resume=...) goes on from a checkpoint, and warm_start=True from the fitted "
            "model that is here: one of them. Set warm_start=False, or leave out `resume`."
        )
    return resume if resume is True or isinstance(resume, Mapping) else Path(resume)


def find_snapshot(
    resume: Any, callbacks: Mapping[str, Any], ctx: Any, max_epochs: int, trusted: Any
) -> Found:
    """Return the checkpoint that a fit goes on from, if there is one.

    Parameters
    ----------
    resume : True, Path or dict
        As `check_resume` returned it.
    callbacks : mapping
        Name → callback of this fit.
    ctx : Context
        The context of the fit.
    max_epochs : int
        How many epochs the fit is to have in all.
    trusted : sequence
        Classes of the user's that a checkpoint may name.
    """
    own = next((cb for cb in callbacks.values() if isinstance(cb, Checkpoint)), None)
    folder: Any = None if own is None else own.resolve(ctx)
    if resume is True and folder is None:
        raise ParameterError(
            "fit(..., resume=True) goes on from the folder of a `Checkpoint` callback, and there "
            "is none. Add one, as callbacks={'checkpoint': Checkpoint('a/folder')}, or pass the "
            "path of a folder of checkpoints."
        )
    if isinstance(resume, Mapping):
        snapshot = _checked(dict(resume), "The snapshot given as `resume`")
        if _is_to_go_on(snapshot, max_epochs):
            raise _nothing_to_go_on_from("The fit of the snapshot", snapshot)
        return Found(snapshot, folder)
    where = folder if resume is True else resume
    name = f"The checkpoint in {str(where)!r}"
    if where.is_file():
        snapshot = _checked(read_checkpoint(where, trusted), name)
        if _is_to_go_on(snapshot, max_epochs):
            snapshot = _before_end(CheckpointFolder(where.parent), snapshot, trusted)
        return Found(snapshot, folder)
    if resume is not True and not where.is_dir():
        raise CheckpointError(
            f"The `resume` argument of fit names {str(where)!r}, and there is no such folder or "
            "file."
        )
    checkpoints = CheckpointFolder(where)
    if resume is True:
        checkpoints.wait(WAIT)
    newest = checkpoints.newest(trusted=trusted)
    if newest is None:
        return Found(None, folder)
    snapshot = _checked(newest, name)
    if _is_to_go_on(snapshot, max_epochs):
        snapshot = _before_end(checkpoints, snapshot, trusted)
    return Found(snapshot, folder)


def _checked(snapshot: Any, name: str) -> dict[str, Any]:
    try:
        check_snapshot(snapshot)
    except DamagedFileError as error:
        raise DamagedFileError(f"{name} is damaged: {error}") from None
    return snapshot


def _is_to_go_on(snapshot: Mapping[str, Any], max_epochs: int) -> bool:
    """Whether a fit is finished and more epochs are wanted now.

    Where a callback ended it, more epochs would not have been trained either.
    """
    position = snapshot["position"]
    completed = position["finished"] and position["stop_reason"] == "completed"
    return completed and max_epochs > snapshot["max_epochs"]


def _before_end(checkpoints: CheckpointFolder, finished: dict[str, Any], trusted: Any) -> Any:
    """Return where a finished fit goes on for more epochs: before its end."""
    before = checkpoints.newest(finished=False, trusted=trusted)
    where = f"The fit in {str(checkpoints.path)!r}"
    if before is None:
        raise _nothing_to_go_on_from(where, finished)
    before = _checked(before, f"The checkpoint in {str(checkpoints.path)!r}")
    same = before["run_id"] == finished["run_id"]
    if not same or before["position"]["epoch"] != finished["position"]["epoch"]:
        raise _nothing_to_go_on_from(where, finished)
    return before


def _nothing_to_go_on_from(what: str, finished: Mapping[str, Any]) -> CheckpointError:
    return CheckpointError(
        f"{what} is finished, with {finished['max_epochs']} epochs, and the checkpoint of its last "
        "epoch, from which more could be trained, is not there. Set max_epochs back to get that "
        "model; set warm_start=True on it to train on."
    )


def tell_checkpoint(found: Found, resume: Any, callbacks: Mapping[str, Any]) -> None:
    """Tell the `Checkpoint` its folder, whose function is called once a fit, and where it goes on.

    What is later than a checkpoint that was named must not be in its folder: it would be lost.
    """
    for callback in callbacks.values():
        if isinstance(callback, Checkpoint) and found.folder is not None:
            callback.resolved = found.folder
            named = resume is not True and found.snapshot is not None
            callback.begins_at = found.position.epoch if named else None


def check_can_go_on(found: Found, identity: Identity, max_epochs: int) -> None:
    """Refuse a checkpoint of another fit, and one that has more epochs than are wanted.

    Raises
    ------
    CheckpointError
        If data, split, module, callbacks or another parameter differ; it says which.
    ParameterError
        If ``max_epochs`` is less than what the checkpoint has.
    """
    snapshot = found.snapshot
    assert snapshot is not None
    if snapshot["start"] and snapshot["identity"]["learned"] != identity.learned:
        raise CheckpointError(
            "The checkpoint is of a fit that had gone on (warm_start, partial_fit) from one on "
            "other data. What was learned of those (classes, columns, means) is not in it, and "
            "differs from what these tell. Keep the fitted estimator instead, by skorchlike.save "
            "or pickle, and go on from it with warm_start=True or partial_fit."
        )
    differences = identity.differences(snapshot["identity"])
    if differences:
        raise CheckpointError(
            "The checkpoint is of another fit: "
            + "; ".join(differences)
            + ". Resume with what it was, or use another folder: '{fingerprint}' in the path of "
            "`Checkpoint` gives each fit its own."
        )
    epoch = snapshot["position"]["epoch"]
    if max_epochs < epoch:
        raise ParameterError(
            f"The `max_epochs` parameter is {max_epochs}, and the checkpoint is of epoch {epoch}. "
            "When a fit is resumed it is the total: at least as many as the checkpoint has. For "
            "fewer train anew, in another folder, or resume from the file of an earlier epoch."
        )


def states_of(snapshot: Mapping[str, Any], callbacks: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of the callbacks' states, by name; those of the same class."""
    return {
        name: copy.deepcopy(state)
        for name, (cls, state) in snapshot["callbacks"].items()
        if name in callbacks and cls == class_name(callbacks[name])
    }
