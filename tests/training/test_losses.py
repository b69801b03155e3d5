"""The loss of a batch, weights in it, and the mean over batches."""

from __future__ import annotations

import pytest
import torch
from doubles import OnDevice, make_data, make_net
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from skorchlike import NeuralNetClassifier, NeuralNetRegressor, ParameterError
from skorchlike.training.losses import LossFunction, RunningLoss


def tensors(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 2, 1, 1, 0])
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 0.25, 3.0], dtype=torch.float64)


@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(reduction="sum"),
        nn.CrossEntropyLoss(ignore_index=1),
        nn.NLLLoss(),
        nn.MultiMarginLoss(),
    ],
)
def test_without_weights_the_criterion_is_called_as_built(criterion):
    logits = tensors(5, 3).log_softmax(1)
    got = LossFunction(criterion, n_classes=3)(logits, LABELS, None)
    assert torch.equal(got, criterion(logits, LABELS))


def test_weights_average_the_unreduced_losses():
    logits = tensors(5, 3)
    got = LossFunction(nn.CrossEntropyLoss(), n_classes=3)(logits, LABELS, WEIGHT)
    each = functional.cross_entropy(logits, LABELS, reduction="none")
    expected = sum(w * loss for w, loss in zip(WEIGHT, each, strict=True)) / WEIGHT.sum()
    torch.testing.assert_close(got, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(5, 1), (5, 4)])
@pytest.mark.parametrize("cls", [nn.MSELoss, nn.L1Loss, nn.HuberLoss])
def test_equal_weights_change_nothing(cls, shape, reduction):
    y_pred, y = tensors(*shape), tensors(*shape, seed=1)
    loss = LossFunction(cls(reduction=reduction))
    ones = torch.ones(5, dtype=torch.float64)
    plain = loss(y_pred, y, None)
    torch.testing.assert_close(loss(y_pred, y, ones), plain, rtol=1e-14, atol=0)
    if reduction == "mean":
        torch.testing.assert_close(loss(y_pred, y, 7 * ones), plain, rtol=1e-14, atol=0)


def test_an_integer_weight_is_as_good_as_so_many_rows():
    logits, weight = tensors(5, 3), torch.tensor([1, 3, 2, 1, 4])
    loss = LossFunction(nn.CrossEntropyLoss(), n_classes=3)
    repeated = loss(logits.repeat_interleave(weight, 0), LABELS.repeat_interleave(weight), None)
    weighed = loss(logits, LABELS, weight.double())
    torch.testing.assert_close(weighed, repeated, rtol=1e-14, atol=0)


@pytest.mark.parametrize("cls", [nn.CrossEntropyLoss, nn.NLLLoss])
@pytest.mark.parametrize(
    "options", [{"weight": True}, {"ignore_index": 1}, {"weight": True, "ignore_index": 0}]
)
def test_equal_sample_weights_change_nothing_beside_class_weights_and_ignored_labels(cls, options):
    if "weight" in options:
        options = {**options, "weight": torch.tensor([1.0, 5.0, 2.0], dtype=torch.float64)}
    criterion = cls(**options)
    loss, logits = LossFunction(criterion, n_classes=3), tensors(5, 3).log_softmax(1)
    weighed = loss(logits, LABELS, torch.full((5,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(weighed, criterion(logits, LABELS), rtol=1e-14, atol=0)


def test_equal_sample_weights_change_nothing_beside_label_smoothing():
    weight = torch.tensor([1.0, 5.0, 2.0], dtype=torch.float64)
    criterion = nn.CrossEntropyLoss(weight=weight, label_smoothing=0.2)
    loss, logits = LossFunction(criterion, n_classes=3), tensors(5, 3)
    weighed = loss(logits, LABELS, torch.full((5,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(weighed, criterion(logits, LABELS), rtol=1e-14, atol=0)


def test_nll_of_what_is_no_log_probability_is_an_error():
    with pytest.raises(ParameterError, match=r"NLLLoss.*log-probabilities.*cross_entropy"):
        LossFunction(nn.NLLLoss(), n_classes=3)(tensors(5, 3), LABELS, None)


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_bce_takes_one_output_for_two_classes(shape):
    logits, y = tensors(*shape), torch.tensor([0, 1, 1, 0, 1])
    loss = LossFunction(nn.BCEWithLogitsLoss(), n_classes=2)
    each = functional.binary_cross_entropy_with_logits(
        logits.flatten(), y.double(), reduction="none"
    )
    torch.testing.assert_close(loss(logits, y, None), each.mean(), rtol=1e-14, atol=0)
    expected = (each * WEIGHT).sum() / WEIGHT.sum()
    torch.testing.assert_close(loss(logits, y, WEIGHT), expected, rtol=1e-14, atol=0)


def test_bce_takes_one_output_a_class():
    logits = tensors(5, 3)
    got = LossFunction(nn.BCEWithLogitsLoss(), n_classes=3)(logits, LABELS, None)
    target = torch.tensor([[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0], [1, 0, 0]])
    expected = functional.binary_cross_entropy_with_logits(logits, target.double())
    torch.testing.assert_close(got, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 2), (5, 4), (4, 3)])
def test_labels_need_one_output_a_class(shape):
    with pytest.raises((ParameterError, ValueError)) as caught:
        LossFunction(nn.CrossEntropyLoss(), n_classes=3)(tensors(*shape), LABELS, None)
    if shape != (4, 3):
        assert f"shape {shape}" in str(caught.value)
        assert "(n, 3)" in str(caught.value)


def test_one_output_for_two_classes_is_told_of_bce():
    for shape in ((5,), (5, 1)):
        with pytest.raises(ParameterError, match="criterion='bce_with_logits'"):
            LossFunction(nn.CrossEntropyLoss(), n_classes=2)(tensors(*shape), LABELS % 2, None)


BROADCASTS = [
    ((5, 1), (5, 2)),
    ((5,), (5, 2)),
    ((5, 2), (5, 1)),
    ((1,), (5, 1)),
    ((5, 1, 1), (5, 1)),
    ((2,), (5, 2)),
    ((), (5, 1)),
    ((5, 5), (5, 1)),
]


@pytest.mark.parametrize(("output", "target"), BROADCASTS)
def test_a_target_that_would_only_broadcast_is_an_error(output, target):
    with pytest.raises(ParameterError, match="would only broadcast") as caught:
        LossFunction(nn.MSELoss())(tensors(*output), tensors(*target), None)
    assert str(tuple(output)) in str(caught.value)
    assert str(tuple(target)) in str(caught.value)


def test_an_output_without_its_one_column_meets_the_target():
    y_pred, y = tensors(5), tensors(5, 1, seed=1)
    expected = (y_pred - y.flatten()).square().mean()
    torch.testing.assert_close(LossFunction(nn.MSELoss())(y_pred, y, None), expected)
    single = LossFunction(nn.MSELoss())(y_pred[:1].squeeze(), y[:1], None)
    torch.testing.assert_close(single, (y_pred[0] - y[0, 0]).square())


class Ratio(nn.Module):
    """A criterion of the whole batch, without `reduction`."""

    def forward(self, y_pred, y):
        return y_pred.sum() / y.sum()


class Stubborn(nn.MSELoss):
    """A criterion that does not honour `reduction`."""

    def forward(self, y_pred, y):
        return functional.mse_loss(y_pred, y)


@pytest.mark.parametrize("criterion", [Ratio, Stubborn])
def test_weights_with_a_criterion_that_cannot_be_unreduced_are_an_error(criterion):
    y = tensors(5, 1)
    loss = LossFunction(criterion())
    assert loss(y, y, None).shape == ()
    with pytest.raises(ParameterError, match=f"{criterion.__name__}.*reduc"):
        loss(y, y, WEIGHT)


def test_the_users_criterion_keeps_its_reduction():
    criterion = nn.MSELoss()
    LossFunction(criterion)(tensors(5, 1), tensors(5, 1), WEIGHT)
    assert criterion.reduction == "mean"


def test_an_error_of_the_loss_reaches_the_user_of_an_estimator():
    class One(nn.Linear):
        def __init__(self, n_features_in):
            super().__init__(n_features_in, 1, dtype=torch.float64)

    X, y = make_data(n_classes=3)
    with pytest.raises(ParameterError, match="3 classes"):
        NeuralNetClassifier(One).fit(X, y)
    with pytest.raises(ParameterError, match="would only broadcast"):
        NeuralNetRegressor(One).fit(X, X)


# ---------------------------------------------------------------- the mean

BATCHES = st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 50)), min_size=1, max_size=40)


@given(BATCHES, st.booleans(), st.booleans(), st.sampled_from([1, 3, 4096]))
def test_the_running_mean_is_weighted_however_often_it_is_fetched(
    batches, as_tensors, on_device, limit
):
    running = RunningLoss()
    running.LIMIT = limit
    for loss, weight in batches:
        w = torch.tensor(float(weight), dtype=torch.float64) if as_tensors else weight
        value = torch.tensor(loss, dtype=torch.float64)
        running.add(value.as_subclass(OnDevice) if on_device else value, w)
    total = sum(weight for _, weight in batches)
    expected = sum(loss * weight for loss, weight in batches) / total
    assert running.mean() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert running.mean() == running.mean()


def test_the_mean_of_no_batch_is_none_and_reset_forgets():
    running = RunningLoss()
    assert running.mean() is None
    running.add(torch.tensor(3.0), 1)
    running.reset()
    assert running.mean() is None


def test_train_loss_weighs_a_short_last_batch_by_its_rows():
    X, y = make_data(10)
    losses = []
    from skorchlike import Callback

    class Look(Callback):
        def on_batch_end(self, ctx):
            losses.append((ctx.last_loss, len(ctx.X)))

    net = make_net(callbacks=[Look()], max_epochs=1).fit(X, y)
    assert [n for _, n in losses] == [4, 4, 2]
    expected = sum(loss * n for loss, n in losses) / 10
    assert net.loss_curve_ == pytest.approx([expected], rel=1e-12)


def test_a_target_that_is_no_tensor_is_weighed_by_the_sample_weights_alone():
    loss = LossFunction(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0])), n_classes=2)
    pair = (torch.zeros(3), torch.ones(3))
    assert float(loss.total_weight(pair, torch.tensor([1.0, 2.0, 4.0]))) == 7.0


def test_class_weights_for_one_output_are_an_error_that_names_pos_weight():
    criterion = nn.BCEWithLogitsLoss(weight=torch.tensor([1.0, 3.0]))
    loss = LossFunction(criterion, n_classes=2)
    with pytest.raises(ParameterError, match="criterion__pos_weight"):
        loss(torch.zeros(5, 1), torch.zeros(5, dtype=torch.int64), None)
