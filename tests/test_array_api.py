"""Array API dispatch: for tensors the answers are tensors on their device."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, make_multilabel_classification
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skorchlike import Metrics, NeuralNetClassifier, NeuralNetRegressor

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
IRIS, NUMBERS = load_iris(), load_diabetes()
LX, L = make_multilabel_classification(100, 5, n_classes=3, random_state=0)
ON_DEVICE = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture
def dispatch():
    with sklearn.config_context(array_api_dispatch=True):
        yield


def tensor(array, device="cpu"):
    array = torch.from_numpy(array)
    return array.to(device, torch.float32 if array.is_floating_point() else None)


def net_for(cls, **params):
    return cls(max_epochs=3, lr=0.01, random_state=0, **params)


CASES = {
    "labels": (NeuralNetClassifier, IRIS.data, IRIS.target, {}),
    "two-labels": (NeuralNetClassifier, IRIS.data, IRIS.target % 2, {}),
    "bool": (NeuralNetClassifier, IRIS.data, IRIS.target > 0, {}),
    "floats": (NeuralNetClassifier, IRIS.data, IRIS.target * 2.0, {}),
    "several-labels": (NeuralNetClassifier, LX, L, {}),
    "soft-labels": (NeuralNetClassifier, IRIS.data, np.eye(3)[IRIS.target], {}),
    "numbers": (NeuralNetRegressor, NUMBERS.data, NUMBERS.target, {}),
    "columns": (NeuralNetRegressor, NUMBERS.data, np.c_[NUMBERS.target, NUMBERS.target], {}),
    "poisson": (NeuralNetRegressor, NUMBERS.data, NUMBERS.target, {"criterion": "poisson"}),
}
METHODS = ("predict", "predict_proba", "decision_function")


@ON_DEVICE
@pytest.mark.parametrize("as_tensor", [True, False], ids=["y-tensor", "y-array"])
@pytest.mark.parametrize(("cls", "X", "y", "params"), CASES.values(), ids=CASES)
def test_answers_are_those_without_dispatch_as_tensors(cls, X, y, params, as_tensor, device):
    plain = net_for(cls, **params).fit(X.astype("float32"), y)
    with sklearn.config_context(array_api_dispatch=True):
        Xt = tensor(X, device)
        net = net_for(cls, device=device, **params).fit(Xt, tensor(y, device) if as_tensor else y)
        answers = {m: getattr(net, m)(Xt) for m in METHODS if hasattr(net, m)}
    for method, answer in answers.items():
        assert isinstance(answer, torch.Tensor)
        assert answer.device == Xt.device
        expected = getattr(plain, method)(X.astype("float32"))
        assert answer.shape == expected.shape
        np.testing.assert_allclose(answer.cpu().numpy(), expected, rtol=1e-4, atol=1e-4)


@ON_DEVICE
@pytest.mark.parametrize("name", ["labels", "several-labels", "soft-labels", "numbers", "columns"])
def test_scores_and_searches_take_tensors(name, device, dispatch):
    cls, X, y, params = CASES[name]
    Xt, yt = tensor(X, device), tensor(y, device)
    net = net_for(cls, device=device, **params).fit(Xt, yt)
    with sklearn.config_context(array_api_dispatch=False):
        predicted, true = net.predict(Xt), y.argmax(1) if name == "soft-labels" else y
        metric = r2_score if cls is NeuralNetRegressor else accuracy_score
        expected = metric(true, predicted)
    assert float(net.score(Xt, yt)) == pytest.approx(expected, rel=1e-5)
    assert np.isfinite(cross_val_score(net, Xt, yt, cv=3)).all()
    search = GridSearchCV(net, {"lr": [1e-3, 1e-2]}, cv=2).fit(Xt, yt)
    assert isinstance(search.predict(Xt), torch.Tensor)


@ON_DEVICE
def test_a_pipeline_keeps_tensors_from_end_to_end(device, dispatch):
    Xt, yt = tensor(IRIS.data, device), tensor(IRIS.target, device)
    seen = []

    class Seen(NeuralNetClassifier):
        def do_predict(self, ctx):
            seen.append(ctx.X.device.type)
            super().do_predict(ctx)

    pipe = make_pipeline(StandardScaler(), net_for(Seen, device=device)).fit(Xt, yt)
    assert isinstance(pipe.predict(Xt), torch.Tensor)
    assert float(pipe.score(Xt, yt)) > 0.5
    scores = cross_val_score(clone(pipe), Xt, yt, cv=3, scoring="accuracy")
    assert scores.mean() > 0.5
    assert set(seen) == {device}


def test_labels_that_are_strings_come_as_arrays(dispatch):
    Xt, y = tensor(IRIS.data), IRIS.target_names[IRIS.target]
    net = net_for(NeuralNetClassifier).fit(Xt, y)
    assert set(net.predict(Xt)) <= set(IRIS.target_names)
    assert isinstance(net.predict_proba(Xt), torch.Tensor)
    assert net.score(Xt, y) == np.mean(net.predict(Xt) == y)


def test_quantiles_and_deviations_are_tensors_too(dispatch):
    Xt, y = tensor(NUMBERS.data), NUMBERS.target
    net = net_for(NeuralNetRegressor, criterion="gaussian_nll").fit(Xt, y)
    assert [type(part) for part in net.predict(Xt, return_std=True)] == [torch.Tensor] * 2
    net = net_for(NeuralNetRegressor, criterion="quantile", criterion__quantile=(0.2, 0.8))
    assert isinstance(net.fit(Xt, y).predict_quantiles(Xt), torch.Tensor)


def test_weights_that_are_tensors_train_as_arrays(dispatch):
    Xt, yt = tensor(IRIS.data), tensor(IRIS.target)
    weight = np.linspace(0.5, 2, 150, dtype="float32")
    net = net_for(NeuralNetClassifier, class_weight="balanced")
    answers = [
        net.fit(Xt, yt, sample_weight=w).predict_proba(Xt)
        for w in (weight, torch.from_numpy(weight))
    ]
    assert torch.equal(*answers)


def test_callbacks_see_arrays_all_the_same(dispatch):
    Xt, yt = tensor(IRIS.data), tensor(IRIS.target)
    net = net_for(NeuralNetClassifier, callbacks=[Metrics("balanced_accuracy")])
    net.fit(Xt, yt, X_val=Xt, y_val=yt)
    assert net.history_.valid_balanced_accuracy.iloc[-1] == pytest.approx(
        net.history_.valid_accuracy.iloc[-1]
    )


def test_without_dispatch_or_for_arrays_answers_are_arrays():
    Xt = tensor(IRIS.data)
    net = net_for(NeuralNetClassifier).fit(Xt, IRIS.target)
    assert isinstance(net.predict(Xt), np.ndarray)
    with sklearn.config_context(array_api_dispatch=True):
        assert isinstance(net.predict(IRIS.data), np.ndarray)
        assert isinstance(net.predict_proba(IRIS.data), np.ndarray)
