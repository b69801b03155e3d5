"""The multi-layer perceptron that an estimator without a module trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

from torch import nn

from skorchlike.exceptions import ParameterError, did_you_mean

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}


class MLP(nn.Sequential):
    """A multi-layer perceptron: linear layers with an activation between them.

    It maps a batch of shape (n, n_features_in), in the module's dtype, to outputs of shape
    (n, n_outputs), without a nonlinearity behind the last layer.

    Parameters
    ----------
    n_features_in : int
        Number of input features; an estimator reads it off the data.
    n_outputs : int
        Number of outputs; an estimator reads it off the data.
    hidden_layer_sizes : sequence of int, default=(256,)
        Number of units in each hidden layer.
    activation : str or callable, default="relu"
        A name (``"relu"``, ``"tanh"``, ``"gelu"``, ...) or something that returns an
        activation module when called, such as ``torch.nn.PReLU``.
    dropout : float, default=0.0
        Probability of dropping a hidden unit in training.

    Raises
    ------
    ParameterError
        For sizes that are no positive integers, an unknown activation, or a dropout
        outside [0, 1).

    Examples
    --------
    >>> import torch
    >>> from skorchlike.modules import MLP
    >>> MLP(n_features_in=4, n_outputs=3, hidden_layer_sizes=(8,))(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    follows_input_dtype = True

    def __init__(
        self,
        n_features_in: int,
        n_outputs: int,
        hidden_layer_sizes: Sequence[int] = (256,),
        activation: str | Callable[[], nn.Module] = "relu",
        dropout: float = 0.0,
    ) -> None:
        sizes = _check_sizes(hidden_layer_sizes)
        make_activation = _check_activation(activation)
        if not (isinstance(dropout, Real) and 0 <= dropout < 1):
            raise ParameterError(f"The `dropout` of MLP must be in [0, 1). Got {dropout!r}.")
        layers: list[nn.Module] = []
        width = n_features_in
        for size in sizes:
            layers += [nn.Linear(width, size), make_activation()]
            if dropout:
                layers.append(nn.Dropout(float(dropout)))
            width = size
        super().__init__(*layers, nn.Linear(width, n_outputs))


def _check_sizes(sizes: Sequence[int]) -> list[int]:
    try:
        checked: list[Any] = [sizes] if isinstance(sizes, Integral) else list(sizes)
        good = all(int(size) == size and size > 0 for size in checked)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ParameterError(
            "The `hidden_layer_sizes` of MLP must be positive integers, such as (64, 64). "
            f"Got {sizes!r}."
        )
    return [int(size) for size in checked]


def _check_activation(activation: str | Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    if callable(activation) and not isinstance(activation, nn.Module):
        return activation
    hint = did_you_mean(str(activation), ACTIVATIONS)
    raise ParameterError(
        f"The `activation` of MLP must be a name or a torch.nn.Module class. "
        f"Got {activation!r}.{hint}"
    )
