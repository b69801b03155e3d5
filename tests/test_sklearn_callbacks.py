"""scikit-learn's own callbacks: the fit and its epochs are tasks."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skorchlike import Callback, EarlyStopping, NeuralNetClassifier, NeuralNetRegressor

X, Y = load_iris(return_X_y=True)


class Recorder:
    """Records every hook with the task it is called for."""

    def __init__(self, stop_after=None, fail_at=None):
        self.stop_after, self.fail_at = stop_after, fail_at
        self.calls, self.given = [], {}

    def _note(self, hook, context, **given):
        task = context.task_name
        self.calls.append((hook, "epoch" if task == "epoch" else "fit"))
        self.given.setdefault(self.calls[-1], []).append({"context": context, **given})
        if self.fail_at in (hook, self.calls[-1]):
            raise RuntimeError(f"failed at {hook}")

    def setup(self, estimator, context):
        self._note("setup", context)

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None, metadata=None):
        self._note("begin", context, X=X, y=y, metadata=metadata)

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self._note(
            "end",
            context,
            X=X,
            y=y,
            metadata=metadata,
            epochs=None if fitted_estimator is None else fitted_estimator.n_iter_,
            proba=None if fitted_estimator is None else fitted_estimator.predict(X),
            states=None if fitted_estimator is None else dict(fitted_estimator.model_.callbacks_),
        )
        ended = self.calls.count(("end", "epoch"))
        return self.stop_after is not None and ended >= self.stop_after

    def teardown(self, estimator, context):
        self._note("teardown", context)


class Counts(Callback):
    def on_begin(self, ctx):
        self.epochs = 0

    def on_epoch_end(self, ctx):
        self.epochs += 1

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]


class Fails(Callback):
    def __init__(self, stage="on_batch_end"):
        self.stage = stage

    def on_begin(self, ctx):
        self._maybe("on_begin")

    def on_batch_end(self, ctx):
        self._maybe("on_batch_end")

    def on_exit(self, ctx):
        self._maybe("on_exit")

    def _maybe(self, stage):
        if stage == self.stage:
            raise RuntimeError("on purpose")


def net(*callbacks, cls=NeuralNetClassifier, **params):
    est = cls(**{"max_epochs": 3, "random_state": 0, **params})
    return est.set_callbacks(*callbacks) if callbacks else est


EPOCH = [("begin", "epoch"), ("end", "epoch")]


def whole(n_epochs):
    return [
        ("setup", "fit"),
        ("begin", "fit"),
        *EPOCH * n_epochs,
        ("end", "fit"),
        ("teardown", "fit"),
    ]


# ------------------------------------------------------------------------------ tasks


@pytest.mark.parametrize("cls", [NeuralNetClassifier, NeuralNetRegressor])
@pytest.mark.parametrize("batch_size", [-1, 16])
def test_the_fit_and_its_epochs_are_tasks_and_batches_are_none(cls, batch_size):
    recorder = Recorder()
    net(recorder, cls=cls, batch_size=batch_size).fit(X, Y)
    assert recorder.calls == whole(3)


def test_tasks_are_numbered_and_know_their_parent_and_total():
    recorder = Recorder()
    net(recorder).fit(X, Y)
    fit = recorder.given["begin", "fit"][0]["context"]
    epochs = [given["context"] for given in recorder.given["begin", "epoch"]]
    assert fit.max_subtasks == 3
    assert [epoch.task_id for epoch in epochs] == [0, 1, 2]
    assert all(epoch.parent is fit for epoch in epochs)
    assert fit.estimator_name == "NeuralNetClassifier"


def test_hooks_receive_the_data_as_they_were_given_and_weights_as_metadata():
    recorder, weight = Recorder(), np.ones(150)
    net(recorder).fit(X, Y, weight)
    for given in (*recorder.given["begin", "fit"], *recorder.given["end", "epoch"]):
        assert given["X"] is X
        assert given["y"] is Y
        assert given["metadata"] == {"sample_weight": weight}


def test_fitted_estimator_of_each_epoch_is_ready_to_predict_as_it_is_then():
    recorder = Recorder()
    net(recorder, callbacks=[Counts()]).fit(X, Y)
    ends = recorder.given["end", "epoch"]
    assert [end["epochs"] for end in ends] == [1, 2, 3]
    assert [end["states"]["counts"]["epochs"] for end in ends] == [1, 2, 3]
    for n, end in enumerate(ends, 1):
        expected = net(max_epochs=n).fit(X, Y).predict(X)
        assert np.array_equal(end["proba"], expected)


def test_a_true_return_at_the_end_of_an_epoch_ends_the_fit():
    recorder = Recorder(stop_after=2)
    est = net(recorder, max_epochs=50).fit(X, Y)
    assert est.n_iter_ == 2
    assert est.model_.stop_reason_ == "terminated"
    assert recorder.calls == whole(2)
    assert est.predict(X).shape == (150,)


def test_each_fit_has_tasks_of_its_own():
    recorder = Recorder()
    est = net(recorder).fit(X, Y)
    est.fit(X, Y)
    assert recorder.calls == whole(3) * 2


def test_partial_fit_is_a_fit_of_one_epoch():
    recorder = Recorder()
    net(recorder).partial_fit(X, Y)
    assert recorder.calls == whole(1)


def test_early_stopping_ends_the_tasks_too():
    recorder = Recorder()
    stop = EarlyStopping("train_loss", patience=1, min_delta=1e9)
    est = net(recorder, callbacks=[stop], max_epochs=50).fit(X, Y)
    assert recorder.calls == whole(est.n_iter_)


# --------------------------------------------------------------------------- failures


@pytest.mark.parametrize("stage", ["on_begin", "on_batch_end", "on_exit"])
def test_teardown_runs_after_a_failure_in_training(stage):
    recorder = Recorder()
    with pytest.raises(RuntimeError, match="on purpose"):
        net(recorder, callbacks=[Fails(stage)]).fit(X, Y)
    assert recorder.calls[0] == ("setup", "fit")
    assert recorder.calls.count(("teardown", "fit")) == 1
    assert recorder.calls[-1] == ("teardown", "fit")


@pytest.mark.parametrize("bad", [{"lr": -1}, {"callbacks": -1}, {"module": "mpl"}])
def test_nothing_that_was_set_up_is_left_after_bad_parameters(bad):
    recorder = Recorder()
    with pytest.raises(ValueError):
        net(recorder, **bad).fit(X, Y)
    hooks = [hook for hook, _ in recorder.calls]
    assert hooks.count("setup") == hooks.count("teardown")


@pytest.mark.parametrize("at", ["setup", "begin", ("begin", "epoch"), "end", ("end", "fit")])
def test_failure_in_one_of_them_reaches_the_user_and_leaves_the_estimator(at):
    recorder = Recorder(fail_at=at)
    est = net().fit(X, Y)
    before = est.predict_proba(X)
    est.set_callbacks(recorder)
    with pytest.raises(RuntimeError, match="failed at"):
        est.fit(X[:, :2], Y > 0)
    assert np.array_equal(est.predict_proba(X), before)
    assert est.classes_.tolist() == [0, 1, 2]
    if at != "setup":
        assert recorder.calls[-1] == ("teardown", "fit")


def test_failed_fit_can_be_followed_by_a_good_one():
    recorder = Recorder()
    est = net(recorder, callbacks={"fails": Fails()})
    with pytest.raises(RuntimeError, match="on purpose"):
        est.fit(X, Y)
    recorder.calls.clear()
    est.set_params(callbacks=None).fit(X, Y)
    assert recorder.calls == whole(3)


# ----------------------------------------------------------------- left as it should be


def test_bookkeeping_is_gone_after_the_fit():
    est = net(Recorder()).fit(X, Y)
    plain = net().fit(X, Y)
    assert set(vars(est)) - set(vars(plain)) == {"_skl_callbacks"}
    assert est.get_params().keys() == plain.get_params().keys()


def test_they_change_no_bit_and_leave_no_state():
    est = net(Recorder(), module__dropout=0.3, batch_size=16).fit(X, Y)
    plain = net(module__dropout=0.3, batch_size=16).fit(X, Y)
    assert np.array_equal(est.predict_proba(X), plain.predict_proba(X))
    assert est.model_.callbacks_ == {}


def test_without_them_there_is_no_task_callback():
    class Names(Callback):
        def on_begin(self, ctx):
            self.names = list(ctx.callbacks)

        def state_dict(self):
            return self.names

        def load_state_dict(self, state):
            pass

    assert net(callbacks=[Names()]).fit(X, Y).model_.callbacks_.names == ["names"]


def test_clone_and_copies_keep_them_as_scikit_learn_does():
    est = net(ScoringMonitor(scoring="accuracy")).fit(X, Y)
    for copied in (clone(est), copy.deepcopy(est), pickle.loads(pickle.dumps(est))):
        copied.fit(X, Y)
        assert np.array_equal(copied.predict_proba(X), est.predict_proba(X))


# ------------------------------------------------------------------------------ theirs


@pytest.mark.parametrize(
    ("cls", "scoring", "metric"),
    [(NeuralNetClassifier, "accuracy", accuracy_score), (NeuralNetRegressor, "r2", r2_score)],
)
def test_scoring_monitor_scores_each_epoch(cls, scoring, metric):
    monitor = ScoringMonitor(scoring=scoring)
    net(monitor, cls=cls).fit(X, Y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    expected = [metric(Y, net(cls=cls, max_epochs=n).fit(X, Y).predict(X)) for n in (1, 2, 3)]
    assert [row[scoring] for row in rows] == pytest.approx(expected)


def test_scoring_monitor_in_a_pipeline():
    monitor = ScoringMonitor(scoring="accuracy")
    est = Pipeline([("scale", StandardScaler()), ("net", net(monitor))]).fit(X, Y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(rows) == 3
    assert rows[-1]["accuracy"] == est.score(X, Y)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_scoring_monitor_in_a_search(n_jobs):
    monitor = ScoringMonitor(scoring="accuracy")
    search = GridSearchCV(net(monitor), {"lr": [0.01, 0.1]}, cv=2, n_jobs=n_jobs).fit(X, Y)
    rows = [
        row
        for log in monitor.get_logs(select="all")
        for row in log.data
        if row["task_name"] == "epoch"
    ]
    # two candidates, two folds, and the refit, of three epochs each
    assert len(rows) == 3 * (2 * 2 + 1)
    assert search.best_estimator_.n_iter_ == 3


@pytest.mark.parametrize("where", ["alone", "pipeline", "search"])
def test_progress_bar_counts_the_epochs(where, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    bar = ProgressBar(max_propagation_depth=None)
    if where == "alone":
        net(bar).fit(X, Y)
    elif where == "pipeline":
        Pipeline([("scale", StandardScaler()), ("net", net())]).set_callbacks(bar).fit(X, Y)
    else:
        GridSearchCV(net(), {"lr": [0.01, 0.1]}, cv=2).set_callbacks(bar).fit(X, Y)
    shown = capsys.readouterr().out
    assert "NeuralNetClassifier" in shown
    assert "100%" in shown
