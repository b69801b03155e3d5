"""The transformer of columns, beside the package of the paper."""

import pytest
import rtdl_revisiting_models as rtdl
import torch
from torch import nn

from skorchlike.exceptions import ParameterError
from skorchlike.modules import FTTransformer

CARDINALITIES = [3, 6]


def reference(n_numeric, cardinalities, **options):
    options = {**rtdl.FTTransformer.get_default_kwargs(), **options}
    options.pop("_is_default")
    return rtdl.FTTransformer(
        n_cont_features=n_numeric, cat_cardinalities=cardinalities, d_out=4, **options
    )


def copy_from(ours, theirs):
    """Take over the weights, but for categories not seen: those are zero in ours."""
    tokenizer, backbone = ours.tokenizer, theirs.backbone
    with torch.no_grad():
        tokenizer.cls.copy_(theirs.cls_embedding.weight)
        if theirs.cat_embeddings is not None:
            for table in theirs.cat_embeddings.embeddings:
                table.weight[0] = 0
            known = [table.weight[1:] for table in theirs.cat_embeddings.embeddings]
            tokenizer.categorical.table.weight[1:] = torch.cat(known)
            tokenizer.categorical_bias.copy_(theirs.cat_embeddings.bias)
    if theirs.cont_embeddings is not None:
        tokenizer.numeric.load_state_dict(theirs.cont_embeddings.state_dict())
    for block, other in zip(ours.blocks, backbone.blocks, strict=True):
        names = {"query": "W_q", "key": "W_k", "value": "W_v", "mix": "W_out"}
        for name, theirs_ in names.items():
            if getattr(block.attention, name) is not None:
                part = getattr(other["attention"], theirs_)
                getattr(block.attention, name).load_state_dict(part.state_dict())
        if block.attention_normalization is not None:
            normalization = other["attention_normalization"]
            block.attention_normalization.load_state_dict(normalization.state_dict())
        block.ffn_normalization.load_state_dict(other["ffn_normalization"].state_dict())
        block.ffn[0].load_state_dict(other["ffn"].linear1.state_dict())
        block.ffn[3].load_state_dict(other["ffn"].linear2.state_dict())
    ours.normalization.load_state_dict(backbone.output.normalization.state_dict())
    ours.output.load_state_dict(backbone.output.linear.state_dict())


@pytest.mark.parametrize("n_heads", [1, 8])
@pytest.mark.parametrize(("n_numeric", "cardinalities"), [(3, []), (0, CARDINALITIES), (3, [3, 6])])
def test_it_is_that_of_the_paper(n_numeric, cardinalities, n_heads):
    theirs = reference(n_numeric, cardinalities, attention_n_heads=n_heads).eval()
    ours = FTTransformer(n_numeric, 4, n_heads=n_heads, cat_cardinalities=cardinalities).eval()
    unseen = max(len(cardinalities) - 1, 0) * 192  # one row of zeros instead of one a column
    counts = [sum(p.numel() for p in module.parameters()) for module in (ours, theirs)]
    assert counts[0] == counts[1] - unseen
    copy_from(ours, theirs)
    numeric = torch.randn(10, n_numeric) if n_numeric else None
    codes = torch.randint(0, 3, (10, len(cardinalities))) if cardinalities else None
    torch.testing.assert_close(ours(numeric, codes), theirs(numeric, codes), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 4, 5, 6])
def test_defaults_are_those_of_the_paper_for_the_number_of_blocks(n_blocks):
    expected = rtdl.FTTransformer.get_default_kwargs(n_blocks)
    module = FTTransformer(2, 1, n_blocks=n_blocks)
    assert len(module.blocks) == n_blocks
    for block in module.blocks:
        assert block.ffn[0].in_features == expected["d_block"]
        hidden = int(expected["d_block"] * expected["ffn_d_hidden_multiplier"])
        assert block.ffn[3].in_features == hidden
        assert block.attention.n_heads == expected["attention_n_heads"]
        assert block.attention.dropout == expected["attention_dropout"]
        assert block.ffn[2].p == expected["ffn_dropout"]
        assert block.residual_dropout.p == expected["residual_dropout"]


def test_more_blocks_have_the_width_of_six():
    assert FTTransformer(2, 1, n_blocks=7, ffn_dropout=0).output.in_features == 384


def test_first_values_are_those_of_the_paper():
    torch.manual_seed(0)
    module = FTTransformer(2000, 1, d_block=16, n_heads=2)
    assert 0.249 < module.tokenizer.numeric.weight.abs().max() <= 0.25
    assert module.tokenizer.cls.abs().max() <= 0.25
    for block in module.blocks:
        linear = [part for part in block.attention.children() if isinstance(part, nn.Linear)]
        assert len(linear) == 4
        assert not any(part.bias.any() for part in linear)
        assert all(0.2 < part.weight.abs().max() <= 0.25 for part in linear)


def test_attention_and_residuals_are_dropped_in_training_alone():
    module = FTTransformer(3, 1, attention_dropout=0.5, residual_dropout=0.5, ffn_dropout=0.5)
    X = torch.randn(4, 3)
    assert not torch.equal(module(X), module(X))
    module.eval()
    assert torch.equal(module(X), module(X))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_blocks": 0}, "`n_blocks` of FTTransformer"),
        ({"d_block": 10, "n_heads": 4}, "multiple of its `n_heads`. Got 10 for 4 heads"),
        ({"d_block": 0}, "`d_block` of FTTransformer"),
        ({"n_heads": 0}, "`n_heads` of FTTransformer"),
        ({"attention_dropout": 1.0}, "`attention_dropout` of FTTransformer"),
        ({"ffn_dropout": -1}, "`ffn_dropout` of FTTransformer"),
        ({"residual_dropout": "no"}, "`residual_dropout` of FTTransformer"),
        ({"ffn_d_hidden_multiplier": -2}, "`ffn_d_hidden_multiplier` of FTTransformer"),
    ],
)
def test_impossible_arguments_are_named(arguments, message):
    with pytest.raises(ParameterError, match=message):
        FTTransformer(4, 2, **arguments)
