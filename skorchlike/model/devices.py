"""Models of one machine on another: on its devices, as far as it has them."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

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


def put(value: Any, device: torch.device) -> Any:
    """Return copies, on a device, of the tensors and modules in a state; the rest as it is.

    Parameters
    ----------
    value : object
        A tensor, a module, or dicts, lists and tuples of these.
    device : torch.device
        Where to.
    """
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, nn.Module):
        return copy.deepcopy(value).to(device)
    if isinstance(value, Mapping):
        changed = {key: put(part, device) for key, part in value.items()}
        if all(changed[key] is part for key, part in value.items()):
            return value
        copied = copy.copy(value)
        copied.update(changed)  # type: ignore[attr-defined]
        return copied
    if type(value) in (list, tuple):
        return type(value)(put(part, device) for part in value)
    return value


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
