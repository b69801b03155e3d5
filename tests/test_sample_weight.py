"""Sample weights: the loss of a batch is Σwl/Σw."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score, r2_score
from torch import nn

from skorchlike import NeuralNetClassifier, NeuralNetRegressor

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
RNG = np.random.RandomState(0)
T = X @ RNG.randn(4) + 0.1 * RNG.randn(150)
T2 = np.c_[T, RNG.randn(150)]
COUNTS = RNG.randint(0, 4, size=150)
WEIGHTS = RNG.uniform(0.1, 3, size=150)
STILL = 1e-30  # a learning rate at which float64 weights stay as they were

CLASSIFIER, REGRESSOR = NeuralNetClassifier, NeuralNetRegressor
PROBLEMS = {
    "cross-entropy": (CLASSIFIER, Y, {}),
    "class-weight": (
        CLASSIFIER,
        Y,
        {"criterion": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0]))},
    ),
    "class-weight-and-smoothing": (
        CLASSIFIER,
        Y,
        {
            "criterion": nn.CrossEntropyLoss(
                weight=torch.tensor([1.0, 2.0, 5.0]), label_smoothing=0.1
            )
        },
    ),
    "nll-class-weight": (
        CLASSIFIER,
        Y,
        {
            "module": lambda: nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(1)).double(),
            "criterion": nn.NLLLoss(weight=torch.tensor([1.0, 2.0, 5.0])),
        },
    ),
    "ignore_index": (CLASSIFIER, Y, {"criterion": nn.CrossEntropyLoss(ignore_index=1)}),
    "sum": (CLASSIFIER, Y, {"criterion__reduction": "sum", "lr": 1e-3}),
    "class-weight-sum": (
        CLASSIFIER,
        Y,
        {
            "criterion": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 5]), reduction="sum"),
            "lr": 1e-3,
        },
    ),
    "bce": (CLASSIFIER, Y > 0, {"criterion": "bce_with_logits"}),
    "bce-pos_weight": (
        CLASSIFIER,
        Y > 0,
        {"criterion": nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))},
    ),
    "bce-multiclass": (CLASSIFIER, Y, {"criterion": "bce_with_logits"}),
    "bce-multiclass-weight": (
        CLASSIFIER,
        Y,
        {"criterion": nn.BCEWithLogitsLoss(weight=torch.tensor([1.0, 2.0, 5.0]))},
    ),
    "margin": (CLASSIFIER, Y, {"criterion": "multi_margin"}),
    "margin-weight": (
        CLASSIFIER,
        Y,
        {"criterion": nn.MultiMarginLoss(weight=torch.tensor([1.0, 2.0, 5.0]))},
    ),
    "soft-margin": (CLASSIFIER, Y, {"criterion": "multi_label_soft_margin"}),
    "mse": (REGRESSOR, T, {}),
    "mse-two-outputs": (REGRESSOR, T2, {}),
    "mse-two-outputs-sum": (REGRESSOR, T2, {"criterion__reduction": "sum", "lr": 1e-3}),
    "huber": (REGRESSOR, T, {"criterion": "huber"}),
    "mse-flat-output": (
        REGRESSOR,
        T,
        {"module": lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)).double()},
    ),
}
problems = pytest.mark.parametrize(("cls", "y", "params"), PROBLEMS.values(), ids=PROBLEMS.keys())
REPEATABLE = {key: value for key, value in PROBLEMS.items() if key != "ignore_index"}


def fit(cls, *data, fit_params=None, **params):
    """A full-batch fit in float64."""
    params = {"max_epochs": 20, "batch_size": -1, "random_state": 0, **params}
    return cls(**params).fit(*data, **(fit_params or {}))


def outputs(est):
    with torch.no_grad():
        inputs, prepare = torch.tensor(X), est.model_.preparation_
        return est.model_.module_(inputs if prepare is None else prepare(inputs)).numpy()


@problems
def test_weights_of_one_train_as_none(cls, y, params):
    with_ones = fit(cls, X, y, np.ones(150), **params)
    without = fit(cls, X, y, **params)
    np.testing.assert_allclose(with_ones.loss_curve_, without.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(outputs(with_ones), outputs(without), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("cls", "y", "params"), REPEATABLE.values(), ids=REPEATABLE.keys())
def test_whole_weights_train_as_repeated_rows(cls, y, params):
    weighted = fit(cls, X, y, COUNTS, **params)
    repeated = fit(cls, X.repeat(COUNTS, 0), y.repeat(COUNTS, 0), **params)
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-8)
    np.testing.assert_allclose(outputs(weighted), outputs(repeated), rtol=1e-6, atol=1e-9)


@problems
@pytest.mark.parametrize("batch_size", [-1, 16])
def test_rows_of_weight_zero_are_as_good_as_absent_to_the_bit(cls, y, params, batch_size):
    weight = WEIGHTS * (COUNTS > 0)
    kept = weight > 0
    params = {**params, "batch_size": batch_size, "max_epochs": 5}
    zeros = fit(cls, X, y, weight, **params)
    absent = fit(cls, X[kept], y[kept], weight[kept], **params)
    assert zeros.loss_curve_ == absent.loss_curve_
    assert np.array_equal(outputs(zeros), outputs(absent))


@pytest.mark.parametrize("factor", [1e-3, 2.0, 1e6])
def test_scale_of_the_weights_does_not_matter(factor):
    one, other = (fit(CLASSIFIER, X, Y, WEIGHTS * f) for f in (1.0, factor))
    np.testing.assert_allclose(outputs(one), outputs(other), rtol=1e-6)


def test_weights_change_what_is_learned():
    weighted = fit(CLASSIFIER, X, Y, np.where(Y == 2, 100.0, 1.0))
    plain = fit(CLASSIFIER, X, Y)
    assert (weighted.predict(X) == 2).sum() > (plain.predict(X) == 2).sum()


@pytest.mark.parametrize("batch_size", [-1, 32])
def test_training_loss_is_the_weighted_mean_computed_by_hand(batch_size):
    est = fit(CLASSIFIER, X, Y, WEIGHTS, lr=STILL, max_epochs=1, batch_size=batch_size)
    losses = -log_softmax(outputs(est), 1)[range(150), Y]
    expected = (WEIGHTS * losses).sum() / WEIGHTS.sum()
    assert est.loss_curve_[0] == pytest.approx(expected, rel=1e-10)


def test_training_loss_of_several_outputs_is_the_weighted_mean_of_row_means():
    est = fit(REGRESSOR, X, T2, WEIGHTS, lr=STILL, max_epochs=1, target_transform=None)
    losses = ((outputs(est) - T2) ** 2).mean(1)
    expected = (WEIGHTS * losses).sum() / WEIGHTS.sum()
    assert est.loss_curve_[0] == pytest.approx(expected, rel=1e-10)


def test_training_loss_with_class_weights_divides_by_both():
    class_weight = np.array([1.0, 2.0, 5.0])
    criterion = nn.CrossEntropyLoss(weight=torch.tensor(class_weight))
    est = fit(CLASSIFIER, X, Y, WEIGHTS, lr=STILL, max_epochs=1, criterion=criterion)
    both = WEIGHTS * class_weight[Y]
    losses = -log_softmax(outputs(est), 1)[range(150), Y]
    assert est.loss_curve_[0] == pytest.approx((both * losses).sum() / both.sum(), rel=1e-10)


def test_gradient_is_that_of_the_weighted_mean():
    start = nn.Linear(4, 3).double()
    est = fit(CLASSIFIER, X, Y, WEIGHTS, module=start, optimizer="sgd", lr=0.5, max_epochs=1)
    logits = X @ start.weight.detach().numpy().T + start.bias.detach().numpy()
    error = np.exp(log_softmax(logits, 1)) - np.eye(3)[Y]
    gradient = (WEIGHTS[:, None] * error).T @ X / WEIGHTS.sum()
    expected = start.weight.detach().numpy() - 0.5 * gradient
    trained = est.model_.module_.weight.detach().numpy()
    np.testing.assert_allclose(trained, expected, rtol=1e-10)


@pytest.mark.parametrize("batch_size", [-1, 16])
def test_validation_columns_are_weighted_by_sample_weight_val(batch_size):
    val = {"X_val": X, "y_val": Y, "sample_weight_val": WEIGHTS}
    est = fit(CLASSIFIER, X, Y, fit_params=val, predict_batch_size=batch_size, max_epochs=3)
    losses = -log_softmax(outputs(est), 1)[range(150), Y]
    last = est.history_.iloc[-1]
    expected = (WEIGHTS * losses).sum() / WEIGHTS.sum()
    assert last["valid_loss"] == pytest.approx(expected, rel=1e-10)
    expected = accuracy_score(Y, est.predict(X), sample_weight=WEIGHTS)
    assert last["valid_accuracy"] == pytest.approx(expected, rel=1e-10)


def test_valid_r2_is_weighted_by_sample_weight_val():
    val = {"X_val": X, "y_val": T2, "sample_weight_val": WEIGHTS}
    est = fit(REGRESSOR, X, T2, fit_params=val, predict_batch_size=16, max_epochs=3)
    expected = r2_score(T2, est.predict(X), sample_weight=WEIGHTS)
    assert est.history_["valid_r2"].iloc[-1] == pytest.approx(expected, rel=1e-9)


def test_validation_rows_of_weight_zero_are_as_good_as_absent():
    weight = WEIGHTS * (COUNTS > 0)
    kept = weight > 0
    one = fit(CLASSIFIER, X, Y, fit_params={"X_val": X, "y_val": Y, "sample_weight_val": weight})
    val = {"X_val": X[kept], "y_val": Y[kept], "sample_weight_val": weight[kept]}
    other = fit(CLASSIFIER, X, Y, fit_params=val)
    columns = ["valid_loss", "valid_accuracy"]
    assert one.history_[columns].equals(other.history_[columns])


def test_split_off_validation_rows_keep_their_weights():
    est = fit(CLASSIFIER, X, Y, WEIGHTS, validation_fraction=0.2, max_epochs=2)
    zero = WEIGHTS * (COUNTS > 0)
    absent = fit(
        CLASSIFIER, X[zero > 0], Y[zero > 0], zero[zero > 0], validation_fraction=0.2, max_epochs=2
    )
    zeros = fit(CLASSIFIER, X, Y, zero, validation_fraction=0.2, max_epochs=2)
    columns = ["train_loss", "valid_loss", "valid_accuracy"]
    assert zeros.history_[columns].equals(absent.history_[columns])
    plain = fit(CLASSIFIER, X, Y, validation_fraction=0.2, max_epochs=2)
    assert est.history_["valid_loss"].iloc[0] != plain.history_["valid_loss"].iloc[0]


@pytest.mark.parametrize(
    "weight",
    [WEIGHTS.tolist(), torch.tensor(WEIGHTS), WEIGHTS[::-1][::-1]],
    ids=["list", "tensor", "reversed"],
)
def test_weights_of_every_container_train_the_same(weight):
    assert np.array_equal(
        outputs(fit(CLASSIFIER, X, Y, weight)), outputs(fit(CLASSIFIER, X, Y, WEIGHTS))
    )


def test_partial_fit_takes_weights():
    est = NeuralNetClassifier(batch_size=-1, random_state=0)
    for _ in range(3):
        est.partial_fit(X, Y, sample_weight=WEIGHTS)
    assert np.array_equal(outputs(est), outputs(fit(CLASSIFIER, X, Y, WEIGHTS, max_epochs=3)))


def test_score_takes_weights():
    est = fit(CLASSIFIER, X, Y, max_epochs=2)
    expected = accuracy_score(Y, est.predict(X), sample_weight=WEIGHTS)
    assert est.score(X, Y, sample_weight=WEIGHTS) == expected


def test_float32_module_stands_float64_weights():
    est = fit(CLASSIFIER, X.astype("float32"), Y, WEIGHTS)
    assert est.predict_proba(X.astype("float32")).dtype == np.float32


@pytest.mark.parametrize("ignored", [-100, 1])
def test_the_train_loss_under_class_weights_does_not_depend_on_the_batch_size(ignored):
    torch.manual_seed(0)
    module = nn.Linear(4, 3).double()
    of_class = torch.tensor([1.0, 5.0, 0.2], dtype=torch.float64)
    criterion = nn.CrossEntropyLoss(weight=of_class, ignore_index=ignored)
    losses = [
        NeuralNetClassifier(
            module, criterion=criterion, max_epochs=1, lr=1e-300, batch_size=size, shuffle=False
        )
        .fit(X, Y)
        .loss_curve_[0]
        for size in (len(X), 7, 1)  # batches of one row, of which some are all ignored
    ]
    expected = criterion(module(torch.tensor(X)), torch.tensor(Y)).item()
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
