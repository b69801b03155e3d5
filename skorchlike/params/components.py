"""Module, criterion, optimizer and callbacks, built from what was said."""

from __future__ import annotations

import copy
import fnmatch
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from sklearn.base import clone
from torch import nn

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import get_callback
from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.modules import MODULES
from skorchlike.params.routing import beneath, is_dropped, snake_case

# ------------------------------------------------------------------ by name


@functools.cache
def _criteria() -> dict[str, type[nn.Module]]:
    """Names of torch's criteria: ``"cross_entropy"``, ``"mse"``, ``"bce_with_logits"``."""
    return {
        snake_case(name).removesuffix("_loss"): cls
        for name, cls in vars(nn).items()
        if isinstance(cls, type) and name.endswith("Loss")
    }


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


# ------------------------------------------------------------------ calling


def _parameters(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a constructor; none can be told of some built-in types."""
    try:
        return dict(inspect.signature(make).parameters)
    except ValueError:
        return {}


def _check_options(
    component: str,
    make: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    options: Mapping[str, Any],
) -> None:
    """Refuse options that the constructor has not, and name those that it misses."""
    kinds = {p.kind for p in parameters.values()}
    named = {
        name: p for name, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    for name in options:
        if name not in named and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ParameterError(
                f"Unknown parameter '{component}__{name}': {_name_of(make)} has no parameter "
                f"{name!r}.{did_you_mean(name, named)}"
            )
    missing = [n for n, p in named.items() if p.default is p.empty and n not in options]
    if missing:
        raise ParameterError(
            f"{_name_of(make)} needs {', '.join(map(repr, missing))}. Say it as "
            f"{component}__{missing[0]}=..."
        )


def _call(component: str, make: Callable[..., Any], *args: Any, **options: Any) -> Any:
    try:
        return make(*args, **options)
    except Exception as error:
        said = ", ".join(f"{k}={v!r}" for k, v in options.items())
        error.add_note(f"Raised while building the {component} {_name_of(make)}({said}).")
        raise


def _name_of(make: Any) -> str:
    return getattr(make, "__name__", None) or type(make).__name__


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
    parameters = _parameters(spec)
    options = {name: size for name, size in sizes.items() if name in parameters}
    options.update(said)
    _check_options("module", spec, parameters, options)
    module = _call("module", spec, **options)
    if not isinstance(module, nn.Module):
        raise ParameterError(
            f"The `module` parameter must give a torch.nn.Module. {_name_of(spec)} gave a "
            f"{type(module).__name__}."
        )
    return module


def follows_input_dtype(spec: Any) -> bool:
    """Whether a module takes its dtype from the data, as the built-in ones do."""
    return bool(getattr(named("module", spec), "follows_input_dtype", False))


# ---------------------------------------------------------------- criterion


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
    _check_options("criterion", spec, _parameters(spec), said)
    return _call("criterion", spec, **said)


# ---------------------------------------------------------------- optimizer


def optimizer_options(spec: Any, lr: float, said: Mapping[str, Any]) -> tuple[type, dict[str, Any]]:
    """Return the optimizer's class and its options, ``optimizer__lr`` before ``lr``."""
    spec = named("optimizer", spec)
    is_class = isinstance(spec, type) and issubclass(spec, torch.optim.Optimizer)
    if not is_class or spec is torch.optim.Optimizer:
        bound = isinstance(spec, torch.optim.Optimizer)
        raise ParameterError(
            "The `optimizer` parameter must be a torch.optim.Optimizer class or registered "
            f"name, such as torch.optim.SGD or 'sgd'. Got {_short(spec)}"
            f"{', an instance, which is bound to other parameters' if bound else ''}."
        )
    parameters = _parameters(spec)
    parameters.pop(next(iter(parameters)))  # the parameters to train, which fit gives
    options = {"lr": lr} if "lr" in parameters else {}
    options.update(said)
    checked = {name: value for name, value in options.items() if name != "param_groups"}
    _check_options("optimizer", spec, parameters, checked)
    return spec, options


def build_optimizer(
    cls: type[torch.optim.Optimizer],
    options: Mapping[str, Any],
    parameters: Mapping[str, nn.Parameter],
) -> torch.optim.Optimizer:
    """Build the optimizer over named parameters, in groups where they were said."""
    options = dict(options)
    valid = [*_parameters(cls)][1:]
    groups = _param_groups(options.pop("param_groups", None), parameters, valid)
    if not parameters:
        raise ParameterError("The `module` has no parameters, so there is nothing to train.")
    choices = {"fused", "foreach", "capturable", "differentiable"}
    if "fused" in valid and not choices & set(options) and _can_fuse(parameters):
        # one kernel for all parameters: a third of the cost of the for-loop
        options["fused"] = True
    return _call("optimizer", cls, groups, **options)


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


# ---------------------------------------------------------------- callbacks


def named_callbacks(callbacks: Any, said: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return name → callback of what ``callbacks`` says; dropped ones as None.

    Parameters
    ----------
    callbacks : None, dict or list
        ``{name: callback}``, ``[(name, callback)]``, or a list of callbacks and
        registered names.
    said : mapping, optional
        Replacements, from ``callbacks__name=...``, by name.

    Returns
    -------
    dict
        The user's own objects, not copies.

    Raises
    ------
    ParameterError
        If it is something else, or a name stands twice.
    """
    named: dict[str, Any] = {}
    for name, callback in _pairs(callbacks):
        callback = _one_callback(name, callback)
        if name is None:
            name = snake_case(type(callback).__name__)
        if not isinstance(name, str) or not name or "__" in name:
            raise ParameterError(
                f"The name of a callback must be a non-empty string without '__'. Got {name!r}."
            )
        if name in named:
            raise ParameterError(
                f"The `callbacks` parameter has the name {name!r} twice. Give each its own: "
                "callbacks={'first': ..., 'second': ...}."
            )
        named[name] = callback
    for name, replaced in (said or {}).items():
        if "__" not in name and name in named:
            named[name] = None if is_dropped(replaced) else _one_callback(name, replaced)
    return named


def _pairs(callbacks: Any) -> list[tuple[Any, Any]]:
    if callbacks is None:
        return []
    if isinstance(callbacks, Mapping):
        return list(callbacks.items())
    if not isinstance(callbacks, (list, tuple)):
        raise ParameterError(
            "The `callbacks` parameter must be a dict {name: callback}, a list of (name, "
            "callback), or a list of callbacks and registered names. "
            f"Got {_short(callbacks)}."
        )
    pairs: list[tuple[Any, Any]] = []
    for item in callbacks:
        if isinstance(item, tuple) and len(item) == 2:
            pairs.append(item)
        elif isinstance(item, str):
            pairs.append((item, get_callback(item)))
        else:
            pairs.append((None, item))
    return pairs


def _one_callback(name: Any, callback: Any) -> Callback | None:
    if is_dropped(callback) and name is not None:
        return None
    if isinstance(callback, str):
        return get_callback(callback)
    if isinstance(callback, Callback):
        return callback
    where = f"The callback {name!r}" if name is not None else "An entry of `callbacks`"
    if isinstance(callback, type) and issubclass(callback, Callback):
        raise ParameterError(
            f"{where} is the class {callback.__name__}. Pass an instance: {callback.__name__}()."
        )
    if hasattr(callback, "on_fit_task_begin"):
        raise ParameterError(
            f"{where} is {type(callback).__name__}, a callback of scikit-learn's own protocol. "
            "Give it to the estimator by set_callbacks(...)."
        )
    raise ParameterError(
        f"{where} must be an instance of skorchlike.Callback or a registered name. "
        f"Got {_short(callback)}."
    )


def build_callbacks(callbacks: Any, said: Mapping[str, Any]) -> dict[str, Callback]:
    """Return clones of the callbacks, with the parameters said to them.

    Parameters
    ----------
    callbacks : None, dict or list
        As the estimator's ``callbacks``.
    said : mapping
        What was said to them: ``name`` replaces, ``name__parameter`` sets.

    Returns
    -------
    dict
        Name → callback that nobody else holds.
    """
    built = {}
    originals = named_callbacks(callbacks, said)
    for name in {key.partition("__")[0] for key in said}:
        if name not in originals:
            raise ParameterError(
                f"The parameters 'callbacks__{name}...' name no callback."
                f"{did_you_mean(name, originals)}"
            )
    for name, original in originals.items():
        if original is None:
            continue
        callback = clone(original)
        parameters = beneath(name, said)
        if parameters:
            callback.set_params(**parameters)
        built[name] = callback
    return built


def _short(value: Any) -> str:
    text = repr(value)
    text = text if len(text) < 80 else f"{text[:77]}..."
    return f"{text} (a {type(value).__name__})"
