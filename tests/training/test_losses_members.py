"""The loss of several members and of nested outputs, and weights of classes in it."""

from __future__ import annotations

import pytest
import torch
from doubles import OnDevice, make_data
from torch import nn
from torch.nn import functional

from skorchlike import NeuralNetClassifier, NeuralNetRegressor, ParameterError
from skorchlike.criteria import GaussianNLL, QuantileLoss
from skorchlike.training.losses import LossFunction, RunningLoss


def tensors(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 2, 1, 1, 0])
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 0.25, 3.0], dtype=torch.float64)
MULTI = (tensors(5, 3, seed=3) > 0).double()
SOFT = tensors(5, 3, seed=4).softmax(1)

CASES = {
    "cross-entropy": (nn.CrossEntropyLoss(), 3, 3, "labels", LABELS),
    "smoothing": (nn.CrossEntropyLoss(label_smoothing=0.1), 3, 3, "labels", LABELS),
    "class-weights": (
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 4.0]).double()),
        3,
        3,
        "labels",
        LABELS,
    ),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), 3, 3, "labels", LABELS),
    "one-output": (nn.BCEWithLogitsLoss(), 1, 2, "labels", LABELS % 2),
    "soft": (nn.CrossEntropyLoss(), 3, 3, "soft labels", SOFT),
    "several": (nn.BCEWithLogitsLoss(), 3, 3, "multi-label", MULTI),
    "numbers": (nn.MSELoss(), 2, None, None, tensors(5, 2)),
    "quantiles": (QuantileLoss((0.2, 0.7)), 4, None, None, tensors(5, 2)),
    "likelihood": (GaussianNLL(), 4, None, None, tensors(5, 2)),
}


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    ("criterion", "width", "n_classes", "kind", "y"), CASES.values(), ids=CASES
)
def test_the_loss_of_members_is_the_mean_of_theirs(criterion, width, n_classes, kind, y, weight):
    outputs = tensors(5, 4, width, seed=9)
    single = LossFunction(criterion, n_classes, kind=kind)
    expected = torch.stack([single(outputs[:, m], y, weight) for m in range(4)]).mean()
    several = LossFunction(criterion, n_classes, kind=kind)
    several.n_members = 4
    torch.testing.assert_close(several(outputs, y, weight), expected, rtol=1e-12, atol=0)
    # in eval mode they are one already
    one = several(outputs[:, 0], y, weight)
    torch.testing.assert_close(one, single(outputs[:, 0], y, weight), rtol=0, atol=0)
    assert several.total_weight(y, weight) == single.total_weight(y, weight)


def test_without_members_a_third_dimension_is_no_member():
    images = tensors(5, 3, 4)
    y = torch.randint(0, 3, (5, 4), generator=torch.Generator().manual_seed(0))
    loss = LossFunction(nn.CrossEntropyLoss(), 3)
    torch.testing.assert_close(loss(images, y, None), functional.cross_entropy(images, y))
    with pytest.raises(ParameterError, match="would only broadcast"):
        LossFunction(nn.MSELoss())(tensors(5, 4, 2), tensors(5, 2), None)


class Members(nn.Module):
    n_members = 3

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Linear(n_features_in, n_outputs, dtype=torch.float64) for _ in range(3)
        )

    def forward(self, X):
        outputs = torch.stack([layer(X) for layer in self.layers], dim=1)
        return outputs if self.training else self.aggregate(outputs)

    def aggregate(self, outputs):
        return outputs.mean(1)


def test_members_of_an_estimator_train_on_their_own():
    X, y = make_data(30, n_classes=3)
    weight = torch.linspace(0.5, 2, 30).double().numpy()
    params = {"batch_size": -1, "optimizer": "sgd", "lr": 0.3, "max_epochs": 5, "random_state": 0}
    net = NeuralNetClassifier(Members, class_weight={1: 2.0}, **params)
    net.fit(X, y, sample_weight=weight, X_val=X, y_val=y)
    torch.manual_seed(0)
    first = NeuralNetClassifier(Members, **{**params, "lr": 1e-30}).fit(X, y).model_.module_
    for m in range(3):
        alone = NeuralNetClassifier(first.layers[m], class_weight={1: 2.0}, **params)
        # each has a third of the mean loss
        alone.set_params(lr=0.1).fit(X, y, sample_weight=weight)
        torch.testing.assert_close(
            net.model_.module_.layers[m].weight, alone.model_.module_.weight, rtol=1e-9, atol=0
        )
    assert net.predict_proba(X).shape == (30, 3)
    assert net.history_.valid_accuracy.iloc[-1] == pytest.approx(net.score(X, y))


# ------------------------------------------------------------------------- nested outputs


class TwoHeads(nn.Module):
    def __init__(self, form=tuple):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.other = (nn.Linear(3, 1, dtype=torch.float64) for _ in range(2))
        self.form = form

    def forward(self, X):
        heads = self.one(X), self.other(X)
        if self.form is dict:
            return dict(zip(("one", "other"), heads, strict=True))
        return self.form(heads)


class BothHeads(nn.Module):
    def __init__(self, reduction="mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, y_pred, y):
        parts = y_pred.values() if isinstance(y_pred, dict) else y_pred
        losses = sum((part - y).square() for part in parts)
        return losses if self.reduction == "none" else losses.mean()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", [tuple, list, dict])
def test_a_criterion_of_ones_own_gets_nested_outputs_as_they_are(form, weighted):
    X, _ = make_data(20, n_classes=2)
    y = X[:, 0] + 1
    weight = torch.linspace(0.1, 2, 20).double().numpy() if weighted else None
    net = NeuralNetRegressor(
        TwoHeads(form), criterion=BothHeads, optimizer="sgd", lr=0.1, max_epochs=30, batch_size=-1
    )
    net.fit(X, y, sample_weight=weight, X_val=X, y_val=y)
    one, other = net.model_.module_.one, net.model_.module_.other
    single = NeuralNetRegressor(TwoHeads().one, optimizer="sgd", lr=0.1, max_epochs=30)
    single.set_params(batch_size=-1).fit(X, y, sample_weight=weight)
    torch.testing.assert_close(one.weight, single.model_.module_.weight, rtol=1e-9, atol=1e-12)
    assert not torch.equal(one.weight, other.weight)
    assert net.predict(X) == pytest.approx(single.predict(X), rel=1e-9)
    assert net.history_.valid_r2.iloc[-1] == pytest.approx(net.score(X, y), rel=1e-9)


@pytest.mark.parametrize("criterion", ["mse", "quantile"])
def test_nested_outputs_with_a_criterion_of_one_tensor_are_an_error(criterion):
    X, _ = make_data(20, n_classes=2)
    with pytest.raises(ParameterError, match=r"returned a tuple.*needs one tensor"):
        NeuralNetRegressor(TwoHeads(), criterion=criterion).fit(X, X[:, 0])


# ---------------------------------------------------------------------- weights of classes


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_weights_of_classes_are_not_rounded_to_half_precision(dtype):
    of_class = torch.tensor([0.1, 1.0, 7.3], dtype=torch.float64)
    loss = LossFunction(nn.CrossEntropyLoss(), 3, class_weight=of_class)
    loss(tensors(5, 3).to(dtype), LABELS, None)
    expected = of_class[LABELS].sum()
    tolerance = 1e-15 if dtype is torch.float64 else 1e-6
    torch.testing.assert_close(
        loss.total_weight(LABELS, None).double(), expected, rtol=tolerance, atol=0
    )


def test_weights_of_classes_for_shares_a_callback_made():
    of_class = torch.tensor([1.0, 3.0], dtype=torch.float64)
    loss = LossFunction(nn.BCEWithLogitsLoss(), 2, class_weight=of_class)
    logits, share = tensors(5, 1), torch.tensor([0.0, 0.25, 0.5, 1.0, 1.0]).double()[:, None]
    each = functional.binary_cross_entropy_with_logits(logits, share, reduction="none")
    weight = 1 + 2 * share
    expected = (each * weight).sum() / weight.sum()
    torch.testing.assert_close(loss(logits, share, None), expected, rtol=1e-12, atol=0)
    with pytest.raises(ParameterError, match="class_weight needs a label for each row"):
        loss(logits, (share, share), None)


def test_a_criterion_that_cannot_be_unreduced_takes_no_weights_of_classes():
    class Whole(nn.Module):
        def forward(self, y_pred, y):
            return y_pred.sum()

    loss = LossFunction(Whole(), 3, class_weight=torch.ones(3))
    with pytest.raises(ParameterError, match=r"Whole.*class_weight"):
        loss(tensors(5, 3), LABELS, None)


# -------------------------------------------------------------------------------- the mean


def test_sums_of_batches_are_added_up_and_divided_by_all_rows():
    running = RunningLoss(adds_up=True)
    running.LIMIT = 2
    for loss, n in ((6.0, 3), (8.0, 2), (1.0, 1)):
        running.add(torch.tensor(loss).as_subclass(OnDevice), n)
    assert running.mean() == pytest.approx(15 / 6)
