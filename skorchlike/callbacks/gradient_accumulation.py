"""Steps once for several batches, as for one large batch."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("gradient_accumulation")
class GradientAccumulation(Callback):
    """Steps once for several batches, as for one large batch."""
