"""The likelihood of counts: the module gives the logarithm of their mean."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skorchlike.criteria.base import RegressionCriterion
from skorchlike.exceptions import ParameterError


class PoissonLoss(RegressionCriterion):
    """Negative log-likelihood of a Poisson distribution, with a log link.

    It is ``exp(o) - y * o`` for the output o, half the Poisson deviance but for a term of
    the target alone. The prediction is ``exp(o)``, always positive.

    Parameters
    ----------
    reduction : {"mean", "sum", "none"}, default="mean"
        ``"none"`` returns losses of shape (n, n_targets).

    Raises
    ------
    ParameterError
        At fit, if a target is negative.

    Notes
    -----
    For counts and other targets that are not negative, whose variance grows with the mean.
    P. McCullagh and J. A. Nelder, "Generalized Linear Models", 1989.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.criteria import PoissonLoss
    >>> loss = PoissonLoss()
    >>> float(loss(torch.tensor([[0.0]]), torch.tensor([[3.0]])))
    1.0
    >>> float(loss.predict(torch.tensor([[0.0]])))
    1.0
    """

    def forward(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """Return the loss of outputs and targets of the same shape."""
        return self.reduced(y_pred.exp() - y * y_pred)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the mean, ``exp(outputs)``."""
        return torch.exp(outputs)

    @staticmethod
    def check_target(y: np.ndarray, name: str) -> None:
        """Refuse negative targets."""
        if (y < 0).any():
            raise ParameterError(
                f"With criterion='poisson' {name} must not be negative: it is for counts. Got "
                f"{y.min():g}. Use 'mse' or 'gaussian_nll'."
            )
