"""Runs in an MLflow store, read back by MLflow's own client."""

from __future__ import annotations

import copy
import os
import pickle
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles import FailingCallback, Linear, Log, make_data, make_net, same_weights, weights_of
from sklearn.model_selection import GridSearchCV

from skorchlike import Callback, CancelEpochException, CancelFitException, MLflow

X, Y = make_data()
NAMES = iter(f"experiment {n}" for n in range(1000))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Make one store, whose tables take a second to make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        path = tmp_path_factory.mktemp("mlflow") / "runs.db"
        yield Store(path)


class Store:
    """A store whose experiments are each used by one test."""

    def __init__(self, path):
        from mlflow.tracking import MlflowClient

        self.path = path
        self.uri = f"sqlite:///{path}"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The ``noload`` loader", DeprecationWarning)
            self.client = MlflowClient(self.uri)

    def new(self, **params):
        """Return a callback with an experiment of its own."""
        return MLflow(**{"tracking_uri": self.uri, "experiment": next(NAMES), **params})

    def runs(self, callback):
        experiment = self.client.get_experiment_by_name(callback.experiment)
        ids = [experiment.experiment_id] if experiment else []
        return self.client.search_runs(ids, order_by=["attributes.start_time"]) if ids else []

    def run(self, callback):
        (run,) = self.runs(callback)
        return run

    def column(self, run, name):
        """Return step → value of a metric, of which a step must have one alone."""
        found = self.client.get_metric_history(run.info.run_id, name)
        values = {metric.step: metric.value for metric in found}
        assert len(values) == len(found)
        return values

    def assert_holds_history(self, run, net):
        history = net.history_.set_index("epoch")
        assert set(run.data.metrics) == set(history)
        for name in history:
            assert self.column(run, name) == history[name].dropna().to_dict(), name


def fit(callback, *others, **params):
    net = make_net(callbacks=[callback, *others], **params)
    return net.fit(X, Y, X_val=X, y_val=Y)


# ---------------------------------------------------------------------- what is written


def test_the_metrics_are_the_history(store):
    callback = store.new()
    net = fit(callback, max_epochs=5, valid_every=2)
    run = store.run(callback)
    store.assert_holds_history(run, net)
    assert run.info.run_id == net.model_.callbacks_.mlflow["run_id"]
    assert (run.info.status, run.data.tags["stop_reason"]) == ("FINISHED", "completed")
    assert run.info.run_name == "NeuralNetClassifier"


def test_after_each_epoch_a_viewer_can_see_it(store):
    seen, callback = Log(), store.new(run_name="mine")

    class Look(Callback):
        order = 1000

        def on_epoch_end(self, ctx):
            run = store.run(callback)
            seen.append((run.info.status, run.info.run_name, [*store.column(run, "train_loss")]))

    fit(callback, Look())
    assert seen == [("RUNNING", "mine", [*range(1, n + 1)]) for n in (1, 2, 3)]


def test_numbers_of_callbacks_are_written_under_names_that_mlflow_takes(store):
    class Logs(Callback):
        def on_epoch_end(self, ctx):
            ctx.log("valid_f1(β=2)", 0.5 * ctx.epoch)
            ctx.log("flag", True)
            ctx.log("nothing", np.nan)
            ctx.log("word", "word")

    callback = store.new()
    fit(callback, Logs())
    run = store.run(callback)
    assert store.column(run, "valid_f1_β_2_") == {1: 0.5, 2: 1.0, 3: 1.5}
    assert store.column(run, "flag") == {1: 1.0, 2: 1.0, 3: 1.0}
    assert np.isnan([*store.column(run, "nothing").values()]).all()
    assert "word" not in run.data.metrics


class Wide(Linear):
    """A module with many parameters, of which one is long."""

    def __init__(self, n_features_in, n_outputs, text="", **many):
        super().__init__(n_features_in, n_outputs)


def test_the_parameters_are_those_of_get_params_as_text(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", "false")  # else MLflow would cut and warn
    many = {f"module__p{n}": n for n in range(150)}
    callback = store.new()
    net = make_net(
        module=Wide, callbacks={"log": callback}, module__text="x" * 7000, lr=0.125, **many
    ).fit(X, Y)
    params = store.run(callback).data.params
    said = {name: value for name, value in net.get_params().items() if "callbacks" not in name}
    assert set(params) == set(said)
    assert params["module__text"] == "x" * 6000
    assert params["module"] == repr(Wide)
    assert (params["lr"], params["optimizer"], params["module__p77"]) == ("0.125", "adamw", "77")


def test_the_parameters_of_other_callbacks_are_written_and_not_its_own(store):
    callback = store.new()
    fit(callback, ("stop", FailingCallback()), callbacks__stop__epoch=99)
    params = store.run(callback).data.params
    assert params["callbacks__stop__epoch"] == "99"
    assert not any(store.uri in value or "mlflow" in name for name, value in params.items())


def test_without_parameters_none_are_written(store):
    callback = store.new(log_params=False)
    fit(callback)
    assert store.run(callback).data.params == {}


# ------------------------------------------------------------------------- the store


def test_a_path_is_a_sqlite_file_and_the_default_store_is_that_of_mlflow(
    store, tmp_path, monkeypatch
):
    import mlflow

    class Move(Callback):
        def on_batch_end(self, ctx):
            os.chdir(tmp_path)

    monkeypatch.chdir(store.path.parent)
    callback = store.new(tracking_uri=Path(store.path.name))
    fit(callback, Move())
    assert store.run(callback).info.status == "FINISHED"
    monkeypatch.chdir(store.path.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    callback = store.new(tracking_uri=None)
    fit(callback, Move())
    assert store.run(callback).info.status == "FINISHED"
    assert mlflow.get_tracking_uri() == store.uri


def test_by_its_name_the_default_store_and_experiment_are_used(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    net = make_net(callbacks=["mlflow"]).fit(X, Y)
    run = store.client.get_run(net.model_.callbacks_.mlflow["run_id"])
    experiment = store.client.get_experiment(run.info.experiment_id)
    assert experiment.name == "Default"


def test_no_active_run_is_set_or_used(store):
    import mlflow

    fit(store.new())
    assert mlflow.active_run() is None
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store.uri)
    try:
        with mlflow.start_run() as active:
            callback = store.new()
            fit(callback)
            assert mlflow.active_run().info.run_id == active.info.run_id
        assert store.run(callback).info.run_id != active.info.run_id
        assert store.client.get_run(active.info.run_id).data.metrics == {}
    finally:
        mlflow.set_tracking_uri(None)
    assert mlflow.get_tracking_uri() == before


def test_an_experiment_that_another_process_makes_meanwhile_is_used(store, monkeypatch):
    from mlflow.tracking import MlflowClient

    callback = store.new()
    find, asked = MlflowClient.get_experiment_by_name, []

    def late(self, name):
        asked.append(name)
        if len(asked) == 1:
            store.client.create_experiment(name)
            return None
        return find(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "get_experiment_by_name", late)
        fit(callback)
    assert store.run(callback).info.status == "FINISHED"


# ---------------------------------------------------------------------- several fits


def test_each_fit_is_a_run(store):
    callback = store.new()
    nets = [fit(callback, lr=lr) for lr in (0.1, 0.2)]
    runs = {run.info.run_id: run for run in store.runs(callback)}
    assert len(runs) == 2
    for net in nets:
        store.assert_holds_history(runs[net.model_.callbacks_.mlflow["run_id"]], net)


def test_a_continued_fit_goes_on_in_its_run(store):
    callback, seen = store.new(), Log()

    class Look(Callback):
        order = 1000

        def on_epoch_end(self, ctx):
            seen.append(store.run(callback).info.status)

    net = fit(callback, Look(), warm_start=True).set_params(lr=0.5)
    net.fit(X, Y)
    net.partial_fit(X, Y)
    run = store.run(callback)
    store.assert_holds_history(run, net)
    assert set(seen) == {"RUNNING"}
    assert run.info.status == "FINISHED"
    assert run.data.params["lr"] == "0.001"


def test_in_a_continued_fit_a_new_callback_begins_a_run(store):
    callback = store.new()
    net = make_net(warm_start=True).fit(X, Y)
    net.fit(X, Y, callbacks={"mlflow": callback})
    run = store.run(callback)
    assert [*store.column(run, "train_loss")] == [4, 5, 6]
    assert run.data.params["max_epochs"] == "3"


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_fits_of_a_search_are_runs(n_jobs, store):
    callback = store.new()
    net = make_net(callbacks=[callback])
    search = GridSearchCV(net, {"lr": [0.1, 0.2]}, cv=2, n_jobs=n_jobs).fit(X, Y)
    runs = store.runs(callback)
    best = str(search.best_params_["lr"])
    assert sorted(run.data.params["lr"] for run in runs) == sorted(["0.1", "0.2"] * 2 + [best])
    assert {run.info.status for run in runs} == {"FINISHED"}


# ------------------------------------------------------------------ ends of a fit


class Early(FailingCallback):
    order = -1


class Latest(FailingCallback):
    order = 500


@pytest.mark.parametrize(
    ("other", "status", "reason"),
    [
        (Early("on_batch_begin", CancelFitException, epoch=2), "FINISHED", "cancelled"),
        (Early("on_epoch_begin", CancelEpochException, epoch=1), "FINISHED", "completed"),
        (Early("on_epoch_end", None, epoch=1), "FINISHED", "terminated"),
        (Early("on_batch_begin", KeyboardInterrupt, epoch=2), "KILLED", "interrupted"),
        (Latest("on_end", KeyboardInterrupt), "KILLED", "interrupted"),
        (Early("on_batch_end", OSError, epoch=2), "FAILED", "failed"),
        (Latest("on_end", OSError), "FAILED", "failed"),
    ],
)
@pytest.mark.parametrize("while_handling", [False, True])
def test_the_status_says_how_the_fit_ended(other, status, reason, while_handling, store):
    callback = store.new()
    net = make_net(callbacks=[callback, other])

    def run():
        try:
            net.fit(X, Y)
        except (OSError, KeyboardInterrupt):
            assert status != "FINISHED"

    if while_handling:
        try:
            raise RuntimeError("an error that is being handled while the fit runs")
        except RuntimeError:
            run()
    else:
        run()
    found = store.run(callback)
    assert (found.info.status, found.data.tags.get("stop_reason")) == (status, reason)
    if status != "FAILED":
        store.assert_holds_history(found, net)


def test_when_the_fit_ends_before_it_began_there_is_no_run(store):
    callback = store.new()
    fit(callback, Early("on_begin", CancelFitException))
    with pytest.raises(OSError, match="from on_begin"):
        fit(callback, Early("on_begin", OSError))
    assert store.runs(callback) == []


def test_a_store_that_fails_in_a_fit_fails_the_fit_and_the_run(store, monkeypatch):
    from mlflow.tracking import MlflowClient

    callback = store.new()

    def full(self, *args, **kwargs):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", full)
        with pytest.raises(OSError, match="no space left") as caught:
            fit(callback)
    assert any("'mlflow' (MLflow)" in note for note in caught.value.__notes__)
    assert store.run(callback).info.status == "FAILED"


# --------------------------------------------------------------------- being passive


def test_it_changes_no_bit_of_training_and_draws_no_random_number(store):
    nets, states = [], Log()

    class States(Callback):
        order = 400

        def on_end(self, ctx):
            numpy = np.random.get_state()[1].sum()  # noqa: NPY002
            states.append((random.getstate(), numpy, torch.get_rng_state().sum().item()))

    for others in ((), (store.new(),)):
        nets += [make_net(callbacks=[*others, States()]).fit(X, Y)]
    assert same_weights(*(weights_of(net.model_.module_) for net in nets))
    assert states[0] == states[1]


def test_it_can_be_pickled_and_copied_at_any_time(store):
    copies = Log()

    class Copy(Callback):
        order = 400

        def on_epoch_end(self, ctx):
            callback = ctx.callbacks["mlflow"]
            copies.append(pickle.loads(pickle.dumps(callback)))
            copies.append(copy.deepcopy(callback))

    callback = store.new()
    net = fit(callback, Copy())
    net.set_params(callbacks=[callback])
    copies.append(pickle.loads(pickle.dumps(net)).callbacks[0])
    assert {copied.experiment for copied in copies} == {callback.experiment}
    assert len(copies) == 7
    store.assert_holds_history(store.run(callback), net)


# --------------------------------------------------------------------------- errors


def assert_refused(message, callback):
    batches = []

    class Count(Callback):
        def on_batch_begin(self, ctx):
            batches.append(1)

    net = make_net(callbacks=[callback, Count()])
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert batches == []
    assert not hasattr(net, "model_")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"tracking_uri": 3}, "'tracking_uri' parameter of MLflow .* Got 3"),
        ({"experiment": None}, "'experiment' .* Got None"),
        ({"run_name": 3}, "'run_name' .* Got 3"),
        ({"log_params": "no"}, "'log_params' .* Got 'no'"),
    ],
)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    assert_refused(message, MLflow(**params))


def test_a_store_that_cannot_be_opened_is_an_error_before_training(store, tmp_path, monkeypatch):
    monkeypatch.setattr("mlflow.store.db.utils.MAX_RETRY_COUNT", 1)  # else it waits 100 seconds
    (tmp_path / "file").touch()
    for uri in ("foo://x", tmp_path / "file/x.db", str(tmp_path)):
        assert_refused("MLflow cannot begin a run with tracking_uri=", store.new(tracking_uri=uri))
    assert_refused(r"cannot begin a run .* and experiment=''", store.new(experiment=""))


def test_a_run_that_is_gone_is_an_error_when_its_fit_is_continued(store):
    net = make_net(callbacks=[store.new()], warm_start=True).fit(X, Y)
    store.client.delete_run(net.model_.callbacks_.mlflow["run_id"])
    with pytest.raises(ValueError, match=r"MLflow cannot begin a run .* deleted"):
        net.fit(X, Y)
    assert net.n_iter_ == 3


def test_without_mlflow_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(ImportError, match=r"MLflow needs .*'mlflow'.*skorchlike\[mlflow\]"):
        fit(MLflow())


def test_a_store_may_be_the_path_of_a_file_as_a_string(tmp_path):
    path = str(tmp_path / "runs.db")
    assert fit(MLflow(path)).model_.callbacks_.mlflow["run_id"]
    assert (tmp_path / "runs.db").stat().st_size > 0
