"""The classifier: labels of every kind, criteria, probabilities, inputs of every kind."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit, log_softmax, softmax
from sklearn import config_context
from sklearn.datasets import load_iris, make_blobs
from sklearn.metrics import accuracy_score, log_loss
from torch import nn

from skorchlike import NeuralNetClassifier

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
BINARY = Y > 0  # setosa or not: separable


class Logits(nn.Module):
    """A linear module of chosen width, whose outputs may be squeezed or normalised."""

    def __init__(self, n_features_in, n_outputs, squeeze=False, log=False):
        super().__init__()
        self.linear = nn.Linear(n_features_in, n_outputs)
        self.squeeze, self.log = squeeze, log

    def forward(self, X):
        out = self.linear(X)
        if self.log:
            out = out.log_softmax(1)
        return out[:, 0] if self.squeeze else out


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, X):
        return self.head(self.embedding(X).mean(1))


class Images(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.Linear(4, n_outputs)

    def forward(self, X):
        return self.head(self.conv(X).relu().amax((2, 3)))


def fit(y=Y, X=X, **params):
    params = {"max_epochs": 30, "lr": 0.05, "random_state": 0, **params}
    return NeuralNetClassifier(**params).fit(X, y)


def raw_outputs(est, X=X):
    """What the trained module returns, without the estimator."""
    model = est.model_
    inputs = torch.tensor(X)
    if model.preparation_ is not None:
        inputs = model.preparation_(inputs)
    with torch.no_grad():
        return model.module_(inputs.to(model.input_dtype_)).numpy()


# ---------------------------------------------------------------------------- labels

LABELS = {
    "integers": np.array([0, 1, 2]),
    "integers-not-from-zero": np.array([10, 20, 40]),
    "negative": np.array([-5, -1, 3]),
    "unsigned": np.array([1, 2, 3], dtype=np.uint8),
    "whole-floats": np.array([1.0, 2.0, 5.0]),
    "strings": np.array(["setosa", "versicolor", "virginica"]),
    "objects": np.array(["setosa", "versicolor", "virginica"], dtype=object),
    "strings-not-in-order": np.array(["z", "a", "m"]),
}


@pytest.mark.parametrize("names", LABELS.values(), ids=LABELS.keys())
def test_labels_of_any_type_come_back_as_they_were(names):
    est = fit(names[Y])
    assert est.classes_.tolist() == sorted(names.tolist())
    assert est.classes_.dtype == names.dtype
    predicted = est.predict(X)
    assert predicted.dtype == names.dtype
    assert accuracy_score(names[Y], predicted) > 0.9
    assert est.score(X, names[Y]) == accuracy_score(names[Y], predicted)


@pytest.mark.parametrize("names", [*LABELS.values(), np.array([False, True])], ids=str)
def test_two_labels_of_any_type_come_back_as_they_were(names):
    names = names[:2]
    est = fit(names[BINARY.astype(int)])
    assert est.classes_.tolist() == sorted(names.tolist())
    assert accuracy_score(names[BINARY.astype(int)], est.predict(X)) == 1.0


@pytest.mark.parametrize(
    "y",
    [
        Y.tolist(),
        pd.Series(Y),
        pd.Series(Y).astype("int8"),
        torch.tensor(Y),
        torch.tensor(Y, dtype=torch.int32),
        pd.Series(LABELS["strings"][Y]),
        pd.Series(LABELS["strings"][Y]).astype("category"),
    ],
    ids=["list", "series", "int8", "tensor", "tensor32", "str-series", "categorical"],
)
def test_targets_of_every_container_train_the_same_weights(y):
    assert np.array_equal(fit(y).predict_proba(X), fit(Y).predict_proba(X))


def test_names_of_the_labels_change_no_weight():
    for names in LABELS.values():
        ordered = np.sort(names)
        assert np.array_equal(fit(ordered[Y]).predict_proba(X), fit(Y).predict_proba(X))


@pytest.mark.parametrize("label", [3, "only", True, -1.0])
def test_one_class_is_predicted_with_certainty(label):
    est = fit(np.array([label] * len(X)), max_epochs=2)
    assert est.classes_.tolist() == [label]
    assert (est.predict(X) == label).all()
    assert (est.predict_proba(X) == np.ones((len(X), 1))).all()


def test_column_of_labels_is_taken_with_scikit_learns_warning():
    from sklearn.exceptions import DataConversionWarning

    with pytest.warns(DataConversionWarning, match="column-vector"):
        est = fit(Y[:, None])
    assert np.array_equal(est.predict_proba(X), fit(Y).predict_proba(X))


def test_many_classes():
    data, y = make_blobs(300, centers=25, n_features=6, cluster_std=0.3, random_state=0)
    est = fit(y, data, max_epochs=100)
    assert est.predict_proba(data).shape == (300, 25)
    assert est.score(data, y) > 0.95


# -------------------------------------------------------------- criteria, probabilities

BINARY_WAYS = {
    "default": {},
    "cross-entropy": {"module": Logits, "criterion": nn.CrossEntropyLoss},
    "bce-built-in": {"criterion": "bce_with_logits"},
    "bce-one-output": {"module": Logits, "criterion": nn.BCEWithLogitsLoss},
    "bce-flat-output": {
        "module": Logits,
        "module__squeeze": True,
        "criterion": nn.BCEWithLogitsLoss,
    },
    "bce-two-outputs": {
        "module": Logits,
        "module__n_outputs": 2,
        "criterion": nn.BCEWithLogitsLoss,
    },
    "nll": {"module": Logits, "module__log": True, "criterion": nn.NLLLoss},
    "hinge": {
        "module": Logits,
        "criterion": nn.MultiMarginLoss,
        "predict_nonlinearity": "softmax",
    },
}
MULTI_WAYS = {
    "default": {},
    "cross-entropy": {"module": Logits, "criterion": "cross_entropy"},
    # one class against the rest is not linear here: the built-in module
    "bce": {"criterion": "bce_with_logits"},
    "soft-margin": {"criterion": "multi_label_soft_margin"},
    "nll": {"module": Logits, "module__log": True, "criterion": "nll"},
    "hinge": {"module": Logits, "criterion": "multi_margin", "predict_nonlinearity": "softmax"},
}
WAYS = [
    *(pytest.param(BINARY, params, id=f"binary-{name}") for name, params in BINARY_WAYS.items()),
    *(pytest.param(Y, params, id=f"multiclass-{name}") for name, params in MULTI_WAYS.items()),
]


@pytest.mark.parametrize(("y", "params"), WAYS)
def test_every_criterion_learns_and_its_predictions_agree(y, params):
    est = fit(y, **params)
    proba = est.predict_proba(X)
    assert est.score(X, y) > 0.85
    assert proba.shape == (len(X), len(np.unique(y)))
    assert ((proba >= 0) & (proba <= 1)).all()
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
    assert np.array_equal(est.classes_[proba.argmax(1)], est.predict(X))


@pytest.mark.parametrize(("y", "params"), WAYS)
def test_decision_function_agrees_with_the_predictions(y, params):
    est = fit(y, **params)
    decision = est.decision_function(X)
    if y is BINARY:
        assert decision.shape == (len(X),)
        assert np.array_equal(decision > 0, est.predict(X))
        order = np.argsort(decision)
        assert (np.diff(est.predict_proba(X)[order, 1]) >= -1e-6).all()
    else:
        assert np.array_equal(decision, raw_outputs(est))
        assert np.array_equal(est.classes_[decision.argmax(1)], est.predict(X))


def test_probabilities_are_the_softmax_of_the_logits():
    est = fit(module=Logits)
    np.testing.assert_allclose(est.predict_proba(X), softmax(raw_outputs(est), 1), rtol=1e-5)
    np.testing.assert_allclose(
        est.predict_proba(X), softmax(est.decision_function(X), 1), rtol=1e-5
    )


@pytest.mark.parametrize("squeeze", [False, True])
def test_probability_of_one_logit_is_its_sigmoid(squeeze):
    est = fit(BINARY, module=Logits, module__squeeze=squeeze, criterion="bce_with_logits")
    expected = expit(raw_outputs(est).reshape(-1))
    np.testing.assert_allclose(est.predict_proba(X)[:, 1], expected, rtol=1e-5)
    np.testing.assert_allclose(est.predict_proba(X)[:, 0], 1 - expected, atol=1e-6)
    assert np.array_equal(est.decision_function(X), raw_outputs(est).reshape(-1))


def test_binary_decision_of_two_logits_is_the_log_odds():
    est = fit(BINARY, module=Logits)
    proba = est.predict_proba(X)
    np.testing.assert_allclose(
        est.decision_function(X), np.log(proba[:, 1] / proba[:, 0]), rtol=1e-3, atol=1e-4
    )


def test_probabilities_of_log_probabilities_are_their_exponentials():
    est = fit(module=Logits, module__log=True, criterion="nll")
    np.testing.assert_allclose(est.predict_proba(X), np.exp(raw_outputs(est)), rtol=1e-5)


def test_log_softmax_and_nll_train_as_cross_entropy_does():
    one = fit(module=Logits)
    other = fit(module=Logits, module__log=True, criterion="nll")
    np.testing.assert_allclose(one.loss_curve_, other.loss_curve_, rtol=1e-4)
    expected = log_loss(Y, softmax(raw_outputs(one), 1))
    assert expected == pytest.approx(-log_softmax(raw_outputs(one), 1)[range(150), Y].mean(), 1e-4)


NONLINEARITIES = {
    "identity": (lambda out: out),
    "softmax": (lambda out: softmax(out, 1)),
    "exp": np.exp,
}


@pytest.mark.parametrize(("name", "expected"), NONLINEARITIES.items(), ids=NONLINEARITIES)
def test_predict_nonlinearity_by_name(name, expected):
    est = fit(module=Logits, module__log=True, criterion="nll", predict_nonlinearity=name)
    np.testing.assert_allclose(est.predict_proba(X), expected(raw_outputs(est)), rtol=1e-5)


def test_predict_nonlinearity_may_be_a_function():
    est = fit(module=Logits, criterion="multi_margin")
    est.set_params(predict_nonlinearity=lambda out: (3 * out).softmax(1))
    np.testing.assert_allclose(est.predict_proba(X), softmax(3 * raw_outputs(est), 1), rtol=1e-4)


def test_predict_needs_no_nonlinearity_for_an_unknown_criterion():
    est = fit(module=Logits, criterion="multi_margin")
    assert np.array_equal(est.predict(X), raw_outputs(est).argmax(1))


def test_probabilities_as_outputs_are_cut_at_one_half():
    def module():
        return nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())

    est = fit(BINARY, module=module, criterion="bce_with_logits", predict_nonlinearity="identity")
    assert np.array_equal(est.predict(X), raw_outputs(est)[:, 0] > 0.5)
    assert np.array_equal(est.predict_proba(X)[:, 1], raw_outputs(est)[:, 0])


@pytest.mark.parametrize(("y", "params"), WAYS)
def test_valid_accuracy_is_that_of_predict(y, params):
    est = NeuralNetClassifier(max_epochs=3, random_state=0, predict_batch_size=40, **params)
    est.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    expected = accuracy_score(y[1::2], est.predict(X[1::2]))
    assert est.history_["valid_accuracy"].iloc[-1] == pytest.approx(expected, abs=1e-12)


# ----------------------------------------------------------------------------- inputs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_built_in_module_follows_the_dtype_of_X(dtype):
    est = fit(X=X.astype(dtype))
    parameters = {p.dtype for p in est.model_.module_.parameters()}
    assert parameters == {torch.from_numpy(np.empty(0, dtype)).dtype}
    assert est.predict_proba(X.astype(dtype)).dtype == dtype
    assert est.decision_function(X.astype(dtype)).dtype == dtype


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.int64, np.uint8, bool])
def test_built_in_module_trains_other_dtypes_as_float64(dtype):
    data = (X > 0).astype(dtype)
    est = fit(X=data)
    assert est.predict_proba(data).dtype == np.float64
    expected = fit(X=data.astype(float)).predict_proba(data.astype(float))
    assert np.array_equal(est.predict_proba(data), expected)


@pytest.mark.parametrize("data", [X, X.astype("float32"), (X * 10).astype(int)], ids=str)
def test_own_module_keeps_its_dtype_and_X_is_cast(data):
    est = fit(X=data, module=Logits)
    assert {p.dtype for p in est.model_.module_.parameters()} == {torch.float32}
    assert est.predict_proba(data).dtype == np.float32
    double = fit(X=data, module=lambda: nn.Linear(4, 3).double())
    assert double.predict_proba(data).dtype == np.float64


@pytest.mark.parametrize("dtype", ["float32", torch.float64, np.float64])
def test_dtype_said_wins(dtype):
    est = fit(X=X.astype("float32"), dtype=dtype)
    wanted = dtype if isinstance(dtype, torch.dtype) else getattr(torch, np.dtype(dtype).name)
    assert {p.dtype for p in est.model_.module_.parameters()} == {wanted}
    assert {p.dtype for p in fit(module=Logits, dtype=dtype).model_.module_.parameters()} == {
        wanted
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_predicts_in_float32(dtype):
    # adam's eps underflows in float16, and its steps then divide by zero
    est = fit(dtype=dtype, max_epochs=5, optimizer="sgd")
    assert est.predict_proba(X).dtype == np.float32
    assert est.decision_function(X).dtype == np.float32
    assert est.predict(X).shape == (150,)


INPUTS = {
    "tensor": torch.tensor(X),
    "frame": pd.DataFrame(X),
    "list": X.tolist(),
    "fortran": np.asfortranarray(X),
    "strided": np.repeat(X, 2, axis=1)[:, ::2],
    "reversed": X[::-1, ::-1][::-1, ::-1],
    "big-endian": X.astype(">f8"),
    "requires-grad": torch.tensor(X, requires_grad=True),
}


@pytest.mark.parametrize("data", INPUTS.values(), ids=INPUTS.keys())
def test_inputs_of_every_container_train_and_predict_the_same(data):
    est = fit(X=data)
    assert isinstance(est.predict_proba(data), np.ndarray)
    assert np.array_equal(est.predict_proba(data), fit().predict_proba(X))
    assert est.n_features_in_ == 4


def test_predict_of_another_container_than_the_fits():
    est = fit()
    expected = est.predict_proba(X)
    for data in INPUTS.values():
        if not isinstance(data, pd.DataFrame):
            assert np.array_equal(est.predict_proba(data), expected)


def test_tensors_with_array_api_dispatch_predict_what_numpy_does():
    expected = fit().predict(X)
    with config_context(array_api_dispatch=True):
        predicted = fit(torch.tensor(Y), torch.tensor(X)).predict(torch.tensor(X))
    assert np.array_equal(np.asarray(predicted), expected)


def test_integers_are_row_numbers_of_an_embedding():
    words = np.random.RandomState(0).randint(0, 20, size=(200, 6))
    y = (words < 4).any(1)
    est = fit(y, words, module=Words, max_epochs=60)
    assert est.score(words, y) > 0.9
    assert np.array_equal(est.predict(torch.tensor(words)), est.predict(words))
    assert np.array_equal(est.predict(words.astype("int32")), est.predict(words))


def test_images_with_a_convolution():
    rng = np.random.RandomState(0)
    images = 0.1 * rng.randn(120, 1, 6, 6).astype("float32")
    y = np.arange(120) % 3
    for row, label in enumerate(y):
        images[row, 0, 1 + label, :] += 1 if label else -1
    est = fit(y, images, module=Images, batch_size=16)
    assert est.predict_proba(images).shape == (120, 3)
    assert est.score(images, y) > 0.6
    assert np.array_equal(est.predict(torch.tensor(images)), est.predict(images))


def test_sequences_with_validation():
    def module():
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))

    rng = np.random.RandomState(0)
    data = rng.randn(100, 4, 3)
    y = data.sum((1, 2)) > 0
    est = fit(y, data, module=module, validation_fraction=0.2, max_epochs=100)
    assert est.score(data, y) > 0.9
    assert est.history_["valid_accuracy"].iloc[-1] > 0.8


@pytest.mark.parametrize("size", [1, 7, 149, 150, 1000, -1, "auto"])
def test_predict_batch_size_changes_no_prediction(size):
    est = fit()
    expected = raw_outputs(est)
    est.set_params(predict_batch_size=size)
    np.testing.assert_allclose(est.decision_function(X), expected, rtol=1e-10)


def test_one_row_predicts_as_within_many():
    for params in BINARY_WAYS.values():
        est = fit(BINARY, **params)
        whole = est.predict_proba(X)
        for row in (0, 60, 149):
            np.testing.assert_allclose(est.predict_proba(X[[row]]), whole[[row]], rtol=1e-4)


def test_feature_names_are_remembered():
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    est = fit(X=frame)
    assert est.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert np.array_equal(est.predict_proba(frame), fit().predict_proba(X))


def test_refit_on_other_data_forgets_the_former():
    est = fit(X=pd.DataFrame(X, columns=list("abcd")))
    est.fit(X[:, :2], np.array(["no", "yes"])[BINARY.astype(int)])
    assert est.n_features_in_ == 2
    assert est.classes_.tolist() == ["no", "yes"]
    assert not hasattr(est, "feature_names_in_")


def test_fitted_attributes():
    est = fit(max_epochs=4, validation_fraction=0.2)
    assert est.n_iter_ == 4
    assert len(est.loss_curve_) == 4
    assert est.history_["epoch"].tolist() == [1, 2, 3, 4]
    assert est.history_["train_loss"].tolist() == est.loss_curve_
    assert {"epoch", "train_loss", "valid_loss", "valid_accuracy", "lr", "duration"} == set(
        est.history_.columns
    )
    assert est.model_.stop_reason_ == "completed"
    assert est.model_.n_epochs_ == 4
    assert not est.model_.module_.training
