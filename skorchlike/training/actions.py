"""The five default actions of a batch."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from skorchlike.exceptions import ParameterError

if TYPE_CHECKING:
    from skorchlike.training.context import Context


def call_module(module: Any, X: Any) -> Any:
    """Call a module with one input, or with several by name or in their order.

    Raises
    ------
    ParameterError
        If its ``forward`` takes other arguments.
    """
    try:
        if isinstance(X, dict):
            return module(**X)
        return module(*X) if isinstance(X, tuple) else module(X)
    except RuntimeError as error:
        _note_channels(X, error)
        raise
    except TypeError as error:
        named, given = (X, ()) if isinstance(X, dict) else ({}, X)
        given = given if isinstance(given, tuple) else (given,)
        if _takes(module.forward, given, named):
            raise
        came = f"by the names {', '.join(named)}" if named else f"{len(given)} in a row"
        came = came if len(given) != 1 else "one tensor"
        raise ParameterError(
            f"The `module` {type(module).__name__} is called with the inputs: {came}. It takes "
            f"forward{inspect.signature(module.forward)}. Name its arguments so, or replace the "
            "action by a do_predict(self, ctx). (A frame with columns that are no numbers comes "
            "as `numeric` and `categorical`.)"
        ) from error


def _note_channels(X: Any, error: Exception) -> None:
    """Add what a convolution leaves to be guessed: images with the channels last."""
    shape = tuple(getattr(X, "shape", ()))
    if "channels" in str(error) and len(shape) in (4, 5):
        last = (
            f" With channels last, (n, h, w, c), permute them: X.transpose(0, {len(shape) - 1}, "
            f"{', '.join(map(str, range(1, len(shape) - 1)))})."
        )
        error.add_note(f"The batch has shape {shape}. Images are (n, channels, h, w).{last}")


def _takes(function: Any, given: tuple[Any, ...], named: dict[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(*given, **named)
    except TypeError:
        return False
    return True


class DefaultActions:
    """The five actions as a plain PyTorch loop has them.

    The estimators inherit them. A subclass replaces one by overriding it, a callback
    by defining a method of the same name; either may call this one
    (``super().do_step(ctx)``, ``ctx.estimator.do_step(ctx)``).
    """

    def do_predict(self, ctx: Context) -> None:
        """Assign ``ctx.y_pred``, the module's output for ``ctx.X``.

        Of several inputs a dict is passed by name, a tuple in its order.
        """
        ctx.y_pred = call_module(ctx.module, ctx.X)

    def do_get_loss(self, ctx: Context) -> None:
        """Assign ``ctx.loss``, the criterion of ``ctx.y_pred`` and ``ctx.y``.

        With ``ctx.sample_weight`` the unreduced losses are averaged as Σwl/Σw.
        """
        ctx.loss = ctx._loss_function(ctx.y_pred, ctx.y, ctx.sample_weight)

    def do_backward(self, ctx: Context) -> None:
        """Compute the gradients of ``ctx.loss``."""
        if not ctx.loss.requires_grad:
            raise ParameterError(
                "The loss has no gradient: all parameters of the `module` are frozen "
                "(requires_grad=False), a do_predict or do_get_loss detached it, or gradients are "
                "off (torch.no_grad)."
            )
        ctx.loss.backward()

    def do_step(self, ctx: Context) -> None:
        """Let the optimizer update the parameters."""
        try:
            ctx.optimizer.step()
        except TypeError as error:
            if "closure" not in str(error):
                raise
            raise ParameterError(
                f"The optimizer {type(ctx.optimizer).__name__} needs a closure that computes the "
                "loss anew. Give it one in a do_step(self, ctx) of a callback or a subclass."
            ) from error

    def do_zero_grad(self, ctx: Context) -> None:
        """Clear the gradients."""
        ctx.optimizer.zero_grad()
