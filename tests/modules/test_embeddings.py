"""Embeddings of numbers, beside the package of the paper."""

import numpy as np
import pytest
import rtdl_num_embeddings as rtdl
import torch

from skorchlike.exceptions import ParameterError
from skorchlike.modules.embeddings import (
    NUMERIC_EMBEDDINGS,
    LinearEmbedding,
    PBLDEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    column_quantiles,
)


def rows(n=200, p=3, seed=0):
    return torch.randn(n, p, generator=torch.Generator().manual_seed(seed))


def copy_to(reference, **values):
    parameters = dict(reference.named_parameters())
    assert set(parameters) == set(values)
    with torch.no_grad():
        for name, value in values.items():
            assert parameters[name].shape == value.shape
            parameters[name].copy_(value)


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_linear_is_that_of_the_paper():
    ours, theirs = LinearEmbedding(3), rtdl.LinearReLUEmbeddings(3)
    assert n_parameters(ours) == n_parameters(theirs)
    copy_to(theirs, **{"linear.weight": ours.weight, "linear.bias": ours.bias})
    torch.testing.assert_close(ours(rows()), theirs(rows()))


def test_periodic_is_that_of_the_paper():
    ours, theirs = PeriodicEmbedding(3), rtdl.PeriodicEmbeddings(3, lite=False)
    assert n_parameters(ours) == n_parameters(theirs)
    copy_to(
        theirs,
        **{
            "periodic.weight": ours.frequencies,
            "linear.weight": ours.weight,
            "linear.bias": ours.bias,
        },
    )
    torch.testing.assert_close(ours(rows()), theirs(rows()))


@pytest.mark.parametrize("n_bins", [2, 7, 48])
def test_piecewise_linear_is_that_of_the_paper(n_bins):
    X = rows()
    ours = PiecewiseLinearEmbedding(3, n_bins=n_bins)
    ours.init_from_data(X)
    bins = rtdl.compute_bins(X, n_bins=n_bins)
    theirs = rtdl.PiecewiseLinearEmbeddings(bins, 16, activation=False, version="B")
    assert n_parameters(ours) == n_parameters(theirs)
    ours.bin_weight.data.normal_()
    copy_to(
        theirs,
        **{
            "linear0.weight": ours.weight,
            "linear0.bias": ours.bias,
            "linear.weight": ours.bin_weight,
        },
    )
    beyond = torch.cat([rows(seed=1), torch.tensor([[-50.0, 50.0, 0.0]])])
    torch.testing.assert_close(ours(beyond), theirs(beyond), rtol=1e-5, atol=1e-4)


def test_pbld_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    embedding, X = PBLDEmbedding(3), rows()
    parts = {name: p.detach().numpy() for name, p in embedding.named_parameters()}
    for column in range(3):
        x = X[:, [column]].numpy()
        waves = np.cos(2 * np.pi * x * parts["frequencies"][column] + parts["phases"][column])
        expected = waves @ parts["weight"][column] + parts["offset"][column]
        found = embedding(X)[:, column].detach().numpy()
        np.testing.assert_allclose(found, np.hstack([expected, x]), rtol=1e-4, atol=1e-5)


def test_first_values_are_those_of_the_papers():
    torch.manual_seed(0)
    frequencies = PeriodicEmbedding(500, frequency_scale=0.5).frequencies
    assert frequencies.std().item() == pytest.approx(0.5, rel=0.05)
    assert frequencies.abs().max() <= 1.5
    pbld = PBLDEmbedding(500)
    assert pbld.frequencies.std().item() == pytest.approx(0.1, rel=0.05)
    assert pbld.phases.abs().max() <= torch.pi
    assert pbld.phases.std().item() == pytest.approx(torch.pi / 3**0.5, rel=0.05)
    for weights, bound in ((pbld.weight, 0.25), (LinearEmbedding(500, 4).weight, 0.5)):
        assert 0.98 * bound < weights.abs().max() <= bound


@pytest.mark.parametrize("name", NUMERIC_EMBEDDINGS)
def test_each_column_is_embedded_by_itself(name):
    torch.manual_seed(0)
    embedding, X = NUMERIC_EMBEDDINGS[name](3), rows(20)
    if name == "piecewise_linear":
        embedding.init_from_data(X)
        embedding.bin_weight.data.normal_()
    changed = X.clone()
    changed[:, 1] += 1
    same = (embedding(X) == embedding(changed)).all(dim=0).all(dim=-1)
    assert same.tolist() == [True, False, True]
    assert embedding(X).shape == (20, 3, embedding.size)


# ------------------------------------------------------------------------ bins


def test_without_bins_it_says_what_to_do():
    with pytest.raises(ParameterError, match="call init_from_data with training rows"):
        PiecewiseLinearEmbedding(3)(rows())


def test_a_state_without_bins_brings_none():
    embedding = PiecewiseLinearEmbedding(3)
    embedding.init_from_data(rows())
    embedding.load_state_dict(PiecewiseLinearEmbedding(3).state_dict())
    with pytest.raises(ParameterError, match="no bins"):
        embedding(rows())


def test_shares_of_bins_are_those_of_the_formula():
    X = torch.arange(9.0)[:, None]
    embedding = PiecewiseLinearEmbedding(1, size=4, n_bins=4)
    embedding.init_from_data(X)  # edges 0, 2, 4, 6, 8
    with torch.no_grad():
        embedding.weight.zero_()
        embedding.bias.zero_()
        embedding.bin_weight.copy_(torch.eye(4)[None])
    found = embedding(torch.tensor([[-1.0], [1.0], [4.0], [7.0], [10.0]]))[:, 0]
    expected = [[-0.5, 0, 0, 0], [0.5, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0.5], [1, 1, 1, 2]]
    torch.testing.assert_close(found, torch.tensor(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "column",
    [
        [5.0] * 50,
        [0.0, 1.0] * 25,
        [0.0] * 49 + [1.0],
        [0.0, 1e-45, 1e-40] + [1.0] * 47,
        [1e37, -1e37] * 25,
        [1.0],
    ],
    ids=["constant", "binary", "rare", "tiny", "huge", "one row"],
)
def test_odd_columns_have_finite_embeddings(column, dtype):
    X = torch.tensor(column, dtype=dtype)[:, None]
    embedding = PiecewiseLinearEmbedding(1).to(dtype)
    embedding.init_from_data(X)
    embedding.bin_weight.data.normal_()
    scale = max(1.0, X.abs().max().item())
    assert (embedding(X).double() / scale).isfinite().all()
    embedding(X / scale).sum().backward()
    assert all(p.grad.isfinite().all() for p in embedding.parameters())


def test_bins_can_be_learned_anew():
    embedding, fresh = PiecewiseLinearEmbedding(3), PiecewiseLinearEmbedding(3)
    fresh.load_state_dict(embedding.state_dict())
    embedding.init_from_data(10 * rows(seed=1))
    embedding.init_from_data(rows())
    fresh.init_from_data(rows())
    for one, other in zip(embedding.buffers(), fresh.buffers(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1001])
def test_quantiles_are_those_of_numpy(n):
    X, levels = rows(n, p=4).double(), torch.tensor([0, 0.1, 0.25, 0.5, 0.77, 1]).double()
    expected = np.quantile(X.numpy(), levels.numpy(), axis=0)
    np.testing.assert_allclose(column_quantiles(X, levels), expected, rtol=1e-12, atol=1e-12)
