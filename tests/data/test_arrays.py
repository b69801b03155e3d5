"""Batches cut from arrays on the device."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skorchlike.data import arrays
from skorchlike.data.arrays import ArrayBatches, input_batches
from skorchlike.data.rows import Placement, Rows, to_tensor
from skorchlike.exceptions import ParameterError

CPU = torch.device("cpu")


def make(n, batch_size, *, rows=None, seed=None, drop_last=False, weights=True):
    X = torch.arange(n, dtype=torch.float64)[:, None] * torch.ones(1, 3, dtype=torch.float64)
    y = torch.arange(n)
    w = torch.arange(n, dtype=torch.float64) + 1 if weights else None
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return ArrayBatches(X, y, w, batch_size, rows, generator, drop_last)


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    shuffle=st.booleans(),
    subset=st.booleans(),
    drop_last=st.booleans(),
    chunk_bytes=st.sampled_from([1, 24, 200, 10_000]),
)
def test_a_pass_holds_every_row_once_with_its_target_weight_and_index(
    n, batch_size, shuffle, subset, drop_last, chunk_bytes
):
    rows = torch.arange(0, n, 2) if subset else None
    expected = list(range(0, n, 2)) if subset else list(range(n))
    if drop_last and len(expected) < batch_size:
        with pytest.raises(ParameterError, match="drop_last"):
            make(n, batch_size, rows=rows, drop_last=True)
        return
    before, arrays.CHUNK_BYTES = arrays.CHUNK_BYTES, chunk_bytes
    try:
        data = make(n, batch_size, rows=rows, seed=0 if shuffle else None, drop_last=drop_last)
    finally:
        arrays.CHUNK_BYTES = before
    batches = list(data)
    seen = []
    for X, y, w, make_index, size, _ in batches:
        index = make_index()
        assert len(X) == len(y) == len(w) == len(index) == size
        assert X[:, 0].tolist() == y.tolist() == index.tolist() == (w - 1).tolist()
        seen += y.tolist()
    assert [batch[5] for batch in batches] == [False] * (len(batches) - 1) + [True]
    assert len(batches) == data.n_batches
    assert all(batch[4] == batch_size for batch in batches[:-1])
    if drop_last:
        assert len(seen) == len(expected) // batch_size * batch_size
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(expected)
    else:
        assert sorted(seen) == expected
    if not shuffle:
        assert seen == expected[: len(seen)]


def test_shuffling_differs_from_pass_to_pass_and_is_the_same_for_a_seed():
    def order(data):
        return [i for batch in data for i in batch[1].tolist()]

    one, two = make(50, 8, seed=3), make(50, 8, seed=3)
    first, second = order(one), order(one)
    assert first != second
    assert [first, second] == [order(two), order(two)]


@pytest.mark.parametrize("subset", [False, True])
@pytest.mark.parametrize("chunk_bytes", [1, 200, 10_000])
def test_the_order_is_that_of_a_random_permutation(monkeypatch, subset, chunk_bytes):
    monkeypatch.setattr(arrays, "CHUNK_BYTES", chunk_bytes)
    rows = torch.arange(1, 90, 2, dtype=torch.int32) if subset else None
    batches = list(make(90, 8, rows=rows, seed=5))
    order = torch.randperm(45 if subset else 90, generator=torch.Generator().manual_seed(5))
    expected = order if rows is None else rows[order]
    assert torch.cat([y for _, y, *_ in batches]).tolist() == expected.tolist()
    assert {make_index().dtype for *_, make_index, _, _ in batches} == {torch.int64}


def test_targets_and_weights_are_cast_to_the_dtypes_of_batches():
    y, weight = torch.arange(10, dtype=torch.uint8), torch.arange(10.0, dtype=torch.float64) / 3
    data = ArrayBatches(
        torch.zeros(10, 1), y, weight, 4, y_dtype=torch.int64, weight_dtype=torch.float32
    )
    batches = list(data)
    assert torch.equal(torch.cat([batch[1] for batch in batches]), y.long())
    assert torch.equal(torch.cat([batch[2] for batch in batches]), weight.float())
    plain = next(iter(ArrayBatches(torch.zeros(10, 1), y, weight, 4)))
    assert (plain[1].dtype, plain[2].dtype) == (torch.uint8, torch.float64)


def test_inputs_are_copies_in_the_order_of_the_rows():
    data = make(20, 2, rows=torch.arange(3, 20, 4, dtype=torch.int32), seed=1)
    state = data.generator.get_state()
    parts = list(data.inputs())
    assert torch.cat(parts)[:, 0].tolist() == [3, 7, 11, 15, 19]
    assert torch.equal(state, data.generator.get_state())


def test_writing_to_a_batch_changes_no_data():
    for seed in (None, 0):
        data = make(10, 4, seed=seed)
        everything = torch.arange(10)
        X, y, w = data.X.take(everything), data.y.clone(), data.sample_weight.clone()
        for batch in data:
            for tensor in batch[:3]:
                tensor.zero_()
        assert torch.equal(data.X.take(everything), X)
        assert torch.equal(data.y, y)
        assert torch.equal(data.sample_weight, w)


def test_rows_are_gathered_in_bounded_chunks(monkeypatch):
    taken = []
    take = Rows.take

    def spy(self, index):
        taken.append(take(self, index))
        return taken[-1]

    monkeypatch.setattr(Rows, "take", spy)
    X = torch.zeros(40_000, 200)  # 32 MB
    for _ in ArrayBatches(X, torch.zeros(40_000), None, 64, generator=torch.Generator()):
        pass
    assert max(chunk.nbytes for chunk in taken) <= arrays.CHUNK_BYTES
    assert len(taken) == 32  # of 20 batches each, the last of fewer


def test_to_tensor_shares_memory_where_it_can_and_copies_where_it_must():
    array = np.arange(6.0).reshape(2, 3)
    assert to_tensor(array, None, CPU).data_ptr() == array.ctypes.data
    assert to_tensor(array, torch.float32, CPU).dtype is torch.float32
    array.flags.writeable = False
    assert to_tensor(array, None, CPU).data_ptr() == array.ctypes.data
    backwards = np.arange(6.0).reshape(2, 3)[::-1]
    assert to_tensor(backwards, None, CPU).tolist() == backwards.tolist()


@pytest.mark.parametrize("kind", ["numpy", "tensor", "readonly"])
def test_input_batches_are_copies_in_order(kind):
    X = np.arange(14.0).reshape(7, 2)
    given_X = torch.from_numpy(X.copy()) if kind == "tensor" else X.copy()
    if kind == "readonly":
        given_X.flags.writeable = False
    place = Placement(CPU, torch.float32, torch.float32)
    batches = list(input_batches(Rows(given_X, place, resident=False), 3))
    assert [last for _, _, last in batches] == [False, False, True]
    assert torch.cat([index for _, index, _ in batches]).tolist() == list(range(7))
    assert torch.cat([batch for batch, _, _ in batches]).tolist() == X.tolist()
    for batch, _, _ in batches:
        assert batch.dtype is torch.float32
        batch.zero_()
    assert np.asarray(given_X).tolist() == X.tolist()
