"""Writes parameters and metrics to an MLflow store."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("mlflow")
class MLflow(Callback):
    """Writes parameters and metrics to an MLflow store."""
