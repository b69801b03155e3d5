"""Policies of the learning rate by name, and a warm-up before them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import lr_scheduler as schedulers
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.params.calling import name_of, short
from skorchlike.params.routing import snake_case

TOTALS = ("T_max", "total_steps", "total_iters")
"""Arguments that say how long a schedule is: the fit's length, if they are not said."""


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


# ---------------------------------------------------------------------- the policy


def resolve_policy(policy: Any) -> Callable[..., Any]:
    """Return the class or function that makes the scheduler."""
    # a scheduler of schedulers needs some that are built on the fit's optimizer
    nested = (schedulers.ChainedScheduler, schedulers.SequentialLR)
    if isinstance(policy, str):
        classes = [getattr(schedulers, name) for name in schedulers.__all__]
        names = {
            snake_case(cls.__name__.replace("LR", "")): cls
            for cls in classes
            if cls not in (*nested, schedulers.LRScheduler)
        }
        names["cosine"] = schedulers.CosineAnnealingLR
        names["cosine_warm_restarts"] = schedulers.CosineAnnealingWarmRestarts
        names["plateau"] = ReduceLROnPlateau
        if policy.lower() not in names:
            raise ParameterError(
                f"The 'policy' parameter of LRScheduler got the unknown name {policy!r}."
                f"{did_you_mean(policy.lower(), names)}"
            )
        return names[policy.lower()]
    known = callable(policy)
    if isinstance(policy, type):
        known = issubclass(policy, schedulers.LRScheduler) and not issubclass(policy, nested)
    if not known or policy is schedulers.LRScheduler:
        raise ParameterError(
            "The 'policy' parameter of LRScheduler must be a name, a class of torch.optim."
            "lr_scheduler, or a function that takes the optimizer and returns a scheduler (such as "
            f"one of several others). Got {short(policy)}."
        )
    return policy


def is_kind(policy: Any, cls: type) -> bool:
    """Whether a class or an object is of a class."""
    return issubclass(policy, cls) if isinstance(policy, type) else isinstance(policy, cls)


def missing_total(make: Any, parameters: dict[str, Any], said: dict[str, Any]) -> str | None:
    """Return the argument that the fit's length is to give, if there is one."""
    has_default = (OneCycleLR, schedulers.LinearLR, schedulers.PolynomialLR)
    for name in TOTALS:
        # one_cycle may have been told epochs and steps_per_epoch instead
        if name in parameters and name not in said and "epochs" not in said:
            needed = parameters[name].default is parameters[name].empty
            if needed or any(is_kind(make, cls) for cls in has_default):
                return name
    return None


def check_rise(make: Any, options: dict[str, Any]) -> None:
    """Refuse a one_cycle so short that torch skips its rise, or divides by zero."""
    total = options.get("total_steps")
    share = options.get("pct_start", 0.3)
    if total is None or not is_kind(make, OneCycleLR) or not isinstance(share, float):
        return
    if 0 < total * share <= 1:
        raise ParameterError(
            f"The policy 'one_cycle' of LRScheduler has {total} units, of which policy__"
            f"pct_start={share} is not more than one: no lr would rise. Use unit='batch', "
            "train longer, or say policy__total_steps or policy__pct_start."
        )


def shown(value: Any) -> Any:
    """Show an argument the same way in every process."""
    if isinstance(value, (list, tuple)):
        return [shown(v) for v in value]
    return name_of(value) if callable(value) else repr(value)


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
