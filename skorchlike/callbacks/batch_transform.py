"""Applies a function to each batch on the device."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("batch_transform")
class BatchTransform(Callback):
    """Applies a function to each batch on the device."""
