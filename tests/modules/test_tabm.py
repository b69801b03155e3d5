"""The ensemble of perceptrons, beside the package of the paper."""

import pytest
import rtdl_num_embeddings
import tabm as reference
import torch

from skorchlike.exceptions import ParameterError
from skorchlike.modules import TabM


def copy_from(ours, theirs):
    """Take over the weights; the reference has a column for code 0, which is left out."""
    code_0 = []
    start = ours.columns.n_numeric
    if theirs.cat_module is not None:
        for codes in theirs.cat_module._cardinalities:
            code_0.append(start)
            start += codes
    for i, (block, other) in enumerate(zip(ours.blocks, theirs.backbone.blocks, strict=True)):
        linear = other[0]
        kept = [j for j in range(linear.in_features) if i or j not in code_0]
        linear.weight.data[:, [j for j in code_0 if not i]] = 0
        block[0].weight.data.copy_(linear.weight[:, kept])
        block[0].input_scale.data.copy_(linear.r[:, kept])
        block[0].output_scale.data.copy_(linear.s)
        block[0].bias.data.copy_(linear.bias)
    ours.output.load_state_dict(theirs.output.state_dict())


@pytest.mark.parametrize(("n_numeric", "cardinalities"), [(3, []), (0, [3, 6]), (3, [3, 6])])
def test_it_is_that_of_the_paper(n_numeric, cardinalities):
    theirs = reference.TabM.make(
        n_num_features=n_numeric, cat_cardinalities=cardinalities or None, d_out=4
    )
    ours = TabM(n_numeric, 4, cat_cardinalities=cardinalities)
    counts = [sum(p.numel() for p in module.parameters()) for module in (ours, theirs)]
    assert counts[0] == counts[1] - len(cardinalities) * (512 + 32)
    copy_from(ours, theirs)
    numeric = torch.randn(10, n_numeric) if n_numeric else None
    codes = torch.randint(0, 3, (10, len(cardinalities))) if cardinalities else None
    torch.manual_seed(0)
    expected = theirs(numeric, codes)
    torch.manual_seed(0)
    torch.testing.assert_close(ours(numeric, codes), expected, rtol=1e-5, atol=1e-6)
    members = theirs.eval()(numeric, codes)
    torch.testing.assert_close(
        ours.eval()(numeric, codes), members.mean(dim=1), rtol=1e-5, atol=1e-6
    )


def test_with_embeddings_it_is_that_of_the_paper():
    X = torch.randn(100, 3)
    bins = rtdl_num_embeddings.compute_bins(X)
    embedding = rtdl_num_embeddings.PiecewiseLinearEmbeddings(
        bins, 16, activation=False, version="B"
    )
    theirs = reference.TabM.make(n_num_features=3, d_out=4, num_embeddings=embedding)
    ours = TabM(3, 4, numeric_embedding="piecewise_linear")
    ours.init_from_data(X)
    assert len(ours.blocks) == len(theirs.backbone.blocks) == 2
    embedding.linear.weight.data.normal_()
    own = ours.columns.numeric_embedding
    own.weight.data.copy_(embedding.linear0.weight)
    own.bias.data.copy_(embedding.linear0.bias)
    own.bin_weight.data.copy_(embedding.linear.weight)
    ours.columns.n_numeric, n_numeric = 0, ours.columns.n_numeric
    copy_from(ours, theirs)
    ours.columns.n_numeric = n_numeric
    expected = theirs.eval()(X).mean(dim=1)
    torch.testing.assert_close(ours.eval()(X), expected, rtol=1e-4, atol=1e-4)


def test_members_differ_at_first_by_the_scales_of_inputs_alone():
    torch.manual_seed(0)
    module = TabM(30, 2, cat_cardinalities=[5, 9], d_block=16)
    scales = module.blocks[0][0].input_scale
    assert scales.unique().tolist() == [-1, 1]
    assert 0.4 < (scales[:, :30] > 0).float().mean() < 0.6
    assert len(scales.unique(dim=0)) == 32
    # numbers that come from one column have one scale
    assert all(len(scales[:, part].unique(dim=1).T) == 1 for part in (range(30, 34), range(34, 42)))
    for i, block in enumerate(module.blocks):
        assert (block[0].output_scale == 1).all()
        assert i == 0 or (block[0].input_scale == 1).all()
        assert (block[0].bias == block[0].bias[0]).all()
        bound = block[0].weight.shape[1] ** -0.5
        assert 0.9 * bound < block[0].weight.abs().max() <= bound
    assert len(module.output.bias.unique(dim=0)) == 32


def test_with_embeddings_the_scales_are_normal_numbers():
    torch.manual_seed(0)
    scales = TabM(50, 2, d_block=8, numeric_embedding="linear").blocks[0][0].input_scale
    columns = scales.unflatten(1, (50, 32))
    assert (columns == columns[:, :, :1]).all()
    assert columns.std().item() == pytest.approx(1, rel=0.05)


def test_each_member_has_a_gradient_of_its_own_loss():
    module = TabM(3, 1, n_members=4, d_block=8, dropout=0)
    module(torch.randn(5, 3))[:, 2].sum().backward()
    assert module.output.bias.grad.any(dim=1).tolist() == [False, False, True, False]
    assert module.blocks[0][0].input_scale.grad.any(dim=1).tolist() == [False, False, True, False]


def test_probabilities_of_classes_are_the_mean_of_the_members():
    module = TabM(3, 4, n_members=5, n_classes=4)
    outputs = 3 * torch.randn(6, 5, 4)
    expected = outputs.softmax(dim=-1).mean(dim=1)
    torch.testing.assert_close(module.aggregate(outputs).softmax(dim=-1), expected)


def test_one_logit_of_two_classes_is_a_mean_of_probabilities_too():
    module = TabM(3, 1, n_members=5, n_classes=2)
    outputs = 3 * torch.randn(6, 5, 1)
    torch.testing.assert_close(module.aggregate(outputs).sigmoid(), outputs.sigmoid().mean(dim=1))


def test_extreme_logits_stay_finite():
    outputs = torch.tensor([[[2000.0, -2000.0], [-2000.0, 2000.0]]])
    found = TabM(3, 2, n_members=2, n_classes=2).aggregate(outputs)
    torch.testing.assert_close(found.softmax(dim=-1), torch.tensor([[0.5, 0.5]]))
    found = TabM(3, 1, n_members=2, n_classes=2).aggregate(outputs[..., :1])
    torch.testing.assert_close(found, torch.tensor([[0.0]]))


def test_without_classes_the_outputs_are_averaged():
    module, outputs = TabM(3, 2, n_members=5), torch.randn(6, 5, 2)
    assert torch.equal(module.aggregate(outputs), outputs.mean(dim=1))


def test_eval_mode_aggregates_what_training_mode_gives():
    module, X = TabM(3, 4, n_members=5, n_classes=4, dropout=0, d_block=16), torch.randn(6, 3)
    assert module.n_members == 5
    assert torch.equal(module.aggregate(module(X)), module.eval()(X))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_members": 0}, "`n_members` of TabM must be a positive integer. Got 0"),
        ({"n_blocks": 0}, "`n_blocks` of TabM"),
        ({"d_block": -1}, "`d_block` of TabM"),
        ({"dropout": 1.0}, "`dropout` of TabM"),
        ({"activation": "gelo"}, "`activation` of TabM .* Did you mean 'gelu'"),
        ({"n_classes": 0}, "`n_classes` of TabM"),
        ({"max_one_hot": -1}, "`max_one_hot` of TabM must be an integer of at least 0. Got -1"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    with pytest.raises(ParameterError, match=message):
        TabM(4, 2, **arguments)
