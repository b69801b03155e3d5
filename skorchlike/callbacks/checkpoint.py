"""Save the fit as it goes, so that it can go on after whatever ends it."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Callable
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.tools.monitoring import check_monitor, direction
from skorchlike.callbacks.tools.workers import Worker
from skorchlike.exceptions import ParameterError
from skorchlike.model.checkpoint_manifest import FINISHED, checkpoint_name
from skorchlike.model.checkpoints import CheckpointFolder
from skorchlike.model.trust import packages_of

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context

KEPT = ("folder", "files", "last", "best_file", "best_score")


class Checkpoint(Callback):
    """Save the whole fit to files, so that ``fit(X, y, resume=True)`` goes on with it.

    A fit that was interrupted, killed, or failed, and is resumed from its newest checkpoint
    ends with the same bits as one that never was.

    Parameters
    ----------
    path : str, path-like or callable
        A folder for this fit alone; it is made where it is missing. ``{fingerprint}`` in it
        stands for 16 digits that tell parameters, data and split, so that the fits of a
        search have a folder each. A function is called once a fit with the context and
        returns the folder.
    every : int or float, default=1
        How often to save, in `unit`.
    unit : {"epoch", "batch", "second"}, default="epoch"
        ``"epoch"``: at the end of every so many epochs. ``"batch"``: after every so many
        training batches. ``"second"``: after the training batch or at the end of the epoch
        by which so many seconds have passed since the last save. The last epoch's end is
        saved in any case.
    keep : int, default=1
        How many are kept: the last ones. (The best one and the finished fit's are beside.)
    monitor : str or None, default=None
        A column of the history. An epoch that is the best so far is saved, due or not, and
        kept until there is a better one.
    mode : {"auto", "min", "max"}, default="auto"
        Whether lower or higher is better; ``"auto"`` tells by the column's name.

    Raises
    ------
    ParameterError
        Before training: if the path or another argument is impossible, or nothing produces
        the monitored column.
    CheckpointError
        Before training: if another fit has its checkpoints in the folder, or writes there; or
        an older copy of the model goes on than the folder has checkpoints of.
    FormatError
        At the first save: if the state of a callback cannot be written, or could not be read
        again.
    OSError
        If the folder cannot be written, before training; or a checkpoint cannot: then the one
        before is as it was.

    Notes
    -----
    When the fit ends it is saved as ``finished.safetensors``. Ctrl-C and SIGTERM wait for the
    batch under way, then the fit is saved and ended; that checkpoint does not count among those
    to `keep` and goes with the next save. A second Ctrl-C ends the fit at once.

    Each file is complete or absent, whatever ends the process or the machine: it is written
    beside, synced and renamed, and so is then ``manifest.json``, which lists size and checksum
    of each. Files that turn out damaged are warned about when a fit is resumed, and passed over.

    The state, ``model_.callbacks_.checkpoint``, holds ``folder``, ``files`` (those kept),
    ``last``, ``best_file`` and ``best_score``.

    Crash-safe replacement of files: T. S. Pillai et al., "All File Systems Are Not Created
    Equal", 2014.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import Checkpoint, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     net = NeuralNetClassifier(
    ...         max_epochs=3, callbacks=[Checkpoint(folder, keep=2)], random_state=0
    ...     ).fit(X, y)
    >>> net.model_.callbacks_.checkpoint["files"]
    ['epoch-000002.safetensors', 'epoch-000003.safetensors']
    """

    order = float("inf")
    passive = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "path": [str, os.PathLike, callable],
        "every": [Interval(Real, 0, None, closed="neither")],
        "unit": [StrOptions({"epoch", "batch", "second"})],
        "keep": [Interval(Integral, 1, None, closed="left")],
        "monitor": [str, None],
        "mode": [StrOptions({"auto", "min", "max"})],
    }

    # what there is when the fit ends before on_begin
    folder: str | None = None
    files: tuple[str, ...] = ()
    last: str | None = None
    best_file: str | None = None
    best_score: float | None = None
    resolved: Path | None = None
    begins_at: int | None = None
    store: CheckpointFolder | None = None

    def __init__(
        self,
        path: str | os.PathLike[str] | Callable[..., Any],
        every: float = 1,
        unit: str = "epoch",
        keep: int = 1,
        monitor: str | None = None,
        mode: str = "auto",
    ) -> None:
        self.path = path
        self.every = every
        self.unit = unit
        self.keep = keep
        self.monitor = monitor
        self.mode = mode

    def advise(self, setup: Setup) -> list[str]:
        """Say that the fit will not have the column, or that `every` has no meaning."""
        try:
            self._check(setup.columns)
        except ParameterError as error:
            return [str(error)]
        return []

    def resolve(self, ctx: Context) -> Path:
        """Return the folder of this fit; a function that gives it is called once a fit."""
        if self.resolved is None:
            self.resolved = _folder(self.path, ctx)
        return self.resolved

    def on_begin(self, ctx: Context) -> None:
        """Take the folder, before anything is trained."""
        self._check(ctx.columns)
        _ = ctx.fingerprint  # read now: what the fit is made of may change while it trains
        self.files, self.last, self.best_file, self.best_score = (), None, None, None
        # only where a fit resumes the folder is known already
        begins_at = ctx.epoch if self.resolved is None else self.begins_at
        self.store = CheckpointFolder(self.resolve(ctx))
        self.store.claim(ctx.run_id, begins_at)
        self.worker = Worker()
        self.folder = str(self.store.path)
        self.saved_at = time.monotonic()
        ctx.defer_interrupts()

    def on_batch_exit(self, ctx: Context) -> None:
        """Save after a training batch, if one is due or the fit is being interrupted."""
        if ctx.training and ctx.resumable:
            due = self.unit == "batch" and ctx.global_step % self.every == 0
            self._save_if(due or self._time_is_up(), ctx)
            self.worker.end_if_orphaned()

    def on_epoch_end(self, ctx: Context) -> None:
        """Save an epoch that is due, the last, or the best so far."""
        last = ctx.epoch == ctx.max_epochs or ctx.terminate
        due = last or (self.unit == "epoch" and ctx.epoch % self.every == 0)
        score = None if self.monitor is None else ctx.history[-1].get(self.monitor)
        self._save_if(due or self._time_is_up() or self._is_best(score), ctx, score)

    def on_end(self, ctx: Context) -> None:
        """Save the finished fit."""
        if self.store is not None:  # else an earlier callback ended the fit in on_begin
            self._save(ctx, FINISHED, self.files)

    def on_exit(self, ctx: Context) -> None:
        """Give the folder back."""
        self.resolved, store, self.store = None, self.store, None
        if store is not None:
            store.release()

    def state_dict(self) -> dict[str, Any] | None:
        """Return where the checkpoints are, which there are, and the best."""
        if self.folder is None:
            return None
        return {**{name: getattr(self, name) for name in KEPT}, "files": list(self.files)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier fit; a path that was said since wins at the next save."""
        for name, value in state.items():
            setattr(self, name, value)
        self.files = tuple(self.files)

    def __getstate__(self) -> dict[str, Any]:
        # the folder is locked by an open file: a copy made in a fit writes nothing
        return {name: value for name, value in super().__getstate__().items() if name != "store"}

    def _check(self, columns: Any) -> None:
        _check_every(self.every, self.unit)
        if self.monitor is not None:
            check_monitor("Checkpoint", self.monitor, columns)
            self.sign = 1 if direction("Checkpoint", self.monitor, self.mode) == "min" else -1

    def _time_is_up(self) -> bool:
        return self.unit == "second" and time.monotonic() - self.saved_at >= self.every

    def _is_best(self, score: Any) -> bool:
        if score is None:
            return False
        best = math.inf if self.best_score is None else self.sign * self.best_score
        return self.sign * score < best  # false for NaN

    def _save_if(self, due: bool, ctx: Context, score: Any = None) -> None:
        """Save what is due; what is not is saved for an interruption, besides those to keep."""
        name = checkpoint_name(ctx.epoch, ctx.step if ctx.training else None)
        if due:
            recent = [*(file for file in self.files if file != name), name][-self.keep :]
            best = name if self._is_best(score) else self.best_file
            first = () if best is None or best in recent else (best,)
            self._save(ctx, name, (*first, *recent), score)
        elif ctx.interrupt_pending or self.worker.is_orphaned():
            self._save(ctx, name, self.files)
        if ctx.interrupt_pending:
            where = os.path.join(str(self.folder), name)
            print(f"skorchlike: saved as {where}; resume=True goes on from there.", file=sys.stderr)

    def _save(self, ctx: Context, name: str, files: tuple[str, ...], score: Any = None) -> None:
        """Write the fit as it is, this callback's new state in it."""
        assert self.store is not None
        before = self.state_dict()
        if self.folder != str(self.store.path):  # an earlier fit's: what is not here is not kept
            here = (*self.store.files(), name)
            files = tuple(file for file in files if file in here)
            self.best_file = self.best_file if self.best_file in here else None
            self.folder = str(self.store.path)
        if self._is_best(score):
            self.best_file, self.best_score = name, score
        self.files, self.last = files, name
        try:
            snapshot, trusted = ctx.snapshot(copied=False), packages_of(components_of(ctx))
            self.store.save(snapshot, files, score, self.best_file, trusted)
        except BaseException:
            if before is not None:
                self.load_state_dict(before)
            raise
        self.saved_at = time.monotonic()


def _check_every(every: float, unit: str) -> None:
    if unit != "second" and every % 1 != 0:
        raise ParameterError(
            f"The 'every' parameter of Checkpoint must be a whole number of "
            f"{'epochs' if unit == 'epoch' else 'batches'}, or unit='second'. Got {every!r}."
        )


def components_of(ctx: Context) -> list[Any]:
    """Return the parts of a fit whose packages are trusted when it is resumed."""
    net = ctx.estimator
    return [net, net.module, net.criterion, net.optimizer, *ctx.callbacks.values()]


def _folder(path: Any, ctx: Context) -> Path:
    """Return the folder that `path` means in this fit."""
    given = path(ctx) if callable(path) else path
    text = os.fspath(given) if isinstance(given, (str, os.PathLike)) else None
    if not text or not isinstance(text, str) or "\0" in text:
        said = "A function as the" if callable(path) else "The"
        raise ParameterError(
            f"{said} 'path' parameter of Checkpoint must {'return' if callable(path) else 'be'} "
            f"a folder, a non-empty string or a path. Got {given!r}."
        )
    others = re.findall(r"\{[^{}]*\}", text.replace("{fingerprint}", ""))
    if others:
        raise ParameterError(
            f"The 'path' parameter of Checkpoint may hold {{fingerprint}}; {others[0]} has no "
            f"meaning there. Got {text!r}. For anything else pass a function of ctx."
        )
    if "{fingerprint}" in text:
        text = text.replace("{fingerprint}", ctx.fingerprint)
    folder = Path(os.path.abspath(text))
    if folder.exists() and not folder.is_dir():
        raise ParameterError(
            f"The 'path' parameter of Checkpoint must be a folder. {str(folder)!r} is a file: "
            "use another path."
        )
    return folder
