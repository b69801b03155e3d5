"""Limits the norm or the values of the gradients."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("gradient_clipping")
class GradientClipping(Callback):
    """Limits the norm or the values of the gradients."""
