"""Writes scalars and histograms for TensorBoard."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("tensorboard")
class TensorBoard(Callback):
    """Writes scalars and histograms for TensorBoard."""
