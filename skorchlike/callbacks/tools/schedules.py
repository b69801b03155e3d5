"""A schedule of the learning rate after a warm-up."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.optim import lr_scheduler as schedulers
from torch.optim.lr_scheduler import ReduceLROnPlateau


class Schedule:
    """A linear warm-up and then a scheduler, both of torch; after step `end` the lr stays.

    Not torch's ``SequentialLR``: that takes no plateau and no chained schedulers, and calls
    the function of a multiplicative one for step 0, which alone it does not.
    """

    def __init__(
        self,
        scheduler: schedulers.LRScheduler,
        optimizer: torch.optim.Optimizer,
        warmup: int,
        end: int | None,
    ) -> None:
        self.scheduler, self.optimizer, self.warmup, self.end = scheduler, optimizer, warmup, end
        self.taken = 0
        self.start = [options["lr"] for options in group_options(optimizer)]
        self.ramp = schedulers.LinearLR(optimizer, 1 / (warmup + 1), total_iters=max(warmup, 1))
        # torch would warn where a do_step does not call optimizer.step, or float16 skips one
        optimizer._opt_called = True  # type: ignore[attr-defined]

    def step(self, value: Any = None) -> None:
        """Go on by one; a plateau needs a value to do so."""
        taken = self.taken - self.warmup
        if taken < -1:
            self.ramp.step()
        elif taken == -1:
            self._set_start()
        elif isinstance(self.scheduler, ReduceLROnPlateau):
            if value is None:
                return
            self.scheduler.step(value)
        elif self.end is None or taken < self.end:
            self.scheduler.step()
        self.taken += 1

    def _set_start(self) -> None:
        for group, lr in zip(self.optimizer.param_groups, self.start, strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        """Return where it is."""
        scheduler, ramp = self.scheduler.state_dict(), self.ramp.state_dict()
        return {"taken": self.taken, "ramp": ramp, "scheduler": scheduler}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.taken = state["taken"]
        self.ramp.load_state_dict(state["ramp"])
        self.scheduler.load_state_dict(state["scheduler"])


def group_options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return copies of the options of the parameter groups."""
    return [
        copy.deepcopy({name: value for name, value in group.items() if name != "params"})
        for group in optimizer.param_groups
    ]


def put_options(optimizer: torch.optim.Optimizer, options: list[dict[str, Any]]) -> None:
    """Give the parameter groups these options and no others."""
    for group, wanted in zip(optimizer.param_groups, options, strict=True):
        for name in set(group) - set(wanted) - {"params"}:
            del group[name]
        group.update(copy.deepcopy(wanted))
