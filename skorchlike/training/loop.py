"""The training loop: the table of stages, as code.

It knows no concrete callback: who is called at which stage, and who provides each
action, was looked up before. An empty stage is not called at all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from skorchlike.exceptions import (
    CancelBatchException,
    CancelEpochException,
    CancelException,
    CancelFitException,
)
from skorchlike.training.batches import Batch, Data, batches_after, first_batches
from skorchlike.training.calls import (
    Call,
    Calls,
    explain,
    resolve_actions,
    resolve_stages,
    run_exits,
)
from skorchlike.training.context import Context
from skorchlike.training.fast import Path, choose_path
from skorchlike.training.interrupts import unbroken
from skorchlike.training.memory import note_out_of_memory
from skorchlike.training.modes import InEvalMode
from skorchlike.training.position import Position, Resumed
from skorchlike.training.records import Records
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
    resumed : Resumed or None
        Where an interrupted fit goes on.
    """

    def __init__(
        self,
        ctx: Context,
        train_data: Data,
        valid_data: Data | None = None,
        score: Score | None = None,
        valid_every: int = 1,
        states: dict[str, Any] | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        self.ctx, self.train_data, self.valid_data = ctx, train_data, valid_data
        self.valid_every = valid_every
        self.to_load = {} if states is None else states
        self.on = resolve_stages(ctx.callbacks, self.to_load)
        self.do = resolve_actions(ctx.callbacks, ctx.estimator)
        self.records = Records(ctx, score)
        self.states: dict[str, Any] = {}
        self.path = Path()
        self.last_graph: Tensor | None = None
        self.resumed, self.started, self.finished = resumed, 0.0, False

    # ------------------------------------------------------------------ levels

    def fit(self) -> None:
        """Run all epochs; afterwards `states` holds what the callbacks learned."""
        ctx, on = self.ctx, self.on
        error: BaseException | None = None
        try:
            try:
                self.run(on.on_begin)
                self.path = choose_path(self)
                if self.resumed is not None and not self.resumed.position.in_epoch:
                    self.put_back()
                while ctx.epoch < ctx.max_epochs and not ctx.terminate:
                    self.epoch()
                ended = "terminated" if ctx.terminate else "completed"
            except CancelFitException:
                ended = "cancelled"
            ctx.stop_reason = ctx.stop_reason or ended
            self.finished = True
            self.run_resumable(on.on_end)
            self.states = gather_states(ctx.callbacks, self.to_load)
        except BaseException as raised:
            error = ctx._interrupts.unmask(raised)
            if not isinstance(error, KeyboardInterrupt):
                ctx.stop_reason = "failed"
                note_out_of_memory(error, ctx)
                raise
            ctx.stop_reason = "interrupted"
            self.states = gather_states(ctx.callbacks, self.to_load, error)
            if error is raised:
                raise
            raise error from raised
        finally:
            try:
                self.leave(on.on_exit, error)
            finally:
                self.path.forget()
                error = None  # else its traceback and this frame keep one another alive

    def epoch(self) -> None:
        """Train, validate when it is due, close the epoch's record."""
        ctx, on = self.ctx, self.on
        self.started = time.perf_counter()
        ctx._epoch += 1
        ctx._history.append({"epoch": ctx._epoch})
        try:
            self.run(on.on_epoch_begin if self.resumed is None else self.resumed.on_epoch_begin)
            self.train_phase()
            self.run(on.on_before_valid)
            if self.validates():
                self.valid_phase()
        except CancelEpochException:
            pass
        ctx._history[-1]["duration"] = time.perf_counter() - self.started
        self.run_resumable(on.on_epoch_end)
        ctx._interrupts.raise_pending()

    def validates(self) -> bool:
        """Whether this epoch has a validation phase."""
        ctx = self.ctx
        last = ctx.terminate or ctx.epoch == ctx.max_epochs
        return self.valid_data is not None and (last or ctx.epoch % self.valid_every == 0)

    def train_phase(self) -> None:
        """Run all training batches and record their mean loss."""
        ctx, on, interrupts = self.ctx, self.on, self.ctx._interrupts
        error: BaseException | None = None
        ctx._training, ctx._step, ctx._n_steps = True, 0, self.train_data.n_batches
        self.records.train_loss.reset()
        try:
            resumed = self.resumed
            self.begin_phase(on.on_before_train if resumed is None else resumed.on_before_train)
            batches = self.train_batches()
            train_batch = self.path.begin(self)
            for batch in batches:
                train_batch(batch)
                if interrupts.pending:
                    interrupts.raise_pending()
            self.records.end_training()
            self.run(on.on_after_train)
        except (CancelException, KeyboardInterrupt) as cut:
            error = cut
            self.records.end_training()
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
        ctx, on, do, records = self.ctx, self.on, self.do, self.records
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
            ctx._last_loss = records.loss(records.train_loss, batch)
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
                self.leave_batch(error)
            error = None

    def valid_phase(self) -> None:
        """Run all validation batches without gradients and record loss and score."""
        ctx, on = self.ctx, self.on
        error: BaseException | None = None
        assert self.valid_data is not None
        ctx._step, ctx._n_steps = 0, self.valid_data.n_batches
        self.records.begin_validation()
        try:
            with torch.no_grad(), InEvalMode(ctx.module):
                self.begin_phase(on.on_valid_begin)
                for batch in first_batches(self.valid_data, ctx._limit):
                    self.valid_batch(batch)
                self.records.end_validation()
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
            self.records.loss(self.records.valid_loss, batch)
            self.records.update_score()
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
            self.tell(error, calls, call)
            raise

    def tell(self, error: BaseException, calls: Calls, call: Call) -> None:
        """Note on an error who raised it and where."""
        explain(error, calls, call, self.where())
        note_out_of_memory(error, self.ctx)

    def run_resumable(self, calls: Calls) -> None:
        """Call all who use a stage behind which a fit can go on another time."""
        self.ctx._resumable = True
        self.run(calls)
        self.ctx._resumable = False

    @unbroken
    def leave(self, calls: Calls, error: BaseException | None) -> None:
        """Call all who use an exit stage, also when some of them fail."""
        if calls:
            run_exits(calls, self.ctx, error, self.where())

    def leave_batch(self, error: BaseException | None) -> None:
        """Call all who use the exit of a training batch; all is complete if it ended well."""
        ctx = self.ctx
        ctx._resumable = error is None or isinstance(error, CancelBatchException)
        self.leave(self.on.on_batch_exit, error)
        ctx._resumable = False

    def where(self) -> str:
        """Epoch and batch, for notes on errors."""
        ctx = self.ctx
        batch = f", batch {ctx.step}" if ctx.step else ""
        return f", epoch {ctx.epoch}{batch}"

    # ---------------------------------------------------------------- resuming

    def position(self) -> Position:
        """Return where the fit is, to go on there another time."""
        return Position.of(self.ctx, self.records.train_loss, self.started, finished=self.finished)

    def train_batches(self) -> Iterator[Batch]:
        """Return the batches of this epoch, or those that an interrupted fit left of it."""
        ctx, resumed = self.ctx, self.resumed
        if resumed is None:
            return first_batches(self.train_data, ctx._limit)
        ctx._step = n_done = resumed.position.step
        self.records.train_loss.total = resumed.position.loss_total
        self.records.train_loss.weight = resumed.position.loss_weight
        self.started -= resumed.position.elapsed
        self.put_back()
        return batches_after(self.train_data, ctx._limit, resumed.data, n_done)

    def put_back(self) -> None:
        """Undo what the stages that ran again have changed: from here on all is as it was."""
        assert self.resumed is not None
        self.resumed.put_back(self.ctx)
        self.resumed = None

    # ----------------------------------------------------------------- batches

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
