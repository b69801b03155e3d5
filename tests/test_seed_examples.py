"""Small callbacks known from other libraries, each as short here as it is there.

mlr3torch: the logger of a moving average. luz: the printer. miniai: all others.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import shuffle
from torch import nn
from torch.nn import functional

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    NeuralNetClassifier,
    ParameterError,
    make_callback,
)

X, Y = shuffle(*load_iris(return_X_y=True), random_state=0)


def linear(n_features_in, n_outputs):
    return nn.Linear(n_features_in, n_outputs, dtype=torch.float64)


def train_by_hand(net, orders, size, after_backward=None, zero_grad=None):
    """Train a copy of the module that a fit of `net` begins with, by plain SGD at 0.1."""
    start = []
    look = make_callback("look", on_begin=lambda self, ctx: start.append(copy.deepcopy(ctx.module)))
    stop = make_callback("stop", on_epoch_begin=lambda self, ctx: _raise(CancelFitException))
    net.fit(X, Y, callbacks={"look": look(), "stop_at_once": stop()})
    module = start[0]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    zero_grad = zero_grad or (lambda module: optimizer.zero_grad())
    losses = []
    for order in orders:
        for rows in torch.tensor(order).split(size):
            output = module(torch.from_numpy(X)[rows])
            loss = functional.cross_entropy(output, torch.from_numpy(Y)[rows])
            loss.backward()
            losses.append(loss.item())
            if after_backward is not None:
                after_backward(module)
            optimizer.step()
            zero_grad(module)
    return module, losses


def _raise(error):
    raise error


def sgd(cls=NeuralNetClassifier, **params):
    fixed = {"optimizer": "sgd", "lr": 0.1, "batch_size": 32, "max_epochs": 2, "shuffle": False}
    return cls(linear, random_state=0, **{**fixed, **params})


IN_ORDER = [list(range(150))] * 2


def assert_same(net, module, tolerance=1e-12):
    for got, expected in zip(net.model_.module_.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------- mlr3torch: the logger


class EMALogger(Callback):
    def __init__(self, alpha=0.1):
        self.alpha = alpha

    def on_begin(self, ctx):
        self.moving_loss = None

    def on_batch_end(self, ctx):
        previous = ctx.last_loss if self.moving_loss is None else self.moving_loss
        self.moving_loss = self.alpha * ctx.last_loss + (1 - self.alpha) * previous

    def on_before_valid(self, ctx):
        print(f"Epoch {ctx.epoch}: {self.moving_loss:.2f}")

    def state_dict(self):
        return {"moving_loss": self.moving_loss}

    def load_state_dict(self, state):
        self.moving_loss = state["moving_loss"]


def moving_average(losses, alpha):
    average = losses[0]
    for loss in losses[1:]:
        average = alpha * loss + (1 - alpha) * average
    return average


def test_mlr3torchs_logger_keeps_the_moving_average_in_the_model(capsys):
    net = sgd(callbacks={"custom_logger": EMALogger()}, callbacks__custom_logger__alpha=0.05)
    module, losses = train_by_hand(net, IN_ORDER, 32)
    capsys.readouterr()
    net.fit(X, Y)
    assert_same(net, module)
    expected = [moving_average(losses[:n], 0.05) for n in (5, 10)]
    assert net.model_.callbacks_["custom_logger"]["moving_loss"] == pytest.approx(expected[1])
    assert net.model_.callbacks_.custom_logger is net.model_.callbacks_["custom_logger"]
    printed = [f"Epoch {i}: {value:.2f}" for i, value in enumerate(expected, start=1)]
    assert capsys.readouterr().out.splitlines() == printed
    # an average, not the last loss
    assert expected[1] != pytest.approx(losses[-1], rel=1e-3)


def test_the_moving_average_goes_on_when_the_fit_is_continued(capsys):
    net = sgd(callbacks=[EMALogger()], warm_start=True, max_epochs=1).fit(X, Y).fit(X, Y)
    whole = sgd(callbacks=[EMALogger()], max_epochs=2).fit(X, Y)
    assert net.model_.callbacks_.ema_logger == whole.model_.callbacks_.ema_logger


def test_a_search_over_its_smoothing_in_a_pipeline_gives_other_averages(capsys):
    logger = EMALogger()
    pipe = make_pipeline(StandardScaler(), sgd(callbacks={"logger": logger}))
    name = "neuralnetclassifier__callbacks__logger__alpha"
    averages = []
    for alpha in (0.05, 0.1, 0.5):
        search = GridSearchCV(pipe, {name: [alpha]}, cv=2).fit(X, Y)
        model = search.best_estimator_[-1].model_
        averages.append(model.callbacks_.logger["moving_loss"])
    assert len(set(averages)) == 3
    assert vars(logger) == {"alpha": 0.1}


# -------------------------------------------------------------- luz: the printer

print_callback = make_callback(
    "print_callback",
    params={"message": ...},
    on_batch_end=lambda self, ctx: print("Iteration", ctx.step),
    on_epoch_end=lambda self, ctx: print(self.message),
)


def test_luzs_printer_prints_each_iteration_and_a_message(capsys):
    sgd(max_epochs=2).fit(X, Y, callbacks=[print_callback(message="Done!")])
    epoch = [*(f"Iteration {n}" for n in range(1, 6)), "Done!"]
    assert capsys.readouterr().out.splitlines() == epoch * 2


def test_the_printer_needs_its_message():
    with pytest.raises(ParameterError, match="message"):
        print_callback()


# --------------------------------------------------- miniai: one batch, one epoch


class Metrics(Callback):
    """Print accuracy and loss after each phase."""

    def on_before_train(self, ctx):
        self.right = self.n = 0

    def on_batch_end(self, ctx):
        self.right += (ctx.y_pred.argmax(1) == ctx.y).sum().item()
        self.n += len(ctx.y)

    def on_after_train(self, ctx):
        print("train", f"{self.right / self.n:.3f}")

    on_valid_begin = on_before_train
    on_batch_valid_end = on_batch_end

    def on_valid_end(self, ctx):
        print("valid", f"{self.right / self.n:.3f}")


class SingleBatch(Callback):
    def on_batch_end(self, ctx):
        raise CancelFitException


class SingleEpoch(Callback):
    def on_valid_end(self, ctx):
        raise CancelFitException


def test_single_batch_trains_one_batch():
    net = sgd(callbacks=[SingleBatch()])
    module, losses = train_by_hand(net, [list(range(32))], 32)
    net.fit(X, Y)
    assert_same(net, module)
    assert net.loss_curve_ == pytest.approx(losses)
    assert net.model_.stop_reason_ == "cancelled"


def test_single_epoch_trains_one_epoch_with_its_validation(capsys):
    net = sgd(callbacks=[Metrics(), SingleEpoch()])
    module, _ = train_by_hand(net, IN_ORDER[:1], 32)
    net.fit(X, Y, X_val=X, y_val=Y)
    assert_same(net, module)
    assert net.history_["valid_loss"].notna().tolist() == [True]
    accuracy = (module(torch.from_numpy(X)).argmax(1).numpy() == Y).mean()
    assert capsys.readouterr().out.splitlines()[-1] == f"valid {accuracy:.3f}"


class LateSingleEpoch(SingleEpoch):
    order = Callback.order + 1


ORDERS = [
    ([SingleEpoch(), Metrics()], 1),
    ([Metrics(), SingleEpoch()], 2),
    ([LateSingleEpoch(), Metrics()], 2),
]


@pytest.mark.parametrize(("callbacks", "n_lines"), ORDERS)
def test_the_metrics_of_validation_are_printed_when_the_cancel_comes_after_them(
    callbacks, n_lines, capsys
):
    sgd(callbacks=callbacks, max_epochs=3).fit(X, Y, X_val=X, y_val=Y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["train", "valid"][:n_lines]


# ------------------------------------------------------ miniai: replaced actions


class MomentumNet(NeuralNetClassifier):
    def __init__(self, module=None, *, mom=0.85, **params):
        super().__init__(module, **params)
        self.mom = mom

    def do_zero_grad(self, ctx):
        for p in ctx.module.parameters():
            p.grad *= self.mom


@pytest.mark.parametrize("mom", [0.85, 0.5])
def test_momentum_by_a_subclass_with_a_parameter_of_its_own(mom):
    net = sgd(MomentumNet, mom=mom)

    def fade(module):
        for p in module.parameters():
            p.grad *= mom

    module, losses = train_by_hand(net, IN_ORDER, 32, zero_grad=fade)
    net.fit(X, Y)
    assert_same(net, module)
    assert net.loss_curve_[1] == pytest.approx(np.average(losses[5:], weights=[32] * 4 + [22]))


def test_the_subclass_has_its_own_parameter_and_the_inherited_ones():
    net = sgd(MomentumNet)
    assert net.get_params()["mom"] == 0.85
    assert net.get_params()["batch_size"] == 32
    search = GridSearchCV(net, {"mom": [0.0, 0.9], "lr": [0.1, 0.01]}, cv=2).fit(X, Y)
    assert set(search.best_params_) == {"mom", "lr"}


class Train(Callback):
    def do_predict(self, ctx):
        ctx.y_pred = ctx.module(ctx.X)

    def do_get_loss(self, ctx):
        ctx.loss = ctx.criterion(ctx.y_pred, ctx.y)

    def do_backward(self, ctx):
        ctx.loss.backward()

    def do_step(self, ctx):
        ctx.optimizer.step()

    def do_zero_grad(self, ctx):
        ctx.optimizer.zero_grad()


@pytest.mark.parametrize("base", [NeuralNetClassifier, MomentumNet])
def test_a_train_callback_with_all_five_actions_replaces_the_estimators(base):
    net = sgd(base, callbacks=[Train()])
    module, _ = train_by_hand(net, IN_ORDER, 32)
    net.fit(X, Y)
    assert_same(net, module)


# ------------------------------------------------ miniai: gradients and batches


class GradientClipping(Callback):
    def __init__(self, max_norm=1.0, norm_type=2):
        self.max_norm = max_norm
        self.norm_type = norm_type

    def on_before_step(self, ctx):
        nn.utils.clip_grad_norm_(ctx.module.parameters(), self.max_norm, self.norm_type)


def test_gradient_clipping():
    net = sgd(callbacks=[GradientClipping(max_norm=0.3)])

    def clip(module):
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in module.parameters()))
        clipped.append(norm > 0.3)
        for p in module.parameters():
            p.grad *= min(1, 0.3 / (norm + 1e-6))

    clipped = []
    module, _ = train_by_hand(net, IN_ORDER, 32, after_backward=clip)
    assert any(clipped)
    assert_same(net.fit(X, Y), module)


class GradientAccumulation(Callback):
    def __init__(self, n):
        self.n = n

    def on_before_train(self, ctx):
        self.count = 0

    def on_before_backward(self, ctx):
        ctx.loss = ctx.loss / self.n

    def on_after_backward(self, ctx):
        self.count += 1
        if self.count % self.n and not ctx.is_last_batch:
            ctx.skip_step()


def test_two_accumulated_batches_of_32_are_one_of_64():
    two = sgd(batch_size=32, callbacks=[GradientAccumulation(2)]).fit(X[:128], Y[:128])
    one = sgd(batch_size=64).fit(X[:128], Y[:128])
    assert_same(two, one.model_.module_, 1e-6)
    assert two.loss_curve_ == pytest.approx(one.loss_curve_, rel=1e-6)
    assert two.loss_curve_[1] < two.loss_curve_[0]


def test_the_batches_left_over_are_stepped_at_the_end_of_the_epoch():
    steps = []
    count = make_callback("count", on_after_step=lambda self, ctx: steps.append(ctx.step))
    sgd(callbacks=[GradientAccumulation(2), count()]).fit(X, Y)
    assert steps == [2, 4, 5] * 2


class AccumulationByCancel(Callback):
    """The same by a cancel, and the batches left over at the end of training."""

    def __init__(self, n):
        self.n = n

    def on_before_train(self, ctx):
        self.count = 0

    def on_before_backward(self, ctx):
        ctx.loss = ctx.loss / self.n

    def on_after_backward(self, ctx):
        self.count += 1
        if self.count % self.n:
            raise CancelBatchException

    def on_after_train(self, ctx):
        if self.count % self.n:
            ctx.estimator.do_step(ctx)
            ctx.estimator.do_zero_grad(ctx)


def test_accumulation_by_a_cancel_is_the_same():
    skipping = sgd(callbacks=[GradientAccumulation(2)]).fit(X, Y)
    cancelling = sgd(callbacks=[AccumulationByCancel(2)]).fit(X, Y)
    assert_same(cancelling, skipping.model_.module_)
    assert cancelling.loss_curve_ == pytest.approx(skipping.loss_curve_)


def test_accumulation_with_clipping_clips_the_sum_alone():
    clipped = []
    clip = make_callback("clip", on_before_step=lambda self, ctx: clipped.append(ctx.step))
    sgd(callbacks=[clip(), GradientAccumulation(2)]).fit(X, Y)
    assert clipped == [2, 4, 5] * 2


class ToDevice(Callback):
    """Move the batch, as one does for a memory format of one's own."""

    def on_batch_begin(self, ctx):
        ctx.X = ctx.X.contiguous(memory_format=torch.channels_last).to(ctx.device)

    on_batch_valid_begin = on_batch_predict_begin = on_batch_begin


class Images(nn.Sequential):
    def __init__(self, n_outputs):
        super().__init__(
            nn.Conv2d(1, 4, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, n_outputs),
        )


def test_images_in_another_memory_format():
    images = np.random.default_rng(0).normal(size=(30, 1, 8, 8)).astype(np.float32)
    y = (images.mean((1, 2, 3)) > 0).astype(int)
    net = NeuralNetClassifier(Images, callbacks=[ToDevice()], max_epochs=3, random_state=0)
    plain = NeuralNetClassifier(Images, max_epochs=3, random_state=0).fit(images, y)
    probability = net.fit(images, y).predict_proba(images)
    np.testing.assert_allclose(probability, plain.predict_proba(images), rtol=1e-4)


# --------------------------------------------------------- miniai: the LR finder


class LRFinder(Callback):
    def __init__(self, lr_mult=1.3):
        self.lr_mult = lr_mult

    def on_begin(self, ctx):
        self.lrs, self.losses, self.min = [], [], math.inf

    def on_batch_end(self, ctx):
        self.lrs.append(ctx.optimizer.param_groups[0]["lr"])
        self.losses.append(ctx.last_loss)
        self.min = min(self.min, ctx.last_loss)
        if ctx.last_loss > 3 * self.min:
            raise CancelFitException
        for group in ctx.optimizer.param_groups:
            group["lr"] *= self.lr_mult

    def on_valid_begin(self, ctx):
        raise CancelEpochException

    def state_dict(self):
        return {"lrs": self.lrs, "losses": self.losses}

    def load_state_dict(self, state):
        self.lrs, self.losses = state["lrs"], state["losses"]


def test_the_lr_finder_raises_the_rate_until_the_loss_explodes():
    net = sgd(lr=1e-4, max_epochs=100)
    found = net.fit(X, Y, X_val=X, y_val=Y, callbacks=[LRFinder()]).model_.callbacks_.lr_finder
    np.testing.assert_allclose(found["lrs"], 1e-4 * 1.3 ** np.arange(len(found["lrs"])))
    assert 10 < len(found["losses"]) < 500
    exploded = found["losses"] > 3 * np.minimum.accumulate(found["losses"])
    assert exploded.tolist() == [False] * (len(exploded) - 1) + [True]
    assert "valid_loss" not in net.history_.columns
    assert net.model_.stop_reason_ == "cancelled"


def test_callbacks_given_to_fit_are_gone_afterwards():
    net = sgd(callbacks={"metrics": EMALogger()}, lr=1e-3)
    before = net.get_params()
    net.fit(X, Y, callbacks=[LRFinder()])
    assert set(net.model_.callbacks_) == {"metrics", "lr_finder"}
    assert net.get_params() == before
    net.fit(X, Y)
    assert set(net.model_.callbacks_) == {"metrics"}
    assert net.model_.optimizer_["param_groups"][0]["lr"] == 1e-3


def test_callbacks_given_to_fit_are_gone_also_after_an_error():
    failing = make_callback("failing", on_batch_end=lambda self, ctx: _raise(OSError("no")))
    net = sgd()
    with pytest.raises(OSError, match="no"):
        net.fit(X, Y, callbacks=[failing()])
    assert net.fit(X, Y).model_.stop_reason_ == "completed"


# ------------------------------------- miniai: autocast with an estimator's actions


class Autocast(Callback):
    """Mixed precision on the CPU, around what the estimator does."""

    def do_predict(self, ctx):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            ctx.estimator.do_predict(ctx)
        ctx.y_pred = ctx.y_pred.float()


def test_mixed_precision_trains_near_full_precision_and_works_with_a_subclass():
    params = {"max_epochs": 20, "lr": 0.01, "random_state": 0}
    x = StandardScaler().fit_transform(X).astype(np.float32)
    mixed = MomentumNet(optimizer="sgd", callbacks=[Autocast()], **params).fit(x, Y)
    full = MomentumNet(optimizer="sgd", **params).fit(x, Y)
    np.testing.assert_allclose(mixed.loss_curve_, full.loss_curve_, rtol=0.02)
    assert mixed.loss_curve_ != full.loss_curve_
    assert mixed.predict_proba(x).dtype == np.float32
