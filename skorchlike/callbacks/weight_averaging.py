"""Predicts with an exponential moving average of the weights."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("ema")
class EMA(Callback):
    """Predicts with an exponential moving average of the weights."""


@register_callback("swa")
class SWA(Callback):
    """Predicts with the mean of the weights of the last epochs."""
