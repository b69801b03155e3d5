"""Callbacks: the base class, the registry, and the built-in ones, one a file."""

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.early_stopping import EarlyStopping
from skorchlike.callbacks.functional import make_callback
from skorchlike.callbacks.print_log import PrintLog
from skorchlike.callbacks.progress import Progress
from skorchlike.callbacks.registry import get_callback, list_callbacks, register_callback

__all__ = [
    "Callback",
    "EarlyStopping",
    "PrintLog",
    "Progress",
    "get_callback",
    "list_callbacks",
    "make_callback",
    "register_callback",
]
