"""Stores images with the channels last, which is faster on some devices."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("channels_last")
class ChannelsLast(Callback):
    """Stores images with the channels last, which is faster on some devices."""
