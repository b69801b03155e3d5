"""Measures the time of each stage, action and callback."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("profile")
class Profile(Callback):
    """Measures the time of each stage, action and callback."""
