"""Writes the history to a CSV file."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("csv_logger")
class CSVLogger(Callback):
    """Writes the history to a CSV file."""
