"""Trains in bfloat16 or float16 where that is safe."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("mixed_precision")
class MixedPrecision(Callback):
    """Trains in bfloat16 or float16 where that is safe."""
