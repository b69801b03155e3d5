"""Calls functions in forward and backward passes of layers."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("hooks")
class Hooks(Callback):
    """Calls functions in forward and backward passes of layers."""
