"""What the loop itself writes down of each epoch: losses, score, learning rate."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from torch import Tensor

from skorchlike.exceptions import ParameterError
from skorchlike.training.batches import Batch
from skorchlike.training.losses import RunningLoss
from skorchlike.training.scores import Score

if TYPE_CHECKING:
    from skorchlike.training.context import Context


class Records:
    """The means of the losses of both phases, and the score, put into the epoch's record.

    Parameters
    ----------
    ctx : Context
        Has the history.
    score : Score or None
        What is computed beside the validation loss.
    """

    def __init__(self, ctx: Context, score: Score | None) -> None:
        self.ctx, self.score = ctx, score
        adds_up = ctx._loss_function is not None and ctx._loss_function.adds_up
        self.train_loss, self.valid_loss = RunningLoss(adds_up), RunningLoss(adds_up)
        self.counts_rows = ctx._loss_function is None or ctx._loss_function.counts_rows

    def begin_validation(self) -> None:
        """Forget the validation before."""
        self.valid_loss.reset()
        if self.score is not None:
            self.score.reset()

    def loss(self, running: RunningLoss, batch: Batch) -> Tensor:
        """Add the batch's loss, without its graph, to a phase's mean."""
        ctx = self.ctx
        loss = ctx.loss
        if not isinstance(loss, Tensor) or loss.ndim:
            got = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            raise ParameterError(
                "After the action get_loss, ctx.loss must be a tensor of shape (), such as "
                f"a criterion with reduction='mean' returns. Got {got}."
            )
        loss = loss.detach()
        weight: Any = batch[4]
        if not self.counts_rows or ctx.sample_weight is not None:
            weight = ctx._loss_function.total_weight(ctx.y, ctx.sample_weight)
        running.add(loss, weight)
        return loss

    def update_score(self) -> None:
        """Add the batch to the score, if there is one and the outputs suit it."""
        ctx, score = self.ctx, self.score
        if score is None:
            return
        if score.suits(ctx.y_pred, ctx.y):
            score.update(ctx.y_pred, ctx.y, ctx.sample_weight)
            return
        self.score = None
        warnings.warn(
            f"valid_{score.name} is left out: it cannot be told of the module's outputs. A "
            "callback can ctx.log a score of its own.",
            stacklevel=2,
        )

    def end_training(self) -> None:
        """Put the mean training loss and the learning rate into the epoch's record."""
        ctx = self.ctx
        mean = self.train_loss.mean()
        if mean is not None:
            ctx._history[-1]["train_loss"] = mean
        if ctx.optimizer is not None:
            ctx._history[-1]["lr"] = float(ctx.optimizer.param_groups[0].get("lr", "nan"))

    def end_validation(self) -> None:
        """Put the mean validation loss and the score into the epoch's record."""
        mean = self.valid_loss.mean()
        if mean is None:
            return
        record = self.ctx._history[-1]
        record["valid_loss"] = mean
        if self.score is not None:
            record[f"valid_{self.score.name}"] = self.score.compute()
