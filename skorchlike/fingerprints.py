"""What a fit is made of, in a few digits: by which an interrupted fit is known again."""

from __future__ import annotations

import pickle
import reprlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from skorchlike.callbacks.checkpoint import Checkpoint
from skorchlike.callbacks.sklearn_tasks import SklearnTasks
from skorchlike.data.batches import FitData
from skorchlike.digests import digest
from skorchlike.exceptions import FormatError
from skorchlike.model.codec import encode
from skorchlike.params.callbacks import named_callbacks

NOT_COMPARED = ("max_epochs", "verbose", "warm_start", "device")
"""Parameters that an interrupted fit may have otherwise when it goes on."""

WORKER_OPTIONS = ("num_workers", "pin_memory", "prefetch_factor", "persistent_workers", "timeout")


class Identity:
    """What a fit is made of: parameters, data and split, each as a digest.

    Parameters
    ----------
    estimator : BaseNeuralNet
        Says the parameters.
    callbacks : mapping
        Name → callback of this fit.
    data : FitData
        The data as they were given and checked.
    split : array or None
        The rows that were set apart for validation.
    learned : dict
        What the fit has learned of the data.
    """

    def __init__(
        self,
        estimator: Any,
        callbacks: Mapping[str, Any],
        data: FitData,
        split: Any,
        learned: Mapping[str, Any],
    ) -> None:
        self._learned = learned
        self.passive = {name for name, callback in callbacks.items() if callback.passive}
        own = named_callbacks(estimator.callbacks, estimator._said_to("callbacks"))
        # what only watches counts where it may tell the candidates of a search apart
        counted = {n: cb for n, cb in callbacks.items() if n in own or n not in self.passive}
        self.said = _said(estimator, counted)
        self.order = [name for name in callbacks if name not in self.passive]
        self.given, self.split = data, split

    @cached_property
    def data(self) -> dict[str, list[str]]:
        """The digest of each part of the data, and what it is; it reads them all."""
        names = ("X", "y", "sample_weight", "X_val", "y_val", "sample_weight_val")
        given = {name: getattr(self.given, name) for name in names}
        if self.given.labels:  # as labels, whatever the fewest bytes are to keep them in
            given |= {name: _widened(given[name]) for name in ("y", "y_val")}
        return {name: [digest(value), _described(value)] for name, value in given.items()}

    @cached_property
    def learned(self) -> str:
        """The digest of what the fit has learned of the data, or the one that it continues."""
        try:
            return digest(list(encode(self._learned, "learned")))
        except FormatError:  # a transformer that no file can hold
            return digest(pickle.dumps(self._learned))

    @cached_property
    def parameters(self) -> dict[str, list[str]]:
        """The digest of each parameter, and how it reads."""
        return {name: [digest(value), _told(value)] for name, value in self.said.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Parameters and data as 16 hexadecimal digits; the split follows from them."""
        parameters = {
            name: value[0]
            for name, value in self.parameters.items()
            if name not in ("verbose", "warm_start")
        }
        data = {name: value[0] for name, value in self.data.items()}
        return digest([parameters, self.order, data])[:16]

    @cached_property
    def _parts(self) -> dict[str, Any]:
        compared = {name: v for name, v in self.parameters.items() if not self._is_free(name)}
        module = self.said["module"]
        if isinstance(module, nn.Module):
            # the weights it begins with do not matter to a fit that goes on
            compared["module"] = [digest(module, weights=False), compared["module"][1]]
        return {
            "fingerprint": self.fingerprint,
            "parameters": compared,
            "order": self.order,
            "data": self.data,
            "split": digest(_widened(self.split)),
            "learned": self.learned,
        }

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return self._parts

    def _is_free(self, name: str) -> bool:
        """Whether an interrupted fit may go on with another value."""
        first, _, rest = name.partition("__")
        if first == "callbacks":
            return rest.partition("__")[0] in self.passive
        if first in ("train_loader", "valid_loader"):
            return rest in WORKER_OPTIONS
        return name in NOT_COMPARED

    def differences(self, was: Mapping[str, Any]) -> list[str]:
        """Say in words what differs from what a checkpoint keeps."""
        now = self.parts()
        found = []
        for name in {**was["parameters"], **now["parameters"]}:
            before, after = was["parameters"].get(name), now["parameters"].get(name)
            if before is None or after is None or before[0] != after[0]:
                told = ["left out" if value is None else value[1] for value in (before, after)]
                changed = f"was {told[0]} and is {told[1]}"
                if told[0] == told[1]:
                    changed = f"reads the same, {told[0]}, but what it holds or does has changed"
                found.append(f"`{name}` {changed}")
        for name, after in now["data"].items():
            before = was["data"].get(name, ["", "left out"])
            if before[0] != after[0]:
                same = before[1] == after[1]
                how = "holds other data" if same else f"was {before[1]} and is {after[1]}"
                found.append(f"{name} {how}")
        if not found and was["order"] != now["order"]:
            found.append(f"the callbacks ran as {was['order']} and now run as {now['order']}")
        if not found and was["split"] != now["split"]:
            found.append("other rows are set apart for validation")
        return found


def _widened(numbers: Any) -> Any:
    """Return labels or row numbers as int64; any other as they are."""
    if not isinstance(numbers, np.ndarray) or numbers.dtype.kind not in "iu":
        return numbers
    return numbers.astype(np.int64, copy=False)


def _said(estimator: Any, callbacks: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was said, by the parameters' names; of the checkpoints nothing."""
    said = {
        name: value
        for name, value in estimator.get_params(deep=False).items()
        if name.partition("__")[0] != "callbacks"
    }
    said["class"] = type(estimator)
    for name, callback in callbacks.items():
        if isinstance(callback, (Checkpoint, SklearnTasks)):
            continue
        said[f"callbacks__{name}"] = type(callback)
        for parameter, value in callback.get_params(deep=False).items():
            said[f"callbacks__{name}__{parameter}"] = value
    return said


def _described(value: Any) -> str:
    """Say what data are, without their values."""
    if value is None:
        return "left out"
    if isinstance(value, (dict, tuple)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        told = ", ".join(f"{name}: {_described(part)}" for name, part in parts)
        return f"a {type(value).__name__} ({told})"
    columns = getattr(value, "columns", None)
    if columns is not None:
        names = reprlib.repr([str(name) for name in columns])
        return f"a frame of {len(value)} rows with the columns {names}"
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{dtype} of shape {tuple(shape)}"


def _told(value: Any) -> str:
    if isinstance(value, type):
        return value.__name__
    return reprlib.repr(value)
