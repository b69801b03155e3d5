"""Module, criterion and optimizer, built from what was said."""

from __future__ import annotations

import copy
import fnmatch
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from skorchlike.criteria import CRITERIA
from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.modules import MODULES
from skorchlike.params.calling import call, check_options, name_of, parameters_of, short
from skorchlike.params.routing import snake_case

# ------------------------------------------------------------------ by name


@functools.cache
def _criteria() -> dict[str, type[nn.Module]]:
    """Names of torch's criteria (``"cross_entropy"``, ``"mse"``), and our own before them."""
    of_torch = {
        snake_case(name).removesuffix("_loss"): cls
        for name, cls in vars(nn).items()
        if isinstance(cls, type) and name.endswith("Loss")
    }
    return {**of_torch, **CRITERIA}


@functools.cache
def _optimizers() -> dict[str, type[torch.optim.Optimizer]]:
    """Names of torch's optimizers: ``"adamw"``, ``"sgd"``."""
    return {
        name.lower(): cls
        for name, cls in vars(torch.optim).items()
        if isinstance(cls, type)
        and issubclass(cls, torch.optim.Optimizer)
        and cls is not torch.optim.Optimizer
    }


NAMES: dict[str, Callable[[], dict[str, Any]]] = {
    "module": lambda: MODULES,
    "criterion": _criteria,
    "optimizer": _optimizers,
}


def named(component: str, spec: Any) -> Any:
    """Replace a registered name by what it stands for."""
    if not isinstance(spec, str):
        return spec
    names = NAMES[component]()
    if spec.lower() not in names:
        raise ParameterError(
            f"The `{component}` parameter got the unknown name {spec!r}."
            f"{did_you_mean(spec.lower(), names)}"
        )
    return names[spec.lower()]


def _refuse_options(component: str, spec: Any, said: Mapping[str, Any]) -> None:
    if said:
        name = next(iter(said))
        raise ParameterError(
            f"The parameter '{component}__{name}' needs `{component}` to be a class. It is an "
            f"instance of {type(spec).__name__}, which is built already: pass "
            f"{component}={type(spec).__name__} and say its arguments as {component}__name."
        )


# ------------------------------------------------------------------- module


def build_module(spec: Any, said: Mapping[str, Any], sizes: Mapping[str, int]) -> nn.Module:
    """Build or copy the module.

    Parameters
    ----------
    spec : str, type, callable or torch.nn.Module
        What the estimator's ``module`` says; an instance is copied.
    said : mapping
        Arguments for a class, from ``module__name``.
    sizes : mapping
        Sizes read off the data. Those that the constructor takes and that were not
        said are given to it.

    Returns
    -------
    torch.nn.Module
        A module that nobody else holds.
    """
    spec = named("module", spec)
    if isinstance(spec, nn.Module):
        _refuse_options("module", spec, said)
        return copy.deepcopy(spec)
    if not callable(spec):
        raise ParameterError(
            "The `module` parameter must be a torch.nn.Module class, instance or registered "
            f"name. Got {spec!r}."
        )
    parameters = parameters_of(spec)
    options = {name: size for name, size in sizes.items() if name in parameters}
    options.update(said)
    check_options("module", spec, parameters, options)
    module = call("module", spec, **options)
    if not isinstance(module, nn.Module):
        raise ParameterError(
            f"The `module` parameter must give a torch.nn.Module. {name_of(spec)} gave a "
            f"{type(module).__name__}."
        )
    return module


def follows_input_dtype(spec: Any) -> bool:
    """Whether a module takes its dtype from the data, as the built-in ones do."""
    return bool(getattr(named("module", spec), "follows_input_dtype", False))


# ---------------------------------------------------------------- criterion

CLASS_CRITERIA = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)
"""Their `weight` is a tensor of one for each class."""

WEIGHTED_CRITERIA = (*CLASS_CRITERIA, nn.BCELoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)
"""Their `weight` and `pos_weight` must be tensors."""


def build_criterion(spec: Any, said: Mapping[str, Any]) -> nn.Module:
    """Build or copy the criterion from a class, an instance or a name."""
    spec = named("criterion", spec)
    if isinstance(spec, nn.Module):
        _refuse_options("criterion", spec, said)
        return copy.deepcopy(spec)
    if not (isinstance(spec, type) and issubclass(spec, nn.Module)):
        raise ParameterError(
            "The `criterion` parameter must be a torch.nn.Module class, instance or registered "
            f"name, such as torch.nn.MSELoss or 'mse'. Got {spec!r}."
        )
    check_options("criterion", spec, parameters_of(spec), said)
    given = {name: _as_weight(spec, name, value) for name, value in said.items()}
    return call("criterion", spec, **given)


def _as_weight(cls: type[nn.Module], name: str, value: Any) -> Any:
    """Return weights of classes as the tensor that torch's criteria need."""
    if name not in ("weight", "pos_weight") or value is None:
        return value
    of_torch = issubclass(cls, WEIGHTED_CRITERIA)
    if not isinstance(value, (list, tuple, np.ndarray)) and not of_torch:
        return value  # one's own criterion may mean something else by the name
    try:
        weight = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ParameterError(_no_weight(name, value)) from error
    if not isinstance(value, torch.Tensor) or not weight.is_floating_point():
        weight = weight.to(torch.get_default_dtype())
    if of_torch and not (weight.isfinite() & (weight >= 0)).all():
        raise ParameterError(f"criterion__{name} must be finite and not negative. Got {value!r}.")
    if weight.ndim == 0 and name == "weight" and issubclass(cls, CLASS_CRITERIA):
        raise ParameterError(_no_weight(name, value))
    return weight


def _no_weight(name: str, value: Any) -> str:
    each = "a number for each class, in the order of classes_"
    what = each if name == "weight" else "a number, or one for each output of the module"
    return (
        f"criterion__{name} must be {what}. Got {value!r:.60}. For weights by label, or for "
        "'balanced' ones, there is class_weight={label: weight} or class_weight='balanced' of "
        "NeuralNetClassifier."
    )


# ---------------------------------------------------------------- optimizer


def optimizer_options(spec: Any, lr: float, said: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    """Return the optimizer's class and its options, ``optimizer__lr`` before ``lr``."""
    spec = named("optimizer", spec)
    is_class = isinstance(spec, type) and issubclass(spec, torch.optim.Optimizer)
    if not is_class or spec is torch.optim.Optimizer:
        bound = isinstance(spec, torch.optim.Optimizer)
        raise ParameterError(
            "The `optimizer` parameter must be a torch.optim.Optimizer class or registered "
            f"name, such as torch.optim.SGD or 'sgd'. Got {short(spec)}"
            f"{', an instance, which is bound to other parameters' if bound else ''}."
        )
    parameters = parameters_of(spec)
    parameters.pop(next(iter(parameters)))  # the parameters to train, which fit gives
    options = {"lr": lr} if "lr" in parameters else {}
    options.update(said)
    checked = {name: value for name, value in options.items() if name != "param_groups"}
    check_options("optimizer", spec, parameters, checked)
    return spec, options


def build_optimizer(
    cls: type[torch.optim.Optimizer],
    options: Mapping[str, Any],
    parameters: Mapping[str, nn.Parameter],
) -> torch.optim.Optimizer:
    """Build the optimizer over named parameters, in groups where they were said."""
    own = copy.deepcopy(dict(options))  # schedules write to a lr that is a tensor
    valid = [*parameters_of(cls)][1:]
    groups = _param_groups(own.pop("param_groups", None), parameters, valid)
    if not parameters:
        raise ParameterError("The `module` has no parameters, so there is nothing to train.")
    choices = {"fused", "foreach", "capturable", "differentiable"}
    can_fuse = "fused" in valid and _can_fuse(parameters) and not _has_momentum(cls, own, groups)
    if can_fuse and not choices & set(own):
        # one kernel for all parameters: a third of the cost of the for-loop
        own["fused"] = True
    return call("optimizer", cls, groups, **own)


def _has_momentum(cls: type, options: Mapping[str, Any], groups: Iterable[Any]) -> bool:
    """Whether it is SGD with momentum.

    Fused, that fails where a parameter has its first gradient later than others: one that is
    unfrozen, or a branch that the first batch did not take.
    """
    said = [options, *(group for group in groups if isinstance(group, Mapping))]
    return issubclass(cls, torch.optim.SGD) and any(o.get("momentum", 0) for o in said)


def _can_fuse(parameters: Mapping[str, nn.Parameter]) -> bool:
    return all(
        p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters.values()
    )


def _param_groups(
    said: Any, parameters: Mapping[str, nn.Parameter], valid: Iterable[str]
) -> list[Any]:
    """Sort parameters into groups by glob; the first pattern that matches takes one."""
    if said is None:
        return list(parameters.values())
    pairs = said.items() if isinstance(said, Mapping) else said
    try:
        pairs = [(pattern, dict(options)) for pattern, options in pairs]
    except (TypeError, ValueError):
        raise ParameterError(
            "optimizer__param_groups must be {pattern: options} or [(pattern, options), ...], "
            f"such as {{'*.bias': {{'weight_decay': 0.0}}}}. Got {said!r}."
        ) from None
    left = dict(parameters)
    groups = []
    for pattern, options in pairs:
        for name in options:
            if name not in valid:
                raise ParameterError(
                    f"Unknown option {name!r} for {pattern!r} in optimizer__param_groups."
                    f"{did_you_mean(name, valid)}"
                )
        taken = fnmatch.filter(left, pattern)
        if not taken:
            raise ParameterError(
                f"The pattern {pattern!r} of optimizer__param_groups matches no parameter that "
                f"an earlier pattern did not take. Parameters: {', '.join(parameters)}."
            )
        groups.append({"params": [left.pop(name) for name in taken], **options})
    if left:
        groups.append({"params": list(left.values())})
    return groups
