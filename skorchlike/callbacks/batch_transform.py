"""Apply a function to each batch on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils._param_validation import StrOptions
from torch import Tensor, nn

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError
from skorchlike.nested import arrays_of, is_nested, n_rows_of
from skorchlike.params.calling import name_of

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context

PHASES = {
    "train": ("train",),
    "valid": ("valid",),
    "both": ("train", "valid"),
    "all": ("train", "valid", "predict"),
}

NO_TARGET = (
    "BatchTransform(on='all') transforms the batches of predict too, which have no y. Set "
    "with_target=False, or on='both'."
)


class BatchTransform(Callback):
    """Apply a function to each batch on the device: augmentation, noise, scaling.

    Parameters
    ----------
    transform : callable or torch.nn.Module
        Takes the batch's X, a tensor of shape (n, ...) on the device, and returns the new
        one with as many rows, each in its place. It may write to X. A module is moved to
        the device; it is in train mode for training batches and in eval mode for all others.
    on : {"train", "valid", "both", "all"}, default="train"
        The batches to transform: of the training, of the validation, of both, or of both
        and of predict.
    with_target : bool, default=False
        Whether the call is ``transform(X, y)`` and returns ``(X, y)``. Not with
        ``on="all"``: predict has no y.

    Raises
    ------
    ParameterError
        If the transform returns something other than tensors with as many rows as the
        batch has, or ``with_target=True`` meets ``on="all"``.

    Notes
    -----
    No gradients are recorded. In a fit random transforms draw from the fit's own
    generators, so `random_state` makes them reproducible. What a module in `transform`
    learns by being called (running statistics) is the state, and so is that of any other object
    with ``state_dict`` and ``load_state_dict``. The idea is the BatchTransform
    of fastai's miniai.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import BatchTransform, NeuralNetClassifier
    >>> def add_noise(X):
    ...     return X + 0.1 * torch.randn_like(X)
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(callbacks=[BatchTransform(add_noise)], max_epochs=5)
    >>> net.fit(X, y).n_iter_
    5
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "transform": [callable],
        "on": [StrOptions(set(PHASES))],
        "with_target": ["boolean"],
    }

    changes_inputs = True
    """Whether ``on_batch_predict_begin`` assigns ``ctx.X``; a pass over the training inputs
    outside of training (that of `SWA`) then calls it."""

    def __init__(
        self, transform: Callable[..., Any], on: str = "train", with_target: bool = False
    ) -> None:
        self.transform = transform
        self.on = on
        self.with_target = with_target

    def advise(self, setup: Setup) -> list[str]:
        """Say that the arguments contradict each other."""
        return [NO_TARGET] if self.with_target and self.on == "all" else []

    def on_begin(self, ctx: Context) -> None:
        """Check the arguments against each other, and move a module to the device."""
        if self.with_target and self.on == "all":
            raise ParameterError(NO_TARGET)
        self._place(ctx)

    def on_predict_begin(self, ctx: Context) -> None:
        """Move a module to the device."""
        self._place(ctx)

    def on_batch_begin(self, ctx: Context) -> None:
        """Transform a training batch."""
        self._apply(ctx, "train")

    def on_batch_valid_begin(self, ctx: Context) -> None:
        """Transform a validation batch."""
        self._apply(ctx, "valid")

    def on_batch_predict_begin(self, ctx: Context) -> None:
        """Transform a batch to predict."""
        self._apply(ctx, "predict")

    def state_dict(self) -> dict[str, Any] | None:
        """Return the state of a module, or of an object that has one."""
        transform: Any = self.transform
        return (transform.state_dict() or None) if _has_state(transform) else None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give the module its state."""
        transform: Any = self.transform
        if _has_state(transform):
            transform.load_state_dict(state)

    def _place(self, ctx: Context) -> None:
        # a fit's own copy: callbacks are cloned for it
        if isinstance(self.transform, nn.Module):
            self.transform.to(ctx.device)

    def _apply(self, ctx: Context, phase: str) -> None:
        if phase not in PHASES[self.on]:
            return
        if isinstance(self.transform, nn.Module):
            self.transform.train(phase == "train")
        n, self._several = n_rows_of(ctx.X), is_nested(ctx.X)
        with torch.no_grad():
            if not self.with_target:
                ctx.X = self._checked("X", self.transform(ctx.X), n)
                return
            result = self.transform(ctx.X, ctx.y)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise self._wrong("(X, y), since with_target=True", result)
        X, y = result
        ctx.X, ctx.y = self._checked("X", X, n), self._checked("y", y, n)

    def _checked(self, name: str, value: Any, n: int) -> Tensor:
        parts = [part for _, part in arrays_of(value)]
        several = name == "X" and self._several
        if is_nested(value) != several or not all(
            isinstance(p, Tensor) and p.ndim and len(p) == n for p in parts
        ):
            raise self._wrong(f"{name} as a tensor with the batch's {n} rows", value)
        return value

    def _wrong(self, wanted: str, got: Any) -> ParameterError:
        what = f"a {type(got).__name__}"
        if isinstance(got, Tensor):
            what = f"a tensor of shape {tuple(got.shape)}"
        elif got is None:
            what = "None (is a `return` missing?)"
        return ParameterError(
            f"The `transform` {name_of(self.transform)} of BatchTransform must return {wanted}. "
            f"It returned {what}."
        )


def _has_state(transform: Any) -> bool:
    return all(hasattr(transform, name) for name in ("state_dict", "load_state_dict"))
