"""Module, criterion and optimizer as they are at a moment, to be put back."""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from skorchlike.training.context import Context


def states_of(ctx: Context) -> dict[str, Any]:
    """Copy the states of module, criterion and optimizer.

    The optimizer's own ``load_state_dict`` is not for later: in on_exit a wrapper of it
    (that of Accelerate) may be closed already.
    """
    groups = ctx.optimizer.param_groups
    parameters = enumerate(parameter for group in groups for parameter in group["params"])
    states = {
        "module": ctx.module.state_dict(),
        "criterion": ctx.criterion.state_dict(),
        "options": [{k: v for k, v in group.items() if k != "params"} for group in groups],
        # by the number of the parameter
        "state": {i: ctx.optimizer.state[p] for i, p in parameters if p in ctx.optimizer.state},
    }
    return copy.deepcopy(states)


def put_back(ctx: Context, states: dict[str, Any] | None) -> None:
    """Put back what `states_of` returned, if it was called, and drop the gradients."""
    if states is None:
        return
    states = copy.deepcopy(states)
    ctx.module.load_state_dict(states["module"])
    ctx.criterion.load_state_dict(states["criterion"])
    number = itertools.count()
    for group, was in zip(ctx.optimizer.param_groups, states["options"], strict=True):
        for name, value in was.items():
            if isinstance(value, torch.Tensor):
                group[name].copy_(value)  # others may hold it
            else:
                group[name] = value
        for parameter in group["params"]:
            parameter.grad = None
            ctx.optimizer.state.pop(parameter, None)
            if (state := states["state"].get(next(number))) is not None:
                ctx.optimizer.state[parameter] = _placed(state, ctx.device)


def _placed(state: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return an optimizer's state of a parameter; a step counted off the device stays there."""
    return {
        name: value.to(device) if isinstance(value, torch.Tensor) and value.ndim else value
        for name, value in state.items()
    }
