"""Memory for gathered rows, in pages of its own, used again once nobody holds them."""

from __future__ import annotations

import math
import mmap
import sys
from collections import deque
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
        self.kept: deque[list[mmap.mmap]] = deque()

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a tensor with any values; nobody else has its memory."""
        n_bytes = math.prod(shape) * dtype.itemsize
        if n_bytes < OWN_PAGES:
            return torch.empty(shape, dtype=dtype)
        piece = self._piece(n_bytes)
        return torch.frombuffer(piece, dtype=dtype, count=math.prod(shape)).view(shape)

    def _piece(self, n_bytes: int) -> mmap.mmap:
        """Return a piece that no tensor has, and keep it for further use."""
        for _ in range(len(self.kept)):
            try:
                # taken out before it is looked at: another thread cannot have it then
                holder = self.kept.popleft()
            except IndexError:
                break
            # held by the holder and by the call alone: no tensor has it
            free = sys.getrefcount(holder[0]) == 2
            if free and len(holder[0]) < n_bytes:
                continue  # too small, and forgotten
            piece = holder[0] if free else None
            self.kept.append(holder)
            if piece is not None:
                return piece
        piece = mmap.mmap(-1, n_bytes, **_PRIVATE)
        if len(self.kept) < KEPT:
            self.kept.append([piece])
        return piece

    def __reduce__(self) -> tuple[Any, ...]:
        """Make a copy, also one in another process, without the memory."""
        return Pages, ()
