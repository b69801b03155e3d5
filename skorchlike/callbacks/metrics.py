"""Records metrics: scikit-learn's scorers, functions, torchmetrics."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("metrics")
class Metrics(Callback):
    """Records metrics: scikit-learn's scorers, functions, torchmetrics."""
