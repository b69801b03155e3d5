"""Hands module, optimizer and batches to Hugging Face Accelerate."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("accelerate")
class Accelerate(Callback):
    """Hands module, optimizer and batches to Hugging Face Accelerate."""
