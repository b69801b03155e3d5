"""Stop when a history column no longer improves."""

from __future__ import annotations

import copy
import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.tools.monitoring import check_monitor, direction
from skorchlike.exceptions import ParameterError

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context


class EarlyStopping(Callback):
    """Stop the fit when a monitored column of the history no longer improves.

    Parameters
    ----------
    monitor : str, default="valid_loss"
        A column of the history: the loop's own (``train_loss``, ``valid_loss``,
        ``valid_accuracy``, ``valid_r2``) or one that a callback names in its ``logs``.
    patience : int, default=5
        Stop after so many evaluations in a row without improvement. An evaluation is an
        epoch that has the column; with ``valid_every=2`` every second epoch counts.
        0 and 1 both stop at the first one that does not improve.
    min_delta : float, default=0.0
        An improvement must exceed this, in the column's own unit.
    mode : {"auto", "min", "max"}, default="auto"
        Whether lower or higher is better; ``"auto"`` tells by the column's name.
    restore_best : bool, default=True
        Whether module and criterion get back the weights of the best epoch when the fit
        ends.
        Nothing is restored after an interruption.

    Raises
    ------
    ParameterError
        Before training: if nothing produces the column, if there are no validation data
        for it, or if an argument is impossible.

    Notes
    -----
    A NaN counts as no improvement. The state holds ``best_score``, ``best_epoch`` and
    ``n_bad``, and while the fit runs the best weights. A fit that ended normally and is
    continued (``warm_start``) has its full patience again.

    The technique: L. Prechelt, "Early Stopping -- But When?", 1998.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import EarlyStopping, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     callbacks=[EarlyStopping(patience=3)], validation_fraction=0.2, random_state=0
    ... ).fit(X, y)
    >>> sorted(net.model_.callbacks_.early_stopping)
    ['best_epoch', 'best_score', 'best_weights', 'n_bad']
    """

    order = 100
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "monitor": [str],
        "patience": [Interval(Integral, 0, None, closed="left")],
        "min_delta": [Interval(Real, 0, None, closed="left")],
        "mode": [StrOptions({"auto", "min", "max"})],
        "restore_best": ["boolean"],
    }

    # what there is when the fit ends before on_begin
    best_score: float | None = None
    best_epoch: int | None = None
    best_weights: dict[str, Any] | None = None
    n_bad = 0
    one_of_many = False

    def __init__(
        self,
        monitor: str = "valid_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.mode = mode
        self.restore_best = restore_best

    def advise(self, setup: Setup) -> list[str]:
        """Say that the fit will not have the column."""
        try:
            check_monitor("EarlyStopping", self.monitor, setup.columns)
            direction("EarlyStopping", self.monitor, self.mode)
        except ParameterError as error:
            return [str(error)]
        return []

    def on_begin(self, ctx: Context) -> None:
        """Check the column against those that this fit will have."""
        check_monitor("EarlyStopping", self.monitor, ctx.columns)
        self.sign = 1 if direction("EarlyStopping", self.monitor, self.mode) == "min" else -1
        self.best_score = self.best_epoch = self.best_weights = None
        self.n_bad = 0
        # a call of partial_fit, or of a fit of one epoch in a loop: such calls count together
        self.one_of_many = ctx.max_epochs - ctx.start_epoch == 1

    def on_epoch_begin(self, ctx: Context) -> None:
        """After a normal end the module holds the best weights: keep them again."""
        if self.restore_best and self.best_epoch is not None and self.best_weights is None:
            self.best_weights = _weights(ctx)

    def on_epoch_end(self, ctx: Context) -> None:
        """Compare the column with the best so far."""
        if self.monitor not in ctx.history[-1]:
            return
        score = ctx.history[-1][self.monitor]
        best = math.inf if self.best_score is None else self.sign * self.best_score
        # false for NaN, which therefore counts as no improvement
        if self.sign * score < best - self.min_delta:
            self.best_score, self.best_epoch, self.n_bad = score, ctx.epoch, 0
            if self.restore_best:
                self.best_weights = _weights(ctx)
            return
        self.n_bad += 1
        if self.n_bad >= self.patience:
            ctx.terminate = True
            ctx.stop_reason = "early_stopping"

    def on_end(self, ctx: Context) -> None:
        """Give the module the best weights."""
        if self.one_of_many and ctx.stop_reason != "early_stopping":
            return
        if self.restore_best and self.best_weights is not None:
            ctx.module.load_state_dict(self.best_weights["module"])
            ctx.criterion.load_state_dict(self.best_weights["criterion"])
        # they are in the module now: a second copy would only make the model larger
        self.best_weights = None
        self.n_bad = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and epoch, and what a continued fit needs."""
        names = ("best_score", "best_epoch", "best_weights", "n_bad")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier fit."""
        for name, value in state.items():
            setattr(self, name, value)


def _weights(ctx: Context) -> dict[str, Any]:
    state = {"module": ctx.module.state_dict(), "criterion": ctx.criterion.state_dict()}
    return copy.deepcopy(state)
