"""What an error says when the memory did not suffice, and how it gives back what it holds."""

from __future__ import annotations

import contextlib
import traceback
from typing import Any

import torch

from skorchlike.nested import arrays_of

MESSAGES = (
    "out of memory",  # CUDA error: ..., MPS backend ...
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Parts of the messages of a ``RuntimeError`` where torch has no class of its own for it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of a device or of the machine, did not suffice.

    Parameters
    ----------
    error : BaseException
        Any error.

    Examples
    --------
    >>> is_out_of_memory(torch.OutOfMemoryError()), is_out_of_memory(RuntimeError("no memory of"))
    (True, False)
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(part in str(error) for part in MESSAGES)


def note_out_of_memory(error: BaseException, ctx: Any) -> None:
    """Note on an error for want of memory what filled it and what to change; else do nothing.

    An error has one such note: that of the innermost place, which knows the batch.

    Parameters
    ----------
    error : BaseException
        What was raised.
    ctx : Context
        The run in which it was raised.
    """
    begin = "Out of memory"
    notes = getattr(error, "__notes__", [])
    if not is_out_of_memory(error) or any(note.startswith(begin) for note in notes):
        return
    n_rows, shapes = _batch(ctx)
    fitting = ctx.optimizer is not None
    validating = fitting and not ctx.training and n_rows is not None
    what = "a prediction" if not fitting else "a validation" if validating else "training"
    on = "" if n_rows is None else f" on a batch of {n_rows} rows ({shapes})"
    if fitting and not validating:
        advice = _for_training(n_rows, ctx)
    else:
        advice = [_smaller("predict_batch_size", n_rows, ctx.estimator)]
    advice.append("a smaller module")
    error.add_note(
        f"{begin} in {what}{on}, on the device {str(ctx.device)!r}{_usage(ctx.device)}; "
        f"{_parameters(ctx.module)}. What helps: {'; '.join(filter(None, advice))}."
    )


def let_go(error: BaseException) -> None:
    """Empty the frames that an error for want of memory came through; else do nothing.

    Their variables are the batch, its graph and the module: as long as somebody keeps the
    error (an ``except`` block, a notebook its last one) that memory would not come back.

    Parameters
    ----------
    error : BaseException
        What was raised. Its ``__cause__`` is emptied too, nothing else: what else was being
        handled is not the fit's.
    """
    if is_out_of_memory(error):
        for one in (error, error.__cause__):
            traceback.clear_frames(None if one is None else one.__traceback__)


def _batch(ctx: Any) -> tuple[int | None, str]:
    """Return the number of rows of the current batch and the shapes of its inputs."""
    parts = [] if ctx.X is None else list(arrays_of(ctx.X))
    shapes = [f"{name}: {_kind(part)}" for name, part in parts if hasattr(part, "shape")]
    n_rows = parts[0][1].shape[0] if shapes and parts[0][1].shape else None
    return n_rows, ", ".join(shapes)


def _kind(array: Any) -> str:
    return f"{tuple(array.shape)} {str(array.dtype).removeprefix('torch.')}"


def _usage(device: torch.device) -> str:
    """Say how full a device is, as far as it tells."""
    if device.type in ("cpu", "meta"):
        return ""
    with contextlib.suppress(Exception):  # a device that has just failed may answer nothing
        said = f", where torch holds {_size(torch.accelerator.memory_allocated(device))}"
        with contextlib.suppress(Exception):
            free, total = torch.accelerator.get_memory_info(device)
            said += f" and {_size(free)} of {_size(total)} are free"
        return said
    return ""


def _parameters(module: torch.nn.Module) -> str:
    """Say what the module itself takes."""
    parameters = list(module.parameters())
    dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in parameters})
    if not dtypes:
        return "the module has no parameters"
    n_bytes = sum(p.numel() * p.element_size() for p in parameters)
    return f"the module's parameters take {_size(n_bytes)} ({', '.join(dtypes)})"


def _size(n_bytes: float) -> str:
    """Return a size in words.

    Examples
    --------
    >>> _size(24), _size(3 << 20), _size(1.5 * 2**40)
    ('24 bytes', '3.0 MiB', '1536.0 GiB')
    """
    if n_bytes < 1024:
        return f"{n_bytes} bytes"
    for unit in ("KiB", "MiB"):
        n_bytes /= 1024
        if n_bytes < 1024:
            return f"{n_bytes:.1f} {unit}"
    return f"{n_bytes / 1024:.1f} GiB"


def _smaller(name: str, n_rows: int | None, estimator: Any) -> str:
    """Advise a smaller batch, if there can be one."""
    now = f"now {getattr(estimator, name, None)!r}"
    if n_rows is None:
        return f"a smaller {name} ({now})"
    return f"{name}={n_rows // 2} ({now}; or the loader's, if X is one)" if n_rows > 1 else ""


def _for_training(n_rows: int | None, ctx: Any) -> list[str]:
    advice = [_smaller("batch_size", n_rows, ctx.estimator)]
    there = {type(callback).__name__: callback for callback in ctx.callbacks.values()}
    n_batches = getattr(there.get("GradientAccumulation"), "n_batches", 1)
    if advice[0]:
        advice[0] += (
            f" with the callback 'gradient_accumulation' (n_batches={2 * n_batches}), which steps "
            "as before"
        )
    if "MixedPrecision" not in there:
        advice.append("the callback 'mixed_precision'")
    return advice
