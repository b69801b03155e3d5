"""The guard against NaN and infinity: what it finds, whom it names, what it leaves."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from doubles import Log, make_data, make_net, same_weights, weights_of
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from torch import nn

from skorchlike import (
    Callback,
    MixedPrecision,
    NaNGuard,
    NeuralNetClassifier,
    NeuralNetRegressor,
)

NAN, INF = float("nan"), float("inf")
X, Y = make_data(n=24)


class Logarithm(nn.Module):
    """NaN of finite numbers, in the forward pass."""

    def forward(self, X):
        return (X - 1e6).log()


class RootOfZero(nn.Module):
    """Finite forward, NaN in the backward pass."""

    def forward(self, X):
        return (X * 0).sqrt()


class Layers(nn.Module):
    """Two linear layers with something between them."""

    def __init__(self, between=None, n_outputs=2):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.between = nn.Identity() if between is None else between
        self.last = nn.Linear(4, n_outputs)

    def forward(self, X):
        return self.last(self.between(self.first(X)))


class At(Callback):
    """Do something at one training batch, counted over the fit, at one stage."""

    def __init__(self, stage, step, act):
        self.stage = stage
        self.step = step
        self.act = act

    def _at(self, stage, ctx):
        if (stage, ctx.global_step) == (self.stage, self.step):
            self.act(ctx)

    def on_batch_begin(self, ctx):
        self._at("on_batch_begin", ctx)

    def on_after_loss(self, ctx):
        self._at("on_after_loss", ctx)

    def on_before_step(self, ctx):
        self._at("on_before_step", ctx)

    def on_after_step(self, ctx):
        self._at("on_after_step", ctx)


class Weights(Callback):
    """Keep the weights before every batch."""

    def __init__(self, log):
        self.log = log

    def on_batch_begin(self, ctx):
        self.log.append(weights_of(ctx.module))


def net(*callbacks, guard=None, cls=NeuralNetClassifier, **params):
    named = {f"other{i}": callback for i, callback in enumerate(callbacks)}
    named["guard"] = guard or NaNGuard()
    said = {"module": Layers(), "batch_size": 4, "max_epochs": 3, "dtype": "float64"}
    return cls(callbacks=named, random_state=0, **{**said, **params})


def raised(*callbacks, y=Y, **params):
    """Return the message of the error that the guard raises."""
    est = net(*callbacks, **params)
    with pytest.raises(FloatingPointError, match="NaNGuard: ") as caught:
        est.fit(X, y)
    assert not hasattr(est, "model_")
    return str(caught.value)


def stopped(*callbacks, y=Y, X=X, guard=None, **params):
    """Return the estimator and the report where the guard ends the fit."""
    est = net(*callbacks, guard=guard or NaNGuard(action="stop"), **params).fit(X, y)
    assert est.model_.stop_reason_ == "nan_guard"
    return est, est.model_.callbacks_.guard["report"]


def spoil_weight(ctx):
    with torch.no_grad():
        ctx.module.first.weight[1, 2] = INF


def spoil_gradient(ctx):
    ctx.module.last.bias.grad[0] = NAN


def spoil_X(value):
    def act(ctx):
        ctx.X[1, 2] = value

    return act


def spoil_loss(ctx):
    ctx.loss = ctx.loss * INF


# ---------------------------------------------------------------- whom it names


def test_the_first_layer_that_makes_it_is_named():
    between = nn.Sequential(nn.Tanh(), Logarithm(), nn.Tanh())
    message = raised(module=Layers(between))
    assert "the training loss is nan in epoch 1, batch 1" in message
    assert "First made by 'between.1' (Logarithm): its inputs are finite, its output is" in message


def test_code_between_layers_is_laid_to_the_module_that_holds_it():
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, X):
            return self.layer((X - 1e6).log())

    _, report = stopped(module=Layers(Inner()))
    assert (report["cause"], report["module"], report["module_class"]) == (
        "module",
        "between",
        "Inner",
    )
    assert "None of its submodules does" in report["message"]


def test_a_layer_that_overflows_is_named_though_it_gives_infinity_and_no_nan():
    class Exponential(nn.Module):
        def forward(self, X):
            return (X * 1e6 + 1e6).exp()

    _, report = stopped(module=nn.Sequential(nn.Linear(3, 4), Exponential(), nn.Linear(4, 2)))
    assert (report["module"], report["module_class"]) == ("1", "Exponential")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("field", ["X", "y"])
def test_values_of_the_batch_are_named_by_row_and_column(field, value):
    rows = Log()

    def spoil(ctx):
        getattr(ctx, field)[1, -1] = value
        rows.append(int(ctx.index[1]))

    target = X[:, :2] * 1.0
    cls = NeuralNetRegressor
    message = raised(At("on_batch_begin", 8, spoil), cls=cls, y=target)
    assert "in epoch 2, batch 2 (number 8 of all training batches)" in message
    column = 2 if field == "X" else 1
    assert f"{field} is not finite in the rows {rows[0]} of the data, columns {column}" in message


def test_columns_of_a_data_frame_are_named_by_their_names():
    import pandas as pd

    frame = pd.DataFrame(X, columns=["height", "age", "weight"])
    _, report = stopped(At("on_batch_begin", 1, spoil_X(NAN)), X=frame)
    assert "columns 'weight'." in report["message"]
    assert report["cause"] == "X"


def test_of_many_bad_rows_a_few_are_shown():
    def spoil(ctx):
        ctx.X[:] = NAN

    message = raised(At("on_batch_begin", 1, spoil), batch_size=24, shuffle=False)
    assert "in the rows 0, 1, 2, 3, 4, ... (24 in all) of the data, columns 0, 1, 2." in message


def test_the_criterion_is_named_when_what_it_gets_is_finite():
    class Overflows(nn.Module):
        def forward(self, y_pred, y):
            return (y_pred.double() + 1e200).pow(2).sum()

    _, report = stopped(criterion=Overflows)
    assert (report["cause"], report["module"], report["module_class"]) == (
        "criterion",
        None,
        None,
    )
    assert "made by the loss (Overflows)" in report["message"]


def test_a_callback_that_changes_the_loss_is_told_from_the_criterion():
    _, report = stopped(At("on_after_loss", 3, spoil_loss))
    assert (report["cause"], report["global_step"]) == ("on_after_loss", 3)
    assert "the training loss is inf" in report["message"]


def test_a_module_with_several_outputs_is_looked_through():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Sequential(nn.Linear(3, 2), Logarithm())

        def forward(self, X):
            return self.a(X), {"more": self.b(X)}

    class Both(Callback):
        def do_get_loss(self, ctx):
            first, second = ctx.y_pred
            ctx.loss = nn.functional.cross_entropy(first, ctx.y) + second["more"].mean()

    _, report = stopped(Both(), module=Two)
    assert (report["module"], report["module_class"]) == ("b.1", "Logarithm")


def test_an_estimator_with_its_own_predict_is_repeated_as_it_predicts():
    class Backwards(NeuralNetClassifier):
        def do_predict(self, ctx):
            ctx.y_pred = ctx.module(ctx.X, scale=-1.0)

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)
            self.log = Logarithm()

        def forward(self, X, scale):
            return self.log(self.layer(X * scale))

    _, report = stopped(cls=Backwards, module=Scaled)
    assert report["module"] == "log"


@pytest.mark.parametrize(
    "between",
    [
        RootOfZero(),
        nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), RootOfZero(), nn.Tanh()),
    ],
)
def test_the_layer_whose_backward_makes_it_is_named(between):
    _, report = stopped(module=Layers(between))
    name = "between" if isinstance(between, RootOfZero) else "between.2"
    assert (report["found_in"], report["module"], report["module_class"]) == (
        "gradients",
        name,
        "RootOfZero",
    )
    if name == "between.2":
        assert between[1].inplace


def test_the_gradients_that_are_not_finite_are_counted():
    message = raised(module=Layers(RootOfZero()))
    assert "the gradients of 2 of 4 parameters are not finite, such as that of 'first." in message
    assert "in epoch 1, batch 1" in message


def test_a_parameter_whose_own_gradient_overflows_is_laid_to_its_layer():
    class Steep(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, X):
            return X + (self.scale * 1e200 - 1e200) * 1e200

    _, report = stopped(module=Layers(Steep()))
    assert (report["found_in"], report["module"], report["module_class"]) == (
        "gradients",
        "between",
        "Steep",
    )


def test_a_gradient_that_a_callback_spoils_is_found_and_the_repeated_batch_is_finite():
    _, report = stopped(At("on_before_step", 2, spoil_gradient))
    assert (report["found_in"], report["cause"], report["module"]) == ("gradients", "unknown", None)
    assert "1 of 4 parameters" in report["message"]
    assert "so is everything when the batch is repeated" in report["message"]


def test_random_numbers_are_named_when_the_repeated_batch_is_finite():
    class Rarely(nn.Module):
        calls = 0

        def forward(self, X):
            Rarely.calls += 1
            return X * NAN if Rarely.calls == 3 else X

    _, report = stopped(module=Layers(Rarely()))
    assert (report["cause"], report["step"]) == ("unknown", 3)
    assert "random numbers" in report["message"]


def test_a_batch_that_cannot_be_repeated_is_said_so():
    class Once(nn.Module):
        calls = 0

        def forward(self, X):
            Once.calls += 1
            if Once.calls > 1:
                raise OSError("no more")
            return X * NAN

    message = raised(module=Layers(Once()))
    assert "could not be repeated to find the layer: OSError('no more')" in message


def test_a_weight_spoilt_by_a_step_is_named_at_the_next_batch():
    with pytest.warns(UserWarning, match="cannot be used"):
        _, report = stopped(At("on_after_step", 7, spoil_weight))
    assert (report["found_in"], report["cause"], report["module"]) == ("loss", "weights", "first")
    assert report["module_class"] == "Linear"
    assert (report["epoch"], report["step"], report["global_step"]) == (2, 2, 8)
    assert "'first.weight' are so since the step before" in report["message"]


def test_weights_are_looked_at_when_the_training_phase_ends():
    message = raised(At("on_after_step", 6, spoil_weight), max_epochs=1)
    assert "after the training phase weights are not finite, in epoch 1." in message


def test_a_weight_that_no_loss_shows_is_found_too():
    class Unused(Layers):
        def __init__(self):
            super().__init__()
            self.unused = nn.Linear(1, 1)
            with torch.no_grad():
                self.unused.bias[0] = NAN

    message = raised(module=Unused)
    assert "'unused.bias'" in message


def test_a_compiled_module_is_looked_through_in_eager_mode():
    class Compiles(Callback):
        order = -60

        def on_begin(self, ctx):
            ctx.wrap(module=torch.compile(ctx.module, backend="eager"))

    _, report = stopped(Compiles(), module=Layers(nn.Sequential(Logarithm(), nn.Tanh())))
    assert (report["module"], report["module_class"]) == ("between.0", "Logarithm")


def test_a_layer_that_overflows_in_float16_alone_is_named():
    class Large(nn.Module):
        def forward(self, X):
            return nn.functional.linear(X, torch.full((4, 4), 1e5))

    module = Layers(nn.Sequential(nn.Tanh(), Large(), nn.Tanh()))
    assert net(module=module, dtype="float32").fit(X, Y).n_iter_ == 3
    precision = MixedPrecision("float16")
    _, report = stopped(precision, module=module, dtype="float32")
    assert (report["found_in"], report["module"]) == ("loss", "between.1")


@pytest.mark.parametrize("scaled_by", ["mixed_precision", "optimizer"])
def test_gradients_that_overflow_in_float16_are_left_to_the_scaler(scaled_by):
    class Scaled(Callback):
        order = -90

        def on_begin(self, ctx):
            ctx.optimizer.scaler = object()

    class Overflow(Callback):
        order = 59

        def on_before_step(self, ctx):
            ctx.module.last.bias.grad[0] = INF

        def do_step(self, ctx):
            pass

    if scaled_by == "optimizer":
        est = net(Scaled(), Overflow(), dtype="float32")
    else:
        est = net(MixedPrecision("float16", init_scale=2.0**40), dtype="float32", max_epochs=9)
    est.fit(X, Y)
    assert est.model_.stop_reason_ == "completed"
    if scaled_by == "mixed_precision":
        assert est.history_["skipped_steps"][0] > 0


# --------------------------------------------------------------- what it leaves


@pytest.mark.parametrize(
    ("bad", "step"),
    [
        (At("on_batch_begin", 8, spoil_X(NAN)), 8),
        (At("on_after_loss", 8, spoil_loss), 8),
        (At("on_before_step", 5, spoil_gradient), 5),
        (At("on_batch_begin", 1, spoil_X(INF)), 1),
    ],
)
def test_stopped_the_model_has_the_weights_before_the_bad_step(bad, step):
    before = Log()
    est, report = stopped(bad, Weights(before), module=Layers(nn.Dropout(0.5)))
    assert report["global_step"] == step == len(before)
    assert same_weights(weights_of(est.model_.module_), before[-1])
    assert np.isfinite(est.predict_proba(X)).all()


def test_stopped_running_means_that_the_batch_has_spoilt_are_as_before():
    before = Log()
    est, _ = stopped(
        At("on_batch_begin", 4, spoil_X(NAN)), Weights(before), module=Layers(nn.BatchNorm1d(4))
    )
    assert "between.running_mean" in before[-1]
    assert same_weights(weights_of(est.model_.module_), before[-1])
    assert np.isfinite(est.predict_proba(X)).all()


def test_running_means_advance_once_in_a_batch_that_is_repeated():
    class OnlyBackward(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.root = nn.BatchNorm1d(4), RootOfZero()

        def forward(self, X):
            return self.root(self.norm(X))

    counts = Log()

    class Look(Callback):
        def on_exit(self, ctx):
            counts.append(int(ctx.module.between.norm.num_batches_tracked))

    assert "'between.root' (RootOfZero)" in raised(Look(), module=Layers(OnlyBackward()))
    assert counts == [1]


def test_no_hook_is_left_on_the_module():
    for between in (Logarithm(), RootOfZero()):
        est, _ = stopped(module=Layers(between))
        for part in est.model_.module_.modules():
            hooks = (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks)
            assert not any(hooks)


def test_repeating_a_batch_draws_no_random_numbers_of_the_fit():
    def final_state(guard):
        states = Log()

        class Look(Callback):
            order = 1000

            def on_exit(self, ctx):
                states.append(torch.get_rng_state())

        class Ends(Callback):
            order = 59

            def on_after_loss(self, ctx):
                ctx.loss = ctx.loss * NAN
                if not isinstance(guard, NaNGuard):
                    raise FloatingPointError

        # random before the layer that makes it, so that the repeated pass draws too
        module = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2), Logarithm())
        with pytest.raises(FloatingPointError):
            net(Look(), Ends(), guard=guard, module=module).fit(X, Y)
        return states[0]

    assert torch.equal(final_state(NaNGuard()), final_state(Weights(Log())))


@pytest.mark.parametrize("guard", [NaNGuard(), NaNGuard("stop"), NaNGuard("stop", every=3)])
def test_while_all_is_finite_it_changes_no_bit(guard):
    module = Layers(nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)))
    plain = make_net(module=module, dtype="float64").fit(X, Y)
    guarded = make_net(module=module, dtype="float64", callbacks=[guard]).fit(X, Y)
    assert same_weights(weights_of(guarded.model_.module_), weights_of(plain.model_.module_))
    assert guarded.loss_curve_ == plain.loss_curve_
    assert guarded.model_.callbacks_.nan_guard == {"report": None}


def test_gradients_whose_norm_overflows_while_they_are_finite_are_fine():
    def huge(ctx):
        for parameter in ctx.module.parameters():
            parameter.grad.fill_(1e300)

    est = net(At("on_before_step", 1, huge), optimizer="sgd", lr=1e-300).fit(X, Y)
    assert est.model_.callbacks_.guard["report"] is None


def test_sparse_gradients_are_looked_at():
    class Embeds(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 2, sparse=True)

        def forward(self, X):
            return self.table(X.long()[:, 0].abs() % 5)

    def spoil(ctx):
        ctx.module.table.weight.grad._values()[0] = NAN

    said = {"module": Embeds, "optimizer": torch.optim.SparseAdam}
    assert net(**said).fit(X, Y).n_iter_ == 3
    _, report = stopped(At("on_before_step", 2, spoil), **said)
    assert report["found_in"] == "gradients"


# ------------------------------------------------------------------ parameters


def test_it_looks_at_every_so_many_batches():
    guard = NaNGuard("stop", every=4, check_gradients=False)

    def spoil_quietly(ctx):
        loss, ctx.loss = ctx.loss, ctx.loss.detach() * NAN
        ctx.loss = ctx.loss + 0 * loss

    class Finite(Callback):
        order = 61

        def on_after_loss(self, ctx):
            # what is not noticed does no harm
            ctx.loss = ctx.y_pred.mean()

    found = []
    for step in range(1, 10):
        est = net(At("on_after_loss", step, spoil_quietly), Finite(), guard=guard).fit(X, Y)
        if est.model_.stop_reason_ == "nan_guard":
            found.append(step)
    assert found == [1, 5, 9]


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [1, 3, 5])])
def test_gradients_are_looked_at_at_every_so_many_steps(every, expected):
    class Repair(Callback):
        order = 61

        def on_before_step(self, ctx):
            ctx.module.last.bias.grad.zero_()

    found = []
    for step in range(1, 6):
        callbacks = [At("on_before_step", step, spoil_gradient), Repair()]
        est = net(*callbacks, guard=NaNGuard("stop", every=every)).fit(X, Y)
        if est.model_.stop_reason_ == "nan_guard":
            found.append(step)
    assert found == expected


def test_told_so_it_does_not_look_at_gradients():
    est = net(
        At("on_before_step", 2, spoil_gradient), guard=NaNGuard("raise", check_gradients=False)
    )
    with pytest.raises(FloatingPointError, match="the training loss is nan in epoch 1, batch 3"):
        est.fit(X, Y)


@pytest.mark.filterwarnings("ignore:The training loss:sklearn.exceptions.ConvergenceWarning")
def test_between_two_looks_it_cannot_tell_the_step():
    guard = NaNGuard("stop", every=5)
    with pytest.warns(UserWarning, match="cannot be used"):
        _, report = stopped(At("on_after_step", 2, spoil_weight), guard=guard)
    assert report["global_step"] == 6
    assert "one of the steps since the last look" in report["message"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"action": "warn"}, r"'action' parameter of NaNGuard.*Got 'warn'"),
        ({"action": None}, r"'action' parameter of NaNGuard.*Got None"),
        ({"every": 0}, r"'every' parameter of NaNGuard.*Got 0"),
        ({"every": 1.5}, r"'every' parameter of NaNGuard.*Got 1.5"),
        ({"check_gradients": "yes"}, r"'check_gradients' parameter of NaNGuard.*Got 'yes'"),
    ],
)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    est = make_net(callbacks=[NaNGuard(**params)])
    with pytest.raises(ValueError, match=message):
        est.fit(X, Y)
    assert not hasattr(est, "model_")


# ---------------------------------------------------------------- state and search


def test_the_report_can_be_pickled_and_copied():
    est, report = stopped(module=Layers(Logarithm()))
    for again in (pickle.loads(pickle.dumps(est)), copy.deepcopy(est)):
        assert again.model_.callbacks_.guard == {"report": report}
    assert set(report) == {
        *("found_in", "cause", "module", "module_class"),
        *("epoch", "step", "global_step", "message"),
    }


def test_a_fit_that_was_stopped_can_be_continued():
    est, report = stopped(At("on_batch_begin", 8, spoil_X(NAN)), warm_start=True)
    assert est.n_iter_ == 2
    est.fit(X, Y)
    assert (est.n_iter_, est.model_.stop_reason_) == (5, "completed")
    assert est.model_.callbacks_.guard["report"] == report


def test_a_search_leaves_a_diverged_candidate_out_and_goes_on():
    est = net(optimizer="sgd", module=Layers(n_outputs=1), cls=NeuralNetRegressor)
    search = GridSearchCV(est, {"lr": [1e200, 1e-3]}, cv=2, refit=False)
    scores = pytest.warns(UserWarning, match="test scores are non-finite")
    with scores, pytest.warns(FitFailedWarning, match="NaNGuard: the training loss is nan"):
        search.fit(X, X[:, 0])
    assert search.best_index_ == 1


class RootBetween(nn.Module):
    """Makes a NaN gradient in its own code, between two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, X):
        return self.last(torch.sqrt(self.first(X) * 0))


def test_a_gradient_made_between_layers_is_that_of_the_module_that_holds_them():
    X, y = np.random.default_rng(0).normal(size=(30, 4)).astype("float32"), np.arange(30) % 3
    net = NeuralNetClassifier(RootBetween, callbacks=["nan_guard"], max_epochs=1, random_state=0)
    with pytest.raises(FloatingPointError, match=r"the module \(RootBetween\).*its own code does"):
        net.fit(X, y)
