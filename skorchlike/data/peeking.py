"""What can be known of a dataset before it is trained on: its tensors, targets, first rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
)

from skorchlike.data.checks import as_numpy
from skorchlike.data.items import read_batch
from skorchlike.data.loading import FIXED_SEED, ORDER_OPTIONS, LoaderBatches
from skorchlike.data.sampling import length_of
from skorchlike.exceptions import ParameterError

WORKER_OPTIONS = (
    "num_workers",
    "prefetch_factor",
    "persistent_workers",
    "worker_init_fn",
    "multiprocessing_context",
    "timeout",
    "pin_memory",
)


def tensors_of(X: Any) -> tuple[Tensor, ...] | None:
    """Return the tensors of a plain `TensorDataset`, or of a `Subset` of one.

    Parameters
    ----------
    X : object
        What was given as X.

    Returns
    -------
    tuple of one to three torch.Tensor, or None
        X, y and sample_weight as far as they are there; copies of the rows of a subset, which
        are views where it is a range. None for all else, a subclass too: its items may differ.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import Subset, TensorDataset
    >>> data = TensorDataset(torch.zeros(4, 2), torch.arange(4))
    >>> tensors_of(Subset(data, [3, 1]))[1]
    tensor([3, 1])
    """
    if type(X) is TensorDataset:
        return X.tensors if 1 <= len(X.tensors) <= 3 else None
    if type(X) is not Subset:
        return None
    tensors = tensors_of(X.dataset)
    if tensors is None:
        return None
    indices = X.indices
    if isinstance(indices, range) and indices.step == 1 and indices.start >= 0:
        return tuple(tensor[indices.start : indices.stop] for tensor in tensors)
    index = torch.as_tensor(np.asarray(indices, dtype=np.int64))
    return tuple(tensor[index.to(tensor.device)] for tensor in tensors)


def first_batch(
    source: Any,
    batch_size: int,
    options: Mapping[str, Any] | None = None,
    *,
    make_loader: Callable[..., Any] = DataLoader,
    with_target: bool = True,
    name: str = "X",
    prefix: str = "train_loader",
) -> tuple[Any, Any, Any]:
    """Peek at the first rows of a dataset or loader.

    No workers are started, but those of a loader that was given. torch's global generator
    stays as it was.

    Parameters
    ----------
    source, batch_size, options, make_loader, with_target, name, prefix
        As in `LoaderBatches`.

    Returns
    -------
    X, y, sample_weight
        As `read_batch` gives them: not on the device, in the dtype of the data.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> X, y, _ = first_batch(TensorDataset(torch.zeros(9, 2), torch.arange(9)), 4)
    >>> X.shape, y
    (torch.Size([4, 2]), tensor([0, 1, 2, 3]))
    """
    apart = (*ORDER_OPTIONS, *WORKER_OPTIONS)
    batches = LoaderBatches(
        source,
        batch_size,
        make_loader=make_loader,
        options={k: v for k, v in (options or {}).items() if k not in apart},
        with_target=with_target,
        name=name,
        prefix=prefix,
    )
    fetched = batches.fetch(FIXED_SEED)
    try:
        return read_batch(next(fetched)[0], with_target=with_target, name=name, prefix=prefix)[:3]
    finally:
        fetched.close()


def collect_targets(
    source: Any,
    batch_size: int,
    options: Mapping[str, Any] | None = None,
    *,
    make_loader: Callable[..., Any] = DataLoader,
    name: str = "X",
    prefix: str = "train_loader",
) -> np.ndarray:
    """Return all targets of a dataset or loader, from where they cost least.

    They are taken from a `TensorDataset`, or from an attribute ``targets`` or ``labels``
    (torchvision's convention) that agrees with the first, the middle and the last item; also
    through `Subset` and `ConcatDataset`. Else the data are read once: a stream must end.

    Parameters
    ----------
    source, batch_size, options, make_loader, name, prefix
        As in `LoaderBatches`. A sampler is not asked: all rows count.

    Returns
    -------
    ndarray of shape (n,) or (n, ...)
        In the order of the data; of a loader that shuffles, in any order.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> collect_targets(TensorDataset(torch.zeros(3, 2), torch.tensor([2, 0, 1])), 2)
    array([2, 0, 1])
    """
    options = {k: v for k, v in (options or {}).items() if k not in ORDER_OPTIONS}
    if options.get("collate_fn") is None:  # one's own may change the targets
        known = _known_targets(source)
        if known is not None:
            return known
    batches = LoaderBatches(
        source, batch_size, make_loader=make_loader, options=options, name=name, prefix=prefix
    )
    return gather_targets(batches)[0]


def gather_targets(batches: LoaderBatches) -> tuple[np.ndarray, np.ndarray | None]:
    """Return all targets and weights of a pass; None where there are no weights."""
    targets: list[Any] = []
    weights: list[Any] = []
    for _, y, weight, *_ in batches:
        targets.append(as_numpy(y))
        weights.append(None if weight is None else as_numpy(weight))
    weighted = all(weight is not None for weight in weights)
    try:
        return np.concatenate(targets), np.concatenate(weights) if weighted else None
    except ValueError as error:
        raise ParameterError(
            f"The targets of the data given as {batches.name} differ in shape from batch to "
            f"batch: {error}"
        ) from error


def _known_targets(source: Any) -> np.ndarray | None:
    """Return targets that can be had without reading the items."""
    if isinstance(source, DataLoader):
        return _known_targets(source.dataset) if _takes_all_rows(source) else None
    tensors = tensors_of(source)
    if tensors is not None:
        return as_numpy(tensors[1]) if len(tensors) > 1 else None
    if type(source) is Subset:
        known = _known_targets(source.dataset)
        return None if known is None else known[np.asarray(source.indices, dtype=np.int64)]
    if type(source) is ConcatDataset:
        parts: list[Any] = [_known_targets(dataset) for dataset in source.datasets]
        return None if any(part is None for part in parts) else np.concatenate(parts)
    for attribute in ("targets", "labels"):
        values = getattr(source, attribute, None)
        if isinstance(values, (list, tuple, np.ndarray, Tensor)) and _agrees(source, values):
            return np.asarray(as_numpy(values))
    return None


def _takes_all_rows(loader: DataLoader[Any]) -> bool:
    sampler: Any = loader.sampler
    plain = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.num_samples == len(sampler.data_source)
    )
    usual = type(loader.batch_sampler) is BatchSampler and loader.collate_fn is default_collate
    return plain and usual


def _agrees(dataset: Any, values: Any) -> bool:
    """Whether these are the targets of the items: a transform may change them."""
    n = length_of(dataset)
    if isinstance(dataset, IterableDataset) or not n or n != len(values):
        return False
    try:
        with torch.random.fork_rng(devices=[]):
            for row in (0, n // 2, n - 1):
                item = dataset[row]
                if not isinstance(item, (tuple, list)) or len(item) not in (2, 3):
                    return False
                if not np.array_equal(as_numpy(values[row]), as_numpy(item[1])):
                    return False
        return np.asarray(as_numpy(values)).dtype.kind in "biufU"
    except Exception:  # the dataset's own; it comes again, with a note, when the data are read
        return False
