"""What the loop needs of data, and how much of it a phase takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

Batch = tuple[Any, Any, Any, Any, int, bool]
"""X, y, sample_weight, row numbers (or what returns them), number of rows, is last."""


class Data(Protocol):
    """What the loop needs of data: batches on the device, and how many if that is known."""

    @property
    def n_batches(self) -> int | None:
        """How many batches a pass has, or None."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of one pass."""


def first_batches(data: Data, limit: int | None) -> Iterator[Batch]:
    """Return the batches of a pass, or the first ones; the last of those is marked so."""
    return iter(data) if limit is None else _first(data, limit)


def _first(data: Data, limit: int) -> Iterator[Batch]:
    for number, (*batch, is_last) in enumerate(data, start=1):
        yield (*batch, is_last or number == limit)
        if number == limit:
            return
