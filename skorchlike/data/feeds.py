"""What gives the rows of one fit: arrays, or a dataset or loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from skorchlike.data.batches import (
    AUTO_BATCH_SIZE,
    AUTO_PREDICT_BATCH_SIZE,
    Batching,
    FitData,
    resolve_batch_size,
)
from skorchlike.data.columns import Columns, Scale, Taken
from skorchlike.data.inputs import Inputs, as_numbers, input_dtype, learn_inputs
from skorchlike.data.loading import LoaderBatches, is_loader
from skorchlike.data.peeking import WORKER_OPTIONS
from skorchlike.data.preparation import learn_preparation
from skorchlike.data.rows import Placement, Rows, finish, rows_where, to_tensor
from skorchlike.data.rows_dataset import RowsDataset
from skorchlike.data.split import split_rows
from skorchlike.exceptions import ParameterError
from skorchlike.nested import concatenate, map_arrays, n_rows_of

Encode = Callable[..., np.ndarray]
"""Targets as they come in a batch, and their name → targets as the loss takes them."""


class Feed:
    """The rows of one fit.

    Parameters
    ----------
    data : FitData
        The checked data.
    how : Batching
        How rows become batches.
    split_seed : int
        Makes the split of training and validation rows.
    encode : callable
        Encodes the targets of a batch that comes from a loader.

    Attributes
    ----------
    rows, valid_rows : ndarray of int or None
        Row numbers of the data given: None is all for `rows`, and none for `valid_rows`.
    scale : callable or None
        What is done to targets before training; they are scaled as they are read.
    dtype : torch.dtype
        The dtype of the inputs as they are given; there once `learn` has run.
    """

    dtype: torch.dtype

    def __init__(self, data: FitData, how: Batching, split_seed: int, encode: Encode) -> None:
        self.data, self.how, self.split_seed, self.encode = data, how, split_seed, encode
        self.rows: np.ndarray | None = None
        self.valid_rows: np.ndarray | None = None
        self.scale: Scale | None = None

    def scale_targets(self, scale: Scale) -> None:
        """Apply what was learned of the targets, row by row, to all of them and those to come."""
        encode, shown = (
            self.encode,
            [y[:1] for y in (self.data.y, self.data.y_val) if y is not None],
        )
        if any(scale(one) is not one for one in shown):
            self.scale = scale
        self.encode = lambda y, name: scale(encode(y, name))

    def train_target(self) -> tuple[Any, Any]:
        """Return targets and weights of the training rows; None where they are not known.

        They are arrays, or `Taken` ones of them that are not copied as a whole.
        """
        y, weight = self.data.y, self.data.sample_weight
        if y is None:
            return y, weight
        if self.rows is None and self.scale is None:
            return y, weight
        taken = None if weight is None else Taken(weight, self.rows)
        return Taken(y, self.rows, self.scale), taken

    def _split(self, rows: np.ndarray | int) -> None:
        """Tell training and validation rows apart."""
        data, fraction = self.data, self.how.validation_fraction
        assert fraction is not None
        labels = None
        if data.labels and data.y is not None:
            labels = data.y if isinstance(rows, int) else data.y[rows]
        self.rows, self.valid_rows = split_rows(
            rows, fraction, self.split_seed, labels, data.classes
        )

    def _learn_val(self, inputs: Inputs) -> None:
        X_val = self.data.X_val
        arrays = X_val is not None and not is_loader(X_val)
        self.arrays_val = inputs.encode(X_val, "X_val") if arrays else None
        if is_loader(X_val) and inputs.schema is not None and not inputs.schema.only_numbers:
            raise ParameterError(
                f"X_val must be a frame, since X is one with columns that are no numbers. Got a "
                f"{type(X_val).__name__}."
            )

    def _given_valid(self, place: Placement, prepare: Any) -> Any:
        """Return the batches of the validation data that were given."""
        data, how = self.data, self.how
        if is_loader(data.X_val):
            return self._load_valid(data.X_val, place, prepare, self.encode, name="X_val")
        assert data.y_val is not None
        rows = _rows_with_weight(data.sample_weight_val, "sample_weight_val")
        X = Rows(self.arrays_val, place, prepare, "X_val")
        columns = Columns.place(
            data.y_val,
            data.sample_weight_val,
            place,
            labels=data.labels,
            scale=self.scale,
            suffix="_val",
        )
        return _valid_batches(X, columns, rows, how, place)

    def _load_valid(
        self, source: Any, place: Placement, prepare: Any, encode: Encode | None, **more: Any
    ) -> LoaderBatches:
        how = self.how
        size = how.predict_batch_size
        return LoaderBatches(
            source,
            AUTO_PREDICT_BATCH_SIZE if size in ("auto", -1) else int(size),
            make_loader=how.valid_loader or DataLoader,
            options=how.valid_options,
            prefix="valid_loader",
            **_placing(place, prepare, self.data.labels, encode, more.get("name", "X")),
            **more,
        )

    def _load_train(
        self,
        source: Any,
        size: int,
        place: Placement,
        prepare: Any,
        encode: Encode | None,
        generator: torch.Generator,
    ) -> LoaderBatches:
        how = self.how
        return LoaderBatches(
            source,
            size,
            make_loader=how.train_loader or DataLoader,
            options=how.train_options,
            generator=generator,
            shuffle=how.shuffle,
            drop_last=how.drop_last,
            rows=self.rows,
            **_placing(place, prepare, self.data.labels, encode),
        )


class ArrayFeed(Feed):
    """The rows of arrays or a frame, which are gathered without a loader.

    Rows of weight 0 are left out first: they are as good as absent, whatever the batch
    size. Where arguments of a loader were said, the rows go through one.
    """

    def __init__(self, data: FitData, how: Batching, split_seed: int, encode: Encode) -> None:
        super().__init__(data, how, split_seed, encode)
        self.rows = rows = _rows_with_weight(data.sample_weight, "sample_weight")
        if data.X_val is None and how.validation_fraction is not None:
            self._split(len(data.y) if rows is None else rows)

    def learn(self, known: Inputs | None, transform: Any, fills: bool) -> Inputs:
        """Learn from the training rows what the inputs need, or take up what is known."""
        data = self.data
        if known is None:
            known, self.arrays = learn_inputs(
                data.X,
                self.rows,
                data.sample_weight,
                transform=transform,
                fills=fills,
                seed=self.split_seed,
            )
        else:
            self.arrays = known.encode(data.X)
        self._learn_val(known)
        self.dtype = input_dtype(self.arrays)
        return known

    def sample(self, n_rows: int, place: Placement, prepare: Any) -> Any:
        """Return the inputs of some training rows, spread over all, on the device."""
        n = len(self.data.y) if self.rows is None else len(self.rows)
        step = -(-n // n_rows)
        rows = np.arange(0, n, step) if self.rows is None else self.rows[::step]
        return Rows(self.arrays, place, prepare, resident=False).take(torch.from_numpy(rows))

    def batches(
        self, place: Placement, prepare: Any, generator: torch.Generator
    ) -> tuple[Any, Any]:
        """Put the data on the device and cut them into batches.

        Parameters
        ----------
        place : Placement
            Where and as what the data are wanted.
        prepare : callable or None
            What is done to gathered inputs.
        generator : torch.Generator
            Shuffles the training rows.

        Returns
        -------
        train, valid : Data
            ``valid`` is None without validation.
        """
        data, how = self.data, self.how
        columns = Columns.place(
            data.y, data.sample_weight, place, labels=data.labels, scale=self.scale
        )
        n_rows = len(data.y) if self.rows is None else len(self.rows)
        size = resolve_batch_size(how.batch_size, n_rows, AUTO_BATCH_SIZE)
        loads = how.train_loader is not None or bool(how.train_options)
        train: Any
        if loads:
            source = RowsDataset(Rows(self.arrays), *columns.cast())
            train = self._load_train(source, size, place, prepare, None, generator)
        else:
            X = Rows(self.arrays, place, prepare)
            rows = _index(self.rows, place.device)
            shuffler = generator if how.shuffle else None
            train = columns.batches(X, size, rows, generator=shuffler, drop_last=how.drop_last)
        if data.X_val is not None:
            return train, self._given_valid(place, prepare)
        if self.valid_rows is None:
            return train, None
        if loads:
            X = Rows(self.arrays, place, prepare)
        return train, _valid_batches(X, columns, self.valid_rows, how, place)


class LoaderFeed(Feed):
    """The rows of a dataset or loader, which come batch by batch."""

    def __init__(self, data: FitData, how: Batching, split_seed: int, encode: Encode) -> None:
        super().__init__(data, how, split_seed, encode)
        if data.X_val is None and how.validation_fraction is not None:
            if isinstance(data.X, (IterableDataset, DataLoader)):
                raise ParameterError(
                    f"The `validation_fraction` parameter cannot split a {type(data.X).__name__}. "
                    "Pass validation data as X_val (a dataset or loader too), or set "
                    "validation_fraction=None."
                )
            self._split(len(data.X))

    def learn(self, known: Inputs | None, transform: Any, fills: bool) -> Inputs:
        """Learn from a pass over the training rows what their numbers need."""
        first = self.data.first_inputs
        self.dtype = input_dtype(first)
        if known is None:
            known = Inputs()
            if isinstance(first, Tensor) and first.ndim > 1:
                known.n_features = int(first.shape[1])
                if first.ndim == 2 and (transform is not None or fills):
                    known.preparation = learn_preparation(self._numbers, transform, self.split_seed)
                    known.n_features = known.preparation.n_outputs
        self._learn_val(known)
        return known

    def _raw(self, size: int, apart: tuple[str, ...] = ()) -> LoaderBatches:
        """Return the training rows in their order, as they are given."""
        how = self.how
        return LoaderBatches(
            self.data.X,
            size,
            make_loader=how.train_loader or DataLoader,
            options={k: v for k, v in how.train_options.items() if k not in apart},
            rows=self.rows,
        )

    def _numbers(self) -> Iterable[tuple[np.ndarray, np.ndarray | None]]:
        for X, _, weight, *_ in self._raw(self._size()):
            yield as_numbers(X), None if weight is None else as_numbers(weight)

    def sample(self, n_rows: int, place: Placement, prepare: Any) -> Any:
        """Return the inputs of the first training rows, on the device."""
        batches, n_found = [], 0
        # workers are not worth their start for the first batches alone
        for X, *_ in self._raw(min(n_rows, self._size()), WORKER_OPTIONS):
            batches.append(X)
            n_found += n_rows_of(X)
            if n_found >= n_rows:
                break
        X = map_arrays(lambda part: part[:n_rows], concatenate(batches))
        return finish(X, place, prepare)

    def _size(self) -> int:
        size = self.how.batch_size
        if size == "auto":
            return AUTO_BATCH_SIZE
        if size == -1:
            raise ParameterError(
                "batch_size=-1, all rows, is not possible with a dataset or loader. Give a number."
            )
        return int(size)

    def batches(
        self, place: Placement, prepare: Any, generator: torch.Generator
    ) -> tuple[Any, Any]:
        """Return the loaders of training and validation; see `ArrayFeed.batches`."""
        data, size = self.data, self._size()
        if not isinstance(data.X, (IterableDataset, DataLoader)):
            n_rows = len(data.X) if self.rows is None else len(self.rows)
            size = resolve_batch_size(self.how.batch_size, n_rows, AUTO_BATCH_SIZE)
        train = self._load_train(data.X, size, place, prepare, self.encode, generator)
        if data.X_val is not None:
            return train, self._given_valid(place, prepare)
        if self.valid_rows is None:
            return train, None
        rows = self.valid_rows
        return train, self._load_valid(data.X, place, prepare, self.encode, rows=rows)


def _placing(
    place: Placement, prepare: Any, labels: bool, encode: Encode | None, name: str = "X"
) -> dict[str, Any]:
    """Return what puts the parts of a batch on the device."""
    dtype = torch.int64 if labels else place.dtype

    of_y = name.replace("X", "y")

    def to_target(y: Any) -> Tensor:
        return to_tensor(y if encode is None else encode(y, of_y), dtype, place.device, of_y)

    return {
        "to_inputs": lambda X: finish(X, place, prepare),
        "to_target": to_target,
        "to_weight": lambda w: to_tensor(w, place.dtype, place.device, "sample_weight"),
    }


def _valid_batches(X: Rows, columns: Columns, rows: Any, how: Batching, place: Placement) -> Any:
    n_rows = len(columns.y) if rows is None else len(rows)
    size = resolve_batch_size(how.predict_batch_size, n_rows, AUTO_PREDICT_BATCH_SIZE)
    return columns.batches(X, size, _index(rows, place.device))


def _rows_with_weight(sample_weight: np.ndarray | None, name: str) -> np.ndarray | None:
    if sample_weight is None or sample_weight.all():
        return None
    rows = rows_where(sample_weight)
    if not len(rows):
        raise ParameterError(f"All values of {name} are 0. At least one must be positive.")
    return rows


def _index(rows: np.ndarray | None, device: torch.device) -> Tensor | None:
    return None if rows is None else torch.from_numpy(rows).to(device)
