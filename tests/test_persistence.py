"""A fitted estimator survives pickle, joblib, deepcopy and a new process."""

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skorchlike import (
    Callback,
    EarlyStopping,
    NeuralNetClassifier,
    NeuralNetRegressor,
    PrintLog,
    Progress,
)

X, Y = load_iris(return_X_y=True)
TESTS = Path(__file__).parent


class Own(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.linear = nn.Linear(n_features_in, n_outputs)
        self.drop = nn.Dropout(0.5)

    def forward(self, X):
        return self.drop(self.linear(X))


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


OWN = Own(4, 3)

FITTED = {
    "classifier": lambda: NeuralNetClassifier(max_epochs=3, random_state=0),
    "regressor": lambda: NeuralNetRegressor(max_epochs=3, random_state=0),
    "own-module": lambda: NeuralNetClassifier(Own, max_epochs=3, random_state=0, batch_size=16),
    "module-instance": lambda: NeuralNetClassifier(OWN, max_epochs=3, random_state=0),
    "callbacks": lambda: NeuralNetClassifier(
        callbacks={
            "sums": Sums(),
            "stop": EarlyStopping(patience=1),
            "log": PrintLog(sink=str),
            "progress": Progress(),
        },
        callbacks__sums__scale=0.5,
        validation_fraction=0.2,
        max_epochs=3,
        random_state=0,
    ),
    "pipeline": lambda: make_pipeline(
        StandardScaler(), NeuralNetClassifier(max_epochs=3, random_state=0)
    ),
}


def by_pickle(est):
    return pickle.loads(pickle.dumps(est))


def by_joblib(est):
    file = io.BytesIO()
    joblib.dump(est, file)
    file.seek(0)
    return joblib.load(file)


WAYS = {
    "pickle": by_pickle,
    "pickle-2": lambda est: pickle.loads(pickle.dumps(est, protocol=2)),
    "joblib": by_joblib,
    "deepcopy": copy.deepcopy,
    "twice": lambda est: by_pickle(by_pickle(est)),
}
kinds = pytest.mark.parametrize("make", FITTED.values(), ids=FITTED.keys())
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


def outputs(est, data=X):
    return est.predict_proba(data) if hasattr(est, "predict_proba") else est.predict(data)


def net_of(est):
    return est[-1] if hasattr(est, "steps") else est


@kinds
@ways
def test_copy_of_a_fitted_estimator_predicts_the_same_bits(make, way):
    est = make().fit(X, Y)
    copied = way(est)
    assert np.array_equal(outputs(copied), outputs(est))
    one, other = net_of(est), net_of(copied)
    assert one.history_.equals(other.history_)
    assert one.n_iter_ == other.n_iter_
    assert one.loss_curve_ == other.loss_curve_
    assert one.model_.callbacks_.keys() == other.model_.callbacks_.keys()
    assert one.get_params().keys() == other.get_params().keys()


@kinds
@ways
def test_copy_of_an_unfitted_estimator_fits_the_same(make, way):
    assert np.array_equal(outputs(way(make()).fit(X, Y)), outputs(make().fit(X, Y)))


@ways
def test_copy_goes_on_training_as_the_original_does(way):
    est = NeuralNetClassifier(Own, callbacks=[Sums()], batch_size=16, random_state=0)
    est.partial_fit(X, Y)
    copied = way(est)
    est.partial_fit(X, Y)
    copied.partial_fit(X, Y)
    assert np.array_equal(outputs(copied), outputs(est))
    assert copied.model_.callbacks_.sums["steps"] == est.model_.callbacks_.sums["steps"] == 20


@ways
def test_copy_shares_no_weight_with_the_original(way):
    est = FITTED["classifier"]().fit(X, Y)
    copied = way(est)
    before = outputs(est)
    with torch.no_grad():
        for parameter in copied.model_.module_.parameters():
            parameter.zero_()
    assert np.array_equal(outputs(est), before)


@kinds
def test_clone_of_a_fitted_estimator_is_unfitted_and_fits_the_same(make):
    est = make().fit(X, Y)
    cloned = clone(est)
    with pytest.raises(NotFittedError):
        cloned.predict(X)
    assert np.array_equal(outputs(cloned.fit(X, Y)), outputs(est))


IN_A_NEW_PROCESS = """
import sys
sys.path.insert(0, sys.argv[3])
import joblib, pickle
import torch
torch.set_num_threads(1)
with open(sys.argv[1], "rb") as file:
    est = pickle.load(file)
X = joblib.load(sys.argv[2])
outputs = est.predict_proba(X) if hasattr(est, "predict_proba") else est.predict(X)
print(joblib.hash(outputs))
est.fit(X, est.predict(X))
"""


def new_process(est, folder, tests_on_path):
    """Return the hash of the predictions that a fresh interpreter makes."""
    with open(folder / "est.pickle", "wb") as file:
        pickle.dump(est, file)
    joblib.dump(X, folder / "X.joblib")
    script = folder / "script.py"
    script.write_text(IN_A_NEW_PROCESS)
    done = subprocess.run(
        [
            sys.executable,
            str(script),
            str(folder / "est.pickle"),
            str(folder / "X.joblib"),
            str(tests_on_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_unpickled_in_a_new_process_it_predicts_the_same_bits(tmp_path):
    est = FITTED["pipeline"]().fit(X, Y)
    assert new_process(est, tmp_path, tmp_path) == joblib.hash(outputs(est))


def test_callbacks_and_own_module_are_found_in_a_new_process(tmp_path):
    def net():
        return NeuralNetClassifier(Own, callbacks=[Sums()], max_epochs=3, random_state=0)

    est = net().fit(X, Y)
    # the folder from which this module's name can be imported, as a package or not
    folder = TESTS.parent if "." in Own.__module__ else TESTS
    assert new_process(est, tmp_path, folder) == joblib.hash(outputs(est))


def test_pickle_holds_no_training_data():
    def size(n):
        rng = np.random.RandomState(0)
        est = NeuralNetClassifier(max_epochs=1, random_state=0, validation_fraction=0.2)
        return len(pickle.dumps(est.fit(rng.randn(n, 5), np.arange(n) % 2)))

    assert abs(size(20_000) - size(200)) < 1000


def test_estimator_with_scikit_learns_callbacks_can_be_pickled():
    est = NeuralNetClassifier(max_epochs=2, random_state=0)
    est.set_callbacks(ScoringMonitor(scoring="accuracy")).fit(X, Y)
    assert np.array_equal(outputs(by_pickle(est)), outputs(est))


def test_model_is_a_whole_by_itself():
    model = by_pickle(FITTED["classifier"]().fit(X, Y).model_)
    with torch.no_grad():
        logits = model.module_(torch.tensor(X))
    assert logits.shape == (150, 3)
    assert model.n_epochs_ == 3
    assert "MLP" in repr(model)
