"""What explains predictions from outside."""

import importlib
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris, make_regression
from sklearn.inspection import DecisionBoundaryDisplay, partial_dependence, permutation_importance
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skorchlike import NeuralNetClassifier, NeuralNetRegressor

X, Y = load_iris(return_X_y=True)
plt.switch_backend("Agg")


@pytest.fixture(scope="module")
def classifier():
    net = NeuralNetClassifier(lr=0.02, max_epochs=40, random_state=0)
    return make_pipeline(StandardScaler(), net).fit(X, Y)


@pytest.fixture(scope="module")
def linear():
    """A net without hidden layers: its function is a line in each feature."""
    data, y = make_regression(200, 5, n_informative=3, random_state=0)
    net = NeuralNetRegressor(module__hidden_layer_sizes=(), lr=0.1, max_epochs=30, random_state=0)
    return net.fit(data, y / y.std()), data, y / y.std()


def coefficients(net, data):
    """Slopes of a linear function, by differences of its values."""
    zero = np.zeros((1, data.shape[1]))
    return net.predict(np.eye(data.shape[1])) - net.predict(zero)


@pytest.fixture(scope="module")
def shap():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The set_", PendingDeprecationWarning)  # in its plots
        return importlib.import_module("shap")


def test_shap_values_of_a_linear_net_are_the_exact_ones(linear, shap):
    net, data, _ = linear
    background, rows = data[:20], data[100:104]
    values = shap.KernelExplainer(net.predict, background).shap_values(rows, silent=True)
    # Lundberg and Lee, 2017, corollary 1: of a linear function of independent features
    expected = coefficients(net, data) * (rows - background.mean(0))
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


def test_shap_values_of_each_class_add_up_to_its_probability(classifier, shap):
    explainer = shap.KernelExplainer(classifier.predict_proba, X[::10])
    values = explainer.shap_values(X[:5], silent=True)
    assert values.shape == (5, 4, 3)
    base = classifier.predict_proba(X[::10]).mean(0)
    np.testing.assert_allclose(explainer.expected_value, base, atol=1e-9)
    np.testing.assert_allclose(base + values.sum(1), classifier.predict_proba(X[:5]), atol=1e-6)


# shap's own check of the sum mixes tensors and arrays as NumPy 2 will not have it any more
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:unrecognized nn.Module. Preparation:UserWarning")
def test_deep_shap_goes_through_preparation_and_module_to_the_logits(shap):
    data = X.astype(np.float32)
    net = NeuralNetClassifier(lr=0.02, max_epochs=40, random_state=0).fit(data, Y)
    whole = torch.nn.Sequential(net.model_.preparation_, net.model_.module_)
    explainer = shap.DeepExplainer(whole, torch.as_tensor(data[::10]))
    values = explainer.shap_values(torch.as_tensor(data[:5]))
    assert values.shape == (5, 4, 3)
    base = net.decision_function(data[::10]).mean(0)
    np.testing.assert_allclose(base + values.sum(1), net.decision_function(data[:5]), atol=1e-4)


def test_permutation_importance_tells_features_from_noise(linear):
    net, data, y = linear
    slopes = abs(coefficients(net, data))
    found = permutation_importance(net, data, y, n_repeats=5, random_state=0)
    informative = np.sort(slopes.argsort()[-3:])
    assert np.array_equal(np.sort(found.importances_mean.argsort()[-3:]), informative)
    # of a linear function: the loss of r2 is twice the variance that the feature brings
    expected = 2 * slopes**2 * data.var(0) / y.var()
    np.testing.assert_allclose(found.importances_mean, expected, atol=0.15)


def test_partial_dependence_is_the_mean_prediction_at_each_value(classifier):
    grid = np.linspace(0.2, 2.4, 5)
    found = partial_dependence(
        classifier, X, [3], custom_values={3: grid}, response_method="predict_proba", kind="average"
    )
    for i, value in enumerate(grid):
        changed = X.copy()
        changed[:, 3] = value
        expected = classifier.predict_proba(changed).mean(0)
        np.testing.assert_allclose(found["average"][:, i], expected, atol=1e-9)


def test_columns_of_a_mixed_frame_are_explained_as_they_are():
    rng = np.random.default_rng(0)
    city = rng.choice(["Bonn", "Lyon", "Porto"], 200)
    frame = pd.DataFrame({"size": rng.normal(size=200), "city": city, "noise": rng.random(200)})
    y = np.where(city == "Lyon", 2.0, 0.0) + 0.5 * frame["size"]
    net = NeuralNetRegressor(max_epochs=60, random_state=0).fit(frame, y)

    found = permutation_importance(net, frame, y, n_repeats=3, random_state=0)
    importance = dict(zip(frame.columns, found.importances_mean, strict=True))
    assert importance["city"] > importance["size"] > 10 * abs(importance["noise"])

    found = partial_dependence(net, frame, ["city"], categorical_features=["city"], kind="average")
    assert found["grid_values"][0].tolist() == ["Bonn", "Lyon", "Porto"]
    expected = [net.predict(frame.assign(city=name)).mean() for name in found["grid_values"][0]]
    np.testing.assert_allclose(found["average"][0], expected, atol=1e-9)


def test_a_decision_boundary_is_drawn_from_the_predictions():
    net = NeuralNetClassifier(lr=0.02, max_epochs=20, random_state=0).fit(X[:, 2:], Y)
    display = DecisionBoundaryDisplay.from_estimator(
        net, X[:, 2:], grid_resolution=20, response_method="predict"
    )
    corners = np.array([[display.xx0[i, i], display.xx1[i, i]] for i in range(20)])
    assert np.array_equal(np.diagonal(display.response), net.predict(corners))
    plt.close("all")
