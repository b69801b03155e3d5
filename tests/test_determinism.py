"""The same random_state gives the same bits, and nothing outside is changed."""

import io
import pickle
import random
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from skorchlike import Callback, NeuralNetClassifier, NeuralNetRegressor, PrintLog, Progress

X, Y = load_digits(return_X_y=True)
X, Y = X[:300] / 16, Y[:300]


class Noisy(nn.Module):
    """Dropout and a batch norm: whatever disturbs random numbers or modes shows."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.body = nn.Linear(n_features_in, 16)
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(16, n_outputs)

    def forward(self, X):
        return self.head(self.drop(self.norm(self.body(X)).relu()))


class WritesToItsInput(nn.Module):
    def __init__(self, copies=False):
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.copies = copies

    def forward(self, X):
        X = X.clone() if self.copies else X
        return self.linear(X.mul_(2).sub_(1))


def fit(cls=NeuralNetClassifier, data=(X, Y), fit_params=None, **params):
    said = {"module": Noisy, "max_epochs": 3, "batch_size": 32, "random_state": 0, **params}
    return cls(**said).fit(*data, **(fit_params or {}))


def bits(est):
    """Everything that was learned, as bytes."""
    state = est.model_.module_.state_dict()
    return {name: value.numpy().tobytes() for name, value in state.items()}


def generators():
    """The states of all global generators."""
    return (
        torch.get_rng_state().numpy().tobytes(),
        pickle.dumps(np.random.get_state()),  # noqa: NPY002
        random.getstate(),
    )


# --------------------------------------------------------------------- the same bits

SETTINGS = {
    "defaults": {"module": None, "batch_size": "auto"},
    "dropout-and-norm": {},
    "no-shuffle": {"shuffle": False},
    "split": {"validation_fraction": 0.2},
    "drop-last": {"drop_last": True},
    "sgd": {"optimizer": "sgd", "optimizer__momentum": 0.9},
}


@pytest.mark.parametrize("params", SETTINGS.values(), ids=SETTINGS.keys())
@pytest.mark.parametrize("cls", [NeuralNetClassifier, NeuralNetRegressor])
def test_same_random_state_gives_the_same_bits(cls, params):
    first = fit(cls, **params)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)
    again = fit(cls, **params)
    assert bits(first) == bits(again)
    assert first.loss_curve_ == again.loss_curve_
    assert first.history_.drop(columns="duration").equals(again.history_.drop(columns="duration"))


def test_refit_of_the_same_estimator_gives_the_same_bits():
    est = fit()
    first = bits(est)
    assert bits(est.fit(X, Y)) == first


def test_other_random_state_gives_other_bits():
    assert bits(fit(random_state=0)) != bits(fit(random_state=1))


def test_split_and_shuffle_and_initialisation_depend_on_random_state():
    class Rows(Callback):
        def on_begin(self, ctx):
            self.seen = []

        def on_batch_begin(self, ctx):
            self.seen.append(ctx.index.tolist())

        def state_dict(self):
            return {"seen": self.seen}

        def load_state_dict(self, state):
            pass

    def rows(seed, **params):
        est = fit(callbacks=[Rows()], random_state=seed, **params)
        return est.model_.callbacks_.rows["seen"]

    assert rows(0) == rows(0)
    assert rows(0) != rows(1)
    assert rows(0, shuffle=False) == rows(1, shuffle=False)
    split = {"validation_fraction": 0.2, "shuffle": False}
    assert rows(0, **split) == rows(0, **split)
    assert rows(0, **split) != rows(1, **split)


def test_each_epoch_has_another_order():
    class First(Callback):
        def on_begin(self, ctx):
            self.orders = []

        def on_epoch_begin(self, ctx):
            self.orders.append([])

        def on_batch_begin(self, ctx):
            self.orders[-1] += ctx.index.tolist()

        def state_dict(self):
            return self.orders

        def load_state_dict(self, state):
            pass

    orders = fit(callbacks=[First()]).model_.callbacks_.first
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == list(range(300)) for order in orders)


def test_no_random_state_takes_fresh_entropy_whatever_the_global_seeds():
    def unseeded():
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        return fit(random_state=None)

    first, second = unseeded(), unseeded()
    assert bits(first) != bits(second)
    assert first.model_.seed_ != second.model_.seed_


def test_seed_that_was_drawn_repeats_the_fit():
    first = fit(random_state=None)
    assert bits(fit(random_state=first.model_.seed_)) == bits(first)


def test_random_state_instance_is_left_as_it_was_and_repeats():
    rng = np.random.RandomState(7)
    before = pickle.dumps(rng.get_state())
    first, again = fit(random_state=rng), fit(random_state=rng)
    assert pickle.dumps(rng.get_state()) == before
    assert bits(first) == bits(again) == bits(fit(random_state=np.random.RandomState(7)))
    assert bits(first) != bits(fit(random_state=np.random.RandomState(8)))


# ------------------------------------------------------------ generators of the world


class Fails(Callback):
    def on_epoch_end(self, ctx):
        raise RuntimeError("on purpose")


@pytest.mark.parametrize("random_state", [0, None])
def test_global_generators_are_left_as_they_were(random_state):
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    before = generators()
    est = fit(random_state=random_state, validation_fraction=0.2)
    assert generators() == before
    est.partial_fit(X, Y)
    assert generators() == before
    est.predict(X)
    est.predict_proba(X)
    est.decision_function(X)
    est.score(X, Y)
    assert generators() == before
    with pytest.raises(RuntimeError, match="on purpose"):
        fit(random_state=random_state, callbacks=[Fails()])
    assert generators() == before


def test_module_instance_made_outside_is_not_initialised_again():
    torch.manual_seed(0)
    module = nn.Linear(64, 10)
    one, other = (fit(module=module, lr=1e-30, random_state=seed) for seed in (0, 1))
    assert bits(one) == bits(other)


# ---------------------------------------------------------------- who only watches


class Peeks(Callback):
    """Predicts and scores in the middle of training, at every chance."""

    passive = True

    def on_batch_end(self, ctx):
        ctx.fitted_estimator().predict_proba(X[:50])

    def on_epoch_end(self, ctx):
        ctx.log("peek", ctx.fitted_estimator().score(X, Y))
        ctx.snapshot()


PASSIVE = {
    "print_log": lambda: [PrintLog(sink=io.StringIO().write)],
    "progress": lambda: [Progress()],
    "peeks": lambda: [Peeks()],
    "all": lambda: [Peeks(), PrintLog(sink=io.StringIO().write), Progress(batches=False)],
}


@pytest.mark.parametrize("make", PASSIVE.values(), ids=PASSIVE.keys())
@pytest.mark.parametrize("given", ["estimator", "fit"])
def test_passive_callbacks_change_no_bit(make, given):
    assert all(type(callback).passive for callback in make())
    if given == "estimator":
        watched = fit(callbacks=make())
    else:
        watched = fit(fit_params={"callbacks": make()})
    assert bits(watched) == bits(fit())
    assert watched.loss_curve_ == fit().loss_curve_


def test_verbose_changes_no_bit(capsys):
    assert bits(fit(verbose=1)) == bits(fit())
    assert "train_loss" in capsys.readouterr().out


@pytest.mark.parametrize("params", [{}, {"valid_every": 2}, {"predict_batch_size": 7}])
def test_validation_data_change_no_bit(params):
    validated = fit(fit_params={"X_val": X[:90], "y_val": Y[:90]}, **params)
    assert bits(validated) == bits(fit())


def test_predicting_between_fits_changes_no_bit():
    est, other = (NeuralNetClassifier(Noisy, batch_size=32, random_state=0) for _ in range(2))
    for _ in range(3):
        est.partial_fit(X, Y)
        est.predict(X)
        est.score(X, Y)
        other.partial_fit(X, Y)
    assert bits(est) == bits(other)


def test_prediction_is_the_same_each_time():
    est = fit()
    assert np.array_equal(est.predict_proba(X), est.predict_proba(X))


# --------------------------------------------------------------- the data of the user

CONTAINERS = {
    "float32": lambda: X.astype("float32"),
    "float64": lambda: X.copy(),
    "tensor": lambda: torch.tensor(X, dtype=torch.float32),
    "tensor64": lambda: torch.tensor(X),
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS.keys())
@pytest.mark.parametrize("dtype", ["auto", "float64"])
@pytest.mark.parametrize("batching", [{"batch_size": -1, "shuffle": False}, {}], ids=["all", "32"])
def test_data_are_unchanged_by_a_module_that_writes_to_its_input(make, dtype, batching):
    data, val, new = make(), make()[:60], make()[:40]
    before = joblib.hash([data, val, new])
    params = {"dtype": dtype, **batching}
    val_params = {"X_val": val, "y_val": Y[:60]}
    est = fit(module=WritesToItsInput, data=(data, Y), fit_params=val_params, **params)
    one = est.predict_proba(new)
    assert joblib.hash([data, val, new]) == before

    copying = {"module__copies": True, **params}
    other = fit(module=WritesToItsInput, data=(data, Y), fit_params=val_params, **copying)
    assert bits(est) == bits(other), "each epoch saw the data as they are"
    assert np.array_equal(one, other.predict_proba(new))
    assert est.history_["valid_loss"].equals(other.history_["valid_loss"])


class WritesToTheBatch(Callback):
    def on_batch_begin(self, ctx):
        ctx.X.zero_()
        ctx.y.zero_()
        ctx.sample_weight.fill_(3.0)

    def on_batch_valid_begin(self, ctx):
        ctx.X.zero_()
        ctx.y.zero_()
        ctx.sample_weight.fill_(3.0)

    def on_batch_predict_begin(self, ctx):
        ctx.X.zero_()


@pytest.mark.parametrize("batch_size", [-1, 32])
@pytest.mark.parametrize("tensors", [False, True])
def test_data_are_unchanged_by_a_callback_that_writes_to_the_batch(batch_size, tensors):
    data = [X.astype("float32"), Y.copy(), np.linspace(1, 2, 300)]
    if tensors:
        data = [torch.tensor(array) for array in data]
    val = dict(zip(("X_val", "y_val", "sample_weight_val"), (d[:60] for d in data), strict=True))
    before = joblib.hash([data, val])
    est = fit(
        data=data,
        fit_params=val,
        callbacks=[WritesToTheBatch()],
        batch_size=batch_size,
        predict_batch_size=-1,
        shuffle=False,
    )
    est.predict(data[0])
    assert joblib.hash([data, val]) == before


def test_regression_targets_are_unchanged_by_a_callback_that_writes_to_them():
    class Scales(Callback):
        def on_batch_begin(self, ctx):
            ctx.y.mul_(0.5)

    target = torch.linspace(0, 1, 300, dtype=torch.float64)[:, None]
    before = target.clone()
    fit(NeuralNetRegressor, data=(X, target), module=None, callbacks=[Scales()], shuffle=False)
    assert torch.equal(target, before)


# a warning about arrays that cannot be written is given once a process: ask a new one
READ_ONLY = """
import warnings
import numpy as np
from skorchlike import NeuralNetRegressor
warnings.simplefilter("error")
X = np.random.RandomState(0).randn(50, 3)
data = [X, X.sum(1), np.ones(50)]
for array in data:
    array.flags.writeable = False
est = NeuralNetRegressor(max_epochs=2)
est.fit(*data, X_val=data[0], y_val=data[1], sample_weight_val=data[2])
est.predict(X)
print("fine")
"""


def test_read_only_arrays_are_taken_without_a_warning():
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY], capture_output=True, text=True, check=False
    )
    assert done.stdout == "fine\n", done.stderr[-600:]
