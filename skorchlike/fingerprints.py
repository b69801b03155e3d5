"""What a fit is made of, in a few digits: by which an interrupted fit is known again."""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from skorchlike.callbacks.checkpoint import Checkpoint
from skorchlike.callbacks.sklearn_tasks import SklearnTasks
from skorchlike.data.batches import FitData
from skorchlike.data.loading import is_loader
from skorchlike.params.callbacks import named_callbacks
from skorchlike.params.continuing import class_name

MAX_BYTES = 2**30
"""Of a larger array, evenly spread blocks of so many bytes in all are read."""

BLOCK_BYTES = 2**20

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
    """

    def __init__(
        self, estimator: Any, callbacks: Mapping[str, Any], data: FitData, split: Any
    ) -> None:
        self.passive = {name for name, callback in callbacks.items() if callback.passive}
        own = named_callbacks(estimator.callbacks, estimator._said_to("callbacks"))
        # what only watches counts where it may tell the candidates of a search apart
        counted = {n: cb for n, cb in callbacks.items() if n in own or n not in self.passive}
        self.said = _said(estimator, counted)
        self.given, self.split = data, split

    @cached_property
    def data(self) -> dict[str, str]:
        """The digest of each part of the data; it reads them all."""
        names = ("X", "y", "sample_weight", "X_val", "y_val", "sample_weight_val")
        return {name: digest(getattr(self.given, name)) for name in names}

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
        return digest([parameters, self.data])[:16]

    def parts(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        compared = {name: v for name, v in self.parameters.items() if not self._is_free(name)}
        return {
            "fingerprint": self.fingerprint,
            "parameters": compared,
            "data": self.data,
            "split": digest(self.split),
        }

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
                told = ("left out" if value is None else value[1] for value in (before, after))
                found.append("`{}` was {} and is {}".format(name, *told))
        found += [
            f"{name} holds other data"
            for name, value in now["data"].items()
            if was["data"].get(name) != value
        ]
        if not found and was["split"] != now["split"]:
            found.append("other rows are set apart for validation")
        return found


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


def _told(value: Any) -> str:
    if isinstance(value, type):
        return value.__name__
    return reprlib.repr(value)


def digest(value: Any) -> str:
    """Return a SHA-256 of a value: equal for equal values, also in another process."""
    sha = hashlib.sha256()
    _feed(sha, value)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    """Feed a value to a hash, its kind first."""
    sha.update(f"{class_name(value)}:".encode())
    if isinstance(value, (str, bytes, int, float, complex, type(None))):
        text = value if isinstance(value, bytes) else repr(value).encode()
        sha.update(f"{len(text)}:".encode() + text)
    elif isinstance(value, Mapping):
        _feed_all(sha, sorted(value.items(), key=lambda item: repr(item[0])))
    elif isinstance(value, (list, tuple)):
        _feed_all(sha, value)
    elif isinstance(value, (set, frozenset)):
        _feed_all(sha, sorted(map(digest, value)))
    elif isinstance(value, Tensor):
        sha.update(f"{value.dtype}{tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        _feed_bytes(sha, flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0))
    elif isinstance(value, np.ndarray):
        _feed_array(sha, value)
    elif isinstance(value, np.random.RandomState):
        _feed(sha, value.get_state(legacy=False))
    elif hasattr(value, "tocsr"):
        csr = value.tocsr()
        _feed_all(sha, [csr.shape, csr.data, csr.indices, csr.indptr])
    elif isinstance(value, nn.Module):
        _feed_all(sha, [repr(value), dict(value.state_dict())])
    elif is_loader(value):
        _feed_loader(sha, value)
    elif callable(value):
        _feed_function(sha, value)
    elif hasattr(value, "get_params"):
        _feed(sha, value.get_params(deep=False))
    else:
        _feed_frame(sha, value)


def _feed_all(sha: Any, values: Any) -> None:
    sha.update(f"{len(values)}:".encode())
    for value in values:
        _feed(sha, value)


def _feed_array(sha: Any, array: np.ndarray) -> None:
    sha.update(f"{array.dtype.str}{array.shape}".encode())
    if array.dtype.hasobject:
        import pandas as pd

        values = array.reshape(-1)
        try:
            hashes = pd.util.hash_array(values)
        except TypeError:  # what pandas cannot hash
            _feed_all(sha, values.tolist())
            return
        sha.update(hashes.tobytes())
        return
    _feed_bytes(sha, np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _feed_bytes(sha: Any, raw: np.ndarray) -> None:
    """Feed bytes, of very many evenly spread blocks."""
    n = len(raw)
    if n <= MAX_BYTES:
        sha.update(raw.data)
        return
    for start in np.linspace(0, n - BLOCK_BYTES, MAX_BYTES // BLOCK_BYTES).astype(np.int64):
        sha.update(raw[start : start + BLOCK_BYTES].data)


def _feed_frame(sha: Any, value: Any) -> None:
    """Feed a frame by its columns; what is none, as any other object."""
    import narwhals as nw

    if not nw.dependencies.is_into_dataframe(value):
        _feed_object(sha, value)
        return
    frame = nw.from_native(value, eager_only=True)
    _feed_all(sha, [[name, _column(frame[name])] for name in frame.columns])


def _column(series: Any) -> Any:
    """Return a column as an array; what is no number as objects."""
    values = series.to_numpy()
    return values if values.dtype.kind in "biufc" else np.asarray(series.to_list(), dtype=object)


def _feed_loader(sha: Any, value: Any) -> None:
    """Feed what is known of a dataset or loader without reading it."""
    if isinstance(value, DataLoader):
        _feed_all(sha, [class_name(value.sampler), value.batch_size, value.drop_last])
        value = value.dataset
    try:
        n = len(value)
    except (TypeError, NotImplementedError):
        n = None
    _feed_all(sha, [class_name(value), n])
    if isinstance(value, TensorDataset):
        _feed_all(sha, value.tensors)


def _feed_function(sha: Any, value: Any) -> None:
    """Feed a class or function by its name, and a function's code."""
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
    sha.update(name.encode())
    code = getattr(value, "__code__", None)
    if code is not None:
        constants = [c for c in code.co_consts if not hasattr(c, "co_code")]
        _feed_all(sha, [code.co_code, constants, list(code.co_names)])
    elif not isinstance(value, type) and hasattr(value, "__dict__"):
        _feed_object(sha, value)


def _feed_object(sha: Any, value: Any) -> None:
    """Feed any other object by its attributes, or by what it prints if that has no address."""
    state = getattr(value, "__dict__", None)
    if state:
        _feed(sha, {name: v for name, v in state.items() if v is not value})
        return
    told = repr(value)
    if " at 0x" not in told:
        sha.update(told.encode())
