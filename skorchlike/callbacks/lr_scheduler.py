"""Changes the learning rate by a schedule: any of torch's, with warm-up."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("lr_scheduler")
class LRScheduler(Callback):
    """Changes the learning rate by a schedule: any of torch's, with warm-up."""
