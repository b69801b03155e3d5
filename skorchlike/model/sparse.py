"""Sparse tensors in a file: as the gradient of ``nn.Embedding(..., sparse=True)`` is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from skorchlike.exceptions import DamagedFileError
from skorchlike.model.guards import plain_list
from skorchlike.model.objects import below


def encoder_of(value: Any) -> Callable[[Any, Any, str], Any] | None:
    """Return what encodes a sparse tensor, or None if it is none."""
    if type(value) is not Tensor or value.layout != torch.sparse_coo or value.requires_grad:
        return None
    return _encode_sparse


def _encode_sparse(encoder: Any, value: Tensor, where: str) -> Any:
    parts = {"indices": value._indices(), "values": value._values()}
    return {
        "$": "sparse tensor",
        "items": [encoder(part.detach(), below(where, name)) for name, part in parts.items()],
        "sizes": list(value.shape),
        "coalesced": value.is_coalesced(),
    }


def _decode_sparse(decoder: Any, node: dict[str, Any]) -> Tensor:
    indices, values = (decoder(part) for part in plain_list(node["items"]))
    for part in (indices, values):
        if type(part) is not Tensor or part.layout != torch.strided or part.requires_grad:
            raise DamagedFileError("Its content has a sparse tensor without indices and values")
    if indices.dtype != torch.int64:  # torch would round others
        raise DamagedFileError("Its content has a sparse tensor with impossible indices")
    return torch.sparse_coo_tensor(
        indices,
        values,
        tuple(map(int, plain_list(node["sizes"]))),
        is_coalesced=bool(node["coalesced"]),
        check_invariants=True,
    )


DECODERS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {"sparse tensor": _decode_sparse}
