"""Compiles the module or the whole step by torch.compile."""

from __future__ import annotations

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback


@register_callback("compile")
class Compile(Callback):
    """Compiles the module or the whole step by torch.compile."""
