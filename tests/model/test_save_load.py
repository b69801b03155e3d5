"""An estimator comes back from its file as it was, in this process and in another."""

import errno
import json
import os
import pickle
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from callbacks.built_in import data_for, make, make_estimator
from doubles import OnDevice
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils import Bunch
from torch import nn

from skorchlike import (
    Callback,
    EarlyStopping,
    Hooks,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
    list_callbacks,
)
from skorchlike.exceptions import DamagedFileError, FormatError, UntrustedError
from skorchlike.model import storage
from skorchlike.model.codec import decode, encode
from skorchlike.model.devices import Placed, portable, settled
from skorchlike.model.files import pack, unpack, write_atomically
from skorchlike.model.persistence import load, load_weights, save, save_weights
from skorchlike.model.trust import Trusted
from skorchlike.modules import MODULES
from skorchlike.params.components import NAMES

X, Y = load_iris(return_X_y=True)
TESTS = Path(__file__).parent.parent
SMALL = {"module__hidden_layer_sizes": (4,), "max_epochs": 2, "random_state": 0}
OF_MODULES = {
    "mlp": {"module__hidden_layer_sizes": (8, 8), "module__normalization": "batch"},
    "resnet": {"module__d_block": 8},
    "ft_transformer": {"module__d_block": 8, "module__n_heads": 2, "module__n_blocks": 1},
    "tabm": {"module__d_block": 8, "module__n_members": 4},
    "realmlp": {"module__hidden_layer_sizes": (8, 8)},
}


class Own(nn.Module):
    def __init__(self, n_features_in, n_outputs, act=torch.tanh):
        super().__init__()
        self.linear = nn.Linear(n_features_in, n_outputs)
        self.drop = nn.Dropout(0.5)
        self.act = act

    def forward(self, X):
        return self.drop(self.act(self.linear(X)))


class Sums(Callback):
    """Has a state, and acts in predict by what it learned."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def on_begin(self, ctx):
        self.steps = 0

    def on_batch_end(self, ctx):
        self.steps += 1

    def on_batch_predict_end(self, ctx):
        ctx.y_pred = ctx.y_pred * self.scale * self.steps

    def state_dict(self):
        return {"steps": self.steps, "tensor": torch.arange(3)}

    def load_state_dict(self, state):
        self.steps = state["steps"]


class Mine(NeuralNetClassifier):
    def __init__(self, module=None, *, extra=1, **params):
        super().__init__(module, **params)
        self.extra = extra


def twice(outputs):
    return (2 * outputs).softmax(1)


def mixed_frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "n": np.where(rng.random(60) < 0.2, np.nan, rng.normal(size=60)),
            "c": rng.choice(["a", "b", "ü"], 60),
            "when": pd.date_range("2020", periods=60, freq="D"),
            "yes": rng.random(60) < 0.5,
        }
    )


OWN = Own(4, 3)
LABELS = np.array(["setosa", "versicolor", "virginica"])[Y]

# name → (estimator, X, y, what has to be trusted)
ESTIMATORS = {
    "classifier": lambda: (NeuralNetClassifier(**SMALL), X, Y, []),
    "regressor": lambda: (NeuralNetRegressor(**SMALL), X[:, :3], 100 * X[:, 3], []),
    "two targets": lambda: (NeuralNetRegressor(**SMALL), X[:, :2], X[:, 2:], []),
    "strings as labels": lambda: (NeuralNetClassifier(**SMALL), X, LABELS, []),
    "several labels": lambda: (NeuralNetClassifier(**SMALL), X, np.eye(3, dtype=int)[Y], []),
    "frame": lambda: (
        NeuralNetClassifier(**SMALL),
        mixed_frame(),
        Y[:60] * 0 + np.arange(60) % 2,
        [],
    ),
    "holes": lambda: (NeuralNetClassifier(**SMALL), np.where(X > 6, np.nan, X), Y, []),
    "quantile transform": lambda: (
        NeuralNetClassifier(numeric_transform="quantile", **SMALL),
        X,
        Y,
        [],
    ),
    "float32": lambda: (NeuralNetClassifier(**SMALL), X.astype(np.float32), Y, []),
    "bfloat16": lambda: (NeuralNetClassifier(dtype="bfloat16", **SMALL), X, Y, []),
    "torch's own": lambda: (
        NeuralNetClassifier(
            nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)),
            optimizer=torch.optim.SGD,
            optimizer__momentum=0.9,
            optimizer__param_groups={"*.bias": {"lr": 0.1}},
            criterion=nn.CrossEntropyLoss(label_smoothing=0.1),
            class_weight={0: 2.0},
            callbacks={"schedule": "lr_scheduler", "stop": EarlyStopping(patience=9)},
            callbacks__stop__patience=3,
            callbacks__schedule__unit="batch",
            validation_fraction=0.2,
            train_loader=torch.utils.data.DataLoader,
            train_loader__batch_size=32,
            random_state=0,
            predict_nonlinearity="softmax",
            max_epochs=3,
        ),
        X,
        Y,
        [],
    ),
    "random state": lambda: (
        NeuralNetClassifier(**{**SMALL, "random_state": np.random.RandomState(3)}),
        X,
        Y,
        [],
    ),
    "of one's own": lambda: (
        Mine(
            Own,
            module__act=nn.functional.relu,
            callbacks=[Sums(0.5)],
            predict_nonlinearity=twice,
            extra={"a": (1, None)},
            max_epochs=3,
            random_state=0,
        ),
        X,
        Y,
        [__name__],
    ),
    "instance of one's own": lambda: (
        NeuralNetClassifier(OWN, max_epochs=2, random_state=0),
        X,
        Y,
        [Own],
    ),
    "pipeline": lambda: (
        make_pipeline(StandardScaler(), NeuralNetClassifier(**SMALL)),
        X,
        Y,
        ["sklearn"],
    ),
    "transformer": lambda: (
        NeuralNetClassifier(numeric_transform=MinMaxScaler(), **SMALL),
        X,
        Y,
        [MinMaxScaler],
    ),
    **{
        f"module {name}": lambda name=name, params=params: (
            NeuralNetClassifier(name, max_epochs=2, random_state=0, **params),
            mixed_frame(),
            np.arange(60) % 3,
            [],
        )
        for name, params in OF_MODULES.items()
    },
    **{
        f"criterion {name}": lambda name=name: (
            NeuralNetRegressor(criterion=name, **SMALL),
            X[:, :3],
            X[:, 3].round(),
            [],
        )
        for name in ("quantile", "poisson", "gaussian_nll", "huber", "mse", "l1")
    },
}
every_estimator = pytest.mark.parametrize("make_all", ESTIMATORS.values(), ids=ESTIMATORS)


def outputs(est, data):
    return est.predict_proba(data) if hasattr(est, "predict_proba") else est.predict(data)


def net_of(est):
    return est[-1] if hasattr(est, "steps") else est


def same(one, other):
    """Whether two values are the same bits, whatever they are."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        same_values = np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
        return one.dtype == other.dtype and same_values
    if isinstance(one, nn.Module):
        return repr(one) == repr(other) and same(one.state_dict(), other.state_dict())
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.random.RandomState):
        return same(one.get_state(), other.get_state())
    if isinstance(one, float):
        return one == other or (one != one and other != other)
    if hasattr(one, "__dict__") and not isinstance(one, (type, types.FunctionType)):
        return same(vars(one), vars(other))
    return one == other


def test_the_comparison_sees_a_difference():
    assert same({"a": [torch.ones(2), OWN]}, {"a": [torch.ones(2), OWN]})
    assert not same({"a": [torch.ones(2)]}, {"a": [torch.zeros(2)]})
    assert not same(Sums(1.0), Sums(2.0))
    assert not same(nn.Linear(1, 1), nn.Linear(1, 1))
    assert not same(np.zeros(2), np.zeros(2, np.float32))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@every_estimator
def test_fitted_estimator_comes_back_as_it_was(make_all, path):
    est, data, y, trusted = make_all()
    est.fit(data, y)
    save(est, path)
    got = load(path, trusted=trusted)
    assert type(got) is type(est)
    assert np.array_equal(outputs(got, data), outputs(est, data))
    one, other = net_of(est), net_of(got)
    assert same(vars(other), vars(one))
    assert other.history_.equals(one.history_)
    assert other.get_params().keys() == one.get_params().keys()
    assert re.sub("0x[0-9A-F]+", "", repr(other)) == re.sub("0x[0-9A-F]+", "", repr(one))


@every_estimator
def test_unfitted_estimator_comes_back_and_fits_the_same(make_all, path):
    est, data, y, trusted = make_all()
    save(est, path)
    got = load(path, trusted=trusted)
    with pytest.raises(NotFittedError):
        got.predict(data)
    assert np.array_equal(outputs(got.fit(data, y), data), outputs(est.fit(data, y), data))


CONTINUED = ["classifier", "regressor", "torch's own", "random state", "of one's own", "frame"]


@pytest.mark.parametrize("way", ["partial_fit", "warm_start"])
@pytest.mark.parametrize("name", CONTINUED)
def test_training_goes_on_as_the_original_does(name, way, path):
    est, data, y, trusted = ESTIMATORS[name]()
    est.fit(data, y)
    save(est, path)
    got = load(path, trusted=trusted)
    for net in (est, got):
        if way == "partial_fit":
            net.partial_fit(data, y)
        else:
            net.set_params(warm_start=True).fit(data, y)
    assert got.n_iter_ == est.n_iter_ > 2
    assert np.array_equal(outputs(got, data), outputs(est, data))
    assert same(got.model_.callbacks_, est.model_.callbacks_)
    columns = [c for c in est.history_ if c != "duration"]
    assert got.history_[columns].equals(est.history_[columns])


def test_module_instance_that_was_given_goes_on_too(path):
    est, data, y, trusted = ESTIMATORS["instance of one's own"]()
    save(est.partial_fit(data, y), path)
    got = load(path, trusted=trusted)
    assert np.array_equal(
        outputs(got.partial_fit(data, y), data), outputs(est.partial_fit(data, y), data)
    )


def test_clone_parameters_and_searches_work_on_what_was_read(path):
    est = NeuralNetClassifier(callbacks={"sums": Sums()}, callbacks__sums__scale=0.5, **SMALL)
    save(est.fit(X, Y), path)
    got = load(path, trusted=[Sums])
    assert got.get_params()["callbacks__sums__scale"] == 0.5
    copied = clone(got).set_params(callbacks__sums__scale=2.0)
    assert copied.fit(X, Y).model_.callbacks_.sums["steps"] == 2
    piped = make_pipeline(StandardScaler(), clone(got))
    expected = cross_val_score(make_pipeline(StandardScaler(), clone(est)), X, Y, cv=2)
    assert cross_val_score(piped, X, Y, cv=2).tolist() == expected.tolist()


def test_file_of_a_file_has_the_same_content(path):
    est = ESTIMATORS["torch's own"]()[0].fit(X, Y)
    save(est, path)
    plain, tensors = unpack(path, "estimator")
    save(load(path), path)
    again, others = unpack(path, "estimator")
    assert again == plain
    assert others.keys() == tensors.keys()
    assert all(torch.equal(others[name], tensor) for name, tensor in tensors.items())


def test_what_was_read_shares_no_memory_with_the_original(path):
    est = NeuralNetClassifier(**SMALL).fit(X, Y)
    before = outputs(est, X)
    save(est, path)
    with torch.no_grad():
        for parameter in load(path).model_.module_.parameters():
            parameter.zero_()
    assert np.array_equal(outputs(est, X), before)


# ---------------------------------------------------------- every built-in component


SLOW = ("mlflow",)
every_callback = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in list_callbacks()],
)


@every_callback
def test_every_built_in_callback_comes_back_with_its_state(name, path, tmp_path, recwarn):
    callback = make(name, tmp_path)
    est = make_estimator(name, callbacks={"it": callback})
    data, y = data_for(name)
    save(est.fit(data, y), path)
    got = load(path, trusted=["callbacks.built_in"])
    assert type(got.callbacks["it"]) is type(callback)
    assert same(got.callbacks["it"].get_params(), callback.get_params())
    assert same(dict(got.model_.callbacks_), dict(est.model_.callbacks_))
    for state, original in zip(
        got.model_.callbacks_.values(), est.model_.callbacks_.values(), strict=True
    ):
        assert type(state) is type(original)
    assert np.array_equal(outputs(got, data), outputs(est, data))


@pytest.mark.parametrize("name", list_callbacks())
def test_every_built_in_callback_comes_back_as_a_parameter(name, path, tmp_path):
    callback = make(name, tmp_path)
    save(NeuralNetClassifier(callbacks=[callback, type(callback)]), path)
    got, cls = load(path, trusted=["callbacks.built_in"]).callbacks
    assert type(got) is cls is type(callback)
    assert same(got.get_params(), callback.get_params())


def test_all_modules_are_here():
    assert set(OF_MODULES) == set(MODULES)


SIZES_OF = {"adaptive_log_softmax_with": (16, 8, [2, 4]), "linear_cross_entropy": (4, 3)}


@pytest.mark.parametrize("name", sorted(NAMES["criterion"]()))
def test_every_criterion_comes_back_as_class_and_instance(name):
    cls = NAMES["criterion"]()[name]
    assert decode(*encode(cls), Trusted()) is cls
    criterion = cls(*SIZES_OF.get(name, ()))
    assert same(decode(*encode(criterion), Trusted()), criterion)


@pytest.mark.parametrize("name", sorted(NAMES["optimizer"]()))
def test_every_optimizer_comes_back_as_a_class(name):
    cls = NAMES["optimizer"]()[name]
    assert decode(*encode(cls), Trusted()) is cls


# -------------------------------------------------------------- in another process

IN_ANOTHER_PROCESS = """
import json, sys, warnings
import numpy as np, torch
torch.set_num_threads(1)
folder, tests = sys.argv[1:]
sys.path.insert(0, tests)
from skorchlike.model.persistence import load
jobs = json.load(open(f"{folder}/jobs.json"))
for i, trusted in enumerate(jobs):
    import pandas, pickle
    data, y = pickle.load(open(f"{folder}/{i}.data", "rb"))
    est = load(f"{folder}/{i}.net", trusted=trusted)
    for part in ("before", "after"):
        made = est.predict_proba(data) if hasattr(est, "predict_proba") else est.predict(data)
        np.save(f"{folder}/{i}.{part}.npy", made)
        if part == "before" and hasattr(est, "partial_fit"):
            est.partial_fit(data, y)
"""


def test_estimators_come_back_in_another_process(tmp_path):
    fitted, jobs = [], []
    for name in (*CONTINUED, "pipeline", "strings as labels", "module tabm", "criterion quantile"):
        est, data, y, trusted = ESTIMATORS[name]()
        est.fit(data, y)
        i = len(jobs)
        save(est, tmp_path / f"{i}.net")
        pd.to_pickle((data, y), tmp_path / f"{i}.data")
        jobs.append([t if isinstance(t, str) else f"{t.__module__}.{t.__name__}" for t in trusted])
        fitted.append((est, data, y))
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    # the folder from which this module's name can be imported, as a package or not
    root = TESTS.parents[len(__name__.split(".")) - 3] if "." in __name__ else TESTS / "model"
    script = tmp_path / "script.py"
    script.write_text(IN_ANOTHER_PROCESS)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), str(root)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
    )
    assert done.returncode == 0, done.stderr
    for i, (est, data, y) in enumerate(fitted):
        for part in ("before", "after"):
            assert np.array_equal(np.load(tmp_path / f"{i}.{part}.npy"), outputs(est, data)), i
            if part == "before" and hasattr(est, "partial_fit"):
                est.partial_fit(data, y)


# -------------------------------------------------------------------------- devices


def test_model_of_a_device_that_is_not_there_is_on_the_cpu(path):
    est = NeuralNetClassifier(**SMALL).fit(X, Y)
    expected = outputs(est, X)
    est.model_.place_.device = torch.device("xpu:1")
    save(est, path)
    with pytest.warns(UserWarning, match=r"on the device 'xpu:1', which this machine does not"):
        got = load(path)
    assert got.model_.device_ == torch.device("cpu")
    assert np.array_equal(outputs(got, X), expected)
    assert got.partial_fit(X, Y).n_iter_ == 3


def test_state_of_a_model_on_a_device_goes_through_the_cpu():
    tensor = torch.ones(2).as_subclass(OnDevice)
    est = NeuralNetClassifier(OWN, callbacks=[Sums()], max_epochs=1, random_state=0).fit(X, Y)
    model = est.model_
    model.callbacks_ = Bunch(a={"deep": [tensor, 1]}, b={"plain": [1]})
    before = dict(vars(model))
    assert portable(before) == before
    model.place_.device = torch.device("xpu:1")
    moved = portable(vars(model))
    placed = moved["callbacks_"].a["deep"][0]
    assert type(placed) is Placed
    assert placed.value.tolist() == [1, 1]
    assert moved["callbacks_"].b is model.callbacks_.b
    assert moved["module_"] is not model.module_
    assert moved["continuation_"]["module"]["module"] is OWN
    assert model.callbacks_.a["deep"][0] is tensor
    placed.device = "xpu:1"
    with pytest.warns(UserWarning, match="'xpu:1', which this machine does not have"):
        back = settled(pickle.loads(pickle.dumps(moved)))
    assert back["callbacks_"].a["deep"][0].device.type == "cpu"
    assert type(back["callbacks_"].a["deep"][0]) is not Placed
    assert back["place_"].device.type == "cpu"
    assert same(back["module_"], model.module_)
    assert same(back["optimizer_"], model.optimizer_)


# ---------------------------------------------------------------------- what is refused


def test_untrusted_names_are_told_before_anything_is_made(path, monkeypatch):
    est, data, y, _ = ESTIMATORS["of one's own"]()
    save(est.fit(data, y), path)
    made = []
    monkeypatch.setattr(Own, "__setstate__", lambda *a: made.append(a), raising=False)
    with pytest.raises(UntrustedError) as error:
        load(path)
    names = [f"'{__name__}.{name}'" for name in ("Mine", "Own", "Sums", "twice")]
    assert ", ".join(names) in str(error.value)
    assert str(path) in str(error.value)
    with pytest.raises(UntrustedError, match=r"names '[\w.]*twice', which"):
        load(path, trusted=[Own, Sums, Mine])
    assert made == []
    assert type(
        load(path, trusted={f"{__name__}.{c.__name__}": c for c in (Own, Sums, Mine, twice)})
    )


@pytest.mark.parametrize(
    ("make_net", "name"),
    [
        (lambda: NeuralNetClassifier(Own, module__act=lambda x: x), "module__act"),
        (lambda: NeuralNetClassifier(predict_nonlinearity=lambda x: x), "predict_nonlinearity"),
        (
            lambda: NeuralNetClassifier(callbacks={"look": Hooks(forward=lambda *a: None)}),
            "callbacks.look.forward",
        ),
        (
            lambda: NeuralNetClassifier(callbacks=["ema"], module=type("Local", (Own,), {})),
            "module",
        ),
    ],
    ids=["routed", "own", "callback", "local class"],
)
def test_parameter_that_cannot_be_written_is_named_and_no_file_is_touched(make_net, name, path):
    with pytest.raises(FormatError, match=rf"cannot be saved\. {name}: .*cannot be written"):
        save(make_net(), path)
    assert os.listdir(path.parent) == []
    path.write_bytes(b"old")
    with pytest.raises(FormatError):
        save(make_net(), path)
    assert path.read_bytes() == b"old"


def test_part_of_the_model_that_cannot_be_written_is_named(path):
    est = NeuralNetClassifier(Own, max_epochs=1).fit(X, Y)
    est.model_.module_.act = lambda x: x
    with pytest.raises(FormatError, match=r"model_\.module_\.act: "):
        save(est, path)


def test_disk_that_is_full_leaves_the_file_of_before(path, monkeypatch):
    est = NeuralNetClassifier(**SMALL).fit(X, Y)
    save(est, path)
    before = path.read_bytes()

    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "write", full)
    with pytest.raises(OSError, match="No space left"):
        save(est.partial_fit(X, Y), path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_file_of_another_kind_is_told_apart(path):
    est = NeuralNetClassifier(**SMALL).fit(X, Y)
    save_weights(est, path)
    with pytest.raises(FormatError, match=r"holds weights alone: .*load_weights"):
        load(path)
    write_atomically(path, pack({}, {}, "checkpoint"))
    with pytest.raises(FormatError, match=r"holds a checkpoint: .*resume=path\).*load_weights"):
        load(path)


def test_file_of_torch_or_pickle_is_told_with_how_to_read_it(tmp_path):
    path = tmp_path / "weights.pt"
    est, other = fitted(), fitted(random_state=1)
    torch.save(est.model_.module_.state_dict(), path)
    for read in (load, lambda path: load_weights(other, path)):
        with pytest.raises(DamagedFileError, match=r"file of torch\.save.*weights_only=True"):
            read(path)
    # what the error says to do
    other.model_.module_.load_state_dict(torch.load(path, weights_only=True))
    assert np.array_equal(outputs(other, X), outputs(est, X))
    path.write_bytes(pickle.dumps(est))
    for read in (load, lambda path: load_weights(other, path)):
        with pytest.raises(DamagedFileError, match="looks like a pickle"):
            read(path)


def test_folder_is_told_from_a_file(tmp_path):
    for read in (load, lambda path: load_weights(fitted(), path)):
        with pytest.raises(IsADirectoryError, match="It is a folder: name a file in it") as error:
            read(tmp_path)
        assert str(tmp_path) in str(error.value)


def test_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        save(fitted(), tmp_path / "absent" / "net.safetensors")
    assert f"The folder {tmp_path / 'absent'} does not exist" in error.value.__notes__[0]
    assert re.search(r"\(\d+\.\d kB\)", error.value.__notes__[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("plain", [{}, [], {"estimator": 3}, {"estimator": {"$": "x"}}, None])
def test_file_without_an_estimator_is_refused(plain, path):
    write_atomically(path, pack(plain, {}, "estimator"))
    with pytest.raises(DamagedFileError, match=str(path)):
        load(path)


@pytest.mark.parametrize("thing", [NeuralNetClassifier, nn.Linear(1, 1), None, "net"])
def test_only_estimators_are_saved(thing, path):
    for function in (save, save_weights):
        with pytest.raises(ParameterError, match="must be an estimator"):
            function(thing, path)


# ------------------------------------------------------------------------- weights alone


def fitted(**params):
    return NeuralNetClassifier(**{**SMALL, **params}).fit(X, Y)


def test_weights_are_read_by_plain_torch_and_safetensors(path):
    est = fitted()
    save_weights(est, path)
    module = est.model_.module_
    assert same(dict(sorted(load_file(path).items())), dict(sorted(module.state_dict().items())))
    other = fitted(random_state=1, max_epochs=1).model_.module_
    other.load_state_dict(load_file(path))
    assert same(other.state_dict(), module.state_dict())


def written(est, path, kind):
    """Write a model's weights in one of the ways."""
    if kind == "weights":
        save_weights(est, path)
    elif kind == "estimator":
        save(est, path)
    elif kind == "checkpoint":
        module = est.model_.module_.state_dict()
        write_atomically(path, pack(*encode({"module": module, "epoch": 1}), "checkpoint"))
    else:
        save_file({k: v.contiguous() for k, v in est.model_.module_.state_dict().items()}, path)


every_kind = pytest.mark.parametrize("kind", ["weights", "estimator", "checkpoint", "elsewhere"])


@every_kind
def test_weights_are_put_into_another_estimator(kind, path):
    est, other = fitted(), fitted(random_state=1, max_epochs=1)
    written(est, path, kind)
    history = other.history_
    assert load_weights(other, path) is other
    assert same(other.model_.module_.state_dict(), est.model_.module_.state_dict())
    assert not other.model_.module_.training
    assert other.history_.equals(history)
    other.partial_fit(X, Y)
    assert other.n_iter_ == 2


class Odd(nn.Module):
    """Has what a state may hold beside plain tensors."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.one = nn.Linear(n_features_in, n_outputs)
        self.two = nn.Linear(n_features_in, n_outputs)
        self.two.weight = self.one.weight
        self.register_buffer("mask", torch.ones(n_outputs), persistent=False)
        self.register_buffer("count", torch.tensor(3))
        self.table = torch.ones(2)
        self.note = {"a": (1, torch.ones(2))}

    def forward(self, X):
        return self.one(X) + self.two(X) * self.mask

    def get_extra_state(self):
        return self.note

    def set_extra_state(self, state):
        self.note = state


@pytest.mark.parametrize("kind", ["weights", "estimator"])
def test_ties_extra_state_and_other_tensors_come_along(kind, path):
    est = NeuralNetClassifier(Odd, max_epochs=1, random_state=0).fit(X, Y)
    other = NeuralNetClassifier(Odd, max_epochs=1, random_state=1).fit(X, Y)
    est.model_.module_.note = {"a": (2, torch.zeros(2))}
    written(est, path, kind)
    if kind == "estimator":
        with pytest.raises(FormatError, match="_extra_state: missing in the file"):
            load_weights(other, path)
        return
    assert {"one.weight", "two.weight", "count"} <= set(load_file(path))
    load_weights(other, path)
    module = other.model_.module_
    assert module.two.weight is module.one.weight
    assert torch.equal(module.one.weight, est.model_.module_.one.weight)
    assert module.note["a"][0] == 2
    assert module.note["a"][1].tolist() == [0, 0]


@every_kind
def test_weights_that_do_not_fit_are_listed_and_nothing_is_changed(kind, path):
    est = fitted(module__hidden_layer_sizes=(5, 6))
    written(est, path, kind)
    other = fitted()
    before = {k: v.clone() for k, v in other.model_.module_.state_dict().items()}
    with pytest.raises(FormatError) as error:
        load_weights(other, path)
    told = str(error.value)
    assert str(path) in told
    assert "- 0.weight: (5, 4) in the file, (4, 4) in the module" in told
    assert "- 4.weight: not in the module" in told
    assert same(dict(other.model_.module_.state_dict()), before)
    written(other, path, kind)
    with pytest.raises(FormatError, match=r"- 4\.weight: missing in the file"):
        load_weights(est, path)


def test_many_differences_are_cut_short(path):
    save_file({f"x{i}": torch.ones(1) for i in range(50)}, path)
    with pytest.raises(FormatError, match=r"and 46 more"):
        load_weights(fitted(), path)


def test_precision_is_cast_and_kinds_of_numbers_are_not(path):
    est = fitted()
    state = est.model_.module_.state_dict()
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in state.items()}, path)
    load_weights(est, path)
    assert est.model_.module_[0].weight.dtype == torch.float64
    assert torch.equal(est.model_.module_[0].weight, state["0.weight"].bfloat16().double())
    save_file({name: tensor.long() for name, tensor in state.items()}, path)
    with pytest.raises(FormatError, match=r"0\.weight: torch\.int64 in the file, torch\.float64"):
        load_weights(est, path)


def test_unfitted_estimator_has_no_weights(path):
    with pytest.raises(NotFittedError):
        save_weights(NeuralNetClassifier(), path)
    save(NeuralNetClassifier(), path)
    with pytest.raises(NotFittedError):
        load_weights(NeuralNetClassifier(), path)
    with pytest.raises(FormatError, match="the estimator was not fitted"):
        load_weights(fitted(), path)


def test_pipeline_has_weights_only_in_its_step(path):
    pipe = make_pipeline(StandardScaler(), NeuralNetClassifier(**SMALL)).fit(X, Y)
    with pytest.raises(ParameterError, match="give its step that is one"):
        save_weights(pipe, path)


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"PK\x03\x04" * 20, b"\xff" * 100])
def test_file_without_tensors_is_damaged(data, path):
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match=str(path)):
        load_weights(fitted(), path)


def test_a_flipped_bit_in_the_format_does_not_pass_the_checksum_by(path):
    est = ESTIMATORS["torch's own"]()[0].fit(X, Y)
    save_weights(est, path)
    data = bytearray(path.read_bytes())
    data[data.index(b'"skorchlike"', data.index(b'"format":')) + 1] ^= 1
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match="its format is not the one that was written"):
        load_weights(est, path)


def test_damaged_file_changes_nothing(path):
    est = fitted()
    save_weights(est, path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    module = est.model_.module_
    with pytest.raises(DamagedFileError, match="checksum"):
        load_weights(est, path)
    assert est.model_.module_ is module


def test_weights_of_a_dtype_that_the_format_lacks_are_refused(path):
    est = fitted()
    est.model_.module_.register_buffer("phase", torch.ones(1, dtype=torch.complex128))
    with pytest.raises(FormatError, match=r"'phase' \(torch\.complex128\)"):
        save_weights(est, path)
    save(est, path)
    assert load(path).model_.module_.phase.dtype == torch.complex128


def test_tensors_of_a_saved_model_have_the_names_of_its_module(path):
    est = fitted()
    state = est.model_.module_.state_dict()
    save(est, path)
    of_module = {k: v for k, v in load_file(path).items() if k.startswith("module.")}
    expected = {f"module.{name}": tensor for name, tensor in state.items()}
    assert same(dict(sorted(of_module.items())), dict(sorted(expected.items())))
    assert unpack(path, "estimator")[1].keys() == load_file(path).keys()
