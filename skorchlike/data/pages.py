"""Memory for gathered rows, in pages of its own, used again once nobody holds them."""

from __future__ import annotations

import math
import mmap
import sys
from typing import Any

import torch
from torch import Tensor

OWN_PAGES = 2**17
"""From so many bytes on, gathered rows get memory pages of their own."""

KEPT = 2
"""So many pieces are kept for further use: one is filled while a batch of the last is trained."""

# a forked process then has pages of its own, whatever is written to these
_PRIVATE: dict[str, Any] = (
    {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
)


class Pages:
    """Gives memory for tensors on the CPU that comes back when nobody holds it any more.

    From the heap, where small objects settle in the gaps between such pieces, it would not: fits
    then grew by many times a piece. And the first use of a page costs as much as ten of its
    later ones, so pieces are used again: those of which no tensor is left, views included.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.data.pages import Pages
    >>> pages = Pages()
    >>> place = pages.empty((50_000, 4), torch.float32).data_ptr()
    >>> pages.empty((40_000, 4), torch.float32).data_ptr() == place
    True
    """

    def __init__(self) -> None:
        self.kept: list[mmap.mmap] = []

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor with any values; nobody else has its memory."""
        n_bytes = math.prod(shape) * dtype.itemsize
        if n_bytes < OWN_PAGES:
            return torch.empty(shape, dtype=dtype)
        piece = self._piece(n_bytes)
        return torch.frombuffer(piece, dtype=dtype, count=math.prod(shape)).view(shape)

    def _piece(self, n_bytes: int) -> mmap.mmap:
        kept = self.kept
        for number in range(len(kept)):
            # held by the list and by the call alone: no tensor has it
            if sys.getrefcount(kept[number]) == 2:
                if len(kept[number]) >= n_bytes:
                    return kept[number]
                kept[number] = mmap.mmap(-1, n_bytes, **_PRIVATE)
                return kept[number]
        piece = mmap.mmap(-1, n_bytes, **_PRIVATE)
        if len(kept) < KEPT:
            kept.append(piece)
        return piece

    def __reduce__(self) -> tuple[Any, ...]:
        """Make a copy, also one in another process, without the memory."""
        return Pages, ()
