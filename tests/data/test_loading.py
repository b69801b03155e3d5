"""Batches of datasets and data loaders."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)

from skorchlike.data.arrays import ArrayBatches
from skorchlike.data.items import collate_items, read_batch
from skorchlike.data.loading import LoaderBatches, is_loader
from skorchlike.data.peeking import collect_targets, first_batch, tensors_of
from skorchlike.exceptions import ParameterError


class Rows(Dataset):
    """Items (X, y): X is the row number three times, y the number plus 100."""

    def __init__(self, n, item=None):
        self.n, self.item = n, item

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if self.item is not None:
            return self.item(i)
        if not 0 <= i < self.n:
            raise IndexError(i)
        return np.full(3, i, np.float32), i + 100


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        worker = get_worker_info()
        start, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for i in range(start, self.n, step):
            yield np.full(2, i, np.float32), i


class SizedStream(Stream):
    def __len__(self):
        return self.n


class Unsized(Dataset):
    def __getitem__(self, i):
        return np.zeros(2), 0


class Noisy(Rows):
    def __getitem__(self, i):
        return torch.cat([torch.full((1,), float(i)), torch.rand(2)]), i


class Failing(Rows):
    def __getitem__(self, i):
        if i == 5:
            raise OSError("no such picture")
        return super().__getitem__(i)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(batches):
    """Return the row numbers that a pass held, as told by the inputs."""
    return [X[:, 0].int().tolist() for X, *_ in batches]


def array_order(n, batch_size, *, rows=None, seed=None, drop_last=False, passes=1):
    """Return the same of `ArrayBatches`."""
    X = torch.arange(n, dtype=torch.float32)[:, None]
    rows = None if rows is None else torch.as_tensor(rows)
    shuffler = None if seed is None else generator(seed)
    data = ArrayBatches(X, torch.zeros(n), None, batch_size, rows, shuffler, drop_last)
    return [numbers(data) for _ in range(passes)]


# ------------------------------------------------------------------ what is taken


def test_datasets_and_loaders_are_told_from_arrays():
    dataset = Rows(3)
    for yes in (dataset, Stream(3), DataLoader(dataset), Subset(dataset, [0])):
        assert is_loader(yes)
    for no in (np.zeros((2, 2)), torch.zeros(2, 2), [[1]], {"a": 1}, None):
        assert not is_loader(no)


def test_a_tensor_dataset_gives_its_tensors_also_through_subsets():
    X, y = torch.randn(10, 3), torch.arange(10)
    dataset = TensorDataset(X, y)
    assert tensors_of(dataset)[0] is X
    inner = Subset(Subset(dataset, [9, 4, 7, 1]), [2, 0])
    torch.testing.assert_close(tensors_of(inner)[0], torch.stack([row for row, _ in inner]))
    assert tensors_of(Subset(dataset, np.array([3, 5])))[1].tolist() == [3, 5]
    assert tensors_of(Subset(dataset, [-1]))[1].tolist() == [9]
    view = tensors_of(Subset(dataset, range(2, 6)))[0]
    assert view.data_ptr() == X[2].data_ptr()
    torch.testing.assert_close(view, X[2:6])


def test_other_datasets_give_no_tensors():
    class Doubled(TensorDataset):
        def __getitem__(self, i):
            return tuple(2 * part for part in super().__getitem__(i))

    X = torch.zeros(4, 2)
    for other in (Doubled(X), TensorDataset(X, X, X, X), Rows(3), DataLoader(TensorDataset(X))):
        assert tensors_of(other) is None


# --------------------------------------------------------------------- row order


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    shuffle=st.booleans(),
    subset=st.booleans(),
    drop_last=st.booleans(),
    seed=st.integers(0, 5),
)
def test_rows_come_in_the_order_of_arrays(n, batch_size, shuffle, subset, drop_last, seed):
    rows = np.arange(0, n, 2) if subset else None
    n_rows = n if rows is None else len(rows)
    how = {"generator": generator(seed), "shuffle": shuffle, "drop_last": drop_last, "rows": rows}
    if drop_last and n_rows < batch_size:
        with pytest.raises(ParameterError, match="no batch is left"):
            LoaderBatches(Rows(n), batch_size, **how)
        return
    data = LoaderBatches(Rows(n), batch_size, **how)
    expected = array_order(
        n, batch_size, rows=rows, seed=seed if shuffle else None, drop_last=drop_last, passes=3
    )
    assert [numbers(data) for _ in range(3)] == expected
    assert data.n_batches == len(expected[0])
    assert data.n_rows == sum(map(len, expected[0]))


def test_a_batch_knows_its_rows_its_size_and_whether_it_is_the_last():
    data = LoaderBatches(Rows(23), 5, generator=generator(), shuffle=True)
    batches = list(data)
    for X, y, weight, index, n, _ in batches:
        assert index().dtype == torch.int64
        assert index().tolist() == X[:, 0].tolist() == (y - 100).tolist()
        assert len(X) == n
        assert weight is None
    assert [batch[5] for batch in batches] == [False] * 4 + [True]


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_keep_order_and_row_numbers(persistent):
    options = {"num_workers": 2, "prefetch_factor": 3, "persistent_workers": persistent}
    data = LoaderBatches(Rows(33), 4, options=options, generator=generator(1), shuffle=True)
    expected = array_order(33, 4, seed=1, passes=2)
    for order in expected:
        batches = list(data)
        assert numbers(batches) == order
        assert [batch[3]().tolist() for batch in batches] == order


def test_a_pass_that_is_left_early_does_not_disturb_the_next():
    options = {"num_workers": 1, "persistent_workers": True}
    data = LoaderBatches(Rows(40), 4, options=options, generator=generator(3), shuffle=True)
    first, second = array_order(40, 4, seed=3, passes=2)
    passing = iter(data)
    assert numbers([next(passing)]) == first[:1]
    passing.close()
    batches = list(data)
    assert numbers(batches) == second
    assert [batch[3]().tolist() for batch in batches] == second


def test_inputs_come_in_the_order_of_the_data_and_draw_no_random_numbers():
    gen = generator()
    data = LoaderBatches(
        Rows(11), 4, generator=gen, shuffle=True, rows=[1, 3, 8, 9, 10], drop_last=True
    )
    before = gen.get_state()
    assert [X[:, 0].int().tolist() for X in data.inputs()] == [[1, 3, 8, 9], [10]]
    assert torch.equal(gen.get_state(), before)
    ready = LoaderBatches(DataLoader(Rows(5), batch_size=2), 99)
    assert [len(X) for X in ready.inputs()] == [2, 2, 1]


# ------------------------------------------------------------------ random numbers


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_global_generator_stays_and_random_items_are_reproducible(num_workers):
    def train():
        options = {"num_workers": num_workers}
        data = LoaderBatches(Noisy(12), 4, options=options, generator=generator(7), shuffle=True)
        return [torch.cat([X for X, *_ in data]) for _ in range(2)]

    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = train()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    again = train()
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    by_row = [part[part[:, 0].argsort()] for part in first]
    assert not torch.equal(by_row[0], by_row[1])  # new random numbers in each pass


def test_random_items_vary_between_passes_without_shuffling_too():
    data = LoaderBatches(Noisy(6), 3, generator=generator())
    one, two = (torch.cat([X for X, *_ in data]) for _ in range(2))
    assert not torch.equal(one, two)


def test_a_pass_without_generator_has_the_same_random_numbers_each_time():
    data = LoaderBatches(Noisy(6), 3, with_target=False)
    one, two = (torch.cat([X for X, *_ in data]) for _ in range(2))
    assert torch.equal(one, two)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_ready_loader_shuffles_by_the_generator_and_leaves_the_global_one(num_workers):
    before = torch.get_rng_state()

    def orders():
        loader = DataLoader(Rows(20), batch_size=6, shuffle=True, num_workers=num_workers)
        data = LoaderBatches(loader, 99, generator=generator(5))
        return [numbers(data) for _ in range(2)]

    first, second = orders()
    assert sorted(chain(*first)) == list(range(20))
    assert first != second
    assert orders() == [first, second]
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------- loader arguments


def test_the_users_sampler_goes_before_ours_and_tells_the_rows():
    data = LoaderBatches(
        Rows(10), 3, options={"sampler": [4, 4, 2, 9]}, generator=generator(), shuffle=True
    )
    batches = list(data)
    assert numbers(batches) == [[4, 4, 2], [9]]
    assert [batch[3]().tolist() for batch in batches] == [[4, 4, 2], [9]]
    assert data.n_batches == 2


def test_the_users_batch_sampler_goes_before_ours():
    batch_sampler = BatchSampler(SequentialSampler(range(7)), 4, drop_last=False)
    data = LoaderBatches(
        Rows(7), 2, options={"batch_sampler": batch_sampler}, generator=generator(), shuffle=True
    )
    assert numbers(data) == [[0, 1, 2, 3], [4, 5, 6]]
    assert data.n_batches == 2


def test_a_batch_sampler_without_length_and_with_keys_for_items_works():
    class Keyed(Rows):
        def __getitem__(self, key):
            return np.full(2, ord(key), np.float32), 0

    class Keys:
        def __iter__(self):
            yield ["a", "b"]
            yield ["c"]

    data = LoaderBatches(Keyed(3), 2, options={"batch_sampler": Keys()})
    batches = list(data)
    assert data.n_batches is None
    assert numbers(batches) == [[97, 98], [99]]
    assert [batch[3]().tolist() for batch in batches] == [[0, 1], [2]]  # positions in the pass
    assert [batch[5] for batch in batches] == [False, True]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_size": 4}, [4, 4, 2]),
        ({"drop_last": True}, [3, 3, 3]),
        ({"shuffle": False, "sampler": None}, [3, 3, 3, 1]),
    ],
)
def test_batch_options_go_before_the_estimators(options, expected):
    data = LoaderBatches(Rows(10), 3, options=options)
    assert [batch[4] for batch in data] == expected
    assert data.n_batches == len(expected)


def test_shuffle_of_the_user_goes_before_the_estimators():
    straight = LoaderBatches(
        Rows(10), 3, options={"shuffle": False}, generator=generator(), shuffle=True
    )
    assert list(chain(*numbers(straight))) == list(range(10))
    shuffled = LoaderBatches(Rows(10), 3, options={"shuffle": True}, generator=generator(2))
    assert numbers(shuffled) == array_order(10, 3, seed=2)[0]


def test_order_options_do_not_touch_predictions():
    options = {"shuffle": True, "drop_last": True, "batch_size": 4}
    data = LoaderBatches(Rows(10), 3, options=options, with_target=False)
    assert numbers(data) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert all(y is None and weight is None for _, y, weight, *_ in data)


def test_other_arguments_reach_the_loader(tmp_path):
    def begin(worker_id):
        (tmp_path / str(worker_id)).touch()

    def collate(items):
        X, y = zip(*items, strict=True)
        return torch.as_tensor(np.stack(X)) * 10, torch.tensor(y)

    options = {"num_workers": 2, "worker_init_fn": begin, "collate_fn": collate, "timeout": 30}
    data = LoaderBatches(Rows(6), 3, options=options)
    assert numbers(data) == [[0, 10, 20], [30, 40, 50]]
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}


def test_a_collate_function_may_leave_items_out_in_training():
    def collate(items):
        return collate_items([item for item in items if item[1] % 2])

    data = LoaderBatches(Rows(8), 4, options={"collate_fn": collate})
    assert [batch[3]().tolist() for batch in data] == [[0, 1], [2, 3]]
    with pytest.raises(ParameterError, match="2 rows for 4 row numbers"):
        list(LoaderBatches(Rows(8), 4, options={"collate_fn": collate}, with_target=False))


def test_a_loader_class_of_ones_own_is_used():
    class Loader(DataLoader):
        made = 0

        def __init__(self, *args, **kwargs):
            type(self).made += 1
            super().__init__(*args, **kwargs)

    data = LoaderBatches(Rows(5), 2, make_loader=Loader)
    assert numbers(data) == numbers(data) == [[0, 1], [2, 3], [4]]
    assert Loader.made == 1


@pytest.mark.parametrize(
    ("source", "options", "extra", "message"),
    [
        (Rows(4), {"num_worker": 1}, {}, "Did you mean 'num_workers'"),
        (Rows(4), {"generator": generator()}, {}, "use random_state"),
        (Rows(4), {"dataset": Rows(3)}, {}, "passed to fit"),
        (Rows(4), {"persistent_workers": True}, {}, "needs num_workers > 0"),
        (Rows(4), {"batch_size": 0}, {}, "positive integer. Got 0"),
        (Rows(4), {"batch_size": None}, {}, "batch_size=None"),
        (Rows(4), {"batch_size": 2, "batch_sampler": [[0]]}, {}, "exclude one another"),
        (Rows(4), {"shuffle": True, "sampler": [0]}, {}, "exclude one another"),
        (Rows(4), {"sampler": [0]}, {"rows": [0, 1]}, "set apart for validation"),
        (Rows(0), {}, {}, "is empty"),
        (Unsized(), {}, {}, "no __len__"),
        (Stream(4), {"shuffle": True}, {}, "Shuffle in the __iter__"),
        (Stream(4), {"sampler": [0]}, {}, "unspecified sampler option"),
        (Stream(4), {}, {"rows": [0]}, "cannot be split"),
        (DataLoader(Rows(4)), {"num_workers": 1}, {}, "used as it is"),
        (DataLoader(Rows(4)), {}, {"rows": [0]}, "cannot be split"),
        (DataLoader(Rows(4), shuffle=True), {}, {"with_target": False}, "shuffle=False"),
    ],
)
def test_arguments_that_do_not_suit_the_data_are_refused(source, options, extra, message):
    with pytest.raises(ParameterError, match=message):
        LoaderBatches(source, 2, options=options, name="X_val", prefix="valid_loader", **extra)


# ------------------------------------------------------------------------ streams


@pytest.mark.parametrize(("stream", "n_batches"), [(Stream(7), None), (SizedStream(7), 3)])
def test_a_stream_has_running_numbers_and_a_marked_last_batch(stream, n_batches):
    data = LoaderBatches(stream, 3, generator=generator(), shuffle=True)
    assert data.n_batches == n_batches
    for _ in range(2):
        batches = list(data)
        assert numbers(batches) == [[0, 1, 2], [3, 4, 5], [6]]
        assert [batch[3]().tolist() for batch in batches] == numbers(batches)
        assert [batch[5] for batch in batches] == [False, False, True]


def test_a_sharded_stream_is_read_once_by_several_workers():
    data = LoaderBatches(SizedStream(10), 2, options={"num_workers": 2})
    assert data.n_batches is None  # how the workers share it is not known
    assert sorted(chain(*numbers(data))) == list(range(10))


def test_drop_last_shortens_a_stream():
    data = LoaderBatches(SizedStream(7), 3, drop_last=True)
    assert (data.n_batches, data.n_rows) == (2, 6)
    assert numbers(data) == [[0, 1, 2], [3, 4, 5]]


def test_a_stream_of_ready_batches_is_taken_as_it_is():
    class Batches(IterableDataset):
        def __init__(self):
            self.X = np.arange(12, dtype=np.float32).reshape(6, 2)

        def __iter__(self):
            for start in (0, 3):
                yield self.X[start : start + 3], np.arange(start, start + 3)

    source = Batches()
    data = LoaderBatches(source, 99, options={"batch_size": None})
    assert data.n_batches is None
    for X, y, _, index, n, _ in data:
        assert y.tolist() == index().tolist() == [v // 2 for v in X[:, 0].int().tolist()]
        assert n == 3


def test_a_stream_that_cannot_begin_anew_is_an_error():
    class Once(IterableDataset):
        def __init__(self):
            self.rows = iter([(np.zeros(2), 0)])

        def __iter__(self):
            return self.rows

    data = LoaderBatches(Once(), 2)
    assert len(list(data)) == 1
    with pytest.raises(ParameterError, match="must begin anew"):
        list(data)


# ------------------------------------------------------------------- ready loaders


def test_a_ready_loader_is_used_as_it_is():
    loader = DataLoader(Rows(10), batch_size=4, drop_last=True)
    data = LoaderBatches(loader, 99, generator=generator(), shuffle=True, drop_last=False)
    assert (data.n_batches, data.n_rows) == (2, 8)
    batches = list(data)
    assert numbers(batches) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [batch[3]().tolist() for batch in batches] == numbers(batches)


def test_a_ready_loader_predicts_whatever_was_said_for_validation():
    options = {"num_workers": 2, "batch_size": 3}
    loader = DataLoader(Rows(5), batch_size=4)
    data = LoaderBatches(loader, 99, options=options, with_target=False)
    assert numbers(data) == [[0, 1, 2, 3], [4]]


def test_counts_of_ready_loaders_are_those_that_can_be_known():
    def counts(loader):
        data = LoaderBatches(loader, 99)
        return data.n_batches, data.n_rows

    assert counts(DataLoader(Rows(10), batch_sampler=[[0], [1, 2]])) == (2, None)
    assert counts(DataLoader(Stream(10), batch_size=3)) == (None, None)
    assert counts(DataLoader(SizedStream(10), batch_size=3)) == (4, 10)
    assert counts(DataLoader(SizedStream(10), batch_size=3, num_workers=2)) == (None, None)
    weighted = WeightedRandomSampler([1.0] * 10, 6)
    assert counts(DataLoader(Rows(10), batch_size=4, sampler=weighted)) == (2, 6)


# ------------------------------------------------------- batches got all at once


class Batched(Rows):
    def __init__(self, n, make):
        super().__init__(n)
        self.make, self.asked = make, []
        self.X = np.arange(n, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)

    def __getitems__(self, indices):
        self.asked.append(list(indices))
        return self.make(self.X, indices)


@pytest.mark.parametrize(
    "make",
    [
        lambda X, i: [(X[j], j) for j in i],
        lambda X, i: (X[i], np.array(i)),
        lambda X, i: (torch.as_tensor(X[i]), torch.tensor(i)),
        lambda X, i: ({"a": X[i], "b": X[i]}, np.array(i)),
    ],
)
def test_a_batched_getitems_is_asked_once_a_batch(make):
    dataset = Batched(7, make)
    for X, y, _, index, _, _ in LoaderBatches(dataset, 3, generator=generator(), shuffle=True):
        values = X["b"] if isinstance(X, dict) else X
        assert values[:, 0].tolist() == y.tolist() == index().tolist()
    assert dataset.asked == array_order(7, 3, seed=0)[0]


def test_getitems_works_through_a_subset():
    dataset = Batched(9, lambda X, i: (X[i], np.array(i)))
    assert numbers(LoaderBatches(Subset(dataset, [8, 2, 5]), 2)) == [[8, 2], [5]]


def test_writing_to_a_batch_changes_no_data():
    for make in (
        lambda X, i: (X[i[0] : i[-1] + 1], np.array(i)),
        lambda X, i: (torch.from_numpy(X)[i[0] : i[-1] + 1], np.array(i)),
    ):
        dataset = Batched(6, make)
        before = dataset.X.copy()
        for X, *_ in LoaderBatches(dataset, 3):
            X.zero_()
        np.testing.assert_array_equal(dataset.X, before)


def test_rows_of_a_read_only_file_are_stacked_without_a_warning(tmp_path):
    np.save(tmp_path / "X.npy", np.arange(8, dtype=np.float32).reshape(4, 2))
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    data = LoaderBatches(Rows(4, lambda i: (X[i], i)), 3)
    assert torch.cat([batch[0] for batch in data]).tolist() == X.tolist()


# ------------------------------------------------------------------ what items are


@pytest.mark.parametrize(
    ("item", "structure"),
    [
        (lambda i: (np.zeros((2, 4)), i), "tensor"),
        (lambda i: ({"a": np.zeros(2), "b": i}, i), {"a", "b"}),
        (lambda i: ((np.zeros(2), torch.zeros(3)), i), 2),
        (lambda i: ({"a": (np.zeros(2), np.zeros(2)), "b": {"c": np.zeros(1)}}, i), {"a", "b"}),
    ],
)
def test_inputs_may_be_nested(item, structure):
    X, y, weight, *_ = next(iter(LoaderBatches(Rows(5, item), 5)))
    if structure == "tensor":
        assert X.shape == (5, 2, 4)
    elif isinstance(structure, set):
        assert set(X) == structure
    else:
        assert isinstance(X, tuple)
        assert len(X) == structure
    assert y.tolist() == [0, 1, 2, 3, 4]
    assert weight is None


def test_items_may_have_weights_and_callables_place_them():
    data = LoaderBatches(
        Rows(4, lambda i: (np.full(2, i), i, 0.5 * i)),
        4,
        to_inputs=lambda X: X.float(),
        to_target=lambda y: y.int(),
        to_weight=lambda weight: weight.float(),
    )
    X, y, weight, *_ = next(iter(data))
    assert (X.dtype, y.dtype, weight.dtype) == (torch.float32, torch.int32, torch.float32)
    assert weight.tolist() == [0, 0.5, 1, 1.5]


def test_labels_may_be_strings():
    data = LoaderBatches(Rows(3, lambda i: (np.zeros(2), "ab"[i % 2])), 3)
    y = next(iter(data))[1]
    assert isinstance(y, np.ndarray)
    assert y.tolist() == ["a", "b", "a"]


@pytest.mark.parametrize(
    "item",
    [
        lambda i: np.full(3, i, np.float32),
        lambda i: (np.full(3, i, np.float32),),
        lambda i: (np.full(3, i, np.float32), "ignored"),
        lambda i: (np.full(3, i, np.float32), i, 1.0),
    ],
)
def test_predictions_take_inputs_alone_and_ignore_the_rest(item):
    assert numbers(LoaderBatches(Rows(3, item), 2, with_target=False)) == [[0, 1], [2]]


def test_predictions_take_a_bare_dict():
    X, *_ = next(iter(LoaderBatches(Rows(3, lambda i: {"a": np.zeros(2)}), 3, with_target=False)))
    assert X["a"].shape == (3, 2)


FIT, PREDICT = True, False
x = np.zeros(2)


@pytest.mark.parametrize(
    ("item", "with_target", "message"),
    [
        (lambda i: {"x": x, "label": i}, FIT, "Got a dict with keys 'x', 'label'"),
        (lambda i: (x, i, 1.0, 2), FIT, "Got a list of 4"),
        (lambda i: (x, i, 1.0, 2), PREDICT, "Got a list of 4"),
        (lambda i: (x,), FIT, r"must yield \(X, y\).* Got a list of 1"),
        (lambda i: x, FIT, r"Got a tensor of shape \(4, 2\)"),
        (lambda i: "text", FIT, "Got a list of 4 strings"),
        (lambda i: "text", PREDICT, "Got a list of 4 strings"),
        (lambda i: ("text", i), FIT, "X in a batch.* Got a tuple of 4 strings"),
        (lambda i: ({"a": "text"}, i), FIT, r"X\['a'\] in a batch.* Got a list of 4 strings"),
        (lambda i: ({1: x}, i), FIT, "names of forward's arguments"),
        (lambda i: ({}, i), FIT, r"keys \(none\)"),
        (lambda i: (1.5, i), FIT, "Got single numbers"),
        (lambda i: 3, PREDICT, "Got single numbers"),
        (lambda i: (None, i), FIT, "cannot be stacked"),
        (lambda i: (x, None), FIT, "cannot be stacked"),
        (lambda i: (object(), i), FIT, "cannot be stacked"),
        (lambda i: (np.array(["a"]), i), FIT, "cannot be stacked"),
        (lambda i: (np.zeros(2 + i), i), FIT, "see PadCollate"),
        (lambda i: (x, i) if i else (x,), FIT, "another a tuple of 2"),
        (lambda i: ({"a": x} if i else {"b": x}, i), FIT, "cannot be stacked"),
        (lambda i: (x, i, np.ones(2)), FIT, r"one number as sample_weight.* \(4, 2\)"),
    ],
)
def test_items_of_a_wrong_structure_are_named(item, with_target, message):
    with pytest.raises(ParameterError, match=message):
        next(iter(LoaderBatches(Rows(4, item), 4, with_target=with_target)))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((torch.zeros(5, 2), torch.zeros(4)), "X has 5, y has 4"),
        ((torch.zeros(5, 2), torch.zeros(5), torch.zeros(3)), "sample_weight has 3"),
        (({"a": torch.zeros(5, 2), "b": torch.zeros(4)}, torch.zeros(5)), r"X\['b'\] has 4"),
        ((torch.zeros(5, 2), 3), r"y in a batch.* class int \(3\)"),
        ((torch.zeros(5, 2), torch.tensor(3)), r"y in a batch.* of shape \(\)"),
        ((torch.tensor(1.0), torch.zeros(5)), r"X in a batch.* of shape \(\)"),
        ((np.zeros((5, 2), "U1"), torch.zeros(5)), "dtype <U1"),
        ((torch.zeros(5, 2), None), "Got a tuple of 2"),
        (None, "Got None"),
    ],
)
def test_ready_batches_of_a_wrong_structure_are_named(batch, message):
    with pytest.raises(ParameterError, match=message):
        read_batch(batch)


def test_a_structure_that_changes_between_batches_is_an_error():
    def item(i):
        return ({"a": np.zeros(2)} if i < 3 else {"a": np.zeros(2), "b": np.zeros(2)}), i

    with pytest.raises(ParameterError, match=r"the first had X\['a'\].*a later one .*X\['b'\]"):
        list(LoaderBatches(Rows(6, item), 3))
    weights = Rows(6, lambda i: (np.zeros(2), i) if i < 3 else (np.zeros(2), i, 1.0))
    with pytest.raises(ParameterError, match=r"a later one .*sample_weight"):
        list(LoaderBatches(weights, 3))


# --------------------------------------------------------------- errors of the user


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_in_a_dataset_keeps_its_type_and_tells_the_rows(num_workers):
    data = LoaderBatches(Failing(9), 3, options={"num_workers": num_workers}, name="X_val")
    with pytest.raises(OSError, match="no such picture") as raised:
        list(data)
    assert raised.value.__notes__ == ["Raised while batch 2 of X_val was read, rows [3, 4, 5]."]


def test_an_item_that_ends_the_data_too_early_is_an_error():
    def item(i):
        if i == 4:
            raise StopIteration
        return np.zeros(2), i

    with pytest.raises(ParameterError, match="after 2 of 4 batches"):
        list(LoaderBatches(Rows(8, item), 2))


def test_the_global_generator_is_put_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(OSError, match="picture"):
        list(LoaderBatches(Failing(9), 3))
    assert torch.equal(torch.get_rng_state(), before)


# ------------------------------------------------------------------------- targets


class WithTargets(Rows):
    """As torchvision's: the targets are there, and the items read are counted."""

    def __init__(self, n, targets=None, attribute="targets"):
        super().__init__(n)
        self.read = 0
        setattr(self, attribute, list(range(100, 100 + n)) if targets is None else targets)

    def __getitem__(self, i):
        self.read += 1
        return super().__getitem__(i)


@pytest.mark.parametrize("attribute", ["targets", "labels"])
def test_targets_are_taken_from_an_attribute_through_subsets_and_concatenations(attribute):
    dataset = WithTargets(50, attribute=attribute)
    assert collect_targets(dataset, 8).tolist() == list(range(100, 150))
    both = ConcatDataset([Subset(dataset, [4, 2]), TensorDataset(torch.zeros(2, 3), torch.ones(2))])
    assert collect_targets(both, 8).tolist() == [104, 102, 1, 1]
    assert collect_targets(DataLoader(dataset, shuffle=True), 8).tolist() == list(range(100, 150))
    assert dataset.read <= 9


@pytest.mark.parametrize(
    "targets", [[0] * 50, list(range(100, 149)), "x" * 50, [[1], [1, 2]] * 25, torch.zeros(50)]
)
def test_an_attribute_that_is_not_the_items_targets_is_not_believed(targets):
    dataset = WithTargets(50, targets)
    assert collect_targets(dataset, 8).tolist() == list(range(100, 150))


def test_targets_that_a_collate_function_makes_are_read():
    def collate(items):
        X, y = collate_items(items)
        return X, 2 * y

    dataset = WithTargets(5)
    assert collect_targets(dataset, 2, {"collate_fn": collate}).tolist() == [
        200, 202, 204, 206, 208,
    ]  # fmt: skip
    assert sorted(collect_targets(DataLoader(dataset, collate_fn=collate), 2)) == [
        200, 202, 204, 206, 208,
    ]  # fmt: skip


def test_targets_of_all_else_are_read_in_one_pass():
    assert collect_targets(Rows(7), 3).tolist() == list(range(100, 107))
    assert collect_targets(Stream(7), 3).tolist() == list(range(7))
    options = {"sampler": RandomSampler(Rows(7)), "num_workers": 1}
    assert collect_targets(Rows(7), 3, options).tolist() == list(range(100, 107))
    strings = Rows(3, lambda i: (np.zeros(1), "ab"[i % 2] * (i + 1)))
    assert collect_targets(strings, 1).tolist() == ["a", "bb", "aaa"]
    stacked = StackDataset(TensorDataset(torch.zeros(3, 2)), torch.tensor([3, 1, 2]))
    with pytest.raises(ParameterError, match=r"must yield \(X, y\)"):
        collect_targets(Rows(3, lambda i: np.zeros(2)), 2)
    assert collect_targets(stacked, 2).tolist() == [3, 1, 2]


def test_collecting_targets_leaves_the_global_generator():
    before = torch.get_rng_state()
    dataset = Noisy(6)
    dataset.targets = list(range(6))
    assert collect_targets(dataset, 2).tolist() == collect_targets(Noisy(6), 2).tolist()
    collect_targets(DataLoader(Noisy(6), shuffle=True), 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_targets_of_different_shapes_are_named():
    with pytest.raises(ParameterError, match="differ in shape"):
        collect_targets(Rows(4, lambda i: (np.zeros(2), np.zeros(1 + i // 2))), 2)


def test_the_first_batch_comes_in_the_order_of_the_data_without_workers():
    before = torch.get_rng_state()
    options = {"num_workers": 2, "persistent_workers": True, "shuffle": True, "batch_size": 5}
    X, y, weight = first_batch(Rows(9), 3, options)
    assert X[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert y.tolist() == [100, 101, 102, 103, 104]
    assert weight is None
    assert len(first_batch(Stream(9), 3)[0]) == 3
    X, y, _ = first_batch(Rows(4, lambda i: np.zeros(2)), 3, with_target=False)
    assert X.shape == (3, 2)
    assert y is None
    assert first_batch(DataLoader(Rows(4), batch_size=2, shuffle=True), 9)[0].shape == (2, 3)
    assert torch.equal(torch.get_rng_state(), before)
