"""The built-in multi-layer perceptron."""

import pytest
import torch
from torch import nn

from skorchlike.exceptions import ParameterError
from skorchlike.modules import MLP


def test_it_is_the_sequential_that_one_would_write_by_hand():
    mlp = MLP(4, 3, hidden_layer_sizes=(8, 5))
    by_hand = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
    by_hand.load_state_dict(mlp.state_dict())
    X = torch.randn(6, 4)
    assert torch.equal(mlp(X), by_hand(X))


def test_no_hidden_layer_is_a_linear_model():
    assert [type(part) for part in MLP(4, 2, hidden_layer_sizes=())] == [nn.Linear]


def test_activation_by_name_or_class_and_dropout():
    mlp = MLP(4, 2, hidden_layer_sizes=[3], activation="tanh", dropout=0.5)
    assert [type(part) for part in mlp] == [nn.Linear, nn.Tanh, nn.Dropout, nn.Linear]
    assert isinstance(MLP(4, 2, activation=nn.PReLU)[1], nn.PReLU)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_layer_sizes": (0,)}, "hidden_layer_sizes"),
        ({"hidden_layer_sizes": (2.5,)}, "hidden_layer_sizes"),
        ({"hidden_layer_sizes": "wide"}, "hidden_layer_sizes"),
        ({"activation": "rellu"}, "Did you mean 'relu'"),
        ({"activation": nn.ReLU()}, "activation"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": "much"}, "dropout"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    with pytest.raises(ParameterError, match=message):
        MLP(4, 2, **arguments)
