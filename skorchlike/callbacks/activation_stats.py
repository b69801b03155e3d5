"""Records mean, spread and dead share of activations."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("activation_stats")
class ActivationStats(Callback):
    """Records mean, spread and dead share of activations."""
