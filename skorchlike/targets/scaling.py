"""Numbers to predict, brought to mean 0 and standard deviation 1 for training, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skorchlike.exceptions import ParameterError
from skorchlike.targets import pieces


@dataclass
class TargetScale:
    """Mean and standard deviation of each target in the training rows.

    Attributes
    ----------
    center, scale : ndarray of float64 of shape (n_outputs,)
        What is subtracted, and by what is divided; a target of one value is divided by 1.
    """

    center: np.ndarray
    scale: np.ndarray

    @classmethod
    def learn(cls, y: Any, sample_weight: Any) -> TargetScale:
        """Learn from targets of shape (n, n_outputs) and weights of shape (n,) or None.

        They are arrays, or give slices of rows as arrays.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            center = _average(y, sample_weight, lambda part: part)
            scale = np.sqrt(_average(y, sample_weight, lambda part: (part - center) ** 2))
        if not np.isfinite(scale).all():
            raise ParameterError(
                f"y has values that are too large, up to {np.abs(np.asarray(y)).max():.3g}: their "
                "squares are infinite, so they have no standard deviation. Scale them, or set "
                "target_transform=None."
            )
        # what rounding leaves of the spread of one value counts as none
        flat = scale <= 10 * np.finfo(np.float64).eps * np.abs(center)
        return cls(center, np.where(flat | (scale == 0), 1.0, scale))

    def apply(self, y: np.ndarray) -> np.ndarray:
        """Return targets as the module is trained on."""
        return (y - self.center) / self.scale

    def undo(self, y: Tensor, *, spread: bool = False) -> Tensor:
        """Return numbers in the units of the target.

        Parameters
        ----------
        y : Tensor of shape (n, n_outputs) or (n, n_outputs, n_quantiles)
            Numbers in the units of training.
        spread : bool
            Whether they are spreads, which have no center.
        """
        center, scale = (self._like(part, y) for part in (self.center, self.scale))
        return y * scale if spread else y * scale + center

    def _like(self, part: np.ndarray, y: Tensor) -> Tensor:
        tensor = torch.from_numpy(part).to(dtype=y.dtype, device=y.device)
        return tensor[:, None] if y.ndim == 3 else tensor


def _average(y: Any, sample_weight: Any, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the (weighted) means of the changed columns, to the bit those of `numpy.average`."""

    def columns(start: int, stop: int) -> np.ndarray:
        return change(np.asarray(y[start:stop], dtype=np.float64))

    def weighted(start: int, stop: int) -> np.ndarray:
        return columns(start, stop) * sample_weight[start:stop][:, None]

    n = len(y)
    if y.shape[1] > 1 or n <= pieces.PIECE_ROWS:
        # rows are summed up in an order that depends on how they lie in memory
        weights = None if sample_weight is None else np.asarray(sample_weight)
        return np.average(columns(0, n), axis=0, weights=weights)
    if sample_weight is None:
        return np.array([_sum(columns, 0, n) / n])
    total = _sum(lambda start, stop: sample_weight[start:stop], 0, n)
    return np.array([_sum(weighted, 0, n) / total])


def _sum(values: Callable[[int, int], np.ndarray], start: int, stop: int) -> Any:
    """Sum up values that come piece by piece, in pairs of pairs as NumPy does with an array."""
    n = stop - start
    if n <= pieces.PIECE_ROWS:
        return values(start, stop).reshape(-1).sum()
    half = n // 2 // 8 * 8
    return _sum(values, start, start + half) + _sum(values, start + half, stop)
