"""A transformer whose tokens are the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skorchlike.exceptions import ParameterError
from skorchlike.modules.checks import check_columns, check_count, check_dropout, check_positive
from skorchlike.modules.columns import CategoryEmbedding, given
from skorchlike.modules.embeddings import LinearEmbedding, uniform

# by number of blocks: width, dropout of attention, dropout of the feed-forward layers
DEFAULTS = {
    1: (96, 0.1, 0.0),
    2: (128, 0.15, 0.05),
    3: (192, 0.2, 0.1),
    4: (256, 0.25, 0.15),
    5: (320, 0.3, 0.2),
    6: (384, 0.35, 0.25),
}


class FTTransformer(nn.Module):
    """Feature Tokenizer + Transformer, of Gorishniy et al. 2021.

    Every column becomes a token: a number times a learned vector plus another, a category
    its learned vector plus that of the column. Blocks of self-attention and of a feed-forward
    layer with ReGLU, each normalized before (PreNorm, but not the very first), update them; a
    further token, CLS, collects what the linear head reads.

    Parameters
    ----------
    n_features_in : int
        Number of numeric input features; an estimator reads it off the data.
    n_outputs : int
        Number of outputs; an estimator reads it off the data.
    n_blocks : int, default=3
        Number of blocks.
    d_block : int or None, default=None
        Width of a token, a multiple of `n_heads`. None is the paper's for the number of
        blocks, 192 for three (96, 128, 192, 256, 320, 384 for one to six, 384 beyond).
    n_heads : int, default=8
        Number of attention heads.
    attention_dropout : float or None, default=None
        Probability of dropping a link of the attention, in training. None is the paper's for
        the number of blocks, 0.2 for three (0.1 to 0.35).
    ffn_d_hidden_multiplier : float, default=4 / 3
        Width within the feed-forward layers, as a multiple of `d_block`.
    ffn_dropout : float or None, default=None
        Probability of dropping a unit of the feed-forward layers, in training. None is the
        paper's for the number of blocks, 0.1 for three (0.0 to 0.25).
    residual_dropout : float, default=0.0
        Probability of dropping a number that a block adds, in training.
    cat_cardinalities : sequence of int, default=()
        Number of codes of each categorical column, code 0 (not seen in training) included; an
        estimator reads it off the data.

    Raises
    ------
    ParameterError
        For sizes that are no positive integers, a `d_block` that is no multiple of `n_heads`,
        or a dropout outside [0, 1).

    References
    ----------
    Gorishniy, Rubachev, Khrulkov, Babenko (2021), "Revisiting Deep Learning Models for Tabular
    Data". The defaults are those of the authors' package ``rtdl_revisiting_models``; there the
    tokenizer, the normalizations and all biases are trained without weight decay.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules import FTTransformer
    >>> FTTransformer(n_features_in=4, n_outputs=3)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    follows_input_dtype = True
    takes_columns = True

    def __init__(
        self,
        n_features_in: int,
        n_outputs: int,
        n_blocks: int = 3,
        d_block: int | None = None,
        n_heads: int = 8,
        attention_dropout: float | None = None,
        ffn_d_hidden_multiplier: float = 4 / 3,
        ffn_dropout: float | None = None,
        residual_dropout: float = 0.0,
        cat_cardinalities: Sequence[int] = (),
    ) -> None:
        codes = check_columns("FTTransformer", n_features_in, n_outputs, cat_cardinalities)
        n_blocks = check_count("FTTransformer", "n_blocks", n_blocks)
        default = DEFAULTS[min(n_blocks, max(DEFAULTS))]
        width = _check_width(default[0] if d_block is None else d_block, n_heads)
        factor = check_positive("FTTransformer", "ffn_d_hidden_multiplier", ffn_d_hidden_multiplier)
        dropouts: dict[str, Any] = {
            "attention_dropout": default[1] if attention_dropout is None else attention_dropout,
            "ffn_dropout": default[2] if ffn_dropout is None else ffn_dropout,
            "residual_dropout": residual_dropout,
        }
        for name, value in dropouts.items():
            dropouts[name] = check_dropout("FTTransformer", name, value)
        super().__init__()
        self.tokenizer = Tokenizer(n_features_in, codes, width)
        d_hidden = max(int(width * factor), 1)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, n_heads, d_hidden, first=not i, **dropouts)
            for i in range(n_blocks)
        )
        self.normalization = nn.LayerNorm(width)
        self.activation = nn.ReLU()
        self.output = nn.Linear(width, n_outputs)

    def forward(self, numeric: Tensor | None = None, categorical: Tensor | None = None) -> Tensor:
        """Return outputs of shape (n, n_outputs).

        Parameters
        ----------
        numeric : torch.Tensor of shape (n, n_features_in) or None
            The numbers.
        categorical : torch.Tensor of int64 of shape (n, number of categorical columns) or None
            The codes.
        """
        x = self.tokenizer(numeric, categorical)
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            # nothing but CLS is read behind the last block
            x = block(x, n_queries=1 if i == last else None)
        return self.output(self.activation(self.normalization(x[:, 0])))


def _check_width(d_block: Any, n_heads: Any) -> int:
    width = check_count("FTTransformer", "d_block", d_block)
    heads = check_count("FTTransformer", "n_heads", n_heads)
    if width % heads:
        raise ParameterError(
            f"The `d_block` of FTTransformer must be a multiple of its `n_heads`. Got {width} "
            f"for {heads} heads."
        )
    return width


class Tokenizer(nn.Module):
    """Columns as tokens, behind the token CLS."""

    def __init__(self, n_numeric: int, cat_cardinalities: Sequence[int], size: int) -> None:
        super().__init__()
        self.cls = nn.Parameter(uniform(size, size))
        self.numeric = LinearEmbedding(n_numeric, size, relu=False) if n_numeric else None
        self.categorical = None
        if cat_cardinalities:
            self.categorical = CategoryEmbedding(cat_cardinalities, size)
            self.categorical_bias = nn.Parameter(uniform(size, len(cat_cardinalities), size))

    def forward(self, numeric: Tensor | None, categorical: Tensor | None) -> Tensor:
        """Return tokens of shape (n, 1 + number of columns, size)."""
        tokens = []
        if self.numeric is not None:
            tokens.append(self.numeric(given("numeric", numeric)))
        if self.categorical is not None:
            embedded = self.categorical(given("categorical", categorical))
            tokens.append(embedded + self.categorical_bias)
        cls = self.cls.expand(tokens[0].shape[0], 1, -1)
        return torch.cat([cls, *tokens], dim=1)


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer, each added to its input."""

    def __init__(
        self,
        size: int,
        n_heads: int,
        d_hidden: int,
        first: bool,
        attention_dropout: float,
        ffn_dropout: float,
        residual_dropout: float,
    ) -> None:
        super().__init__()
        # the first block goes without, which the authors found to be crucial
        self.attention_normalization = None if first else nn.LayerNorm(size)
        self.attention = Attention(size, n_heads, attention_dropout)
        self.ffn_normalization = nn.LayerNorm(size)
        self.ffn = nn.Sequential(
            nn.Linear(size, 2 * d_hidden),
            ReGLU(),
            nn.Dropout(ffn_dropout),
            nn.Linear(d_hidden, size),
        )
        self.residual_dropout = nn.Dropout(residual_dropout)

    def forward(self, x: Tensor, n_queries: int | None = None) -> Tensor:
        """Update tokens of shape (n, tokens, size), or the first `n_queries` of them."""
        normalize = self.attention_normalization
        normalized = x if normalize is None else normalize(x)
        attended = self.attention(normalized[:, :n_queries], normalized)
        x = x[:, :n_queries] + self.residual_dropout(attended)
        return x + self.residual_dropout(self.ffn(self.ffn_normalization(x)))


class Attention(nn.Module):
    """Attention of some tokens to others, by several heads."""

    def __init__(self, size: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size)
        self.mix = nn.Linear(size, size) if n_heads > 1 else None
        for part in self.children():
            if isinstance(part, nn.Linear):
                nn.init.zeros_(part.bias)

    def forward(self, asking: Tensor, asked: Tensor) -> Tensor:
        """Return what tokens (n, a, size) find in tokens (n, b, size)."""
        query, key, value = self.query(asking), self.key(asked), self.value(asked)
        query, key, value = (
            part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        found = nn.functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0
        )
        found = found.transpose(1, 2).flatten(2)
        return found if self.mix is None else self.mix(found)


class ReGLU(nn.Module):
    """One half of the numbers times the positive part of the other half."""

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch of shape (..., 2 d) to (..., d)."""
        a, b = x.chunk(2, dim=-1)
        return a * b.relu()
