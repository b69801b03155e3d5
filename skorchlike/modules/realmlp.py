"""A multi-layer perceptron with the defaults that were tuned on many data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skorchlike.modules.checks import (
    check_activation,
    check_columns,
    check_count,
    check_dropout,
    check_sizes,
)
from skorchlike.modules.columns import Categories, OneHot, given, side_by_side, split_inputs
from skorchlike.modules.embeddings import build_numeric_embedding, column_quantiles


class RealMLP(nn.Module):
    """The network of RealMLP-TD, of Holzmüller et al. 2024.

    Numbers are embedded by cosines (PBLD) and stand beside categories: those of columns with
    few of them one-hot, others embedded. A learned scale of each input, linear layers
    in neural tangent parametrization, activations whose strength is learned, and dropout
    follow. `init_from_data` fits weights and biases of the layers to training rows.

    What belongs to training is no part of it: rates and schedules, label smoothing, weight
    decay, standardized targets. Without them it is not RealMLP's accuracy. Patterns for
    parameters that RealMLP trains at rates of their own: ``scale.*``, ``numeric_embedding.*``,
    ``*.bias`` and ``*.activation.*``.

    Parameters
    ----------
    n_features_in : int
        Number of numeric input features; an estimator reads it off the data.
    n_outputs : int
        Number of outputs; an estimator reads it off the data.
    hidden_layer_sizes : sequence of int, default=(256, 256, 256)
        Number of units in each hidden layer.
    activation : str, callable or None, default=None
        A name (``"relu"``, ``"selu"``, ...) or something that returns an activation module when
        called. None is the paper's: SELU for classes, Mish for anything else.
    dropout : float, default=0.15
        Probability of dropping a hidden unit in training.
    numeric_embedding : {"pbld", None, "linear", "periodic", "piecewise_linear"}, default="pbld"
        What each number becomes before the first layer.
    embedding_size : int or None, default=None
        How many numbers each number becomes. None is the embedding's own default, 4 for PBLD.
    frequency_scale : float or None, default=None
        Standard deviation of the frequencies of periodic embeddings at first. None is the
        embedding's own default, 0.1 for PBLD.
    n_bins : int, default=48
        Bins of each column for the piecewise-linear embedding, at most.
    max_one_hot : int, default=8
        Columns of at most so many categories are encoded one-hot, others are embedded.
    cat_embedding_size : int, default=8
        Length of the vector that a category of those columns becomes.
    cat_cardinalities : sequence of int, default=()
        Number of codes of each categorical column, code 0 (not seen in training) included; an
        estimator reads it off the data.
    n_classes : int or None, default=None
        Number of classes if the outputs are logits of classes, else None; an estimator reads it
        off the data.

    Raises
    ------
    ParameterError
        For sizes that are no positive integers, unknown names, or a dropout outside [0, 1).

    References
    ----------
    Holzmüller, Grinsztajn, Steinwart (2024), "Better by default: Strong pre-tuned MLPs and
    boosted trees on tabular data". Details follow the authors' package ``pytabkit``; but a
    category that was not seen in training has an embedding of zeros.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules import RealMLP
    >>> module = RealMLP(n_features_in=4, n_outputs=3, n_classes=3)
    >>> module.init_from_data(torch.randn(100, 4))
    >>> module(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    follows_input_dtype = True
    takes_columns = True

    def __init__(
        self,
        n_features_in: int,
        n_outputs: int,
        hidden_layer_sizes: Sequence[int] = (256, 256, 256),
        activation: str | Callable[[], nn.Module] | None = None,
        dropout: float = 0.15,
        numeric_embedding: str | None = "pbld",
        embedding_size: int | None = None,
        frequency_scale: float | None = None,
        n_bins: int = 48,
        max_one_hot: int = 8,
        cat_embedding_size: int = 8,
        cat_cardinalities: Sequence[int] = (),
        n_classes: int | None = None,
    ) -> None:
        codes = check_columns("RealMLP", n_features_in, n_outputs, cat_cardinalities)
        sizes = check_sizes("RealMLP", hidden_layer_sizes)
        if activation is None:
            activation = Mish if n_classes is None else nn.SELU
        make_activation = check_activation("RealMLP", activation)
        dropout = check_dropout("RealMLP", "dropout", dropout)
        few = check_count("RealMLP", "max_one_hot", max_one_hot, at_least=0)
        size = check_count("RealMLP", "cat_embedding_size", cat_embedding_size)
        super().__init__()
        self.numeric_embedding = build_numeric_embedding(
            "RealMLP", numeric_embedding, n_features_in, embedding_size, frequency_scale, n_bins
        )
        self.n_numeric = n_features_in
        self.categories = None
        if codes:
            self.categories = Categories(codes, size, few, ScaledOneHot, init=torch.randn)
        embedding: Any = self.numeric_embedding
        width = n_features_in * (1 if embedding is None else embedding.size)
        width += sum(self.categories.widths) if self.categories else 0
        self.scale = Scale(width)
        self.blocks = nn.ModuleList()
        for units in sizes:
            self.blocks.append(Block(width, units, make_activation, dropout))
            width = units
        self.output = NTPLinear(width, n_outputs)

    def forward(self, numeric: Tensor | None = None, categorical: Tensor | None = None) -> Tensor:
        """Return outputs of shape (n, n_outputs).

        Parameters
        ----------
        numeric : torch.Tensor of shape (n, n_features_in) or None
            The numbers.
        categorical : torch.Tensor of int64 of shape (n, number of categorical columns) or None
            The codes.
        """
        x = self.scale(self._embed(numeric, categorical))
        for block in self.blocks:
            x = block(x)
        return self.output(x)

    @torch.no_grad()
    def init_from_data(self, X: Any) -> None:
        """Fit the first values of weights and biases, layer by layer, to training rows.

        Weights are scaled such that every unit has a standard deviation of one; its bias is
        minus a random point between five of its values ("he+5"). One-hot columns are centred
        and scaled by their quantiles.

        Parameters
        ----------
        X : torch.Tensor, tuple or dict of torch.Tensor
            Inputs, as `forward` gets them.
        """
        numeric, categorical = split_inputs(X)
        learn = getattr(self.numeric_embedding, "init_from_data", None)
        if learn is not None:
            learn(given("numeric", numeric))
        if self.categories is not None and isinstance(self.categories.one_hot, ScaledOneHot):
            few, _ = self.categories.split(given("categorical", categorical))
            self.categories.one_hot.init_from_data(few)
        x = self.scale(self._embed_by_chunks(numeric, categorical))
        for block in self.blocks:
            assert isinstance(block, Block)
            x = block.init_from_data(x)
        self.output.init_from_data(x)

    def _embed(self, numeric: Tensor | None, categorical: Tensor | None) -> Tensor:
        embed, categories = self.numeric_embedding, self.categories
        return side_by_side(self.n_numeric, embed, categories, numeric, categorical)

    def _embed_by_chunks(self, numeric: Tensor | None, categorical: Tensor | None) -> Tensor:
        """Embed many rows; the cosines of all of them at once would take much memory."""
        n = len(given("numeric", numeric) if self.n_numeric else given("categorical", categorical))
        chunks = [slice(start, start + 1000) for start in range(0, n, 1000)]
        return torch.cat(
            [
                self._embed(
                    None if numeric is None else numeric[rows],
                    None if categorical is None else categorical[rows],
                )
                for rows in chunks
            ]
        )


class Block(nn.Module):
    """One hidden layer of `RealMLP`."""

    def __init__(
        self, n_inputs: int, n_units: int, make_activation: Callable[[], nn.Module], dropout: float
    ) -> None:
        super().__init__()
        self.linear = NTPLinear(n_inputs, n_units)
        self.activation = ParametricActivation(n_units, make_activation())
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch of shape (n, n_inputs) to (n, n_units)."""
        return self.dropout(self.activation(self.linear(x)))

    def init_from_data(self, x: Tensor) -> Tensor:
        """Fit the first values to inputs; return what becomes of them, nothing dropped."""
        return self.activation(self.linear.init_from_data(x))


class Scale(nn.Module):
    """A learned factor for each input, 1 at first."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_features))

    def forward(self, x: Tensor) -> Tensor:
        """Scale a batch of shape (n, n_features)."""
        return x * self.weight


class NTPLinear(nn.Module):
    """A linear layer in neural tangent parametrization (Jacot et al. 2018).

    The weights are of order one, whatever the number of inputs; the products are divided by
    its root. So one learning rate suits layers of all widths.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Sizes.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules.realmlp import NTPLinear
    >>> layer = NTPLinear(100, 3)
    >>> layer.init_from_data(torch.randn(50, 100)).shape
    torch.Size([50, 3])
    """

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_outputs, n_inputs))
        self.bias = nn.Parameter(torch.zeros(n_outputs))
        self.factor = n_inputs**-0.5

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch of shape (n, n_inputs) to (n, n_outputs)."""
        return torch.addmm(self.bias, x, self.weight.t(), alpha=self.factor)

    @torch.no_grad()
    def init_from_data(self, x: Tensor, n_corners: int = 5) -> Tensor:
        """Draw weights and biases that suit inputs of shape (n, n_inputs); return the outputs."""
        self.weight.normal_()
        products = self.factor * (x @ self.weight.t())
        spread = products.std(dim=0, correction=0)
        # rounding errors of inputs that are all the same are no spread to be scaled up
        still = spread <= 1e-5 * products.abs().amax(dim=0)
        spread = torch.where(still, 1.0, spread)
        self.weight.div_(spread[:, None])
        products.div_(spread)
        # minus a random point of the simplex between some of each unit's values
        shape = (n_corners, len(spread))
        corners = products.gather(0, torch.randint(len(x), shape, device=x.device))
        shares = torch.empty_like(corners).exponential_()
        self.bias.copy_(-(corners * shares / shares.sum(dim=0)).sum(dim=0))
        return products + self.bias


class ParametricActivation(nn.Module):
    """An activation whose strength is learned for each unit, 1 at first.

    Parameters
    ----------
    n_units : int
        Number of units.
    function : torch.nn.Module
        The activation; at strength 0 a unit passes unchanged.
    """

    def __init__(self, n_units: int, function: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(n_units))

    def forward(self, x: Tensor) -> Tensor:
        """Activate a batch of shape (n, n_units)."""
        active = self.function(x)
        if x.dtype == self.weight.dtype:
            return torch.lerp(x, active, self.weight)
        return x + (active - x) * self.weight  # in mixed precision


class Mish(nn.Mish):
    """``torch.nn.Mish``, in half of its time on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        """Activate each number of a batch."""
        if x.device.type != "cpu":
            return super().forward(x)
        # the gradient of torch's own is not vectorized there (seen with torch 2.13)
        return x * nn.functional.softplus(x).tanh()


class ScaledOneHot(OneHot):
    """One-hot columns, scaled and clipped as RealMLP does with numbers.

    A column of two categories becomes one of 1 and -1. Behind `init_from_data` each column
    is centred at its median, divided by the distance of its quartiles (half of its range where
    that is zero) and clipped smoothly to (-3, 3).
    """

    center: Tensor
    factor: Tensor

    def __init__(self, cardinalities: Sequence[int]) -> None:
        super().__init__(cardinalities, signed=True)
        self.register_buffer("center", torch.zeros(sum(self.widths)))
        self.register_buffer("factor", torch.ones(sum(self.widths)))

    def init_from_data(self, categorical: Tensor) -> None:
        """Take centre and scale from training rows of codes, of shape (n, q)."""
        hot = super().forward(categorical)
        levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=hot.dtype, device=hot.device)
        least, lower, median, upper, most = column_quantiles(hot, levels)
        spread = torch.where(upper > lower, upper - lower, (most - least) / 2)
        self.center.copy_(median)
        self.factor.copy_(torch.where(spread > 0, 1 / spread, 0.0))

    def forward(self, categorical: Tensor) -> Tensor:
        """Encode codes of shape (n, q) as (n, sum of the widths)."""
        x = (super().forward(categorical) - self.center) * self.factor
        return x * torch.rsqrt(1 + (x / 3).square())
