"""What a callback may tell and ask beyond the stages."""

from numbers import Real

import numpy as np
import pytest
import torch
from doubles import Log
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval
from torch import nn

from skorchlike import (
    Callback,
    CallbackDefinitionError,
    EarlyStopping,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
    StageError,
    check_callback,
    make_callback,
)

X, Y = load_iris(return_X_y=True)
LABELS = np.array(["setosa", "versicolor", "virginica"])[Y]


def fit(*callbacks, cls=NeuralNetClassifier, target=Y, fit_params=None, **params):
    params = {"max_epochs": 2, "batch_size": 40, "random_state": 0, **params}
    params.setdefault("numeric_transform", None)  # ctx.X is then X as given
    net = cls(callbacks=list(callbacks), **params)
    return net.fit(X, target, **(fit_params or {}))


def look(stage, function, **kwargs):
    """Call a function of the context at a stage; return what it returned each time."""
    results = []
    callback = make_callback("look", **{stage: lambda self, ctx: results.append(function(ctx))})()
    fit(callback, **kwargs)
    return results


# --------------------------------------------------------------- constraints


class Constrained(Callback):
    _parameter_constraints = {"alpha": [Interval(Real, 0, 1, closed="both")]}
    log = Log()

    def __init__(self, alpha=0.5):
        self.alpha = alpha

    def on_begin(self, ctx):
        self.log.append("begun")


class Constrained2(Constrained):
    pass


@pytest.mark.parametrize("how", ["constructor", "routed", "fit"])
def test_a_parameter_outside_its_constraints_is_an_error_before_anything_runs(how):
    message = r"'alpha' parameter of Constrained2? must be a float in .* Got 2"
    Constrained.log.clear()
    calls = {
        "constructor": lambda: fit(Constrained(), Constrained2(alpha=2)),
        "routed": lambda: fit(Constrained(), callbacks__constrained__alpha=2),
        "fit": lambda: fit(Constrained(), fit_params={"callbacks": {"b": Constrained(alpha=2)}}),
    }
    with pytest.raises(ValueError, match=message):
        calls[how]()
    assert Constrained.log == []


# ---------------------------------------------------------------------- plan


def test_without_plans_n_updates_counts_every_batch():
    assert look("on_begin", lambda ctx: ctx.n_updates) == [2 * 4]


class Halves(Callback):
    order = 5

    def plan(self, n_epochs, n_updates):
        return n_epochs, -(-n_updates // 2)


class OneEpoch(Callback):
    order = 10

    def plan(self, n_epochs, n_updates):
        return 1, n_updates


def test_plans_lower_n_updates_one_after_another_whatever_the_order_of_reading():
    seen = []
    early = make_callback("early", on_begin=lambda self, ctx: seen.append(ctx.n_updates), order=-50)
    NeuralNetClassifier(
        callbacks={"one": OneEpoch(), "a": Halves(), "b": Halves(), "early": early()},
        max_epochs=7,
        batch_size=10,
    ).fit(X, Y)
    assert seen == [4]  # 15 batches, halved to 8, to 4; one epoch


@pytest.mark.parametrize("planned", [None, 3, (1.5, 2), (1, 2, 3), (-1, 2), (-2, -3)])
def test_a_plan_that_is_none_is_an_error_that_names_the_callback(planned):
    wrong = type("Wrong", (Callback,), {"plan": lambda self, n_epochs, n_updates: planned})
    with pytest.raises(ParameterError, match=r"plan\(\) of the callback 'wrong' .* two integers"):
        fit(wrong())


@pytest.mark.parametrize("name", ["plan", "wrap_call", "advise"])
def test_a_wrong_signature_is_an_error_when_the_class_is_written(name):
    with pytest.raises(
        CallbackDefinitionError, match=rf"Wrong.{name} must be callable as {name}\("
    ):
        type("Wrong", (Callback,), {name: lambda self: None})


WRONG = {
    "wrap_call": ({"wrap_call": lambda self, owner, place, call: None}, "must return a callable"),
    "logs": ({"logs": property(lambda self: "zz")}, "must be a tuple of column names. Got 'zz'"),
    "order": ({"order": property(lambda self: "late")}, "must be a number. Got 'late'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_shows_only_at_run_time_is_an_error_that_names_the_callback(name):
    namespace, message = WRONG[name]
    wrong = type("Wrong", (Callback,), namespace)
    with pytest.raises(ParameterError, match=rf"the callback 'wrong' \(Wrong\) {message}"):
        fit(wrong())


# ----------------------------------------------------------------- wrap_call


class Watching(Callback):
    """Write down every call that the loop makes."""

    order = 1000

    def __init__(self, log):
        self.log = log

    def wrap_call(self, owner, place, call):
        def wrapped(ctx):
            self.log.append((owner, place, ctx.epoch, ctx.step))
            call(ctx)

        return wrapped


class Doing(Callback):
    def __init__(self, log=None):
        self.log = log

    def on_batch_end(self, ctx):
        self.log.append(("doing", "on_batch_end", ctx.epoch, ctx.step))

    def do_step(self, ctx):
        ctx.estimator.do_step(ctx)


def test_a_wrapper_sees_every_call_of_stages_and_actions_in_their_order():
    log, done = Log(), Log()
    net = fit(Watching(log), Doing(done), max_epochs=1, batch_size=75)
    actions = [(owner, place) for owner, place, *_ in log]
    batch = [
        ("estimator", "do_predict"),
        ("estimator", "do_get_loss"),
        ("estimator", "do_backward"),
        ("doing", "do_step"),
        ("doing", "on_batch_end"),
        ("estimator", "do_zero_grad"),
    ]
    assert actions == 2 * batch
    assert [event for event in log if event[1] == "on_batch_end"] == done
    plain = fit(Doing(Log()), max_epochs=1, batch_size=75)
    np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X))


def test_an_error_in_a_wrapped_call_still_names_who_raised_it():
    class Fails(Callback):
        def on_batch_end(self, ctx):
            raise OSError("no space")

    with pytest.raises(OSError, match="no space") as caught:
        fit(Watching(Log()), Fails())
    assert "the callback 'fails' (Fails) in on_batch_end" in caught.value.__notes__[0]


# -------------------------------------------------------------------- decode


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
@pytest.mark.parametrize("target", [Y, LABELS, LABELS == "setosa"], ids=["int", "str", "bool"])
@pytest.mark.parametrize("criterion", ["cross_entropy", "bce_with_logits"])
def test_decoded_outputs_are_what_the_method_returns(method, target, criterion):
    def compare(ctx):
        decoded = ctx.decode(ctx.y_pred, method)
        given = getattr(ctx.fitted_estimator(), method)(ctx.X)
        assert decoded.dtype == given.dtype
        if method == "predict":
            np.testing.assert_array_equal(decoded, given)
        else:
            np.testing.assert_allclose(decoded, given, rtol=1e-9)
        return True

    kwargs = {"target": target, "criterion": criterion, "validation_fraction": 0.2}
    assert all(look("on_batch_valid_end", compare, **kwargs))


def test_decoded_targets_are_the_labels_given():
    def target(ctx):
        return ctx.index.numpy(), ctx.decode_target(ctx.y)

    for index, labels in look("on_batch_end", target, target=LABELS):
        np.testing.assert_array_equal(labels, LABELS[index])


@pytest.mark.parametrize("target", [X[:, 0], X[:, :1], X[:, :2]])
def test_a_regressors_outputs_and_targets_have_the_shape_of_the_target(target):
    def decoded(ctx):
        assert ctx.decode(ctx.y_pred.detach()).shape == (len(ctx.y), *target.shape[1:])
        return ctx.index.numpy(), ctx.decode_target(ctx.y)

    for index, y in look("on_batch_end", decoded, cls=NeuralNetRegressor, target=target):
        np.testing.assert_array_equal(y, target[index])


@pytest.mark.parametrize(
    ("cls", "method", "message"),
    [
        (NeuralNetClassifier, "predict_prob", "Did you mean 'predict_proba'"),
        (NeuralNetRegressor, "predict_proba", "only 'predict'"),
    ],
)
def test_a_method_that_the_estimator_lacks_is_an_error(cls, method, message):
    with pytest.raises(ParameterError, match=message):
        look("on_batch_end", lambda ctx: ctx.decode(ctx.y_pred.detach(), method), cls=cls)


# ---------------------------------------------------------------- loss_weight


def weighted(ctx):
    return float(ctx.loss_weight), ctx.index.numpy()


def test_the_weight_of_a_loss_is_its_number_of_rows():
    assert [w for w, _ in look("on_after_loss", weighted)] == 2 * [40, 40, 40, 30]


def test_the_weight_of_a_loss_is_the_sum_of_sample_weights():
    weights = np.linspace(0.5, 2, 150)
    for weight, index in look("on_after_loss", weighted, fit_params={"sample_weight": weights}):
        assert weight == pytest.approx(weights[index].sum(), rel=1e-6)


@pytest.mark.parametrize("ignored", [-100, 1])
def test_class_weights_and_ignored_labels_count_as_in_torchs_own_mean(ignored):
    of_class = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    criterion = nn.CrossEntropyLoss(weight=of_class, ignore_index=ignored)
    for weight, index in look("on_after_loss", weighted, criterion=criterion):
        y = Y[index]
        assert weight == pytest.approx(of_class.numpy()[y][y != ignored].sum())


def test_losses_that_are_summed_have_weight_one():
    criterion = nn.CrossEntropyLoss(reduction="sum")
    assert {w for w, _ in look("on_after_loss", weighted, criterion=criterion)} == {1.0}


# ----------------------------------------------------- wrap, inputs, skipping


class Wrapper(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.inner = module
        self.n_calls = 0

    def forward(self, X):
        self.n_calls += 1
        return self.inner(X)


def test_a_wrapped_module_is_what_is_called_and_the_model_keeps_the_module():
    wrappers = []

    class Wraps(Callback):
        def on_begin(self, ctx):
            wrappers.append(Wrapper(ctx.module))
            ctx.wrap(module=wrappers[-1])

    net = fit(Wraps(), validation_fraction=0.2)
    assert wrappers[0].n_calls == 2 * (3 + 1)
    assert net.model_.module_ is wrappers[0].inner
    assert not net.model_.module_.training
    plain = fit(validation_fraction=0.2)
    np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X))


def test_a_wrapped_optimizer_is_what_steps():
    class Optimizer:
        def __init__(self, optimizer):
            self.optimizer, self.n_steps = optimizer, 0
            self.param_groups = optimizer.param_groups

        def step(self):
            self.n_steps += 1
            self.optimizer.step()

        def zero_grad(self):
            self.optimizer.zero_grad()

    wrapped = []

    class Wraps(Callback):
        def on_begin(self, ctx):
            wrapped.append(Optimizer(ctx.optimizer))
            ctx.wrap(optimizer=wrapped[-1])

    net = fit(Wraps())
    assert wrapped[0].n_steps == 8
    np.testing.assert_array_equal(net.predict_proba(X), fit().predict_proba(X))


@pytest.mark.parametrize("stage", ["on_epoch_begin", "on_batch_end", "on_end"])
def test_wrapping_later_than_on_begin_is_an_error(stage):
    with pytest.raises(StageError, match=r"ctx.wrap\(...\) works in on_begin"):
        look(stage, lambda ctx: ctx.wrap(module=ctx.module))


def test_the_training_inputs_come_in_the_order_of_the_data_and_draw_nothing():
    def inputs(ctx):
        before = torch.get_rng_state()
        X = torch.cat(list(ctx.train_inputs()))
        assert torch.equal(before, torch.get_rng_state())
        return X.numpy()

    for seen in look("on_epoch_end", inputs):
        np.testing.assert_array_equal(seen, X)
    looking = make_callback("looking", on_epoch_end=lambda self, ctx: inputs(ctx))()
    np.testing.assert_array_equal(fit(looking).predict_proba(X), fit().predict_proba(X))


def test_the_training_inputs_leave_out_what_is_validated_with():
    def inputs(ctx):
        return len(torch.cat(list(ctx.train_inputs())))

    assert look("on_end", inputs, validation_fraction=0.2) == [120]


def test_whether_the_step_was_skipped_can_be_read():
    def skip_odd(ctx):
        if ctx.step % 2:
            ctx.skip_step()

    skipping = make_callback("skipping", on_batch_begin=lambda self, ctx: skip_odd(ctx))()
    seen = []
    reading = make_callback(
        "reading", on_batch_end=lambda self, ctx: seen.append(ctx.step_skipped), order=1
    )()
    fit(skipping, reading, max_epochs=1)
    assert seen == [True, False, True, False]


# ------------------------------------------------------------ not in silence


@pytest.mark.parametrize("criterion", ["cross_entropy", "nll", "multi_margin"])
def test_a_regressor_refuses_criteria_of_labels(criterion):
    with pytest.raises(ParameterError, match="is for labels, and the target of a regressor"):
        fit(cls=NeuralNetRegressor, target=X[:, 0], criterion=criterion)


def test_a_fit_that_ends_in_an_infinite_or_nan_loss_warns():
    with pytest.warns(ConvergenceWarning, match="training loss of epoch 30, the last, is"):
        fit(cls=NeuralNetRegressor, target=Y, optimizer="sgd", lr=1e6, max_epochs=30)


# ------------------------------------------------------- as a newcomer would try


class GradientPerLayer(Callback):
    logs = ("gradient_*",)

    def on_after_step(self, ctx):
        for name, parameter in ctx.module.named_parameters():
            ctx.log(f"gradient_{name}", float(parameter.grad.norm()))


def test_columns_known_only_in_a_fit_are_named_by_a_glob_and_can_be_monitored():
    stop = EarlyStopping("gradient_0.bias", mode="min", patience=100)
    net = fit(GradientPerLayer(), stop)
    assert "gradient_2.weight" in net.history_.columns
    assert (
        net.model_.callbacks_.early_stopping["best_score"] == net.history_["gradient_0.bias"].min()
    )
    check_callback(GradientPerLayer())
    with pytest.raises(ParameterError, match="'gradient', which nothing in this fit records"):
        fit(GradientPerLayer(), EarlyStopping("gradient", mode="min"))


def test_none_in_fits_callbacks_leaves_one_out_for_that_fit():
    net = NeuralNetClassifier(callbacks={"count": OneEpoch(), "halves": Halves()}, max_epochs=1)
    seen = []
    looks = make_callback("looks", on_begin=lambda self, ctx: seen.append(list(ctx.callbacks)))
    net.fit(X, Y, callbacks={"halves": None, "looks": looks()})
    net.fit(X, Y, callbacks={"looks": looks()})
    assert seen == [["looks", "count"], ["looks", "halves", "count"]]
    with pytest.raises(ParameterError, match=r"\{'halvs': None\}.*Did you mean 'halves'"):
        net.fit(X, Y, callbacks={"halvs": None})


def test_a_name_whose_callback_needs_an_argument_says_which():
    with pytest.raises(ParameterError, match=r"needs 'seconds'.*TimeLimit\(seconds=...\)"):
        NeuralNetClassifier(callbacks=["time_limit"]).fit(X, Y)


@pytest.mark.parametrize("weight", [[1.0, 2.0, 5.0], (1, 2, 5), np.array([1.0, 2.0, 5.0])])
def test_weights_of_classes_may_be_a_list(weight):
    tensor = torch.tensor([1.0, 2.0, 5.0])
    nets = [fit(criterion="cross_entropy", criterion__weight=w) for w in (weight, tensor)]
    np.testing.assert_array_equal(*(net.predict_proba(X) for net in nets))


def test_a_misspelt_field_of_the_context_names_the_nearest():
    with pytest.raises(AttributeError, match=r"ctx has no field 'global_steps'.*'global_step'"):
        look("on_begin", lambda ctx: ctx.global_steps)
