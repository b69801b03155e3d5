"""Metrics, against scikit-learn, torchmetrics and torcheval on the fitted estimator."""

from __future__ import annotations

import copy
import pickle
import random
import warnings

import numpy as np
import pytest
import torch
import torchmetrics
from doubles import FailingCallback, Linear, Log, make_data, make_net, same_weights, weights_of
from sklearn.datasets import make_classification, make_regression
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    fbeta_score,
    get_scorer,
    get_scorer_names,
    log_loss,
    make_scorer,
    max_error,
    mean_squared_error,
    roc_auc_score,
)
from sklearn.model_selection import GridSearchCV

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    EarlyStopping,
    Metrics,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
)
from skorchlike.callbacks.base import Setup

with warnings.catch_warnings():
    # torcheval compiles functions by torch.jit, which is deprecated, when it is imported
    warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
    import torcheval.metrics

LABELS = {2: np.array(["no", "yes"]), 3: np.array(["a", "b", "c"])}


def classes_data(n_classes, n=90, seed=0):
    """Return training and validation data with string labels that are hard to tell."""
    X, y = make_classification(
        n, 5, n_informative=4, n_redundant=0, n_classes=n_classes, flip_y=0.3, random_state=seed
    )
    return X[:60], LABELS[n_classes][y[:60]], X[60:], LABELS[n_classes][y[60:]]


def classifier(*callbacks, **params):
    fixed = {"max_epochs": 2, "batch_size": 16, "predict_batch_size": 7, "random_state": 0}
    return NeuralNetClassifier(callbacks=[*callbacks], **{**fixed, **params})


def last(net):
    return net.model_.history_[-1]


# ------------------------------------------------------------- scikit-learn scorers

OF_TWO = [
    "accuracy",
    "roc_auc",
    "neg_log_loss",
    "balanced_accuracy",
    "f1_weighted",
    "matthews_corrcoef",
]
OF_THREE = ["accuracy", "roc_auc_ovr", "roc_auc_ovo", "neg_log_loss", "f1_macro", "jaccard_micro"]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("n_classes", "names", "params"),
    [
        (2, OF_TWO, {}),
        (2, OF_TWO, {"criterion": "bce_with_logits"}),
        (3, OF_THREE, {}),
        (3, OF_THREE, {"criterion": "bce_with_logits"}),
    ],
)
def test_scorers_of_labels_give_what_they_give_of_the_fitted_estimator(
    n_classes, names, params, weighted
):
    X, y, X_val, y_val = classes_data(n_classes)
    weights = np.random.default_rng(1).uniform(0.5, 2, 30) if weighted else None
    # roc_auc_ovo takes no weights: scikit-learn says so by an error
    names = [name for name in names if not (weighted and name == "roc_auc_ovo")]
    net = classifier(Metrics(names), **params)
    net.fit(
        X,
        y,
        np.ones(60) if weighted else None,
        X_val=X_val,
        y_val=y_val,
        **({"sample_weight_val": weights} if weighted else {}),
    )
    for name in names:
        expected = get_scorer(name)(net, X_val, y_val, sample_weight=weights)
        assert last(net)[f"valid_{name}"] == expected, name


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_targets", [1, 2])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scorers_of_numbers_give_what_they_give_of_the_fitted_estimator(n_targets, weighted, dtype):
    X, y = make_regression(90, 5, n_targets=n_targets, noise=5, random_state=0)
    X, X_val = X[:60].astype(dtype), X[60:].astype(dtype)
    # targets that float32 holds exactly, as the loss of a float32 module sees them
    y = np.round(y * 8) / 8
    y, y_val = y[:60], y[60:]
    weights = np.random.default_rng(1).integers(1, 9, 30) / 4 if weighted else None
    names = ["r2", "neg_mean_squared_error", "neg_median_absolute_error", "explained_variance"]
    # to the bit where targets are not scaled there and back
    net = NeuralNetRegressor(
        max_epochs=2, callbacks=[Metrics(names)], target_transform=None, random_state=0
    )
    net.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weights)
    for name in names:
        expected = get_scorer(name)(net, X_val, y_val, sample_weight=weights)
        assert last(net)[f"valid_{name}"] == expected, name


def test_every_scorer_of_scikit_learn_that_suits_two_classes_gives_its_value():
    X, y, X_val, y_val = classes_data(2)
    y, y_val = (y == "yes").astype(int), (y_val == "yes").astype(int)
    net = classifier().fit(X, y)
    names = []
    for name in get_scorer_names():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                if np.isfinite(get_scorer(name)(net, X_val, y_val)):
                    names.append(name)
        except (ValueError, UserWarning):
            continue
    assert len(names) > 40
    net.set_params(callbacks=[Metrics(names)]).fit(X, y, X_val=X_val, y_val=y_val)
    got = {name: last(net)[f"valid_{name}"] for name in names}
    assert got == {name: get_scorer(name)(net, X_val, y_val) for name in names}


def test_a_validation_fraction_is_measured_with_its_weights():
    X, y, _, _ = classes_data(2)
    weights = np.random.default_rng(0).uniform(1, 2, len(X))
    seen = Log()

    class Rows(Callback):
        def on_batch_valid_end(self, ctx):
            seen.append(ctx.index)

    net = classifier(Metrics("neg_log_loss"), Rows(), validation_fraction=0.3, max_epochs=1)
    net.fit(X, y, sample_weight=weights)
    rows = torch.cat(seen).numpy()
    expected = get_scorer("neg_log_loss")(net, X[rows], y[rows], sample_weight=weights[rows])
    assert last(net)["valid_neg_log_loss"] == expected


def test_a_scorer_object_is_used_as_it_is():
    X, y, X_val, y_val = classes_data(2)
    f2 = make_scorer(fbeta_score, beta=2, pos_label="no")
    worst = make_scorer(log_loss, response_method="predict_proba", greater_is_better=False)
    net = classifier(Metrics({"f2": f2, "neg_worst": worst}))
    net.fit(X, y, X_val=X_val, y_val=y_val)
    assert last(net)["valid_f2"] == fbeta_score(y_val, net.predict(X_val), beta=2, pos_label="no")
    assert last(net)["valid_neg_worst"] == -log_loss(y_val, net.predict_proba(X_val))


def test_weights_are_left_out_where_a_score_request_says_so():
    import sklearn

    X, y, X_val, y_val = classes_data(2)
    weights = np.linspace(0.1, 2, 30)
    with sklearn.config_context(enable_metadata_routing=True):
        without = make_scorer(accuracy_score).set_score_request(sample_weight=False)
        net = classifier(Metrics({"plain": without, "accuracy": "accuracy"}))
        with pytest.warns(UserWarning, match="computes plain without the sample weights"):
            net.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weights)
    predicted = net.predict(X_val)
    assert last(net)["valid_plain"] == accuracy_score(y_val, predicted)
    assert last(net)["valid_accuracy"] == accuracy_score(y_val, predicted, sample_weight=weights)


def test_each_response_is_made_once_a_phase_and_only_if_a_metric_needs_it(monkeypatch):
    from skorchlike.training.context import Context

    X, y, X_val, y_val = classes_data(2)
    decode, asked = Context.decode, Log()

    def spy(self, outputs, method="predict"):
        asked.append(method)
        return decode(self, outputs, method)

    monkeypatch.setattr(Context, "decode", spy)
    for metrics, expected in (
        (["accuracy", "f1_macro", accuracy_score], ["predict"]),
        (["neg_log_loss", "accuracy", "roc_auc_ovr"], ["predict_proba", "predict"]),
        (["roc_auc", "jaccard_macro"], ["decision_function", "predict"]),
    ):
        asked.clear()
        classifier(Metrics(metrics), max_epochs=1).fit(X, y, X_val=X_val, y_val=y_val)
        assert asked == expected


# ------------------------------------------------------------------------ functions


def rows_of_a(y_true, y_pred):
    return int(((y_true == "a") & (y_pred == "a")).sum())


def heaviest_error(y_true, y_pred, sample_weight=None):
    weights = np.ones(len(y_true)) if sample_weight is None else sample_weight
    return float((weights * (y_true != y_pred)).max())


@pytest.mark.parametrize("weighted", [False, True])
def test_functions_are_given_what_predict_returns_and_the_weights_they_can_take(weighted):
    X, y, X_val, y_val = classes_data(3)
    # a module in float32, which holds these weights exactly; the sums are in float64
    X, X_val = X.astype(np.float32), X_val.astype(np.float32)
    weights = 1 + np.arange(30) / 1024 if weighted else None
    metrics = Metrics([rows_of_a, heaviest_error, accuracy_score])
    fit_params = {"X_val": X_val, "y_val": y_val, "sample_weight_val": weights}
    if weighted:
        with pytest.warns(UserWarning, match="computes rows_of_a without the sample weights"):
            net = classifier(metrics).fit(X, y, **fit_params)
    else:
        net = classifier(metrics).fit(X, y, **fit_params)
    predicted = net.predict(X_val)
    assert last(net)["valid_rows_of_a"] == rows_of_a(y_val, predicted)
    assert last(net)["valid_heaviest_error"] == heaviest_error(y_val, predicted, weights)
    expected = accuracy_score(y_val, predicted, sample_weight=weights)
    assert last(net)["valid_accuracy_score"] == expected


def test_a_function_may_stand_in_a_dict_under_any_name():
    X, y = make_regression(40, 3, random_state=0)
    metrics = {
        "mse": mean_squared_error,
        "worst": lambda y_true, y_pred: abs(y_true - y_pred).max(),
    }
    net = NeuralNetRegressor(max_epochs=2, callbacks=[Metrics(metrics)], random_state=0)
    net.fit(X, y, X_val=X, y_val=y)
    assert last(net)["valid_mse"] == pytest.approx(mean_squared_error(y, net.predict(X)), rel=1e-12)
    assert last(net)["valid_worst"] == pytest.approx(max_error(y, net.predict(X)), rel=1e-12)
    assert list(net.history_)[4:6] == ["valid_mse", "valid_worst"]


# -------------------------------------------------------------- objects with a state


def by_hand(metric, preds, target):
    metric.update(torch.as_tensor(preds), torch.as_tensor(target))
    return metric.compute().item()


def test_torchmetrics_are_given_the_probability_of_the_second_class_of_two():
    X, y, X_val, y_val = classes_data(2)
    make = [torchmetrics.AUROC, torchmetrics.Accuracy, torchmetrics.CalibrationError]
    net = classifier(Metrics([cls(task="binary") for cls in make]))
    net.fit(X, y, X_val=X_val, y_val=y_val)
    names = ["binary_auroc", "binary_accuracy", "binary_calibration_error"]
    proba, target = net.predict_proba(X_val)[:, 1], (y_val == "yes").astype(int)
    for name, cls in zip(names, make, strict=True):
        expected = by_hand(cls(task="binary"), proba, target)
        assert last(net)[f"valid_{name}"] == pytest.approx(expected, rel=1e-6), name
    assert last(net)["valid_binary_auroc"] == pytest.approx(roc_auc_score(target, proba))


def test_torchmetrics_and_torcheval_are_given_the_probabilities_of_more_classes():
    X, y, X_val, y_val = classes_data(3)
    metrics = {
        "f1": torchmetrics.F1Score(task="multiclass", num_classes=3, average="macro"),
        "auroc": torcheval.metrics.MulticlassAUROC(num_classes=3),
        "top2": torcheval.metrics.MulticlassAccuracy(k=2),
    }
    net = classifier(Metrics(metrics)).fit(X, y, X_val=X_val, y_val=y_val)
    proba = net.predict_proba(X_val)
    target = np.searchsorted(net.classes_, y_val)
    f1 = f1_score(y_val, net.predict(X_val), average="macro")
    assert last(net)["valid_f1"] == pytest.approx(f1, rel=1e-6)
    assert last(net)["valid_auroc"] == pytest.approx(
        by_hand(torcheval.metrics.MulticlassAUROC(num_classes=3), proba, target)
    )
    in_top = (np.argsort(proba, axis=1)[:, 1:] == target[:, None]).any(1)
    assert last(net)["valid_top2"] == pytest.approx(in_top.mean())


@pytest.mark.parametrize("squeeze", [False, True])
@pytest.mark.parametrize("n_targets", [1, 2])
def test_objects_are_given_numbers_in_the_shape_of_the_target(n_targets, squeeze):
    X, y = make_regression(23, 3, n_targets=n_targets, random_state=0)

    class Squeezing(Linear):
        def forward(self, X):
            return (
                super().forward(X).squeeze() if squeeze and n_targets == 1 else super().forward(X)
            )

    shapes = Log()

    class Shapes:
        def reset(self):
            shapes.clear()

        def update(self, preds, target):
            shapes.append((tuple(preds.shape), tuple(target.shape)))

        def compute(self):
            return len(shapes)

    metrics = {"mse": torchmetrics.MeanSquaredError(), "n": Shapes()}
    metrics["r2"] = torcheval.metrics.R2Score()
    net = NeuralNetRegressor(Squeezing, max_epochs=1, callbacks=[Metrics(metrics)], random_state=0)
    net.set_params(predict_batch_size=11).fit(X, y, X_val=X, y_val=y)  # 11, 11 and 1 rows
    assert last(net)["valid_n"] == 3
    tail = () if n_targets == 1 else (2,)
    assert shapes == [((n, *tail), (n, *tail)) for n in (11, 11, 1)]
    assert last(net)["valid_mse"] == pytest.approx(mean_squared_error(y, net.predict(X)))
    r2 = torcheval.metrics.R2Score()
    for part in (slice(0, 11), slice(11, 22), slice(22, 23)):
        r2.update(torch.as_tensor(net.predict(X[part])), torch.as_tensor(y[part]))
    assert last(net)["valid_r2"] == r2.compute().item()


def test_an_object_that_can_move_is_moved_to_the_device():
    class Moving:
        device = "nowhere"

        def to(self, device):
            moved = Moving()
            moved.device = str(device)
            return moved

        def reset(self):
            pass

        def update(self, preds, target):
            pass

        def compute(self):
            return self.device

    X, y = make_data()
    net = make_net(callbacks=[Metrics({"device": Moving()}, on="train")], device="cpu").fit(X, y)
    assert last(net)["train_device"] == "cpu"


def test_objects_are_started_anew_in_each_phase_and_the_users_own_stay_untouched():
    X, y, X_val, y_val = classes_data(2)
    mine = torchmetrics.Accuracy(task="binary")
    net = classifier(Metrics({"tm": mine, "sk": "accuracy"}, on="both"), max_epochs=3)
    net.fit(X, y, X_val=X_val, y_val=y_val)
    history = net.history_
    for phase in ("train", "valid"):
        expected = history[f"{phase}_sk"].to_numpy()
        np.testing.assert_allclose(history[f"{phase}_tm"], expected, rtol=1e-6)
    assert history["train_tm"].nunique() > 1
    assert mine.update_count == 0


def test_objects_without_weights_are_computed_without_and_a_warning_says_so_once():
    X, y, X_val, y_val = classes_data(2)
    net = classifier(Metrics({"tm": torchmetrics.Accuracy(task="binary")}, on="both"))
    with pytest.warns(UserWarning, match="computes tm without the sample weights") as caught:
        net.fit(
            X,
            y,
            np.linspace(1, 2, 60),
            X_val=X_val,
            y_val=y_val,
            sample_weight_val=np.linspace(0.1, 2, 30),
        )
    assert len(caught) == 1
    expected = accuracy_score(y_val, net.predict(X_val))
    assert last(net)["valid_tm"] == pytest.approx(expected, rel=1e-6)


# ------------------------------------------------------------------- training data


def test_training_metrics_are_computed_of_the_outputs_from_which_the_losses_were():
    X, y, _, _ = classes_data(3)
    outputs, rows = Log(), Log()

    class Keep(Callback):
        order = -1

        def on_after_predict(self, ctx):
            if ctx.step == 1:
                outputs.clear()
                rows.clear()
            outputs.append(ctx.y_pred.detach().numpy())
            rows.append(ctx.index.numpy())

    net = classifier(Metrics(["neg_log_loss", "accuracy"], on="train"), Keep()).fit(X, y)
    logits, target = np.concatenate(outputs), y[np.concatenate(rows)]
    proba = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert last(net)["train_neg_log_loss"] == pytest.approx(-log_loss(target, proba))
    assert last(net)["train_neg_log_loss"] == pytest.approx(-last(net)["train_loss"])
    expected = accuracy_score(target, net.classes_[logits.argmax(1)])
    assert last(net)["train_accuracy"] == expected
    assert "valid_accuracy" not in last(net)


def test_a_batch_that_is_cancelled_is_not_measured_and_a_skipped_step_is():
    X, y = make_data()
    counted = {"rows": lambda y_true, y_pred: len(y_true)}

    class Skip(Callback):
        def on_after_backward(self, ctx):
            ctx.skip_step()

    cancel = FailingCallback("on_after_backward", CancelBatchException, step=1)
    for other, expected in ((cancel, 4), (Skip(), 8), (FailingCallback(), 8)):
        net = make_net(callbacks=[Metrics(counted, on="train"), other]).fit(X, y)
        assert last(net)["train_rows"] == expected


@pytest.mark.parametrize(
    ("place", "error", "train", "valid"),
    [
        # two batches of 4 training rows, four of 2 validation rows
        ("on_batch_begin", CancelEpochException, 4, 8),
        ("on_batch_valid_begin", CancelEpochException, 8, 2),
        ("on_after_train", CancelEpochException, 8, 8),
        ("on_valid_end", CancelEpochException, 8, 8),
        ("on_batch_begin", CancelFitException, 4, None),
        ("on_batch_valid_begin", CancelFitException, 8, 2),
        ("on_before_train", CancelEpochException, None, 8),
        ("on_valid_begin", CancelEpochException, 8, None),
        ("on_epoch_begin", CancelEpochException, None, None),
    ],
)
def test_a_cancelled_phase_records_what_there_is_of_it(place, error, train, valid):
    X, y = make_data()

    class Cancel(FailingCallback):
        order = -1

    step = 2 if "batch" in place else None
    counted = Metrics({"rows": lambda y_true, y_pred: len(y_true)}, on="both")
    net = make_net(callbacks=[counted, Cancel(place, error, step=step)], max_epochs=1)
    net.fit(X, y, X_val=X, y_val=y)
    assert last(net).get("train_rows") == train
    assert last(net).get("valid_rows") == valid


def test_validation_every_second_epoch_is_measured_every_second_epoch():
    X, y = make_data()
    net = make_net(callbacks=[Metrics("accuracy")], max_epochs=4, valid_every=2)
    net.fit(X, y, X_val=X, y_val=y)
    assert ["valid_accuracy" in record for record in net.model_.history_] == [False, True] * 2


# -------------------------------------------------------------------------- columns


def test_the_columns_can_be_monitored_in_the_order_given():
    metrics = Metrics({"b": "accuracy", "a": torchmetrics.Accuracy(task="binary")}, on="both")
    assert metrics.logs == ("train_b", "train_a", "valid_b", "valid_a")
    X, y = make_data()
    columns = Log()

    class Columns(Callback):
        def on_begin(self, ctx):
            columns.extend(ctx.columns)

    net = make_net(callbacks=[metrics, Columns()]).fit(X, y, X_val=X, y_val=y)
    assert columns[-4:] == [*metrics.logs]
    assert [name for name in net.history_ if name in metrics.logs] == [*metrics.logs]


def test_early_stopping_stops_by_a_metric():
    X, y, X_val, y_val = classes_data(2)
    stopping = EarlyStopping("valid_roc_auc", patience=2)
    net = classifier(stopping, Metrics("roc_auc"), max_epochs=40, lr=0.05)
    net.fit(X, y, X_val=X_val, y_val=y_val)
    scores = net.history_["valid_roc_auc"].tolist()
    state = net.model_.callbacks_.early_stopping
    assert net.model_.stop_reason_ == "early_stopping"
    assert state["best_score"] == max(scores) == get_scorer("roc_auc")(net, X_val, y_val)
    assert len(scores) == state["best_epoch"] + 2 == scores.index(max(scores)) + 3


def test_the_loops_own_column_of_that_name_has_the_same_value():
    X, y, X_val, y_val = classes_data(2)
    plain = classifier().fit(X, y, X_val=X_val, y_val=y_val)
    measured = classifier(Metrics("accuracy")).fit(X, y, X_val=X_val, y_val=y_val)
    columns = [name for name in plain.history_ if name != "duration"]
    assert plain.history_[columns].equals(measured.history_[columns])


# --------------------------------------------------------------------- many rows


@pytest.mark.parametrize("n_batch", [1, 3, 7, 50])
@pytest.mark.parametrize("max_rows", [1, 3, 12, 13, 25, 49])
def test_of_too_many_rows_every_second_fourth_or_further_is_kept(max_rows, n_batch, monkeypatch):
    monkeypatch.setattr("skorchlike.callbacks.metrics.PENDING_BYTES", 100)
    X = np.arange(50.0)[:, None]
    y, weights = X[:, 0].copy(), np.linspace(1, 2, 50)
    kept = Log()

    def keep(y_true, y_pred, sample_weight=None):
        kept[:] = [y_true, y_pred, sample_weight]
        return len(y_true)

    objects = torchmetrics.MeanSquaredError()
    net = NeuralNetRegressor(
        Linear,
        max_epochs=1,
        predict_batch_size=n_batch,
        callbacks=[Metrics({"n": keep, "mse": objects}, max_rows=max_rows)],
        random_state=0,
    )
    with pytest.warns(UserWarning, match=r"Metrics (keeps|computes mse)") as caught:
        net.fit(X, y, X_val=X, y_val=y, sample_weight_val=weights)
    assert sum("every second, fourth" in str(w.message) for w in caught) == 1
    every = 2
    while len(y[::every]) > max_rows:
        every *= 2
    assert last(net)["valid_n"] == len(y[::every])
    assert (kept[0] == y[::every]).all()
    assert (kept[1] == net.predict(X)[::every]).all()
    assert (kept[2] == weights[::every]).all()
    # the others see every row
    assert last(net)["valid_mse"] == pytest.approx(mean_squared_error(y, net.predict(X)))


@pytest.mark.parametrize("pending", [1, 400, 10**9])
def test_however_much_is_gathered_before_it_is_moved_the_values_are_the_same(pending, monkeypatch):
    monkeypatch.setattr("skorchlike.callbacks.metrics.PENDING_BYTES", pending)
    X, y, X_val, y_val = classes_data(3)
    metrics = {"neg_loss": "neg_log_loss", "auroc": torchmetrics.AUROC("multiclass", num_classes=3)}
    net = classifier(Metrics(metrics, max_rows=30)).fit(X, y, X_val=X_val, y_val=y_val)
    assert last(net)["valid_neg_loss"] == get_scorer("neg_log_loss")(net, X_val, y_val)
    expected = get_scorer("roc_auc_ovr")(net, X_val, y_val)
    assert last(net)["valid_auroc"] == pytest.approx(expected)


def test_what_is_held_of_a_phase_is_bounded(monkeypatch):
    monkeypatch.setattr("skorchlike.callbacks.metrics.PENDING_BYTES", 200)
    X = np.arange(100.0)[:, None]
    held = Log()

    class Look(Callback):
        order = 60

        def on_batch_valid_end(self, ctx):
            rows = ctx.callbacks["metrics"]._rows
            kept = [part for parts in rows.parts for part in parts if part is not None]
            # the memory behind a tensor, not only what it shows of it
            held.append((rows.pending_bytes, sum(part.untyped_storage().nbytes() for part in kept)))

    metrics = Metrics("r2", max_rows=16)
    net = NeuralNetRegressor(Linear, max_epochs=1, callbacks=[metrics, Look()], random_state=0)
    with pytest.warns(UserWarning, match="max_rows=16"):
        net.set_params(predict_batch_size=5).fit(X, X[:, 0], X_val=X, y_val=X[:, 0])
    # a row is an output and a target of 8 bytes each, and up to 16 rows stay
    assert len(held) == 20
    assert max(pending for pending, _ in held) < 200
    assert max(kept for _, kept in held) <= 16 * 16


def test_memory_of_outputs_that_a_module_uses_again_is_copied():
    X, y = make_data()

    class Reusing(Linear):
        def forward(self, X):
            if not self.training:
                self.memory = getattr(self, "memory", torch.empty(2, 2, dtype=torch.float64))
                return self.memory.copy_(super().forward(X))
            return super().forward(X)

    net = make_net(module=Reusing, callbacks=[Metrics("neg_log_loss")])
    net.fit(X, y, X_val=X, y_val=y)
    same = make_net(callbacks=[Metrics("neg_log_loss")]).fit(X, y, X_val=X, y_val=y)
    assert last(net)["valid_neg_log_loss"] == last(same)["valid_neg_log_loss"]


def test_nothing_of_the_rows_is_left_after_a_phase():
    kept = Log()

    class Look(Callback):
        order = 60

        def on_before_valid(self, ctx):
            kept.append(ctx.callbacks["metrics"]._rows)

        def on_epoch_end(self, ctx):
            kept.append(ctx.callbacks["metrics"]._rows)

    X, y = make_data()
    make_net(callbacks=[Metrics("accuracy", on="both"), Look()]).fit(X, y, X_val=X, y_val=y)
    assert kept == [None] * 6


# --------------------------------------------------------------------- being passive


def test_it_changes_no_bit_of_training_and_draws_no_random_number():
    X, y, X_val, y_val = classes_data(2)
    metrics = [torchmetrics.AUROC(task="binary"), "roc_auc", accuracy_score]
    weights, states = [], Log()

    class States(Callback):
        order = 400

        def on_epoch_end(self, ctx):
            states.append(
                (random.getstate(), np.random.get_state()[1].sum(), torch.get_rng_state())  # noqa: NPY002
            )

    for others in ((), (Metrics(metrics, on="both"),)):
        net = classifier(*others, States(), module__dropout=0.3)
        weights.append(weights_of(net.fit(X, y, X_val=X_val, y_val=y_val).model_.module_))
    assert same_weights(*weights)
    without, with_metrics = states[:2], states[2:]
    for one, other in zip(without, with_metrics, strict=True):
        assert one[:2] == other[:2]
        assert torch.equal(one[2], other[2])


def test_metrics_run_without_gradients():
    enabled = Log()

    class Watching:
        def reset(self):
            pass

        def update(self, preds, target):
            enabled.append((torch.is_grad_enabled(), preds.requires_grad))

        def compute(self):
            enabled.append((torch.is_grad_enabled(), False))
            return 0.0

    X, y = make_data()
    make_net(callbacks=[Metrics(Watching(), on="train")]).fit(X, y)
    assert set(enabled) == {(False, False)}


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_search_varies_the_metrics_and_stops_by_one(n_jobs):
    X, y, _, _ = classes_data(2)
    metrics = Metrics(["roc_auc", accuracy_score])
    net = classifier(metrics, EarlyStopping("valid_roc_auc", patience=1), validation_fraction=0.3)
    grid = {"callbacks__metrics__metrics": ["roc_auc", ["roc_auc", "f1_macro"]]}
    search = GridSearchCV(net, grid, cv=2, n_jobs=n_jobs).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert "valid_roc_auc" in search.best_estimator_.history_


def test_it_can_be_pickled_and_copied_at_any_time():
    copies = Log()

    class Copy(Callback):
        order = 60

        def on_batch_valid_end(self, ctx):
            callback = ctx.callbacks["metrics"]
            copies.append(pickle.loads(pickle.dumps(callback)))
            copies.append(copy.deepcopy(callback))

    X, y, X_val, y_val = classes_data(2)
    metrics = Metrics([torchmetrics.AUROC(task="binary"), "roc_auc"])
    classifier(metrics, Copy(), max_epochs=1).fit(X, y, X_val=X_val, y_val=y_val)
    net = classifier(metrics).fit(X, y, X_val=X_val, y_val=y_val)
    copies.append(pickle.loads(pickle.dumps(net)).callbacks[0])
    assert len(copies) == 11
    assert all(copied.logs == metrics.logs for copied in copies)


def test_by_its_name_the_metrics_are_said_as_a_parameter():
    X, y = make_data()
    net = make_net(callbacks=["metrics"], callbacks__metrics__metrics="f1")
    assert "valid_f1" in net.fit(X, y, X_val=X, y_val=y).history_


def test_the_first_of_several_outputs_is_measured():
    X, y, X_val, y_val = classes_data(2)

    class Two(Linear):
        def forward(self, X):
            return super().forward(X), X

    class FirstLoss(Callback):
        def do_get_loss(self, ctx):
            ctx.loss = ctx.criterion(ctx.y_pred[0], ctx.y)

    net = classifier(Metrics("roc_auc", on="both"), FirstLoss(), module=Two)
    net.fit(X, y, X_val=X_val, y_val=y_val)
    assert last(net)["valid_roc_auc"] == get_scorer("roc_auc")(net, X_val, y_val)


# --------------------------------------------------------------------------- errors


def assert_refused(message, metrics=None, *, others=(), valid=True, **params):
    batches = []

    class Count(Callback):
        order = -1

        def on_batch_begin(self, ctx):
            batches.append(1)

    X, y = make_data()
    net = make_net(callbacks=[Metrics(metrics, **params), Count(), *others])
    with pytest.raises(ValueError, match=message):
        net.fit(X, y, **({"X_val": X, "y_val": y} if valid else {}))
    assert batches == []
    assert not hasattr(net, "model_")


def needs_three(estimator, X, y):
    return 0.0


COLLECTION = torchmetrics.MetricCollection([torchmetrics.Accuracy(task="binary")])
ARGUMENTS = [
    (None, {}, "'metrics' parameter of Metrics .* Got None"),
    (3, {}, "'metrics' parameter of Metrics .* Got 3"),
    ([], {}, "`metrics` parameter of Metrics is empty"),
    ({}, {}, "is empty"),
    ("accuracy_", {}, "'accuracy_' of Metrics.*Did you mean 'accuracy'"),
    (["accuracy", 3], {}, r"'3' of Metrics must be callable as f\(y_true, y_pred\)"),
    (["accuracy", "accuracy"], {}, "the name 'accuracy' twice"),
    ([torchmetrics.AUROC("binary"), torchmetrics.AUROC("binary")], {}, "'binary_auroc' twice"),
    ({"loss": "neg_log_loss"}, {}, "other than 'loss'"),
    ({"": "accuracy"}, {}, "non-empty string"),
    ({3: "accuracy"}, {}, "non-empty string .* Got 3"),
    (lambda y_true, y_pred: 0, {}, "without a name.*metrics={'name': metric}"),
    ([make_scorer(f1_score)], {}, "without a name, make_scorer"),
    (needs_three, {}, r"'needs_three' of Metrics must be callable as f\(y_true, y_pred\)"),
    (roc_auc_score, {}, "takes scores or probabilities.*make_scorer"),
    ([log_loss], {}, "takes scores or probabilities"),
    (torchmetrics.Accuracy, {}, "is the class Accuracy"),
    (COLLECTION, {}, r"a collection.*dict\(collection"),
    ("accuracy", {"on": "test"}, "'on' .* Got 'test'"),
    ("accuracy", {"max_rows": 0}, "'max_rows' .* Got 0"),
    ("accuracy", {"max_rows": 1.5}, "'max_rows' .* Got 1.5"),
]


@pytest.mark.parametrize(("metrics", "params", "message"), ARGUMENTS)
def test_an_impossible_argument_is_an_error_before_training(metrics, params, message):
    assert_refused(message, metrics, **params)


@pytest.mark.parametrize("on", ["valid", "both"])
def test_missing_validation_data_are_an_error_before_training(on):
    assert_refused("validation_fraction=0.1.*X_val.*on='train'", "accuracy", on=on, valid=False)


def test_a_column_that_another_callback_records_is_an_error_before_training():
    other = Metrics("accuracy")
    assert_refused(
        "'valid_accuracy', and so does the callback 'other'",
        {"accuracy": "f1"},
        others=[("other", other)],
    )


def test_what_a_metric_raises_says_which_metric_it_was():
    def failing(y_true, y_pred):
        raise KeyError("no")

    X, y = make_data()
    for metric in (failing, "neg_mean_squared_log_error"):
        net = make_net(callbacks=[Metrics({"mine": metric}, on="train")])
        with pytest.raises((KeyError, ValueError)) as caught:
            net.fit(X, np.where(y == 1, "a", "b"))
        assert any("the metric 'mine' of Metrics on the train" in n for n in caught.value.__notes__)
        assert not hasattr(net, "model_")


def test_a_value_that_is_no_number_is_an_error_that_names_the_column():
    def confused(y_true, y_pred):
        return [1, 2]

    per_class = torchmetrics.Accuracy("multiclass", num_classes=3, average="none")
    for metrics, name in ((confused, "train_confused"), (per_class, "train_multiclass_accuracy")):
        with pytest.raises(ValueError, match=f"'{name}'"):
            make_net(callbacks=[Metrics(metrics, on="train")]).fit(*make_data(n_classes=3))


def test_targets_that_are_no_labels_any_more_are_an_error_that_says_what_to_do():
    class Soften(Callback):
        def on_batch_begin(self, ctx):
            ctx.y = torch.nn.functional.one_hot(ctx.y, 2).double()

    X, y = make_data()
    with pytest.raises(ValueError, match=r"needs labels.*Set on='valid'"):
        make_net(callbacks=[Soften(), Metrics("accuracy", on="train")]).fit(X, y)


def test_an_output_that_is_no_tensor_is_an_error():
    class Listing(Callback):
        order = -1

        def on_batch_end(self, ctx):
            ctx.y_pred = {"a": 1}

    X, y = make_data()
    with pytest.raises(ValueError, match=r"Metrics needs the module's output.* Got 1 \(int\)"):
        make_net(callbacks=[Listing(), Metrics("accuracy", on="train")]).fit(X, y)


def test_before_a_fit_it_advises_on_what_would_be_an_error():
    def advice(metrics, columns=("train_loss", "valid_loss"), **params):
        metrics = Metrics(metrics, **params)
        return metrics.advise(Setup("metrics", {"metrics": metrics}, columns, 3))

    assert advice("accuracy") == advice("accuracy", ("train_loss",), on="train") == []
    assert "validation_fraction" in advice("accuracy", ("train_loss",))[0]
    assert "Did you mean 'accuracy'" in advice("acuracy")[0]
    assert Metrics("acuracy").logs == ()


def test_when_the_fit_ends_before_it_began_nothing_fails():
    X, y = make_data()

    class Cancel(FailingCallback):
        order = -1

    net = make_net(
        callbacks=[Metrics("accuracy", on="train"), Cancel("on_begin", CancelFitException)]
    )
    assert net.fit(X, y).n_iter_ == 0


def test_continued_fits_measure_on():
    X, y = make_data()
    net = make_net(callbacks=[Metrics(torchmetrics.Accuracy(task="binary"), on="train")])
    net.set_params(warm_start=True).fit(X, y).fit(X, y)
    net.partial_fit(X, y)
    assert net.history_["train_binary_accuracy"].notna().sum() == 7


@pytest.mark.parametrize("name", ["rmse", "root_mean_squared_error", "log_loss"])
def test_a_negated_scorer_under_the_name_of_an_error_is_refused(name):
    with pytest.raises(ParameterError, match=f"'{name}' .* higher is better.*Call it 'neg_{name}'"):
        NeuralNetRegressor(
            callbacks=[Metrics({name: "neg_root_mean_squared_error"}, on="train")]
        ).fit([[0.0], [1.0]], [0.0, 1.0])


def test_a_multiclass_object_on_two_classes_is_right():
    import torchmetrics

    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    y = (X[:, 0] > 0).astype(int)
    objects = {
        "multi": torchmetrics.Accuracy(task="multiclass", num_classes=2, average="micro"),
        "binary": torchmetrics.Accuracy(task="binary"),
    }
    net = NeuralNetClassifier(max_epochs=2, callbacks=[Metrics(objects)], random_state=0)
    history = net.fit(X, y, X_val=X, y_val=y).history_
    expected = history["valid_accuracy"]
    np.testing.assert_allclose(history["valid_multi"], expected, rtol=1e-6)
    np.testing.assert_allclose(history["valid_binary"], expected, rtol=1e-6)
