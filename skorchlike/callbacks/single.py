"""Ends the fit after a few batches: a smoke run."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("single_batch")
class SingleBatch(Callback):
    """Ends the fit after a few batches: a smoke run."""


@register_callback("single_epoch")
class SingleEpoch(Callback):
    """Ends the fit after a few epochs: a smoke run."""
