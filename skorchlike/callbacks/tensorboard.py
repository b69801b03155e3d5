"""Write scalars and histograms for TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import count
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError, did_you_mean, import_extra
from skorchlike.params.patterns import check_patterns, matching

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context

NEEDS_HISTOGRAMS = (
    "TensorBoard(gradients=True) needs `histograms`, which says of which parameters: "
    "histograms='*' is all."
)


class TensorBoard(Callback):
    """Write the history, and histograms of parameters, for TensorBoard.

    Parameters
    ----------
    log_dir : None, str, path-like or callable, default=None
        The folder of the event files. None makes a new one below ``runs`` for each fit,
        named by the time. A function is called once a fit with the context and returns
        the folder, such as ``lambda ctx: f"runs/lr_{ctx.estimator.lr}"``.
    unit : {"epoch", "batch"}, default="epoch"
        The step at which values stand: the epoch, or the number of training batches so
        far. With ``"batch"`` there are also ``batch_loss`` and ``batch_lr``.
    every : int, default=1
        Batches between two values of ``batch_loss``. Each waits for the device, which on
        an accelerator costs time.
    histograms : None, str, list of str or callable, default=None
        Parameters of the module whose histograms are written each epoch: globs of their
        names (``"*"`` is all), or a function of a name.
    gradients : bool, default=False
        Whether to write histograms of their gradients too: those of the epoch's last
        batch, as the optimizer's step used them.

    Raises
    ------
    ImportError
        At fit, if tensorboard is not installed (the extra ``tensorboard``).
    ParameterError
        Before training, if the folder cannot be written or no parameter is meant.

    Notes
    -----
    The tags are the names of the history's columns, ``parameters/<name>`` and
    ``gradients/<name>``; scalars are stored in single precision. A continued fit goes on
    in its folder; what a later fit wrote there beyond its first step is hidden, and a new
    fit in a folder that was used hides all of it. The state is the folder:
    ``model_.callbacks_.tensorboard["folder"]``.

    The files are written by `torch.utils.tensorboard.SummaryWriter`.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NeuralNetClassifier, TensorBoard
    >>> X, y = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     board = TensorBoard(folder, histograms="*.weight")
    ...     net = NeuralNetClassifier(max_epochs=3, callbacks=[board]).fit(X, y)
    """

    order = 210
    passive = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "log_dir": [None, str, os.PathLike, callable],
        "unit": [StrOptions({"epoch", "batch"})],
        "every": [Interval(Integral, 1, None, closed="left")],
        "histograms": [None, str, list, tuple, set, frozenset, callable],
        "gradients": ["boolean"],
    }

    # what there is when the fit ends before on_begin
    writer: Any = None
    folder: str | None = None
    n_files = 0
    under_way = cut_off = False

    def __init__(
        self,
        log_dir: Any = None,
        unit: str = "epoch",
        every: int = 1,
        histograms: Any = None,
        gradients: bool = False,
    ) -> None:
        self.log_dir = log_dir
        self.unit = unit
        self.every = every
        self.histograms = histograms
        self.gradients = gradients

    @property
    def idle_stages(self) -> tuple[str, ...]:
        """The end of a batch, if nothing of batches is written."""
        return () if self.unit == "batch" or self.gradients else ("on_batch_end",)

    def advise(self, setup: Setup) -> list[str]:
        """Say that gradients are asked for of no parameter."""
        return [NEEDS_HISTOGRAMS] if self.gradients and self.histograms is None else []

    def on_begin(self, ctx: Context) -> None:
        """Check what can be checked; the folder may come from the fit that is continued."""
        import_extra("tensorboard", "tensorboard", "The callback TensorBoard")
        self.writer = self.folder = None
        self.n_files = self.written = 0
        self.under_way, self.cut_off = True, False
        if self.gradients and self.histograms is None:
            raise ParameterError(NEEDS_HISTOGRAMS)
        if self.histograms is not None:
            check_patterns(self.histograms, "The `histograms` parameter of TensorBoard")
            if not [*self._parameters(ctx)]:
                names = [name for name, _ in ctx.module.named_parameters()]
                raise ParameterError(
                    f"The `histograms` parameter of TensorBoard, {self.histograms!r}, matches no "
                    f"parameter of the module.{did_you_mean(str(self.histograms), names)}"
                )

    def on_epoch_begin(self, ctx: Context) -> None:
        """Open the folder, at the first epoch."""
        if self.writer is None:
            self._open(ctx)

    def on_batch_end(self, ctx: Context) -> None:
        """Write the loss of a batch, and after the last one the gradients."""
        if self.unit == "batch" and ctx.global_step % self.every == 0:
            # a device-to-host sync: the loss is fetched
            self.writer.add_scalar("batch_loss", ctx.last_loss, ctx.global_step)
            lr = ctx.optimizer.param_groups[0].get("lr", float("nan"))
            self.writer.add_scalar("batch_lr", float(lr), ctx.global_step)
        if self.gradients and ctx.is_last_batch:
            for name, parameter in self._parameters(ctx):
                if parameter.grad is not None:
                    self._histogram(ctx, f"gradients/{name}", parameter.grad)

    def on_epoch_end(self, ctx: Context) -> None:
        """Write the epoch's record and the histograms, so that a viewer can see them."""
        if self.writer is None:
            self._open(ctx)  # an earlier callback cancelled the first epoch as it began
        self._scalars(ctx)
        if self.histograms is not None:
            for name, parameter in self._parameters(ctx):
                self._histogram(ctx, f"parameters/{name}", parameter)
        self.writer.flush()

    def on_end(self, ctx: Context) -> None:
        """Let a fit that continues this one know that it came to its end."""
        self.under_way = False

    def on_exit(self, ctx: Context) -> None:
        """Write what there is of an epoch that was cut off, and close the files."""
        if self.writer is not None:
            try:
                if ctx.epoch > self.written:
                    self._scalars(ctx)
            finally:
                self.writer.close()
                self.writer = None

    def state_dict(self) -> dict[str, Any] | None:
        """Return the folder, and how many event files it has."""
        if self.folder is None:
            return None
        state = {"folder": self.folder, "n_files": len(_event_files(self.folder))}
        return {**state, "under_way": True} if self.under_way else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on in the folder of an earlier fit."""
        self.folder, self.n_files = state["folder"], state["n_files"]
        self.cut_off = state.get("under_way", False)

    def __getstate__(self) -> dict[str, Any]:
        # a writer has a thread and cannot be copied: a copy made in a fit writes nothing
        return {name: value for name, value in super().__getstate__().items() if name != "writer"}

    def _open(self, ctx: Context) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder, begun = self.log_dir, self.folder
        if callable(folder):
            folder = begun or folder(ctx)
        try:
            if folder is None:
                folder = begun or _new_folder("runs")
            self.folder = os.path.realpath(folder)  # the working folder may change
            files = _event_files(self.folder)
            goes_on = self.folder == begun and len(files) == self.n_files and not self.cut_off
            # else there may be more: what stands from the first step on is hidden
            first = ctx.epoch if self.unit == "epoch" else ctx.global_step + 1
            purge_step = first if files and not goes_on else None
            if purge_step is not None:
                _wait_for_a_later_name(files)
            self.writer = SummaryWriter(self.folder, purge_step=purge_step)
        except (OSError, TypeError, ValueError) as error:
            raise ParameterError(
                "The `log_dir` of TensorBoard must be a folder that can be written. Got "
                f"{folder!r}: {error}"
            ) from error

    def _parameters(self, ctx: Context) -> Iterator[tuple[str, Any]]:
        parameters = dict(ctx.module.named_parameters())
        return ((name, parameters[name]) for name in matching(self.histograms, parameters))

    def _step(self, ctx: Context) -> int:
        return ctx.epoch if self.unit == "epoch" else ctx.global_step

    def _scalars(self, ctx: Context) -> None:
        for name, value in ctx.history[-1].items():
            if isinstance(value, Real) and name != "epoch":
                self.writer.add_scalar(name, float(value), self._step(ctx))
        self.written = ctx.epoch

    def _histogram(self, ctx: Context, tag: str, values: Any) -> None:
        if values.numel():
            self.writer.add_histogram(tag, values.detach(), self._step(ctx))


def _event_files(folder: str) -> list[str]:
    return [path.name for path in Path(folder).glob("events.out.tfevents.*")]


def _wait_for_a_later_name(files: list[str]) -> None:
    """Wait until the second is over in which a file began: within one they have no order."""
    while f"events.out.tfevents.{int(time.time()):010d}" == max(files)[:30]:
        time.sleep(0.02)


def _new_folder(parent: str) -> str:
    """Make a folder that no other fit has, not even one that began at the same moment."""
    name = time.strftime("%Y-%m-%d_%H-%M-%S")
    for n in count(1):
        folder = Path(parent, name if n == 1 else f"{name}_{n}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        break
    return str(folder)
