"""Callbacks together, against one hand-written loop that does the same."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from skorchlike import (
    EMA,
    EarlyStopping,
    Freeze,
    GradientAccumulation,
    GradientClipping,
    LRScheduler,
    Metrics,
    MixedPrecision,
    NeuralNetClassifier,
    NeuralNetRegressor,
    Unfreeze,
)

RNG = np.random.default_rng(0)
# 19 batches by 5, the last of 3 rows, in groups of 4, 4, 4, 4 and 3
N, BATCH, GROUP, EPOCHS = 93, 5, 4, 3
X = RNG.normal(size=(N, 6))
Y = (X[:, :3].argmax(1) + (RNG.random(N) < 0.1)).clip(0, 2).astype(int)
WEIGHT = RNG.uniform(0.2, 3, N)
MAX_NORM, DECAY, LR = 0.05, 0.9, 0.05

PARTS = ("accumulation", "clipping", "precision", "scheduler", "ema")
SUBSETS = [subset for r in range(len(PARTS) + 1) for subset in itertools.combinations(PARTS, r)]


def make_module(dtype):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)


def by_hand(parts, half, weight, optimizer_class):
    """Train as a good engineer would write it; return the weights that predict."""
    dtype = torch.float32 if "precision" in parts else torch.float64
    module = make_module(dtype)
    optimizer = optimizer_class(module.parameters(), lr=LR)
    size = GROUP if "accumulation" in parts else 1
    slices = [slice(start, min(start + BATCH, N)) for start in range(0, N, BATCH)]
    groups = [slices[i : i + size] for i in range(0, len(slices), size)]
    scheduler = scaler = average = None
    if "scheduler" in parts:
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=LR, total_steps=EPOCHS * len(groups)
        )
    if "precision" in parts and half is torch.float16:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    if "ema" in parts:
        average = [p.detach().clone() for p in module.parameters()]
    n_steps = 0
    for _ in range(EPOCHS):
        for group in groups:
            sums = [len(Y[s]) if weight is None else weight[s].sum() for s in group]
            # half precision rounds gradients, so the factors in the loss must be the same ones;
            # elsewhere the mean over the group is written down as it is
            unit = sums[0] if "precision" in parts else sum(sums)
            for s, total in zip(group, sums, strict=True):
                with torch.autocast("cpu", half, enabled="precision" in parts):
                    loss = mean_loss(module, s, weight, dtype) * (total / unit)
                (scaler.scale(loss) if scaler else loss).backward()
            if scaler:
                scaler.unscale_(optimizer)
            for p in module.parameters():
                p.grad /= sum(sums) / unit
            if "clipping" in parts:
                nn.utils.clip_grad_norm_(module.parameters(), MAX_NORM)
            if scaler:
                scaler.step(optimizer)
                scaler.update()
            else:
                optimizer.step()
            optimizer.zero_grad()
            if scheduler and scheduler.last_epoch < EPOCHS * len(groups) - 1:
                scheduler.step()
            n_steps += 1
            if average is not None:
                for a, p in zip(average, module.parameters(), strict=True):
                    a.copy_(p.detach() if n_steps == 1 else DECAY * a + (1 - DECAY) * p.detach())
    return [p.detach() for p in (average or module.parameters())]


def mean_loss(module, rows, weight, dtype):
    x, y = torch.tensor(X[rows], dtype=dtype), torch.tensor(Y[rows])
    if weight is None:
        return nn.functional.cross_entropy(module(x), y)
    w = torch.tensor(weight[rows], dtype=dtype)
    losses = nn.functional.cross_entropy(module(x), y, reduction="none")
    return (losses * w).sum() / w.sum()


def by_callbacks(parts, half, weight, optimizer_class):
    name = str(half).removeprefix("torch.")
    options = {"precision__init_scale": 2.0**10} if half is torch.float16 else {}
    available = {
        "accumulation": GradientAccumulation(GROUP),
        "clipping": GradientClipping(max_norm=MAX_NORM),
        "precision": MixedPrecision(name),
        "scheduler": LRScheduler("one_cycle", unit="batch"),
        "ema": EMA(decay=DECAY),
    }
    dtype = torch.float32 if "precision" in parts else torch.float64
    net = NeuralNetClassifier(
        make_module(dtype),
        optimizer=optimizer_class,
        lr=LR,
        max_epochs=EPOCHS,
        batch_size=BATCH,
        shuffle=False,
        # given in the reverse of the order in which they have to run
        callbacks={part: available[part] for part in reversed(PARTS) if part in parts},
        random_state=0,
    )
    if "precision" in parts:
        net.set_params(**{f"callbacks__{key}": value for key, value in options.items()})
    net.fit(X, Y, sample_weight=weight)
    return [p.detach() for p in net.model_.module_.parameters()]


def assert_same(parts, half=torch.bfloat16, weight=None, optimizer_class=torch.optim.SGD):
    trained = by_callbacks(parts, half, weight, optimizer_class)
    expected = by_hand(parts, half, weight, optimizer_class)
    start = [p.detach() for p in make_module(trained[0].dtype).parameters()]
    assert any((a - b).abs().max() > 1e-3 for a, b in zip(trained, start, strict=True))
    for mine, theirs in zip(trained, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("parts", SUBSETS, ids=lambda parts: "-".join(parts) or "none")
def test_every_combination_trains_as_the_hand_written_loop(parts, weighted):
    assert_same(parts, weight=WEIGHT if weighted else None)


@pytest.mark.parametrize("parts", [s for s in SUBSETS if "precision" in s], ids="-".join)
def test_every_combination_with_float16_trains_as_the_hand_written_loop(parts):
    assert_same(parts, half=torch.float16)


@pytest.mark.parametrize("parts", [SUBSETS[-1], ("accumulation", "clipping", "scheduler", "ema")])
def test_with_adam_too(parts):
    if "precision" in parts:
        # adam divides by the root of squared gradients, and so amplifies a difference in the last
        # bit of a gradient near zero: compared where those are exact
        parts = tuple(part for part in parts if part != "precision")
    assert_same(parts, optimizer_class=torch.optim.Adam)


# ---------------------------------------------------------------------- others


def make_net(callbacks, **params):
    return NeuralNetClassifier(
        make_module(torch.float64),
        callbacks=callbacks,
        optimizer="sgd",
        lr=0.3,
        max_epochs=8,
        batch_size=10,
        random_state=0,
        **params,
    )


def test_early_stopping_restores_the_averaged_weights_that_were_best():
    callbacks = {"ema": EMA(decay=0.5), "stop": EarlyStopping(patience=8)}
    net = make_net(callbacks, validation_fraction=0.3).fit(X, Y)
    best = net.model_.callbacks_.stop["best_epoch"]
    history = net.history_.set_index("epoch")
    shorter = make_net({"ema": EMA(decay=0.5)}, validation_fraction=0.3).set_params(max_epochs=best)
    shorter.fit(X, Y)
    np.testing.assert_array_equal(net.predict_proba(X), shorter.predict_proba(X))
    assert history.loc[best, "valid_loss"] == history["valid_loss"].min()


def test_metrics_under_averaged_weights_are_those_of_the_predictions():
    X_val, y_val = X[:30], Y[:30]
    callbacks = {"ema": EMA(decay=0.5), "metrics": Metrics("neg_log_loss")}
    net = make_net(callbacks).fit(X, Y, X_val=X_val, y_val=y_val)
    expected = np.log(net.predict_proba(X_val)[np.arange(30), y_val]).mean()
    assert net.history_["valid_neg_log_loss"].iloc[-1] == pytest.approx(expected, rel=1e-12)


def test_frozen_parameters_stay_under_clipping_accumulation_and_weight_decay():
    callbacks = [Freeze("0.*"), GradientAccumulation(3), GradientClipping(0.1), EMA(0.9)]
    net = make_net(callbacks, optimizer__weight_decay=0.1).fit(X, Y)
    before, after = make_module(torch.float64), net.model_.module_
    assert torch.equal(before[0].weight, after[0].weight)
    assert not torch.equal(before[2].weight, after[2].weight)
    assert all(p.requires_grad for p in after.parameters())


def test_unfreezing_by_step_under_accumulation_equals_the_hand_written_loop():
    schedule = {3: "0.*"}
    callbacks = [Unfreeze("2.*", schedule, unit="epoch"), GradientAccumulation(2)]
    net = make_net(callbacks, shuffle=False).fit(X, Y)
    module = make_module(torch.float64)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    x, y = torch.tensor(X), torch.tensor(Y)
    for epoch in range(1, 9):
        module[0].requires_grad_(epoch >= 3)
        for start in range(0, N, 20):
            loss = nn.functional.cross_entropy(module(x[start : start + 20]), y[start : start + 20])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    for mine, theirs in zip(net.model_.module_.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_a_plateau_follows_a_metric_of_another_callback():
    callbacks = {
        "metrics": Metrics("neg_mean_absolute_error"),
        "lr": LRScheduler("plateau", monitor="valid_neg_mean_absolute_error", policy__patience=0),
    }
    net = NeuralNetRegressor(callbacks=callbacks, lr=0.5, max_epochs=12, random_state=0)
    net.fit(X, X.sum(1), X_val=X, y_val=X.sum(1))
    scores = net.history_["valid_neg_mean_absolute_error"].tolist()
    lr, best, expected = 0.5, -np.inf, []
    for score in scores:
        expected.append(lr)
        if score > best + abs(best) * 1e-4 if np.isfinite(best) else True:
            best = score
        elif lr - lr * 0.1 > 1e-8:  # torch's eps: a smaller change is none
            lr *= 0.1
    assert len(set(expected)) > 1
    np.testing.assert_allclose(net.history_["lr"], expected, rtol=1e-12)
