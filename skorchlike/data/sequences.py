"""Sequences of different lengths, padded to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from skorchlike.data.items import collate_items, describe
from skorchlike.data.rows import as_tensor
from skorchlike.exceptions import ParameterError


def pad_sequences(sequences: Sequence[Any], padding_value: float = 0.0) -> dict[str, np.ndarray]:
    """Pad sequences in memory, for ``fit(pad_sequences(sequences), y)``.

    The module gets them by name: ``forward(self, X, lengths)``. All are as long as the longest;
    for data whose lengths differ much, a `Dataset` with `PadCollate` pads each batch for itself.

    Parameters
    ----------
    sequences : list of n arrays or tensors of shape (t_i, ...)
        They differ in their first dimension alone.
    padding_value : float, default=0.0
        What follows the end of a shorter one.

    Returns
    -------
    dict
        ``"X"``: the padded sequences, (n, t, ...), in their dtype; ``"lengths"``: t_i, int64 of
        shape (n,).

    Raises
    ------
    ParameterError
        If there is no sequence, or if they do not fit together.

    See Also
    --------
    torch.nn.utils.rnn.pad_sequence : Does the work.

    Examples
    --------
    >>> import numpy as np
    >>> padded = pad_sequences([np.array([1, 2, 3]), np.array([4])])
    >>> padded["X"]
    array([[1, 2, 3],
           [4, 0, 0]])
    >>> padded["lengths"]
    array([3, 1])
    """
    padded, lengths = _pad(sequences, padding_value)
    return {"X": padded.numpy(), "lengths": lengths.numpy()}


class PadCollate:
    """Make batches of items whose X are sequences of different lengths.

    For ``train_loader__collate_fn`` and ``valid_loader__collate_fn``. Each batch is as long as its
    longest sequence.

    Parameters
    ----------
    padding_value : float, default=0.0
        What follows the end of a shorter sequence.
    lengths : bool, default=True
        Whether the module gets the lengths. With them X is a dict, for a
        ``forward(self, X, lengths)``; without, the padded tensor alone.

    See Also
    --------
    pad_sequences : The same for a list in memory.

    Examples
    --------
    >>> import torch
    >>> X, y = PadCollate()([(torch.ones(2), 0), (torch.ones(3), 1)])
    >>> X["X"]
    tensor([[1., 1., 0.],
            [1., 1., 1.]])
    >>> X["lengths"], y
    (tensor([2, 3]), tensor([0, 1]))
    """

    def __init__(self, padding_value: float = 0.0, lengths: bool = True) -> None:
        self.padding_value, self.lengths = padding_value, lengths

    def __repr__(self) -> str:
        return f"PadCollate(padding_value={self.padding_value!r}, lengths={self.lengths!r})"

    def __call__(self, items: Sequence[Any]) -> tuple[Any, ...]:
        """Return (X,), (X, y) or (X, y, sample_weight) of a batch of such items.

        Parameters
        ----------
        items : list of (sequence,), (sequence, y), (sequence, y, sample_weight) or sequence
            The sequences are arrays or tensors of shape (t_i, ...).

        Returns
        -------
        tuple of torch.Tensor
            X is padded, (n, t, ...), alone or as ``{"X": padded, "lengths": int64 (n,)}``.
        """
        alone = [item if isinstance(item, tuple) else (item,) for item in items]
        sizes = {len(item) for item in alone}
        if len(sizes) != 1 or not sizes <= {1, 2, 3}:
            raise ParameterError(
                "PadCollate takes items (sequence, y) or (sequence, y, sample_weight), all alike. "
                f"Got {', '.join(sorted({describe(item) for item in alone}))}."
            )
        padded, lengths = _pad([item[0] for item in alone], self.padding_value)
        X = {"X": padded, "lengths": lengths} if self.lengths else padded
        return (X, *(collate_items(list(part)) for part in list(zip(*alone, strict=True))[1:]))


def _pad(sequences: Sequence[Any], padding_value: float) -> tuple[Tensor, Tensor]:
    tensors = []
    for number, sequence in enumerate(sequences):
        array = sequence if isinstance(sequence, Tensor) else np.asarray(sequence)
        bad_dtype = isinstance(array, np.ndarray) and array.dtype.kind not in "biuf"
        if array.ndim == 0 or bad_dtype:
            raise ParameterError(
                "Each sequence must be an array or tensor of numbers of shape (t, ...). Number "
                f"{number} is {describe(sequence if array.ndim == 0 else array)}."
            )
        tensors.append(as_tensor(array))
    if not tensors:
        raise ParameterError("There are no sequences to pad.")
    shapes = {tuple(tensor.shape[1:]) for tensor in tensors}
    if len(shapes) > 1:
        raise ParameterError(
            "Sequences may differ in their first dimension alone. Got the shapes "
            f"{', '.join(f'(t, {str(shape)[1:]}' for shape in sorted(shapes))}."
        )
    dtype = tensors[0].dtype
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    if not dtype.is_floating_point and padding_value != int(padding_value):
        raise ParameterError(
            f"padding_value={padding_value!r} is no integer, and the sequences are of {dtype}."
        )
    lengths = torch.tensor([len(tensor) for tensor in tensors])
    tensors = [tensor.to(dtype) for tensor in tensors]
    return pad_sequence(tensors, batch_first=True, padding_value=padding_value), lengths
