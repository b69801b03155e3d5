"""Kinds of targets: several labels a row, soft labels, weights of classes, all of the classes."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.metrics import accuracy_score, f1_score, log_loss, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.neural_network import MLPClassifier
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from torch import nn
from torch.nn import functional

from skorchlike import (
    Callback,
    GradientAccumulation,
    Metrics,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
)
from skorchlike.targets.numbers import read_numbers
from skorchlike.targets.weights import check_criterion_weight

X, L = make_multilabel_classification(120, 5, n_classes=3, random_state=0)
X = (X - X.mean(0)) / X.std(0)
RNG = np.random.RandomState(0)
WEIGHT = RNG.uniform(0.1, 3, 120)
LABELS = RNG.choice(4, 120, p=[0.6, 0.2, 0.15, 0.05]) % 3
NAMES = np.array(["ant", "bee", "cat"])[LABELS]
SOFT = RNG.dirichlet([1.0, 1.0, 1.0], 120)
T = X @ RNG.randn(5, 2)
STILL = {"optimizer": "sgd", "lr": 1e-30, "max_epochs": 1}


def linear(n_outputs=3):
    torch.manual_seed(0)
    return nn.Linear(5, n_outputs).double()


def loop(module, loss, epochs=4, lr=0.1):
    """Train by hand on all rows at once."""
    module = copy.deepcopy(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=lr)
    for _ in range(epochs):
        optimizer.zero_grad()
        loss(module(torch.from_numpy(X))).backward()
        optimizer.step()
    return module.weight.detach()


def trained(y, module=None, weight=None, **params):
    net = NeuralNetClassifier(
        linear() if module is None else module, optimizer="sgd", lr=0.1, max_epochs=4, batch_size=-1
    )
    return net.set_params(**params).fit(X, y, sample_weight=weight)


def weights_of(net):
    return net.model_.module_.weight.detach()


def same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


# ------------------------------------------------------------------- several labels a row

FORMS = {
    "int64": L,
    "bool": L.astype(bool),
    "uint8": L.astype(np.uint8),
    "list": L.tolist(),
    "frame": pd.DataFrame(L, columns=["a", "b", "c"]),
    "mixed-frame": pd.DataFrame({"a": L[:, 0].astype(bool), "b": L[:, 1], "c": L[:, 2]}),
    "nullable-frame": pd.DataFrame(L).astype("Int64"),
    "objects": L.astype(object),
    "tensor": torch.from_numpy(L),
    "sparse": sparse.csr_matrix(L),
}


@pytest.mark.parametrize("y", FORMS.values(), ids=FORMS)
def test_labels_of_any_form_train_as_a_loop_by_hand_does(y):
    target = torch.from_numpy(L).double()
    expected = loop(linear(), lambda out: functional.binary_cross_entropy_with_logits(out, target))
    same(weights_of(trained(y)), expected)


def test_responses_to_several_labels_are_those_of_the_logits():
    net = trained(L)
    logits = net.model_.module_(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(net.decision_function(X), logits, rtol=1e-12)
    np.testing.assert_allclose(net.predict_proba(X), expit(logits), rtol=1e-12)
    assert np.array_equal(net.predict(X), (expit(logits) > 0.5).astype(int))
    assert net.predict(X).dtype == np.int64
    assert net.score(X, L, WEIGHT) == accuracy_score(L, net.predict(X), sample_weight=WEIGHT)
    one = net.predict(X[:1]), net.predict_proba(X[:1])
    assert [part.shape for part in one] == [(1, 3), (1, 3)]


def test_attributes_and_shapes_are_those_of_scikit_learns_mlp():
    ours = NeuralNetClassifier(max_epochs=2).fit(X, L)
    theirs = MLPClassifier((), solver="lbfgs", alpha=1.0, random_state=0).fit(X, L)
    assert np.array_equal(ours.classes_, theirs.classes_)
    for method in ("predict", "predict_proba"):
        a, b = getattr(ours, method)(X), getattr(theirs, method)(X)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert ours.__sklearn_tags__().classifier_tags.multi_label


def test_several_labels_in_cross_validation_and_search():
    net = NeuralNetClassifier(max_epochs=3, lr=0.01, random_state=0)
    scores = cross_val_score(net, X, L, cv=3, scoring="f1_macro")
    predicted = cross_val_predict(net, X, L, cv=3)
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()
    assert predicted.shape == L.shape
    search = GridSearchCV(net, {"lr": [1e-3, 1e-1]}, cv=2, scoring="roc_auc").fit(X, L)
    assert search.best_score_ > 0.6


@pytest.mark.parametrize("batch", [7, -1])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_validation_of_several_labels_is_that_by_hand(weight, batch):
    net = NeuralNetClassifier(linear(), predict_batch_size=batch, **STILL)
    net.set_params(callbacks=[Metrics({"f1": f1_macro, "ap": "average_precision"})])
    net.fit(X, L, X_val=X, y_val=L, sample_weight_val=weight)
    record = net.history_.iloc[0]
    out = net.decision_function(X)
    each = functional.binary_cross_entropy_with_logits(
        torch.from_numpy(out), torch.from_numpy(L).double(), reduction="none"
    ).numpy()
    expected = np.average(each.mean(1), weights=weight)
    assert record.valid_loss == pytest.approx(expected, rel=1e-9)
    score = accuracy_score(L, out > 0, sample_weight=weight)
    assert record.valid_accuracy == pytest.approx(score, rel=1e-12)
    assert record.valid_f1 == pytest.approx(f1_macro(L, out > 0, weight), rel=1e-12)


def f1_macro(y_true, y_pred, sample_weight=None):
    return f1_score(y_true, y_pred, average="macro", sample_weight=sample_weight)


def test_weighted_rows_of_several_labels_train_as_a_loop_by_hand_does():
    target, w = torch.from_numpy(L).double(), torch.from_numpy(WEIGHT)

    def loss(out):
        each = functional.binary_cross_entropy_with_logits(out, target, reduction="none").mean(1)
        return (each * w).sum() / w.sum()

    same(weights_of(trained(L, weight=WEIGHT)), loop(linear(), loss))


def test_probabilities_of_several_labels_may_come_from_the_module():
    module = nn.Sequential(linear(), nn.Sigmoid())
    net = trained(L, module, criterion="bce")
    raw = net.model_.module_(torch.from_numpy(X)).detach().numpy()
    assert np.array_equal(net.predict_proba(X), raw)
    assert np.array_equal(net.predict(X), raw > 0.5)
    with pytest.raises(ParameterError, match=r"Sigmoid.*bce_with_logits"):
        trained(L, criterion="bce")


def test_validation_accuracy_of_probabilities_is_cut_at_one_half():
    net = NeuralNetClassifier(nn.Sequential(linear(), nn.Sigmoid()), criterion="bce", **STILL)
    net.fit(X, L, X_val=X, y_val=L)
    assert net.history_.valid_accuracy.iloc[0] == pytest.approx(net.score(X, L), rel=1e-12)


def test_a_nonlinearity_of_ones_own_makes_probabilities_of_several_labels():
    net = trained(L, predict_nonlinearity=lambda out: torch.sigmoid(2 * out + 1))
    assert np.array_equal(net.predict(X), net.predict_proba(X) > 0.5)


def test_partial_fit_and_warm_start_go_on_with_several_labels():
    whole = trained(L)
    net = clone(whole)
    for _ in range(4):
        net.partial_fit(X, L, classes=[0, 1, 2])
    same(weights_of(net), weights_of(whole))
    net = clone(whole).set_params(warm_start=True, max_epochs=2).fit(X, L)
    same(weights_of(net.fit(X, L)), weights_of(whole))


def test_one_column_stays_a_column_of_labels():
    with pytest.warns(UserWarning, match="column-vector"):
        net = NeuralNetClassifier(max_epochs=1).fit(X, LABELS[:, None])
    assert net.predict(X).shape == (120,)


BAD = {
    "more-than-two-values": (np.c_[LABELS, LABELS], "0 and 1.*MultiOutputClassifier"),
    "strings": (np.c_[NAMES, NAMES], "MultiLabelBinarizer"),
    "floats": (L.astype(float), r"row 2 .*soft labels.*sum 1.*astype\(int\)"),
    "negative": (np.c_[SOFT[:, 0] + 1, -SOFT[:, 0]], "none negative"),
    "three-dimensions": (L[:, :, None], "dim 3"),
    "nan": (np.where(L == 0, np.nan, 1.0), "NaN"),
}


@pytest.mark.parametrize(("y", "match"), BAD.values(), ids=BAD)
def test_columns_that_are_neither_are_an_error(y, match):
    with pytest.raises(ValueError, match=match):
        NeuralNetClassifier(max_epochs=1).fit(X, y)


MISFITS = {
    "cross-entropy": (L, "cross_entropy", "multi-label.*'bce_with_logits'"),
    "nll": (L, "nll", "bce_with_logits"),
    "mse": (L, "mse", "bce_with_logits"),
    "quantile": (L, "quantile", "bce_with_logits"),
    "soft-nll": (SOFT, "nll", "soft labels.*'cross_entropy'"),
    "soft-margin": (SOFT, "multi_margin", "'cross_entropy'"),
    "soft-mse": (SOFT, "mse", "'cross_entropy'"),
    "labels-poisson": (LABELS, "poisson", "PoissonLoss compares numbers.*'cross_entropy'"),
    "labels-gaussian": (LABELS, "gaussian_nll", "compares numbers"),
}


@pytest.mark.parametrize(("y", "criterion", "match"), MISFITS.values(), ids=MISFITS)
def test_a_criterion_for_another_kind_of_target_is_an_error(y, criterion, match):
    with pytest.raises(ParameterError, match=match):
        NeuralNetClassifier(criterion=criterion).fit(X, y)


@pytest.mark.parametrize(
    ("y", "y_val"), [(L, LABELS), (LABELS, L), (L, L[:, :2]), (SOFT, L), (L, SOFT)]
)
def test_a_target_of_another_kind_in_validation_is_an_error(y, y_val):
    with pytest.raises(ParameterError, match=r"y_val must hold .* as in the fit"):
        NeuralNetClassifier(max_epochs=1).fit(X, y, X_val=X, y_val=y_val)


def test_a_module_with_too_few_outputs_for_the_labels_is_an_error():
    with pytest.raises(ParameterError, match=r"\(120, 2\).*one logit a label, shape \(n, 3\)"):
        trained(L, linear(2))


# ---------------------------------------------------------------------------- soft labels


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_soft_labels_train_as_a_loop_by_hand_does(dtype):
    y = SOFT.astype(dtype)
    target = torch.from_numpy(y.astype(float))
    expected = loop(linear(), lambda out: -(target * out.log_softmax(1)).sum(1).mean())
    same(weights_of(trained(y)), expected)


def test_single_precision_in_double_is_near_enough_to_one():
    y = softmax(RNG.randn(120, 50).astype(np.float32), axis=1).astype(np.float64)
    assert abs(y.sum(1) - 1).max() > 1e-9
    assert NeuralNetClassifier(max_epochs=1).fit(X, y).predict_proba(X).shape == (120, 50)


def test_certain_soft_labels_train_as_labels():
    same(weights_of(trained(np.eye(3)[LABELS])), weights_of(trained(LABELS)))


def test_responses_to_soft_labels_are_classes():
    net = trained(SOFT)
    logits = net.model_.module_(torch.from_numpy(X)).detach().numpy()
    assert np.array_equal(net.classes_, [0, 1, 2])
    assert np.array_equal(net.predict(X), logits.argmax(1))
    np.testing.assert_allclose(net.predict_proba(X), softmax(logits, 1), rtol=1e-12)
    expected = accuracy_score(SOFT.argmax(1), net.predict(X), sample_weight=WEIGHT)
    assert net.score(X, SOFT, WEIGHT) == expected
    assert net.score(X, SOFT.argmax(1), WEIGHT) == expected
    assert net.score(X, SOFT.tolist(), WEIGHT) == expected
    assert net.score(X, torch.from_numpy(SOFT), WEIGHT) == expected


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_validation_of_soft_labels_is_that_by_hand(weight):
    net = NeuralNetClassifier(linear(), predict_batch_size=50, **STILL)
    net.set_params(callbacks=[Metrics(["neg_log_loss", "balanced_accuracy"])])
    net.fit(X, SOFT, X_val=X, y_val=SOFT, sample_weight_val=weight)
    record, proba = net.history_.iloc[0], net.predict_proba(X)
    cross = np.average(-(SOFT * np.log(proba)).sum(1), weights=weight)
    hard = SOFT.argmax(1)
    assert record.valid_loss == pytest.approx(cross, rel=1e-9)
    assert record.valid_accuracy == pytest.approx(
        accuracy_score(hard, proba.argmax(1), sample_weight=weight), rel=1e-12
    )
    assert record.valid_neg_log_loss == pytest.approx(
        -log_loss(hard, proba, sample_weight=weight), rel=1e-9
    )


def test_two_soft_classes_have_one_logit_with_bce():
    y = np.c_[SOFT[:, 0], 1 - SOFT[:, 0]]
    target = torch.from_numpy(y[:, 1:])
    expected = loop(linear(1), lambda out: functional.binary_cross_entropy_with_logits(out, target))
    net = trained(y, linear(1), criterion="bce_with_logits")
    same(weights_of(net), expected)
    assert net.predict_proba(X).shape == (120, 2)
    built_in = NeuralNetClassifier(criterion="bce_with_logits", max_epochs=2).fit(X, y)
    assert built_in.model_.module_(torch.from_numpy(X)).shape == (120, 1)


def test_the_divergence_from_soft_labels_trains_on_log_probabilities():
    module = nn.Sequential(linear(), nn.LogSoftmax(1))
    params = {"criterion": "kl_div", "criterion__reduction": "batchmean"}
    net = trained(SOFT, module, **params)
    cross = trained(SOFT, nn.Sequential(linear()))
    same(net.model_.module_[0].weight.detach(), cross.model_.module_[0].weight.detach())
    np.testing.assert_allclose(net.predict_proba(X), cross.predict_proba(X), rtol=1e-10)
    weighed = trained(SOFT, module, weight=np.full(120, 2.0), **params)
    same(weighed.model_.module_[0].weight.detach(), net.model_.module_[0].weight.detach())


# ---------------------------------------------------------------------- weights of classes

SAID = {
    "dict": ({"ant": 0.5, "bee": 3.0}, {"ant": 0.5, "bee": 3.0, "cat": 1.0}),
    "balanced": ("balanced", "balanced"),
    "zero": ({"cat": 0}, {"ant": 1, "bee": 1, "cat": 0}),
}


@pytest.mark.parametrize("criterion", ["cross_entropy", "bce_with_logits", "multi_margin"])
@pytest.mark.parametrize(("said", "theirs"), SAID.values(), ids=SAID)
def test_weights_of_classes_train_as_scikit_learns_sample_weights(said, theirs, criterion):
    net = trained(NAMES, class_weight=said, criterion=criterion)
    rows = compute_sample_weight(theirs, NAMES)
    other = trained(NAMES, weight=rows, criterion=criterion)
    same(weights_of(net), weights_of(other))
    np.testing.assert_allclose(net.loss_curve_, other.loss_curve_, rtol=1e-10)


@pytest.mark.parametrize("said", [{"bee": 5.0}, "balanced"])
def test_weights_of_classes_multiply_sample_weights(said):
    net = trained(NAMES, weight=WEIGHT, class_weight=said)
    of_class = compute_class_weight(said, classes=net.classes_, y=NAMES, sample_weight=WEIGHT)
    same(weights_of(net), weights_of(trained(NAMES, weight=WEIGHT * of_class[LABELS])))


def test_weights_of_classes_count_in_the_validation_loss_and_not_in_scores():
    net = NeuralNetClassifier(
        linear(), class_weight={0: 4.0}, predict_batch_size=50, callbacks=[Metrics("accuracy")]
    )
    net.set_params(callbacks=[Metrics({"acc": accuracy_score})], **STILL)
    net.fit(X, LABELS, X_val=X, y_val=LABELS, sample_weight_val=WEIGHT)
    record, proba = net.history_.iloc[0], net.predict_proba(X)
    w = WEIGHT * np.where(LABELS == 0, 4.0, 1.0)
    assert record.valid_loss == pytest.approx(log_loss(LABELS, proba, sample_weight=w), rel=1e-9)
    expected = accuracy_score(LABELS, proba.argmax(1), sample_weight=WEIGHT)
    assert record.valid_accuracy == pytest.approx(expected, rel=1e-12)
    assert record.valid_acc == pytest.approx(expected, rel=1e-12)


def test_balanced_weights_are_those_of_the_training_rows():
    y = np.sort(LABELS)
    net = NeuralNetClassifier(linear(), class_weight="balanced", validation_fraction=0.4, **STILL)
    net.set_params(random_state=0).fit(X, y)
    rows = []

    class Look(Callback):
        def on_batch_end(self, ctx):
            rows.extend(ctx.index.tolist())

    again = clone(net).fit(X, y, callbacks=[Look()])
    of_class = compute_class_weight("balanced", classes=np.unique(y), y=y[rows])
    expected = log_loss(y[rows], again.predict_proba(X[rows]), sample_weight=of_class[y[rows]])
    assert again.loss_curve_[0] == pytest.approx(expected, rel=1e-9)


def test_weights_of_classes_weigh_soft_labels_by_their_probabilities():
    of_class = np.array([0.5, 3.0, 1.0])
    net = trained(SOFT, class_weight=dict(enumerate(of_class)))
    same(weights_of(net), weights_of(trained(SOFT, weight=SOFT @ of_class)))
    hard = np.eye(3)[LABELS]
    balanced = trained(hard, class_weight="balanced")
    same(weights_of(balanced), weights_of(trained(LABELS, class_weight="balanced")))
    two = np.c_[SOFT[:, 0], 1 - SOFT[:, 0]]
    net = trained(two, linear(1), criterion="bce_with_logits", class_weight={1: 3.0})
    expected = trained(two, linear(1), weight=two @ [1.0, 3.0], criterion="bce_with_logits")
    same(weights_of(net), weights_of(expected))


def test_an_absent_class_has_the_balanced_weight_one():
    y = np.where(LABELS == 2, 0, LABELS)
    net = NeuralNetClassifier(linear(), class_weight="balanced", classes=[0, 1, 2], **STILL)
    net.fit(X, y, X_val=X, y_val=LABELS)
    of_class = np.append(compute_class_weight("balanced", classes=np.arange(2), y=y), 1.0)
    expected = log_loss(LABELS, net.predict_proba(X), sample_weight=of_class[LABELS])
    assert net.history_.valid_loss.iloc[0] == pytest.approx(expected, rel=1e-9)


def test_accumulated_batches_weigh_classes_as_the_large_batch_does():
    params = {"class_weight": {0: 5.0, 2: 0.0}, "shuffle": False}
    large = trained(LABELS, **params)
    small = trained(LABELS, batch_size=23, callbacks=[GradientAccumulation(6)], **params)
    same(weights_of(small), weights_of(large))
    np.testing.assert_allclose(small.loss_curve_, large.loss_curve_, rtol=1e-10)


def test_a_batch_of_classes_of_weight_zero_changes_nothing():
    order = np.argsort(LABELS)
    net = NeuralNetClassifier(
        linear(), optimizer="sgd", max_epochs=2, batch_size=10, shuffle=False, class_weight={0: 0}
    ).fit(X[order], LABELS[order])
    assert weights_of(net).isfinite().all()
    assert np.isfinite(net.loss_curve_).all()


WRONG_WEIGHTS = {
    "unknown": ({"beee": 2.0}, NAMES, "'beee'.*Did you mean 'bee'"),
    "negative": ({"bee": -1.0}, NAMES, "'bee'.*at least 0.*-1"),
    "string": ({"bee": "2"}, NAMES, "at least 0"),
    "nan": ({"bee": float("nan")}, NAMES, "at least 0"),
    "all-zero": (dict.fromkeys(("ant", "bee", "cat"), 0), NAMES, "0 for all"),
    "name": ("balance", NAMES, "class_weight.*balanced"),
    "multi-label": ({0: 2.0}, L, "criterion__pos_weight"),
    "multi-label-balanced": ("balanced", L, "criterion__pos_weight"),
}


@pytest.mark.parametrize(("said", "y", "match"), WRONG_WEIGHTS.values(), ids=WRONG_WEIGHTS)
def test_impossible_weights_of_classes_are_an_error(said, y, match):
    with pytest.raises(ValueError, match=match):
        NeuralNetClassifier(class_weight=said).fit(X, y)


def test_weights_of_classes_are_searched_as_any_parameter():
    net = NeuralNetClassifier(max_epochs=2, random_state=0)
    search = GridSearchCV(net, {"class_weight": [None, "balanced", {0: 2.0}]}, cv=2)
    assert search.fit(X, LABELS).best_params_.keys() == {"class_weight"}


# ------------------------------------------------------------------------ all the classes


def test_classes_that_y_lacks_have_outputs():
    net = NeuralNetClassifier(classes=["dog", "cat", "bee", "ant"], max_epochs=2).fit(X, NAMES)
    assert net.classes_.tolist() == ["ant", "bee", "cat", "dog"]
    assert net.predict_proba(X).shape == (120, 4)


def test_classes_make_the_probabilities_of_all_folds_comparable():
    y = np.where(np.arange(120) < 2, "rare", NAMES)  # in the first fold's test rows alone
    net = NeuralNetClassifier(classes=np.unique(y), max_epochs=2)
    folds = cross_validate(net, X, y, cv=KFold(3), return_estimator=True)["estimator"]
    assert [fold.predict_proba(X).shape for fold in folds] == [(120, 4)] * 3


def test_partial_fit_needs_no_classes_where_the_parameter_names_them():
    net = NeuralNetClassifier(classes=[0, 1, 2])
    net.partial_fit(X[LABELS == 0], LABELS[LABELS == 0]).partial_fit(X, LABELS)
    assert net.classes_.tolist() == [0, 1, 2]


def test_a_label_outside_of_classes_is_an_error():
    with pytest.raises(ParameterError, match=r"\['cat'\].*Known: \['ant', 'bee'\].*`classes`"):
        NeuralNetClassifier(classes=["ant", "bee"]).fit(X, NAMES)
    with pytest.raises(ParameterError, match=r"3 columns, .*0 to 2.*Leave out"):
        NeuralNetClassifier(classes=["ant", "bee"]).fit(X, L)
    with pytest.raises(ParameterError, match="classes has labels of several types"):
        NeuralNetClassifier(classes=np.array(["ant", 1], dtype=object)).fit(X, NAMES)
    with pytest.raises(ParameterError, match="classes must be a list of labels"):
        NeuralNetClassifier(classes=[[0, 1], [1, 0]]).fit(X, LABELS)


# ------------------------------------------------------------------------ several numbers


@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_several_numbers_train_validate_and_score_as_by_hand(weight):
    target = torch.from_numpy(T)
    w = torch.ones(120, dtype=torch.float64) if weight is None else torch.from_numpy(weight)

    def loss(out):
        return ((out - target).square().mean(1) * w).sum() / w.sum()

    net = NeuralNetRegressor(linear(2), optimizer="sgd", lr=0.1, max_epochs=4, batch_size=-1)
    net.set_params(callbacks=[Metrics({"r": r2_score, "neg_mae": "neg_mean_absolute_error"})])
    net.fit(X, T, sample_weight=weight, X_val=X, y_val=T, sample_weight_val=weight)
    same(weights_of(net), loop(linear(2), loss))
    predicted, record = net.predict(X), net.history_.iloc[-1]
    assert predicted.shape == (120, 2)
    r2 = r2_score(T, predicted, sample_weight=weight)
    assert net.score(X, T, weight) == pytest.approx(r2, rel=1e-12)
    assert record.valid_r2 == pytest.approx(r2, rel=1e-9)
    assert record.valid_r == pytest.approx(r2, rel=1e-9)
    assert record.valid_loss == pytest.approx(float(loss(torch.from_numpy(predicted))), rel=1e-9)
    with pytest.raises(ParameterError, match=r"y_val must have 2 column\(s\)"):
        net.fit(X, T, X_val=X, y_val=T[:, 0])


def test_several_numbers_in_cross_validation_and_partial_fit():
    net = NeuralNetRegressor(max_epochs=20, random_state=0)
    assert cross_val_score(net, X, T, cv=3).min() > 0.3
    assert net.partial_fit(X, T).partial_fit(X, pd.DataFrame(T)).predict(X).shape == (120, 2)


# ------------------------------------------------------------------------- sums of losses


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("batch", [7, 120])
def test_the_record_of_summed_losses_is_the_mean_a_row_whatever_the_batches(batch, weight):
    net = NeuralNetRegressor(linear(2), criterion__reduction="sum", batch_size=batch, **STILL)
    net.set_params(predict_batch_size=batch)
    net.fit(X, T, sample_weight=weight, X_val=X, y_val=T, sample_weight_val=weight)
    each = ((net.predict(X) - T) ** 2).sum(1)
    record = net.history_.iloc[0]
    assert record.train_loss == pytest.approx(np.average(each, weights=weight), rel=1e-9)
    assert record.valid_loss == pytest.approx(np.average(each, weights=weight), rel=1e-9)


def test_the_record_of_summed_losses_of_labels_is_that_of_their_mean():
    X, y = load_iris(return_X_y=True)
    losses = {}
    for reduction in ("mean", "sum"):
        net = NeuralNetClassifier(criterion__reduction=reduction, class_weight={0: 3.0}, **STILL)
        net.set_params(batch_size=40, random_state=0)
        losses[reduction] = net.fit(X, y).loss_curve_
    assert losses["sum"] == pytest.approx(losses["mean"], rel=1e-9)


# --------------------------------------------------------------------- labels in small parts


def test_few_labels_of_many_classes_are_no_cause_for_a_warning():
    y = np.arange(120)
    net = NeuralNetClassifier(max_epochs=1, classes=y).fit(X[:1], y[:1])
    net.partial_fit(X[:40], y[:40])
    assert net.fit(X[:1], y[:1], X_val=X[40:80], y_val=y[40:80]).classes_.size == 120


def test_labels_of_another_type_are_an_error():
    mixed = np.array(["ant", 1] * 60, dtype=object)
    with pytest.raises(ParameterError, match="y_val has labels"):
        NeuralNetClassifier(max_epochs=1).fit(X, NAMES, X_val=X, y_val=mixed)
    with pytest.raises(ParameterError, match="y_val has labels"):
        NeuralNetClassifier(max_epochs=1).fit(X, NAMES, X_val=X, y_val=LABELS)


# ------------------------------------------------------------- weights of the criterion


def test_one_number_as_pos_weight_weighs_the_second_class():
    y = LABELS == 1
    module = linear(1)
    weight = torch.tensor(5.0, dtype=torch.float64)
    target = torch.from_numpy(y)[:, None].double()
    expected = loop(
        module,
        lambda out: functional.binary_cross_entropy_with_logits(out, target, pos_weight=weight),
    )
    for said in (5.0, 5, np.float32(5), [5.0], torch.tensor([5])):
        params = {"criterion": "bce_with_logits", "criterion__pos_weight": said}
        same(weights_of(trained(y, module, **params)), expected)


def test_integers_weigh_classes_as_floats_do():
    expected = weights_of(trained(LABELS, criterion=nn.CrossEntropyLoss(torch.tensor([1.0, 2, 3]))))
    for said in ([1, 2, 3], (1, 2, 3), np.array([1, 2, 3]), torch.tensor([1, 2, 3])):
        net = trained(LABELS, criterion="cross_entropy", criterion__weight=said)
        same(weights_of(net), expected)


def test_a_weight_of_ones_own_criterion_is_left_as_it_is():
    class Scaled(nn.Module):
        def __init__(self, weight):
            super().__init__()
            assert weight == "half"

        def forward(self, y_pred, y):
            return functional.cross_entropy(y_pred, y) / 2

    net = trained(LABELS, criterion=Scaled, criterion__weight="half")
    expected = loop(
        linear(), lambda out: functional.cross_entropy(out, torch.from_numpy(LABELS)) / 2
    )
    same(weights_of(net), expected)


@pytest.mark.parametrize(
    ("criterion", "n_outputs", "match"),
    [
        (nn.CrossEntropyLoss(torch.ones(2)), None, "one weight for each class, 3.* Got 2"),
        (nn.NLLLoss(torch.ones(4)), None, "`weight` of the criterion NLLLoss.* Got 4"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(2)), 3, "`pos_weight`.* 3 in the order"),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(2)), 1, "one number.* second class"),
    ],
)
def test_weights_that_are_not_one_for_each_class_are_an_error(criterion, n_outputs, match):
    with pytest.raises(ParameterError, match=match):
        check_criterion_weight(criterion, "labels", 3, n_outputs)


@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(torch.ones(3)),
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0)),
        nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)),
        nn.BCEWithLogitsLoss(torch.ones(7)),
        nn.MSELoss(),
        nn.Linear(1, 1),
    ],
)
def test_weights_that_fit_are_taken(criterion):
    check_criterion_weight(criterion, "labels", 3)


# -------------------------------------------------------------------- numbers to predict

DATES = pd.Series(pd.date_range("2024-01-01", periods=3))


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (DATES, "y holds dates .*Timedelta"),
        (DATES.dt.tz_localize("Europe/Berlin"), "dates"),
        (DATES.to_frame(), "dates"),
        (DATES.to_numpy(), "dates"),
        (pl.Series(DATES.tolist()), "dates"),
        (pl.DataFrame({"d": DATES.tolist()}), "dates"),
        (DATES - DATES[0], "durations"),
        (pl.Series((DATES - DATES[0]).tolist()), "durations"),
        (["a", "b", "c"], "y must hold numbers.* NeuralNetClassifier"),
        (pd.Series(["1.5", "b", "c"]), "must hold numbers"),
        ([None, 1.0, 2.0], "y contains NaN: 1 of 3 numbers is missing, in row 0"),
        ([[1.0, 2.0], [1.0, None]], "NaN"),
        (pd.Series([None, None, 2], dtype="Int64"), "2 of 3 numbers are .* first in row 0"),
        (np.array([1.0, np.nan]), "contains NaN"),
        (np.array([1.0, np.inf]), "infinity"),
        (np.zeros((2, 1, 1)), r"\(n, n_outputs\).* Got \(2, 1, 1\)"),
    ],
)
def test_what_is_no_number_to_predict_is_an_error(y, match):
    with pytest.raises(ValueError, match=match):
        read_numbers(y, "y")


@pytest.mark.parametrize(
    "y",
    [
        [1, 2.5, 0],
        [[1], [2.5], [0]],
        np.array([1, 2.5, 0], dtype=object),
        pd.Series([1, 2.5, 0], dtype="Float64"),
        pd.DataFrame({"a": [1, 2.5, 0], "b": [1, 0, 1]}),
        pl.Series([1.0, 2.5, 0.0]),
        np.array([True, False, True]),
    ],
)
def test_numbers_of_any_container_are_taken(y):
    read = read_numbers(y, "y")
    assert read.dtype.kind in "biuf"
    assert np.array_equal(read, np.asarray(y, dtype=float))
