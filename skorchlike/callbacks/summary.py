"""Prints a table of the layers at the first batch."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("summary")
class Summary(Callback):
    """Prints a table of the layers at the first batch."""
