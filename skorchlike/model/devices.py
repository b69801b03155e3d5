"""Models of one machine on another: on its devices, as far as it has them."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

CPU = torch.device("cpu")


def usable_device(name: Any) -> torch.device:
    """Return a device of this machine: that of the name, or the CPU if there is none.

    Parameters
    ----------
    name : str or torch.device
        The device.

    Examples
    --------
    >>> usable_device("cpu")
    device(type='cpu')
    """
    device = torch.device(name)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        return CPU
    return device


def on_this_machine(place: Any) -> Any:
    """Return where a model is: on its own device, or on the CPU if that is missing here.

    Parameters
    ----------
    place : Placement
        Has a ``device``.

    Warns
    -----
    UserWarning
        If the device is missing.
    """
    if usable_device(place.device).type == place.device.type:
        return place
    warnings.warn(
        f"The model was trained on the device {str(place.device)!r}, which this machine does not "
        "have. It is on the CPU now.",
        UserWarning,
        stacklevel=2,
    )
    return dataclasses.replace(place, device=CPU)


@dataclasses.dataclass
class Placed:
    """A tensor that was on another device: a copy on the CPU, and where it was."""

    value: Tensor
    device: str


def portable(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a `TrainedModel` without tensors on an accelerator.

    A machine without that device can unpickle them so.

    Parameters
    ----------
    state : dict
        The attributes; they are not changed. Those of a model on the CPU stay as they are.

    Returns
    -------
    dict
        What `settled` takes.
    """
    if state["place_"].device.type == "cpu":
        return dict(state)
    # the module that was given stays the same object: by that a continued fit knows it again
    continuation = dict(state["continuation_"])
    if "callbacks" in continuation:
        continuation["callbacks"] = _map_tensors(_to_cpu, continuation["callbacks"])
    return {
        **state,
        "module_": copy.deepcopy(state["module_"]).cpu(),
        "criterion_": copy.deepcopy(state["criterion_"]).cpu(),
        # an optimizer that takes it up moves it where its parameters are
        "optimizer_": _map_tensors(Tensor.cpu, state["optimizer_"]),
        "callbacks_": _map_tensors(_to_cpu, state["callbacks_"]),
        "continuation_": continuation,
    }


def settled(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a `TrainedModel` on its device, or on the CPU if that is missing.

    Parameters
    ----------
    state : dict
        What `portable` has returned.

    Warns
    -----
    UserWarning
        If the device is missing.
    """
    place = on_this_machine(state["place_"])
    if state["place_"].device.type == "cpu":
        return dict(state)
    continuation = dict(state["continuation_"])
    if "callbacks" in continuation:
        continuation["callbacks"] = _map_tensors(_from_cpu, continuation["callbacks"])
    return {
        **state,
        "place_": place,
        "module_": state["module_"].to(place.device),
        "criterion_": state["criterion_"].to(place.device),
        "callbacks_": _map_tensors(_from_cpu, state["callbacks_"]),
        "continuation_": continuation,
    }


def _to_cpu(value: Any) -> Any:
    if isinstance(value, Tensor) and not value.is_cpu:
        return Placed(value.detach().cpu(), str(value.device))
    return value


def _from_cpu(value: Any) -> Any:
    if isinstance(value, Placed):
        return value.value.to(usable_device(value.device))
    return value


def _map_tensors(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a state with its tensors changed; what has none stays the same object."""
    if isinstance(value, (Tensor, Placed)):
        return function(value)
    if isinstance(value, Mapping):
        changed = {key: _map_tensors(function, part) for key, part in value.items()}
        if all(changed[key] is part for key, part in value.items()):
            return value
        copied: Any = copy.copy(value)
        copied.update(changed)
        return copied
    if type(value) in (list, tuple):
        parts = [_map_tensors(function, part) for part in value]
        same = all(new is old for new, old in zip(parts, value, strict=True))
        return value if same else type(value)(parts)
    return value
