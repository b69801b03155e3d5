"""Targets looked through by so many rows at a time: a bound on memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

PIECE_ROWS = 2**16


def pieces_of(values: Any) -> Iterator[Any]:
    """Cut an array into views of so few rows that arrays of their positions are small."""
    for start in range(0, len(values), PIECE_ROWS):
        yield values[start : start + PIECE_ROWS]
