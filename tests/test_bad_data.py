"""Bad data of every container: named errors before training, and nothing left behind.

A case is an estimator, what is done with it, and pieces (regular expressions) each of which
must stand in the message or in its notes.
"""

import copy
import pickle
import re
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
)

from skorchlike import Callback, NeuralNetClassifier, NeuralNetRegressor

# scikit-learn's warning about an array after a frame is right, and no error
pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names")

N = 24
RNG = np.random.RandomState(0)
X = RNG.randn(N, 4)
Y = np.arange(N) % 3
T = RNG.randn(N)
W = np.ones(N)
IMAGES = RNG.randn(N, 3, 4, 4)
NUMBERS = pd.DataFrame(X, columns=list("abcd"))
MIXED = NUMBERS.assign(city=["Ulm", "Bonn", "Rom"] * 8)
X32 = torch.tensor(X, dtype=torch.float32)
PAIRS = list(zip(X32, Y.tolist(), strict=True))
BATCHES = []


class CountsBatches(Callback):
    passive = True

    def on_batch_end(self, ctx):
        BATCHES.append(ctx.step)


class Own(nn.Module):
    """A module of one's own, for one input."""

    def __init__(self, n_outputs):
        super().__init__()
        self.linear = nn.Linear(4, n_outputs)

    def forward(self, X):
        return self.linear(X.reshape(len(X), -1)[:, :4])


class Two(Own):
    """A module of one's own, for two inputs."""

    def forward(self, left, right):
        return self.linear(left) + self.linear(right)


class OnlyNumbers(Own):
    def forward(self, numeric):
        return self.linear(numeric)


class Items(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class NoLength(Dataset):
    def __getitem__(self, i):
        return PAIRS[i]


class Stream(IterableDataset):
    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)


class Once(IterableDataset):
    """Exhausted after one pass, as a stream around a generator is."""

    def __init__(self, items):
        self.generator = iter(list(items))

    def __iter__(self):
        return self.generator


class Changes(IterableDataset):
    """Batches of two, the last of another kind."""

    def __init__(self, last):
        self.last = last

    def __iter__(self):
        for _ in range(3):
            yield X32[:2], torch.tensor([0.5, 1.0])
        yield self.last


class Unsteady(BaseEstimator):
    """A transformer that cannot be fitted to these data."""

    def fit(self, X, y=None):
        raise ZeroDivisionError("no scale")

    def transform(self, X):
        return X


def unequal_parts(items):
    return torch.zeros(4, 4), torch.zeros(3, dtype=torch.int64)


def text(items):
    return "text"


def makes_a_number(dataset, **options):
    return 3


def ignores_the_sampler(dataset, batch_sampler, **options):
    return DataLoader(dataset, batch_size=5, **options)


def classifier(**params):
    return NeuralNetClassifier(
        **{"max_epochs": 2, "random_state": 0, "callbacks": {"counts": CountsBatches()}, **params}
    )


def own(**params):
    return classifier(module=Own, **params)


def two(**params):
    return classifier(module=Two, **params)


def regressor(**params):
    return NeuralNetRegressor(
        **{"max_epochs": 2, "random_state": 0, "callbacks": {"counts": CountsBatches()}, **params}
    )


def holed(array, value=np.nan, at=61):
    array = np.array(array, dtype=float)
    array.flat[at] = value
    return array


def items(X, y=Y):
    return list(zip(X, y, strict=True))


def in_file(array):
    with tempfile.NamedTemporaryFile() as file:
        mapped = np.memmap(file, array.dtype, "w+", shape=array.shape)
    mapped[:] = array
    return mapped


class Case(NamedTuple):
    make: Callable[[], Any]
    do: Callable[[Any], Any]
    pieces: tuple[str, ...]
    late: bool  # whether it can be known only once training has begun


CASES: dict[str, Case] = {}


def case(id, make, do, *pieces, late=False):
    assert id not in CASES, id
    CASES[id] = Case(make, do, pieces, late)


def fits(id, make, *data, says, late=False, **more):
    case(id, make, lambda est: est.fit(*data, **more), *says, late=late)


# --------------------------------------------------------------------- shapes

for name, make in {"built-in": classifier, "own": own}.items():
    fits(f"swapped-{name}", make, Y, X, says=("X", "y", r"\(24,\)", "24, 4", "swapped"))
    fits(f"transposed-{name}", make, X.T, Y, says=("X and y", "4, 24", r"X\.T"))
    fits(f"y-longer-{name}", make, X[:-1], Y, says=("X and y", "23, 24"))
fits("swapped-tensors", classifier, torch.tensor(Y), X32, says=("X", "y", "swapped"))
fits("swapped-series", classifier, pd.Series(Y), NUMBERS, says=("X", "y", "swapped"))
fits("X-1d", classifier, X[:, 0], Y, says=("1D array", "[Rr]eshape"))
fits("X-3d", classifier, X[..., None], Y, says=("X", "dim 3", "24, 4, 1", "len.X., -1", "module"))
fits("images-built-in", classifier, IMAGES, Y, says=("X", "24, 3, 4, 4", "[Rr]eshape", "`?module"))
fits(
    "images-built-in-dataset",
    classifier,
    Items(items(IMAGES)),
    says=("X", "3, 4, 4", "[Rr]eshape", "module"),
)
fits("list-of-inputs", two, [X, X], Y, says=("X and y", "2, 24", "tuple"))
fits("list-of-records", classifier, [{"a": 1.0}] * N, Y, says=("X", "dict", "DataFrame"))
fits("path", classifier, "data.csv", Y, says=("X", "data.csv", "DataFrame", "Got a str"))
fits("generator", classifier, (row for row in X), Y, says=("X", "Got a generator"))
fits("module-as-X", classifier, nn.Linear(1, 1), Y, says=("X", "Expected", "Got a Linear"))
for kind, empty in {
    "array": X[:0],
    "tensor": X32[:0],
    "sparse": scipy.sparse.csr_matrix((0, 4)),
    "pandas": MIXED[:0],
    "polars": pl.DataFrame(X)[:0],
    "dict": {"left": X[:0], "right": X[:0]},
    "tuple": (X[:0], X[:0]),
}.items():
    fits(f"no-rows-{kind}", own, empty, Y[:0], says=("X|array", r"0 sample\(s\)", "minimum of 1"))
for kind, empty in {
    "array": X[:, :0],
    "tensor": X32[:, :0],
    "sparse": scipy.sparse.csr_matrix((N, 0)),
    "pandas": NUMBERS[[]],
    "dict": {"left": X[:, :0], "right": X},
}.items():
    fits(f"no-columns-{kind}", own, empty, Y, says=("X|array", r"0 feature\(s\)", "minimum of 1"))

# ---------------------------------------------------- objects that are no numbers

for kind, column in {
    "dict": [{}] * N,
    "list": [[1, 2]] * N,
    "set": [{1}] * N,
    "tuple": [(1, 2)] * N,
    "ndarray": [np.zeros(2)] * N,
    "Tensor": [torch.zeros(2)] * N,
}.items():
    frame = NUMBERS.assign(o=pd.Series(column, dtype=object))
    fits(f"column-of-{kind}", classifier, frame, Y, says=("X: column 'o'", kind, "Spread", "drop"))
for kind, column, remedy in [
    ("str, then int", ["a", 1] * 12, "all numbers or all strings"),
    ("bytes", [b"a"] * N, "Decode"),
    ("complex", X[:, 0] + 1j, "real and imaginary"),
    ("interval", pd.interval_range(0, N), "strings"),
    ("period", pd.period_range("2020-01", periods=N, freq="M"), "to_timestamp"),
    ("of type object", [object()] * N, "all numbers or all strings"),
]:
    frame = NUMBERS.assign(o=column)
    fits(f"column-{kind}", classifier, frame, Y, says=("X: column 'o'", kind, "Expected", remedy))
fits("polars-lists", classifier, pl.DataFrame({"a": [[1]] * N}), Y, says=("'a'", "List", "Spread"))
fits("polars-binary", classifier, pl.DataFrame({"a": [b"x"] * N}), Y, says=("'a'", "Binary", "Dec"))
for kind, array, found in [
    ("dicts", np.array([[{}] * 4] * N), "dict"),
    ("strings", np.array([["a"] * 4] * N), "string"),
    ("bytes", np.array([[b"a"] * 4] * N), "b'a'"),
    ("mixed", np.array([["a", 1, 2, 3]] * N, dtype=object), "'a'"),
]:
    fits(f"array-of-{kind}", classifier, array, Y, says=("X: ", found, r"pandas\.DataFrame"))
for kind, text_rows in {
    "list": ["a b", "b c"] * 12,
    "array": np.array(["a b", "b c"] * 12),
    "series": pd.Series(["a b", "b c"] * 12),
    "polars": pl.Series(["a b", "b c"] * 12),
}.items():
    for make in (classifier, own):
        says = ("X: ", "strings, one a row", "TfidfVectorizer", r"pandas\.DataFrame")
        fits(f"texts-{kind}-{make.__name__}", make, text_rows, Y, says=says)
for kind, rows in {
    "arrays": [np.zeros(3 + i % 2) for i in range(N)],
    "tensors": [torch.zeros(3 + i % 2) for i in range(N)],
    "lists": [[0.0] * (3 + i % 2) for i in range(N)],
    "steps": [np.zeros((3 + i % 2, 2)) for i in range(N)],
    "objects": np.array([np.zeros(3 + i % 2) for i in range(N)], dtype=object),
}.items():
    fits(f"sequences-of-{kind}", own, rows, Y, says=("X: ", "different lengths", "pad_sequences"))
fits("items-of-a-dataset", own, PAIRS, Y, says=("X: ", "tuples", "cannot cut a Dataset", "Subset"))
for kind, array in {
    "dates": np.zeros((N, 4), "datetime64[D]"),
    "durations": np.zeros((N, 4), "timedelta64[D]"),
    "records": np.zeros(N, [("a", float), ("b", float)]),
}.items():
    fits(f"array-of-{kind}", classifier, array, Y, says=("X", kind, r"pandas\.DataFrame"))
    parts = {"left": X, "right": array}
    fits(f"array-of-{kind}-in-dict", two, parts, Y, says=(r"X\['right'\]", kind, "numbers"))
MASKED = np.ma.masked_greater(X, 1)
fits("masked", classifier, MASKED, Y, says=("X", "17 masked", "filled"))
fits("masked-in-dict", two, {"left": MASKED, "right": X}, Y, says=(r"X\['left'\]", "filled"))
for kind, array in {
    "array": X + 1j,
    "sparse": scipy.sparse.csr_matrix(X + 1j),
    "tensor": X32 + 1j,
}.items():
    fits(f"complex-{kind}", own, array, Y, says=("Complex data not supported",))
    parts = {"left": array, "right": X}
    fits(f"complex-{kind}-in-dict", two, parts, Y, says=(r"X\['left'\]", "Complex"))

# --------------------------------------------------------- infinite and missing

HAS_INFINITY, HAS_NAN = holed(X, np.inf), holed(X)


def containers(array):
    tensor = torch.tensor(array, dtype=torch.float32)
    return {
        "array": (array, Y),
        "float32": (array.astype(np.float32), Y),
        "list": (array.tolist(), Y),
        "file": (in_file(array), Y),
        "tensor": (tensor, Y),
        "sparse": (scipy.sparse.csr_matrix(array), Y),
        "sparse-tensor": (tensor.to_sparse(), Y),
        "images": (np.repeat(array[..., None], 2, axis=2), Y),
        "tensor-dataset": (TensorDataset(tensor, torch.tensor(Y)),),
        "dataset": (Items(items(tensor)),),
        "stream": (Stream(items(tensor)),),
    }


for kind, data in containers(HAS_INFINITY).items():
    fits(f"infinity-own-{kind}", own, *data, says=("X", "infinity|NaN or inf"))
    if kind != "images":
        fits(f"infinity-{kind}", classifier, *data, says=("X", "infinity"))
for kind, data in containers(HAS_NAN).items():
    advice = "numeric_transform='standard'" if "sparse" not in kind and kind != "images" else ""
    fits(f"nan-own-{kind}", own, *data, says=("X", "NaN", "[Ii]mput|[Ff]ill", advice))
    if "sparse" in kind or kind == "images":
        continue
    fits(f"infinity-filling-{kind}", lambda: own(numeric_transform="standard"),
         *containers(HAS_INFINITY)[kind], says=("X", "infinity"))  # fmt: skip
INFINITE = pd.DataFrame(HAS_INFINITY, columns=list("abcd"))
fits("infinity-frame", classifier, INFINITE, Y, says=("X: column 'b'", "infinity", "[Rr]eplace"))
fits("infinity-frame-own", own, INFINITE, Y, says=("X: column 'b'", "infinity", "[Rr]eplace"))
for kind, parts in {
    "dict": {"left": HAS_NAN, "right": X},
    "dict-of-tensors": {"left": torch.tensor(HAS_NAN), "right": X},
    "dict-of-sparse": {"left": scipy.sparse.csr_matrix(HAS_NAN), "right": X},
}.items():
    fits(f"nan-{kind}", two, parts, Y, says=(r"X\['left'\]", "NaN"))
fits("nan-tuple", two, (X, HAS_NAN), Y, says=(r"X\[1\]", "NaN"))
fits(
    "nan-in-a-later-batch",
    own,
    DataLoader(Items(items(torch.tensor(HAS_NAN, dtype=torch.float32))), batch_size=5),
    says=("X", "batch", "NaN", "[Ff]ill"),
    late=True,
)
fits(
    "nan-in-a-dict-of-a-dataset",
    two,
    Items([({"left": x, "right": x}, y) for x, y in items(torch.tensor(HAS_NAN))]),
    says=(r"X\['left'\]", "batch", "NaN"),
)
for kind, data in {
    "array": (X * 1e300, Y),
    "frame": (NUMBERS * 1e300, Y),
    "dataset": (Items(items(X * 1e300)),),
}.items():
    fits(f"too-large-{kind}", own, *data, says=("X", "too large", "float32", "dtype='float64'"))

# ------------------------------------------------------------------------ y

for name, y, found in [
    ("string", "target", "the string 'target'"),
    ("dict", {"y": Y}, "dict"),
    ("set", set(range(N)), "set"),
    ("generator", (label for label in Y), r"generator.*list\(y\)"),
    ("dataset", Items(PAIRS), "Items.*goes in as X"),
    ("function", len, "builtin"),
]:
    fits(f"y-{name}", classifier, X, y, says=("y must be an array", found))
    val = {"X_val": X, "y_val": y}
    fits(f"y_val-{name}", classifier, X, Y, **val, says=("y_val must be an array", found[:6]))
fits("y-column-name", classifier, NUMBERS, "a", says=("y", "'a'", r"y=X\['a'\]", "without it"))
fits("y-floats", classifier, X, Y + 0.5, says=("continuous", "regression"))
fits("y-nan", classifier, X, holed(Y, at=3), says=("y", "NaN"))
fits("y-missing", classifier, X, pd.Series([None, *Y[1:].tolist()]), says=("NaN", "y|[Ii]nput"))
NAMES = np.array(["a", "b", "c"])[Y].tolist()
for kind, missing in {
    "list-nan": [float("nan"), *NAMES[1:]],
    "list-none": [None, *NAMES[1:]],
    "objects-nan": np.array([np.nan, *NAMES[1:]], dtype=object),
    "string": pd.Series([None, *NAMES[1:]], dtype="string"),
    "category": pd.Series([None, *NAMES[1:]], dtype="category"),
    "integers": pd.Series([None, *Y[1:]], dtype="Int64"),
    "dates": pd.Series([None, *[pd.Timestamp("2024-01-01")] * (N - 1)]),
    "frame": pd.DataFrame({"y": pd.Series([None, *NAMES[1:]], dtype="string")}),
    "polars": pl.Series([None, *NAMES[1:]]),
}.items():
    fits(f"labels-missing-{kind}", classifier, X, missing, says=("y", "NaN", "1 of 24", "row 0"))
    fits(f"labels-missing-{kind}-validation", classifier, X, NAMES, X_val=X, y_val=missing,
         says=("y_val", "NaN"))  # fmt: skip
fits("y-row", classifier, X, Y[None], says=("X and y", "24, 1"))
fits("y-sparse-row", classifier, X, scipy.sparse.csr_matrix(Y), says=("X and y", "24, 1"))
fits("y-two-columns", classifier, X, np.c_[Y, Y], says=("y", "24, 2", "0 and 1", "MultiOutput"))
fits("y-two-columns-of-floats", classifier, X, X[:, :2], says=("y", "24, 2", "row 0", "sum"))
fits("y-two-columns-of-strings", classifier, X, np.array([["a", "b"]] * N), says=("y", "24, 2"))
fits("y-ragged", classifier, X, [[1, 2], [1]] * 12, says=("inhomogeneous",))
fits(
    "y-too-large",
    regressor,
    X.astype("float32"),
    T * 1e300,
    says=("y", "too large", "target_transform"),
)
DATES = pd.Series(pd.date_range("2024-01-01", periods=N))
fits("y-dates", regressor, X, DATES, says=("y holds dates", "Timedelta"))
fits("y-durations", regressor, X, DATES - DATES[0], says=("y holds durations", "Timedelta"))
fits("y-strings", regressor, X, NAMES, says=("y must hold numbers", "NeuralNetClassifier"))
fits(
    "y-number-missing", regressor, X, [None, *T[1:]], says=("y", "NaN", "1 of 24 numbers", "row 0")
)
fits("y-nan-in-dataset", regressor, Items(items(X, holed(T, at=20))), says=("y", "NaN"))
fits("labels-of-a-dataset", classifier, Items(items(X, T)), says=("continuous", "regression"))
fits(
    "columns-of-y-change",
    regressor,
    DataLoader(Items([(x, torch.zeros(3 if x is not PAIRS[20][0] else 2)) for x, _ in PAIRS])),
    says=("targets", "differ in shape"),
)

# ------------------------------------------------------------------- loaders

for name, one, found in [
    ("no-target", X32[0], r"\(X, y\).*a tensor of shape"),
    ("dict", {"x": X32[0], "y": 1}, "dict with keys 'x', 'y'"),
    ("one", (X32[0],), "a list of 1"),
    ("four", (X32[0], 1, 1.0, 2), "a list of 4"),
    ("string", "text", "'t|str"),
    ("none", None, "NoneType"),
    ("target-none", (X32[0], None), "NoneType"),
    ("frame", (MIXED, 1), "DataFrame"),
    ("single-numbers", (1.0, 1), "at least one dimension.*reshape"),
    ("object", (object(), 1), "object"),
    ("nested-dict", ({"left": X32[0], "right": {"a": X32[0]}}, 1), r"X\['right'\].*dict"),
]:
    data = Items([one] * N)
    fits(f"dataset-of-{name}", own, data, says=("X", found))
    fits(f"stream-of-{name}", own, Stream([one] * N), says=("X", found))
    if name != "string":
        val = {"X_val": data}
        fits(
            f"validation-of-{name}", own, X, Y, **val, says=("X_val", found.replace(r"X\[", r"\["))
        )
RAGGED = Items([(torch.zeros(i + 1), 0) for i in range(N)])
fits(
    "dataset-ragged",
    own,
    RAGGED,
    says=("stacked", r"entry 1\. The first", r"rows \[0, 1", "PadCollate"),
)
fits(
    "dataset-of-several-kinds",
    own,
    Items([*PAIRS[:20], *({"a": 1} for _ in range(4))]),
    says=("stacked", "tuple of 2, another a dict with keys 'a'"),
)
fits("dataset-no-len", own, NoLength(), says=("X", "NoLength", "__len__", "IterableDataset"))
fits("dataset-empty", own, Items([]), says=("X", "empty"))
fits("stream-empty", own, Stream([]), says=("X", "no batch", "__iter__"))
fits("loader-empty", own, DataLoader(Items([])), says=("X", "no batch"))
fits("loader-drops-all", own, DataLoader(Items(PAIRS), 99, drop_last=True), says=("no b", "drop_"))
fits("validation-empty", own, X, Y, X_val=Stream([]), says=("X_val", "no batch"))
fits("tensors-without-y", own, TensorDataset(X32), says=("X", r"\(X, y\)", "list of 1"))
ONES = [(x, torch.zeros(1)) for x in X32]
SAYS = ("X", "no batch", "begin anew at each __iter__")
case("stream-once-classifier", classifier, lambda est: est.fit(Once(PAIRS)), *SAYS)
case("stream-once-regressor", regressor, lambda est: est.fit(Once(ONES)), *SAYS)
case(
    "stream-once-own",
    lambda: regressor(module=Own),
    lambda est: est.fit(Once(ONES)),
    "no batch in a later pass",
    *SAYS,
    late=True,
)
for name, last, found in [
    ("weights", (X32[:2], torch.zeros(2), torch.ones(2)), "sample_weight"),
    ("structure", ({"X": X32[:2]}, torch.zeros(2)), r"X\['X'\]"),
    ("dimensions", (X32[:2, :, None], torch.zeros(2)), "2, 4, 1"),
    ("no-target", X32[:2], r"\(X, y\)"),
    ("lengths", (X32[:2], torch.zeros(3)), "X has 2, y has 3"),
]:
    fits(
        f"loader-changes-{name}",
        lambda: regressor(module=Own),
        DataLoader(Changes(last), batch_size=None),
        says=("X", found),
        late=True,
    )
fits("loader-unequal-parts", own, DataLoader(Items(PAIRS), collate_fn=unequal_parts),
     says=("X has 4, y has 3", "same number"))  # fmt: skip
fits("items-without-y", own, PAIRS, says=("y is None", "tuples", "cannot cut a Dataset", "Subset"))
fits("loader-in-a-list", own, [DataLoader(Items(PAIRS))], says=("y is None", "DataLoader", "list"))
fits("iterator", own, iter([PAIRS]), says=("y is None", "DataLoader", "list_iterator"))
fits("dataset-and-y", own, Items(PAIRS), Y, says=(r"X \(of class Items\)", "Leave out y"))
fits("dataset-and-weights", own, Items(PAIRS), sample_weight=W, says=("Leave out sample_weight",))
VALID = {"X_val": Items(PAIRS), "y_val": Y}
fits("validation-dataset-and-y", own, X, Y, **VALID, says=("X_val", "Leave out y_val"))
fits("validation-no-y", own, Items(PAIRS), X_val=X, says=("X_val and y_val", "no y_val"))
UNSEEN = Items([(x, 7) for x in X32])
fits("validation-unseen-labels", own, Items(PAIRS), X_val=UNSEEN, says=("y_val", "7", "0, 1, 2"))
fits("unseen-labels", own, X, Y, X_val=X, y_val=Y + 1, says=("y_val", "3", "0, 1, 2"))
NARROW = Items([(torch.zeros(3), 0)] * 5)
fits("validation-dataset-narrow", own, X, Y, X_val=NARROW, says=("X_val", "3 feat", "4"))
NAMED = Items([({"left": x}, 0) for x in X32])
fits("validation-dataset-named", own, X, Y, X_val=NAMED, says=("X_val", "'left'", "one array"))
fits("validation-narrow", own, Items(PAIRS), X_val=X[:, :3], y_val=Y, says=("X_val", "3", "4"))
for name, data in {"stream": Stream(PAIRS), "loader": DataLoader(Items(PAIRS))}.items():
    fits(
        f"validation_fraction-{name}",
        lambda: own(validation_fraction=0.2),
        data,
        says=("`validation_fraction`", "split", "X_val", "None"),
    )
    fits(f"all-rows-{name}", lambda: own(batch_size=-1), data, says=("batch_size=-1", "number"))
fits("shuffled-stream", lambda: own(train_loader__shuffle=True), Stream(PAIRS),
     says=("stream", "train_loader__shuffle", "__iter__"))  # fmt: skip
fits("options-for-a-loader", lambda: own(train_loader__timeout=2), DataLoader(Items(PAIRS)),
     says=("X is a DataLoader", "train_loader__timeout", "Drop"))  # fmt: skip
for name, weight, found in [
    ("negative", -1.0, "-1 to -1"),
    ("nan", float("nan"), "nan"),
    ("infinite", float("inf"), "inf"),
    ("zero", 0.0, "all 0"),
]:
    data = Items([(x, y, weight) for x, y in PAIRS])
    for make in (own, classifier):
        case_id = f"weights-{name}-in-dataset-{make.__name__}"
        fits(case_id, make, data, says=("weights in a batch", "X", found, "finite"))
PAIRS_OF_WEIGHTS = Items([(x, y, torch.ones(2)) for x, y in PAIRS])
fits(
    "weights-pairs-in-dataset", own, PAIRS_OF_WEIGHTS, says=("one number as sample_weight", "2, 2")
)
fits("weights-zero", classifier, X, Y, 0 * W, says=("sample_weight", "non-zero"))
fits("weights-negative", classifier, X, Y, -W, says=("[Nn]egative", "sample_weight"))

# ------------------------------------------------------------- several inputs

PAIR = {"left": X, "right": X}
fits("dict-lengths", two, {"left": X, "right": X[:5]}, Y, says=(r"'left'\] has 24", "has 5"))
fits("tuple-lengths", two, (X, X[:5]), Y, says=(r"X\[0\] has 24", r"X\[1\] has 5"))
fits("dict-and-y", two, PAIR, Y[:-1], says=("X and y", "24, 23"))
fits("dict-empty", two, {}, Y, says=("X", "keys", "forward"))
fits("dict-keys", two, {0: X, 1: X}, Y, says=("X", "keys", "0, 1"))
fits("dict-nested", two, {"left": X, "right": {"a": X}}, Y, says=(r"X\['right'\]", "flat dict"))
fits("dict-frame", two, {"left": X, "right": NUMBERS}, Y, says=(r"X\['right'\]", "DataFrame"))
fits("dict-none", two, {"left": X, "right": None}, Y, says=(r"X\['right'\]", "None"))
fits("dict-dataset", two, {"left": X, "right": Items(PAIRS)}, Y, says=(r"'right'\]", "Items"))
fits("dict-number", two, {"left": X, "right": 3.0}, Y, says=(r"X\['right'\]", "dimension"))
fits("dict-strings", two, {"left": X, "right": ["x"] * N}, Y, says=(r"X\['right'\]", "strings"))
fits("dict-ragged", two, {"left": [[1], [1, 2]] * 12, "right": X}, Y, says=(r"'left'\]", "inhom"))
fits("dict-other-names", two, {"left": X, "rigth": X}, Y, says=("left, rigth", "forward.left, ri"))
fits("dict-for-one-input", own, PAIR, Y, says=("Own", "left, right", r"forward\(X\)"))
fits("dict-for-built-in", classifier, PAIR, Y, says=("'mlp'", "left, right", "numeric", "`module`"))
fits("tuple-for-built-in", classifier, (X, X), Y, says=("'mlp'", "tuple of 2", "`module`"))
fits("dict-dataset-for-built-in", classifier, Items([({"a": x}, y) for x, y in PAIRS]),
     says=("'mlp'", "dict of a", "`module`"))  # fmt: skip
fits("tuple-too-long", two, (X, X, X), Y, says=("Two", "3 in a row", "forward.left, right"))
for name, inputs, found in [
    ("names", {"left": X, "rigth": X}, "'left', 'rigth'"),
    ("missing", {"left": X}, "keys 'left'"),
    ("array", X, "one array"),
    ("frame", NUMBERS, "one array"),
    ("tuple", (X, X), "tuple of 2"),
    ("dimensions", {"left": X, "right": X[..., None]}, r"\['right'\].*2 dim.*4, 1"),
]:
    says = ("X_val", found, "of the fit|in the fit")
    fits(f"validation-dict-{name}", two, PAIR, Y, X_val=inputs, y_val=Y, says=says)

# --------------------------------------------------------------------- frames

TWICE = pd.concat([NUMBERS, NUMBERS], axis=1)
fits("columns-twice", classifier, TWICE, Y, says=("X", "same name", "'a'", "Rename"))
fits("columns-of-two-types", classifier, NUMBERS.rename(columns={"a": 0}), Y, says=("int", "str"))
fits("categories-own", own, MIXED, Y, says=("Own", "numeric, categorical", r"forward\(X\)"))
fits("categories-only-numbers", lambda: classifier(module=OnlyNumbers), MIXED, Y,
     says=("OnlyNumbers", "numeric, categorical", r"forward\(numeric\)"))  # fmt: skip
for name, frame, found in [
    ("missing", MIXED.drop(columns="a"), "missing.*- a"),
    ("renamed", MIXED.rename(columns={"city": "town"}), "town.*- city"),
    ("extra", MIXED.assign(e=1), "unseen.*- e"),
    ("kind", MIXED.assign(a="x"), "column 'a' held numbers.*strings"),
    ("numbers-for-strings", MIXED.assign(city=1.5), "column 'city' held cat.*numbers"),
    ("infinity", MIXED.assign(a=np.inf), "column 'a'.*infinity"),
    ("array", X, "4 features.*5"),
    ("array-as-wide", np.c_[X, Y], "frame with the columns.*city"),
]:
    fits(f"validation-columns-{name}", classifier, MIXED, Y, X_val=frame, y_val=Y,
         says=("X_val", found))  # fmt: skip
fits("validation-frame-for-an-array", classifier, X, Y, X_val=MIXED.drop(columns="a"), y_val=Y,
     says=("X_val", "no numbers", "array"))  # fmt: skip

# ------------------------------------------------------------------ parameters


def parameter(id, data, *pieces, make=classifier, **params):
    fits(id, lambda: make(**params), *data, says=pieces)


ARRAYS, DATASET = (X, Y), (Items(PAIRS),)
parameter("transform-name", ARRAYS, "'numeric_transform'", "'standrd'", numeric_transform="standrd")
parameter("transform-number", ARRAYS, "'numeric_transform'", "Got 3", numeric_transform=3)
parameter("transform-class", ARRAYS, "`numeric_transform`", "instance", r"StandardScaler\(\)",
          numeric_transform=StandardScaler)  # fmt: skip
parameter("transform-does-not-suit", ARRAYS, "strictly positive", "numeric_transform=PowerTransf",
          numeric_transform=PowerTransformer(method="box-cox"))  # fmt: skip
parameter("transform-fails", DATASET, "no scale", r"numeric_transform=Unsteady\(\)",
          numeric_transform=Unsteady())  # fmt: skip
for kind, data, make, found in [
    ("sparse", (scipy.sparse.csr_matrix(X), Y), classifier, "sparse"),
    ("images", (IMAGES, Y), own, "24, 3, 4, 4"),
    ("dict", (PAIR, Y), two, "several arrays"),
]:
    parameter(f"transform-{kind}", data, "`numeric_transform`", found, "scale X beforehand",
              make=make, numeric_transform="standard")  # fmt: skip
parameter("module-typo", ARRAYS, "`module`", "'mpl'", "mean 'mlp'", module="mpl")
parameter("dtype-integer", ARRAYS, "`dtype`", "int64", "floating", dtype="int64")
parameter("class_weight-label", ARRAYS, "`class_weight`", "7", "0, 1, 2", class_weight={7: 1.0})
parameter("class_weight-name", ARRAYS, "'class_weight'", "'balance'", class_weight="balance")
parameter("class_weight-negative", ARRAYS, "`class_weight`", "-1", class_weight={0: -1})
parameter(
    "class_weight-zero", ARRAYS, "`class_weight`", "0", class_weight=dict.fromkeys(range(3), 0)
)
for name, value, found in [
    ("weight", 5.0, "each class, in the order of classes_"),
    ("weight", "balanced", "class_weight='balanced'"),
    ("weight", {0: 1.0, 1: 2.0}, "class_weight=.label: weight"),
    ("weight", [1.0, -1.0, 1.0], "not negative"),
    ("weight", [1.0, np.nan, 1.0], "finite"),
]:
    parameter(f"criterion-{name}-{value}", ARRAYS, "criterion__weight", re.escape(str(value)),
              found, criterion="cross_entropy", criterion__weight=value)  # fmt: skip
for name, criterion, y, found in [
    ("weight", "cross_entropy", Y, "each class, 3 in the order of classes_. Got 2"),
    ("pos_weight", "bce_with_logits", Y, "each class, 3 in the order of classes_. Got 2"),
    ("pos_weight", "bce_with_logits", Y == 1, "one number, .*'cross_entropy'.* Got 2"),
    ("pos_weight", "bce_with_logits", np.eye(3, dtype=int)[Y], "each label, 3 in the order"),
]:
    said = {"criterion": criterion, f"criterion__{name}": [1.0, 2.0]}
    kind = f"{np.ndim(y)}-{np.asarray(y).dtype}"
    parameter(f"criterion-{name}-of-{kind}", (X, y), f"`{name}` of the criterion", found, **said)
parameter(
    "validation_fraction-single",
    (X, ["a"] * (N - 1) + ["b"]),
    "`validation_fraction`",
    r"two rows.*\['b'\] has one\.",
    validation_fraction=0.2,
)
parameter("criterion-pos_weight", ARRAYS, "criterion__pos_weight", "a number, or", "Got 'a'",
          criterion="bce_with_logits", criterion__pos_weight="a")  # fmt: skip
for kind, data in {"arrays": ARRAYS, "dataset": DATASET}.items():
    parameter(f"loader-argument-{kind}", data, "train_loader__num_worker ", "mean 'num_workers'",
              train_loader__num_worker=2)  # fmt: skip
    parameter(f"valid-loader-argument-{kind}", data, "valid_loader__bach_size", "mean 'batch_size'",
              valid_loader__bach_size=2)  # fmt: skip
    for option, value, found in [
        ("batch_size", -1, "positive integer. Got -1"),
        ("batch_size", 2.5, r"positive integer. Got 2\.5"),
        ("num_workers", -1, "num_workers.*non-negative"),
        ("prefetch_factor", 2, "prefetch_factor.*num_workers"),
        ("dataset", 3, "passed to fit"),
        ("generator", 3, "use random_state"),
        ("collate_fn", 3, "function.*Got 3"),
        ("collate_fn", text, r"\(X, y\).*'text'"),
        ("collate_fn", unequal_parts, "X has 4, y has 3"),
    ]:
        name = getattr(value, "__name__", value)
        parameter(f"loader-{option}={name}-{kind}", data, "train_loader|The data|batch", found,
                  **{f"train_loader__{option}": value})  # fmt: skip
    for value, found in [
        (3, "Got 3"),
        ("DataLoader", "Got 'DataLoader'"),
        (makes_a_number, "iterable of batches.*returned 3"),
        (ignores_the_sampler, "batch_sampler"),
    ]:
        name = getattr(value, "__name__", value)
        parameter(f"loader={name}-{kind}", data, "`train_loader`", found, train_loader=value)
    parameter(f"loader-sampler-and-shuffle-{kind}", data, "sampler", "shuffle", "exclude",
              train_loader__sampler=[1], train_loader__shuffle=True)  # fmt: skip
    parameter(f"loader-sampler-and-fraction-{kind}", data, "train_loader__sampler", "X_val",
              train_loader__sampler=[1], validation_fraction=0.5)  # fmt: skip
parameter("loader-ready", ARRAYS, "`train_loader`", "goes into fit as X",
          train_loader=DataLoader(Items(PAIRS)))  # fmt: skip
parameter("valid-loader-number", ARRAYS, "`valid_loader`", "Got 3", valid_loader=3)

FITS = dict(CASES)

# ------------------------------------------------------------- after the fit

ON_ARRAY = classifier().fit(X, Y)
ON_FRAME = classifier().fit(MIXED, Y)
ON_NUMBERS = classifier().fit(NUMBERS.rename(columns={"a": "age"}), Y)
ON_IMAGES = own().fit(IMAGES, Y)
ON_DICT = two().fit(PAIR, Y)
ON_TUPLE = two().fit((X, X), Y)
OWN = own().fit(X, Y)
WARM = classifier(warm_start=True).fit(X, Y)


def predicts(id, fitted, X, *pieces):
    case(f"predict-{id}", lambda: copy.deepcopy(fitted), lambda est: est.predict(X), *pieces)


def continues(id, fitted, *data, says):
    case(f"continue-{id}", lambda: copy.deepcopy(fitted), lambda est: est.fit(*data), *says)


SAMPLED = DataLoader(Items(PAIRS), sampler=WeightedRandomSampler(W, N))
predicts("shuffling-loader", ON_ARRAY, DataLoader(Items(PAIRS), shuffle=True), "shuffle=False")
predicts("sampling-loader", ON_ARRAY, SAMPLED, "X", "shuffle", "order")
predicts("dataset-empty", ON_ARRAY, Items([]), "X", "empty")
predicts("stream-empty", ON_ARRAY, Stream([]), "X", "no batch")
predicts("dataset-strings", ON_ARRAY, Items(["a"] * 5), "X", "strings")
predicts("dataset-infinity", ON_ARRAY, Items([torch.full((4,), torch.inf)] * 5), "X", "infinity")
predicts("dataset-nan", OWN, Items([torch.full((4,), torch.nan)] * 5), "X", "NaN")
NAMED_ITEMS = Items([{"x": x, "label": y} for x, y in PAIRS])
predicts("dataset-of-dicts", ON_ARRAY, NAMED_ITEMS, "X", "'x', 'label'", "valid_loader__collate_fn")
predicts("dataset-of-four", ON_ARRAY, Items([(x, 1, 1.0, 2) for x in X32]), "X", "list of 4",
         "valid_loader__collate_fn")  # fmt: skip
predicts("none", ON_ARRAY, None, "X", "None", "array")
predicts("string", ON_ARRAY, "a", "X", "'a'", "Expected")
predicts("masked", ON_ARRAY, MASKED, "X", "masked", "filled")
predicts("too-large", OWN, X * 1e300, "X", "too large", "float32")
predicts("nan-own", OWN, HAS_NAN, "X", "NaN")
predicts("frame-with-strings", ON_ARRAY, MIXED.drop(columns="a"), "X", "no numbers", "array")
predicts("frame-wider", ON_ARRAY, NUMBERS.assign(e=1), "5 features", "4 features")
predicts("array-narrower", ON_NUMBERS, X[:, :3], "3 features", "4 features")
predicts("columns-renamed", ON_NUMBERS, NUMBERS.rename(columns={"a": "agee"}), "age", "mean 'agee'")
predicts("columns-missing", ON_FRAME, MIXED.drop(columns="city"), "missing", "- city")
predicts("columns-extra", ON_FRAME, MIXED.assign(z=1), "unseen", "- z")
predicts("columns-twice", ON_FRAME, pd.concat([MIXED, MIXED], axis=1), "X", "same name", "Rename")
predicts("columns-kind", ON_FRAME, MIXED.assign(a="x"), "X: column 'a'", "held numbers", "Convert")
predicts("columns-no-rows", ON_FRAME, MIXED[:0], "X", r"0 sample\(s\)")
predicts("array-for-categories", ON_FRAME, np.c_[X, Y], "X", "frame", "city", "ndarray")
predicts("objects-for-categories", ON_FRAME, MIXED.to_numpy(), "X", "'Ulm'", "DataFrame")
predicts("dict-for-categories", ON_FRAME, {"numeric": X}, "X", "frame", "Got a dict")
predicts("sparse-for-categories", ON_FRAME, scipy.sparse.csr_matrix(X), "4 feat", "5 feat")
predicts("dataset-for-categories", ON_FRAME, Items(PAIRS), "categorical")
predicts("fewer-dimensions", ON_IMAGES, IMAGES[..., 0], "X", "4 dimensions", "3, 4, 4", r"\(3, 4\)")
predicts("other-channels", ON_IMAGES, IMAGES[:, :2], "2 features", "3 features")
for name, inputs, found in [
    ("names", {"left": X, "rigth": X}, "'left', 'rigth'"),
    ("missing", {"left": X}, "keys 'left'"),
    ("extra", {**PAIR, "more": X}, "'more'"),
    ("array", X, "one array"),
    ("tensor", X32, "one array"),
    ("frame", NUMBERS, "one array"),
    ("tuple", (X, X), "tuple of 2"),
    ("lengths", {"left": X, "right": X[:3]}, r"\['right'\] has 3"),
]:
    predicts(f"dict-{name}", ON_DICT, inputs, "X", found)
predicts("tuple-longer", ON_TUPLE, (X, X, X), "X", "tuple of 3", "of the fit, a tuple of 2")
predicts("tuple-array", ON_TUPLE, X, "X", "one array", "of the fit, a tuple of 2")

continues("labels", WARM, X, Y + 5, says=("y", "5, 6, 7", "0, 1, 2", "warm_start=False"))
continues("labels-of-a-dataset", WARM, Items(items(X, Y + 5)), says=("y", "5", "0, 1, 2"))
continues("width", WARM, X[:, :3], Y, says=("3 features", "4 features"))
continues("width-of-a-dataset", WARM, NARROW, says=("3 features", "4 features"))
continues("frame", WARM, MIXED.drop(columns="a"), Y, says=("X", "no numbers"))
continues("dict", WARM, PAIR, Y, says=("X", "one array", "'left', 'right'"))


# ------------------------------------------------------------------------ tests


def message_of(error):
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def plain(message):
    """A message without addresses of objects, and without what wraps the estimator."""
    return re.sub(r"0x[0-9a-f]+", "0x", message)


def state_of(estimator):
    """What must be the same objects before and after."""
    own = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")  # scikit-learn's bookkeeping
    return {name: id(value) for name, value in vars(estimator).items() if name not in own}


def attempt(estimator, do):
    BATCHES.clear()
    with pytest.raises((ValueError, TypeError, ZeroDivisionError)) as caught:
        do(estimator)
    return message_of(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_bad_data_raise_a_named_error_and_leave_the_estimator_as_it_was(name):
    one = CASES[name]
    estimator = one.make()
    before = state_of(estimator)
    message = attempt(estimator, one.do)
    for piece in one.pieces:
        assert re.search(piece, message, re.DOTALL), f"{piece!r} is not in: {message}"
    assert bool(BATCHES) == one.late, "training had begun" if BATCHES else "not late"
    assert state_of(estimator) == before
    if name in FITS:
        with pytest.raises(NotFittedError):
            check_is_fitted(estimator)


def test_the_table_is_long_enough():
    assert len(CASES) >= 50


@pytest.mark.parametrize("one", FITS.values(), ids=FITS.keys())
def test_a_failed_fit_leaves_a_fitted_estimator_as_it_was(one):
    start = OWN if isinstance(one.make(), NeuralNetClassifier) else REGRESSOR
    estimator = copy.copy(start)
    estimator.set_params(**one.make().get_params(deep=False))
    before = state_of(estimator)
    attempt(estimator, one.do)
    assert state_of(estimator) == before
    estimator.set_params(**start.get_params(deep=False))
    assert np.array_equal(estimator.predict(X), start.predict(X))


REGRESSOR = regressor(module=Own).fit(X, T)


class InPipeline:
    """Fit and predict of an estimator as the only step of a pipeline."""

    def __init__(self, estimator):
        self.pipeline = Pipeline([("net", estimator)])

    def fit(self, X, y=None, sample_weight=None, **more):
        if sample_weight is not None:
            more["sample_weight"] = sample_weight
        return self.pipeline.fit(X, y, **{f"net__{name}": value for name, value in more.items()})

    def predict(self, X):
        return self.pipeline.predict(X)


@pytest.mark.parametrize("name", CASES)
def test_pickled_cloned_and_in_a_pipeline_the_error_is_the_same(name):
    one = CASES[name]
    message = plain(attempt(one.make(), one.do))
    pickled = pickle.loads(pickle.dumps(one.make()))
    assert plain(attempt(pickled, one.do)) == message
    assert plain(attempt(InPipeline(one.make()), one.do)) == message
    if name in FITS:
        assert plain(attempt(clone(one.make()), one.do)) == message


def test_cross_validation_of_a_dataset_says_why_it_cannot_be():
    with pytest.raises(ValueError, match="cannot cut a Dataset"):
        cross_val_score(own(), Items(PAIRS), Y, cv=2, error_score="raise")


class Pooled(Own):
    """For padded sequences or images of any size."""

    def forward(self, X, lengths=None):
        return self.linear(
            X.flatten(2).mean(dim=2) if lengths is None else X.float().mean(1)[:, None].repeat(1, 4)
        )


def padded(longest):
    return {"X": np.ones((N, longest), dtype=np.int64), "lengths": np.full(N, longest)}


def pooled(**params):
    return classifier(module=Pooled, **params)


GOOD = {
    "padded-to-another-length": lambda: (
        pooled().fit(padded(5), Y, X_val=padded(7), y_val=Y).predict(padded(3))
    ),
    "images-of-another-size": lambda: (
        pooled()
        .fit(X[..., None], Y, X_val=X[..., None].repeat(2, 2), y_val=Y)
        .predict(X[..., None])
    ),
    "names-in-another-order": lambda: ON_DICT.predict({"right": X, "left": X}),
    "tensors-for-arrays": lambda: ON_DICT.predict({"left": X32, "right": X32}),
    "nothing-masked": lambda: ON_ARRAY.predict(np.ma.masked_array(X)),
    "frame-for-an-array": lambda: ON_ARRAY.predict(NUMBERS),
    "array-for-numbers": lambda: ON_NUMBERS.predict(X),
    "holes-in-a-dataset": lambda: (
        classifier().fit(Items(items(torch.tensor(HAS_NAN)))).predict(Items(HAS_NAN))
    ),
    "dataset-for-validation": lambda: own().fit(X, Y, X_val=Stream(PAIRS)).predict(X32),
    "one-weight-of-zero": lambda: (
        own().fit(Items([(x, y, float(y > 0)) for x, y in PAIRS])).predict(X)
    ),
}


@pytest.mark.parametrize("do", GOOD.values(), ids=GOOD.keys())
def test_data_that_look_alike_are_taken(do):
    assert len(do()) == N
