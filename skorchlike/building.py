"""The components of one fit, built from what an estimator says and from the data."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from skorchlike.data.arrays import input_batches, torch_dtype
from skorchlike.data.batches import (
    FitData,
    Placement,
)
from skorchlike.exceptions import ParameterError
from skorchlike.model.trained import TrainedModel
from skorchlike.params.calling import check_options, parameters_of
from skorchlike.params.components import (
    build_criterion,
    build_module,
    build_optimizer,
    named,
    optimizer_options,
)
from skorchlike.params.continuing import (
    check_same_module,
    continue_criterion,
    continue_optimizer,
    group_options,
    is_lazy,
    same,
)
from skorchlike.params.placing import place_module

SIZES = ("n_features_in", "in_features", "n_outputs", "out_features")
"""Arguments that a module's constructor is given from the data."""


@dataclass
class Parts:
    """The components of one fit; `options` are those of the optimizer's groups at first."""

    module: nn.Module
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    options: list[dict[str, Any]]
    place: Placement


def build_parts(
    estimator: Any, data: FitData, device: torch.device, continued: TrainedModel | None
) -> Parts:
    """Build module, criterion and optimizer; continue from a model where there is one."""
    spec = estimator.criterion
    spec = estimator._default_criterion if spec is None else spec
    criterion = build_criterion(spec, estimator._said_to("criterion"))
    cls, options = optimizer_options(
        estimator.optimizer, estimator.lr, estimator._said_to("optimizer")
    )
    n_in, n_out = int(estimator.n_features_in_), estimator._n_outputs(criterion)
    sizes = dict(zip(SIZES, (n_in, n_in, n_out, n_out), strict=True))
    spec = "mlp" if estimator.module is None else estimator.module
    module = build_module(spec, estimator._said_to("module"), sizes)
    if continued is not None:
        check_same_module(continued.continuation_["module"], said_about(estimator, "module"))
        module = copy.deepcopy(continued.module_)
    x_dtype = torch_dtype(data.X)
    module, *dtypes = place_module(module, criterion, estimator.dtype, x_dtype, device)
    place = Placement(device, *dtypes)
    if is_lazy(module):
        _materialize(module, data.X, place)
    module.train()
    parameters = dict(module.named_parameters())
    parameters.update({f"criterion.{n}": p for n, p in criterion.named_parameters()})
    optimizer = build_optimizer(cls, options, parameters)
    parts = Parts(module, criterion, optimizer, group_options(optimizer), place)
    if continued is not None:
        before = continued.continuation_
        said_same = same(before["criterion"], said_about(estimator, "criterion"))
        continue_criterion(criterion, continued.criterion_, said_same=said_same)
        continue_optimizer(optimizer, continued.optimizer_, before["optimizer"], before["options"])
    return parts


def constructor(estimator: Any, component: str) -> Callable[..., Any] | None:
    """Return the class or function that is called with a component's routed parameters.

    None where there is none: an instance, or an unknown name.
    """
    defaults = {"module": "mlp", "criterion": estimator._default_criterion}
    spec = getattr(estimator, component)
    try:
        spec = named(component, defaults.get(component) if spec is None else spec)
    except ParameterError:
        return None
    built = isinstance(spec, (nn.Module, torch.optim.Optimizer))
    return spec if callable(spec) and not built else None


def check_components(estimator: Any) -> list[str]:
    """Return what is wrong with the components as far as it shows before a fit."""
    spec = estimator.criterion
    spec = estimator._default_criterion if spec is None else spec
    wrong = []
    for check in (
        lambda: _check_module(estimator),
        lambda: build_criterion(spec, estimator._said_to("criterion")),
        lambda: optimizer_options(
            estimator.optimizer, estimator.lr, estimator._said_to("optimizer")
        ),
    ):
        try:
            check()
        except ParameterError as error:
            wrong.append(str(error))
    return wrong


def _check_module(estimator: Any) -> None:
    make = constructor(estimator, "module")
    if make is None:
        named("module", estimator.module)
        return
    parameters = parameters_of(make)
    sizes = {name: 1 for name in SIZES if name in parameters}
    check_options("module", make, parameters, {**sizes, **estimator._said_to("module")})


def said_about(estimator: Any, component: str) -> dict[str, Any]:
    """Return what the estimator says about a component, by the parameters' names."""
    said = estimator._said_to(component)
    routed = {f"{component}__{name}": value for name, value in said.items()}
    return {component: getattr(estimator, component), **routed}


def _materialize(module: nn.Module, X: Any, place: Placement) -> None:
    """Give lazy layers their sizes by a pass over two rows."""
    batch, *_ = next(input_batches(X[:2], 2, place.input_dtype, place.device))
    with torch.no_grad():
        module.eval()(batch)
