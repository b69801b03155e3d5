"""The residual network, beside the package of the paper."""

import pytest
import rtdl_revisiting_models as rtdl
import torch

from skorchlike.exceptions import ParameterError
from skorchlike.modules import ResNet


def reference(d_in=5, d_out=3):
    return rtdl.ResNet(
        d_in=d_in,
        d_out=d_out,
        n_blocks=2,
        d_block=192,
        d_hidden_multiplier=2.0,
        dropout1=0.15,
        dropout2=0.0,
    )


def named_as_ours(state):
    names = {"input_projection.": "first.", "output.linear.": "output."}
    names["output.normalization."] = "normalization."
    renamed = {}
    for name, value in state.items():
        for theirs, ours in names.items():
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
                break
        renamed[name] = value
    return renamed


def test_it_is_that_of_the_paper():
    theirs, ours = reference(), ResNet(5, 3)
    ours.load_state_dict(named_as_ours(theirs.state_dict()))
    for seed in range(3):
        X = torch.randn(16, 5)
        torch.manual_seed(seed)
        expected = theirs(X)
        torch.manual_seed(seed)
        torch.testing.assert_close(ours(X), expected, rtol=1e-6, atol=1e-6)
    X = torch.randn(16, 5)
    torch.testing.assert_close(ours.eval()(X), theirs.eval()(X), rtol=1e-6, atol=1e-6)


def test_a_block_adds_to_what_it_gets():
    module = ResNet(4, 2, n_blocks=3, d_block=8, d_hidden_multiplier=0.01)
    for block in module.blocks:
        assert block.linear1.weight.shape == (1, 8)
        block.linear2.weight.data.zero_()
        block.linear2.bias.data.zero_()
    X = torch.randn(16, 4)
    expected = module.output(module.normalization(module.first(X)).relu())
    torch.testing.assert_close(module(X), expected)


def test_dropout_is_within_a_block_and_behind_it():
    module = ResNet(4, 2, dropout1=0.3, dropout2=0.2)
    assert {(block.dropout1.p, block.dropout2.p) for block in module.blocks} == {(0.3, 0.2)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_blocks": 0}, "`n_blocks` of ResNet must be a positive integer. Got 0"),
        ({"d_block": 1.5}, "`d_block` of ResNet"),
        ({"d_hidden_multiplier": 0}, "`d_hidden_multiplier` of ResNet must be a positive number"),
        ({"dropout1": 1}, r"`dropout1` of ResNet must be in \[0, 1\). Got 1"),
        ({"dropout2": -0.1}, "`dropout2` of ResNet"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    with pytest.raises(ParameterError, match=message):
        ResNet(4, 2, **arguments)
