"""A search that is killed and run again skips what is finished and ends with the same bits."""

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from joblib.externals.loky import get_reusable_executor
from scipy.stats import loguniform
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skorchlike import Callback, Checkpoint, EarlyStopping, NeuralNetClassifier

X, Y = make_classification(90, 5, random_state=0)
X = X.astype(np.float32)
N_FOLDS = 2
N_EPOCHS = 3


class Trail(Callback):
    """Note every training batch in a file; end all processes where it has so many lines."""

    passive = True

    def on_batch_begin(self, ctx):
        with Path(os.environ["TRAIL"]).open("a+") as file:
            file.write(f"{ctx.fingerprint} {ctx.epoch} {ctx.step}\n")
            file.seek(0)
            if len(file.readlines()) >= int(os.environ.get("KILL_AT", sys.maxsize)):
                os.killpg(0, signal.SIGKILL)


class Small(nn.Sequential):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(nn.Linear(n_features_in, 4), nn.Tanh(), nn.Linear(4, n_outputs))


class Large(nn.Sequential):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(nn.Linear(n_features_in, 9), nn.ReLU(), nn.Linear(9, n_outputs))


class Seen(Callback):
    """Watches, with a parameter."""

    passive = True

    def __init__(self, what=0):
        self.what = what


def net(folder, others=None, **params):
    saved = Checkpoint(f"{folder}/{{fingerprint}}")
    callbacks = {"saved": saved, "trail": Trail(), **(others or {})}
    fixed = {"max_epochs": N_EPOCHS, "batch_size": 15, "random_state": 0}
    return NeuralNetClassifier(callbacks=callbacks, **{**fixed, **params})


def grid(folder, n_jobs=1):
    found = {"lr": [0.001, 0.03], "callbacks__saved__keep": [1]}
    search = GridSearchCV(net(folder), found, cv=N_FOLDS, n_jobs=n_jobs, error_score="raise")
    return search.fit(X, Y, resume=True)


def grid_in_parallel(folder):
    get_reusable_executor().shutdown()  # earlier workers know no trail
    try:
        return grid(folder, n_jobs=2)
    finally:
        get_reusable_executor().shutdown()  # the next workers are to see another trail


def randomized_over_a_pipeline(folder):
    pipe = make_pipeline(
        StandardScaler(), net(folder, {"stop": EarlyStopping("train_loss")}, module__dropout=0.1)
    )
    search = RandomizedSearchCV(
        pipe,
        {"neuralnetclassifier__lr": loguniform(1e-3, 1e-1)},
        n_iter=2,
        cv=N_FOLDS,
        random_state=0,
        error_score="raise",
    )
    return search.fit(X, Y, neuralnetclassifier__resume=True)


def routed(folder):
    with sklearn.config_context(enable_metadata_routing=True):
        weighted = net(folder).set_fit_request(resume=True, sample_weight=True)
        weighted.set_score_request(sample_weight=False)
        search = GridSearchCV(weighted, {"lr": [0.001, 0.03]}, cv=N_FOLDS, error_score="raise")
        return search.fit(X, Y, resume=True, sample_weight=np.linspace(1, 2, len(X)))


def cross_validated(folder):
    scores = cross_val_score(net(folder), X, Y, cv=4, params={"resume": True}, error_score="raise")
    return {"scores": scores}


SEARCHES = {
    "in the second fit": (grid, 5, 14),
    "while it refits": (grid, 5, 12 * N_EPOCHS + 8),
    "a pipeline": (randomized_over_a_pipeline, 5, 20),
}
MORE = {
    "routed": (routed, 5, 14),
    "cross-validation": (cross_validated, 4, 24),
    "in two processes": (grid_in_parallel, 5, 15),
}

KILLED = """
import importlib, sys
sys.path[:0] = {paths!r}
importlib.import_module({module!r}).{function}({folder!r})
"""


def killed(function, folder, trail, kill_at):
    """Run a search in a process group of its own until it kills itself."""
    here = Path(__file__).parent
    code = KILLED.format(
        paths=[str(here), str(here.parent)],
        module=__name__,
        function=function.__name__,
        folder=str(folder),
    )
    env = {**os.environ, "TRAIL": str(trail), "KILL_AT": str(kill_at), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, start_new_session=True, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def trained(trail):
    """Return fingerprint → the batches that were trained, in order."""
    fits = {}
    for line in trail.read_text().splitlines() if trail.exists() else ():
        fit, epoch, step = line.split()
        fits.setdefault(fit, []).append((int(epoch), int(step)))
    return fits


def same_results(one, other):
    if isinstance(one, dict):
        assert np.array_equal(one["scores"], other["scores"])
        return
    assert one.best_params_ == other.best_params_
    assert one.best_score_ == other.best_score_
    assert one.cv_results_.keys() == other.cv_results_.keys()
    for name, values in one.cv_results_.items():
        if not name.endswith("_time"):
            assert np.array_equal(values, other.cv_results_[name]), name
    best, again = (
        getattr(search.best_estimator_, "steps", [[None, search.best_estimator_]])[-1][1].model_
        for search in (one, other)
    )
    weights = again.module_.state_dict()
    for name, tensor in best.module_.state_dict().items():
        assert torch.equal(tensor, weights[name])
    assert np.array_equal(one.predict_proba(X), other.predict_proba(X))


SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in MORE]


@pytest.mark.parametrize("case", [*SEARCHES, *SLOW])
def test_a_killed_search_run_again_ends_with_the_same_bits(tmp_path, monkeypatch, case):
    search, n_fits, kill_at = {**SEARCHES, **MORE}[case]
    trails = {name: tmp_path / name for name in ("whole", "killed", "again", "finished")}

    def run(trail, folder):
        monkeypatch.setenv("TRAIL", str(trails[trail]))
        return search(tmp_path / folder)

    whole = run("whole", "one")
    killed(search, tmp_path / "other", trails["killed"], kill_at)
    finished = {path.parent.name for path in (tmp_path / "other").glob("*/finished.safetensors")}
    epochs = (tmp_path / "other").glob("*/epoch-*.safetensors")
    saved = {path.parent.name: int(path.stem.removeprefix("epoch-")) for path in epochs}
    same_results(whole, run("again", "other"))

    in_all = trained(trails["whole"])
    before, after = trained(trails["killed"]), trained(trails["again"])
    assert len(in_all) == n_fits
    assert not finished & after.keys()  # nothing of a finished fit is trained again
    under_way = before.keys() - finished
    assert under_way
    for fit, batches in in_all.items():
        if fit in under_way:  # goes on after its last epoch that was saved
            n_epochs = saved.get(fit, 0)
            assert n_epochs >= before[fit][-1][0] - 1
            assert after.get(fit, []) == [batch for batch in batches if batch[0] > n_epochs]
        elif fit not in finished:
            assert after[fit] == batches
    if case in ("in the second fit", "while it refits"):
        assert finished

    same_results(whole, run("finished", "other"))
    assert trained(trails["finished"]) == {}  # all is there


# ---------------------------------------------------------------------- a folder each


def folders_after(tmp_path, monkeypatch, search):
    monkeypatch.setenv("TRAIL", str(tmp_path / "trail"))
    search.fit(X, Y, resume=True)
    return Counter(path.parent.name for path in tmp_path.glob("*/finished.safetensors"))


def test_every_candidate_and_fold_has_a_folder_of_its_own(tmp_path, monkeypatch):
    base = net(tmp_path, {"stop": EarlyStopping("train_loss"), "seen": Seen()})
    grids = [
        {"lr": [0.01, 0.02]},
        {"max_epochs": [1, 2]},
        {"module": [Small, Large, Small(5, 2), Large(5, 2)]},
        {"optimizer": ["sgd", "rmsprop"]},
        {"callbacks__stop": [None]},
        {"callbacks__stop__patience": [1, 2]},
        {"callbacks__stop__min_delta": [0.5]},
        {"callbacks__seen__what": [1, 2]},
        {"callbacks__seen": [None]},
    ]
    search = GridSearchCV(base, grids, cv=N_FOLDS, refit=False, error_score="raise")
    folders = folders_after(tmp_path, monkeypatch, search)
    assert len(search.cv_results_["params"]) == 17
    assert len(folders) == 17 * N_FOLDS


def test_identical_candidates_share_a_folder_and_are_trained_once(tmp_path, monkeypatch):
    found = {"lr": [0.01, 0.01], "callbacks__saved__keep": [1, 2], "verbose": [0]}
    search = GridSearchCV(net(tmp_path), found, cv=N_FOLDS, refit=False, error_score="raise")
    folders = folders_after(tmp_path, monkeypatch, search)
    assert len(folders) == N_FOLDS
    assert all(len(set(steps)) == len(steps) for steps in trained(tmp_path / "trail").values())
    scores = search.cv_results_["split0_test_score"]
    assert len(scores) == 4
    assert len(set(scores)) == 1


def test_a_wider_grid_trains_only_what_is_new(tmp_path, monkeypatch):
    def run(rates):
        trail = tmp_path / f"trail-{len(rates)}"
        monkeypatch.setenv("TRAIL", str(trail))
        search = GridSearchCV(net(tmp_path), {"lr": rates}, cv=N_FOLDS, refit=False)
        search.fit(X, Y, resume=True)
        return trained(trail)

    few, more = run([0.001, 0.03]), run([0.001, 0.03, 0.1])
    assert len(few) == 2 * N_FOLDS
    assert len(more) == N_FOLDS
    assert not few.keys() & more.keys()
