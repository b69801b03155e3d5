"""What holds for every built-in module."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from skorchlike.exceptions import ParameterError
from skorchlike.modules import MODULES
from skorchlike.modules.layers import LayerRecorder

CARDINALITIES = [3, 4, 40]
SMALL = {
    "mlp": {"hidden_layer_sizes": (8, 8), "dropout": 0.2, "normalization": "batch"},
    "resnet": {"d_block": 8},
    "ft_transformer": {"d_block": 8, "n_heads": 2, "n_blocks": 2},
    "tabm": {"d_block": 8, "n_members": 4, "max_one_hot": 10},
    "realmlp": {"hidden_layer_sizes": (8, 8)},
}
KINDS = {"numbers": (3, []), "categories": (0, CARDINALITIES), "both": (3, CARDINALITIES)}
EMBEDDED = [
    (name, embedding)
    for name in ("mlp", "resnet", "tabm", "realmlp")
    for embedding in ("linear", "periodic", "piecewise_linear", "pbld")
]


def inputs(kind, n=6, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n_numeric, cardinalities = KINDS[kind]
    numeric = torch.randn(n, n_numeric, generator=generator).to(dtype)
    columns = [torch.randint(0, codes, (n,), generator=generator) for codes in cardinalities]
    X = {"numeric": numeric} if n_numeric else {}
    return X | ({"categorical": torch.stack(columns, dim=1)} if columns else {})


def build(name, kind="both", n_outputs=2, dtype=torch.float32, **options):
    torch.manual_seed(0)
    n_numeric, cardinalities = KINDS[kind]
    options = {**SMALL[name], **options}
    module = MODULES[name](n_numeric, n_outputs, cat_cardinalities=cardinalities, **options)
    module.to(dtype)
    if hasattr(module, "init_from_data"):
        module.init_from_data(inputs(kind, n=100, dtype=dtype, seed=1))
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODULES)
def test_outputs_have_the_shape_and_dtype_that_they_should(name, kind, dtype):
    module = build(name, kind, dtype=dtype)
    X = inputs(kind, dtype=dtype)
    members = (4,) if name == "tabm" else ()
    training = module(**X)
    assert (training.shape, training.dtype) == ((6, *members, 2), dtype)
    evaluated = module.eval()(**X)
    assert (evaluated.shape, evaluated.dtype) == ((6, 2), dtype)
    assert evaluated.isfinite().all()


@pytest.mark.parametrize("name", MODULES)
def test_a_tensor_alone_is_the_numbers(name):
    module = build(name, "numbers").eval()
    X = inputs("numbers")
    assert torch.equal(module(X["numeric"]), module(**X))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODULES)
def test_every_parameter_gets_a_gradient(name, kind):
    module = build(name, kind)
    X = inputs(kind, n=100)
    module(**X).square().sum().backward()
    without = {n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()}
    # softmax does not see what is added to all keys
    assert {n for n in without if not n.endswith("attention.key.bias")} == set()


@pytest.mark.parametrize(("name", "embedding"), EMBEDDED)
def test_every_parameter_of_a_numeric_embedding_gets_a_gradient(name, embedding):
    module = build(name, numeric_embedding=embedding)
    module(**inputs("both", n=100)).square().sum().backward()
    for name_, parameter in module.named_parameters():
        if "numeric_embedding" in name_:
            assert parameter.grad.any(), name_


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODULES)
def test_predictions_depend_neither_on_the_batch_nor_on_the_order(name, kind):
    module = build(name, kind, dtype=torch.float64)
    X = inputs(kind, n=40, dtype=torch.float64)
    module(**X).sum().backward()  # running statistics that are none of the start
    module.eval()
    whole = module(**X)
    assert torch.equal(whole, module(**X))
    single = torch.cat([module(**{k: x[i : i + 1] for k, x in X.items()}) for i in range(40)])
    torch.testing.assert_close(single, whole, rtol=1e-12, atol=1e-12)
    order = torch.randperm(40)
    shuffled = module(**{k: x[order] for k, x in X.items()})
    torch.testing.assert_close(shuffled, whole[order], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODULES)
def test_one_row_is_enough_to_train(name, kind):
    module = build(name, kind)
    if name == "realmlp":
        module.init_from_data(inputs(kind, n=1))
    module(**inputs(kind, n=1)).sum().backward()
    assert all(p.isfinite().all() for p in module.parameters())
    assert module.eval()(**inputs(kind, n=1)).isfinite().all()


@pytest.mark.parametrize("name", MODULES)
def test_an_unseen_category_is_the_zero_vector_and_stays_it(name):
    module = build(name)
    tables = [part for part in module.modules() if isinstance(part, nn.Embedding)]
    assert tables
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    X = inputs("both")
    X["categorical"][:3] = 0
    for _ in range(3):
        module(**X).square().sum().backward()
        optimizer.step()
    for table in tables:
        assert table.weight[1:].any()
        assert not table.weight[0].any()


@pytest.mark.parametrize("name", MODULES)
def test_a_code_that_the_column_does_not_have_is_an_unseen_category(name):
    module = build(name).eval()
    X = inputs("both")
    X["categorical"][:] = 0
    expected = module(**X)
    for code in (99, -1):
        X["categorical"][:] = code
        assert torch.equal(module(**X), expected)


@pytest.mark.parametrize("name", MODULES)
def test_categories_change_the_outputs(name):
    module = build(name).eval()
    X = inputs("both", n=1)
    outputs = []
    for column, codes in enumerate(CARDINALITIES):
        for code in range(codes):
            X["categorical"][0] = 1
            X["categorical"][0, column] = code
            outputs.append(tuple(module(**X)[0].tolist()))
    # code 1 in all columns comes once for each column
    assert len(set(outputs)) == len(outputs) - (len(CARDINALITIES) - 1)


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "state_dict"])
@pytest.mark.parametrize(("name", "embedding"), [*EMBEDDED, ("ft_transformer", None)])
def test_copies_predict_the_same(name, embedding, how):
    options = {} if embedding is None else {"numeric_embedding": embedding}
    module = build(name, **options).eval()
    X = inputs("both")
    if how == "pickle":
        again = pickle.loads(pickle.dumps(module))
    elif how == "deepcopy":
        again = copy.deepcopy(module)
    else:
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        file.seek(0)
        again = MODULES[name](3, 2, cat_cardinalities=CARDINALITIES, **{**SMALL[name], **options})
        again.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(again.eval()(**X), module(**X))


@pytest.mark.parametrize("name", MODULES)
def test_the_same_seed_gives_the_same_module(name):
    first, second = build(name).state_dict(), build(name).state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("name", MODULES)
def test_mixed_precision_works(name):
    module = build(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        module(**inputs("both")).float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        outputs = module.eval()(**inputs("both")).float()
    torch.testing.assert_close(outputs, module(**inputs("both")), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", MODULES)
def test_it_learns_a_rule_of_numbers_and_categories(name):
    module = build(name)
    X = inputs("both", n=200)
    y = X["numeric"][:, 0] + torch.where(X["categorical"][:, 0] == 1, 2.0, 0.0)
    y = torch.stack([y, -y], dim=1)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)

    def loss():
        outputs = module(**X)
        return (outputs - (y if outputs.ndim == 2 else y[:, None])).square().mean()

    for _ in range(150):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    module.eval()
    assert loss() < 0.2 * y.var()


@pytest.mark.parametrize("name", MODULES)
def test_many_codes_cost_no_column_of_their_own(name):
    many = MODULES[name](1, 1, cat_cardinalities=[5000], **SMALL[name])
    parameters = sum(p.numel() for p in many.parameters())
    table = max(p.numel() for n, p in many.named_parameters() if "table" in n)
    few = MODULES[name](1, 1, cat_cardinalities=[300], **SMALL[name])
    assert parameters - table == sum(
        p.numel() for n, p in few.named_parameters() if "table" not in n
    )


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_features_in": 0}, "needs a column"),
        ({"n_features_in": -1}, "`n_features_in` of .* at least 0. Got -1"),
        ({"n_features_in": 2.5}, "`n_features_in`"),
        ({"n_outputs": 0}, "`n_outputs` of .* must be a positive integer. Got 0"),
        ({"n_outputs": True}, "`n_outputs`"),
        ({"cat_cardinalities": [3, 0]}, "`cat_cardinalities` of .* Got 0"),
        ({"cat_cardinalities": 3}, "`cat_cardinalities` of .* one a column. Got 3"),
        ({"cat_cardinalities": ["a"]}, "`cat_cardinalities` of .* Got 'a'"),
    ],
)
def test_impossible_sizes_are_named(name, arguments, message):
    with pytest.raises(ParameterError, match=message):
        MODULES[name](**{"n_features_in": 2, "n_outputs": 1, **arguments})


@pytest.mark.parametrize("name", ["mlp", "resnet", "tabm", "realmlp"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"numeric_embedding": "periodical"}, "`numeric_embedding` .* Did you mean 'periodic'"),
        ({"numeric_embedding": "linear", "embedding_size": 0}, "`embedding_size`"),
        ({"numeric_embedding": "pbld", "embedding_size": 1}, "`embedding_size` .* at least 2"),
        ({"frequency_scale": 0}, "`frequency_scale` .* must be a positive number. Got 0"),
        ({"frequency_scale": float("inf")}, "`frequency_scale`"),
        ({"n_bins": 0}, "`n_bins`"),
        ({"cat_embedding_size": "wide"}, "`cat_embedding_size`"),
    ],
)
def test_impossible_options_of_columns_are_named(name, arguments, message):
    with pytest.raises(ParameterError, match=message):
        MODULES[name](2, 1, **arguments)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    ("missing", "left"), [("numeric", "categorical"), ("categorical", "numeric")]
)
def test_an_input_that_is_missing_is_named(name, missing, left):
    with pytest.raises(ParameterError, match=f"`{missing}` is missing"):
        build(name)(**{left: inputs("both")[left]})


def test_a_hook_for_data_is_there_only_where_something_is_learned():
    hooks = {name for name in MODULES if hasattr(build(name), "init_from_data")}
    assert hooks == {"realmlp"}
    for name in ("mlp", "resnet", "tabm"):
        assert hasattr(build(name, numeric_embedding="piecewise_linear"), "init_from_data")
        assert not hasattr(build(name, numeric_embedding="periodic"), "init_from_data")


@pytest.mark.parametrize("name", MODULES)
def test_it_can_be_exported_for_any_number_of_rows(name):
    module, X = build(name).eval(), inputs("both")
    rows = {key: {0: torch.export.Dim("n", min=2)} for key in X}
    exported = torch.export.export(module, (), kwargs=X, dynamic_shapes=rows).module()
    more = inputs("both", n=9)
    torch.testing.assert_close(exported(**more), module(**more))


@pytest.mark.parametrize("name", MODULES)
def test_its_layers_can_be_recorded(name):
    module = build(name)
    with LayerRecorder(module) as recorder:
        module(**inputs("both"))
    table = recorder.table()
    assert table.parameters == sum(p.numel() for p in module.parameters())
    assert table.multiply_adds > 0
