"""Write the history to a CSV file, a row an epoch."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError

if TYPE_CHECKING:
    from skorchlike.training.context import Context

FIRST = ("epoch", "train_loss", "valid_loss")
LAST = ("lr", "duration")


class CSVLogger(Callback):
    """Write the record of each epoch to a CSV file.

    Parameters
    ----------
    path : str, path-like or callable, default="history.csv"
        The file; missing folders are made. A function is called once a fit with the
        context and returns the file, such as ``lambda ctx: f"lr_{ctx.estimator.lr}.csv"``:
        the fits of a search would else write to one file.

    Raises
    ------
    ParameterError
        Before training, if the file cannot be written.

    Notes
    -----
    A new fit starts the file anew. A fit that is continued (``warm_start``,
    ``partial_fit``) first writes the epochs before it, as its history holds them: the
    file never has an epoch twice. The file is closed between the epochs, so a fit that is
    killed leaves whole rows; resumed, it drops those of the epochs that are trained again.
    When the fit ends, however it ends, the file holds the columns and rows of ``history_``;
    also an epoch cut off and what callbacks of a higher order logged at its end.

    The state is the absolute path: ``model_.callbacks_.csv_logger["file"]``.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import CSVLogger, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     logger = CSVLogger(f"{folder}/iris.csv")
    ...     net = NeuralNetClassifier(max_epochs=3, callbacks=[logger]).fit(X, y)
    ...     pd.read_csv(logger.path).equals(net.history_)
    True
    """

    order = 210
    passive = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {"path": [str, os.PathLike, callable]}

    # what there is when the fit ends before on_begin
    file: str | None = None
    columns: tuple[str, ...] | None = None

    def __init__(self, path: str | os.PathLike[str] | Callable[..., Any] = "history.csv") -> None:
        self.path = path

    def on_begin(self, ctx: Context) -> None:
        """Forget the file; which it is may come from the fit that is continued."""
        self.file = self.columns = None

    def on_epoch_begin(self, ctx: Context) -> None:
        """Start the file, with the rows of the epochs before this fit."""
        if self.columns is None:
            self._start(ctx, ctx.history[:-1])

    def on_epoch_end(self, ctx: Context) -> None:
        """Add a row; a column that nobody had announced needs the file anew."""
        self.on_epoch_begin(ctx)  # not called when an earlier callback cancelled the epoch
        if set(ctx.history[-1]) <= set(self.columns or ()):
            with open(str(self.file), "a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, self.columns or ()).writerow(ctx.history[-1])
        else:
            self._write(ctx.history, ctx.columns)

    def on_end(self, ctx: Context) -> None:
        """Go on with the file of a fit that was killed when all its epochs were trained."""
        if self.columns is None and self.file is not None:
            self._start(ctx, ctx.history)

    def on_exit(self, ctx: Context) -> None:
        """Write the file as ``history_`` is in the end."""
        if self.columns is not None:
            self._write(ctx.history)

    def state_dict(self) -> dict[str, Any] | None:
        """Return where the file is."""
        return None if self.file is None else {"file": self.file}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the file of an earlier fit; a path that was said since wins."""
        self.file = state["file"]

    def _start(self, ctx: Context, records: list[dict[str, Any]]) -> None:
        path: Any = self.path
        if callable(self.path):
            path = self.path(ctx) if self.file is None else self.file
        try:
            self.file = os.path.realpath(path)  # the working folder may change
            Path(self.file).parent.mkdir(parents=True, exist_ok=True)
            self._write(records, ctx.columns)
        except (OSError, TypeError, ValueError) as error:
            raise ParameterError(
                f"The `path` of CSVLogger must be a file that can be written. Got {path!r}: {error}"
            ) from error

    def _write(self, records: list[dict[str, Any]], announced: Iterable[str] = ()) -> None:
        """Write a whole file and put it in the place of the old one at once."""
        names = dict.fromkeys([*announced, *(name for record in records for name in record)])
        middle = [name for name in names if name not in FIRST + LAST]
        columns = (*(n for n in FIRST if n in names), *middle, *(n for n in LAST if n in names))
        part = Path(f"{self.file}.{os.getpid()}.part")
        try:
            with part.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(records)
            part.replace(str(self.file))
        finally:
            part.unlink(missing_ok=True)
        self.columns = columns
