"""The optimizer's step as one call of its fused kernel, without the Python around it."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any

import torch
from torch import Tensor

from skorchlike.training.fast import kernels
from skorchlike.training.fast.groups import AdamGroup, Group, SGDGroup

GROUPS: dict[type, type[Group]] = {
    torch.optim.Adam: AdamGroup,
    torch.optim.AdamW: AdamGroup,
    torch.optim.SGD: SGDGroup,
}
"""The optimizers whose step is one call of a kernel."""


class FusedUpdate:
    """Do what ``step`` of a fused Adam, AdamW or SGD does, by one call for each group.

    It calls the kernels that the optimizer calls, with the same tensors: those of its state, which
    it reads anew for every step. So parameters and state are the same, bit by bit.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        One that `why_not` has nothing against.

    Notes
    -----
    A kernel takes the gradients to lie in memory as the parameters do, and otherwise trains
    wrongly without an error. ``backward`` leaves them so.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.groups: list[Group] = []
        self.state: Any = None
        self.hooks = kernels.step_hooks(optimizer)

    def ready(self) -> bool:
        """Glance at all that may have changed since `learn`; False if something has."""
        optimizer, groups = self.optimizer, self.groups
        state = optimizer.state
        ready = (
            len(groups) == len(optimizer.param_groups)
            and state is self.state
            and not any(self.hooks)
            and vars(optimizer).get("step") is self.patched
            and "zero_grad" not in vars(optimizer)
            and not kernels.is_scaled(optimizer)
            and not kernels.is_profiled()
            and len(state) == len(self.states)
            and all(map(is_, state.values(), self.states))
            and all(map(_is_as_it_was, groups, optimizer.param_groups))
        )
        if not ready:
            self.groups = []
        return ready

    def learn(self, *, all_active: bool = False) -> bool:
        """Look at the optimizer; return whether its next steps can be done by `apply`.

        They cannot before its own first step, which makes its state.

        Parameters
        ----------
        all_active : bool, default=False
            Whether all parameters will have gradients; else those that have some now.
        """
        optimizer, self.groups = self.optimizer, []
        if why_not(optimizer) is not None:
            return False
        state, cls = optimizer.state, GROUPS[type(optimizer)]
        groups = []
        for group in optimizer.param_groups:
            active = [p for p in group["params"] if all_active or p.grad is not None]
            kinds = {(p.dtype, p.device) for p in active}
            if len(kinds) > 1 or not all(cls.has_state(state, p) for p in active):
                return False
            groups.append(cls(group, active, state))
        device = next((p.device for group in groups for p in group.active), None)
        if device is None:
            return False
        self.state, self.states = state, list(state.values())
        self.patched = vars(optimizer).get("step")
        self.one = torch.tensor(1.0, device=device)
        self.groups = groups
        return True

    def gradients(self) -> list[list[Tensor]] | None:
        """Return the gradients by group, or None if other parameters have some than before."""
        found = []
        for group in self.groups:
            gradients = group.gradients()
            if gradients is None:
                return None
            found.append(gradients)
        return found

    def apply(self, gradients: Sequence[Sequence[Tensor]]) -> None:
        """Update the parameters by these gradients, of one list a group; grad mode is off."""
        for group, own in zip(self.groups, gradients, strict=True):
            if own:
                group.update(own, self.one)
        if self.patched is not None:  # by a schedule of torch, which wants to be told of steps
            self.optimizer._opt_called = True  # type: ignore[attr-defined]


def why_not(optimizer: Any) -> str | None:
    """Say why the steps of an optimizer are not to be done by its fused kernel alone, or None."""
    name = type(optimizer).__name__
    cls = GROUPS.get(type(optimizer))
    if cls is None:
        return f"{name} is not one of torch's Adam, AdamW and SGD"
    if kernels.is_patched() or not kernels.step_is_own(optimizer):
        return f"the step of {name}, or another function of torch, is replaced"
    missing = kernels.lacking(*cls.needs)
    if missing is not None:
        return f"this version of torch has no {missing}"
    patched = vars(optimizer).get("step")
    if patched is not None and not kernels.is_of_schedule(patched, optimizer):
        return f"the step of {name} is replaced"
    if "zero_grad" in vars(optimizer):
        return f"the zero_grad of {name} is replaced"
    if any(kernels.step_hooks(optimizer)):
        return f"{name} has hooks"
    if kernels.is_scaled(optimizer):
        return f"{name} scales gradients"
    if kernels.is_profiled():
        return "a profiler runs"
    reasons = map(cls.why_not, optimizer.param_groups)
    reason = next((reason for reason in reasons if reason is not None), None)
    return None if reason is None else f"{name} has {reason}"


def _is_as_it_was(group: Group, now: dict[str, Any]) -> bool:
    return group.is_as_it_was(now)
