"""What is said now, against what an earlier fit left: module and optimizer taken up."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from skorchlike.exceptions import ParameterError, warn_continued


def continue_module(built: nn.Module, trained: nn.Module) -> nn.Module:
    """Copy the trained module; what is said now must describe it still.

    Parameters
    ----------
    built : torch.nn.Module
        A module built from what is said now.
    trained : torch.nn.Module
        The module of the fit that is continued.

    Returns
    -------
    torch.nn.Module
        A copy of `trained`.

    Raises
    ------
    ParameterError
        If the class or the shape of a parameter has changed.
    """

    def shapes(module: nn.Module) -> dict[str, Any]:
        return {name: getattr(value, "shape", None) for name, value in module.state_dict().items()}

    if type(built) is not type(trained):
        change = f"it was a {type(trained).__name__} and is a {type(built).__name__}"
    elif not is_lazy(built) and shapes(built) != shapes(trained):
        was, now = shapes(trained), shapes(built)
        name = next(n for n in {**was, **now} if was.get(n) != now.get(n))
        change = f"the shape of {name!r} was {was.get(name)} and is {now.get(name)}"
    else:
        return copy.deepcopy(trained)
    raise ParameterError(
        "The `module` parameter or its arguments have changed since the fit that is to be "
        f"continued: {change}. Set them back, or fit anew with warm_start=False."
    )


def class_name(thing: Any) -> str:
    """Return module and name of an object's class, by which states are matched."""
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def is_lazy(module: nn.Module) -> bool:
    """Whether the module has parameters whose sizes are still to be told."""
    return any(isinstance(p, nn.UninitializedParameter) for p in module.parameters())


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
    optimizer.load_state_dict(copy.deepcopy(state))
    for group, was, now in zip(optimizer.param_groups, options_before, options, strict=True):
        group.update({name: value for name, value in now.items() if was.get(name) != value})
