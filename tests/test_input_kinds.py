"""Every kind of input trains and predicts as the same data do as a plain array."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy import sparse
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from skorchlike import NeuralNetClassifier, NeuralNetRegressor

N, P = 90, 4
RNG = np.random.default_rng(0)
X = (RNG.integers(-4, 5, size=(N, P)) * [1, 0.5, 2, 1]).astype(np.float64)
X[RNG.random(X.shape) < 0.3] = 0.0  # worth a sparse matrix
LABELS = np.array(["a", "b", "c"])[np.digitize(X[:, 0] + X[:, 1], [-1.0, 1.0])]
NUMBERS = X @ [1.0, -2.0, 0.5, 0.0] + 1
NAMES = ["p", "q", "r", "s"]


class Linear(nn.Linear):
    """A module of one's own, for one input."""

    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features, dtype=torch.float64)


class Two(nn.Module):
    """A module of one's own, for two inputs by name or in their order."""

    def __init__(self, n_outputs):
        super().__init__()
        self.linear = nn.Linear(P, n_outputs, dtype=torch.float64)

    def forward(self, left, right):
        return self.linear(torch.cat([left, right], dim=1))


class Items(Dataset):
    """One item at a time."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], self.y[i]


class Batches(Items):
    """A ready batch at a time."""

    def __getitems__(self, rows):
        return self.X[rows], self.y[rows]


class Stream(IterableDataset):
    """One item after another, without a length."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __iter__(self):
        yield from zip(self.X, self.y, strict=True)


class DictItems(Items):
    """Several inputs by name."""

    def __getitem__(self, i):
        return {"left": self.X[i, :2], "right": self.X[i, 2:]}, self.y[i]


def memmap(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


ARRAYS = {
    "list": lambda X, folder: X.tolist(),
    "fortran": lambda X, folder: np.asfortranarray(X),
    "read-only": lambda X, folder: np.frombuffer(X.tobytes()).reshape(X.shape),
    "memory-mapped": memmap,
    "tensor": lambda X, folder: torch.from_numpy(X),
    "pandas": lambda X, folder: pd.DataFrame(X, columns=NAMES),
    "pandas-numbered-columns": lambda X, folder: pd.DataFrame(X),
    "pandas-other-index": lambda X, folder: pd.DataFrame(X, columns=NAMES, index=range(N, 0, -1)),
    "polars": lambda X, folder: pl.DataFrame(X, schema=NAMES),
    "polars-lazy": lambda X, folder: pl.LazyFrame(X, schema=NAMES),
    "pyarrow": lambda X, folder: pa.table(dict(zip(NAMES, X.T, strict=True))),
    "objects-of-pandas": lambda X, folder: pd.DataFrame(X, columns=NAMES).astype(object),
}
SPARSE = {
    "csr-array": sparse.csr_array,
    "csr-matrix": sparse.csr_matrix,
    "csc-array": sparse.csc_array,
    "coo-array": sparse.coo_array,
    "tensor-csr": lambda X: torch.from_numpy(X).to_sparse_csr(),
    "tensor-coo": lambda X: torch.from_numpy(X).to_sparse_coo(),
}
DATASETS = {
    "tensor-dataset": lambda X, y: TensorDataset(torch.from_numpy(X), torch.as_tensor(y)),
    "dataset": Items,
    "dataset-of-batches": Batches,
    "stream": Stream,
    "loader": lambda X, y: DataLoader(Items(X, y), batch_size=30),
    "loader-of-stream": lambda X, y: DataLoader(Stream(X, y), batch_size=30),
}
ESTIMATORS = {
    "classifier": (NeuralNetClassifier, LABELS),
    "regressor": (NeuralNetRegressor, NUMBERS),
}
MODULES = ["own", "mlp", "resnet", "ft_transformer", "tabm", "realmlp"]
SMALL = {
    "own": {"module": Linear},
    "mlp": {"module__hidden_layer_sizes": (8,)},
    "resnet": {"module": "resnet", "module__d_block": 8},
    "ft_transformer": {"module": "ft_transformer", "module__d_block": 8, "module__n_heads": 2},
    "tabm": {"module": "tabm", "module__n_members": 3, "module__d_block": 8},
    "realmlp": {"module": "realmlp", "module__hidden_layer_sizes": (8,)},
}
# SGD: Adam makes whole steps of what rounding leaves of a gradient that is 0 (before a batch norm)
PARAMS = {
    "max_epochs": 3,
    "batch_size": 30,
    "optimizer": "sgd",
    "lr": 0.01,
    "random_state": 0,
    "shuffle": False,
}

estimators = pytest.mark.parametrize("estimator", ESTIMATORS)
modules = pytest.mark.parametrize("module", MODULES)
built_in_modules = pytest.mark.parametrize("module", MODULES[1:])


def make(estimator, module="own", **params):
    cls, y = ESTIMATORS[estimator]
    return cls(**{**PARAMS, **SMALL[module], **params}), y


def outputs(net, X):
    return net.predict_proba(X) if hasattr(net, "predict_proba") else net.predict(X)


@estimators
@modules
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_and_frames_of_numbers_train_as_a_plain_array(kind, estimator, module, tmp_path):
    net, y = make(estimator, module, validation_fraction=0.2)
    other = ARRAYS[kind](X, tmp_path)
    expected = outputs(net.fit(X, y), X)
    history = net.history_.drop(columns="duration")
    assert np.array_equal(outputs(net.fit(other, y), other), expected)
    pd.testing.assert_frame_equal(net.history_.drop(columns="duration"), history, check_exact=True)


@estimators
@modules
@pytest.mark.parametrize("kind", SPARSE)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")  # torch's, of its own
def test_sparse_rows_train_as_dense_ones(kind, estimator, module):
    net, y = make(estimator, module, numeric_transform=None)
    other = SPARSE[kind](X)
    expected = outputs(net.fit(X, y), X)
    assert np.array_equal(outputs(net.fit(other, y), other), expected)
    assert net.n_features_in_ == P


@estimators
@modules
@pytest.mark.parametrize("kind", DATASETS)
def test_datasets_and_loaders_train_as_arrays(kind, estimator, module):
    # labels as numbers: items are collated to tensors
    net, y = make(estimator, module)
    y = np.searchsorted(np.unique(y), y) if estimator == "classifier" else y
    expected = outputs(net.fit(X, y), X)
    data = DATASETS[kind](X, y)
    trained = outputs(net.fit(data), data)
    # what a built-in module learns of the numbers comes batch by batch: the sums differ in bits
    np.testing.assert_allclose(trained, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(outputs(net, X), expected, rtol=1e-9, atol=1e-12)


@estimators
@pytest.mark.parametrize("kind", ["dict", "dict-of-tensors", "tuple", "dict-with-sparse"])
def test_several_inputs_train_as_one_array(kind, estimator):
    net, y = make(estimator)
    expected = outputs(net.fit(X, y), X)
    left, right = X[:, :2], X[:, 2:]
    several = {
        "dict": {"left": left, "right": right},
        "dict-of-tensors": {"right": torch.from_numpy(right), "left": torch.from_numpy(left)},
        "tuple": (left, right),
        "dict-with-sparse": {"left": left, "right": sparse.csr_array(right)},
    }[kind]
    net.set_params(module=Two)
    net.fit(several, y)
    np.testing.assert_allclose(outputs(net, several), expected, rtol=1e-12)


@estimators
def test_a_dataset_of_several_inputs_trains_as_one_array(estimator):
    net, y = make(estimator)
    y = np.searchsorted(np.unique(y), y) if estimator == "classifier" else y
    expected = outputs(net.fit(X, y), X)
    data = DictItems(X, y)
    np.testing.assert_allclose(outputs(net.set_params(module=Two).fit(data), data), expected)


@estimators
def test_arrays_go_through_a_loader_where_its_arguments_are_said(estimator):
    net, y = make(estimator, "mlp", shuffle=True, validation_fraction=0.2)
    expected = outputs(net.fit(X, y), X)
    net.set_params(train_loader__num_workers=2)
    assert np.array_equal(outputs(net.fit(X, y), X), expected)


@estimators
@modules
def test_holes_in_an_array_are_those_of_a_frame(estimator, module):
    if module == "own":
        net, y = make(estimator, module)
        holed = np.where(X == 2, np.nan, X)
        with pytest.raises(ValueError, match="NaN"):
            net.fit(holed, y)
        return
    net, y = make(estimator, module)
    holed = np.where(X == 2, np.nan, X)
    frame = pd.DataFrame(holed, columns=NAMES)
    expected = outputs(net.fit(holed, y), holed)
    assert np.isfinite(expected).all()
    assert np.array_equal(outputs(net.fit(frame, y), frame), expected)
    tensor = torch.from_numpy(holed)
    assert np.array_equal(outputs(net.fit(tensor, y), tensor), expected)


def mixed(n=N):
    """Return a frame with columns of every kind."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "number": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
            "count": rng.integers(0, 9, n),
            "flag": rng.random(n) < 0.5,
            "city": rng.choice(["Rome", "Oslo", None], n),
            "size": pd.Categorical(rng.choice(["s", "m", "l"], n), ["s", "m", "l"], ordered=True),
            "when": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(rng.integers(0, 9999, n), unit="h"),
        }
    )
    return frame


@estimators
@built_in_modules
def test_a_mixed_frame_trains_as_its_arrays_do(estimator, module):
    """The columns, encoded by hand by pandas and scikit-learn, give the same predictions."""
    net, y = make(estimator, module, numeric_transform=None)
    frame = mixed().drop(columns="when")
    city = frame["city"].map({"Oslo": 1, "Rome": 2}).fillna(3)
    size = frame["size"].astype(str).map({"l": 1, "m": 2, "s": 3})
    number = frame["number"].fillna(frame["number"].mean())
    by_hand = {
        "numeric": np.column_stack(
            [number, frame["count"], frame["flag"], frame["number"].isna()]
        ).astype(float),
        "categorical": np.column_stack([city, size]).astype(np.int64),
    }
    expected = outputs(net.fit(frame, y), frame)
    net.set_params(module__cat_cardinalities=[4, 4]).fit(by_hand, y)
    np.testing.assert_allclose(outputs(net, by_hand), expected, rtol=1e-9, atol=1e-12)


@estimators
def test_a_mixed_frame_reaches_ones_own_module_as_numeric_and_categorical(estimator):
    class Embeds(nn.Module):
        def __init__(self, n_features_in, n_outputs, cat_cardinalities):
            super().__init__()
            self.embeddings = nn.ModuleList(nn.Embedding(n, 2) for n in cat_cardinalities)
            self.linear = nn.Linear(n_features_in + 2 * len(cat_cardinalities), n_outputs)

        def forward(self, numeric, categorical):
            assert numeric.dtype is torch.float32
            assert categorical.dtype is torch.int64
            embedded = [e(c) for e, c in zip(self.embeddings, categorical.T, strict=True)]
            return self.linear(torch.cat([numeric, *embedded], dim=1))

    net, y = make(estimator)
    net.set_params(module=Embeds, numeric_transform="standard")
    frame = mixed()
    found = outputs(net.fit(frame, y), frame)
    assert np.isfinite(found).all()
    assert len(net.model_.module_.embeddings) == 2


@estimators
@built_in_modules
def test_predictions_of_a_mixed_frame_depend_neither_on_order_nor_on_the_batch(estimator, module):
    net, y = make(estimator, module)
    frame = mixed()
    expected = outputs(net.fit(frame, y), frame)
    order = RNG.permutation(N)
    np.testing.assert_allclose(outputs(net, frame.iloc[order]), expected[order], rtol=1e-9)
    assert np.array_equal(outputs(net, frame[frame.columns[::-1]]), expected)
    for size in (1, 7, -1):
        net.set_params(predict_batch_size=size)
        np.testing.assert_allclose(outputs(net, frame), expected, rtol=1e-9, atol=1e-12)


def test_images_train_as_their_pixels_do():
    y = np.arange(N) % 3
    images = RNG.normal(size=(N, 2, 3, 4)).astype(np.float32)
    params = {**PARAMS, "module__in_features": 24, "module__out_features": 3}
    flat = NeuralNetClassifier(nn.Linear, **params).fit(images.reshape(N, -1), y)

    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(24, 3)

        def forward(self, images):
            return self.linear(images.flatten(1))

    net = NeuralNetClassifier(Pixels, **PARAMS).fit(images, y)
    expected = flat.predict_proba(images.reshape(N, -1))
    assert np.array_equal(net.predict_proba(images), expected)
    assert np.array_equal(net.predict_proba(torch.from_numpy(images)), expected)


class InPlace(nn.Module):
    """Writes to its inputs, as a first ``nn.ReLU(inplace=True)`` does."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(P, 3, dtype=torch.float64)

    def init_from_data(self, X):
        X.zero_()

    def forward(self, X):
        return self.linear(X.mul_(1.01).relu_())


class Stored(IterableDataset):
    """Batches that are kept, or filled into one buffer again and again."""

    def __init__(self, X, y, reuse=False):
        self.batches = [(X[i : i + 30], y[i : i + 30]) for i in range(0, N, 30)]
        self.reuse = reuse

    def __iter__(self):
        buffer = [torch.empty_like(part) for part in self.batches[0]]
        for batch in self.batches:
            if not self.reuse:
                yield batch
                continue
            for place, part in zip(buffer, batch, strict=True):
                place.copy_(part)
            yield tuple(buffer)


def codes_of(labels):
    return np.searchsorted(np.unique(labels), labels)


KEPT = {
    "array": lambda X, y: (X, y),
    "fortran": lambda X, y: (np.asfortranarray(X), y),
    "tensor": lambda X, y: (torch.from_numpy(X), torch.from_numpy(y)),
    "tensor-dataset": lambda X, y: (TensorDataset(torch.from_numpy(X), torch.from_numpy(y)), None),
    "items": lambda X, y: (Items(torch.from_numpy(X), torch.from_numpy(y)), None),
    "batches": lambda X, y: (Batches(torch.from_numpy(X), torch.from_numpy(y)), None),
    "stored-batches": lambda X, y: (
        DataLoader(Stored(torch.from_numpy(X), torch.from_numpy(y)), batch_size=None),
        None,
    ),
    "stored-arrays": lambda X, y: (
        DataLoader([(X[i : i + 30], y[i : i + 30]) for i in range(0, N, 30)], batch_size=None),
        None,
    ),
}


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("batch_size", [30, N])
def test_a_module_that_writes_to_its_input_changes_no_data(kind, batch_size):
    given, labels = X.copy(), codes_of(LABELS)
    data, y = KEPT[kind](given, labels)
    net = NeuralNetClassifier(InPlace, max_epochs=2, batch_size=batch_size, random_state=0)
    net.fit(data, y).predict(data)
    assert np.array_equal(given, X)
    assert np.array_equal(labels, codes_of(LABELS))


def test_a_source_may_use_its_memory_anew_for_each_batch():
    tensors = torch.from_numpy(X), torch.from_numpy(codes_of(LABELS))
    loaders = [DataLoader(Stored(*tensors, reuse), batch_size=None) for reuse in (False, True)]
    net = NeuralNetClassifier(Linear, **PARAMS)
    one, other = (net.fit(loader).predict_proba(loader) for loader in loaders)
    assert np.array_equal(one, other)


class Weighted(Items):
    """With a weight for each item."""

    def __init__(self, X, y, w):
        super().__init__(X, y)
        self.w = w

    def __getitem__(self, i):
        return self.X[i], self.y[i], self.w[i]


@pytest.mark.parametrize("kind", ["dataset", "loader"])
@estimators
def test_weights_that_a_dataset_holds_count_as_those_of_arrays(kind, estimator):
    special = {"classifier": {"class_weight": "balanced"}, "regressor": {}}[estimator]
    net, y = make(estimator, "mlp", **special)
    y = codes_of(y) if estimator == "classifier" else y
    w = RNG.integers(1, 9, N).astype(float)
    expected = outputs(net.fit(X, y, sample_weight=w), X)
    data = Weighted(X, y, w)
    data = data if kind == "dataset" else DataLoader(data, batch_size=30)
    np.testing.assert_allclose(outputs(net.fit(data), X), expected, rtol=1e-9, atol=1e-12)
    score = net.score(X, y, sample_weight=w)
    assert net.score(data) == pytest.approx(score, rel=1e-9)


def test_a_stream_of_unknown_length_goes_with_schedules_that_need_no_total():
    data = Stream(X, codes_of(LABELS))
    net = NeuralNetClassifier(
        Linear, **PARAMS, callbacks=["lr_scheduler"], callbacks__lr_scheduler__policy="exponential",
        callbacks__lr_scheduler__policy__gamma=0.5,
    )  # fmt: skip
    assert net.fit(data).history_["lr"].iloc[-1] == pytest.approx(0.01 * 0.25)
    net.set_params(
        callbacks__lr_scheduler__policy="one_cycle", callbacks__lr_scheduler__unit="batch"
    )
    with pytest.raises(ValueError, match="total"):
        net.fit(data)
