"""Policies of the learning rate: what was said, and the schedule that it makes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch.optim import lr_scheduler as schedulers
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from skorchlike.callbacks.tools.monitoring import check_monitor, direction
from skorchlike.callbacks.tools.schedules import Schedule
from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.params.calling import call, check_options, name_of, parameters_of, short
from skorchlike.params.routing import snake_case

TOTALS = ("T_max", "total_steps", "total_iters")
"""Arguments that say how long a schedule is: the fit's length, if they are not said."""


@dataclass
class Policy:
    """What was said to LRScheduler.

    Attributes
    ----------
    spec : str, type or callable
        The policy.
    said : mapping
        Its arguments.
    unit, monitor, warmup
        As in LRScheduler.
    """

    spec: Any
    said: Mapping[str, Any]
    unit: str
    monitor: str
    warmup: int

    def advice(self, epochs: int, columns: tuple[str, ...]) -> list[str]:
        """Say which arguments look as if they were meant in the other unit."""
        in_epochs = self.unit == "epoch"
        total = self.arguments([1.0], columns)[2]
        if total and in_epochs:
            self.left(epochs, total)
        said, advice = self.said, []
        for name in (name for name in TOTALS if isinstance(said.get(name), Real)):
            if in_epochs and said[name] > 2 * epochs:
                advice.append(
                    f"policy__{name}={said[name]} counts epochs, and the fit has {epochs}: it ends "
                    "long before the schedule. Leave it out, or set unit='batch'."
                )
            if not in_epochs and said[name] == epochs > 1:
                advice.append(
                    f"policy__{name}={said[name]} counts optimizer steps (unit='batch') and is the "
                    "number of epochs. Leave it out, or set unit='epoch'."
                )
        if in_epochs and said.get("step_size", 0) + self.warmup >= epochs:
            advice.append(
                f"the schedule's first step would come after the last of {epochs} epochs. Make "
                "policy__step_size or warmup smaller."
            )
        return advice

    def build(
        self,
        optimizer: torch.optim.Optimizer,
        units: int | None,
        columns: tuple[str, ...],
        total: int | None,
    ) -> tuple[Schedule, int | None]:
        """Build the schedule on the optimizer as it is, and return it with its total.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            Whose lr it sets.
        units : int or None
            Epochs or optimizer steps of the fit, if they are known.
        columns : tuple of str
            Columns of the history.
        total : int or None
            A total to keep, that of the fit which goes on.
        """
        lrs = [group.get("lr") for group in optimizer.param_groups]
        if None in lrs:
            raise ParameterError(
                f"LRScheduler needs an optimizer with an lr; {name_of(optimizer)} has none."
            )
        make, options, name = self.arguments(lrs, columns)
        if name:
            total = options[name] = self.left(units, name) if total is None else total
            if total == 1 and self.unit == "epoch":
                warnings.warn(
                    "The schedule of LRScheduler has one epoch, and so hardly changes an lr: in "
                    f"each partial_fit it begins anew. Say policy__{name}=..., or use "
                    "unit='batch'.",
                    UserWarning,
                    stacklevel=2,
                )
        check_rise(make, options, self.unit)
        scheduler = call("policy", make, optimizer, **options)
        if not isinstance(scheduler, schedulers.LRScheduler):
            raise ParameterError(
                "The 'policy' parameter of LRScheduler must give a torch.optim.lr_scheduler."
                f"LRScheduler. {name_of(make)} gave {short(scheduler)}."
            )
        self.check_plateau(scheduler, columns)
        end = total
        if isinstance(scheduler, OneCycleLR):
            end = scheduler.total_steps - 1  # a step further the lr would rise again
        return Schedule(scheduler, optimizer, int(self.warmup), end), total

    def signature(self) -> str:
        """Return what was said, the same in every process."""
        said = sorted((name, shown(value)) for name, value in self.said.items())
        make = resolve_policy(self.spec)
        monitor = self.monitor if is_kind(make, ReduceLROnPlateau) else None
        return repr((name_of(make), said, self.unit, int(self.warmup), monitor))

    def arguments(
        self, lrs: list[Any], columns: tuple[str, ...]
    ) -> tuple[Callable[..., Any], dict[str, Any], str | None]:
        """Return what to call, its arguments, and the one that the fit's length is to give."""
        make = resolve_policy(self.spec)
        parameters = dict(list(parameters_of(make).items())[1:])  # the first is the optimizer
        if isinstance(make, type):
            parameters.pop("last_epoch", None)  # continuing is this callback's affair
        said = self.said
        options = {n: v.item() if isinstance(v, np.generic) else v for n, v in said.items()}
        self.check_plateau(make, columns)
        if is_kind(make, OneCycleLR):
            options.setdefault("max_lr", lrs)
        if is_kind(make, ReduceLROnPlateau) and "mode" not in options:
            try:
                options["mode"] = direction("LRScheduler", self.monitor)
            except ParameterError as error:
                raise ParameterError(str(error).replace("mode=", "policy__mode=")) from None
        total = missing_total(make, parameters, options)
        check_options("policy", make, parameters, {total: 1, **options} if total else options)
        for name in (*TOTALS, "step_size") if make.__module__ == schedulers.__name__ else ():
            value = options.get(name, 1)
            if value is not None and not (isinstance(value, (int, float)) and value >= 1):
                raise ParameterError(
                    f"The parameter 'policy__{name}' of LRScheduler must be at least 1. Got "
                    f"{value!r}."
                )
        return make, options, total

    def left(self, units: int | None, total: str) -> int:
        """Return the units that the warm-up leaves to the policy."""
        if units is None:
            raise ParameterError(
                "The number of optimizer steps of this fit is not known, and the policy of "
                f"LRScheduler needs it. Say policy__{total}=..., or use unit='epoch'."
            )
        if units <= self.warmup:
            counted = "epochs" if self.unit == "epoch" else "optimizer steps"
            raise ParameterError(
                f"The 'warmup' parameter of LRScheduler must leave some of the {units} {counted} "
                f"of this fit to the policy. Got {self.warmup}. Make it smaller, or say "
                f"policy__{total}=..."
            )
        return int(units - self.warmup)

    def check_plateau(self, policy: Any, columns: tuple[str, ...]) -> None:
        """Refuse a plateau whose column the fit will not have."""
        if not is_kind(policy, ReduceLROnPlateau):
            return
        if self.unit == "batch":
            raise ParameterError(
                "LRScheduler with the policy 'plateau' needs unit='epoch': the column that it "
                "monitors is there once an epoch. Got unit='batch'."
            )
        check_monitor("LRScheduler", self.monitor, columns)


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


def check_rise(make: Any, options: dict[str, Any], unit: str) -> None:
    """Refuse a one_cycle so short that torch skips its rise, or divides by zero."""
    total = options.get("total_steps")
    share = options.get("pct_start", 0.3)
    if total is None or not is_kind(make, OneCycleLR) or not isinstance(share, float):
        return
    if 0 < total * share <= 1:
        raise ParameterError(
            f"The policy 'one_cycle' of LRScheduler has {total} units, of which policy__"
            f"pct_start={share} is not more than one: no lr would rise. "
            f"Use {'unit=' + repr('batch') if unit == 'epoch' else 'a smaller batch_size'}, "
            "train longer, or say policy__total_steps or policy__pct_start."
        )


def shown(value: Any) -> Any:
    """Show an argument the same way in every process."""
    if isinstance(value, (list, tuple)):
        return [shown(v) for v in value]
    return name_of(value) if callable(value) else repr(value)
