"""A residual network for tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from skorchlike.modules.checks import check_columns, check_count, check_dropout, check_positive
from skorchlike.modules.columns import build_columns
from skorchlike.modules.normalization import BatchNorm


class ResNet(nn.Module):
    """A residual network for tables, of Gorishniy et al. 2021.

    A linear layer, blocks whose outputs are added to their inputs (batch normalization, linear
    layer, ReLU, dropout, linear layer, dropout), and a head of batch normalization, ReLU and
    linear layer. Categories come as codes beside the numbers and are embedded.

    Parameters
    ----------
    n_features_in : int
        Number of numeric input features; an estimator reads it off the data.
    n_outputs : int
        Number of outputs; an estimator reads it off the data.
    n_blocks : int, default=2
        Number of blocks.
    d_block : int, default=192
        Width of what passes from block to block.
    d_hidden_multiplier : float, default=2.0
        Width within a block, as a multiple of `d_block`.
    dropout1 : float, default=0.15
        Probability of dropping a unit within a block, in training.
    dropout2 : float, default=0.0
        Probability of dropping a number of a block's output, in training.
    numeric_embedding : {None, "linear", "periodic", "piecewise_linear", "pbld"}, default=None
        What each number becomes before the first layer, as in `MLP`.
    embedding_size : int or None, default=None
        How many numbers each number becomes. None is the embedding's own default.
    frequency_scale : float or None, default=None
        Standard deviation of the frequencies of periodic embeddings at first. None is the
        embedding's own default.
    n_bins : int, default=48
        Bins of each column for the piecewise-linear embedding, at most.
    cat_embedding_size : int, default=8
        Length of the vector that each category becomes.
    cat_cardinalities : sequence of int, default=()
        Number of codes of each categorical column, code 0 (not seen in training) included; an
        estimator reads it off the data.

    Raises
    ------
    ParameterError
        For sizes that are no positive integers, unknown names, or a dropout outside [0, 1).

    References
    ----------
    Gorishniy, Rubachev, Khrulkov, Babenko (2021), "Revisiting Deep Learning Models for Tabular
    Data". The defaults are those that the authors' package ``rtdl_revisiting_models`` shows; in
    the paper they are searched for each data set.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules import ResNet
    >>> ResNet(n_features_in=4, n_outputs=3)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    follows_input_dtype = True
    takes_columns = True

    def __init__(
        self,
        n_features_in: int,
        n_outputs: int,
        n_blocks: int = 2,
        d_block: int = 192,
        d_hidden_multiplier: float = 2.0,
        dropout1: float = 0.15,
        dropout2: float = 0.0,
        numeric_embedding: str | None = None,
        embedding_size: int | None = None,
        frequency_scale: float | None = None,
        n_bins: int = 48,
        cat_embedding_size: int = 8,
        cat_cardinalities: Sequence[int] = (),
    ) -> None:
        codes = check_columns("ResNet", n_features_in, n_outputs, cat_cardinalities)
        n_blocks = check_count("ResNet", "n_blocks", n_blocks)
        d_block = check_count("ResNet", "d_block", d_block)
        factor = check_positive("ResNet", "d_hidden_multiplier", d_hidden_multiplier)
        dropout1 = check_dropout("ResNet", "dropout1", dropout1)
        dropout2 = check_dropout("ResNet", "dropout2", dropout2)
        super().__init__()
        self.columns = build_columns(
            "ResNet",
            n_features_in,
            codes,
            numeric_embedding=numeric_embedding,
            embedding_size=embedding_size,
            frequency_scale=frequency_scale,
            n_bins=n_bins,
            cat_embedding_size=cat_embedding_size,
        )
        self.first = nn.Linear(sum(self.columns.widths), d_block)
        d_hidden = max(int(d_block * factor), 1)
        self.blocks = nn.ModuleList(
            ResidualBlock(d_block, d_hidden, dropout1, dropout2) for _ in range(n_blocks)
        )
        self.normalization = BatchNorm(d_block)
        self.activation = nn.ReLU()
        self.output = nn.Linear(d_block, n_outputs)

    def forward(self, numeric: Tensor | None = None, categorical: Tensor | None = None) -> Tensor:
        """Return outputs of shape (n, n_outputs).

        Parameters
        ----------
        numeric : torch.Tensor of shape (n, n_features_in) or None
            The numbers.
        categorical : torch.Tensor of int64 of shape (n, number of categorical columns) or None
            The codes.
        """
        x = self.first(self.columns(numeric, categorical))
        for block in self.blocks:
            x = block(x)
        return self.output(self.activation(self.normalization(x)))

    @property
    def init_from_data(self) -> Callable[[Any], None]:
        """Learn the bins of the piecewise-linear embedding; there only with that embedding."""
        return self.columns.init_from_data


class ResidualBlock(nn.Module):
    """One block of `ResNet`: what it computes is added to its input."""

    def __init__(self, d_block: int, d_hidden: int, dropout1: float, dropout2: float) -> None:
        super().__init__()
        self.normalization = BatchNorm(d_block)
        self.linear1 = nn.Linear(d_block, d_hidden)
        self.activation = nn.ReLU()
        self.dropout1 = nn.Dropout(dropout1)
        self.linear2 = nn.Linear(d_hidden, d_block)
        self.dropout2 = nn.Dropout(dropout2)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch of shape (n, d_block) to the same shape."""
        hidden = self.dropout1(self.activation(self.linear1(self.normalization(x))))
        return x + self.dropout2(self.linear2(hidden))
