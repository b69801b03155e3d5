"""Draws the losses while the fit runs."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("live_plot")
class LivePlot(Callback):
    """Draws the losses while the fit runs."""
