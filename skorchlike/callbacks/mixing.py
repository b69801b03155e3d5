"""Trains on mixtures of two rows."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("mixup")
class Mixup(Callback):
    """Trains on mixtures of two rows."""


@register_callback("cutmix")
class CutMix(Callback):
    """Trains on images with a patch of another."""
