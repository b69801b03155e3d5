"""What is said now, against what an earlier fit left: module and optimizer taken up."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from skorchlike.exceptions import ParameterError, warn_continued


def class_name(thing: Any) -> str:
    """Return module and name of an object's class, by which states are matched."""
    # what multiprocessing calls the script in a process that it has spawned
    module = type(thing).__module__.replace("__mp_main__", "__main__")
    return f"{module}.{type(thing).__qualname__}"


def is_lazy(module: nn.Module) -> bool:
    """Whether the module has parameters or buffers whose sizes are still to be told."""
    return any(nn.parameter.is_lazy(t) for t in (*module.parameters(), *module.buffers()))


def same(was: Any, now: Any) -> bool:
    """Whether two parameter values are the same object, or equal beyond doubt."""
    if was is now:
        return True
    if type(was) is not type(now):
        return False
    if isinstance(was, dict):
        return was.keys() == now.keys() and all(same(was[key], now[key]) for key in was)
    if isinstance(was, (list, tuple)):
        return len(was) == len(now) and all(map(same, was, now))
    if isinstance(was, torch.Tensor):
        return torch.equal(was, now)
    if isinstance(was, np.ndarray):
        return np.array_equal(was, now, equal_nan=was.dtype.kind in "fc")
    if isinstance(was, float) and was != was:
        return bool(now != now)
    if hasattr(was, "equals"):
        return bool(was.equals(now))  # a pandas object
    try:
        return bool(was == now)
    except (TypeError, ValueError, RuntimeError):
        return False


def check_same_module(was: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to continue with another ``module`` or other arguments of it.

    The trained module goes on as it is: what is said now would have no effect.
    """
    for name in {**was, **now}:
        missing = name not in was or name not in now
        if missing or not same(was[name], now[name]):
            raise ParameterError(
                f"The parameter `{name}` has changed since the fit that is to be continued: it "
                f"was {_told(was, name)} and is {_told(now, name)}. The "
                "`module` goes on as it was trained. Set it back, or fit anew with "
                "warm_start=False."
            )


def check_same_transforms(was: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to continue with another transform: what was learned of the numbers goes on."""
    for name in now:
        if not same(was.get(name), now[name]):
            raise ParameterError(
                f"The parameter `{name}` has changed since the fit that is to be continued: it "
                f"was {_told(was, name)} and is {_told(now, name)}. What was learned of the "
                "numbers goes on as it is. Set it back, or fit anew with warm_start=False."
            )


def _told(said: dict[str, Any], name: str) -> str:
    return repr(said[name]) if name in said else "left out"


def continue_criterion(built: nn.Module, trained: nn.Module, *, said_same: bool) -> None:
    """Take up the criterion's trained parameters, and all its state if it was said the same.

    What is said now about its buffers (class weights) wins over what they were.
    """
    if said_same:
        built.load_state_dict(trained.state_dict())
        return
    parameters = dict(trained.named_parameters()) if type(built) is type(trained) else {}
    for name, parameter in built.named_parameters():
        if name in parameters and parameters[name].shape == parameter.shape:
            with torch.no_grad():
                parameter.copy_(parameters[name])
        else:
            warn_continued(f"The criterion's parameter {name!r} is new and starts afresh.")


def group_options(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the options of each parameter group."""
    return [
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]


def continue_optimizer(
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    cls_before: type,
    options_before: list[dict[str, Any]],
) -> None:
    """Take up the state of an optimizer; options said otherwise since then win.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Built from what is said now.
    state : dict
        The ``state_dict()`` of the earlier one.
    cls_before : type
        The class of the earlier one.
    options_before : list of dict
        The options of its groups when it was built, before any scheduler.

    Raises
    ------
    ParameterError
        If the parameter groups have changed.
    """
    if cls_before is not type(optimizer):
        warn_continued(
            f"The optimizer is {type(optimizer).__name__} and was {cls_before.__name__} in the "
            "fit that is continued: it starts afresh."
        )
        return
    options = group_options(optimizer)
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if sizes != [len(group["params"]) for group in state["param_groups"]]:
        raise ParameterError(
            "The groups of optimizer__param_groups have changed since the fit that is to be "
            "continued. Set them back, or fit anew with warm_start=False."
        )
    load_optimizer(optimizer, state)
    for group, was, now in zip(optimizer.param_groups, options_before, options, strict=True):
        group.update({name: value for name, value in now.items() if was.get(name) != value})


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimizer a state, in the dtypes that it has; torch casts to the parameters'.

    The groups stay the same objects, which others hold.
    """
    groups = list(optimizer.param_groups)
    optimizer.load_state_dict(copy.deepcopy(state))
    for group, loaded in zip(groups, optimizer.param_groups, strict=True):
        group.clear()
        group.update(loaded)
    optimizer.param_groups[:] = groups
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    parameters = [parameter for group in groups for parameter in group["params"]]
    for number, parameter in zip(numbers, parameters, strict=True):
        here = optimizer.state.get(parameter, {})
        for key, value in state["state"].get(number, {}).items():
            if isinstance(value, torch.Tensor) and here[key].dtype != value.dtype:
                here[key] = value.detach().clone().to(here[key].device)
