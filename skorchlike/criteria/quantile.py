"""The pinball loss: the module gives quantiles of the target."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from skorchlike.criteria.base import RegressionCriterion
from skorchlike.exceptions import ParameterError


class QuantileLoss(RegressionCriterion):
    """Pinball loss of one or several quantiles.

    For the quantile q it is ``max(q * (y - o), (q - 1) * (y - o))``, whose mean is least
    where a share q of the targets lies below the output o. Several quantiles are means of
    their losses; the module then has an output for each, beside one another for a target.

    Parameters
    ----------
    quantile : float or sequence of float, default=0.5
        Between 0 and 1. 0.5 is the median.
    reduction : {"mean", "sum", "none"}, default="mean"
        ``"none"`` returns losses of shape (n, n_targets, n_quantiles).

    Raises
    ------
    ParameterError
        If a quantile is not between 0 and 1, or there are two of the same.

    Notes
    -----
    ``predict`` of the estimator is the quantile nearest to the median (of two equally near
    the lower); ``predict_quantiles`` gives all. Each is trained for itself: nothing keeps
    a higher one from crossing a lower one.

    R. Koenker and G. Bassett, "Regression Quantiles", Econometrica 46, 1978.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.criteria import QuantileLoss
    >>> loss = QuantileLoss(quantile=0.9)
    >>> low, high = torch.tensor([[0.0]]), torch.tensor([[1.0]])
    >>> print(f"{loss(low, high):.1f} {loss(high, low):.1f}")
    0.9 0.1
    """

    quantiles: Tensor

    def __init__(self, quantile: float | Sequence[float] = 0.5, reduction: str = "mean") -> None:
        super().__init__(reduction)
        quantiles = _check_quantiles(quantile)
        self.quantile = quantile
        self.n_outputs_per_target = len(quantiles)
        self._nearest = min(
            range(len(quantiles)), key=lambda i: (round(abs(quantiles[i] - 0.5), 9), quantiles[i])
        )
        # in double, since the dtype of the module is still to come; no state to be loaded
        levels = torch.tensor(quantiles, dtype=torch.float64)
        self.register_buffer("quantiles", levels, persistent=False)

    def forward(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """Return the loss of outputs (n, n_targets * n_quantiles) and targets (n, n_targets)."""
        outputs = self.by_target(y_pred)
        error = y.reshape(*outputs.shape[:2], 1) - outputs
        levels = self.quantiles.to(error.dtype)
        return self.reduced(torch.maximum(levels * error, (levels - 1) * error))

    def predict(self, outputs: Tensor) -> Tensor:
        """Return the quantile nearest to the median, of shape (n, n_targets)."""
        return self.by_target(outputs)[..., self._nearest]

    def predict_quantiles(self, outputs: Tensor) -> Tensor:
        """Return all quantiles, of shape (n, n_targets, n_quantiles)."""
        return self.by_target(outputs)

    def extra_repr(self) -> str:
        """Return what the printed criterion shows."""
        return f"quantile={self.quantile!r}, {super().extra_repr()}"


def _check_quantiles(quantile: float | Sequence[float]) -> list[float]:
    try:
        given = [quantile] if isinstance(quantile, Real) else list(quantile)  # type: ignore[arg-type]
        quantiles = [float(q) for q in given]
    except (TypeError, ValueError):
        quantiles = []
    if not quantiles or not all(0 < q < 1 for q in quantiles):
        raise ParameterError(
            "The `quantile` of QuantileLoss must be one or several numbers between 0 and 1, such "
            f"as 0.5 or (0.1, 0.5, 0.9). Got {quantile!r}."
        )
    if len(set(quantiles)) < len(quantiles):
        raise ParameterError(
            f"The `quantile` of QuantileLoss has a value twice: {quantile!r}. Name each once."
        )
    return quantiles
