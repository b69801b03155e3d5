"""Columns of a table as one row of numbers."""

import pytest
import rtdl_revisiting_models as rtdl
import torch
from torch import nn

from skorchlike.modules.columns import (
    Categories,
    CategoryEmbedding,
    Columns,
    OneHot,
    build_columns,
    split_inputs,
)
from skorchlike.modules.normalization import BatchNorm


def test_embeddings_are_one_table_a_column():
    cardinalities = [4, 2, 7]
    ours = CategoryEmbedding(cardinalities, size=5)
    theirs = rtdl.CategoricalEmbeddings(cardinalities, 5, bias=False)
    start = 1
    for codes, table in zip(cardinalities, theirs.embeddings, strict=True):
        table.weight.data[0] = 0
        table.weight.data[1:] = ours.table.weight[start : start + codes - 1]
        start += codes - 1
    assert start == len(ours.table.weight)
    every = torch.cartesian_prod(*map(torch.arange, cardinalities))
    assert torch.equal(ours(every), theirs(every))


def test_first_values_of_embeddings_are_uniform():
    torch.manual_seed(0)
    values = CategoryEmbedding([1000], size=16).table.weight
    assert 0.24 < values.abs().max() <= 0.25
    assert not values[0].any()


def test_one_hot_is_that_of_torch_without_code_0():
    codes = torch.cartesian_prod(torch.arange(3), torch.arange(4))
    parts = [nn.functional.one_hot(codes[:, i], n)[:, 1:] for i, n in enumerate([3, 4])]
    assert torch.equal(OneHot([3, 4])(codes), torch.cat(parts, dim=1).float())


def test_one_hot_of_two_categories_may_be_a_sign():
    codes = torch.tensor([[0, 0], [1, 1], [2, 3]])
    expected = [[0, 0, 0, 0], [1, 1, 0, 0], [-1, 0, 0, 1]]
    assert OneHot([3, 4], signed=True)(codes).tolist() == expected
    assert OneHot([3, 4], signed=True).widths == [1, 3]


def test_one_hot_follows_the_dtype_of_the_module():
    assert nn.Sequential(OneHot([3])).double()(torch.tensor([[1]])).dtype == torch.float64


def test_a_column_without_categories_is_zero():
    codes = torch.zeros(2, 1, dtype=torch.int64)
    assert OneHot([1])(codes).tolist() == [[0.0], [0.0]]
    assert not CategoryEmbedding([1], size=3)(codes).any()


@pytest.mark.parametrize(
    ("max_one_hot", "widths"), [(0, [4, 4, 4]), (2, [2, 4, 4]), (5, [2, 5, 4]), (9, [2, 5, 9])]
)
def test_few_categories_are_one_hot_and_many_are_embedded(max_one_hot, widths):
    categories = Categories([10, 3, 6], embedding_size=4, max_one_hot=max_one_hot)
    assert sorted(categories.widths) == sorted(widths)
    codes = torch.tensor([[9, 2, 5], [0, 0, 0]])
    encoded = categories(codes)
    assert encoded.shape == (2, sum(widths))
    assert not encoded[1].any()
    if max_one_hot == 5:
        # the columns of few categories first, in their order
        assert encoded[0, :7].tolist() == [0, 1, 0, 0, 0, 0, 1]
        embedding = categories.embedding
        assert torch.equal(encoded[0, 7:], embedding(torch.tensor([[9]]))[0, 0])


def test_columns_stand_side_by_side():
    columns = build_columns("MLP", 2, [3], cat_embedding_size=5)
    numeric, codes = torch.randn(4, 2), torch.tensor([[0], [1], [2], [1]])
    row = columns(numeric, codes)
    assert columns.widths == [1, 1, 5]
    assert torch.equal(row[:, :2], numeric)
    assert torch.equal(row[:, 2:], columns.categories(codes))


def test_numbers_alone_pass_as_they_are():
    numeric = torch.randn(4, 2)
    assert Columns(2, None, None)(numeric) is numeric


def test_inputs_come_as_tensor_tuple_or_dict():
    a, b = torch.zeros(1), torch.ones(1)
    assert split_inputs(a) == (a, None)
    assert split_inputs((a,)) == (a, None)
    assert split_inputs((a, b)) == (a, b)
    assert split_inputs({"categorical": b}) == (None, b)
    assert split_inputs({"numeric": a, "categorical": b}) == (a, b)


def test_batch_normalization_is_that_of_torch_but_for_one_row():
    ours, theirs = BatchNorm(3), nn.BatchNorm1d(3)
    for _ in range(3):
        X = torch.randn(5, 3)
        assert torch.equal(ours(X), theirs(X))
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    row = torch.randn(1, 3, requires_grad=True)
    found = ours(row)
    assert torch.equal(found, theirs.eval()(row))
    found.sum().backward()
    assert ours.weight.grad is not None
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
