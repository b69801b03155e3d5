"""Keeps parameters as they are."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("freeze")
class Freeze(Callback):
    """Keeps parameters as they are."""


@register_callback("unfreeze")
class Unfreeze(Callback):
    """Trains more and more parameters by a schedule."""
