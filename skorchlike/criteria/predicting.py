"""Predictions of a regression, as its criterion has it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skorchlike.exceptions import ParameterError


def n_outputs_per_target(criterion: nn.Module | None) -> int:
    """Return how many outputs the criterion takes for each column of the target."""
    n = getattr(criterion, "n_outputs_per_target", 1)
    if not (isinstance(n, int) and n > 0):
        raise ParameterError(
            f"The `n_outputs_per_target` of the criterion {type(criterion).__name__} must be a "
            f"positive integer. Got {n!r}."
        )
    return n


def predict_targets(criterion: nn.Module | None, outputs: Tensor) -> Tensor:
    """Return one number a target, of outputs of the module.

    Parameters
    ----------
    criterion : torch.nn.Module or None
        Its method ``predict(outputs)`` makes predictions; without one the outputs are.
    outputs : Tensor of shape (n, n_targets * n_outputs_per_target)
        What the module returned; of one target also (n,).

    Returns
    -------
    Tensor of shape (n, n_targets) or (n,)
        The predictions.
    """
    make = getattr(criterion, "predict", None)
    if make is None:
        is_log = isinstance(criterion, nn.PoissonNLLLoss) and criterion.log_input
        return torch.exp(outputs) if is_log else outputs
    predictions = make(outputs)
    wanted = outputs.numel() // n_outputs_per_target(criterion)
    if not isinstance(predictions, Tensor) or predictions.numel() != wanted:
        got = getattr(predictions, "shape", None)
        got = type(predictions).__name__ if got is None else f"shape {tuple(got)}"
        raise ParameterError(
            f"predict(outputs) of the criterion {type(criterion).__name__} must return a tensor of "
            f"one number a target, {wanted} for outputs of shape {tuple(outputs.shape)}. Got {got}."
        )
    return predictions.reshape(len(outputs), -1)
