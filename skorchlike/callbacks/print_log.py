"""Print the history, a line an epoch."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import Interval

from skorchlike.callbacks.base import Callback

if TYPE_CHECKING:
    from skorchlike.training.context import Context


LAST = ("lr", "duration")  # the least news


class PrintLog(Callback):
    """Print the record of each epoch as a line of a table.

    An estimator with ``verbose=1`` adds it by itself.

    Parameters
    ----------
    sink : callable, default=print
        Called with each line, such as ``logging.getLogger("fit").info``.
    digits : int, default=4
        Significant digits of the numbers.

    Notes
    -----
    The columns are those of the history. Where a column comes in later (validation
    every second epoch), the header is printed again.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NeuralNetClassifier, PrintLog
    >>> X, y = load_iris(return_X_y=True)
    >>> lines = []
    >>> net = NeuralNetClassifier(max_epochs=2, callbacks=[PrintLog(sink=lines.append)])
    >>> lines[0].split() if net.fit(X, y) else None
    ['epoch', 'train_loss', 'lr', 'duration']
    """

    order = 200
    passive = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "sink": [callable],
        "digits": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, sink: Callable[[str], Any] = print, digits: int = 4) -> None:
        self.sink = sink
        self.digits = digits

    def on_begin(self, ctx: Context) -> None:
        """Start a new table."""
        self.columns: list[str] = []

    def on_epoch_end(self, ctx: Context) -> None:
        """Print the epoch's line, and the header where it changed."""
        record = {**ctx.history[-1]}
        if not set(record) <= set(self.columns):
            names = dict.fromkeys([*self.columns, *record])
            self.columns = [name for name in names if name not in LAST]
            self.columns += [name for name in LAST if name in names]
            self.sink("  ".join(name.rjust(self._width(name)) for name in self.columns))
        cells = (self._cell(record.get(name)).rjust(self._width(name)) for name in self.columns)
        self.sink("  ".join(cells))

    def _width(self, name: str) -> int:
        return max(len(name), self.digits + 6)

    def _cell(self, value: Any) -> str:
        if value is None:
            return "-"
        return f"{value:.{self.digits}g}" if isinstance(value, float) else str(value)
