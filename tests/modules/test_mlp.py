"""The built-in multi-layer perceptron."""

import pytest
import torch
from torch import nn

from skorchlike.exceptions import ParameterError
from skorchlike.modules import MLP
from skorchlike.modules.columns import CategoryEmbedding
from skorchlike.modules.normalization import BatchNorm


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


@pytest.mark.parametrize(("name", "layer"), [("batch", BatchNorm), ("layer", nn.LayerNorm)])
def test_normalization_stands_before_the_activation(name, layer):
    mlp = MLP(4, 2, hidden_layer_sizes=(3, 3), normalization=name, dropout=0.5)
    block = [nn.Linear, layer, nn.ReLU, nn.Dropout]
    assert [type(part) for part in mlp] == [*block, *block, nn.Linear]
    assert MLP(4, 2).state_dict().keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_categories_are_embedded_beside_the_numbers():
    mlp = MLP(2, 3, hidden_layer_sizes=(8,), cat_cardinalities=[3, 4], cat_embedding_size=5)
    numeric, codes = torch.randn(6, 2), torch.randint(0, 3, (6, 2))
    embedding = CategoryEmbedding([3, 4], size=5)
    by_hand = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    state = mlp.state_dict()
    embedding.load_state_dict(
        {"table.weight": state.pop("columns.categories.embedding.table.weight")}
    )
    by_hand.load_state_dict(state)
    row = torch.cat([numeric, embedding(codes).flatten(1)], dim=1)
    assert torch.equal(mlp(numeric, codes), by_hand(row))


@pytest.mark.parametrize("embedding", ["linear", "periodic", "piecewise_linear", "pbld"])
def test_numbers_can_be_embedded(embedding):
    mlp = MLP(3, 2, hidden_layer_sizes=(8,), numeric_embedding=embedding, embedding_size=6)
    assert mlp.state_dict()["0.weight"].shape == (8, 18)
    if embedding == "piecewise_linear":
        mlp.init_from_data(torch.randn(50, 3))
    assert mlp(torch.randn(4, 3)).shape == (4, 2)


def test_options_of_embeddings_reach_them():
    mlp = MLP(400, 2, numeric_embedding="periodic", frequency_scale=3.0)
    frequencies = mlp.state_dict()["columns.numeric_embedding.frequencies"]
    assert frequencies.std().item() == pytest.approx(3, rel=0.1)
    mlp = MLP(3, 2, numeric_embedding="piecewise_linear", n_bins=7)
    assert mlp.state_dict()["columns.numeric_embedding.bin_weight"].shape == (3, 7, 16)


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
        ({"normalization": "bach"}, "`normalization` of MLP .* Did you mean 'batch'"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    with pytest.raises(ParameterError, match=message):
        MLP(4, 2, **arguments)
