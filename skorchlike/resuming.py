"""An interrupted fit goes on: its checkpoint found, compared with the fit, put in place."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from skorchlike.callbacks.checkpoint import Checkpoint
from skorchlike.exceptions import CheckpointError, DamagedFileError, ParameterError
from skorchlike.model.checkpoints import CheckpointFolder, read_checkpoint
from skorchlike.model.snapshots import check_snapshot
from skorchlike.params.continuing import class_name
from skorchlike.training.position import Position
from skorchlike.training.randomness import GlobalGenerators, restore_rng

if TYPE_CHECKING:
    from skorchlike.fingerprints import Identity


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


def check_resume(resume: Any, continued: Any) -> Any:
    """Return what to resume from: a snapshot, a path, True, or None for a new fit.

    Raises
    ------
    ParameterError
        If it is something else, or the fit continues a fitted model.
    """
    if resume is None or resume is False:
        return None
    if resume is not True and not isinstance(resume, (str, os.PathLike, Mapping)):
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
        return Found(_checked(dict(resume), "The snapshot given as `resume`"), folder)
    where = folder if resume is True else resume
    name = f"The checkpoint in {str(where)!r}"
    if where.is_file():
        return Found(_checked(read_checkpoint(where, trusted), name), folder)
    if resume is not True and not where.is_dir():
        raise CheckpointError(
            f"The `resume` argument of fit names {str(where)!r}, and there is no such folder or "
            "file."
        )
    checkpoints = CheckpointFolder(where)
    snapshot = checkpoints.newest(trusted=trusted)
    if snapshot is None:
        return Found(None, folder)
    if _checked(snapshot, name)["position"]["finished"] and max_epochs > snapshot["max_epochs"]:
        snapshot = _checked(_unfinished(checkpoints, snapshot, trusted), name)
    return Found(snapshot, folder)


def _checked(snapshot: Any, name: str) -> dict[str, Any]:
    try:
        check_snapshot(snapshot)
    except DamagedFileError as error:
        raise DamagedFileError(f"{name} is damaged: {error}") from None
    return snapshot


def _unfinished(checkpoints: CheckpointFolder, finished: dict[str, Any], trusted: Any) -> Any:
    """Return where a finished fit goes on for more epochs: before its end."""
    if finished["position"]["stop_reason"] != "completed":
        return finished  # more epochs would not have been trained either
    before = checkpoints.newest(finished=False, trusted=trusted)
    if before is None or before["position"]["epoch"] != finished["position"]["epoch"]:
        raise CheckpointError(
            f"The fit in {str(checkpoints.path)!r} is finished, with "
            f"{finished['max_epochs']} epochs, and the checkpoint of its last epoch, from which "
            "more could be trained, is gone. Set max_epochs back to get that model; load it with "
            "warm_start=True to train on."
        )
    return before


def keep_folder(found: Found, callbacks: Mapping[str, Any]) -> None:
    """Let the `Checkpoint` write where it was told to: its function is called once a fit."""
    for callback in callbacks.values():
        if isinstance(callback, Checkpoint) and found.folder is not None:
            callback.resolved = found.folder


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
    differences = identity.differences(snapshot["identity"])
    if differences:
        raise CheckpointError(
            "The checkpoint is of another fit: "
            + "; ".join(differences)
            + ". Set it back to resume, or use another folder: '{fingerprint}' in the path of "
            "`Checkpoint` gives each fit its own."
        )
    epoch = snapshot["position"]["epoch"]
    if max_epochs < epoch:
        raise ParameterError(
            f"The `max_epochs` parameter is {max_epochs}, and the checkpoint is of epoch {epoch}. "
            "When a fit is resumed it is the total: at least as many as the checkpoint has."
        )


class PutBack:
    """Puts the bits of a snapshot into the parts of a fit.

    Parameters
    ----------
    snapshot : dict
        What ``ctx.snapshot()`` returned.
    parts : Parts
        The components, built as for a new fit.
    train : Data
        The training batches.
    generator : torch.Generator
        What shuffles the rows.
    """

    def __init__(
        self, snapshot: Mapping[str, Any], parts: Any, train: Any, generator: torch.Generator
    ) -> None:
        self.snapshot, self.parts = snapshot, parts
        self.train, self.generator = train, generator

    def before_begin(self) -> None:
        """Put in place what callbacks see in ``on_begin``."""
        with _fitting():
            self._before_begin()

    def _before_begin(self) -> None:
        # what callbacks change of the structure, as groups of the optimizer, comes in on_begin
        self.parts.module.load_state_dict(self.snapshot["module"], strict=False)
        self.parts.criterion.load_state_dict(self.snapshot["criterion"])
        groups = self.snapshot["optimizer"]["param_groups"]
        here = self.parts.optimizer.param_groups
        if [len(g["params"]) for g in groups] == [len(g["params"]) for g in here]:
            self._optimizer()

    def everything(self) -> None:
        """Put everything back as it was: weights, gradients, random numbers."""
        with _fitting():
            self._everything()

    def _everything(self) -> None:
        snapshot, parts = self.snapshot, self.parts
        parts.module.load_state_dict(snapshot["module"])
        _load_buffers(parts.module, snapshot["buffers"])
        parts.criterion.load_state_dict(snapshot["criterion"])
        self._optimizer()
        for name, parameter in named_parameters(parts).items():
            gradient = snapshot["gradients"].get(name)
            parameter.grad = None if gradient is None else gradient.clone().to(parameter.device)
        rng = snapshot["rng"]
        restore_rng(rng, self.generator)
        for name, generator in loader_generators(self.train).items():
            generator.set_state(rng["loaders"][name])
        GlobalGenerators.restore(rng["globals"])

    def _optimizer(self) -> None:
        """Load the optimizer's state; its groups stay the same objects, which others hold."""
        optimizer = self.parts.optimizer
        groups = list(optimizer.param_groups)
        optimizer.load_state_dict(copy.deepcopy(self.snapshot["optimizer"]))
        for group, loaded in zip(groups, optimizer.param_groups, strict=True):
            group.clear()
            group.update(loaded)
        optimizer.param_groups[:] = groups


@contextmanager
def _fitting() -> Iterator[None]:
    """Say that a snapshot does not fit into the parts of the fit, whatever came of it."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise CheckpointError(
            f"The checkpoint does not fit the module, the criterion or the optimizer: {e}"
        ) from e


def named_parameters(parts: Any) -> dict[str, Any]:
    """Return the parameters of module and criterion by name."""
    found = dict(parts.module.named_parameters())
    found.update({f"criterion.{n}": p for n, p in parts.criterion.named_parameters()})
    return found


def buffers_beside(module: torch.nn.Module) -> dict[str, Any]:
    """Return the buffers that a module's ``state_dict`` leaves out."""
    kept = module.state_dict()
    return {name: b for name, b in module.named_buffers() if name not in kept}


def _load_buffers(module: torch.nn.Module, buffers: Mapping[str, Any]) -> None:
    own = dict(module.named_buffers())
    with torch.no_grad():
        for name, value in buffers.items():
            own[name].copy_(value)


def loader_generators(train: Any) -> dict[str, Any]:
    """Return the generators of loaders and samplers that the user gave."""
    found = train.generators() if hasattr(train, "generators") else {}
    return {name: generator for name, generator in found.items() if name != "fit"}


def states_of(snapshot: Mapping[str, Any], callbacks: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of the callbacks' states, by name; those of the same class."""
    return {
        name: copy.deepcopy(state)
        for name, (cls, state) in snapshot["callbacks"].items()
        if name in callbacks and cls == class_name(callbacks[name])
    }


def classes_of(estimator: Any, callbacks: Mapping[str, Any]) -> list[Any]:
    """Return the names of the packages that this fit's own components come from."""
    parts = [estimator, estimator.module, estimator.criterion, estimator.optimizer]
    parts += callbacks.values()
    owners = [part if isinstance(part, type) else type(part) for part in parts]
    return sorted({owner.__module__ for owner in owners} - {"builtins", "skorchlike"})
