"""The network of RealMLP, beside the package of the paper."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from skorchlike.exceptions import ParameterError
from skorchlike.modules import RealMLP
from skorchlike.modules.realmlp import Mish, NTPLinear, ParametricActivation, ScaledOneHot

CARDINALITIES = [3, 5, 9, 10, 30]


def reference(numeric, codes, n_classes, cardinalities=CARDINALITIES):
    """Build the network with pytabkit: it prepares the numbers itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytabkit.models.data.data import DictDataset, TensorInfo
        from pytabkit.models.nn_models.base import set_hp_context
        from pytabkit.models.nn_models.models import NNFactory
        from pytabkit.models.sklearn.default_params import DefaultParams
        from pytabkit.models.training.coord import HyperparamManager
    config = dict(DefaultParams.RealMLP_TD_CLASS if n_classes else DefaultParams.RealMLP_TD_REG)
    config.update(normalize_output=False, clamp_output=False, use_ls=False)
    infos = {
        "x_cont": TensorInfo(feat_shape=[numeric.shape[1]]),
        "x_cat": TensorInfo(cat_sizes=cardinalities),
        "y": TensorInfo(cat_sizes=[n_classes]),
    }
    y = torch.zeros(len(numeric), 1)
    tensors = {"x_cont": numeric, "x_cat": codes, "y": y.long() if n_classes else y}
    data = DictDataset(tensors, infos, "cpu", len(numeric))
    with set_hp_context(HyperparamManager(**config)), torch.no_grad():
        fitter = NNFactory(**config).create(data.tensor_infos)
        return fitter.fit_transform(data)[0].eval()


def prepared(numeric):
    """Return numbers, scaled robustly and clipped smoothly, as the paper has it."""
    lower, median, upper = np.quantile(numeric.numpy(), [0.25, 0.5, 0.75], axis=0)
    scaled = (numeric.numpy() - median) / (upper - lower)
    return torch.tensor(scaled / np.sqrt(1 + (scaled / 3) ** 2), dtype=torch.float32)


def copy_from(ours, theirs, n_numeric):
    """Take over the weights; ours have the numbers of a column's embedding side by side."""
    frequencies, weight, phases, offset, *tables_and_layers = theirs.parameters()
    embedding = ours.numeric_embedding
    values = [frequencies[:, 0], phases[:, 0], weight, offset[:, 0]]
    own = [embedding.frequencies, embedding.phases, embedding.weight, embedding.offset]
    first, second, scale, *layers = tables_and_layers
    for table in (first, second):
        table.data[0] = 0
    own.append(ours.categories.embedding.table.weight)
    values.append(torch.cat([first[:1], first[1:], second[1:]]))
    order = []
    for column in range(n_numeric):
        order += [3 * column, 3 * column + 1, 3 * column + 2, 3 * n_numeric + column]
    order += list(range(4 * n_numeric, scale.shape[1]))
    own.append(ours.scale.weight)
    values.append(scale[0, order])
    for i, block in enumerate([*ours.blocks, ours.output]):
        linear = block if block is ours.output else block.linear
        weight, bias, *activation = layers[3 * i : 3 * i + 3]
        own += [linear.weight, linear.bias]
        values += [weight[order].T if i == 0 else weight.T, bias[0]]
        if activation:
            own.append(block.activation.weight)
            values.append(activation[0][0])
    assert {id(p) for p in own} == {id(p) for p in ours.parameters()}
    with torch.no_grad():
        for parameter, value in zip(own, values, strict=True):
            assert parameter.shape == value.shape
            parameter.copy_(value)


@pytest.mark.parametrize("n_classes", [3, 0])
def test_it_is_that_of_the_paper(n_classes):
    generator = torch.Generator().manual_seed(0)
    numeric = torch.randn(400, 4, generator=generator)
    columns = [torch.randint(0, codes, (400,), generator=generator) for codes in CARDINALITIES]
    codes = torch.stack(columns, dim=1)
    theirs = reference(numeric, codes, n_classes)
    ours = RealMLP(
        4, n_classes or 1, cat_cardinalities=CARDINALITIES, n_classes=n_classes or None
    ).eval()
    counts = [sum(p.numel() for p in module.parameters()) for module in (ours, theirs)]
    assert counts[0] == counts[1] - 8  # one row for unseen categories instead of one a column
    X = {"numeric": prepared(numeric), "categorical": codes}
    ours.init_from_data(X)
    copy_from(ours, theirs, n_numeric=4)
    with torch.no_grad():
        expected = theirs.forward_tensors({"x_cont": numeric, "x_cat": codes})["x_cont"]
        torch.testing.assert_close(ours(**X), expected, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------- first values, by the data


def test_first_values_are_fitted_layer_by_layer():
    torch.manual_seed(0)
    module = RealMLP(5, 3, dropout=0.5, n_classes=3, cat_cardinalities=[4, 20])
    X = {
        "numeric": 10 * torch.randn(500, 5) + 4,
        "categorical": torch.stack([torch.randint(0, n, (500,)) for n in (4, 20)], dim=1),
    }
    module.init_from_data(X)
    seen = {}
    for name, part in module.named_modules():
        if isinstance(part, NTPLinear):
            part.register_forward_hook(lambda _m, _a, out, name=name: seen.update({name: out}))
    module.eval()(**X)
    assert list(seen) == ["blocks.0.linear", "blocks.1.linear", "blocks.2.linear", "output"]
    for out in seen.values():
        torch.testing.assert_close(out.std(dim=0, correction=0), torch.ones(out.shape[1]))
        # each unit is zero at a point between some of its values
        assert (out.amin(dim=0) <= 0).all()
        assert (out.amax(dim=0) >= 0).all()


def test_biases_are_points_between_five_values():
    torch.manual_seed(0)
    layer, x = NTPLinear(4, 5000), torch.randn(2000, 4)
    out = layer.init_from_data(x)
    torch.testing.assert_close(out, layer(x))
    # a mean of five values with uniform shares of the simplex: Σw² is 2 / 6 on average
    assert layer.bias.std().item() == pytest.approx((1 / 3) ** 0.5, rel=0.05)
    assert layer.bias.mean().item() == pytest.approx(0, abs=0.05)


def test_first_values_without_spread_stay_of_order_one():
    torch.manual_seed(0)
    module = RealMLP(3, 2)
    module.init_from_data(torch.full((50, 3), 7.3))
    assert all(p.abs().max() < 10 for n, p in module.named_parameters() if "weight" in n)
    assert module(torch.randn(4, 3)).isfinite().all()


def test_first_values_do_not_depend_on_dropout_and_leave_the_mode():
    def state(dropout):
        torch.manual_seed(0)
        module = RealMLP(3, 2, dropout=dropout)
        module.init_from_data(torch.linspace(-1, 1, 60).reshape(20, 3))
        assert module.training
        return module.state_dict()

    first, second = state(0.0), state(0.9)
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_many_rows_are_all_used():
    torch.manual_seed(0)
    module = RealMLP(2, 1, hidden_layer_sizes=(500,), cat_cardinalities=[4])
    X = {"numeric": torch.zeros(2500, 2), "categorical": torch.ones(2500, 1, dtype=torch.int64)}
    X["numeric"][2400:] = 5.0  # what comes late has its part in the spread
    module.init_from_data(X)
    out = module.blocks[0].linear(module.scale(module._embed(**X)))
    torch.testing.assert_close(out.std(dim=0, correction=0), torch.ones(500), rtol=1e-4, atol=1e-4)


def test_piecewise_linear_embeddings_get_their_bins():
    module = RealMLP(3, 2, numeric_embedding="piecewise_linear")
    with pytest.raises(ParameterError, match="no bins yet"):
        module(torch.randn(4, 3))
    module.init_from_data(torch.randn(100, 3))
    assert module(torch.randn(4, 3)).shape == (4, 2)


# ------------------------------------------------------------------------- its parts


def test_parameters_are_named_for_patterns():
    module = RealMLP(3, 2, cat_cardinalities=[4, 20])
    names = {name.split(".", 1)[0] for name, _ in module.named_parameters()}
    assert names == {"numeric_embedding", "categories", "scale", "blocks", "output"}
    biases = [name for name, _ in module.named_parameters() if name.endswith(".bias")]
    assert biases == [*(f"blocks.{i}.linear.bias" for i in range(3)), "output.bias"]
    activations = [n for n, _ in module.named_parameters() if ".activation." in n]
    assert activations == [f"blocks.{i}.activation.weight" for i in range(3)]


@pytest.mark.parametrize(
    ("n_classes", "activation", "expected"),
    [(3, None, nn.SELU), (None, None, nn.Mish), (3, "gelu", nn.GELU), (None, nn.PReLU, nn.PReLU)],
)
def test_the_activation_suits_the_target(n_classes, activation, expected):
    module = RealMLP(3, 2, activation=activation, n_classes=n_classes)
    assert all(isinstance(block.activation.function, expected) for block in module.blocks)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mish_is_that_of_torch(dtype):
    x = torch.linspace(-40, 40, 2001, dtype=dtype, requires_grad=True)
    ours, theirs = Mish()(x), nn.Mish()(x)
    torch.testing.assert_close(ours, theirs)
    (found,), (expected,) = torch.autograd.grad(ours.sum(), x), torch.autograd.grad(theirs.sum(), x)
    torch.testing.assert_close(found, expected)


def test_the_strength_of_an_activation_is_learned():
    activation, x = ParametricActivation(3, nn.ReLU()), torch.randn(5, 3)
    assert torch.equal(activation(x), x.relu())
    activation.weight.data.copy_(torch.tensor([0.0, 1.0, 0.5]))
    expected = torch.stack([x[:, 0], x[:, 1].relu(), (x[:, 2] + x[:, 2].relu()) / 2], dim=1)
    torch.testing.assert_close(activation(x), expected)


def test_layers_divide_by_the_root_of_the_number_of_inputs():
    layer, x = NTPLinear(9, 4), torch.randn(5, 9)
    layer.bias.data.normal_()
    torch.testing.assert_close(layer(x), x @ layer.weight.T / 3 + layer.bias)


def test_few_categories_are_one_hot_and_many_are_embedded():
    module = RealMLP(0, 1, cat_cardinalities=[3, 9, 10])
    # two categories as one sign, eight as eight columns, nine as an embedding of eight
    assert module.categories.widths == [1, 8, 8]


@pytest.mark.parametrize("share", [0.1, 0.4, 0.6, 0.9, 1.0])
def test_one_hot_columns_are_scaled_as_numbers_are(share):
    codes = torch.ones(100, 1, dtype=torch.int64)
    codes[int(100 * share) :] = 3
    module = ScaledOneHot([4])
    module.init_from_data(codes)
    hot = (codes == torch.tensor([1, 2, 3])).double().numpy()
    lower, median, upper = np.quantile(hot, [0.25, 0.5, 0.75], axis=0)
    spread = np.where(upper > lower, upper - lower, np.ptp(hot, axis=0) / 2)
    scaled = np.divide(hot - median, spread, out=np.zeros_like(hot), where=spread > 0)
    np.testing.assert_allclose(module(codes), scaled / np.sqrt(1 + (scaled / 3) ** 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_layer_sizes": (0,)}, "`hidden_layer_sizes` of RealMLP"),
        ({"activation": "sellu"}, "`activation` of RealMLP .* Did you mean 'selu'"),
        ({"dropout": 1.5}, "`dropout` of RealMLP"),
        ({"max_one_hot": None}, "`max_one_hot` of RealMLP"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    with pytest.raises(ParameterError, match=message):
        RealMLP(4, 2, **arguments)
