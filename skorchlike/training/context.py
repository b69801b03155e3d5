"""What one run of the loop shows to callbacks."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn

from skorchlike.exceptions import DeadContextError, ParameterError, StageError, did_you_mean
from skorchlike.training.interrupts import Interrupts

if TYPE_CHECKING:
    import numpy as np
    import torch

ASSIGNABLE = ("X", "y", "sample_weight", "y_pred", "loss", "terminate", "stop_reason")


OWN_COLUMNS = ("epoch", "train_loss", "valid_loss", "lr", "duration")
"""The history columns that the loop itself writes."""


class _Field(property):
    """A field that callbacks read and only the loop writes (in its private slot)."""

    def __init__(self, slot: str, doc: str) -> None:
        super().__init__(attrgetter(slot), doc=doc)
        self.__doc__ = doc
        self.field = slot.removeprefix("_")

    def __set__(self, instance: Any, value: Any) -> NoReturn:
        raise AttributeError(
            f"ctx.{self.field} is read-only. A callback may assign: "
            f"{', '.join(f'ctx.{name}' for name in ASSIGNABLE)}."
        )


class Context:
    """What one run of the loop shows to callbacks, and what they may change of it.

    A callback receives it at every stage and needs nothing else. The fields ``X``,
    ``y``, ``sample_weight``, ``y_pred``, ``loss``, ``terminate`` and ``stop_reason``
    may be assigned; the others are read-only. After the run it is dead: every use
    raises `DeadContextError`.

    Attributes
    ----------
    X : torch.Tensor of shape (n, ...), or a dict or tuple of them
        Inputs of the current batch as the module gets them, on the device: prepared, where
        numbers are filled and transformed. A copy: it may be written to.
    y : torch.Tensor of shape (n,) or (n, n_outputs), or None
        Targets of the current batch: encoded labels (int64, shape (n,)), or numbers
        in the module's dtype, of shape (n, 1) when the target was one-dimensional.
    sample_weight : torch.Tensor of shape (n,) or None
        Weights of the current batch's rows.
    y_pred : torch.Tensor
        The module's output, as ``do_predict`` assigned it.
    loss : torch.Tensor of shape ()
        The batch's loss, as ``do_get_loss`` assigned it; with its graph in training.
    terminate : bool
        Set it to finish the current epoch and then end the fit.
    stop_reason : str or None
        Why the run ended; a callback that ends it may write its own reason.
    """

    __slots__ = (
        "X",
        "_callbacks",
        "_can_limit",
        "_can_skip",
        "_columns",
        "_criterion",
        "_device",
        "_epoch",
        "_estimator",
        "_fingerprint",
        "_fitted_estimator",
        "_global_step",
        "_history",
        "_index",
        "_interrupts",
        "_is_last_batch",
        "_last_loss",
        "_limit",
        "_loss_function",
        "_max_epochs",
        "_module",
        "_n_steps",
        "_n_updates",
        "_optimizer",
        "_resumable",
        "_run_id",
        "_skip",
        "_snapshot",
        "_start",
        "_start_epoch",
        "_step",
        "_train_inputs",
        "_training",
        "loss",
        "sample_weight",
        "stop_reason",
        "terminate",
        "y",
        "y_pred",
    )

    X: Any
    y: Any
    sample_weight: Any
    y_pred: Any
    loss: Any
    terminate: bool
    stop_reason: str | None
    _epoch: int
    _start: int
    _step: int
    _n_steps: int | None
    _global_step: int
    _history: list[dict[str, Any]]
    _index: Any
    _is_last_batch: bool
    _last_loss: torch.Tensor | float
    _loss_function: Any

    def __init__(
        self,
        *,
        estimator: Any,
        module: torch.nn.Module,
        device: torch.device,
        criterion: torch.nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        loss_function: Callable[..., torch.Tensor] | None = None,
        callbacks: Mapping[str, Any] | None = None,
        max_epochs: int = 0,
        n_updates: int | None = None,
        columns: tuple[str, ...] = (),
        history: list[dict[str, Any]] | None = None,
        epoch: int = 0,
        global_step: int = 0,
        fitted_estimator: Callable[[], Any] | None = None,
        snapshot: Callable[..., dict[str, Any]] | None = None,
        train_inputs: Callable[[], Iterator[torch.Tensor]] | None = None,
        run_id: str = "",
        fingerprint: Callable[[], str] | None = None,
        interrupts: Interrupts | None = None,
    ) -> None:
        self._estimator, self._module, self._device = estimator, module, device
        self._criterion, self._optimizer = criterion, optimizer
        self._loss_function = loss_function
        self._callbacks = dict(callbacks or {})
        self._max_epochs, self._n_updates, self._columns = max_epochs, n_updates, columns
        self._history = [] if history is None else history
        self._epoch, self._start, self._global_step = epoch, epoch, global_step
        self._start_epoch = epoch
        self._fitted_estimator, self._snapshot = fitted_estimator, snapshot
        self._train_inputs = train_inputs
        self._run_id, self._fingerprint = run_id, fingerprint
        self._interrupts = Interrupts() if interrupts is None else interrupts
        self._step, self._n_steps, self._resumable = 0, None, False
        self._training = self._skip = self._can_skip = self._can_limit = False
        self._limit: int | None = None
        self._is_last_batch, self._index, self._last_loss = False, None, math.nan
        self.X = self.y = self.sample_weight = self.y_pred = self.loss = None
        self.terminate, self.stop_reason = False, None

    estimator = _Field("_estimator", "The estimator that is being fitted.")
    module = _Field("_module", "The `torch.nn.Module` in training.")
    criterion = _Field("_criterion", "The loss function, a `torch.nn.Module`.")
    optimizer = _Field("_optimizer", "The `torch.optim.Optimizer`.")
    device = _Field("_device", "The `torch.device` of module and batches.")
    epoch = _Field("_epoch", "Number of the current epoch, from 1; 0 before the first.")
    start_epoch = _Field(
        "_start_epoch",
        "Epochs there were before this fit: 0, or those of the fit that it continues. A resumed "
        "fit has what the interrupted one had.",
    )
    max_epochs = _Field("_max_epochs", "Number of the last epoch that this fit may train.")
    step = _Field("_step", "Number of the batch in this phase, from 1.")
    n_steps = _Field("_n_steps", "Batches of this phase, or None when that is unknown.")
    global_step = _Field("_global_step", "Number of the training batch over all epochs, from 1.")
    training = _Field("_training", "Whether this is the training phase.")
    is_last_batch = _Field("_is_last_batch", "Whether this is the last batch of its phase.")
    history = _Field("_history", "One dict an epoch; `history[-1]` is the current one.")
    columns = _Field("_columns", "Names of the history columns that this fit will have.")
    callbacks = _Field("_callbacks", "Name → callback, in the order in which they run.")
    n_updates = _Field("_n_updates", "Optimizer steps that this fit will take, or None.")
    step_skipped = _Field("_skip", "Whether `skip_step` was called in this training batch.")

    run_id = _Field("_run_id", "Name of this fit: drawn anew for each, kept when it continues.")
    resumable = _Field("_resumable", "Whether `snapshot` may be taken: all is complete so far.")

    @property
    def fingerprint(self) -> str:
        """What the fit is made of, as 16 hexadecimal digits: parameters, data and split.

        Fits with the same fingerprint train the same. It reads all data when it is first asked.
        """
        if self._fingerprint is None:
            raise StageError("ctx.fingerprint is for fit; a prediction has none.")
        return self._fingerprint()

    @property
    def interrupt_pending(self) -> bool:
        """Whether Ctrl-C or SIGTERM came and the fit ends at the next resumable point."""
        return self._interrupts.pending

    def defer_interrupts(self) -> None:
        """Let the first Ctrl-C or SIGTERM wait until the loop is at a resumable point.

        That is after the training batch or the epoch that is under way. A second one ends the
        fit at once.
        """
        self._interrupts.defer()

    @property
    def index(self) -> torch.Tensor:
        """Row numbers of the batch in the data given, an int64 tensor of shape (n,)."""
        if callable(self._index):
            self._index = self._index()
        return self._index

    @property
    def last_loss(self) -> float:
        """The last training loss, a float; NaN before the first.

        It is the loss as ``on_after_loss`` left it. It is fetched from the device
        when it is first read (on an accelerator that waits for the device), so a fit
        in which nobody reads it never waits.
        """
        if not isinstance(self._last_loss, float):
            self._last_loss = self._last_loss.item()
        return self._last_loss

    @property
    def loss_weight(self) -> float | torch.Tensor:
        """What the batch's mean loss was divided by: its weight in a mean over batches.

        The number of rows; with sample weights or class weights their sum, a tensor on
        the device. 1 for a criterion with ``reduction="sum"``, whose losses add up.
        """
        if self._loss_function is None:
            raise StageError("ctx.loss_weight is for fit; a prediction has no loss.")
        return self._loss_function.weight(self.y, self.sample_weight)

    def log(self, name: str, value: Any) -> None:
        """Add a column to the record of the current epoch.

        Parameters
        ----------
        name : str
            The column's name in ``history_``.
        value : number, str, bool, None, or a tensor or array with one element
            What to record; a tensor is fetched from the device.

        Raises
        ------
        StageError
            If no epoch has begun yet.
        ParameterError
            If the name is one of the loop's own columns or no string, or the value is not
            one value.
        """
        if self._epoch == self._start:
            raise StageError(
                "ctx.log needs an epoch of this fit to log to. Call it from on_epoch_begin on; "
                "on_begin and predict have none."
            )
        if not isinstance(name, str) or name in ("", *OWN_COLUMNS):
            raise ParameterError(
                "The name given to ctx.log must be a non-empty string other than the loop's own "
                f"columns ({', '.join(OWN_COLUMNS)}). Got {name!r}."
            )
        if getattr(value, "shape", None) is not None:
            if math.prod(value.shape) != 1:
                raise ParameterError(
                    f"ctx.log({name!r}, ...) takes one value. Got shape {tuple(value.shape)}."
                )
            value = value.item()
        if not isinstance(value, (numbers.Number, str, type(None))):
            raise ParameterError(
                f"ctx.log({name!r}, ...) takes a number, a string, a bool or None. Got a "
                f"{type(value).__name__}."
            )
        self._history[-1][name] = value

    def skip_step(self) -> None:
        """Leave out the optimizer's step of this batch, and keep its gradients.

        The stages ``on_before_step`` and ``on_after_step`` and the actions ``step``
        and ``zero_grad`` are left out; the batch still has its ``on_batch_end``.
        May be called from ``on_batch_begin`` to ``on_after_backward``.

        Raises
        ------
        StageError
            If it is called later, or outside a training batch.
        """
        if not self._can_skip:
            raise StageError(
                "ctx.skip_step() works in a training batch, from on_batch_begin to "
                "on_after_backward. It was called outside of that."
            )
        self._skip = True

    def limit_batches(self, n_batches: int) -> None:
        """Let the phase that begins have so many batches at most.

        ``n_steps`` and ``is_last_batch`` are told of it. May be called in
        ``on_before_train`` and ``on_valid_begin``, for that phase.

        Parameters
        ----------
        n_batches : int
            At least 1; of several calls the least counts.

        Raises
        ------
        StageError
            If it is called elsewhere.
        """
        if not self._can_limit:
            raise StageError(
                "ctx.limit_batches(...) works in on_before_train and on_valid_begin. It was "
                "called outside of them."
            )
        self._limit = n_batches if self._limit is None else min(n_batches, self._limit)
        self._n_steps = self._limit if self._n_steps is None else min(self._n_steps, self._limit)

    def decode(self, outputs: torch.Tensor, method: str = "predict") -> np.ndarray:
        """Return what the estimator's method makes of outputs of the module.

        Parameters
        ----------
        outputs : torch.Tensor of shape (n, ...)
            Outputs, such as ``ctx.y_pred``; without a graph, on any device.
        method : {"predict", "predict_proba", "decision_function"}, default="predict"
            The method of the estimator; a regressor has only ``"predict"``.

        Returns
        -------
        ndarray
            As the method returns it.

        Raises
        ------
        ParameterError
            If the estimator has no such method.
        """
        members = getattr(self._module, "n_members", None)
        if members is not None and outputs.ndim == 3:
            outputs = self._module.aggregate(outputs)  # type: ignore[operator]
        return self._estimator._respond(outputs, method, self._criterion)

    def decode_target(self, y: torch.Tensor) -> np.ndarray:
        """Return targets as the user gave them: labels instead of their numbers.

        Parameters
        ----------
        y : torch.Tensor of shape (n,) or (n, n_outputs)
            Targets, such as ``ctx.y``.

        Returns
        -------
        ndarray
            Labels, or numbers in the shape that the target had.
        """
        return self._estimator._decode_target(y)

    def wrap(self, module: Any = None, optimizer: Any = None) -> None:
        """Let the loop use a wrapper around the module or the optimizer.

        From then on it stands in ``ctx.module`` or ``ctx.optimizer``. The wrapper must
        train the very same parameters: the fitted model keeps the module without it.

        Parameters
        ----------
        module : torch.nn.Module, optional
            What is called in the module's place.
        optimizer : object, optional
            What has ``step``, ``zero_grad`` and ``param_groups`` in the optimizer's place.

        Raises
        ------
        StageError
            If it is called later than in ``on_begin``, or in predict.
        """
        if self._optimizer is None or self._epoch != self._start or self._step:
            raise StageError("ctx.wrap(...) works in on_begin of a fit. It was called later.")
        if module is not None:
            self._module = module
        if optimizer is not None:
            self._optimizer = optimizer

    def train_inputs(self) -> Iterator[torch.Tensor]:
        """Yield the training inputs batch by batch, on the device, in the order of the data.

        For a pass without training, such as one that measures statistics. It draws no
        random numbers.

        Yields
        ------
        torch.Tensor of shape (n, ...), or a dict or tuple of them
            A copy of some rows, as the module gets them.
        """
        if self._train_inputs is None:
            raise StageError("ctx.train_inputs() is for fit; a prediction has no training data.")
        return self._train_inputs()

    def fitted_estimator(self) -> Any:
        """Return a ready-to-predict view of the estimator as it is now.

        The view shares the module in training: it is for immediate use, not to keep.
        """
        if self._fitted_estimator is None:
            raise StageError("ctx.fitted_estimator() is for fit. In predict use ctx.estimator.")
        return self._fitted_estimator()

    def snapshot(self, *, copied: bool = True) -> dict[str, Any]:
        """Return everything that an interrupted fit needs to go on.

        It may be taken where `resumable` is true: in ``on_batch_exit`` of a training batch, in
        ``on_epoch_end`` and in ``on_end``. The states are those that callbacks have at that
        moment, so the one who takes it comes last (``order = float("inf")``).

        Parameters
        ----------
        copied : bool, default=True
            Whether tensors and states are copies; without, they are for immediate use.

        Returns
        -------
        dict
            The states of module, criterion, optimizer and callbacks, pending gradients, the
            history, the position in the epoch and in its rows, the random generators in use,
            and what identifies the fit.

        Raises
        ------
        StageError
            If it is taken elsewhere, where something is half-done.
        """
        if self._snapshot is None:
            raise StageError("ctx.snapshot() is for fit; a prediction has nothing to save.")
        if not self._resumable:
            raise StageError(
                "ctx.snapshot() works where ctx.resumable is true: in on_batch_exit of a training "
                "batch that ended well, in on_epoch_end and in on_end. Elsewhere something is "
                "half-done."
            )
        return self._snapshot(copied=copied)

    def __getattr__(self, name: str) -> NoReturn:
        fields = [field for field in dir(type(self)) if not field.startswith("_")]
        raise AttributeError(f"ctx has no field {name!r}.{did_you_mean(name, fields)}")

    def _kill(self) -> None:
        """Let go of everything and make every later use an error."""
        for name in Context.__slots__:
            object.__setattr__(self, name, None)
        self.__class__ = _DeadContext


class _DeadContext(Context):
    """A context whose run has ended."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise DeadContextError(
            f"ctx.{name} was used after the run had ended. What a callback needs later, "
            "it copies to its own attributes in on_end or on_exit."
        )

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise DeadContextError(f"ctx.{name} was assigned after the run had ended.")
