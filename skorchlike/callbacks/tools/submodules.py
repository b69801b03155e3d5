"""Submodules by name, and the tensors in what they put out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def submodules(module: nn.Module) -> dict[str, nn.Module]:
    """Return name → submodule, without what torch.compile puts before a name."""
    return {
        name.replace("_orig_mod.", "").removesuffix("_orig_mod"): part
        for name, part in module.named_modules()
    }


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Yield the tensors of floating-point numbers in nested tuples, lists and dicts."""
    if isinstance(values, Tensor):
        if values.is_floating_point() or values.is_complex():
            yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))
