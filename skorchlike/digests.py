"""A digest of any value: equal for equal values, also in another process."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader
from torch.utils.hooks import RemovableHandle

from skorchlike.data.loading import is_loader
from skorchlike.params.continuing import class_name

MAX_BYTES = 2**30
"""Of a larger array, evenly spread blocks of so many bytes in all are read."""

BLOCK_BYTES = 2**20

ATOMS = (str, bytes, int, float, complex, type(None))

KNOWN_BY_NAME = frozenset(["abc", "builtins", "numpy", "sklearn", "skorchlike", "torch", "typing"])
"""Packages whose classes are what their names say; of others the methods' code is read too."""

NO_DATA = ("data_source", "generator", "sampler")
"""What a sampler holds beside what tells which rows it takes."""


def digest(value: Any, *, weights: bool = True) -> str:
    """Return a SHA-256 of a value: equal for equal values, also in another process.

    Parameters
    ----------
    value : object
        Arrays, tensors, frames and containers are read by their contents, modules and other
        objects by their classes and attributes, functions by their code, defaults and what
        they enclose, datasets and loaders by what they hold without an item being read.
    weights : bool, default=True
        Whether the values of parameters of modules count, or only their shapes and dtypes.

    Returns
    -------
    str
        64 hexadecimal digits.

    Notes
    -----
    Not noticed: what a function or method calls by a global name, and what an object keeps
    outside Python. Rows of more than 2³⁰ bytes are read in part.

    Examples
    --------
    >>> digest({"a": 1, "b": [2.0]}) == digest({"b": [2.0], "a": 1})
    True
    >>> digest(lambda x: x + 1) == digest(lambda x: x + 2)
    False
    """
    sha = _Hash(weights)
    _feed(sha, value)
    return sha.hexdigest()


class _Hash:
    """A hash, and the objects that are being fed to it, which may contain themselves."""

    def __init__(self, weights: bool) -> None:
        self.weights = weights
        self._sha = hashlib.sha256()
        self.update, self.hexdigest = self._sha.update, self._sha.hexdigest
        self.under_way: list[int] = []

    def text(self, text: str) -> None:
        """Feed a text, its length first."""
        raw = text.encode(errors="surrogatepass")
        self.update(f"{len(raw)}:".encode() + raw)


def _feed(sha: _Hash, value: Any) -> None:
    """Feed a value to a hash, its kind first."""
    if isinstance(value, ATOMS):
        sha.text(class_name(value))
        sha.text(value.hex() if isinstance(value, bytes) else repr(value))
        return
    if id(value) in sha.under_way:
        sha.text(f"up {len(sha.under_way) - sha.under_way.index(id(value))}")
        return
    sha.under_way.append(id(value))
    _feeder(value)(sha, value)
    sha.under_way.pop()


def _feeder(value: Any) -> Callable[[_Hash, Any], None]:
    for kind, feeder in _BY_KIND:
        if isinstance(value, kind):
            return feeder
    if hasattr(value, "tocsr"):
        return _feed_sparse
    if is_loader(value):
        return _feed_loader
    if hasattr(value, "__code__"):
        return _feed_function
    if not callable(value) and hasattr(value, "get_params"):
        return _feed_params
    return _feed_frame


def _feed_all(sha: _Hash, values: Any) -> None:
    sha.update(f"{len(values)}:".encode())
    for value in values:
        _feed(sha, value)


def _feed_as(sha: _Hash, kind: str, values: Any) -> None:
    sha.text(kind)
    _feed_all(sha, values)


# ---------------------------------------------------------------------- containers


def _feed_mapping(sha: _Hash, value: Any) -> None:
    items = sorted(value.items(), key=lambda item: repr(item[0]))
    _feed_as(sha, class_name(value), items)


def _feed_sequence(sha: _Hash, value: Any) -> None:
    _feed_as(sha, class_name(value), value)


def _feed_set(sha: _Hash, value: Any) -> None:
    _feed_as(sha, class_name(value), sorted(map(digest, value)))


# -------------------------------------------------------------------------- arrays


def _feed_tensor(sha: _Hash, value: Tensor) -> None:
    if nn.parameter.is_lazy(value):
        sha.text(f"{class_name(value)} {value.dtype} lazy")
        return
    sha.text(f"{class_name(value)} {value.dtype} {tuple(value.shape)} {value.requires_grad}")
    if isinstance(value, nn.Parameter) and not sha.weights:
        return
    value = value.detach()
    if value.layout is not torch.strided:
        coo = value.to_sparse_coo().coalesce()
        _feed_as(sha, str(value.layout), [coo.indices(), coo.values()])
        return
    flat = value.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    _feed_bytes(sha, flat.view(torch.uint8).numpy() if flat.numel() else np.empty(0))


def _feed_array(sha: _Hash, array: np.ndarray) -> None:
    """Feed an array; one in a file is what it is in memory."""
    if isinstance(array, np.ma.MaskedArray):
        _feed_as(sha, "masked", [np.ma.getmaskarray(array), array.filled()])
        return
    sha.text(f"array {array.dtype.str} {array.shape}")
    if array.dtype.hasobject or array.dtype.kind == "T":
        _feed_objects(sha, array.astype(object).reshape(-1))
        return
    _feed_bytes(sha, np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _feed_objects(sha: _Hash, values: np.ndarray) -> None:
    import pandas as pd

    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind.startswith("mixed") or kind in ("unknown-array", "complex"):
        _feed_as(sha, kind, values.tolist())
        return
    # values of one kind are equal where they read alike
    sha.text(kind)
    sha.update(pd.util.hash_array(values).tobytes())


def _feed_bytes(sha: _Hash, raw: np.ndarray) -> None:
    """Feed bytes, of very many evenly spread blocks."""
    n = len(raw)
    if n <= MAX_BYTES:
        sha.update(raw.data)
        return
    for start in np.linspace(0, n - BLOCK_BYTES, MAX_BYTES // BLOCK_BYTES).astype(np.int64):
        sha.update(raw[start : start + BLOCK_BYTES].data)


def _feed_sparse(sha: _Hash, value: Any) -> None:
    csr = value.tocsr()
    _feed_as(sha, "sparse", [csr.shape, csr.data, csr.indices, csr.indptr])


def _feed_frame(sha: _Hash, value: Any) -> None:
    """Feed a frame or series by its columns; what is none, as any other object."""
    import narwhals as nw

    if nw.dependencies.is_into_series(value):
        _feed_as(sha, class_name(value), _column(nw.from_native(value, series_only=True)))
    elif nw.dependencies.is_into_dataframe(value):
        frame = nw.from_native(value, eager_only=True)
        columns = [[name, *_column(frame[name])] for name in frame.columns]
        _feed_as(sha, class_name(value), columns)
    else:
        _feed_object(sha, value)


def _column(series: Any) -> list[Any]:
    """Return a column as its kind and an array; what is no number as objects."""
    values = series.to_numpy()
    if values.dtype.kind not in "biufc":
        values = np.empty(len(series), dtype=object)
        values[:] = series.to_list()
    return [type(series.dtype).__name__, values]


# ------------------------------------------------------------------------- objects


def _feed_module(sha: _Hash, module: nn.Module) -> None:
    """Feed a module: its class, attributes, parameters, buffers, children, and hooks."""
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    _feed(sha, type(module))
    if isinstance(module, torch.jit.ScriptModule):
        _feed_as(sha, repr(module), [dict(module.state_dict())])
        return
    state = dict(vars(module))
    for name, value in state.items():
        if name in ("_parameters", "_buffers", "_modules"):
            state[name] = list(value.items())  # whose order counts
        elif isinstance(value, OrderedDict) and name.startswith("_"):
            state[name] = list(value.values())  # hooks, under numbers that no other process has
    tied = [name for name, _ in module.named_parameters()]
    _feed_all(sha, [state, tied])


def _feed_loader(sha: _Hash, value: Any) -> None:
    """Feed what is known of a dataset or loader without reading an item."""
    sha.text(class_name(value))
    if isinstance(value, DataLoader):
        parts: list[Any] = [value.batch_size, value.drop_last, value.collate_fn]
        for sampler in (value.sampler, value.batch_sampler):
            known = isinstance(sampler, BatchSampler) or sampler is None
            parts.append(None if known else [class_name(sampler), _public(sampler, NO_DATA)])
        _feed_all(sha, [*parts, value.dataset])
        return
    try:
        n = len(value)
    except (TypeError, NotImplementedError):
        n = None
    _feed_all(sha, [n, _public(value)])


def _public(value: Any, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the attributes, without what a class keeps for itself: caches, open files."""
    state = getattr(value, "__dict__", {})
    return {n: v for n, v in state.items() if n[:1] != "_" and n not in but}


def _feed_class(sha: _Hash, cls: type) -> None:
    """Feed a class by its name, and by the code of its methods if it is a user's own."""
    sha.text(f"{cls.__module__.replace('__mp_main__', '__main__')}.{cls.__qualname__}")
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] in KNOWN_BY_NAME:
            continue
        for name, member in sorted(vars(base).items()):
            function = getattr(member, "fget", getattr(member, "__func__", member))
            code = getattr(function, "__code__", None)
            if code is not None:
                sha.text(name)
                _feed(sha, code)


def _feed_code(sha: _Hash, code: CodeType) -> None:
    _feed_all(sha, [code.co_code, code.co_consts, code.co_names])


def _feed_function(sha: _Hash, value: Any) -> None:
    """Feed a function: its name, code, defaults, and what it encloses or is bound to."""
    sha.text(f"{value.__module__.replace('__mp_main__', '__main__')}.{value.__qualname__}")
    parts = [value.__code__, value.__defaults__, getattr(value, "__kwdefaults__", None)]
    for cell in value.__closure__ or ():
        try:
            parts.append(cell.cell_contents)
        except ValueError:  # not yet filled
            parts.append(None)
    _feed_all(sha, [*parts, getattr(value, "__self__", None)])


def _feed_params(sha: _Hash, value: Any) -> None:
    _feed(sha, type(value))
    _feed(sha, value.get_params(deep=False))


def _feed_object(sha: _Hash, value: Any) -> None:
    """Feed any other object by what pickle would keep, or by what it prints."""
    sha.text(class_name(value))
    try:
        kept = value.__reduce_ex__(2)
    except Exception:  # whatever an object that cannot be pickled raises
        told = repr(value)
        if " at 0x" not in told:
            sha.text(told)
        elif getattr(value, "__dict__", None):
            _feed(sha, _public(value))
        return
    if isinstance(kept, str):
        sha.text(kept)
        return
    _, args, state, items, pairs = (*kept, None, None, None)[:5]
    # the function that would make it anew is the library's affair
    _feed_all(sha, [args, state, list(items or ()), list(pairs or ())])


_BY_KIND: list[tuple[Any, Callable[[_Hash, Any], None]]] = [
    (Mapping, _feed_mapping),
    ((list, tuple), _feed_sequence),
    ((set, frozenset), _feed_set),
    (Tensor, _feed_tensor),
    (np.ndarray, _feed_array),
    (nn.Module, _feed_module),
    (type, _feed_class),
    (CodeType, _feed_code),
    (RemovableHandle, lambda sha, value: None),  # of a hook, which is fed with its module
]
