"""Finds the first NaN or infinity and where it came from."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("nan_guard")
class NaNGuard(Callback):
    """Finds the first NaN or infinity and where it came from."""
