"""Normalization between layers."""

from __future__ import annotations

from torch import Tensor, nn


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization for which a batch of one row is no error.

    A single row has no variance. ``torch.nn.BatchNorm1d`` refuses it in training; here it is
    normalized by the running statistics and leaves them as they are, so that the last,
    odd batch of an epoch does no harm.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules.normalization import BatchNorm
    >>> BatchNorm(3)(torch.zeros(1, 3)).shape
    torch.Size([1, 3])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize a batch of shape (n, features)."""
        if self.training and x.shape[0] == 1:
            mean, var = self.running_mean, self.running_var
            return nn.functional.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)
