"""Outputs and targets of a phase, gathered in bounded memory."""

from __future__ import annotations

from typing import Any

import torch

from skorchlike.callbacks.tools.metric_states import placed


class Rows:
    """Outputs, targets and weights of a phase, thinned when they are too many."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows, self.every = max_rows, 1
        self.pending: list[tuple[Any, ...]] = []
        self.pending_bytes = self.n_batches = self.n_seen = 0
        self.parts: list[list[Any]] = []

    def gather(self, output: torch.Tensor, y: torch.Tensor, weight: torch.Tensor | None) -> None:
        """Copy a batch on its device: a module may use the memory of its output again."""
        batch = (output.detach().clone(), y.clone(), None if weight is None else weight.clone())
        self.pending.append(batch)
        self.pending_bytes += sum(part.nbytes for part in batch if part is not None)
        self.n_batches += 1

    def move(self) -> tuple[list[int], list[Any]]:
        """Return the sizes of the batches gathered, and all of them as one, on the CPU."""
        sizes = [len(output) for output, *_ in self.pending]
        columns = zip(*self.pending, strict=True)
        self.pending, self.pending_bytes = [], 0
        return sizes, [None if c[0] is None else torch.cat(c).cpu() for c in columns]

    def keep(self, batch: list[Any]) -> None:
        """Keep the rows whose number in the order of arrival is a multiple of `every`."""
        n = len(batch[0])
        start = -self.n_seen % self.every
        self.parts.append(_thinned(batch, start, self.every))
        self.n_seen += n
        while -(-self.n_seen // self.every) > self.max_rows:
            self.every *= 2
            self.parts = [_thinned(self.kept(), 0, 2)]

    def state(self) -> dict[str, Any]:
        """Return what is gathered and kept."""
        names = ("every", "n_batches", "n_seen", "pending", "parts")
        return {name: getattr(self, name) for name in names}

    def load(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from a state; what is gathered belongs on the device."""
        self.every, self.n_batches, self.n_seen = (
            state[name] for name in ("every", "n_batches", "n_seen")
        )
        self.pending, self.parts = placed(state["pending"], device), state["parts"]
        parts = (part for batch in self.pending for part in batch if part is not None)
        self.pending_bytes = sum(part.nbytes for part in parts)

    def kept(self) -> list[Any]:
        """Return what is kept: outputs, targets, and weights or None."""
        columns = zip(*self.parts, strict=True)
        return [None if c[0] is None else torch.cat(c) for c in columns]


def _thinned(batch: list[Any], start: int, every: int) -> list[Any]:
    # contiguous: a view would keep the memory of the rows left out
    return [None if part is None else part[start::every].contiguous() for part in batch]
