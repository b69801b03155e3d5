"""Hands module, optimizer and batches to Hugging Face Accelerate."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils._param_validation import StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError, import_extra
from skorchlike.nested import map_arrays

if TYPE_CHECKING:
    from skorchlike.training.context import Context

PATCHES = ("forward", "_original_forward", "_is_accelerate_prepared")


class Accelerate(Callback):
    """Train by Hugging Face Accelerate: it prepares module and optimizer, and runs backward.

    Parameters
    ----------
    mixed_precision : {"no", "bf16", "fp16"} or None, default=None
        The precision of the module's forward pass; ``"fp16"`` needs an accelerator. None is
        what ``accelerate config`` or ``accelerate launch`` set, else ``"no"``.

    Raises
    ------
    ImportError
        At fit, if accelerate is not installed (the extra ``accelerate``).
    ParameterError
        Before training, if Accelerate would use another device than the estimator, cannot
        use the precision, or is told to accumulate gradients.

    Notes
    -----
    The estimator's ``device`` rules. Accelerate's global states are this fit's own, and as
    they were afterwards; the fitted module is plain. The callback replaces the action
    ``backward``.

    The library: S. Gugger et al., "Accelerate", https://huggingface.co/docs/accelerate. A
    callback of this kind is in fastai's course (miniai).

    Examples
    --------
    >>> from skorchlike import Accelerate, NeuralNetClassifier
    >>> net = NeuralNetClassifier(callbacks=[Accelerate()])
    """

    order = -90
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "mixed_precision": [StrOptions({"no", "bf16", "fp16"}), None],
    }

    _undo: contextlib.ExitStack | None = None

    def __init__(self, mixed_precision: str | None = None) -> None:
        self.mixed_precision = mixed_precision

    def on_begin(self, ctx: Context) -> None:
        """Make an accelerator; let it prepare module and optimizer."""
        library = import_extra("accelerate", "accelerate", "The callback Accelerate")
        self._undo = contextlib.ExitStack()
        self._undo.enter_context(_own_states(library.state))
        self._undo.enter_context(_as_before(ctx.module))
        self._undo.callback(self.__dict__.pop, "_accelerator", None)
        try:
            self._accelerator = library.Accelerator(
                cpu=ctx.device.type == "cpu", mixed_precision=self.mixed_precision
            )
        except ValueError as error:
            raise ParameterError(f"Accelerate cannot be set up so: {error}") from error
        _check(self._accelerator, ctx)
        # the optimizer's state is where its parameters are already
        module, optimizer = self._accelerator.prepare(
            ctx.module, ctx.optimizer, device_placement=[True, False]
        )
        ctx.wrap(module=module, optimizer=optimizer)

    def on_batch_begin(self, ctx: Context) -> None:
        """Place the batch, where it is not yet on the accelerator's device."""
        device = self._accelerator.device
        ctx.X, ctx.y = map_arrays(lambda part: part.to(device), ctx.X), ctx.y.to(device)
        if ctx.sample_weight is not None:
            ctx.sample_weight = ctx.sample_weight.to(device)

    on_batch_valid_begin = on_batch_begin

    def do_backward(self, ctx: Context) -> None:
        """Compute the gradients; scaled for fp16, averaged over processes."""
        self._accelerator.backward(ctx.loss)

    def on_before_step(self, ctx: Context) -> None:
        """Unscale the gradients of fp16 for all who read or change them."""
        self._accelerator.unscale_gradients()

    def on_exit(self, ctx: Context) -> None:
        """Leave module and library as they were."""
        if self._undo is not None:
            self._undo.close()
            self._undo = None

    def state_dict(self) -> dict[str, Any] | None:
        """Return the scale of the loss, for fp16."""
        scaler = self._scaler
        return None if scaler is None else scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the scale of an earlier fit."""
        if self._scaler is not None:
            self._scaler.load_state_dict(state)

    @property
    def _scaler(self) -> Any:
        return getattr(self.__dict__.get("_accelerator"), "scaler", None)


@contextlib.contextmanager
def _own_states(library: Any) -> Iterator[None]:
    """Let a new accelerator have its own states, which the library keeps in its classes."""
    classes = (library.PartialState, library.AcceleratorState, library.GradientState)
    before = [(cls._shared_state, dict(cls._shared_state)) for cls in classes]
    for shared, _ in before:
        shared.clear()
    try:
        yield
    finally:
        for shared, was in before:
            shared.clear()
            shared.update(was)


@contextlib.contextmanager
def _as_before(module: torch.nn.Module) -> Iterator[None]:
    """Take from the module what the library put on it."""
    before = {name: vars(module)[name] for name in PATCHES if name in vars(module)}
    try:
        yield
    finally:
        for name in PATCHES:
            vars(module).pop(name, None)
        vars(module).update(before)


def _check(accelerator: Any, ctx: Context) -> None:
    """Refuse what would train otherwise than the estimator says, in silence."""
    device, precision = accelerator.device, accelerator.mixed_precision
    if device.type != ctx.device.type or ctx.device.index not in (None, device.index):
        raise ParameterError(
            f"Accelerate uses the device {str(device)!r} and the estimator {str(ctx.device)!r}. "
            f"Set the estimator's device={str(device)!r}, or change what `accelerate config` says."
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise ParameterError(
            "Accelerate is told to accumulate gradients over "
            f"{accelerator.gradient_accumulation_steps} steps (by `accelerate config` or "
            "`launch`). Set 1 there and use the callback GradientAccumulation."
        )
    if precision != "no" and not accelerator.native_amp:
        raise ParameterError(
            f"Accelerate cannot use mixed_precision={precision!r} on the device "
            f"{str(device)!r}. Use 'bf16' or 'no'."
        )
    if precision != "no" and any(p.dtype != torch.float32 for p in ctx.module.parameters()):
        raise ParameterError(
            f"Accelerate with mixed_precision={precision!r} needs float32 parameters. Set "
            "dtype='float32' on the estimator."
        )
    if accelerator.num_processes > 1:
        warnings.warn(
            f"Each of the {accelerator.num_processes} processes trains on all rows: Accelerate "
            "does not divide them here yet.",
            stacklevel=2,
        )
