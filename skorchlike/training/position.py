"""Where a fit is, so that it can go on there another time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skorchlike.training.calls import Calls, resolve_stages

if TYPE_CHECKING:
    from skorchlike.training.context import Context
    from skorchlike.training.losses import RunningLoss


@dataclass
class Position:
    """Where a fit is: after a training batch, after an epoch, or at its end.

    Attributes
    ----------
    epoch : int
        The epoch that is under way or was the last.
    in_epoch : bool
        Whether it is under way: after a training batch, before its validation.
    step, global_step : int
        Training batches done of the epoch that is under way, and of all epochs.
    loss_total, loss_weight : float
        The losses of those batches, and what they are divided by.
    last_loss : float
        The last training loss.
    terminate : bool
        Whether the fit ends after this epoch.
    stop_reason : str or None
        Why the fit ended or is to end.
    finished : bool
        Whether the fit has come to its end.
    elapsed : float
        Seconds spent in the epoch that is under way.
    """

    epoch: int
    in_epoch: bool
    step: int
    global_step: int
    loss_total: float
    loss_weight: float
    last_loss: float
    terminate: bool
    stop_reason: str | None
    finished: bool
    elapsed: float

    @classmethod
    def of(cls, ctx: Context, loss: RunningLoss, started: float, *, finished: bool) -> Position:
        """Read it from a context."""
        in_epoch = ctx.training
        total, weight = loss.sums() if in_epoch else (0.0, 0.0)
        return cls(
            epoch=ctx.epoch,
            in_epoch=in_epoch,
            step=ctx.step if in_epoch else 0,
            global_step=ctx.global_step,
            loss_total=total,
            loss_weight=weight,
            last_loss=ctx.last_loss,
            terminate=bool(ctx.terminate),
            stop_reason=ctx.stop_reason,
            finished=finished,
            elapsed=time.perf_counter() - started if in_epoch else 0.0,
        )

    @property
    def n_complete(self) -> int:
        """How many epochs are complete."""
        return self.epoch - self.in_epoch


class Resumed:
    """An interrupted fit that goes on: what the loop puts back, and when.

    In the middle of an epoch the stages ``on_epoch_begin`` and ``on_before_train`` run again:
    what callbacks make there must exist. Each callback's state is loaded anew right after its
    own call. What these stages changed of everything else is then put back.

    Parameters
    ----------
    position : Position
        Where the fit was.
    data : object
        What the pass that was under way began with.
    record : dict
        The history's record of the epoch that is under way.
    callbacks : mapping
        Name → callback, in the order in which they run.
    states : mapping
        Name → state of the callback.
    restore : callable
        Puts back module, criterion, optimizer, gradients and random generators.
    """

    def __init__(
        self,
        position: Position,
        data: Any,
        record: Mapping[str, Any],
        callbacks: Mapping[str, Any],
        states: Mapping[str, Any],
        restore: Callable[[], None],
    ) -> None:
        self.position, self.data, self.record, self.restore = position, data, record, restore
        names = ("on_epoch_begin", "on_before_train")
        again = resolve_stages(callbacks, dict(states), names, load_after=names)
        self.on_epoch_begin: Calls = again.on_epoch_begin
        self.on_before_train: Calls = again.on_before_train

    def put_back(self, ctx: Context) -> None:
        """Put everything back as it was."""
        position = self.position
        if position.in_epoch:
            ctx._history[-1].clear()
            ctx._history[-1].update(self.record)
        self.restore()
        ctx._global_step, ctx._last_loss = position.global_step, position.last_loss
        ctx.terminate = ctx.terminate or position.terminate
        ctx.stop_reason = ctx.stop_reason or position.stop_reason
