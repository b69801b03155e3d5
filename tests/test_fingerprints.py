"""Equal fits have equal fingerprints, in every process; no two different ones share theirs."""

import copy
import datetime
import functools
import json
import operator
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from doubles import Log
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from skorchlike import (
    Callback,
    CancelFitException,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    NeuralNetClassifier,
    NeuralNetRegressor,
    PrintLog,
    make_callback,
)
from skorchlike.digests import digest

X = np.arange(36, dtype=np.float32).reshape(12, 3) / 10
Y = np.arange(12) % 2
FRAME = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": list("uvwuvwuvwuvw")})


class Note(Callback):
    """Note the fingerprint, and train nothing."""

    passive = True

    def __init__(self, seen):
        self.seen = seen

    def on_begin(self, ctx):
        self.seen.append(ctx.fingerprint)
        raise CancelFitException


def fingerprint(X=X, y=Y, *, cls=NeuralNetClassifier, fit=None, **params):
    """Return the fingerprint of a fit."""
    seen = Log()
    cls(**{"random_state": 0, **params}).fit(X, y, callbacks=[Note(seen)], **(fit or {}))
    return seen[0]


class Net(nn.Module):
    """A module with a plain attribute beside its layer."""

    def __init__(self, scale=1.0, width=3, act=torch.relu):
        super().__init__()
        self.scale, self.act = scale, act
        self.layer = nn.Linear(width, 2)
        self.register_buffer("offset", torch.zeros(2), persistent=False)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(0.5)

    def forward(self, X):
        return self.act(self.layer(X)) * self.scale + self.offset


class OtherNet(Net):
    """The same, under another name."""


class Plain:
    """An object that prints its address."""

    def __init__(self, value):
        self.value = value

    def method(self, x):
        return x

    def __call__(self, x):
        return x


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value


class Held(Callback):
    """A callback with a parameter of any kind."""

    def __init__(self, what=None):
        self.what = what


class HeldPassively(Held):
    passive = True


class Items(Dataset):
    """A dataset of one's own, with a cache that grows as it is read."""

    def __init__(self, values):
        self.values = values
        self._cache = {}

    def __len__(self):
        return len(self.values)

    def __getitem__(self, i):
        self._cache[i] = True
        return torch.from_numpy(X[i]), int(self.values[i])


def add(x, y=0):
    return x + y


def enclosing(value):
    return lambda x: x + value


def with_hooks(n_before):
    """Return a module with one hook, after others have come and gone."""
    module = Net()
    for _ in range(n_before):
        module.register_forward_hook(print).remove()
    module.register_forward_hook(print)
    return module


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


def a_net(**changes):
    net = Net()
    with torch.no_grad():
        for name, value in changes.items():
            net.get_parameter(f"layer.{name}").view(-1)[0] = value
    return net


def frozen():
    net = Net()
    net.layer.bias.requires_grad_(False)
    return net


def other_offset():
    net = Net()
    net.offset += 1
    return net


# --------------------------------------------------------------------- other processes

OF_MANY_KINDS = {
    "arrays": dict,
    "a module instance": lambda: {"module": Net()},
    "a module with hooks": lambda: {"module": with_hooks(3)},
    "functions": lambda: {"callbacks": [Held([enclosing(3), functools.partial(add, y=2), add])]},
    "a method": lambda: {"callbacks": [Held(Plain(3).method)]},
    "an object": lambda: {"callbacks": [Held([Plain({"a", "b", "c"}), Slotted(Plain(1))])]},
    "a set": lambda: {"callbacks": [Held({"x", "y", "z", 1, 2.5})]},
    "generators": lambda: {"callbacks": [Held(np.random.default_rng(3))]},
    "a frame": lambda: {"X": FRAME},
    "classes": lambda: {"module": Net, "module__scale": 2.0, "optimizer": "sgd"},
    "a made callback": lambda: {"callbacks": [make_callback("Made", on_end=lambda s, ctx: add)()]},
    "a dataset": lambda: {"X": Items(Y.tolist()), "y": None, "module": Net},
}

IN_ANOTHER_PROCESS = """
import importlib, json, sys
sys.path[:0] = {paths!r}
padding = [object() for _ in range(20_000)]  # other addresses
t = importlib.import_module({name!r})
print(json.dumps({{n: t.fingerprint(**make()) for n, make in t.OF_MANY_KINDS.items()}}))
"""


@pytest.fixture(scope="module")
def elsewhere():
    """The fingerprints that another process gives."""
    here = Path(__file__).parent
    code = IN_ANOTHER_PROCESS.format(paths=[str(here), str(here.parent)], name=__name__)
    # sets and dicts of other orders
    env = {**os.environ, "PYTHONHASHSEED": "1" if hash("x") % 2 else "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", OF_MANY_KINDS)
def test_another_process_gives_the_same_fingerprint(elsewhere, kind):
    here = fingerprint(**OF_MANY_KINDS[kind]())
    assert elsewhere[kind] == here


def test_the_kinds_differ_from_one_another(elsewhere):
    assert len(set(elsewhere.values())) == len(OF_MANY_KINDS)


def test_a_fingerprint_is_sixteen_hexadecimal_digits():
    assert len(fingerprint()) == 16
    int(fingerprint(), 16)


# ---------------------------------------------------------------- the same data elsewhere


def in_a_file(tmp_path):
    np.save(tmp_path / "X.npy", X)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


@pytest.mark.parametrize(
    "other",
    [
        lambda _: X.copy(),
        lambda _: np.asfortranarray(X),
        lambda _: np.repeat(X, 2, axis=0)[::2],
        in_a_file,
    ],
    ids=["copy", "Fortran order", "strides", "file"],
)
def test_the_same_rows_elsewhere_in_memory_have_the_same_fingerprint(tmp_path, other):
    assert fingerprint(other(tmp_path), module=Net) == fingerprint(X, module=Net)


def test_labels_count_by_their_order_as_the_module_sees_them():
    assert fingerprint(y=np.array(["no", "yes"])[Y]) == fingerprint(y=Y)
    assert fingerprint(y=np.array(["no", "yes"])[1 - Y]) != fingerprint(y=Y)


def test_which_library_made_a_frame_does_not_count():
    assert fingerprint(pl.from_pandas(FRAME)) == fingerprint(FRAME)


def test_row_labels_of_a_frame_do_not_count():
    assert fingerprint(FRAME.set_index(np.arange(12)[::-1])) == fingerprint(FRAME)


def test_categories_count_by_their_values_as_in_training():
    def told(categories):
        return fingerprint(FRAME.assign(c=pd.Categorical(FRAME["c"], categories)))

    assert told(["u", "v", "w"]) == told(["w", "v", "u", "never"])


# ---------------------------------------------------------------------- other data

WEIGHT = np.ones(12)
VAL = {"X_val": X[:4], "y_val": Y[:4]}


@pytest.mark.parametrize(
    "other",
    [
        {"X": changed(X, (7, 1), np.nextafter(X[7, 1], np.float32(9)))},
        {"X": changed(X, (0, 0), -0.0)},
        {"X": X.astype(np.float64)},
        {"X": X[:, [1, 0, 2]]},
        {"X": X[::-1], "y": Y[::-1]},
        {"X": X[:-1], "y": Y[:-1]},
        {"y": changed(Y, 3, 1 - Y[3])},
        {"fit": {"sample_weight": WEIGHT}},
        {"fit": {"sample_weight": changed(WEIGHT, 5, 1 + 1e-12)}},
        {"fit": VAL},
        {"fit": {**VAL, "X_val": changed(X[:4], (0, 0), 1.0)}},
        {"fit": {**VAL, "y_val": 1 - Y[:4]}},
        {"fit": {**VAL, "sample_weight": WEIGHT, "sample_weight_val": np.ones(4)}},
        {"fit": {**VAL, "sample_weight": WEIGHT, "sample_weight_val": np.arange(1.0, 5)}},
        {"X": scipy.sparse.csr_array(X)},
        {"X": scipy.sparse.csr_array(changed(X, (3, 0), 0.25))},
    ],
)
def test_other_data_have_another_fingerprint(other):
    different.append(fingerprint(**other))
    assert len(set(different)) == len(different)


different = [fingerprint()]


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_every_part_of_a_frame_counts(library):
    columns = FRAME.to_dict("list")
    number = FRAME["a"].tolist()
    frames = [
        columns,
        {"A" if name == "a" else name: values for name, values in columns.items()},
        {name: columns[name] for name in ("b", "a", "c")},
        {**columns, "a": [*number[:-1], 99.0]},
        {**columns, "a": [*number[:-1], None]},
        {**columns, "c": [*columns["c"][:-1], "x"]},
        {**columns, "c": [*columns["c"][:-1], None]},
        {**columns, "a": [str(value) for value in number]},
        {**columns, "a": [value > 1 for value in number]},
        {**columns, "a": [datetime.datetime(2026, 1, 1 + i) for i in range(12)]},
        {**columns, "a": [datetime.datetime(2026, 1, 1 + i, 1) for i in range(12)]},
    ]
    found = [fingerprint(library(frame)) for frame in frames]
    assert len(set(found)) == len(frames)


def test_whether_numbers_are_categories_counts():
    numbers = FRAME.assign(a=np.arange(12) % 4)
    assert fingerprint(numbers) != fingerprint(numbers.astype({"a": "category"}))


def test_a_column_of_booleans_is_not_one_of_their_words():
    words = np.array(["True", "False"] * 6, dtype=object)
    assert digest(words) != digest(words == "True")
    assert digest((words == "True").astype(object)) != digest(words)


class Both(nn.Module):
    """Takes two inputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, left, right):
        return self.layer(left + right)


@pytest.mark.parametrize("several", [tuple, dict])
def test_every_one_of_several_inputs_counts(several):
    def told(left, right):
        parts = {"left": left, "right": right}
        return fingerprint(parts if several is dict else tuple(parts.values()), module=Both)

    other = changed(X, (2, 2), 0)
    assert len({told(X, X), told(other, X), told(X, other), told(other, other)}) == 4


def test_several_inputs_count_by_name_whatever_their_order():
    def told(*names):
        parts = {"left": X, "right": X + 1}
        return fingerprint({name: parts[name] for name in names}, module=Both)

    assert told("left", "right") == told("right", "left")


DATASETS = {
    "tensors": lambda: TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
    "own": lambda: Items(Y.tolist()),
    "own, other items": lambda: Items((1 - Y).tolist()),
    "rows": lambda: Subset(Items(Y.tolist()), [0, 1, 2, 3]),
    "other rows": lambda: Subset(Items(Y.tolist()), [0, 1, 2, 5]),
    "joined": lambda: ConcatDataset([Items(Y.tolist()), Items(Y.tolist())]),
    "joined otherwise": lambda: ConcatDataset([Items(Y.tolist()), Items((1 - Y).tolist())]),
    "loader": lambda: DataLoader(Items(Y.tolist()), batch_size=4),
    "loader, other size": lambda: DataLoader(Items(Y.tolist()), batch_size=3),
    "loader, shuffled": lambda: DataLoader(Items(Y.tolist()), batch_size=4, shuffle=True),
    "loader, of some rows": lambda: DataLoader(
        Items(Y.tolist()), batch_size=4, sampler=SubsetRandomSampler([0, 1, 2, 3])
    ),
    "loader, of other rows": lambda: DataLoader(
        Items(Y.tolist()), batch_size=4, sampler=SubsetRandomSampler([0, 1, 2, 5])
    ),
}


def test_datasets_and_loaders_count_by_what_they_hold():
    found = {name: fingerprint(make(), None, module=Net) for name, make in DATASETS.items()}
    assert len(set(found.values())) == len(DATASETS)
    again = {name: fingerprint(make(), None, module=Net) for name, make in DATASETS.items()}
    assert again == found


def test_a_dataset_that_has_been_read_is_still_the_same():
    data = Items(Y.tolist())
    before = fingerprint(data, None, module=Net)
    assert [data[i] for i in range(12)]
    assert fingerprint(data, None, module=Net) == before


# ----------------------------------------------------------------------- other parameters


def made(function):
    return make_callback("Made", on_epoch_end=function)()


PARAMETERS = [
    {},
    {"lr": 0.002},
    {"batch_size": 5},
    {"max_epochs": 3},
    {"optimizer": "sgd"},
    {"optimizer__weight_decay": 0.1},
    {"validation_fraction": 0.3},
    {"random_state": 1},
    {"random_state": None},
    {"shuffle": False},
    {"class_weight": "balanced"},
    {"class_weight": {0: 1.0, 1: 2.0}},
    {"module__hidden_layer_sizes": (7,)},
    {"module__hidden_layer_sizes": (7, 7)},
    {"module__dropout": 0.1},
    {"numeric_transform": None},
    {"numeric_transform": StandardScaler()},
    {"numeric_transform": StandardScaler(with_mean=False)},
    {"module": Net},
    {"module": OtherNet},
    {"module": Net, "module__scale": 2.0},
    {"module": Net()},
    {"module": Net(scale=2.0)},
    {"module": Net(act=torch.tanh)},
    {"module": Net(act=nn.functional.gelu)},
    {"module": a_net(weight=0.25)},
    {"module": a_net(bias=0.25)},
    {"module": frozen()},
    {"module": other_offset()},
    {"module": nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))},
    {"module": with_hooks(0)},
    {"criterion": nn.CrossEntropyLoss},
    {"criterion": nn.CrossEntropyLoss(label_smoothing=0.1)},
    {"criterion__label_smoothing": 0.1},
    {"callbacks": [Held()]},
    {"callbacks": {"other": Held()}},
    {"callbacks": [Held(1)]},
    {"callbacks": [Held(1.0)]},
    {"callbacks": [Held(True)]},
    {"callbacks": [Held("1")]},
    {"callbacks": [Held([1])]},
    {"callbacks": [Held([[1]])]},
    {"callbacks": [Held((1,))]},
    {"callbacks": [Held(lambda x: x + 1)]},
    {"callbacks": [Held(lambda x: x + 2)]},
    {"callbacks": [Held(lambda x: x.abs)]},
    {"callbacks": [Held(lambda x: [i + 1 for i in x])]},
    {"callbacks": [Held(lambda x: [i + 2 for i in x])]},
    {"callbacks": [Held(lambda x, by=1: x)]},
    {"callbacks": [Held(lambda x, by=2: x)]},
    {"callbacks": [Held(lambda x, *, by=2: x)]},
    {"callbacks": [Held(enclosing(1))]},
    {"callbacks": [Held(enclosing(2))]},
    {"callbacks": [Held(enclosing(enclosing(1)))]},
    {"callbacks": [Held(functools.partial(add, 1))]},
    {"callbacks": [Held(functools.partial(add, 2))]},
    {"callbacks": [Held(functools.partial(add, y=2))]},
    {"callbacks": [Held(operator.itemgetter(0))]},
    {"callbacks": [Held(operator.itemgetter(1))]},
    {"callbacks": [Held(np.exp)]},
    {"callbacks": [Held(np.log)]},
    {"callbacks": [Held(Plain(1))]},
    {"callbacks": [Held(Plain(2))]},
    {"callbacks": [Held(Plain(1).method)]},
    {"callbacks": [Held(Plain(2).method)]},
    {"callbacks": [Held(Slotted(1))]},
    {"callbacks": [Held(Slotted(2))]},
    {"callbacks": [Held(torch.Generator().manual_seed(1))]},
    {"callbacks": [Held(torch.Generator().manual_seed(2))]},
    {"callbacks": [Held(np.random.default_rng(1))]},
    {"callbacks": [Held(np.random.default_rng(2))]},
    {"callbacks": [Held(torch.ones(2))]},
    {"callbacks": [Held(torch.ones(2, dtype=torch.bfloat16))]},
    {"callbacks": [Held(torch.ones(2, requires_grad=True))]},
    {"callbacks": [Held(torch.eye(2).to_sparse())]},
    {"callbacks": [Held(2 * torch.eye(2).to_sparse())]},
    {"callbacks": [Held(pd.Series(range(1000)))]},
    {"callbacks": [Held(pd.Series([*range(500), 0, *range(501, 1000)]))]},
    {"callbacks": [Held(datetime.date(2026, 1, 1))]},
    {"callbacks": [Held(datetime.date(2026, 1, 2))]},
    {"callbacks": [Held(np.ma.array([1, 2], mask=[True, False]))]},
    {"callbacks": [Held(np.ma.array([1, 2], mask=[False, True]))]},
    {"callbacks": [HeldPassively(1)]},
    {"callbacks": [HeldPassively(2)]},
    {"callbacks": [EarlyStopping(monitor="train_loss")]},
    {"callbacks": [EarlyStopping(monitor="train_loss", patience=9)]},
    {"callbacks": {"stop": EarlyStopping(monitor="train_loss")}, "callbacks__stop__patience": 8},
    {"callbacks": {"one": Held(1), "two": Held(2)}},
    {"callbacks": {"two": Held(2), "one": Held(1)}},
    {"callbacks": [made(lambda self, ctx: None)]},
    {"callbacks": [made(lambda self, ctx: print("here"))]},
]


def test_no_two_different_fits_share_a_fingerprint():
    seen = {}
    for params in PARAMETERS:
        found = fingerprint(**params)
        assert found not in seen, (params, seen[found])
        seen[found] = params


def test_a_copy_of_the_parameters_has_the_same_fingerprint():
    for params in PARAMETERS:
        if params.get("callbacks") and "Made" in repr(params["callbacks"]):
            continue  # a class of its own each time
        assert fingerprint(**copy.deepcopy(params)) == fingerprint(**params), params


def test_what_is_said_by_a_route_is_what_is_said_by_the_constructor():
    routed = {"callbacks": {"held": Held()}, "callbacks__held__what": 3}
    assert fingerprint(**routed) == fingerprint(callbacks={"held": Held(3)})


def test_the_estimators_class_counts():
    class Own(NeuralNetClassifier):
        def do_backward(self, ctx):
            ctx.loss.backward()

    class OwnToo(NeuralNetClassifier):
        def do_backward(self, ctx):
            (2 * ctx.loss).backward()

    OwnToo.__qualname__ = Own.__qualname__
    found = {fingerprint(cls=cls) for cls in (Own, OwnToo, NeuralNetClassifier)}
    assert len(found | {fingerprint(y=Y.astype(float), cls=NeuralNetRegressor)}) == 4


def test_the_code_of_a_module_of_ones_own_counts():
    def classes():
        for factor in (1, 1, 2):
            source = f"def forward(self, X): return Net.forward(self, X) * {factor}"
            space = {"Net": Net}
            exec(source, space)
            yield type("Edited", (Net,), {"forward": space["forward"]})

    one, same, other = (fingerprint(module=cls) for cls in classes())
    assert one == same != other


@pytest.mark.parametrize(
    "params",
    [
        {"verbose": 1},
        {"warm_start": True},
        {"callbacks": [Checkpoint("anywhere")]},
        {"callbacks": {"saved": Checkpoint("{fingerprint}", every=7, unit="batch", keep=3)}},
    ],
)
def test_what_changes_no_bit_and_no_candidate_does_not_count(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fingerprint(**params) == fingerprint()


def test_callbacks_of_one_fit_that_only_watch_do_not_count(tmp_path):
    watching = [Note(seen := Log()), PrintLog(), CSVLogger(tmp_path / "log.csv")]
    NeuralNetClassifier(random_state=0).fit(X, Y, callbacks=watching)
    assert seen == [fingerprint()]


def test_what_changes_while_it_trains_counts_as_it_was_before(tmp_path):
    counts = Log()

    class Counts(Callback):
        passive = False

        def __init__(self, what=None):
            self.what = what

        def on_batch_begin(self, ctx):
            self.what()

    def callbacks():
        return [Counts(lambda: counts.append(1)), Checkpoint(tmp_path)]

    net = NeuralNetClassifier(random_state=0, max_epochs=2, callbacks=callbacks()).fit(X, Y)
    assert counts
    counts.clear()  # as in a new process
    again = net.set_params(max_epochs=3, callbacks=callbacks()).fit(X, Y, resume=True)
    assert again.n_iter_ == 3


# ------------------------------------------------------------------------------ digests

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
)
VALUES = st.recursive(
    SCALARS,
    lambda part: (
        st.lists(part, max_size=3)
        | st.lists(part, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), part, max_size=3)
    ),
    max_leaves=8,
)


def ordered(value):
    """Return how a value reads, entries of dicts sorted: equal for equal values alone."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {ordered(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(ordered, value))})"
    return repr(value)


@given(VALUES, VALUES)
def test_digests_are_equal_where_values_read_alike(one, other):
    assert (digest(one) == digest(other)) == (ordered(one) == ordered(other))
    assert digest(copy.deepcopy(one)) == digest(one)


KINDS = hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.floating_dtypes(sizes=(16, 32, 64))
ARRAYS = hnp.arrays(KINDS, hnp.array_shapes(max_dims=3, max_side=4))


@given(ARRAYS, st.data())
def test_one_bit_of_an_array_changes_its_digest(array, data):
    other = array.copy()
    place = data.draw(st.integers(0, other.nbytes - 1))
    other.reshape(-1).view(np.uint8)[place] ^= 1 << data.draw(st.integers(0, 7))
    assert digest(other) != digest(array)
    assert digest(np.asfortranarray(array)) == digest(array.copy())


@given(ARRAYS)
def test_shape_and_dtype_of_an_array_count(array):
    found = {digest(array), digest(array[None]), digest(array.reshape(1, 1, 1, 1, -1))}
    assert len(found) == 3
    if array.dtype.itemsize > 1:
        assert digest(array.view(array.dtype.newbyteorder())) != digest(array)


def test_what_contains_itself_has_a_digest():
    def ring(value):
        one = Plain(value)
        one.other = [one, Plain(value)]
        return one

    assert digest(ring(1)) == digest(ring(1)) != digest(ring(2))


def test_a_module_that_does_not_know_its_sizes_yet_has_a_digest():
    assert digest(nn.LazyLinear(2)) == digest(nn.LazyLinear(2)) != digest(nn.LazyLinear(3))


def test_of_a_very_large_array_blocks_are_read(monkeypatch):
    monkeypatch.setattr("skorchlike.digests.MAX_BYTES", 2**12)
    monkeypatch.setattr("skorchlike.digests.BLOCK_BYTES", 2**10)
    array = np.zeros(2**16, dtype=np.uint8)
    for place in (0, 700, 2**16 - 1):
        assert digest(changed(array, place, 1)) != digest(array)
    assert digest(array) == digest(array.copy())
