"""Columns of a table as one row of numbers: numbers embedded, categories encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skorchlike.exceptions import ParameterError
from skorchlike.modules.checks import check_count
from skorchlike.modules.embeddings import build_numeric_embedding, uniform


class CategoryEmbedding(nn.Module):
    """A learned vector for each category of each column.

    Code 0, a category that was not seen in training, is the zero vector and stays it; so is
    any code that the column does not have.

    Parameters
    ----------
    cardinalities : sequence of int
        Number of codes of each column, code 0 included.
    size : int
        Length of the vectors.
    init : callable or None, default=None
        Returns the first values for a shape; by default uniform between plus and minus one
        over the root of `size`, as Gorishniy et al. 2021 have it.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules.columns import CategoryEmbedding
    >>> embedding = CategoryEmbedding([3, 5], size=2)
    >>> vectors = embedding(torch.tensor([[0, 4], [2, 0]]))
    >>> vectors.shape
    torch.Size([2, 2, 2])
    >>> vectors[0, 0].tolist()
    [0.0, 0.0]
    """

    n_codes: Tensor
    offset: Tensor

    def __init__(
        self,
        cardinalities: Sequence[int],
        size: int,
        init: Callable[[int, int], Tensor] | None = None,
    ) -> None:
        super().__init__()
        # one table for all columns, with one row for code 0: one lookup, however many columns
        known = torch.tensor([codes - 1 for codes in cardinalities])
        self.register_buffer("n_codes", known + 1, persistent=False)
        self.register_buffer("offset", known.cumsum(0) - known, persistent=False)
        self.size = size
        n_rows = 1 + int(known.sum())
        values = uniform(size, n_rows, size) if init is None else init(n_rows, size)
        values[0] = 0
        self.table = nn.Embedding(n_rows, size, padding_idx=0, _weight=values)

    def forward(self, categorical: Tensor) -> Tensor:
        """Embed codes of shape (n, q) as (n, q, size)."""
        known = (categorical > 0) & (categorical < self.n_codes)
        return self.table(torch.where(known, categorical + self.offset, 0))


class OneHot(nn.Module):
    """A column of zeros and ones for each category; code 0 is zero in all of them.

    Parameters
    ----------
    cardinalities : sequence of int
        Number of codes of each column, code 0 included.
    signed : bool, default=False
        Whether a column of two categories becomes one of 1 and -1 instead of two.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules.columns import OneHot
    >>> OneHot([4])(torch.tensor([[0], [1], [3]]))
    tensor([[0., 0., 0.],
            [1., 0., 0.],
            [0., 0., 1.]])
    """

    column: Tensor
    code: Tensor
    minus_code: Tensor
    like: Tensor

    def __init__(self, cardinalities: Sequence[int], signed: bool = False) -> None:
        super().__init__()
        signs = [signed and codes == 3 for codes in cardinalities]
        self.widths = [
            1 if sign else max(codes - 1, 1)
            for codes, sign in zip(cardinalities, signs, strict=True)
        ]
        widths = torch.tensor(self.widths)
        columns = torch.arange(len(widths)).repeat_interleave(widths)
        codes = 1 + torch.arange(len(columns)) - (widths.cumsum(0) - widths)[columns]
        never = torch.iinfo(torch.int64).min  # no column has this code
        minus = torch.where(torch.tensor(signs)[columns], 2, never)
        self.signed = any(signs)
        self.register_buffer("column", columns, persistent=False)
        self.register_buffer("code", codes, persistent=False)
        self.register_buffer("minus_code", minus, persistent=False)
        self.register_buffer("like", torch.empty(0), persistent=False)  # the module's dtype

    def forward(self, categorical: Tensor) -> Tensor:
        """Encode codes of shape (n, q) as (n, sum of the widths)."""
        codes = categorical[:, self.column]
        hot = (codes == self.code).to(self.like.dtype)
        return hot - (codes == self.minus_code).to(hot.dtype) if self.signed else hot


class Categories(nn.Module):
    """Categories as numbers: one-hot where there are few, else embedded.

    Parameters
    ----------
    cardinalities : sequence of int
        Number of codes of each column, code 0 included.
    embedding_size : int
        Length of the embeddings.
    max_one_hot : int, default=0
        Columns of at most so many categories, code 0 left out, are encoded one-hot.
    make_one_hot : callable, default=OneHot
        What makes the encoding from the cardinalities.
    init : callable or None, default=None
        See `CategoryEmbedding`.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules.columns import Categories
    >>> Categories([3, 50], embedding_size=8, max_one_hot=4)(torch.tensor([[1, 30]])).shape
    torch.Size([1, 10])
    """

    few: Tensor
    many: Tensor

    def __init__(
        self,
        cardinalities: Sequence[int],
        embedding_size: int,
        max_one_hot: int = 0,
        make_one_hot: Callable[[list[int]], OneHot] = OneHot,
        init: Callable[[int, int], Tensor] | None = None,
    ) -> None:
        super().__init__()
        few = [i for i, codes in enumerate(cardinalities) if codes - 1 <= max_one_hot]
        many = [i for i, codes in enumerate(cardinalities) if codes - 1 > max_one_hot]
        self.mixed = bool(few) and bool(many)
        # buffers: a list as index would be copied to the device in every batch
        self.register_buffer("few", torch.tensor(few, dtype=torch.int64), persistent=False)
        self.register_buffer("many", torch.tensor(many, dtype=torch.int64), persistent=False)
        self.one_hot = make_one_hot([cardinalities[i] for i in few]) if few else None
        self.embedding = None
        if many:
            self.embedding = CategoryEmbedding(
                [cardinalities[i] for i in many], embedding_size, init
            )
        self.widths = [*(self.one_hot.widths if self.one_hot else ())]
        self.widths += [embedding_size] * len(many)

    def split(self, categorical: Tensor) -> tuple[Tensor, Tensor]:
        """Return the columns that are encoded one-hot, and the others."""
        if not self.mixed:
            return categorical, categorical
        return categorical[:, self.few], categorical[:, self.many]

    def forward(self, categorical: Tensor) -> Tensor:
        """Return codes of shape (n, q) as (n, sum of the widths)."""
        few, many = self.split(categorical)
        if self.embedding is None:
            assert self.one_hot is not None  # one of both there is
            return self.one_hot(few)
        embedded = self.embedding(many).flatten(1)
        return embedded if self.one_hot is None else torch.cat([self.one_hot(few), embedded], 1)


class Columns(nn.Module):
    """Numbers and categories side by side, as one row of numbers.

    Parameters
    ----------
    n_numeric : int
        Number of numeric columns.
    numeric_embedding : torch.nn.Module or None
        What embeds them; it has a `size`.
    categories : Categories or None
        What encodes the categories.

    Attributes
    ----------
    widths : list of int
        How many numbers each column became; those of the numeric columns first, then
        categories encoded one-hot, then those embedded.
    """

    def __init__(
        self, n_numeric: int, numeric_embedding: nn.Module | None, categories: Categories | None
    ) -> None:
        super().__init__()
        self.n_numeric = n_numeric
        self.numeric_embedding = numeric_embedding
        self.categories = categories
        size: Any = 1 if numeric_embedding is None else numeric_embedding.size
        self.widths = [int(size)] * n_numeric + ([] if categories is None else categories.widths)

    def forward(self, numeric: Tensor | None = None, categorical: Tensor | None = None) -> Tensor:
        """Return numbers (n, p) and codes (n, q) as (n, sum of the widths)."""
        embed, categories = self.numeric_embedding, self.categories
        return side_by_side(self.n_numeric, embed, categories, numeric, categorical)

    @property
    def init_from_data(self) -> Callable[[Any], None]:
        """Learn from training rows; there only where something has to be learned."""
        learn = getattr(self.numeric_embedding, "init_from_data", None)
        if learn is None:
            raise AttributeError("init_from_data")
        return lambda X: learn(given("numeric", split_inputs(X)[0]))


def build_columns(
    owner: str,
    n_features_in: int,
    cat_cardinalities: Sequence[int],
    *,
    numeric_embedding: str | None = None,
    embedding_size: int | None = None,
    frequency_scale: float | None = None,
    n_bins: int = 48,
    cat_embedding_size: int = 8,
    max_one_hot: int = 0,
) -> Columns:
    """Check the options that modules have in common, and build what they say."""
    embedding = build_numeric_embedding(
        owner, numeric_embedding, n_features_in, embedding_size, frequency_scale, n_bins
    )
    size = check_count(owner, "cat_embedding_size", cat_embedding_size)
    few = check_count(owner, "max_one_hot", max_one_hot, at_least=0)
    categories = Categories(cat_cardinalities, size, few) if cat_cardinalities else None
    return Columns(n_features_in, embedding, categories)


def side_by_side(
    n_numeric: int,
    embed: nn.Module | None,
    categories: nn.Module | None,
    numeric: Tensor | None,
    categorical: Tensor | None,
) -> Tensor:
    """Return numbers (n, p), embedded, and codes (n, q), encoded, as one row of numbers each."""
    parts = []
    if n_numeric:
        numeric = given("numeric", numeric)
        parts.append(numeric if embed is None else embed(numeric).flatten(1))
    if categories is not None:
        parts.append(categories(given("categorical", categorical)))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def split_inputs(X: Any) -> tuple[Tensor | None, Tensor | None]:
    """Return numbers and codes of inputs as a module's forward gets them."""
    if isinstance(X, Tensor):
        return X, None
    if isinstance(X, Mapping):
        return X.get("numeric"), X.get("categorical")
    numeric, categorical = (*X, None)[:2]
    return numeric, categorical


def given(name: str, x: Tensor | None) -> Tensor:
    """Return an input that must be there."""
    if x is None:
        raise ParameterError(
            f"The module was built for {name} columns, and its input has none: `{name}` is missing."
        )
    return x
