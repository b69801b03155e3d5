"""Device and dtype of the module, and what the data become for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from skorchlike.exceptions import ParameterError


def check_device(device: Any) -> torch.device:
    """Return the device that a parameter names; ``"auto"`` is CUDA if there is one."""
    if isinstance(device, str) and device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except Exception as error:
        raise ParameterError(
            f"The `device` parameter must be 'auto' or name a device of this machine, such as "
            f"'cpu' or 'cuda:0'. Got {device!r}: {error}"
        ) from None
    return found


def check_dtype(dtype: Any) -> torch.dtype | None:
    """Return the torch dtype that a parameter names, None for ``"auto"``."""
    if isinstance(dtype, str) and dtype == "auto":
        return None
    found = dtype
    if not isinstance(dtype, torch.dtype):
        try:
            if dtype is None:
                raise TypeError("None is NumPy's name for float64")
            name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
            found = getattr(torch, name, None)
        except TypeError:
            found = None
    if not isinstance(found, torch.dtype) or found.is_complex:
        raise ParameterError(
            "The `dtype` parameter must be 'auto' or a real dtype, such as 'float32' or "
            f"torch.float64. Got {dtype!r}."
        )
    return found


def place_module(
    module: nn.Module,
    criterion: nn.Module,
    dtype: Any,
    x_dtype: torch.dtype,
    device: torch.device,
) -> tuple[nn.Module, torch.dtype, torch.dtype]:
    """Move module and criterion to their device and dtype.

    Parameters
    ----------
    module, criterion : torch.nn.Module
        They are moved in place where torch can do so.
    dtype : str, torch.dtype or numpy dtype
        The estimator's ``dtype``.
    x_dtype : torch.dtype
        The dtype of the inputs as given.
    device : torch.device
        Where to.

    Returns
    -------
    module : torch.nn.Module
        The moved module.
    input_dtype : torch.dtype
        What the inputs are cast to.
    own_dtype : torch.dtype
        The dtype of the module, for targets and weights.
    """
    wanted = check_dtype(dtype)
    follows = getattr(module, "follows_input_dtype", False)
    if wanted is not None and not wanted.is_floating_point and follows:
        raise ParameterError(
            f"The `dtype` parameter ({wanted}) must be a floating one for a built-in module."
        )
    if wanted is None and follows:
        wanted = x_dtype
    if wanted is not None and wanted.is_floating_point:
        module = module.to(wanted)
    floating = (p.dtype for p in module.parameters() if p.is_floating_point())
    own = next(floating, torch.get_default_dtype())
    criterion.to(device=device, dtype=own)
    input_dtype = own if wanted is None else wanted
    looks_up = any(isinstance(part, (nn.Embedding, nn.EmbeddingBag)) for part in module.modules())
    if wanted is None and looks_up and not x_dtype.is_floating_point:
        input_dtype = torch.int64  # row numbers of an embedding, not quantities
    return module.to(device), input_dtype, own
