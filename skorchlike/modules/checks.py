"""What the arguments of the built-in modules may be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


def check_count(owner: str, name: str, value: Any, at_least: int = 1) -> int:
    """Return a whole number that is large enough."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if whole and int(value) >= at_least:
        return int(value)
    wanted = "a positive integer" if at_least == 1 else f"an integer of at least {at_least}"
    raise ParameterError(f"The `{name}` of {owner} must be {wanted}. Got {value!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def check_positive(owner: str, name: str, value: Any) -> float:
    """Return a positive, finite number."""
    if _is_number(value) and 0 < float(value) < float("inf"):
        return float(value)
    raise ParameterError(f"The `{name}` of {owner} must be a positive number. Got {value!r}.")


def check_dropout(owner: str, name: str, value: Any) -> float:
    """Return a probability of dropping a unit."""
    if _is_number(value) and 0 <= float(value) < 1:
        return float(value)
    raise ParameterError(f"The `{name}` of {owner} must be in [0, 1). Got {value!r}.")


def check_choice(owner: str, name: str, value: Any, choices: Iterable[str]) -> str | None:
    """Return one of the names, or None."""
    choices = list(choices)
    if value is None or (isinstance(value, str) and value in choices):
        return value
    hint = did_you_mean(str(value), choices)
    raise ParameterError(
        f"The `{name}` of {owner} must be None or one of {', '.join(map(repr, choices))}. "
        f"Got {value!r}.{hint}"
    )


def check_sizes(owner: str, sizes: Any) -> list[int]:
    """Return the numbers of units of hidden layers."""
    try:
        checked: list[Any] = [sizes] if isinstance(sizes, Integral) else list(sizes)
        good = all(int(size) == size and size > 0 for size in checked)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise ParameterError(
            f"The `hidden_layer_sizes` of {owner} must be positive integers, such as (64, 64). "
            f"Got {sizes!r}."
        )
    return [int(size) for size in checked]


def check_activation(owner: str, activation: Any) -> Callable[[], nn.Module]:
    """Return what makes an activation, from its name or as it is."""
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    if callable(activation) and not isinstance(activation, nn.Module):
        return activation
    hint = did_you_mean(str(activation), ACTIVATIONS)
    raise ParameterError(
        f"The `activation` of {owner} must be a name or a torch.nn.Module class. "
        f"Got {activation!r}.{hint}"
    )


def check_columns(
    owner: str, n_features_in: Any, n_outputs: Any, cat_cardinalities: Sequence[int]
) -> list[int]:
    """Check the sizes that come from the data; return the numbers of codes per column."""
    n_numeric = check_count(owner, "n_features_in", n_features_in, at_least=0)
    check_count(owner, "n_outputs", n_outputs)
    try:
        listed = list(cat_cardinalities)
    except TypeError:
        raise ParameterError(
            f"The `cat_cardinalities` of {owner} must be positive integers, one a column. "
            f"Got {cat_cardinalities!r}."
        ) from None
    codes = [check_count(owner, "cat_cardinalities", codes) for codes in listed]
    if not n_numeric and not codes:
        raise ParameterError(
            f"{owner} needs a column: `n_features_in` is 0 and `cat_cardinalities` is empty."
        )
    return codes
