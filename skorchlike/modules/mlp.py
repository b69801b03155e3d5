"""The multi-layer perceptron that an estimator without a module trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from skorchlike.modules.checks import (
    ACTIVATIONS,
    check_activation,
    check_choice,
    check_columns,
    check_dropout,
    check_sizes,
)
from skorchlike.modules.columns import Columns, build_columns
from skorchlike.modules.normalization import BatchNorm

__all__ = ["ACTIVATIONS", "MLP"]

NORMALIZATIONS: dict[str, Callable[[int], nn.Module]] = {"batch": BatchNorm, "layer": nn.LayerNorm}


class MLP(nn.Sequential):
    """A multi-layer perceptron: linear layers with an activation between them.

    It maps a batch of shape (n, n_features_in), in the module's dtype, to outputs of shape
    (n, n_outputs), without a nonlinearity behind the last layer. Categories come as codes
    beside the numbers and are embedded.

    Parameters
    ----------
    n_features_in : int
        Number of numeric input features; an estimator reads it off the data.
    n_outputs : int
        Number of outputs; an estimator reads it off the data.
    hidden_layer_sizes : sequence of int, default=(256,)
        Number of units in each hidden layer.
    activation : str or callable, default="relu"
        A name (``"relu"``, ``"tanh"``, ``"gelu"``, ...) or something that returns an
        activation module when called, such as ``torch.nn.PReLU``.
    dropout : float, default=0.0
        Probability of dropping a hidden unit in training.
    normalization : {None, "batch", "layer"}, default=None
        What normalizes each hidden layer before its activation.
    numeric_embedding : {None, "linear", "periodic", "piecewise_linear", "pbld"}, default=None
        What each number becomes before the first layer; see `LinearEmbedding`,
        `PeriodicEmbedding`, `PiecewiseLinearEmbedding` and `PBLDEmbedding`.
    embedding_size : int or None, default=None
        How many numbers each number becomes. None is the embedding's own default.
    frequency_scale : float or None, default=None
        Standard deviation of the frequencies of periodic embeddings at first. None is the
        embedding's own default.
    n_bins : int, default=48
        Bins of each column for the piecewise-linear embedding, at most.
    cat_embedding_size : int, default=8
        Length of the vector that each category becomes; the default is that of RealMLP.
    cat_cardinalities : sequence of int, default=()
        Number of codes of each categorical column, code 0 (not seen in training) included; an
        estimator reads it off the data.

    Raises
    ------
    ParameterError
        For sizes that are no positive integers, unknown names, or a dropout outside [0, 1).

    References
    ----------
    Numeric embeddings: Gorishniy, Rubachev, Babenko (2022), "On Embeddings for Numerical
    Features in Tabular Deep Learning".

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules import MLP
    >>> MLP(n_features_in=4, n_outputs=3, hidden_layer_sizes=(8,))(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    follows_input_dtype = True
    takes_columns = True
    _plain = True  # nothing stands before the first layer

    def __init__(
        self,
        n_features_in: int,
        n_outputs: int,
        hidden_layer_sizes: Sequence[int] = (256,),
        activation: str | Callable[[], nn.Module] = "relu",
        dropout: float = 0.0,
        normalization: str | None = None,
        numeric_embedding: str | None = None,
        embedding_size: int | None = None,
        frequency_scale: float | None = None,
        n_bins: int = 48,
        cat_embedding_size: int = 8,
        cat_cardinalities: Sequence[int] = (),
    ) -> None:
        codes = check_columns("MLP", n_features_in, n_outputs, cat_cardinalities)
        sizes = check_sizes("MLP", hidden_layer_sizes)
        make_activation = check_activation("MLP", activation)
        dropout = check_dropout("MLP", "dropout", dropout)
        norm = check_choice("MLP", "normalization", normalization, NORMALIZATIONS)
        super().__init__()
        columns = build_columns(
            "MLP",
            n_features_in,
            codes,
            numeric_embedding=numeric_embedding,
            embedding_size=embedding_size,
            frequency_scale=frequency_scale,
            n_bins=n_bins,
            cat_embedding_size=cat_embedding_size,
        )
        self._plain = columns.numeric_embedding is None and columns.categories is None
        width = sum(columns.widths)
        layers: list[nn.Module] = []
        for size in sizes:
            layers.append(nn.Linear(width, size))
            if norm is not None:
                layers.append(NORMALIZATIONS[norm](size))
            layers.append(make_activation())
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = size
        if not self._plain:
            self.add_module("columns", columns)
        for i, layer in enumerate([*layers, nn.Linear(width, n_outputs)]):
            self.add_module(str(i), layer)

    def forward(self, numeric: Tensor | None = None, categorical: Tensor | None = None) -> Tensor:
        """Return outputs of shape (n, n_outputs).

        Parameters
        ----------
        numeric : torch.Tensor of shape (n, n_features_in) or None
            The numbers; without categories and embeddings it passes straight through.
        categorical : torch.Tensor of int64 of shape (n, number of categorical columns) or None
            The codes.
        """
        if self._plain:
            x: Any = numeric
            for layer in self._modules.values():
                x = layer(x)
            return x
        columns, *layers = self
        x = columns(numeric, categorical)
        for layer in layers:
            x = layer(x)
        return x

    @property
    def _chain(self) -> list[nn.Module] | None:
        """The layers, where `forward` calls one after another and does nothing else."""
        return list(self._modules.values()) if self._plain else None

    @property
    def init_from_data(self) -> Callable[[Any], None]:
        """Learn the bins of the piecewise-linear embedding; there only with that embedding."""
        columns = self._modules.get("columns")
        if not isinstance(columns, Columns):
            raise AttributeError("init_from_data")
        return columns.init_from_data
