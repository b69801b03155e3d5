"""Raises the learning rate step by step and suggests one."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("lr_finder")
class LRFinder(Callback):
    """Raises the learning rate step by step and suggests one."""
