"""Ends the fit after a time."""

from __future__ import annotations

import time
from datetime import timedelta
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import CancelEpochException, ParameterError

if TYPE_CHECKING:
    from skorchlike.training.context import Context


class TimeLimit(Callback):
    """End the fit, normally, once it has taken a given time.

    Parameters
    ----------
    seconds : float or datetime.timedelta
        The limit, counted from ``on_begin``. It is looked at after batches and phases, so
        a fit takes longer by what was under way and by its last validation.
    when : {"batch", "epoch"}, default="batch"
        ``"batch"``: the batch under way is the last one trained. ``"epoch"``: the epoch
        under way is trained to its end.

    Raises
    ------
    ParameterError
        Before training, if `seconds` is not positive.

    Notes
    -----
    Validation of the last epoch and its ``on_epoch_end`` take place in either case, and
    ``model_.stop_reason_`` is ``"time_limit"``. The clock is monotonic: setting the
    computer's time changes nothing. A fit that goes on to the same last epoch after an
    interruption has what was left of the time; one that is given further epochs
    (``warm_start``, ``partial_fit``) has the whole time again. How many epochs a limit
    leaves is not known before, so a schedule over the whole fit is cut off where the fit ends.

    The idea: ``Timer`` of PyTorch Lightning.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NeuralNetClassifier, TimeLimit
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(max_epochs=10**6, callbacks=[TimeLimit(0.05)], random_state=0)
    >>> net.fit(X, y).model_.stop_reason_
    'time_limit'
    """

    order = 60
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "seconds": [Interval(Real, 0, None, closed="neither"), timedelta],
        "when": [StrOptions({"batch", "epoch"})],
    }

    # what there is when the fit ends before on_begin
    spent: float | None = None
    last_epoch = 0

    def __init__(self, seconds: float | timedelta, when: str = "batch") -> None:
        self.seconds = seconds
        self.when = when

    @property
    def idle_stages(self) -> tuple[str, ...]:
        """The end of a batch, if an epoch is trained to its end."""
        return () if self.when == "batch" else ("on_batch_end",)

    def on_begin(self, ctx: Context) -> None:
        """Start the clock."""
        limit = self.seconds
        limit = limit.total_seconds() if isinstance(limit, timedelta) else float(limit)
        if not limit > 0:
            raise ParameterError(
                f"The 'seconds' parameter of TimeLimit must be a positive time. Got {limit} s."
            )
        self.begun = time.monotonic()
        self.deadline = self.begun + limit
        self.spent, self.last_epoch = 0.0, ctx.max_epochs

    def on_batch_end(self, ctx: Context) -> None:
        """Leave out the rest of the training phase."""
        if self.when == "batch" and self._is_over(ctx) and not ctx.is_last_batch:
            raise CancelEpochException

    def on_before_valid(self, ctx: Context) -> None:
        """Say it before validation: the last epoch is always validated."""
        self._is_over(ctx)

    def on_epoch_end(self, ctx: Context) -> None:
        """Look again: validation takes time too."""
        self._is_over(ctx)

    def on_end(self, ctx: Context) -> None:
        """Let a fit that continues this one have the whole time."""
        self.spent = None

    def state_dict(self) -> dict[str, Any] | None:
        """Return the seconds spent so far, while the fit runs."""
        if self.spent is None:
            return None
        return {"spent": self.spent, "last_epoch": self.last_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Count what was spent by the fit that now goes on to the same last epoch."""
        if state["last_epoch"] == self.last_epoch:
            # from here on both are counted from a beginning so much earlier
            earlier, self.spent = state["spent"] - (self.spent or 0.0), state["spent"]
            self.begun, self.deadline = self.begun - earlier, self.deadline - earlier

    def _is_over(self, ctx: Context) -> bool:
        now = time.monotonic()
        self.spent, over = now - self.begun, now >= self.deadline
        if over and not ctx.terminate:
            ctx.terminate = True
            ctx.stop_reason = "time_limit"
        return over
