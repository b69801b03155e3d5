"""Pipelines, searches, metadata routing, diagrams, frames, worker processes."""

import os
import re

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from joblib import Parallel, delayed
from sklearn import config_context
from sklearn.base import is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr

from skorchlike import Callback, EarlyStopping, NeuralNetClassifier, NeuralNetRegressor

X, Y = load_iris(return_X_y=True)
WEIGHTS = np.random.RandomState(0).uniform(0.1, 2, 150)


class EMALogger(Callback):
    """An exponential moving average of the training loss."""

    def __init__(self, alpha=0.1):
        self.alpha = alpha

    def on_begin(self, ctx):
        self.moving_loss = None

    def on_batch_end(self, ctx):
        previous = ctx.last_loss if self.moving_loss is None else self.moving_loss
        self.moving_loss = self.alpha * ctx.last_loss + (1 - self.alpha) * previous

    def state_dict(self):
        return {"moving_loss": self.moving_loss}

    def load_state_dict(self, state):
        self.moving_loss = state["moving_loss"]


class SumOfWeights(Callback):
    """Keeps what weights and validation data reached the loop."""

    def on_begin(self, ctx):
        self.weight = self.n_valid = 0

    def on_batch_end(self, ctx):
        self.weight += 0 if ctx.sample_weight is None else ctx.sample_weight.sum().item()

    def on_batch_valid_end(self, ctx):
        self.valid_mean = ctx.X.mean(0).tolist()
        self.n_valid += len(ctx.X)

    def state_dict(self):
        return dict(vars(self))

    def load_state_dict(self, state):
        vars(self).update(state)


class Last(Callback):
    order = 50


class First(Callback):
    order = -50


def net(**params):
    return NeuralNetClassifier(**{"max_epochs": 5, "batch_size": 64, "random_state": 0, **params})


def pipe(**params):
    return Pipeline([("scale", StandardScaler()), ("net", net(**params))])


# --------------------------------------------------------------------- meta-estimators


def test_net_in_a_pipeline_is_the_net_on_scaled_data():
    est = pipe().fit(X, Y)
    expected = net().fit(StandardScaler().fit_transform(X), Y)
    scaled = StandardScaler().fit_transform(X)
    assert np.array_equal(est.predict_proba(X), expected.predict_proba(scaled))
    assert est.score(X, Y) == expected.score(scaled, Y)


def test_pipeline_sets_routed_parameters_of_the_net():
    est = pipe(callbacks={"logger": EMALogger()})
    est.set_params(net__callbacks__logger__alpha=0.7, net__module__hidden_layer_sizes=(5,))
    params = est.get_params()
    assert params["net__callbacks__logger__alpha"] == 0.7
    module = est.fit(X, Y)[-1].model_.module_
    assert module[0].out_features == 5


def test_cross_val_score_is_that_of_fits_by_hand():
    folds = StratifiedKFold(3)
    scores = cross_val_score(pipe(), X, Y, cv=folds)
    expected = [
        accuracy_score(Y[test], pipe().fit(X[train], Y[train]).predict(X[test]))
        for train, test in folds.split(X, Y)
    ]
    assert scores.tolist() == expected


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_cross_validate_with_processes_gives_the_same_scores(n_jobs):
    result = cross_validate(pipe(), X, Y, cv=3, n_jobs=n_jobs, scoring=["accuracy", "neg_log_loss"])
    expected = cross_validate(pipe(), X, Y, cv=3, scoring=["accuracy", "neg_log_loss"])
    for name in ("test_accuracy", "test_neg_log_loss"):
        assert result[name].tolist() == expected[name].tolist()


def test_cross_val_predict_gives_probabilities():
    proba = cross_val_predict(pipe(), X, Y, cv=3, method="predict_proba")
    assert proba.shape == (150, 3)
    assert log_loss(Y, proba) < 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda est: BaggingClassifier(est, n_estimators=2, random_state=0),
        lambda est: VotingClassifier([("a", est), ("b", net())], voting="soft"),
        lambda est: CalibratedClassifierCV(est, cv=2),
    ],
    ids=["bagging", "voting", "calibrated"],
)
def test_meta_estimators_take_the_net(make):
    est = make(net(callbacks={"logger": EMALogger()}, lr=0.05)).fit(X, Y)
    assert est.score(X, Y) > 0.6


def test_multi_output_wrapper_takes_the_regressor():
    data, y = load_diabetes(return_X_y=True)
    est = MultiOutputRegressor(NeuralNetRegressor(max_epochs=2)).fit(data, np.c_[y, -y])
    assert est.predict(data).shape == (len(y), 2)


def test_kinds_of_the_estimators():
    assert is_classifier(NeuralNetClassifier())
    assert is_regressor(NeuralNetRegressor())
    assert NeuralNetRegressor().__sklearn_tags__().target_tags.multi_output


# ------------------------------------------------------------------------- searches


def test_search_over_a_callbacks_parameter_gives_different_states_and_touches_no_object():
    logger = EMALogger()
    callbacks = {"logger": logger}
    est = make_pipeline(StandardScaler(), net(callbacks=callbacks, batch_size=16))
    before = joblib.hash([est, logger, callbacks])
    name = "neuralnetclassifier__callbacks__logger__alpha"
    alphas = [0.05, 0.1, 0.5]
    states = {}
    for alpha in alphas:
        search = GridSearchCV(est, {name: [alpha]}, cv=2, n_jobs=2).fit(X, Y)
        states[alpha] = search.best_estimator_[-1].model_.callbacks_.logger["moving_loss"]
        assert search.best_params_ == {name: alpha}
    assert len(set(states.values())) == 3
    for alpha in alphas:
        alone = make_pipeline(
            StandardScaler(), net(callbacks={"logger": EMALogger(alpha)}, batch_size=16)
        ).fit(X, Y)
        assert states[alpha] == alone[-1].model_.callbacks_.logger["moving_loss"]
    assert joblib.hash([est, logger, callbacks]) == before


class ScoreIsTheState(NeuralNetClassifier):
    """Scores by its callback's state, so that a search shows every candidate's."""

    def score(self, X, y, sample_weight=None):
        return self.model_.callbacks_.logger["moving_loss"]


def test_candidates_of_one_search_in_processes_have_different_states():
    est = ScoreIsTheState(
        callbacks={"logger": EMALogger()}, max_epochs=5, batch_size=16, random_state=0
    )
    before = joblib.hash(est)
    grid = {"callbacks__logger__alpha": [0.05, 0.1, 0.5]}
    search = GridSearchCV(est, grid, cv=2, n_jobs=2).fit(X, Y)
    assert len(set(search.cv_results_["mean_test_score"])) == 3
    alone = GridSearchCV(est, grid, cv=2).fit(X, Y)
    assert (
        search.cv_results_["mean_test_score"].tolist()
        == alone.cv_results_["mean_test_score"].tolist()
    )
    assert joblib.hash(est) == before


@pytest.mark.parametrize("dropped", [None, "passthrough"])
def test_search_over_dropping_a_callback(dropped):
    est = pipe(callbacks={"logger": EMALogger(), "other": EMALogger()})
    grid = {"net__callbacks__logger": [dropped, EMALogger(0.5)]}
    search = GridSearchCV(est, grid, cv=2).fit(X, Y)
    assert len(search.cv_results_["params"]) == 2
    assert search.cv_results_["mean_test_score"][0] == search.cv_results_["mean_test_score"][1]
    assert search.best_params_ == {"net__callbacks__logger": dropped}
    assert list(search.best_estimator_[-1].model_.callbacks_) == ["other"]


def test_search_over_whole_callbacks_and_their_parameters():
    est = net(callbacks={"logger": EMALogger()})
    grid = [
        {"callbacks": [None, ["early_stopping"]], "validation_fraction": [0.2]},
        {"callbacks__logger__alpha": [0.1, 0.2]},
    ]
    search = GridSearchCV(est, grid, cv=2).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_search_over_every_component():
    grid = {
        "module__hidden_layer_sizes": [(4,), (8, 8)],
        "optimizer": ["sgd", torch.optim.Adam],
        "optimizer__weight_decay": np.logspace(-4, -3, 2),
        "criterion__label_smoothing": [0.0, 0.1],
        "max_epochs": np.arange(1, 4),
        "lr": np.logspace(-3, -1, 3),
    }
    search = RandomizedSearchCV(net(), grid, n_iter=6, cv=2, random_state=0).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_search_over_patience_as_numpy_gives_it():
    est = net(callbacks={"stop": EarlyStopping()}, validation_fraction=0.2)
    grid = {"callbacks__stop__patience": np.arange(1, 4), "callbacks__stop__min_delta": [0.0]}
    search = GridSearchCV(est, grid, cv=2).fit(X, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_search_with_a_misspelt_parameter_says_the_nearest_one():
    est = net(callbacks={"logger": EMALogger()})
    with pytest.raises(ValueError, match="Did you mean 'alpha'"):
        GridSearchCV(est, {"callbacks__logger__alhpa": [0.1]}, cv=2).fit(X, Y)


# ------------------------------------------------------------------ metadata routing


def test_weights_reach_the_net_through_a_pipeline_without_routing():
    est = pipe(callbacks=[SumOfWeights()], max_epochs=1)
    est.fit(X, Y, net__sample_weight=WEIGHTS)
    state = est[-1].model_.callbacks_.sum_of_weights
    assert state["weight"] == pytest.approx(WEIGHTS.sum())


def test_weights_are_routed_through_a_pipeline_and_a_search():
    with config_context(enable_metadata_routing=True):
        est = pipe(callbacks=[SumOfWeights()], max_epochs=1)
        est["scale"].set_fit_request(sample_weight=False)
        est["net"].set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        est.fit(X, Y, sample_weight=WEIGHTS)
        state = est[-1].model_.callbacks_.sum_of_weights
        assert state["weight"] == pytest.approx(WEIGHTS.sum())

        search = GridSearchCV(est, {"net__lr": [0.01, 0.1]}, cv=2)
        search.fit(X, Y, sample_weight=WEIGHTS)
        state = search.best_estimator_[-1].model_.callbacks_.sum_of_weights
        assert state["weight"] == pytest.approx(WEIGHTS.sum())


def test_validation_data_are_transformed_on_their_way():
    X_val, y_val = X[::3] + 5, Y[::3]
    with config_context(enable_metadata_routing=True):
        est = Pipeline(
            [
                ("scale", StandardScaler()),
                (
                    "net",
                    net(callbacks=[SumOfWeights()], max_epochs=1).set_fit_request(
                        X_val=True, y_val=True
                    ),
                ),
            ],
            transform_input=["X_val"],
        )
        est.fit(X, Y, X_val=X_val, y_val=y_val)
    state = est[-1].model_.callbacks_.sum_of_weights
    assert state["n_valid"] == 50
    np.testing.assert_allclose(state["valid_mean"], est[0].transform(X_val).mean(0), rtol=1e-6)
    assert "valid_accuracy" in est[-1].history_


def test_every_fit_argument_can_be_requested():
    with config_context(enable_metadata_routing=True):
        names = ["sample_weight", "X_val", "y_val", "sample_weight_val", "callbacks"]
        for cls in (NeuralNetClassifier, NeuralNetRegressor):
            est = cls().set_fit_request(**dict.fromkeys(names, True))
            requested = est.get_metadata_routing().fit.requests
            assert {name for name, value in requested.items() if value} == set(names)
            est.set_partial_fit_request(sample_weight=True)


# --------------------------------------------------------------------------- diagram


def labels_of(est):
    """The labels in the diagram, in order, without markup."""
    html = estimator_html_repr(est)
    labels = re.findall(r"<label.*?</label>", html, re.DOTALL)
    return [re.sub("<[^>]*>", "", re.sub("<span.*</span>", "", label)) for label in labels]


def test_diagram_shows_the_callbacks_in_the_order_in_which_they_run():
    est = net(callbacks=[Last(), EMALogger(alpha=0.25), First()])
    pairs = ["first", "First", "ema_logger", "EMALogger", "last", "Last"]
    assert labels_of(est) == ["NeuralNetClassifier", *pairs]
    assert labels_of(make_pipeline(StandardScaler(), est))[-6:] == pairs


def test_diagram_shows_replaced_callbacks_and_leaves_out_the_dropped():
    est = net(callbacks={"a": Last(), "b": Last()}, callbacks__a=None, callbacks__b=EMALogger())
    assert labels_of(est) == ["NeuralNetClassifier", "b", "EMALogger"]


@pytest.mark.parametrize(
    "callbacks", [None, [], -1, {"a": 3}, ["no_such_name"], ["early_stopping"]], ids=repr
)
def test_diagram_stands_every_callbacks_parameter(callbacks):
    assert labels_of(net(callbacks=callbacks))[0] == "NeuralNetClassifier"
    labels = labels_of(make_pipeline(net(callbacks=callbacks)))
    assert any("NeuralNetClassifier" in label for label in labels)


def test_diagram_of_a_fitted_estimator():
    est = pipe(callbacks={"logger": EMALogger()}).fit(X, Y)
    assert labels_of(est)[-2:] == ["logger", "EMALogger"]


def test_repr_shows_what_was_said():
    text = repr(NeuralNetClassifier(callbacks={"logger": EMALogger()}, module__dropout=0.1, lr=1))
    assert "module__dropout=0.1" in text
    assert "EMALogger" in text
    assert "lr=1" in text
    assert "max_epochs" not in text


# ---------------------------------------------------------------------------- frames


def test_frames_give_feature_names_and_the_same_predictions():
    frame, y = load_iris(return_X_y=True, as_frame=True)
    est = net().fit(frame, y)
    assert est.feature_names_in_.tolist() == frame.columns.tolist()
    assert np.array_equal(est.predict_proba(frame), net().fit(X, Y).predict_proba(X))


def test_frame_predicted_without_names_warns_as_scikit_learn_does():
    frame, y = load_iris(return_X_y=True, as_frame=True)
    est = net().fit(frame, y)
    with pytest.warns(UserWarning, match="valid feature names"):
        est.predict(X)


def test_frames_of_integers_and_nullable_columns_train():
    frame = pd.DataFrame(X, columns=list("abcd")).round().astype("Int64")
    est = net().fit(frame, pd.Series(Y))
    assert est.predict_proba(frame).shape == (150, 3)


def test_scipy_array_api_is_on_for_the_suite():
    assert os.environ["SCIPY_ARRAY_API"] == "1"
    with config_context(array_api_dispatch=True):
        est = net().fit(torch.tensor(X), torch.tensor(Y))
        assert np.asarray(est.predict(torch.tensor(X))).shape == (150,)
        assert isinstance(est.classes_, np.ndarray)


# ---------------------------------------------------------------------------- workers


class Threads(Callback):
    """Notes how many threads torch has while training."""

    def on_begin(self, ctx):
        self.threads = torch.get_num_threads()

    def state_dict(self):
        return {"threads": self.threads, "pid": os.getpid()}

    def load_state_dict(self, state):
        pass


def fit_in_worker(est):
    return dict(est.fit(X, Y).model_.callbacks_.threads)


def test_workers_of_two_jobs_do_not_oversubscribe_the_cores():
    states = Parallel(n_jobs=2)(delayed(fit_in_worker)(net(callbacks=[Threads()])) for _ in "abcd")
    assert os.getpid() not in {state["pid"] for state in states}
    for state in states:
        assert state["threads"] * 2 <= max(2, joblib.cpu_count())


def test_training_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    state = net(callbacks=[Threads()]).fit(X, Y).model_.callbacks_.threads
    assert torch.get_num_threads() == before == state["threads"]
