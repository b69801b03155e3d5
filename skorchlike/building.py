"""The components of one fit, built from what an estimator says and from the data."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from skorchlike.data.inputs import Inputs
from skorchlike.data.rows import Placement
from skorchlike.exceptions import ParameterError
from skorchlike.model.trained import TrainedModel
from skorchlike.nested import map_arrays
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
from skorchlike.training.actions import call_module

SIZES = (
    "n_features_in",
    "in_features",
    "n_outputs",
    "out_features",
    "cat_cardinalities",
    "n_classes",
)
"""Arguments that a module's constructor is given from the data."""

SHOWN_ROWS = 10_000
"""So many training rows at most are shown to a module's ``init_from_data``."""


@dataclass
class Parts:
    """The components of one fit; `options` are those of the optimizer's groups at first."""

    module: nn.Module
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    options: list[dict[str, Any]]
    place: Placement


def build_parts(
    estimator: Any, inputs: Inputs, feed: Any, device: torch.device, continued: TrainedModel | None
) -> Parts:
    """Build module, criterion and optimizer; continue from a model where there is one.

    Parameters
    ----------
    estimator : BaseNeuralNet
        Says the parameters.
    inputs : Inputs
        What was learned of the inputs.
    feed : ArrayFeed or LoaderFeed
        Gives rows to modules that ask for some.
    device : torch.device
        Where to.
    continued : TrainedModel or None
        The model of the fit that is continued.
    """
    spec = estimator.criterion
    spec = estimator._default_criterion if spec is None else spec
    criterion = build_criterion(spec, estimator._said_to("criterion"))
    cls, options = optimizer_options(
        estimator.optimizer, estimator.lr, estimator._said_to("optimizer")
    )
    sizes = _sizes(estimator, inputs, criterion)
    spec = "mlp" if estimator.module is None else estimator.module
    module = build_module(spec, estimator._said_to("module"), sizes)
    if continued is not None:
        check_same_module(continued.continuation_["module"], said_about(estimator, "module"))
        module = copy.deepcopy(continued.module_)
    module, *dtypes = place_module(module, criterion, estimator.dtype, feed.dtype, device)
    place = Placement(device, *dtypes)
    if is_lazy(module):
        with torch.no_grad():
            call_module(module.eval(), feed.sample(2, place, inputs.preparation))
    if continued is None and hasattr(module, "init_from_data"):
        _show_data(module, feed.sample(SHOWN_ROWS, place, inputs.preparation))
    module.train()
    optimizer = build_optimizer(cls, options, parameters_by_name(module, criterion))
    parts = Parts(module, criterion, optimizer, group_options(optimizer), place)
    if continued is not None:
        before = continued.continuation_
        said_same = same(before["criterion"], said_about(estimator, "criterion"))
        continue_criterion(criterion, continued.criterion_, said_same=said_same)
        continue_optimizer(optimizer, continued.optimizer_, before["optimizer"], before["options"])
    return parts


def example_optimizer(estimator: Any) -> torch.optim.Optimizer | None:
    """Return an optimizer with the options that were said, over one parameter of no module.

    None where groups of parameters were said, which need the module's.
    """
    said = estimator._said_to("optimizer")
    if said.get("param_groups") is not None:
        return None
    cls, options = optimizer_options(estimator.optimizer, estimator.lr, said)
    return build_optimizer(cls, options, {"": nn.Parameter(torch.zeros(1))})


def parameters_by_name(module: nn.Module, criterion: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of both; the criterion's are called ``criterion.`` and their name."""
    found = dict(module.named_parameters())
    prefix = "criterion."
    while any(name.startswith(prefix) for name in found):  # the module has a part of that name
        prefix = f"criterion.{prefix}"
    found.update({f"{prefix}{name}": p for name, p in criterion.named_parameters()})
    return found


def constructor(estimator: Any, component: str) -> Callable[..., Any] | None:
    """Return the class or function that is called with a component's routed parameters.

    None where there is none: an instance, or an unknown name.
    """
    spec = getattr(estimator, component)
    if component in ("train_loader", "valid_loader"):
        return DataLoader if spec is None else spec
    defaults = {"module": "mlp", "criterion": estimator._default_criterion}
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


def _sizes(estimator: Any, inputs: Inputs, criterion: nn.Module) -> dict[str, Any]:
    """Return what a module's constructor may be given from the data."""
    n_out = estimator._n_outputs(criterion)
    sizes = {
        "n_outputs": n_out,
        "out_features": n_out,
        "cat_cardinalities": list(inputs.cat_cardinalities),
        "n_classes": estimator._n_softmax_classes(),
    }
    if inputs.n_features is not None:
        sizes.update(n_features_in=inputs.n_features, in_features=inputs.n_features)
    return sizes


def _show_data(module: nn.Module, X: Any) -> None:
    """Let a module initialize itself from rows of the training data."""
    with torch.no_grad():
        try:
            module.init_from_data(X)  # type: ignore[operator]
        except Exception as error:
            shapes = map_arrays(lambda part: tuple(part.shape), X)
            error.add_note(f"Raised by {type(module).__name__}.init_from_data on shapes {shapes}.")
            raise
