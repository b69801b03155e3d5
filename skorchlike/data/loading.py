"""Batches that come from torch's datasets and data loaders."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from skorchlike.data.items import (
    check_no_holes,
    check_numbers,
    collate_items,
    describe_parts,
    read_batch,
    structure_of,
)
from skorchlike.data.sampling import (
    NotedBatches,
    RowOrder,
    check_end,
    check_options,
    check_source,
    generators_of,
    length_of,
    row_numbers,
)
from skorchlike.exceptions import ParameterError

FIXED_SEED = 0
"""Seeds the passes that have no generator: validation and predictions."""

ORDER_OPTIONS = ("shuffle", "sampler", "batch_sampler", "drop_last", "in_order")
SHUFFLING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def is_loader(X: Any) -> bool:
    """Whether inputs are a torch ``Dataset``, ``IterableDataset`` or ``DataLoader``."""
    return isinstance(X, (Dataset, DataLoader))


def _same(value: Any) -> Any:
    return value


class LoaderBatches:
    """Batches of a dataset or data loader, as the loop wants them.

    A map-style dataset gets one ``DataLoader`` for all passes. Its rows come in the order
    that `ArrayBatches` has for the same generator, with any number of workers. A loader that
    was given is used as it is.

    The random numbers that loader, dataset and workers draw from torch come from streams of
    their own, one a pass: torch's global generator stays as it was.

    Parameters
    ----------
    source : Dataset, IterableDataset or DataLoader
        The data.
    batch_size : int
        Rows a batch; an option of that name goes before.
    make_loader : callable
        What builds the loader: `torch.utils.data.DataLoader`, or a class with its arguments.
    options : mapping or None
        Arguments of the loader that the user said. Those of order and batches
        (``shuffle``, ``sampler``, ``batch_sampler``, ``batch_size``, ``drop_last``) go before the
        parameters here.
    generator : torch.Generator or None
        Shuffles, and seeds workers. Without, each pass has the same random numbers.
    shuffle : bool
        Whether to shuffle a map-style dataset anew in each pass.
    drop_last : bool
        Whether to leave out a last batch with fewer rows.
    rows : array-like of int or None
        Which items of a map-style dataset take part; None is all.
    to_inputs, to_target, to_weight : callable
        Put what was read on the device, in the dtype wanted.
    with_target : bool
        Whether targets are wanted. Without, rows come in the order of the data.
    name : str
        The argument's name, for errors.
    prefix : str
        The prefix of the options, for errors.

    Attributes
    ----------
    n_batches : int or None
        Batches of a pass; None for a stream of unknown length.
    n_rows : int or None
        Rows of a pass.
    began_with : dict
        The states of the generators when the last pass began: what `after` goes by.

    Raises
    ------
    ParameterError
        If an option is unknown or does not suit the data, or the data are empty.
    """

    def __init__(
        self,
        source: Any,
        batch_size: int,
        *,
        make_loader: Callable[..., Any] = DataLoader,
        options: Mapping[str, Any] | None = None,
        generator: torch.Generator | None = None,
        shuffle: bool = False,
        drop_last: bool = False,
        rows: Any = None,
        to_inputs: Callable[[Any], Any] = _same,
        to_target: Callable[[Any], Any] = _same,
        to_weight: Callable[[Any], Any] = _same,
        with_target: bool = True,
        name: str = "X",
        prefix: str = "train_loader",
    ) -> None:
        options = {k: v for k, v in (options or {}).items() if v is not None or k == "batch_size"}
        if not with_target and isinstance(source, DataLoader):
            options = {}  # they were said for other data: those of validation
        check_source(source, rows, options, name, prefix)
        check_options(make_loader, options, prefix)
        self.source, self.make_loader, self.rows = source, make_loader, rows
        self.batch_size, self.options, self.generator = batch_size, options, generator
        self.to_inputs, self.to_target, self.to_weight = to_inputs, to_target, to_weight
        self.with_target, self.name, self.prefix = with_target, name, prefix
        self.seeds = torch.Generator()
        self.began_with: dict[str, Tensor] = {}
        self.noted: NotedBatches | None = None
        self.shuffles = False
        self.first: tuple[Any, str] | None = None
        self.looks = True  # the values of the first pass are looked at
        self.n_rows: int | None
        self.n_batches: int | None
        if isinstance(source, DataLoader):
            self._take_loader(source)
            return
        said = {"shuffle": shuffle, "drop_last": drop_last, "batch_size": batch_size, **options}
        if not with_target:
            said = {key: said[key] for key in said if key not in ORDER_OPTIONS}
        self._load(said)

    # ------------------------------------------------------------------ building

    def _load(self, said: dict[str, Any]) -> None:
        try:
            if isinstance(self.source, IterableDataset):
                self._load_stream(said)
            else:
                self._load_map(said)
        except ParameterError:
            raise
        except (TypeError, ValueError) as error:
            raise ParameterError(
                f"The loader of {self.name} cannot be built with the {self.prefix}__... arguments "
                f"{', '.join(self.options) or '(none)'}: {error}"
            ) from error
        if not hasattr(self.loader, "__iter__"):
            raise ParameterError(
                f"The `{self.prefix}` parameter must build an iterable of batches. "
                f"{self.make_loader!r} returned {self.loader!r}."
            )

    def _take_loader(self, loader: DataLoader[Any]) -> None:
        self.loader: Any = loader
        if not self.with_target and isinstance(loader.sampler, SHUFFLING):
            raise ParameterError(
                f"The DataLoader given as {self.name} shuffles, so predictions would come in an "
                "order that nobody knows. Pass one with shuffle=False, or its dataset."
            )
        if isinstance(loader.dataset, IterableDataset):
            said = {k: getattr(loader, k) for k in ("batch_size", "drop_last", "num_workers")}
            self._count_stream(loader.dataset, said)
            return
        self.n_batches, self.n_rows = length_of(loader), None
        if type(loader.batch_sampler) is BatchSampler:
            self.n_rows = length_of(loader.sampler)
            if self.n_rows is not None and loader.drop_last:
                self.n_rows -= self.n_rows % loader.batch_sampler.batch_size

    def _load_stream(self, said: dict[str, Any]) -> None:
        if self.with_target and self.options.get("shuffle"):
            raise ParameterError(
                f"A stream has no row numbers to shuffle. Shuffle in the __iter__ of the dataset "
                f"given as {self.name}, and drop {self.prefix}__shuffle."
            )
        said.pop("shuffle", None)  # of the estimator, whose default is True
        if said["batch_size"] is not None:
            said.setdefault("collate_fn", collate_items)
        self.loader = self.make_loader(self.source, generator=self.seeds, **said)
        self._count_stream(self.source, said)

    def _count_stream(self, stream: Any, said: Mapping[str, Any]) -> None:
        """Count what is known: how several workers share a stream is the stream's affair."""
        n, size = length_of(stream), said["batch_size"]
        self.n_rows = self.n_batches = None
        if n is not None and size is not None and said.get("num_workers", 0) <= 1:
            self.n_rows = n - n % size if said.get("drop_last") else n
            self.n_batches = -(-self.n_rows // size)

    def _load_map(self, said: dict[str, Any]) -> None:
        n = length_of(self.source)
        if n is None:
            raise ParameterError(
                f"The dataset given as {self.name} ({type(self.source).__name__}) has no "
                "__len__. Define it, or derive the class from torch's IterableDataset."
            )
        rows = torch.arange(n) if self.rows is None else torch.as_tensor(self.rows)
        if not len(rows):
            raise ParameterError(f"The dataset given as {self.name} is empty.")
        self.n_rows = None
        batches: Any = said.pop("batch_sampler", None)
        sampler, size = said.pop("sampler", None), said.pop("batch_size")
        shuffle, drop_last = said.pop("shuffle", False), said.pop("drop_last", False)
        if batches is not None:
            self._refuse_beside("batch_sampler", "sampler", "shuffle", "batch_size", "drop_last")
        elif sampler is not None:
            self._refuse_beside("sampler", "shuffle")
            batches = BatchSampler(sampler, size, drop_last)
        else:
            batches = self._row_order(rows, size, shuffle, drop_last)
        self.n_batches = length_of(batches)
        self.noted = NotedBatches(batches)
        said.setdefault("collate_fn", collate_items)
        self.loader = self.make_loader(
            self.source, batch_sampler=self.noted, generator=self.seeds, **said
        )

    def _refuse_beside(self, option: str, *others: str) -> None:
        for other in others:
            if self.options.get(other):
                raise ParameterError(
                    f"{self.prefix}__{option} and {self.prefix}__{other} exclude one another."
                )

    def _row_order(self, rows: Tensor, size: Any, shuffle: bool, drop_last: bool) -> RowOrder:
        n = len(rows)
        if not isinstance(size, int) or size < 1:
            raise ParameterError(
                f"{self.prefix}__batch_size must be a positive integer. Got {size!r}. For a "
                "dataset whose items are batches, pass DataLoader(dataset, batch_size=None) itself."
            )
        if drop_last and n < size:
            raise ParameterError(
                f"With drop_last=True and batch_size={size} no batch is left of {n} training "
                "rows. Use a smaller batch_size or drop_last=False."
            )
        self.n_rows = n - n % size if drop_last else n
        # one batch of all rows is the same batch in any order
        self.shuffles = bool(shuffle) and (n > size or drop_last)
        if self.shuffles and self.generator is None:
            self.generator = torch.Generator().manual_seed(FIXED_SEED)
        return RowOrder(rows, size, self.generator if self.shuffles else None, drop_last)

    # -------------------------------------------------------------------- passes

    def __iter__(self) -> Iterator[tuple[Any, Any, Any, Any, int, bool]]:
        """Yield X, y, sample_weight, what returns the index, number of rows, is last."""
        self.began_with = {name: g.get_state() for name, g in self.generators().items()}
        return self._pass()

    def after(self, began_with: Any, n_done: int) -> Iterator[Any]:
        """Yield what was left of a pass after so many batches.

        Those are read once more and left out: what the dataset draws is then the same too.
        """
        for name, generator in self.generators().items():
            generator.set_state(began_with[name])
        self.began_with = began_with
        return islice(self._pass(), n_done, None)

    def generators(self) -> dict[str, torch.Generator]:
        """Return the generators that a pass draws from: also those of what the user gave."""
        return generators_of(self.source, self.options, self.generator)

    def _pass(self) -> Iterator[tuple[Any, Any, Any, Any, int, bool]]:
        start = 0
        fetched = self.fetch(self._pass_seed())
        # copied before the source may use its memory anew for the following batch
        placed = ((self._placed(batch, rows), rows) for batch, rows in fetched)
        following: Any = next(placed, None)
        while following is not None:
            (*batch, n), rows = following
            following = next(placed, None)
            yield (*batch, partial(row_numbers, rows, start, n), n, following is None)
            start += n
        self.looks = False

    def inputs(self) -> Iterator[Any]:
        """Yield the inputs in the order of the data, without random numbers of the fit."""
        same = self
        if not isinstance(self.source, DataLoader):
            same = LoaderBatches(
                self.source,
                self.batch_size,
                make_loader=self.make_loader,
                options=self.options,
                rows=self.rows,
                with_target=False,
                name=self.name,
                prefix=self.prefix,
            )
        for batch, _ in same.fetch(FIXED_SEED):
            yield self.to_inputs(self._read(batch)[0])

    def _pass_seed(self) -> int:
        """Return a seed for what loader, dataset and workers draw in a pass."""
        generator = self.generator
        if generator is None:
            return FIXED_SEED
        if self.shuffles:  # its draws make the order, which is that of ArrayBatches
            generator = generator.clone_state()
        return int(torch.empty((), dtype=torch.int64).random_(generator=generator))

    def fetch(self, seed: int) -> Generator[tuple[Any, Any], None, None]:
        """Yield what the loader yields, with what the sampler yielded for it if that is known."""
        self.seeds.manual_seed(seed)
        inside = torch.Generator().manual_seed(seed).get_state()
        known = self.noted if self.options.get("in_order", True) else None
        batches: Any = None
        number = 0
        while True:
            outside = torch.get_rng_state()
            torch.set_rng_state(inside)
            try:
                batches = iter(self.loader) if batches is None else batches
                batch = next(batches)
            except StopIteration:
                break
            except Exception as error:
                of_rows = (
                    f", rows {reprlib.repr(known.pending[0])}"
                    if known is not None and known.pending
                    else ""
                )
                error.add_note(f"Raised while batch {number + 1} of {self.name} was read{of_rows}.")
                raise
            finally:
                inside = torch.get_rng_state()
                torch.set_rng_state(outside)
            number += 1
            if known is not None and not known.pending:
                raise ParameterError(
                    f"The loader that the `{self.prefix}` parameter built for {self.name} yields "
                    "batches beyond those of the batch_sampler that it was given. It must take its "
                    "rows from there, as torch's DataLoader does."
                )
            yield batch, None if known is None else known.pending.popleft()
        ordered = self.noted is not None and isinstance(self.noted.batches, RowOrder)
        wanted = len(self.loader) if ordered else None
        check_end(number, wanted, self.name, again=not self.looks)

    def _read(self, batch: Any) -> tuple[Any, Any, Any, int]:
        return read_batch(batch, with_target=self.with_target, name=self.name, prefix=self.prefix)

    def _placed(self, batch: Any, index: Any) -> tuple[Any, Any, Any, int]:
        """Check a batch against the first one and put it on the device."""
        X, y, weight, n = self._read(batch)
        structure = (structure_of(X), None if y is None else y.ndim, weight is None)
        if self.first is None:
            self.first = structure, describe_parts(X, y, weight)
        if structure != self.first[0]:
            raise ParameterError(
                f"The batches of {self.name} differ in their structure: the first had "
                f"{self.first[1]}, a later one {describe_parts(X, y, weight)}."
            )
        own = self.with_target and "collate_fn" in self.options  # it may drop or add rows
        if index is not None and not own and hasattr(index, "__len__") and len(index) != n:
            raise ParameterError(
                f"The data given as {self.name} yielded {n} rows for {len(index)} row numbers."
            )
        if self.looks or weight is not None:
            check_numbers(X if self.looks else (), weight, self.name)
        y = None if y is None else self.to_target(y)
        weight = None if weight is None else self.to_weight(weight)
        try:
            X = self.to_inputs(X)
        except ParameterError as error:
            if not self.with_target and isinstance(X, dict) and "collate_fn" not in self.options:
                error.add_note(
                    f"If {self.prefix}__collate_fn is left out, torch makes the batches of "
                    "validation and prediction. Give it there too if training has one."
                )
            raise
        if self.looks and self.to_inputs is not _same:  # as they are given they may be missing
            check_no_holes(X, self.name)
        return X, y, weight, n
