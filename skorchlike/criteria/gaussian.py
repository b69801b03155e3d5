"""The likelihood of a normal distribution: the module gives mean and variance."""

from __future__ import annotations

from numbers import Real

from torch import Tensor
from torch.nn import functional

from skorchlike.criteria.base import RegressionCriterion
from skorchlike.exceptions import ParameterError


class GaussianNLL(RegressionCriterion):
    """Negative log-likelihood of a normal distribution whose variance the module gives too.

    Of the two outputs for each target the first is the mean, the second, r, gives the
    variance: ``v = softplus(r) + min_variance``. The loss is
    ``(log(v) + (y - mean)² / v) / 2``, without the constant ``log(2π) / 2``.

    Parameters
    ----------
    min_variance : float, default=1e-6
        The least variance, in units of the target squared. It keeps the loss from falling
        without end at rows that are hit exactly.
    reduction : {"mean", "sum", "none"}, default="mean"
        ``"none"`` returns losses of shape (n, n_targets).

    Raises
    ------
    ParameterError
        If `min_variance` is no positive number.

    Notes
    -----
    ``predict(X)`` of the estimator is the mean, ``predict(X, return_std=True)`` adds the
    standard deviation: that of the noise in the data, which does not tell what the module
    does not know. Scale large targets, as for any criterion; the standard deviation is in
    their units.

    D. A. Nix and A. S. Weigend, "Estimating the Mean and Variance of the Target Probability
    Distribution", 1994.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.criteria import GaussianNLL
    >>> loss = GaussianNLL()
    >>> outputs = torch.tensor([[2.0, 0.5413]])  # softplus(0.5413) = 1
    >>> print(f"{loss(outputs, torch.tensor([[3.0]])):.3f}")
    0.500
    """

    n_outputs_per_target = 2

    def __init__(self, min_variance: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction)
        if not (isinstance(min_variance, Real) and 0 < min_variance < float("inf")):
            raise ParameterError(
                "The `min_variance` of GaussianNLL must be a positive number. Got "
                f"{min_variance!r}."
            )
        self.min_variance: float = float(min_variance)

    def forward(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """Return the loss of outputs (n, n_targets * 2) and targets (n, n_targets)."""
        mean = self.predict(y_pred)
        variance = self._variance(y_pred)
        error = y.reshape(mean.shape) - mean
        return self.reduced((variance.log() + error.square() / variance) / 2)

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the mean, of shape (n, n_targets)."""
        return self.by_target(outputs)[..., 0]

    def predict_std(self, outputs: Tensor) -> Tensor:
        """Return the standard deviation, of shape (n, n_targets)."""
        return self._variance(outputs).sqrt()

    def _variance(self, outputs: Tensor) -> Tensor:
        return functional.softplus(self.by_target(outputs)[..., 1]) + self.min_variance

    def extra_repr(self) -> str:
        """Return what the printed criterion shows."""
        return f"min_variance={self.min_variance!r}, {super().extra_repr()}"
