"""Draws the losses while the fit runs."""

from __future__ import annotations

import importlib
import io
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import Interval

from skorchlike.callbacks.base import Callback, Setup
from skorchlike.callbacks.tools.monitoring import check_monitor
from skorchlike.exceptions import ParameterError, import_extra

if TYPE_CHECKING:
    from skorchlike.training.context import Context

COLOURS = {"train": "#0072B2", "valid": "#D55E00"}  # told apart by the colour-blind too


class LivePlot(Callback):
    """Draw columns of the history while the fit runs, in a notebook or to a file.

    In a notebook one display is drawn anew; elsewhere only the file of `path` is.

    Parameters
    ----------
    columns : str or sequence of str, default="auto"
        Columns of the history. Those that differ in ``train_`` and ``valid_`` alone share a
        panel. ``"auto"`` is ``train_loss``, and ``valid_loss`` where there is one.
    every : int, default=1
        Draw after every so many epochs.
    min_interval : float, default=1.0
        Least time between two drawings, in seconds. When the fit ends, however it ends, the
        last epochs are drawn.
    path : str, path-like, callable or None, default=None
        A file that is written at each drawing, of a type that matplotlib knows by its ending;
        missing folders are made. A function is called with the context and returns it.

    Raises
    ------
    ImportError
        At fit, if matplotlib is not installed (the extra ``plot``).
    ParameterError
        Before training, if nothing records a column, or the file cannot be written.

    Notes
    -----
    A fit that is continued shows the epochs before it too. pyplot and its figures are not
    touched. A live plot of this kind is in fastai (``ShowGraphCallback``).

    Examples
    --------
    >>> from skorchlike import LivePlot, NeuralNetClassifier
    >>> net = NeuralNetClassifier(callbacks=[LivePlot(path="losses.png")])
    """

    order = 210
    passive = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "columns": [str, list, tuple],
        "every": [Interval(Integral, 1, None, closed="left")],
        "min_interval": [Interval(Real, 0, None, closed="left")],
        "path": [str, os.PathLike, callable, None],
    }

    _figure: Any = None

    def __init__(
        self,
        columns: str | Sequence[str] = "auto",
        every: int = 1,
        min_interval: float = 1.0,
        path: str | os.PathLike[str] | Callable[..., Any] | None = None,
    ) -> None:
        self.columns = columns
        self.every = every
        self.min_interval = min_interval
        self.path = path

    def advise(self, setup: Setup) -> list[str]:
        """Say that nothing will be seen."""
        if self.path is not None or _notebook() is not None:
            return []
        return ["LivePlot has nowhere to draw, since this is no notebook. Give it a path."]

    def on_begin(self, ctx: Context) -> None:
        """Prepare figure and file."""
        columns = _check_columns(self.columns, ctx.columns)
        library = import_extra("matplotlib.figure", "plot", "The callback LivePlot")
        self._notebook, self._handle, self._file = _notebook(), None, None
        figure = library.Figure()
        if self.path is not None:
            path = self.path(ctx) if callable(self.path) else self.path
            self._file = _check_file(path, figure.canvas.get_supported_filetypes())
        if self._notebook is not None or self._file is not None:
            self._lines = _panels(figure, columns)
            self._drawn_at, self._due = -math.inf, bool(ctx.history)
            self._figure = figure

    def on_epoch_end(self, ctx: Context) -> None:
        """Draw, if it is time."""
        if self._figure is None:
            return
        self._due = True
        waited = time.monotonic() - self._drawn_at
        if ctx.epoch % self.every == 0 and waited >= self.min_interval:
            self._draw(ctx.history)

    def on_exit(self, ctx: Context) -> None:
        """Draw the last epochs, and let go of the figure: it could not be copied."""
        try:
            if self._figure is not None and self._due:
                self._draw(ctx.history)
        finally:
            for name in ("_figure", "_lines", "_notebook", "_handle"):
                self.__dict__.pop(name, None)

    def _draw(self, history: list[dict[str, Any]]) -> None:
        for column, line in self._lines.items():
            known = [record for record in history if _is_number(record.get(column))]
            line.set_data([r["epoch"] for r in known], [r[column] for r in known])
            if known:
                line.set_label(f"{column} = {known[-1][column]:.4g}")
        for axes in self._figure.axes:
            axes.relim()
            axes.autoscale_view()
            axes.legend()
        if self._file is not None:
            # whole files alone are to be seen by who looks at them meanwhile
            part = self._file.with_name(f"{self._file.stem}.{os.getpid()}.part{self._file.suffix}")
            try:
                self._figure.savefig(part)
                part.replace(self._file)
            finally:
                part.unlink(missing_ok=True)
        if self._notebook is not None:
            self._show()
        self._drawn_at, self._due = time.monotonic(), False

    def _show(self) -> None:
        png = io.BytesIO()
        self._figure.savefig(png, format="png")
        image = self._notebook.Image(png.getvalue())
        if self._handle is None:
            self._handle = self._notebook.display(image, display_id=True)
        else:
            self._handle.update(image)


def _notebook() -> Any:
    """Return ``IPython.display`` in a notebook, else None."""
    ipython = sys.modules.get("IPython")
    if ipython is None or getattr(ipython.get_ipython(), "kernel", None) is None:
        return None
    return importlib.import_module("IPython.display")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _check_columns(said: str | Sequence[str], known: Collection[str]) -> list[str]:
    if said == "auto":
        return [name for name in ("train_loss", "valid_loss") if name in known]
    columns = [said] if isinstance(said, str) else list(said)
    if not columns or not all(isinstance(name, str) for name in columns):
        raise ParameterError(
            "The 'columns' parameter of LivePlot must name one or more columns of the history, "
            f"such as ('train_loss', 'valid_accuracy'). Got {said!r}."
        )
    for name in columns:
        check_monitor("LivePlot", name, known)
    return list(dict.fromkeys(columns))


def _check_file(path: Any, types: Collection[str]) -> Path:
    try:
        file = Path(path).absolute()  # the working folder may change
        if file.suffix.lower().removeprefix(".") not in types:
            raise ValueError(f"it must end in one of {', '.join(sorted(types))}")
        file.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, TypeError, ValueError) as error:
        raise ParameterError(
            f"The `path` of LivePlot must be an image file that can be written. Got {path!r}: "
            f"{error}"
        ) from error
    return file


def _panels(figure: Any, columns: Sequence[str]) -> dict[str, Any]:
    """Make a panel for each quantity; return the line of each column."""
    panels: dict[str, list[str]] = {}
    for name in columns:
        panels.setdefault(name.removeprefix("train_").removeprefix("valid_"), []).append(name)
    n_wide = min(len(panels), 3)
    n_high = -(-len(panels) // n_wide)
    width, height = max(5.0, 3.5 * n_wide), 3.0 * n_high
    figure.set_size_inches(width, height)
    # in inches; a layout engine would double the time of each drawing
    figure.subplots_adjust(
        0.75 / width, 0.5 / height, 1 - 0.1 / width, 1 - 0.1 / height, wspace=0.3, hspace=0.3
    )
    lines = {}
    for place, (quantity, names) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(n_high, n_wide, place, xlabel="epoch", ylabel=quantity)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        for name in names:
            colour = COLOURS.get(name.partition("_")[0])  # None is one of matplotlib's
            (lines[name],) = axes.plot([], [], label=name, marker=".", color=colour)
    return lines
