"""scikit-learn's own callback protocol: the fit and its epochs as tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skorchlike.callbacks.base import Callback

if TYPE_CHECKING:
    from skorchlike.training.context import Context


class SklearnTasks(Callback):
    """Tell callbacks set by ``set_callbacks`` of the fit and of each epoch.

    The estimator adds it by itself when there are such callbacks. A task context stays
    in memory for the whole fit, so there is one an epoch and never one a batch.

    Parameters
    ----------
    task : sklearn.callback.CallbackContext
        The task of the whole fit.
    data : dict
        ``X``, ``y`` and ``metadata``, as the hooks receive them.
    view : callable
        Returns the `TrainedModel` as it is now, for ``fitted_estimator``.
    """

    order = 900
    begun = False  # whether the task of the fit has begun
    epoch: Any = None  # the task of the epoch, while there is one

    def __init__(self, task: Any, data: dict[str, Any], view: Any) -> None:
        self.task = task
        self.data = data
        self.view = view

    def on_begin(self, ctx: Context) -> None:
        """Begin the task of the fit."""
        self.begun = True
        self.task.call_on_fit_task_begin(estimator=ctx.estimator, **self.data)

    def on_epoch_begin(self, ctx: Context) -> None:
        """Begin the task of the epoch."""
        self.epoch = self.task.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(estimator=ctx.estimator, **self.data)

    def on_epoch_end(self, ctx: Context) -> None:
        """End the task of the epoch; a callback that returns true ends the fit."""
        if self.epoch is None:  # cancelled before its task began
            return
        task, self.epoch = self.epoch, None
        stop = task.call_on_fit_task_end(
            estimator=ctx.estimator, reconstruction_attributes=self._fitted, **self.data
        )
        if stop:
            ctx.terminate = True

    def on_end(self, ctx: Context) -> None:
        """End the task of the fit."""
        if not self.begun:
            return
        self.task.call_on_fit_task_end(
            estimator=ctx.estimator, reconstruction_attributes=self._fitted, **self.data
        )

    def _fitted(self) -> dict[str, Any]:
        return {"model_": self.view()}
