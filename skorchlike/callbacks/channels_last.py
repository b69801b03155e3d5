"""Stores images with the channels last, which is faster on some devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError
from skorchlike.nested import arrays_of, first_array, is_nested, map_arrays

if TYPE_CHECKING:
    from skorchlike.training.context import Context

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


class ChannelsLast(Callback):
    """Store images and the weights of convolutions with the channels last.

    Shapes stay as they are, (n, channels, height, width): only the order in memory is
    another, which many convolutions are faster with, those in half precision on GPUs with
    tensor cores above all. Images of four dimensions take ``torch.channels_last``, volumes of
    five ``torch.channels_last_3d``. Results are the same up to rounding.

    Raises
    ------
    ParameterError
        Before training, if X has neither four nor five dimensions.

    Notes
    -----
    The fitted module keeps the order. In validation and prediction batches are converted
    too. A ``forward`` that calls ``x.view(len(x), -1)`` fails in this order; it needs
    ``x.flatten(1)``.

    The layout and its use are described in torch's tutorial "Channels Last Memory Format in
    PyTorch"; fastai has a callback of the same name.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from skorchlike import ChannelsLast, NeuralNetClassifier
    >>> X, y = np.random.default_rng(0).normal(size=(8, 3, 4, 4)), [0, 1] * 4
    >>> module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    >>> net = NeuralNetClassifier(module, max_epochs=2, callbacks=[ChannelsLast()]).fit(X, y)
    >>> net.model_.module_[0].weight.is_contiguous(memory_format=torch.channels_last)
    True
    """

    order = -70

    def on_begin(self, ctx: Context) -> None:
        """Check the dimensions; convert the module and what the optimizer kept for it."""
        _reorder(next(ctx.train_inputs()))
        for parameter in (*ctx.module.parameters(), *ctx.module.buffers()):
            parameter.data = _convert(parameter.data)
        for state in ctx.optimizer.state.values():
            for name, value in state.items():
                # fused optimizers go through both by place in memory: it must be one order
                if isinstance(value, torch.Tensor):
                    state[name] = _convert(value)

    def on_batch_begin(self, ctx: Context) -> None:
        """Convert the batch."""
        ctx.X = _reorder(ctx.X)

    on_batch_valid_begin = on_batch_begin
    on_batch_predict_begin = on_batch_begin


def _convert(tensor: torch.Tensor) -> torch.Tensor:
    """Return weights in the order of their number of dimensions; others as they are."""
    memory_format = FORMATS.get(tensor.ndim)
    return tensor if memory_format is None else tensor.contiguous(memory_format=memory_format)


def _reorder(X: Any) -> Any:
    """Return images in the new order; of several inputs, those that are images."""
    if not is_nested(X):
        return X.contiguous(memory_format=_format(X))
    if not any(part.ndim in FORMATS for _, part in arrays_of(X)):
        _format(first_array(X))
    return map_arrays(_convert, X)


def _format(X: torch.Tensor) -> torch.memory_format:
    if X.ndim not in FORMATS:
        raise ParameterError(
            "ChannelsLast needs images of shape (n, channels, height, width) or volumes of shape "
            f"(n, channels, depth, height, width). X has the shape {tuple(X.shape)}. Reshape it, "
            "for example by X.reshape(-1, 1, 28, 28), or drop the callback."
        )
    return FORMATS[X.ndim]
