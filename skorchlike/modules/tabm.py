"""Many multi-layer perceptrons in one, that share most of their weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skorchlike.modules.checks import (
    check_activation,
    check_columns,
    check_count,
    check_dropout,
)
from skorchlike.modules.columns import build_columns
from skorchlike.modules.embeddings import uniform


class TabM(nn.Module):
    """An ensemble of multi-layer perceptrons that share most of their weights.

    TabM of Gorishniy et al. 2025: each member scales inputs and outputs of the shared linear
    layers by numbers of its own, and has its own biases and output layer. At first the members
    differ by the scales of the inputs alone. They are trained side by side, each by its own
    loss, and asked together.

    In training mode it maps a batch to outputs of shape (n, n_members, n_outputs), in eval mode
    to (n, n_outputs), the members' mean as `aggregate` takes it.

    Parameters
    ----------
    n_features_in : int
        Number of numeric input features; an estimator reads it off the data.
    n_outputs : int
        Number of outputs; an estimator reads it off the data.
    n_members : int, default=32
        Number of members.
    n_blocks : int or None, default=None
        Number of hidden layers. None is the paper's: 3, or 2 with a numeric embedding.
    d_block : int, default=512
        Number of units in each hidden layer.
    dropout : float, default=0.1
        Probability of dropping a hidden unit in training.
    activation : str or callable, default="relu"
        A name (``"relu"``, ``"tanh"``, ``"gelu"``, ...) or something that returns an
        activation module when called.
    numeric_embedding : {None, "linear", "periodic", "piecewise_linear", "pbld"}, default=None
        What each number becomes before the first layer, as in `MLP`. The paper's best variant
        has ``"piecewise_linear"``.
    embedding_size : int or None, default=None
        How many numbers each number becomes. None is the embedding's own default.
    frequency_scale : float or None, default=None
        Standard deviation of the frequencies of periodic embeddings at first. None is the
        embedding's own default.
    n_bins : int, default=48
        Bins of each column for the piecewise-linear embedding, at most.
    max_one_hot : int, default=128
        Columns of at most so many categories are encoded one-hot, as the paper does with all;
        those of more are embedded, which takes far less memory.
    cat_embedding_size : int, default=8
        Length of the vector that a category of those columns becomes.
    cat_cardinalities : sequence of int, default=()
        Number of codes of each categorical column, code 0 (not seen in training) included; an
        estimator reads it off the data.
    n_classes : int or None, default=None
        Number of classes if the outputs are logits of classes, else None; an estimator reads it
        off the data. It says how `aggregate` takes the mean.

    Raises
    ------
    ParameterError
        For sizes that are no positive integers, unknown names, or a dropout outside [0, 1).

    References
    ----------
    Gorishniy, Kotelnikov, Babenko (2025), "TabM: Advancing Tabular Deep Learning with
    Parameter-Efficient Ensembling". The defaults are those of the authors' package ``tabm``.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules import TabM
    >>> module = TabM(n_features_in=4, n_outputs=3, n_members=8, n_classes=3)
    >>> module(torch.zeros(2, 4)).shape
    torch.Size([2, 8, 3])
    >>> module.eval()(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    follows_input_dtype = True
    takes_columns = True

    def __init__(
        self,
        n_features_in: int,
        n_outputs: int,
        n_members: int = 32,
        n_blocks: int | None = None,
        d_block: int = 512,
        dropout: float = 0.1,
        activation: str | Callable[[], nn.Module] = "relu",
        numeric_embedding: str | None = None,
        embedding_size: int | None = None,
        frequency_scale: float | None = None,
        n_bins: int = 48,
        max_one_hot: int = 128,
        cat_embedding_size: int = 8,
        cat_cardinalities: Sequence[int] = (),
        n_classes: int | None = None,
    ) -> None:
        codes = check_columns("TabM", n_features_in, n_outputs, cat_cardinalities)
        members = check_count("TabM", "n_members", n_members)
        if n_classes is not None:
            n_classes = check_count("TabM", "n_classes", n_classes)
        width = check_count("TabM", "d_block", d_block)
        dropout = check_dropout("TabM", "dropout", dropout)
        make_activation = check_activation("TabM", activation)
        super().__init__()
        self.n_members, self.n_classes = members, n_classes
        self.columns = build_columns(
            "TabM",
            n_features_in,
            codes,
            numeric_embedding=numeric_embedding,
            embedding_size=embedding_size,
            frequency_scale=frequency_scale,
            n_bins=n_bins,
            cat_embedding_size=cat_embedding_size,
            max_one_hot=max_one_hot,
        )
        embeds = self.columns.numeric_embedding is not None
        n_blocks = check_count("TabM", "n_blocks", (3 - embeds) if n_blocks is None else n_blocks)
        self.blocks = nn.ModuleList()
        n_inputs = sum(self.columns.widths)
        for _ in range(n_blocks):
            linear = SharedLinear(n_inputs, width, members)
            self.blocks.append(nn.Sequential(linear, make_activation(), nn.Dropout(dropout)))
            n_inputs = width
        scale = self.blocks[0].get_parameter("0.input_scale")
        scale.data = first_scales(members, self.columns.widths, normal=embeds)
        self.output = MemberLinear(width, n_outputs, members)

    def forward(self, numeric: Tensor | None = None, categorical: Tensor | None = None) -> Tensor:
        """Return outputs, of shape (n, n_members, n_outputs) in training, else (n, n_outputs).

        Parameters
        ----------
        numeric : torch.Tensor of shape (n, n_features_in) or None
            The numbers.
        categorical : torch.Tensor of int64 of shape (n, number of categorical columns) or None
            The codes.
        """
        x = self.columns(numeric, categorical).unsqueeze(1)
        for block in self.blocks:
            x = block(x)
        outputs = self.output(x)
        return outputs if self.training else self.aggregate(outputs)

    def aggregate(self, outputs: Tensor) -> Tensor:
        """Return the members' common outputs, of shape (n, n_outputs).

        With `n_classes` they are logits whose probabilities are the mean of the members'
        probabilities; else they are the mean of the outputs.

        Parameters
        ----------
        outputs : torch.Tensor of shape (n, n_members, n_outputs)
            The outputs of each member.
        """
        if self.n_classes is None:
            return outputs.mean(dim=1)
        if outputs.shape[-1] == 1:  # one logit, of the second of two classes
            return _log_mean(nn.functional.logsigmoid(outputs)) - _log_mean(
                nn.functional.logsigmoid(-outputs)
            )
        return _log_mean(outputs.log_softmax(dim=-1))

    @property
    def init_from_data(self) -> Callable[[Any], None]:
        """Learn the bins of the piecewise-linear embedding; there only with that embedding."""
        return self.columns.init_from_data


def _log_mean(log_values: Tensor) -> Tensor:
    return log_values.logsumexp(dim=1) - math.log(log_values.shape[1])


def first_scales(n_members: int, widths: Sequence[int], normal: bool) -> Tensor:
    """Return random scales of the inputs, one for each member and column.

    Parameters
    ----------
    n_members : int
        Number of members.
    widths : sequence of int
        How many numbers each column became; those of a column get the same scale.
    normal : bool
        Whether the scales are normal numbers, as the paper has it with numeric embeddings;
        else they are 1 and -1.

    Returns
    -------
    torch.Tensor of shape (n_members, sum of widths)
    """
    scales = torch.randn(n_members, len(widths))
    if not normal:
        scales = torch.where(scales < 0, -1.0, 1.0)
    return scales.repeat_interleave(torch.tensor(widths), dim=1)


class SharedLinear(nn.Module):
    """A linear layer that members share; scales and biases are their own.

    BatchEnsemble of Wen et al. 2020, with the first values of TabM: all scales 1, all members
    the same biases.

    Parameters
    ----------
    n_inputs, n_outputs, n_members : int
        Sizes.
    """

    def __init__(self, n_inputs: int, n_outputs: int, n_members: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(uniform(n_inputs, n_outputs, n_inputs))
        self.input_scale = nn.Parameter(torch.ones(n_members, n_inputs))
        self.output_scale = nn.Parameter(torch.ones(n_members, n_outputs))
        self.bias = nn.Parameter(uniform(n_inputs, n_outputs).repeat(n_members, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_members or 1, n_inputs) to (n, n_members, n_outputs)."""
        return (
            nn.functional.linear(x * self.input_scale, self.weight) * self.output_scale + self.bias
        )


class MemberLinear(nn.Module):
    """A linear layer for each member.

    Parameters
    ----------
    n_inputs, n_outputs, n_members : int
        Sizes.
    """

    def __init__(self, n_inputs: int, n_outputs: int, n_members: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(uniform(n_inputs, n_members, n_inputs, n_outputs))
        self.bias = nn.Parameter(uniform(n_inputs, n_members, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, n_members, n_inputs) to (n, n_members, n_outputs)."""
        return torch.bmm(x.transpose(0, 1), self.weight).transpose(0, 1) + self.bias
