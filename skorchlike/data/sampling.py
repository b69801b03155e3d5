"""Which rows make a batch of a data loader, and what a loader may be told of it."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from skorchlike.exceptions import ParameterError, did_you_mean

DEEPEST = 4
"""So many samplers may be one within the other."""


class RowOrder:
    """Lists of row numbers, in the order that `ArrayBatches` has for the same generator."""

    def __init__(
        self, rows: Tensor, size: int, generator: torch.Generator | None, drop_last: bool
    ) -> None:
        self.rows, self.size, self.generator, self.drop_last = rows, size, generator, drop_last

    def __len__(self) -> int:
        n = len(self.rows)
        return n // self.size if self.drop_last else -(-n // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        rows = self.rows
        if self.generator is not None:
            rows = rows[torch.randperm(len(rows), generator=self.generator)]
        for part in rows.split(self.size)[: len(self)]:
            yield part.tolist()


class NotedBatches:
    """A batch sampler that notes what it has handed out and the loader has not yet given."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.pending: deque[Any] = deque()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        pending = self.pending = deque()
        for index in self.batches:
            pending.append(index)
            yield index


def row_numbers(index: Any, start: int, n: int) -> Tensor:
    """Return what a sampler yielded as row numbers, else the position in the pass."""
    try:
        numbers = torch.as_tensor(index)
        if numbers.shape == (n,) and not numbers.is_floating_point():
            return numbers.to(torch.int64)
    except (TypeError, ValueError, RuntimeError):
        pass  # keys that are no numbers
    return torch.arange(start, start + n)


def length_of(data: Any) -> int | None:
    """Return the length of what may have none."""
    try:
        return len(data)
    except (TypeError, NotImplementedError, IndexError):  # the last: TensorDataset()
        return None


def check_source(
    source: Any, rows: Any, options: Mapping[str, Any], name: str, prefix: str
) -> None:
    """Refuse options and splits that the kind of data leaves no room for."""
    if isinstance(source, DataLoader) and options:
        raise ParameterError(
            f"{name} is a DataLoader, which is used as it is: {prefix}__{next(iter(options))} has "
            f"no meaning for it. Drop the {prefix}__... parameters, or pass its dataset."
        )
    if rows is None:
        return
    if isinstance(source, (DataLoader, IterableDataset)):
        raise ParameterError(
            f"{name} ({type(source).__name__}) cannot be split into rows for training and "
            "validation. Pass X_val, or set validation_fraction=None."
        )
    for option in ("sampler", "batch_sampler"):
        if options.get(option) is not None:
            raise ParameterError(
                f"{prefix}__{option} would draw rows that are set apart for validation. Pass "
                "X_val, or set validation_fraction=None."
            )


def check_options(make_loader: Any, options: Mapping[str, Any], prefix: str) -> None:
    """Refuse what builds no loader, arguments that it does not have or that come from elsewhere."""
    if not callable(make_loader):
        raise ParameterError(
            f"The `{prefix}` parameter must be torch's DataLoader or what is called like it, a "
            f"class or function. Got {make_loader!r}. A DataLoader that is ready goes into fit as "
            "X."
        )
    if not callable(options.get("collate_fn") or callable):
        raise ParameterError(
            f"{prefix}__collate_fn must be a function of a list of items. Got "
            f"{options['collate_fn']!r}."
        )
    for option in ("dataset", "generator"):
        if option in options:
            raise ParameterError(
                f"{prefix}__{option} cannot be set: "
                + ("the data are passed to fit." if option == "dataset" else "use random_state.")
            )
    try:
        parameters = inspect.signature(make_loader).parameters
    except (TypeError, ValueError):  # what is built into Python may have none
        return
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    valid = set(parameters) - {"dataset", "generator"}
    for option in options:
        if option not in valid:
            raise ParameterError(
                f"{prefix}__{option} is no argument of {getattr(make_loader, '__name__', 'it')}."
                f"{did_you_mean(option, valid)}"
            )


def check_end(number: int, wanted: int | None, name: str, *, again: bool) -> None:
    """Refuse data that ended without a batch, or earlier than their length says.

    Parameters
    ----------
    number : int
        How many batches came.
    wanted : int or None
        How many were to come, where that is known.
    name : str
        The argument's name, for errors.
    again : bool
        Whether an earlier pass had batches.
    """
    if number == 0:
        raise ParameterError(
            f"The data given as {name} yielded no batch{' in a later pass over them' * again}. A "
            "stream must begin anew at each __iter__, and hold at least one batch: write __iter__ "
            "as a generator function. A DataLoader with drop_last=True needs as many rows as its "
            "batch_size."
        )
    if wanted is not None and number < wanted:
        raise ParameterError(
            f"The data given as {name} ended after {number} of {wanted} batches: its __getitem__ "
            "raised StopIteration. Correct its __len__ or what raises that."
        )


def generators_of(
    source: Any, options: Mapping[str, Any], own: torch.Generator | None
) -> dict[str, torch.Generator]:
    """Return the generators that passes over the data draw from, by what has them.

    Parameters
    ----------
    source : Dataset, IterableDataset or DataLoader
        The data.
    options : mapping
        Arguments of the loader that the user said.
    own : torch.Generator or None
        The fit's.
    """
    given = {name: options.get(name) for name in ("sampler", "batch_sampler")}
    if isinstance(source, DataLoader):
        given = {"loader": source, "sampler": source.sampler, "batch_sampler": source.batch_sampler}
    found = {"fit": own}
    for name, thing in given.items():
        for _ in range(DEEPEST):
            generator = getattr(thing, "generator", None)
            if all(generator is not other for other in found.values()):
                found[name] = generator
            # the one that draws the rows of which this one makes batches
            thing, name = getattr(thing, "sampler", None), f"{name}.sampler"
    return {name: g for name, g in found.items() if isinstance(g, torch.Generator)}
