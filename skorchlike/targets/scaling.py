"""Numbers to predict, brought to mean 0 and standard deviation 1 for training, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from skorchlike.exceptions import ParameterError


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
    def learn(cls, y: np.ndarray, sample_weight: np.ndarray | None) -> TargetScale:
        """Learn from targets of shape (n, n_outputs) and weights of shape (n,) or None."""
        y = np.asarray(y, dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            center = np.average(y, axis=0, weights=sample_weight)
            scale = np.sqrt(np.average((y - center) ** 2, axis=0, weights=sample_weight))
        if not np.isfinite(scale).all():
            raise ParameterError(
                f"y has values that are too large, up to {np.abs(y).max():.3g}: their squares are "
                "infinite, so they have no standard deviation. Scale them, or set "
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
