"""Callbacks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar, overload

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.params.routing import snake_case

BUILT_IN = {
    "accelerate": "accelerate.Accelerate",
    "activation_stats": "activation_stats.ActivationStats",
    "batch_transform": "batch_transform.BatchTransform",
    "channels_last": "channels_last.ChannelsLast",
    "checkpoint": "checkpoint.Checkpoint",
    "compile": "compile.Compile",
    "csv_logger": "csv_logger.CSVLogger",
    "cutmix": "mixing.CutMix",
    "early_stopping": "early_stopping.EarlyStopping",
    "ema": "weight_averaging.EMA",
    "freeze": "freezing.Freeze",
    "gradient_accumulation": "gradient_accumulation.GradientAccumulation",
    "gradient_clipping": "gradient_clipping.GradientClipping",
    "hooks": "hooks.Hooks",
    "live_plot": "live_plot.LivePlot",
    "lr_finder": "lr_finder.LRFinder",
    "lr_scheduler": "lr_scheduler.LRScheduler",
    "metrics": "metrics.Metrics",
    "mixed_precision": "mixed_precision.MixedPrecision",
    "mixup": "mixing.Mixup",
    "mlflow": "mlflow.MLflow",
    "nan_guard": "nan_guard.NaNGuard",
    "param_scheduler": "param_scheduler.ParamScheduler",
    "print_log": "print_log.PrintLog",
    "profile": "profile.Profile",
    "progress": "progress.Progress",
    "single_batch": "single.SingleBatch",
    "single_epoch": "single.SingleEpoch",
    "summary": "summary.Summary",
    "swa": "weight_averaging.SWA",
    "tensorboard": "tensorboard.TensorBoard",
    "time_limit": "time_limit.TimeLimit",
    "unfreeze": "freezing.Unfreeze",
}
"""Names of the built-in callbacks → file and class; the file is imported when it is needed."""

_NAMES = {f"{__package__}.{path}": name for name, path in BUILT_IN.items()}

_REGISTRY: dict[str, type[Callback]] = {}

C = TypeVar("C", bound=type[Callback])


@overload
def register_callback(name: C) -> C: ...
@overload
def register_callback(name: str | None = None) -> Callable[[C], C]: ...


def register_callback(name: Any = None) -> Any:
    """Register a callback class, so that its name can stand for it.

    A class decorator. A name registered by another class is an error; the same class
    (by module and name) replaces itself, so that a notebook cell can run twice.

    Parameters
    ----------
    name : str, optional
        The name; by default the class's in snake case.

    Returns
    -------
    callable
        The decorator, or the class itself when used without parentheses.

    Raises
    ------
    ParameterError
        If the name is taken, or what is decorated is no `Callback` subclass.

    Notes
    -----
    A registration holds for one process. In the workers of a parallel search pass the
    callback object instead of a name that you registered yourself.

    Examples
    --------
    >>> from skorchlike import Callback, get_callback, register_callback
    >>> @register_callback("shout")
    ... class Shout(Callback):
    ...     def on_epoch_end(self, ctx):
    ...         print("EPOCH", ctx.epoch)
    >>> get_callback("shout")
    Shout()
    """
    if isinstance(name, type):
        return _register(snake_case(name.__name__), name)
    return lambda cls: _register(name or snake_case(cls.__name__), cls)


def _register(name: str, cls: Any) -> Any:
    if not (isinstance(cls, type) and issubclass(cls, Callback)):
        raise ParameterError(f"register_callback takes a subclass of Callback. Got {cls!r}.")
    if not isinstance(name, str) or not name or "__" in name:
        raise ParameterError(
            f"The name of a callback must be a non-empty string without '__'. Got {name!r}."
        )
    taken = _taken_by(name)
    if taken not in (None, _path(cls)):
        raise ParameterError(
            f"The callback name {name!r} is registered for {taken}. Choose another."
        )
    # the same class imported or defined again replaces itself
    _REGISTRY[name] = cls
    return cls


def _taken_by(name: str) -> str | None:
    """Return where the class of a name stands, without importing it."""
    if name in BUILT_IN:
        return f"{__package__}.{BUILT_IN[name]}"
    return _path(_REGISTRY[name]) if name in _REGISTRY else None


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def callback_class(name: str) -> type[Callback]:
    """Return the class that a name stands for; a built-in one is imported by this.

    Raises
    ------
    ParameterError
        If nothing is registered by that name.
    """
    if name not in _REGISTRY and name in BUILT_IN:
        file, _, cls = BUILT_IN[name].partition(".")
        return getattr(import_module(f"{__package__}.{file}"), cls)
    if name not in _REGISTRY:
        raise ParameterError(
            f"There is no registered callback named {name!r}.{did_you_mean(name, list_callbacks())}"
        )
    return _REGISTRY[name]


def get_callback(name: str, **params: Any) -> Callback:
    """Build a registered callback.

    Parameters
    ----------
    name : str
        A name that `list_callbacks` shows.
    **params : dict
        Its arguments.

    Returns
    -------
    Callback
        A new instance.

    Raises
    ------
    ParameterError
        If the name or an argument is unknown.

    Examples
    --------
    >>> from skorchlike import get_callback
    >>> get_callback("early_stopping", patience=3)
    EarlyStopping(patience=3)
    """
    cls = callback_class(name)
    valid = cls._get_param_names()
    for key in params:
        if key not in valid and key.partition("__")[0] not in cls._components:
            raise ParameterError(
                f"{cls.__name__} has no parameter {key!r}.{did_you_mean(key, valid)}"
            )
    needed = [
        parameter.name
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind is not parameter.VAR_KEYWORD
        and parameter.name not in params
    ]
    if needed:
        raise ParameterError(
            f"{cls.__name__} needs {', '.join(map(repr, needed))}, so its name alone does not do: "
            f"pass {cls.__name__}({needed[0]}=...)."
        )
    return cls(**params)


def default_name(callback: Callback) -> str:
    """Return the name of a callback that was given none.

    The registered name of a built-in one, else the class's name in snake case: a
    registration by the user does not hold in the workers of a search.
    """
    cls = type(callback)
    return _NAMES.get(_path(cls)) or snake_case(cls.__name__)


def list_callbacks() -> list[str]:
    """Return the names of all registered callbacks, sorted.

    Returns
    -------
    list of str
        The built-in ones and those registered by `register_callback`.

    Examples
    --------
    >>> from skorchlike import list_callbacks
    >>> "early_stopping" in list_callbacks()
    True
    """
    return sorted({*BUILT_IN, *_REGISTRY})
