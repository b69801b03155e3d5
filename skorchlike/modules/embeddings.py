"""Embeddings of numbers: each column of numbers becomes several, by learned functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from skorchlike.exceptions import ParameterError
from skorchlike.modules.checks import check_choice, check_count, check_positive


class LinearEmbedding(nn.Module):
    """A linear function of each number, by default with a ReLU behind it.

    ``LR`` of Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep
    Learning"; without the ReLU the feature tokenizer of FT-Transformer.

    Parameters
    ----------
    n_features : int
        Number of columns.
    size : int, default=32
        Numbers that each column becomes.
    relu : bool, default=True
        Whether a ReLU follows.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules.embeddings import LinearEmbedding
    >>> LinearEmbedding(3, size=4)(torch.zeros(2, 3)).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, n_features: int, size: int = 32, relu: bool = True) -> None:
        super().__init__()
        self.size, self.relu = size, relu
        self.weight = nn.Parameter(uniform(size, n_features, size))
        self.bias = nn.Parameter(uniform(size, n_features, size))

    def forward(self, x: Tensor) -> Tensor:
        """Embed numbers of shape (n, n_features) as (n, n_features, size)."""
        x = x.unsqueeze(-1) * self.weight + self.bias
        return x.relu() if self.relu else x


class PeriodicEmbedding(nn.Module):
    """Cosines and sines of each number at learned frequencies, a linear layer, a ReLU.

    ``PLR`` of Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep
    Learning", with the defaults of their package ``rtdl_num_embeddings``.

    Parameters
    ----------
    n_features : int
        Number of columns.
    size : int, default=24
        Numbers that each column becomes.
    n_frequencies : int, default=48
        Frequencies of each column.
    frequency_scale : float, default=0.01
        Standard deviation of the frequencies at first: the option that matters most. Too
        large a value harms far more than too small a one.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules.embeddings import PeriodicEmbedding
    >>> PeriodicEmbedding(3, size=4)(torch.zeros(2, 3)).shape
    torch.Size([2, 3, 4])
    """

    def __init__(
        self,
        n_features: int,
        size: int = 24,
        n_frequencies: int = 48,
        frequency_scale: float = 0.01,
    ) -> None:
        super().__init__()
        self.size = size
        frequencies = torch.empty(n_features, n_frequencies)
        bound = 3 * frequency_scale
        nn.init.trunc_normal_(frequencies, 0.0, frequency_scale, a=-bound, b=bound)
        self.frequencies = nn.Parameter(frequencies)
        width = 2 * n_frequencies
        self.weight = nn.Parameter(uniform(width, n_features, width, size))
        self.bias = nn.Parameter(uniform(width, n_features, size))

    def forward(self, x: Tensor) -> Tensor:
        """Embed numbers of shape (n, n_features) as (n, n_features, size)."""
        angles = (2 * math.pi) * self.frequencies * x.unsqueeze(-1)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        return (column_linear(waves, self.weight) + self.bias).relu()


class PBLDEmbedding(nn.Module):
    """Cosines of each number at learned frequencies and phases, a linear layer, the number.

    "Periodic bias linear DenseNet" of Holzmüller et al. 2024, "Better by default: strong
    pre-tuned MLPs and boosted trees on tabular data", with the defaults of RealMLP.

    Parameters
    ----------
    n_features : int
        Number of columns.
    size : int, default=4
        Numbers that each column becomes, the number itself included.
    n_frequencies : int, default=16
        Frequencies of each column.
    frequency_scale : float, default=0.1
        Standard deviation of the frequencies at first.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules.embeddings import PBLDEmbedding
    >>> PBLDEmbedding(3)(torch.zeros(2, 3)).shape
    torch.Size([2, 3, 4])
    """

    def __init__(
        self,
        n_features: int,
        size: int = 4,
        n_frequencies: int = 16,
        frequency_scale: float = 0.1,
    ) -> None:
        super().__init__()
        self.size = size
        self.frequencies = nn.Parameter(frequency_scale * torch.randn(n_features, n_frequencies))
        self.phases = nn.Parameter(math.pi * (2 * torch.rand(n_features, n_frequencies) - 1))
        self.weight = nn.Parameter(uniform(n_frequencies, n_features, n_frequencies, size - 1))
        # no `bias`: a glob for the biases of layers is not meant to find it
        self.offset = nn.Parameter(uniform(n_frequencies, n_features, size - 1))

    def forward(self, x: Tensor) -> Tensor:
        """Embed numbers of shape (n, n_features) as (n, n_features, size), the number last."""
        number = x.unsqueeze(-1)
        waves = torch.cos((2 * math.pi) * self.frequencies * number + self.phases)
        embedded = column_linear(waves, self.weight) + self.offset
        return torch.cat([embedded, number.to(embedded.dtype)], dim=-1)


class PiecewiseLinearEmbedding(nn.Module):
    """A continuous function of each number, linear between quantiles of the training data.

    The sum of a linear function and of a learned vector for each bin, times the share of the
    bin that lies below the number. Gorishniy et al. 2022, "On Embeddings for Numerical Features
    in Tabular Deep Learning", in the form that TabM uses (Gorishniy et al. 2025): quantile
    bins, the vectors of the bins zero at first.

    `init_from_data` must have seen training data before the first use, or the state of an
    embedding that has. Columns with few different values have fewer bins, a constant column none.

    Parameters
    ----------
    n_features : int
        Number of columns.
    size : int, default=16
        Numbers that each column becomes.
    n_bins : int, default=48
        Bins of each column, at most.

    Raises
    ------
    ParameterError
        When it is used before it has bins.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules.embeddings import PiecewiseLinearEmbedding
    >>> embedding = PiecewiseLinearEmbedding(3, size=4, n_bins=8)
    >>> embedding.init_from_data(torch.randn(100, 3))
    >>> embedding(torch.zeros(2, 3)).shape
    torch.Size([2, 3, 4])
    """

    left: Tensor
    inverse_width: Tensor
    lower: Tensor
    upper: Tensor

    OPEN = 1e30  # finite, so that averages of the state stay numbers; beyond any encoding

    def __init__(self, n_features: int, size: int = 16, n_bins: int = 48) -> None:
        super().__init__()
        self.size, self.n_bins = size, n_bins
        self.weight = nn.Parameter(uniform(size, n_features, size))
        self.bias = nn.Parameter(uniform(size, n_features, size))
        self.bin_weight = nn.Parameter(torch.zeros(n_features, n_bins, size))
        for name in ("left", "inverse_width", "lower", "upper"):
            self.register_buffer(name, torch.full((n_features, n_bins), math.nan))
        self._ready = False

    @torch.no_grad()
    def init_from_data(self, x: Tensor) -> None:
        """Take the quantiles of training rows, of shape (n, n_features), as bins."""
        levels = torch.linspace(0, 1, self.n_bins + 1, dtype=x.dtype, device=x.device)
        quantiles = column_quantiles(x, levels)
        for buffer, blank in zip(self._bins(), (0.0, 0.0, 0.0, 1.0), strict=True):
            buffer.fill_(blank)
        for column in range(x.shape[1]):
            edges = quantiles[:, column].unique()
            wide = edges.diff().reciprocal().isfinite()  # a width may be too small to divide by
            edges = edges[torch.cat([wide.new_ones(1), wide])]
            n = len(edges) - 1
            if n < 1:
                continue
            self.left[column, :n] = edges[:-1]
            self.inverse_width[column, :n] = edges.diff().reciprocal()
            self.lower[column, 0] = -self.OPEN
            self.upper[column, n - 1] = self.OPEN
        self._ready = True

    def forward(self, x: Tensor) -> Tensor:
        """Embed numbers of shape (n, n_features) as (n, n_features, size)."""
        if not self._ready:
            raise ParameterError(
                "The piecewise-linear embedding has no bins yet: call init_from_data with "
                "training rows before the module is used, or load the state of a trained one. "
                "The estimators of skorchlike do so in fit."
            )
        number = x.unsqueeze(-1)
        shares = torch.clamp((number - self.left) * self.inverse_width, self.lower, self.upper)
        return number * self.weight + self.bias + column_linear(shares, self.bin_weight)

    def _bins(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.left, self.inverse_width, self.lower, self.upper

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._ready = not any(bool(buffer.isnan().any()) for buffer in self._bins())


NUMERIC_EMBEDDINGS: dict[str, Callable[..., nn.Module]] = {
    "linear": LinearEmbedding,
    "periodic": PeriodicEmbedding,
    "piecewise_linear": PiecewiseLinearEmbedding,
    "pbld": PBLDEmbedding,
}
"""Registered names, as in ``module__numeric_embedding="periodic"``."""


def build_numeric_embedding(
    owner: str,
    name: str | None,
    n_features: int,
    size: int | None = None,
    frequency_scale: float | None = None,
    n_bins: int = 48,
) -> nn.Module | None:
    """Return the embedding of that name, or None; where an option is None, with its default.

    Raises
    ------
    ParameterError
        For an unknown name or impossible options.
    """
    name = check_choice(owner, "numeric_embedding", name, NUMERIC_EMBEDDINGS)
    options: dict[str, Any] = {}
    if size is not None:
        least = 2 if name == "pbld" else 1
        options["size"] = check_count(owner, "embedding_size", size, at_least=least)
    if frequency_scale is not None:
        frequency_scale = check_positive(owner, "frequency_scale", frequency_scale)
        if name in ("periodic", "pbld"):
            options["frequency_scale"] = frequency_scale
    n_bins = check_count(owner, "n_bins", n_bins)
    if name == "piecewise_linear":
        options["n_bins"] = n_bins
    if name is None or not n_features:
        return None
    return NUMERIC_EMBEDDINGS[name](n_features, **options)


def uniform(fan_in: int, *shape: int) -> Tensor:
    """Return random numbers between plus and minus one over the root of `fan_in`."""
    bound = max(fan_in, 1) ** -0.5
    return torch.empty(shape).uniform_(-bound, bound)


def column_linear(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply each column's numbers, (n, p, k), by its own matrix, (p, k, d)."""
    return torch.bmm(x.transpose(0, 1), weight).transpose(0, 1)


def column_quantiles(x: Tensor, levels: Tensor) -> Tensor:
    """Return quantiles of each column, interpolated linearly, of shape (levels, columns).

    ``torch.quantile`` refuses more than 16 million numbers.
    """
    ordered = x.sort(dim=0).values
    position = levels * (len(x) - 1)
    below = position.floor().long()
    above = (below + 1).clamp(max=len(x) - 1)
    return torch.lerp(ordered[below], ordered[above], (position - below)[:, None])
