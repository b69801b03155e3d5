"""Ends the fit after a time."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("time_limit")
class TimeLimit(Callback):
    """Ends the fit after a time."""
