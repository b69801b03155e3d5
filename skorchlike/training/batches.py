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

    @property
    def began_with(self) -> Any:
        """What the pass that was begun last began with, for `after`; plain data and tensors."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of one pass."""

    def after(self, began_with: Any, n_done: int) -> Iterator[Batch]:
        """Yield what was left of a pass after so many batches."""


def first_batches(data: Data, limit: int | None) -> Iterator[Batch]:
    """Return the batches of a pass, or the first ones; the last of those is marked so."""
    return iter(data) if limit is None else _first(iter(data), limit, 0)


def batches_after(data: Data, limit: int | None, began_with: Any, n_done: int) -> Iterator[Batch]:
    """Return what is left of `first_batches` of a pass after so many batches."""
    if limit is not None and n_done >= limit:
        return iter(())
    rest = data.after(began_with, n_done)
    return rest if limit is None else _first(rest, limit, n_done)


def _first(batches: Iterator[Batch], limit: int, n_done: int) -> Iterator[Batch]:
    for number, (*batch, is_last) in enumerate(batches, start=n_done + 1):
        yield (*batch, is_last or number == limit)
        if number == limit:
            return
