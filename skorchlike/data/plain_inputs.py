"""One array of finite numbers: known to pass all checks, and cut into batches, in few calls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skorchlike.data.preparation import Preparation
from skorchlike.data.rows import Placement, as_tensor, check_overflow

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def plain_tensor(estimator: Any, X: Any) -> Tensor | None:
    """Return inputs that all checks of a prediction let pass as they are, as a tensor.

    The checks would cost one row more than the module does. They have nothing to say or to
    change where X is an array (or tensor) of float32 or float64, itself and no subclass, shaped
    as that of the fit, where the fit saw no names and no number is missing or infinite.

    Parameters
    ----------
    estimator : estimator
        Remembers the inputs of the fit.
    X : object
        Inputs as a user gives them.

    Returns
    -------
    Tensor of shape (n, ...), or None
        X itself, whose memory it shares, so nothing may write to it. None where X is another
        thing or perhaps not good: then the checks decide.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> inputs = SimpleNamespace(schema=None)
    >>> fitted = SimpleNamespace(
    ...     model_=SimpleNamespace(inputs_=inputs), n_features_in_=2, _form_in_={"": (2,)}
    ... )
    >>> plain_tensor(fitted, np.ones((1, 2)))
    tensor([[1., 1.]], dtype=torch.float64)
    >>> plain_tensor(fitted, [[1.0, 1.0]]), plain_tensor(fitted, np.ones((1, 3)))
    (None, None)
    """
    kind = type(X)
    if kind is np.ndarray:
        if X.dtype not in FLOATS:
            return None
    elif kind is not Tensor or not _is_plain(X):
        return None
    if not _has_form_of_fit(estimator, X.shape):
        return None
    if kind is np.ndarray and X.flags.writeable and min(X.strides) >= 0:
        tensor = torch.from_numpy(X)
    else:
        tensor = as_tensor(X)
    # a sum of finite numbers may be infinite, then the checks decide; never the other way round
    return tensor if math.isfinite(tensor.sum().item()) else None


def _is_plain(X: Tensor) -> bool:
    floats = X.dtype is torch.float32 or X.dtype is torch.float64
    return floats and X.layout is torch.strided and X.device.type in ("cpu", "cuda")


def _has_form_of_fit(estimator: Any, shape: tuple[int, ...]) -> bool:
    row = (getattr(estimator, "_form_in_", None) or {}).get("")
    return (
        row is not None
        and len(shape) == len(row) + 1 >= 2
        and shape[1] == getattr(estimator, "n_features_in_", None)
        and 0 not in shape
        and getattr(estimator, "feature_names_in_", None) is None
        and estimator.model_.inputs_.schema is None
    )


def plain_batches(
    X: Tensor, batch_size: int, place: Placement, prepare: Preparation | None
) -> Iterator[tuple[Tensor, Callable[[], Tensor], bool]]:
    """Yield (X, what returns the index, is last), prepared and put on the device.

    They are what `input_batches` yields, to the bit. Every batch is a copy: a module that writes
    to it changes no data.

    Parameters
    ----------
    X : Tensor of shape (n, ...)
        What `plain_tensor` returned.
    batch_size : int
        Rows a batch.
    place : Placement
        Where and as what the rows are wanted.
    prepare : Preparation or None
        What is done to them before.
    """
    finish = _finisher(X.dtype, place, prepare)
    n = X.shape[0]
    if n <= batch_size:
        yield finish(X), partial(torch.arange, n), True
        return
    for start in range(0, n, batch_size):
        size = min(batch_size, n - start)
        index = partial(torch.arange, start, start + size)
        yield finish(X.narrow(0, start, size)), index, start + size == n


def _finisher(
    dtype: torch.dtype, place: Placement, prepare: Preparation | None
) -> Callable[[Tensor], Tensor]:
    """Return what `finish` of copied rows does, with all that is the same for each batch done."""
    device, wanted = place.device, place.input_dtype or dtype
    # batches from memory of the same layout: kernels round otherwise in another
    copied: dict[str, Any] = {"copy": True, "memory_format": torch.contiguous_format}
    standard = _standard(prepare, dtype, device)

    def cast(part: Tensor) -> Tensor:
        done = part.to(device, wanted, **copied)
        if wanted is not dtype and not math.isfinite(done.sum().item()):
            check_overflow(dtype, done, "X")
        return done

    def standardized(part: Tensor) -> Tensor:
        # the subtraction is the copy
        part = torch.sub(part.to(device).contiguous(), center).div_(scale)
        return part if wanted is dtype else cast(part)

    def prepared(part: Tensor) -> Tensor:
        assert prepare is not None
        part = prepare.change(part.to(device, **copied))
        return part if part.dtype is wanted else cast(part)

    if prepare is None:
        return cast
    if standard is None:
        return prepared
    center, scale = standard
    return standardized


def _standard(
    prepare: Preparation | None, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor] | None:
    """Return what to subtract and to divide by, if that is all that is done to finite rows."""
    if type(prepare) is not Preparation or prepare.transformer is not None or prepare.clip:
        return None
    center, scale = prepare.center, prepare.scale
    if center is None or scale is None or prepare.flagged.numel():
        return None
    return center.to(device, dtype), scale.to(device, dtype)
