"""Mixup and CutMix, against formulas row by row."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from doubles import Log, make_data, make_net, same_weights, weights_of
from scipy import stats
from torch import nn

from skorchlike import (
    BatchTransform,
    Callback,
    CutMix,
    GradientAccumulation,
    MixedPrecision,
    Mixup,
    NeuralNetClassifier,
    NeuralNetRegressor,
    explain,
)

X, Y = make_data()
W = np.arange(1.0, 9.0)
IMAGES = np.random.default_rng(0).normal(size=(8, 2, 5, 4))
SERIES = np.random.default_rng(1).normal(size=(8, 2, 9))


class Flat(nn.Sequential):
    """A linear layer on images or series."""

    def __init__(self, n_inputs):
        super().__init__(nn.Flatten(), nn.Linear(n_inputs, 2, dtype=torch.float64))


class Look(Callback):
    """Keep what every batch became."""

    order = 1

    def __init__(self, log):
        self.log = log

    def on_batch_begin(self, ctx):
        mixing = ctx.callbacks["mixing"]
        self.seen = {"X": ctx.X.clone(), "index": ctx.index.tolist()}
        self.seen |= {"share": mixing.share, "partner": mixing.partner.tolist()}

    def on_after_loss(self, ctx):
        self.seen |= {"y_pred": ctx.y_pred.detach().clone(), "loss": ctx.loss.item()}
        self.seen |= {"y": ctx.y.clone(), "weight": ctx.sample_weight, "with_grad": ctx.loss}

    def on_batch_end(self, ctx):
        self.seen["last_loss"] = ctx.last_loss
        self.log.append(self.seen)


def looked_at(mixing, data=X, y=Y, weight=None, make=make_net, **params):
    """Fit, and return what every batch became."""
    log = Log()
    net = make(callbacks={"mixing": mixing, "look": Look(log)}, **params)
    net.fit(data, y, sample_weight=weight)
    return log


def make_regressor(**params):
    return NeuralNetRegressor(batch_size=4, max_epochs=3, random_state=0, **params)


# ------------------------------------------------------------------- the inputs


def test_mixup_takes_means_of_a_row_and_its_partner():
    log = looked_at(Mixup(alpha=1.0))
    assert len(log) == 6
    for seen in log:
        own, lam = X[seen["index"]], seen["share"]
        assert 0 < lam < 1
        assert sorted(seen["partner"]) == [0, 1, 2, 3]
        for row, partner, mixed in zip(own, seen["partner"], seen["X"], strict=True):
            expected = lam * row + (1 - lam) * own[partner]
            np.testing.assert_allclose(mixed, expected, rtol=0, atol=1e-14)
    assert len({seen["share"] for seen in log}) == 6
    assert len({tuple(seen["partner"]) for seen in log}) > 1


@pytest.mark.parametrize("data", [IMAGES, SERIES], ids=["images", "series"])
def test_cutmix_fills_one_box_with_what_the_partner_has_there(data):
    n_inputs = data[0].size
    log = looked_at(CutMix(), data, module=Flat, module__n_inputs=n_inputs, max_epochs=20)
    areas = []
    for seen in log:
        own = data[seen["index"]]
        mixed = seen["X"].numpy()
        moved = [i for i, partner in enumerate(seen["partner"]) if partner != i]
        if not moved:
            continue
        boxes = [mixed[i] != own[i] for i in moved]
        box = boxes[0]
        assert all((other == box).all() for other in boxes)
        for i in moved:
            assert (mixed[i][box] == own[seen["partner"][i]][box]).all()
        assert seen["share"] == pytest.approx(1 - box.mean(), abs=1e-15)
        areas.append(box.mean())
        if box.any():
            # all that lies between its corners, in every channel
            corners = [slice(i.min(), i.max() + 1) for i in np.nonzero(box)]
            assert corners[0] == slice(0, 2)
            assert box[tuple(corners)].all()
    assert 0 < np.mean(areas) < 1
    assert len(set(areas)) > 4


def test_the_box_has_the_share_that_was_drawn_unless_a_border_cuts_it_off():
    wide = np.random.default_rng(0).normal(size=(8, 1, 64, 32))
    # so large an alpha draws one half each time
    params = {"module": Flat, "module__n_inputs": 64 * 32, "max_epochs": 15}
    sides = []
    for seen in looked_at(CutMix(alpha=1e9), wide, **params):
        moved = next((i for i, partner in enumerate(seen["partner"]) if partner != i), None)
        if moved is not None:
            box = np.nonzero(seen["X"][moved, 0].numpy() != wide[seen["index"]][moved, 0])
            sides.append([np.ptp(axis) + 1 for axis in box])
    # 64 and 32 times the square root of one half
    assert np.max(sides, axis=0).tolist() == [45, 23]


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.2, 1, 5.0])
def test_the_share_is_drawn_from_a_beta_distribution(alpha):
    log = looked_at(
        Mixup(alpha), np.zeros((500, 3)), np.arange(500) % 2, batch_size=1, max_epochs=1
    )
    shares = np.array([seen["share"] for seen in log])
    beta, edges = stats.beta(alpha, alpha), [-1, 0.01, 0.3, 0.5, 0.7, 0.99, 2]
    for low, high in itertools.pairwise(edges):
        count = int(((low < shares) & (shares <= high)).sum())
        chance = beta.cdf(high) - beta.cdf(low)
        assert stats.binomtest(count, len(shares), chance).pvalue > 1e-3


def test_a_batch_of_one_row_stays_as_it_is():
    one = looked_at(Mixup(1.0), batch_size=1)
    for seen in one:
        torch.testing.assert_close(seen["X"], torch.from_numpy(X[seen["index"]]))
        expected = nn.functional.cross_entropy(seen["y_pred"], seen["y"])
        torch.testing.assert_close(torch.tensor(seen["loss"], dtype=torch.float64), expected)


# --------------------------------------------------------------------- the loss


def losses_of_rows(criterion, y_pred, y):
    """Return the loss of each row against each target of the batch."""
    return torch.stack(
        [torch.stack([criterion(y_pred[i : i + 1], y[j : j + 1]) for j in range(len(y))])
         for i in range(len(y))]
    )  # fmt: skip


def by_hand(seen, criterion, class_weight=None):
    """Return the mixed loss of a batch, row by row."""
    losses = losses_of_rows(criterion, seen["y_pred"], seen["y"])
    n = len(losses)
    weight = torch.ones(n, dtype=torch.float64) if seen["weight"] is None else seen["weight"]
    if class_weight is not None:
        weight = weight * class_weight[seen["y"]]
    lam, total = seen["share"], 0.0
    for i, j in enumerate(seen["partner"]):
        total += lam * weight[i] * losses[i, i] + (1 - lam) * weight[j] * losses[i, j]
    return (total / weight.sum()).item()


CLASS_WEIGHT = torch.tensor([1.0, 5.0], dtype=torch.float64)
CASES = {
    "labels": ({}, nn.CrossEntropyLoss(), None),
    "class_weight": ({"criterion__weight": CLASS_WEIGHT}, nn.CrossEntropyLoss(), CLASS_WEIGHT),
    "smoothed": (
        {"criterion__label_smoothing": 0.1},
        nn.CrossEntropyLoss(label_smoothing=0.1),
        None,
    ),
    "indicators": (
        {"criterion": "bce_with_logits"},
        lambda y_pred, y: nn.functional.binary_cross_entropy_with_logits(
            y_pred, nn.functional.one_hot(y, 2).double()
        ),
        None,
    ),
}


@pytest.mark.parametrize("weight", [None, W], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(("params", "criterion", "class_weight"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("mixing", [Mixup(1.0), CutMix()], ids=["mixup", "cutmix"])
def test_the_loss_is_mixed_as_the_rows_are(mixing, params, criterion, class_weight, weight):
    params = {**params, "module": Flat, "module__n_inputs": 40}
    log = looked_at(mixing, IMAGES, weight=weight, **params)
    assert len(log) == 6
    for seen in log:
        expected = by_hand(seen, criterion, class_weight)
        assert seen["loss"] == pytest.approx(expected, abs=1e-12)
        assert seen["last_loss"] == seen["loss"]
        # the batch has its own targets and weights again
        assert seen["y"].tolist() == Y[seen["index"]].tolist()
        if weight is not None:
            assert seen["weight"].tolist() == W[seen["index"]].tolist()


@pytest.mark.parametrize("y", [X[:, 0], X[:, :2]], ids=["one", "two"])
def test_the_loss_of_numbers_is_mixed_too(y):
    log = looked_at(Mixup(1.0), X, y, make=make_regressor)
    for seen in log:
        assert seen["loss"] == pytest.approx(by_hand(seen, nn.MSELoss()), abs=1e-12)


def test_a_step_follows_the_gradient_of_the_mixed_loss():
    log, gradients = Log(), Log()

    class Gradients(Callback):
        def on_before_step(self, ctx):
            gradients.append(ctx.module.weight.grad.clone())

    callbacks = {"mixing": Mixup(1.0), "look": Look(log), "gradients": Gradients()}
    net = make_net(callbacks=callbacks, optimizer="sgd", max_epochs=1, batch_size=8).fit(X, Y)
    (seen,) = log
    module = nn.Linear(3, 2, dtype=torch.float64)
    # the weights before the one step
    with torch.no_grad():
        module.weight.copy_(net.model_.module_.weight + net.history_["lr"][0] * gradients[0])
        module.bias.zero_()
    logits = seen["X"] @ module.weight.T + (seen["y_pred"] - seen["X"] @ module.weight.T).detach()
    lam, y = seen["share"], seen["y"]
    loss = lam * nn.functional.cross_entropy(logits, y)
    loss = loss + (1 - lam) * nn.functional.cross_entropy(logits, y[seen["partner"]])
    loss.backward()
    torch.testing.assert_close(gradients[0], module.weight.grad, rtol=0, atol=1e-12)


def test_a_do_get_loss_of_a_subclass_computes_both_losses():
    class Two(nn.Linear):
        def forward(self, X):
            y_pred = super().forward(X)
            return y_pred, 2 * y_pred

    class Sum(NeuralNetClassifier):
        def do_get_loss(self, ctx):
            ctx.loss = sum(nn.functional.cross_entropy(y_pred, ctx.y) for y_pred in ctx.y_pred)

    seen = Log()

    class Keep(Callback):
        order = 1

        def on_after_loss(self, ctx):
            mixing = ctx.callbacks["mixing"]
            expected = 0
            for y_pred in ctx.y_pred:
                loss = nn.functional.cross_entropy
                expected += mixing.share * loss(y_pred, ctx.y)
                expected += (1 - mixing.share) * loss(y_pred, ctx.y[mixing.partner])
            seen.append((ctx.loss.item(), expected.item()))

    params = {"in_features": 3, "out_features": 2, "dtype": torch.float64}
    routed = {f"module__{name}": value for name, value in params.items()}
    callbacks = {"mixing": Mixup(1.0), "keep": Keep()}
    Sum(module=Two, **routed, callbacks=callbacks, max_epochs=2, random_state=0).fit(X, Y)
    assert len(seen) == 2
    for got, expected in seen:
        assert got == pytest.approx(expected, abs=1e-12)


def test_both_losses_are_computed_in_mixed_precision():
    seen = Log()

    class Watched(NeuralNetClassifier):
        def do_get_loss(self, ctx):
            seen.append(torch.is_autocast_enabled("cpu"))
            super().do_get_loss(ctx)

    callbacks = [Mixup(), MixedPrecision()]
    net = Watched(dtype="float32", callbacks=callbacks, max_epochs=2, random_state=0).fit(X, Y)
    assert seen == [True] * 4
    assert np.isfinite(net.history_["train_loss"]).all()


def test_accumulated_batches_count_by_their_weight():
    mixing = {"mixing": Mixup(0.001), "accumulation": GradientAccumulation(2)}
    net = make_net(callbacks=mixing, max_epochs=2).fit(X, Y, sample_weight=W)
    assert np.isfinite(net.history_["train_loss"]).all()


# ------------------------------------------------------------- what it leaves


@pytest.mark.parametrize("mixing", [Mixup(1.0), CutMix()], ids=["mixup", "cutmix"])
def test_validation_and_predict_are_untouched(mixing):
    params = {"module": Flat, "module__n_inputs": 40, "callbacks": [mixing]}
    net = make_net(**params).fit(IMAGES, Y, X_val=IMAGES, y_val=Y)
    logits = net.model_.module_(torch.from_numpy(IMAGES)).detach()
    expected = nn.functional.cross_entropy(logits, torch.from_numpy(Y)).item()
    assert net.history_["valid_loss"].iloc[-1] == pytest.approx(expected, abs=1e-12)
    expected = logits[:, 1] - logits[:, 0]
    np.testing.assert_allclose(net.decision_function(IMAGES), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mixing", [Mixup(1.0), CutMix()], ids=["mixup", "cutmix"])
def test_a_fit_is_reproducible_and_leaves_the_data_alone(mixing):
    data = torch.from_numpy(IMAGES.copy())
    params = {"module": Flat, "module__n_inputs": 40, "callbacks": [mixing]}
    weights = []
    for seed in (0, 0, 1):
        torch.rand(3)
        net = make_net(**params, shuffle=False, random_state=seed).fit(data, Y)
        weights.append(weights_of(net.model_.module_))
    assert same_weights(weights[0], weights[1])
    assert not same_weights(weights[0], weights[2])
    assert (data.numpy() == IMAGES).all()


# ----------------------------------------------------------------------- errors


class OwnLoss(Callback):
    def do_get_loss(self, ctx):
        ctx.estimator.do_get_loss(ctx)


WRONG = [
    ([Mixup(alpha=0)], X, "'alpha' parameter of Mixup.* Got 0"),
    ([Mixup(alpha=-1.0)], X, "'alpha' .* Got -1.0"),
    ([Mixup(alpha="0.2")], X, "'alpha' .* Got '0.2'"),
    ([Mixup(alpha=float("nan"))], X, "'alpha' .* Got nan"),
    ([CutMix(alpha=0)], X, "'alpha' parameter of CutMix.* Got 0"),
    ([CutMix(alpha=None)], X, "'alpha' .* Got None"),
    ([Mixup(), OwnLoss()], X, "Mixup computes the loss of a batch twice.*'own_loss' replaces"),
    ([OwnLoss(), CutMix()], X, "CutMix computes the loss of a batch twice.*'own_loss' replaces"),
    ([Mixup(), CutMix()], X, r"Mixup meets the callback 'cutmix' \(CutMix\)"),
    ([("one", Mixup()), ("two", Mixup())], X, r"Mixup meets the callback 'two' \(Mixup\)"),
    ([CutMix()], X, r"CutMix needs an X of shape \(n, channels, length\).* Got shape \(4, 3\)"),
    ([CutMix()], IMAGES[..., None], r"CutMix needs .* Got shape \(4, 2, 5, 4, 1\)"),
]


@pytest.mark.parametrize(("callbacks", "data", "message"), WRONG)
def test_what_cannot_be_mixed_is_an_error(callbacks, data, message):
    steps = Log()

    class Count(Callback):
        def on_after_step(self, ctx):
            steps.append(1)

    params = {"module": Flat, "module__n_inputs": data[0].size}
    net = make_net(**params, callbacks=[*callbacks, Count()])
    with pytest.raises(ValueError, match=message):
        net.fit(data, Y)
    assert steps == []
    assert not hasattr(net, "model_")


class Embedded(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2))


def test_mixup_of_integers_is_an_error_and_cutmix_of_them_is_none():
    words = np.random.default_rng(0).integers(0, 10, size=(8, 3))
    net = make_net(module=Embedded, callbacks=[Mixup()])
    with pytest.raises(ValueError, match=r"real numbers. X is torch.int64.*embedded words"):
        net.fit(words, Y)
    assert net.set_params(callbacks=None).fit(words, Y).n_iter_ == 3
    net = make_net(module=Embedded, callbacks=[CutMix()])
    assert net.fit(words[:, None, :], Y).n_iter_ == 3


def test_explain_names_what_does_not_go_together():
    said = explain(make_net(callbacks=[Mixup(), CutMix(), OwnLoss()])).warnings
    assert sum("meets the callback" in text for text in said) == 2
    assert sum("computes the loss of a batch twice" in text for text in said) == 2
    assert explain(make_net(callbacks=[Mixup()])).warnings == []


def test_a_transform_given_before_acts_before():
    log = Log()
    named = {"double": BatchTransform(lambda X: 2 * X), "mixing": Mixup(1.0), "look": Look(log)}
    make_net(callbacks=named, max_epochs=1).fit(X, Y)
    for seen in log:
        own, lam = 2 * X[seen["index"]], seen["share"]
        expected = lam * own + (1 - lam) * own[seen["partner"]]
        np.testing.assert_allclose(seen["X"], expected, rtol=0, atol=1e-14)


def test_alpha_can_be_searched():
    from sklearn.model_selection import GridSearchCV

    net = make_net(callbacks=[Mixup()])
    search = GridSearchCV(net, {"callbacks__mixup__alpha": [0.1, 1.0]}, cv=2).fit(X, Y)
    alpha = search.best_params_["callbacks__mixup__alpha"]
    assert search.best_estimator_.get_params()["callbacks__mixup__alpha"] == alpha
