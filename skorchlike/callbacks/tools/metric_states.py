"""What metrics with ``update``, ``compute`` and ``reset`` have gathered, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

NUMBERS = (bool, int, float, complex, np.generic)
LEAVES = (type(None), str, bytes, Tensor, torch.Size, *NUMBERS)

OF_EVERY_MODULE = set(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}


def gathered(metric: Any) -> Any:
    """Return what a metric has gathered since its reset.

    Its own ``state_dict()``, as torcheval's have it; else the attributes that are numbers,
    strings, tensors, arrays and containers of these, of the metric and of the objects in it.
    (The ``state_dict`` of a `torch.nn.Module`, such as torchmetrics', leaves most of it out.)

    Parameters
    ----------
    metric : object
        With ``update``, ``compute`` and ``reset``.

    Returns
    -------
    dict
        Place in the metric → name → value. Tensors and lists are the metric's own.

    Examples
    --------
    >>> class Count:
    ...     n = 0
    ...     def update(self, preds, target):
    ...         self.n += len(preds)
    >>> count, other = Count(), Count()
    >>> count.update([1, 2], [1, 1])
    >>> gathered(count)
    {'': {'n': 2}}
    >>> put_gathered(other, gathered(count), "cpu")
    >>> other.n
    2
    """
    if _has_own_state(metric):
        return metric.state_dict()
    found = {}
    for place, thing in _objects_in(metric):
        skipped = OF_EVERY_MODULE if isinstance(thing, nn.Module) else ()
        values = {n: v for n, v in vars(thing).items() if n not in skipped and _is_data(v)}
        if values:
            found[place] = values
    return found


def put_gathered(metric: Any, state: Any, device: Any) -> None:
    """Let a metric of the same kind, just reset, go on from what `gathered` returned.

    Parameters
    ----------
    metric : object
        The metric.
    state : dict
        What `gathered` returned.
    device : torch.device or str
        Where its tensors belong.
    """
    state = placed(state, device)
    if _has_own_state(metric):
        metric.load_state_dict(state)
        return
    for place, thing in list(_objects_in(metric)):
        # past __setattr__, by which metrics guard what they keep
        vars(thing).update(state.get(place, {}))


def placed(value: Any, device: Any) -> Any:
    """Return nested containers with their tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        copied = value.copy()  # which keeps its class
        copied.update({key: placed(part, device) for key, part in value.items()})
        return copied
    if type(value) in (list, tuple):
        return type(value)(placed(part, device) for part in value)
    return value


def _has_own_state(metric: Any) -> bool:
    own = hasattr(metric, "state_dict") and hasattr(metric, "load_state_dict")
    return own and not isinstance(metric, nn.Module)


def _objects_in(thing: Any, place: str = "", seen: set[int] | None = None) -> Iterator[Any]:
    """Yield an object and those that it holds, each once, with their places."""
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, (type, *LEAVES, np.ndarray)):
        return
    seen.add(id(thing))
    parts: Any = ()
    if isinstance(thing, dict):
        parts = thing.items()
    elif isinstance(thing, (list, tuple)):
        parts = enumerate(thing)
    elif isinstance(getattr(thing, "__dict__", None), dict) and not hasattr(thing, "__code__"):
        yield place, thing
        parts = vars(thing).items()
    for name, part in list(parts):
        if not _is_data(part):
            yield from _objects_in(part, f"{place}.{name}" if place else str(name), seen)


def _is_data(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, (str, int)) and _is_data(part) for key, part in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(_is_data, value))
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    return isinstance(value, LEAVES) and not isinstance(value, Enum)
