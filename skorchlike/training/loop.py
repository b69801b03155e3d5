"""The training loop: the table of stages, as code.

It knows no concrete callback: who is called at which stage, and who provides each
action, was looked up before. An empty stage is not called at all.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import torch
from torch import Tensor

from skorchlike.exceptions import (
    CancelBatchException,
    CancelEpochException,
    CancelException,
    CancelFitException,
    ParameterError,
)
from skorchlike.training.batches import Batch, Data, first_batches
from skorchlike.training.calls import Calls, explain, resolve_actions, resolve_stages, run_exits
from skorchlike.training.context import Context
from skorchlike.training.losses import RunningLoss
from skorchlike.training.modes import InEvalMode
from skorchlike.training.scores import Score
from skorchlike.training.states import gather_states


class Loop:
    """One fit.

    Parameters
    ----------
    ctx : Context
        What the callbacks see; its ``callbacks`` are those that run.
    train_data : Data
        The training batches.
    valid_data : Data or None
        The validation batches.
    score : Score or None
        What is computed beside the validation loss.
    valid_every : int
        Validate after every so many epochs, and after the last.
    states : dict or None
        Callback states of the fit that is continued, by name.
    """

    def __init__(
        self,
        ctx: Context,
        train_data: Data,
        valid_data: Data | None = None,
        score: Score | None = None,
        valid_every: int = 1,
        states: dict[str, Any] | None = None,
    ) -> None:
        self.ctx, self.train_data, self.valid_data = ctx, train_data, valid_data
        self.score, self.valid_every = score, valid_every
        self.to_load = {} if states is None else states
        self.on = resolve_stages(ctx.callbacks, self.to_load)
        self.do = resolve_actions(ctx.callbacks, ctx.estimator)
        adds_up = ctx._loss_function is not None and ctx._loss_function.adds_up
        self.train_loss, self.valid_loss = RunningLoss(adds_up), RunningLoss(adds_up)
        self.counts_rows = ctx._loss_function is None or ctx._loss_function.counts_rows
        self.states: dict[str, Any] = {}
        self.last_graph: Tensor | None = None

    # ------------------------------------------------------------------ levels

    def fit(self) -> None:
        """Run all epochs; afterwards `states` holds what the callbacks learned."""
        ctx, on = self.ctx, self.on
        error: BaseException | None = None
        try:
            try:
                self.run(on.on_begin)
                while ctx.epoch < ctx.max_epochs and not ctx.terminate:
                    self.epoch()
                ended = "terminated" if ctx.terminate else "completed"
            except CancelFitException:
                ended = "cancelled"
            ctx.stop_reason = ctx.stop_reason or ended
            self.run(on.on_end)
            self.states = gather_states(ctx.callbacks, self.to_load)
        except KeyboardInterrupt as interrupt:
            error, ctx.stop_reason = interrupt, "interrupted"
            self.states = gather_states(ctx.callbacks, self.to_load, interrupt)
            raise
        except BaseException as other:
            error, ctx.stop_reason = other, "failed"
            raise
        finally:
            self.leave(on.on_exit, error)
            error = None  # else its traceback and this frame keep one another alive

    def epoch(self) -> None:
        """Train, validate when it is due, close the epoch's record."""
        ctx, on = self.ctx, self.on
        started = time.perf_counter()
        ctx._epoch += 1
        ctx._history.append({"epoch": ctx._epoch})
        try:
            self.run(on.on_epoch_begin)
            self.train_phase()
            self.run(on.on_before_valid)
            if self.validates():
                self.valid_phase()
        except CancelEpochException:
            pass
        ctx._history[-1]["duration"] = time.perf_counter() - started
        self.run(on.on_epoch_end)

    def validates(self) -> bool:
        """Whether this epoch has a validation phase."""
        ctx = self.ctx
        last = ctx.terminate or ctx.epoch == ctx.max_epochs
        return self.valid_data is not None and (last or ctx.epoch % self.valid_every == 0)

    def train_phase(self) -> None:
        """Run all training batches and record their mean loss."""
        ctx, on = self.ctx, self.on
        error: BaseException | None = None
        ctx._training, ctx._step, ctx._n_steps = True, 0, self.train_data.n_batches
        self.train_loss.reset()
        try:
            self.begin_phase(on.on_before_train)
            for batch in first_batches(self.train_data, ctx._limit):
                self.train_batch(batch)
            self.record_training()
            self.run(on.on_after_train)
        except (CancelException, KeyboardInterrupt) as cut:
            error = cut
            self.record_training()
            if not isinstance(cut, CancelEpochException):
                raise
        except BaseException as other:
            error = other
            raise
        finally:
            self.forget_batch()
            self.leave(on.on_phase_exit, error)
            ctx._training, error = False, None

    def train_batch(self, batch: Batch) -> None:
        """Run one training batch: the five actions and the stages around them."""
        ctx, on, do = self.ctx, self.on, self.do
        error: BaseException | None = None
        self.take(batch)
        ctx._global_step += 1
        ctx._skip, ctx._can_skip, to_zero = False, True, False
        try:
            if on.on_batch_begin:
                self.run(on.on_batch_begin)
            self.run(do.predict)
            if on.on_after_predict:
                self.run(on.on_after_predict)
            self.run(do.get_loss)
            if on.on_after_loss:
                self.run(on.on_after_loss)
            ctx._last_loss = self.record_loss(self.train_loss, batch)
            if on.on_before_backward:
                self.run(on.on_before_backward)
            self.run(do.backward)
            if on.on_after_backward:
                self.run(on.on_after_backward)
            ctx._can_skip = False
            if not ctx._skip:
                if on.on_before_step:
                    self.run(on.on_before_step)
                self.run(do.step)
                to_zero = True
                if on.on_after_step:
                    self.run(on.on_after_step)
            if on.on_batch_end:
                self.run(on.on_batch_end)
            if to_zero:
                to_zero = False
                self.run(do.zero_grad)
        except (CancelException, KeyboardInterrupt) as cut:
            error = cut
            if to_zero:
                self.run(do.zero_grad)
            if not isinstance(cut, CancelBatchException):
                raise
        except BaseException as other:
            error = other
            raise
        finally:
            ctx._can_skip = False
            if on.on_batch_exit:
                self.leave(on.on_batch_exit, error)
            error = None

    def valid_phase(self) -> None:
        """Run all validation batches without gradients and record loss and score."""
        ctx, on = self.ctx, self.on
        error: BaseException | None = None
        assert self.valid_data is not None
        ctx._step, ctx._n_steps = 0, self.valid_data.n_batches
        self.valid_loss.reset()
        if self.score is not None:
            self.score.reset()
        try:
            with torch.no_grad(), InEvalMode(ctx.module):
                self.begin_phase(on.on_valid_begin)
                for batch in first_batches(self.valid_data, ctx._limit):
                    self.valid_batch(batch)
                self.record_validation()
            self.run(on.on_valid_end)
        except CancelEpochException as cut:
            error = cut
        except BaseException as other:
            error = other
            raise
        finally:
            self.forget_batch()
            self.leave(on.on_phase_exit, error)
            error = None

    def valid_batch(self, batch: Batch) -> None:
        """Run one validation batch: predict and get_loss, and the stages around them."""
        on, do = self.on, self.do
        error: BaseException | None = None
        self.take(batch)
        try:
            if on.on_batch_valid_begin:
                self.run(on.on_batch_valid_begin)
            self.run(do.predict)
            if on.on_batch_valid_after_predict:
                self.run(on.on_batch_valid_after_predict)
            self.run(do.get_loss)
            if on.on_batch_valid_after_loss:
                self.run(on.on_batch_valid_after_loss)
            self.record_loss(self.valid_loss, batch)
            self.update_score()
            if on.on_batch_valid_end:
                self.run(on.on_batch_valid_end)
        except CancelBatchException as cut:
            error = cut
        except BaseException as other:
            error = other
            raise
        finally:
            if on.on_batch_exit:
                self.leave(on.on_batch_exit, error)
            error = None

    # ------------------------------------------------------------------- calls

    def begin_phase(self, calls: Calls) -> None:
        """Call all who use the first stage of a phase; there its batches may be limited."""
        ctx = self.ctx
        ctx._limit, ctx._can_limit = None, True
        try:
            self.run(calls)
        finally:
            ctx._can_limit = False

    def run(self, calls: Calls) -> None:
        """Call all who use a stage; an error is noted with who raised it and where."""
        ctx = self.ctx
        try:
            for call in calls:
                call(ctx)
        except BaseException as error:
            explain(error, calls, call, self.where())
            raise

    def leave(self, calls: Calls, error: BaseException | None) -> None:
        """Call all who use an exit stage, also when some of them fail."""
        if calls:
            run_exits(calls, self.ctx, error, self.where())

    def where(self) -> str:
        """Epoch and batch, for notes on errors."""
        ctx = self.ctx
        batch = f", batch {ctx.step}" if ctx.step else ""
        return f", epoch {ctx.epoch}{batch}"

    # ----------------------------------------------------------------- records

    def take(self, batch: Batch) -> None:
        """Show a batch in the context."""
        ctx = self.ctx
        # held until the next graph stands: autograd then reuses the nodes at the parameters
        self.last_graph = ctx.loss
        ctx._step += 1
        ctx.X, ctx.y, ctx.sample_weight, ctx._index, _, ctx._is_last_batch = batch
        ctx.y_pred = ctx.loss = None

    def forget_batch(self) -> None:
        """Let go of the last batch and its graph, so that they hold no memory."""
        ctx = self.ctx
        ctx.X = ctx.y = ctx.sample_weight = ctx.y_pred = ctx.loss = ctx._index = None
        self.last_graph = None
        ctx._step = 0

    def record_loss(self, running: RunningLoss, batch: Batch) -> Tensor:
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

    def record_training(self) -> None:
        """Put the mean training loss and the learning rate into the epoch's record."""
        ctx = self.ctx
        mean = self.train_loss.mean()
        if mean is not None:
            ctx._history[-1]["train_loss"] = mean
        if ctx.optimizer is not None:
            ctx._history[-1]["lr"] = float(ctx.optimizer.param_groups[0].get("lr", "nan"))

    def record_validation(self) -> None:
        """Put the mean validation loss and the score into the epoch's record."""
        mean = self.valid_loss.mean()
        if mean is None:
            return
        record = self.ctx._history[-1]
        record["valid_loss"] = mean
        if self.score is not None:
            record[f"valid_{self.score.name}"] = self.score.compute()
