"""Estimators around the net, against the same done by hand."""

import html
import re

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import (
    FixedThresholdClassifier,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import estimator_html_repr

from skorchlike import EarlyStopping, NeuralNetClassifier

X, Y = load_wine(return_X_y=True)
X = StandardScaler().fit_transform(X)
FOLDS = StratifiedKFold(3)


def net(**params):
    return NeuralNetClassifier(**{"max_epochs": 5, "lr": 0.01, "random_state": 0, **params})


def test_temperature_scaling_takes_the_logits_of_the_net():
    train, rest = slice(0, None, 2), slice(1, None, 2)
    fitted = net(max_epochs=100, lr=0.1).fit(X[train], Y[train])
    calibrated = CalibratedClassifierCV(
        FrozenEstimator(fitted), method="temperature", ensemble=False, cv=FOLDS
    ).fit(X[rest], Y[rest])
    logits = fitted.decision_function(X[rest])
    best = minimize_scalar(
        lambda log_beta: log_loss(Y[rest], softmax(np.exp(log_beta) * logits, axis=1)),
        bounds=(-10, 10),
        method="bounded",
        options={"xatol": 1e-8},
    )
    expected = softmax(np.exp(best.x) * logits, axis=1)
    probabilities = calibrated.predict_proba(X[rest])
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)
    assert log_loss(Y[rest], probabilities) < log_loss(Y[rest], fitted.predict_proba(X[rest]))


def test_soft_voting_is_the_mean_of_the_probabilities():
    tree = DecisionTreeClassifier(max_depth=2, random_state=0)
    voting = VotingClassifier([("net", net()), ("tree", tree)], voting="soft").fit(X, Y)
    expected = (net().fit(X, Y).predict_proba(X) + tree.fit(X, Y).predict_proba(X)) / 2
    assert np.array_equal(voting.predict_proba(X), expected)


def test_stacking_learns_from_predictions_of_the_held_out_folds():
    tree = DecisionTreeClassifier(max_depth=2, random_state=0)
    final = LogisticRegression()
    stack = StackingClassifier(
        [("net", net()), ("tree", tree)], final_estimator=final, cv=FOLDS
    ).fit(X, Y)
    held_out = [
        cross_val_predict(each, X, Y, cv=FOLDS, method="predict_proba") for each in (net(), tree)
    ]
    expected = LogisticRegression().fit(np.hstack(held_out), Y)
    np.testing.assert_allclose(stack.final_estimator_.coef_, expected.coef_, atol=1e-6)


def test_a_net_is_the_final_estimator_of_a_stack():
    tree = DecisionTreeClassifier(max_depth=2, random_state=0)
    stack = StackingClassifier([("tree", tree)], final_estimator=net(), cv=FOLDS).fit(X, Y)
    inputs = cross_val_predict(tree, X, Y, cv=FOLDS, method="predict_proba")
    expected = net().fit(inputs, Y).predict_proba(tree.fit(X, Y).predict_proba(X))
    assert np.array_equal(stack.predict_proba(X), expected)


def test_one_versus_rest_trains_one_net_a_class():
    fitted = OneVsRestClassifier(net()).fit(X, Y)
    of_each = [net().fit(X, (label == Y).astype(int)).predict_proba(X)[:, 1] for label in range(3)]
    expected = np.column_stack(of_each)
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-12)


def test_a_threshold_is_tuned_on_the_probabilities():
    data, y = load_breast_cancer(return_X_y=True)
    data = StandardScaler().fit_transform(data)[:200, :5]
    y = y[:200]
    tuned = TunedThresholdClassifierCV(net(max_epochs=2), cv=FOLDS, thresholds=20).fit(data, y)
    fixed = FixedThresholdClassifier(net(max_epochs=2), threshold=tuned.best_threshold_)
    assert np.array_equal(tuned.predict(data), fixed.fit(data, y).predict(data))
    positive = tuned.estimator_.predict_proba(data)[:, 1] >= tuned.best_threshold_
    assert np.array_equal(tuned.predict(data), positive.astype(int))
    scores = [balanced_accuracy_score(y, each.predict(data)) for each in (tuned, tuned.estimator_)]
    assert scores[0] >= scores[1]


def test_features_are_selected_by_the_scores_of_the_net():
    rng = np.random.default_rng(0)
    noisy = np.column_stack([rng.normal(size=(len(X), 2)), X[:, [6, 9]]])
    selector = SequentialFeatureSelector(net(max_epochs=10), n_features_to_select=2, cv=FOLDS)
    assert selector.fit(noisy, Y).get_support().tolist() == [False, False, True, True]


@pytest.mark.parametrize("is_fitted", [False, True])
def test_the_diagram_shows_the_columns_the_net_and_its_callbacks(is_fitted):
    columns = make_column_transformer((StandardScaler(), [0, 1]), (OneHotEncoder(), [2]))
    stop = EarlyStopping(patience=3)
    pipe = make_pipeline(columns, net(callbacks={"stop": stop}, validation_fraction=0.2))
    columns.set_params(onehotencoder__sparse_output=False)
    if is_fitted:
        pipe.fit(np.column_stack([X[:, :2], Y]), Y)
    page = estimator_html_repr(pipe)
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    for name in ("columntransformer", "OneHotEncoder", "NeuralNetClassifier", "stop", "patience"):
        assert name.lower() in text.lower(), name
    assert ("Not fitted" in text) is not is_fitted
