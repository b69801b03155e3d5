"""Accumulation, against large batches and against a simulation by hand."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import torch
from doubles import Log, make_net, same_weights, weights_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    GradientAccumulation,
    GradientClipping,
    NeuralNetClassifier,
    NeuralNetRegressor,
)
from skorchlike.callbacks.base import Setup

N = 57  # 19 batches of 3; groups of 5 of them have 15 rows, the last one 12


def make_data(n=N, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)), rng.integers(n_classes, size=n)


X, Y = make_data()
WEIGHT = np.random.default_rng(1).uniform(0.1, 3, size=N)


def make_module(n_outputs=3, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, n_outputs)).double()


def classifier(n_batches=None, *, batch_size=3, others=(), **params):
    callbacks = [*others] if n_batches is None else [GradientAccumulation(n_batches), *others]
    fixed = {"module": make_module(), "optimizer": "sgd", "lr": 0.1, "max_epochs": 3}
    fixed.update(batch_size=batch_size, callbacks=callbacks, random_state=0)
    return NeuralNetClassifier(**{**fixed, **params})


def assert_same(one, other):
    got, expected = one.model_.module_.state_dict(), other.model_.module_.state_dict()
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-11, atol=1e-11)


CASES = {
    "sgd": {},
    "momentum and decay": {"optimizer__momentum": 0.9, "optimizer__weight_decay": 0.1},
    "adamw": {"optimizer": "adamw", "lr": 0.01},
    "class weights": {"criterion__weight": torch.tensor([0.2, 1.0, 4.0]).double()},
    "ignore_index": {"criterion__ignore_index": 1},
    "label smoothing": {"criterion__label_smoothing": 0.1},
    "both": {"criterion__weight": torch.tensor([0.2, 1.0, 4.0]), "criterion__ignore_index": 1},
    "sum": {"criterion__reduction": "sum", "lr": 0.005},
    "bce": {"criterion": "bce_with_logits"},
    "unshuffled": {"shuffle": False},
}
SAMPLE_WEIGHT = [None, WEIGHT]


@pytest.mark.parametrize("sample_weight", SAMPLE_WEIGHT, ids=["", "weighted"])
@pytest.mark.parametrize("case", CASES)
def test_a_group_steps_as_one_large_batch_does(case, sample_weight):
    small, large = classifier(5, **CASES[case]), classifier(batch_size=15, **CASES[case])
    assert_same(small.fit(X, Y, sample_weight), large.fit(X, Y, sample_weight))


def test_it_goes_with_drop_last():
    # of 57 rows 14 batches of 4, and 7 of 8, leave out the same one
    small = classifier(2, batch_size=4, drop_last=True)
    large = classifier(batch_size=8, drop_last=True)
    assert_same(small.fit(X, Y), large.fit(X, Y))


def test_the_same_holds_against_a_loop_by_hand():
    net = classifier(5, shuffle=False).fit(X, Y, WEIGHT)
    module = make_module()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    rows, labels, weight = map(torch.from_numpy, (X, Y, WEIGHT))
    for _ in range(3):
        for part in torch.arange(N).split(15):
            losses = nn.functional.cross_entropy(module(rows[part]), labels[part], reduction="none")
            optimizer.zero_grad()
            ((weight[part] * losses).sum() / weight[part].sum()).backward()
            optimizer.step()
    for name, expected in module.state_dict().items():
        torch.testing.assert_close(net.model_.module_.state_dict()[name], expected)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_regression(n_outputs):
    target = X[:, 0] ** 2 if n_outputs == 1 else X[:, :2] ** 2
    fixed = {"optimizer": "sgd", "lr": 0.05, "max_epochs": 3, "random_state": 0}
    small = NeuralNetRegressor(
        make_module(n_outputs), batch_size=4, callbacks=[GradientAccumulation(3)], **fixed
    )
    large = NeuralNetRegressor(make_module(n_outputs), batch_size=12, **fixed)
    assert_same(small.fit(X, target, WEIGHT), large.fit(X, target, WEIGHT))


@pytest.mark.parametrize("limits", [{"max_norm": 0.05}, {"max_norm": None, "clip_value": 0.01}])
def test_clipping_sees_the_gradients_of_the_whole_group(limits):
    small = classifier(5, others=[GradientClipping(**limits)])
    large = classifier(batch_size=15, others=[GradientClipping(**limits)])
    assert_same(small.fit(X, Y), large.fit(X, Y))
    for column in ("gradient_norm", "gradient_norm_max"):
        np.testing.assert_allclose(small.history_[column], large.history_[column], rtol=1e-10)


@pytest.mark.parametrize("first", [True, False])
def test_a_batch_whose_rows_are_all_ignored_counts_nothing(first):
    labels = np.arange(24) % 2
    ignored = slice(0, 3) if first else slice(3, 6)
    labels[ignored] = 2
    fixed = {"criterion__ignore_index": 2, "shuffle": False, "max_epochs": 2}
    with warnings.catch_warnings():
        # torch's mean of no losses is NaN, and so is the epoch's
        warnings.simplefilter("ignore", ConvergenceWarning)
        small = classifier(4, **fixed).fit(X[:24], labels)
    assert_same(small, classifier(batch_size=12, **fixed).fit(X[:24], labels))
    assert all(torch.isfinite(p).all() for p in small.model_.module_.parameters())


@pytest.mark.parametrize(("n_rows", "n_batches"), [(1, 3), (4, 100), (10, 2)])
def test_few_rows_and_a_last_batch_of_one_row(n_rows, n_batches):
    data = X[:n_rows], np.arange(n_rows) % 3
    small, large = classifier(n_batches), classifier(batch_size=3 * n_batches)
    if n_rows == 1:
        data, fixed = (X[:1], X[:1, 0]), {"lr": 0.1, "random_state": 0}
        small = NeuralNetRegressor(make_module(1), callbacks=[GradientAccumulation(3)], **fixed)
        large = NeuralNetRegressor(make_module(1), **fixed)
    assert_same(small.fit(*data), large.fit(*data))


def test_float32_data():
    small, large = classifier(5, module=None), classifier(batch_size=15, module=None)
    data = X.astype("float32"), Y
    got, expected = small.fit(*data).predict_proba(X), large.fit(*data).predict_proba(X)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_groups_of_one_batch_change_no_bit():
    one, none = classifier(1).fit(X, Y, WEIGHT), classifier().fit(X, Y, WEIGHT)
    assert same_weights(weights_of(one.model_.module_), weights_of(none.model_.module_))


# ---------------------------------------------------------------- what is recorded


class Losses(Callback):
    """Compare ``ctx.last_loss`` with the loss that the criterion gives."""

    order = 1000

    def __init__(self, pairs):
        self.pairs = pairs

    def on_after_loss(self, ctx):
        self.expected = ctx.criterion(ctx.y_pred, ctx.y).item()

    def on_batch_end(self, ctx):
        self.pairs.append((ctx.last_loss, self.expected))


def test_recorded_losses_are_not_scaled():
    pairs = Log()
    net = classifier(5, batch_size=4, others=[Losses(pairs)], max_epochs=2).fit(X, Y)
    assert len(pairs) == 30
    assert all(got == expected for got, expected in pairs)
    sizes = [4] * 14 + [1]
    mean = np.average([loss for loss, _ in pairs[15:]], weights=sizes)
    assert net.loss_curve_[-1] == pytest.approx(mean, rel=1e-12)


class Steps(Callback):
    """Count batches and steps, and note how many were planned."""

    def __init__(self, seen):
        self.seen = seen

    def on_begin(self, ctx):
        self.seen.append(ctx.n_updates)

    def on_after_step(self, ctx):
        self.seen.append("step")

    def on_batch_end(self, ctx):
        self.seen.append("batch")


@pytest.mark.parametrize("n_batches", [1, 2, 5, 18, 19, 20])
def test_as_many_steps_are_planned_as_taken_and_every_batch_ends(n_batches):
    seen = Log()
    classifier(n_batches, others=[Steps(seen)], max_epochs=2).fit(X, Y)
    assert seen[0] == seen.count("step") == 2 * -(-19 // n_batches)
    assert seen.count("batch") == 38


# -------------------------------------------------------- cancelled and skipped batches

FATES = {
    "normal": None,
    "never backward": [
        ("on_batch_begin", 0, CancelBatchException),
        ("on_after_loss", 0, CancelBatchException),
        ("on_before_backward", -50, CancelBatchException),
        ("on_before_backward", 50, CancelBatchException),
    ],
    "no step": [
        ("on_after_backward", -50, CancelBatchException),
        ("on_after_backward", 50, CancelBatchException),
        ("on_batch_begin", 0, "skip"),
        ("on_after_backward", -50, "skip"),
        ("on_after_backward", 50, "skip"),
        ("on_before_step", -50, CancelBatchException),
        ("on_before_step", 50, CancelBatchException),
    ],
    "after the step": [
        ("on_after_step", -50, CancelBatchException),
        ("on_after_step", 50, CancelBatchException),
        ("on_batch_end", -50, CancelBatchException),
        ("on_batch_end", 50, CancelBatchException),
    ],
    "dropped": [("on_after_backward", 50, "drop")],
}
WAYS = [(fate, way) for fate, ways in FATES.items() for way in ways or [None]]


class Interfere(Callback):
    """Do to each batch what a list says."""

    def __init__(self, ways, order):
        self.ways = ways
        self.order = order

    def act(self, stage, ctx):
        way = self.ways[ctx.global_step - 1]
        if way is None or way[:2] != (stage, self.order):
            return
        if way[2] == "skip":
            ctx.skip_step()
        elif way[2] == "drop":
            ctx.optimizer.zero_grad()
            raise CancelBatchException
        else:
            raise way[2]


for _stage in {way[0] for _, way in WAYS if way}:
    setattr(Interfere, _stage, lambda self, ctx, _stage=_stage: self.act(_stage, ctx))


def simulate(fates, n_batches, batches_an_epoch):
    """Return the trained module: a step is that of the mean loss of the pending rows."""
    module = make_module()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    rows, labels = torch.from_numpy(X), torch.from_numpy(Y)
    parts = torch.arange(3 * batches_an_epoch - 1).split(3)
    pending = []
    for i, (fate, _) in enumerate(fates):
        if fate == "never backward":
            continue
        pending.append(parts[i % batches_an_epoch])
        last = i % batches_an_epoch == batches_an_epoch - 1
        if fate == "dropped":
            pending = []
        elif fate != "no step" and (len(pending) >= n_batches or last):
            part = torch.cat(pending)
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(rows[part]), labels[part]).backward()
            optimizer.step()
            pending = []
    return module


def assert_as_simulated(fates, n_batches, batches_an_epoch):
    ways = [way for _, way in fates]
    others = [(f"at{order}", Interfere(ways, order)) for order in (-50, 0, 50)]
    n_rows = 3 * batches_an_epoch - 1
    net = classifier(
        n_batches,
        shuffle=False,
        optimizer__momentum=0.9,
        max_epochs=len(fates) // batches_an_epoch,
    )
    net.set_params(callbacks=[("accumulation", GradientAccumulation(n_batches)), *others])
    net.fit(X[:n_rows], Y[:n_rows])
    expected = simulate(fates, n_batches, batches_an_epoch)
    for one, other in zip(net.model_.module_.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
        assert one.grad is None


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("batch", [0, 1, 2, 4])
def test_a_batch_that_is_cut_off_anywhere_loses_and_mis_scales_nothing(batch, way):
    fates = [("normal", None)] * 10
    fates[batch] = way
    assert_as_simulated(fates, 3, 5)


@settings(deadline=None, max_examples=60)
@given(fates=st.lists(st.sampled_from(WAYS), min_size=12, max_size=12), n=st.integers(1, 5))
def test_any_sequence_of_cut_off_batches_trains_as_a_simulation_does(fates, n):
    assert_as_simulated(fates, n, 4)


class CancelAt(Callback):
    def __init__(self, stage, error, global_step):
        self.stage = stage
        self.error = error
        self.global_step = global_step

    def on_after_backward(self, ctx):
        if self.stage == "on_after_backward" and ctx.global_step == self.global_step:
            raise self.error


def test_after_a_cancelled_epoch_its_gradients_go_on_into_the_next():
    # 4 of 19 batches, then an epoch that ends its groups in its 1st, 6th, ... batch
    cancel = CancelAt("on_after_backward", CancelEpochException, 4)
    net = classifier(5, others=[cancel], shuffle=False, max_epochs=2).fit(X, Y)
    module = make_module()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    rows, labels = torch.from_numpy(X), torch.from_numpy(Y)
    parts = torch.arange(N).split(3)
    order = [*parts[:4], *parts]
    for start in range(0, 23, 5):
        part = torch.cat(order[start : start + 5])
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(rows[part]), labels[part]).backward()
        optimizer.step()
    for one, other in zip(net.model_.module_.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("error", [CancelFitException, KeyboardInterrupt])
def test_what_is_left_when_the_fit_ends_is_dropped(error):
    others = [CancelAt("on_after_backward", error, 8)]
    net = classifier(5, others=others, max_epochs=1, warm_start=True)
    try:
        net.fit(X, Y)
    except KeyboardInterrupt:
        assert error is KeyboardInterrupt
    assert all(p.grad is None for p in net.model_.module_.parameters())
    five = classifier(5, others=[CancelAt("on_after_backward", CancelFitException, 6)])
    assert_same(net, five.fit(X, Y))


@pytest.mark.parametrize("way", ["fit", "partial_fit"])
def test_a_continued_fit_begins_a_new_group(way):
    small = classifier(5, warm_start=True, max_epochs=1)
    large = classifier(batch_size=15, warm_start=True, max_epochs=1)
    for net in (small, large):
        for _ in range(2):
            getattr(net, way)(X, Y)
    assert_same(small, large)


# ------------------------------------------------------------------- other actions


class MomentumLearner(NeuralNetClassifier):
    """Keep a share of the gradients instead of clearing them."""

    def __init__(self, module=None, *, mom=0.85, **kwargs):
        super().__init__(module, **kwargs)
        self.mom = mom

    def do_zero_grad(self, ctx):
        with torch.no_grad():
            for p in ctx.module.parameters():
                p.grad *= self.mom


def test_gradients_that_zero_grad_leaves_are_added_to_the_groups_mean():
    fixed = {"optimizer": "sgd", "lr": 0.02, "max_epochs": 2, "random_state": 0}
    small = MomentumLearner(
        make_module(), batch_size=3, callbacks=[GradientAccumulation(5)], **fixed
    )
    large = MomentumLearner(make_module(), batch_size=15, **fixed)
    assert_same(small.fit(X, Y), large.fit(X, Y))


@pytest.mark.parametrize("stage", ["on_batch_begin", "on_after_backward"])
def test_they_are_so_too_where_another_callback_lengthens_the_groups(stage):
    def lengthen(self, ctx):
        if ctx.step % 3 == 2:
            ctx.skip_step()

    others = [type("Lengthen", (Callback,), {"order": -50, stage: lengthen})()]
    fixed = {"optimizer": "sgd", "lr": 0.02, "max_epochs": 2, "random_state": 0}
    callbacks = [GradientAccumulation(2), *others]
    small = MomentumLearner(make_module(), batch_size=3, callbacks=callbacks, **fixed)
    large = MomentumLearner(make_module(), batch_size=9, **fixed)
    assert_same(small.fit(X[:54], Y[:54]), large.fit(X[:54], Y[:54]))


class OwnActions(Callback):
    """The five actions in plain torch."""

    def do_predict(self, ctx):
        ctx.y_pred = ctx.module(ctx.X)

    def do_get_loss(self, ctx):
        ctx.loss = ctx.criterion(ctx.y_pred, ctx.y)

    def do_backward(self, ctx):
        ctx.loss.backward()

    def do_step(self, ctx):
        ctx.optimizer.step()

    def do_zero_grad(self, ctx):
        ctx.optimizer.zero_grad(set_to_none=False)


def test_it_works_with_callbacks_that_replace_the_actions():
    small = classifier(5, others=[OwnActions()])
    assert_same(small.fit(X, Y), classifier(batch_size=15).fit(X, Y))


# ------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("n_batches", [0, -1, 1.5, "2", None, np.nan])
def test_an_impossible_number_is_an_error_before_training(n_batches):
    with pytest.raises(ValueError, match="'n_batches' parameter of GradientAccumulation"):
        classifier(n_batches, others=[]).set_params(
            callbacks=[GradientAccumulation(n_batches)]
        ).fit(X, Y)


def test_a_search_chooses_the_number_of_batches():
    net = classifier(2, max_epochs=1)
    grid = {"callbacks__gradient_accumulation__n_batches": [1, np.int64(5)]}
    search = GridSearchCV(pickle.loads(pickle.dumps(net)), grid, cv=2).fit(X, Y)
    scores = [cross_val_score(classifier(n, max_epochs=1), X, Y, cv=2).mean() for n in (1, 5)]
    assert search.cv_results_["mean_test_score"].tolist() == scores
    assert pickle.loads(pickle.dumps(search)).best_params_ == search.best_params_


def test_it_stands_for_its_name_and_can_be_dropped():
    fixed = {"module": make_module(), "optimizer": "sgd", "batch_size": 3, "random_state": 0}
    named = NeuralNetClassifier(callbacks=["gradient_accumulation"], max_epochs=2, **fixed)
    large = NeuralNetClassifier(**{**fixed, "batch_size": 6}, max_epochs=2)
    assert_same(named.fit(X, Y), large.fit(X, Y))
    named.set_params(callbacks__gradient_accumulation=None)
    plain = NeuralNetClassifier(**fixed, max_epochs=2)
    assert_same(named.fit(X, Y), plain.fit(X, Y))


def test_it_advises_against_reading_gradients_before_the_group_is_complete():
    class Reads(Callback):
        changes_gradients = True

        def on_after_backward(self, ctx):
            pass

    callbacks = {"acc": GradientAccumulation(), "reads": Reads(), "clip": GradientClipping()}
    (advice,) = callbacks["acc"].advise(Setup("acc", callbacks, (), 3))
    assert "'reads'" in advice
    assert "on_before_step" in advice


@pytest.mark.parametrize("early", [True, False])
def test_it_leaves_orderly_when_another_fails_in_on_begin(early):
    class Fails(Callback):
        order = -100 if early else 100

        def on_begin(self, ctx):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        make_net(callbacks=[GradientAccumulation(), Fails()]).fit(X, Y % 2)
    assert not any("failed too" in note for note in caught.value.__notes__)
