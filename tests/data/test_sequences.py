"""Sequences of different lengths."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import Dataset

from skorchlike.data.loading import LoaderBatches
from skorchlike.data.sequences import PadCollate, pad_sequences
from skorchlike.exceptions import ParameterError


class Sequences(Dataset):
    def __init__(self, n, width=3):
        rng = np.random.default_rng(0)
        self.rows = [rng.normal(size=(1 + 5 * i % 7, width)).astype(np.float32) for i in range(n)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i], i % 2


class LastState(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)

    def forward(self, X, lengths):
        packed = pack_padded_sequence(X, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.gru(packed)[1][0]


def test_padding_in_memory_changes_no_output_of_a_packed_network():
    rows = Sequences(9).rows
    padded = pad_sequences(rows)
    module = LastState()
    with torch.no_grad():
        together = module(**{name: torch.from_numpy(a) for name, a in padded.items()})
        alone = torch.stack([module.gru(torch.from_numpy(row)[None])[1][0, 0] for row in rows])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_a_dataset_are_as_long_as_their_longest_sequence(num_workers):
    dataset = Sequences(10)
    options = {"collate_fn": PadCollate(padding_value=-1.0), "num_workers": num_workers}
    data = LoaderBatches(
        dataset, 4, options=options, generator=torch.Generator().manual_seed(0), shuffle=True
    )
    for X, y, _, index, _, _ in data:
        rows = [dataset.rows[i] for i in index().tolist()]
        assert X["lengths"].tolist() == [len(row) for row in rows]
        assert X["X"].shape == (len(rows), max(map(len, rows)), 3)
        for padded, row in zip(X["X"].numpy(), rows, strict=True):
            np.testing.assert_array_equal(padded[: len(row)], row)
            assert (padded[len(row) :] == -1).all()
        assert y.tolist() == [i % 2 for i in index().tolist()]


def test_lengths_may_be_left_out_and_weights_and_bare_sequences_taken():
    a, b = torch.ones(2), torch.ones(3)
    X, y, weight = PadCollate(lengths=False)([(a, 0, 0.5), (b, 1, 2.0)])
    assert X.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert (y.tolist(), weight.tolist()) == ([0, 1], [0.5, 2])
    for items in ([a, b], [(a,), (b,)]):
        (X,) = PadCollate()(items)
        assert X["lengths"].tolist() == [2, 3]


def test_dtypes_are_kept_and_mixed_ones_promoted():
    assert pad_sequences([np.array([1, 2], np.int64), np.array([3], np.int64)])["X"].dtype == int
    assert pad_sequences([[1, 2], [3]], padding_value=-1)["X"].tolist() == [[1, 2], [3, -1]]
    mixed = pad_sequences([np.zeros(2, np.float32), np.zeros(1, np.float64)])
    assert mixed["X"].dtype == np.float64
    assert mixed["lengths"].dtype == np.int64
    assert pad_sequences([torch.zeros(2, 3), torch.zeros(4, 3)])["X"].shape == (2, 4, 3)


def test_padding_changes_no_data():
    row = np.ones((4, 2))
    padded = pad_sequences([row])
    padded["X"][:] = 0
    assert (row == 1).all()


def test_a_collate_can_be_pickled_and_shows_itself():
    collate = pickle.loads(pickle.dumps(PadCollate(padding_value=7, lengths=False)))
    assert repr(collate) == "PadCollate(padding_value=7, lengths=False)"
    assert collate([(np.zeros(1), 0), (np.zeros(2), 0)])[0].tolist() == [[0, 7], [0, 0]]


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([], "no sequences"),
        ([np.zeros(3), 5.0], "Number 1 is an object of class float"),
        (["text"], "Number 0"),
        ([np.array(["a", "b"])], "dtype <U1"),
        ([np.zeros((3, 2)), np.zeros((3, 4))], r"\(t, 2,\), \(t, 4,\)"),
    ],
)
def test_sequences_that_do_not_fit_are_named(sequences, message):
    with pytest.raises(ParameterError, match=message):
        pad_sequences(sequences)


def test_a_padding_value_that_integers_cannot_hold_is_an_error():
    with pytest.raises(ParameterError, match=r"padding_value=0\.5 is no integer"):
        pad_sequences([[1, 2], [3]], padding_value=0.5)


def test_items_that_are_not_alike_are_an_error():
    with pytest.raises(ParameterError, match=r"all alike\. Got a tuple of 1, a tuple of 2"):
        PadCollate()([(np.zeros(2),), (np.zeros(2), 1)])
    with pytest.raises(ParameterError, match="Got a tuple of 4"):
        PadCollate()([(np.zeros(2), 1, 2, 3)])
