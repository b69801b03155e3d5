"""What would train or predict wrongly in silence, and is an error or right instead."""

import gc
import weakref

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn

from skorchlike import (
    Callback,
    CallbackDefinitionError,
    EarlyStopping,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
    StageError,
)

X, Y = load_iris(return_X_y=True)
FAST = {"max_epochs": 2, "random_state": 0}


def classify(module=None, X=X, y=Y, fit=None, **params):
    return NeuralNetClassifier(module, **{**FAST, **params}).fit(X, y, **(fit or {}))


@pytest.mark.parametrize(
    ("X_given", "fit", "params", "name"),
    [
        (X * 1e40, {}, {"module": nn.Linear(4, 3)}, "X"),
        (X * 1e40, {}, {"dtype": "float32", "numeric_transform": None}, "X"),
        (X * 70_000, {}, {"dtype": "float16", "numeric_transform": None}, "X"),
        (X.astype("f4"), {"sample_weight": np.full(150, 1e-50)}, {}, "sample_weight"),
        (X.astype("f4"), {"sample_weight": np.full(150, 1e40)}, {}, "sample_weight"),
        (X, {"sample_weight": np.full(150, 1e308)}, {}, "sample_weight"),
        (X, {"X_val": X * 1e40, "y_val": Y}, {"dtype": "float32"}, "X_val"),
    ],
)
def test_values_that_the_modules_dtype_cannot_hold_are_an_error(X_given, fit, params, name):
    with pytest.raises(ParameterError, match=rf"\b{name}\b.*(too large|too small)"):
        classify(X=X_given, fit=fit, **params)


def test_targets_and_inputs_to_predict_that_the_dtype_cannot_hold_are_an_error():
    with pytest.raises(ParameterError, match=r"^y has values that are too large"):
        NeuralNetRegressor(nn.Linear(4, 1), **FAST).fit(X, Y * 1e40)
    with pytest.raises(ParameterError, match=r"^X has values that are too large"):
        classify(nn.Linear(4, 3)).predict(X * 1e40)


@pytest.mark.parametrize("name", ["mse", "l1", "smooth_l1", "huber", "soft_margin", "poisson_nll"])
@pytest.mark.parametrize("batch_size", [3, -1])
def test_a_criterion_of_numbers_is_refused_for_labels_at_any_batch_size(name, batch_size):
    with pytest.raises(ParameterError, match=r"`criterion` .*cross_entropy"):
        classify(criterion=name, batch_size=batch_size, predict_nonlinearity="softmax")


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 150)])
@pytest.mark.parametrize("batch_size", [3, 50])
def test_soft_targets_of_a_callback_train_as_by_hand(weights, batch_size):
    class Soften(Callback):
        def on_batch_begin(self, ctx):
            ctx.y = 0.9 * nn.functional.one_hot(ctx.y, 3) + 0.1 / 3

        def on_before_backward(self, ctx):
            losses = -(ctx.y_pred.log_softmax(1) * ctx.y).sum(1)
            w = torch.ones(len(losses)) if ctx.sample_weight is None else ctx.sample_weight
            torch.testing.assert_close(ctx.loss, (losses * w).sum() / w.sum(), check_dtype=False)

    classify(callbacks=[Soften()], fit={"sample_weight": weights}, batch_size=batch_size)


def test_soft_targets_of_a_callback_work_with_one_number_a_class():
    class Soften(Callback):
        def on_batch_begin(self, ctx):
            ctx.y = 0.9 * nn.functional.one_hot(ctx.y, 3).double() + 0.05

    net = classify(callbacks=[Soften()], criterion="bce_with_logits", max_epochs=30, lr=0.01)
    assert net.score(X, Y) > 0.9


def test_probabilities_of_one_number_a_class_hold_where_all_are_tiny():
    net = classify(criterion="bce_with_logits")
    with torch.no_grad():
        net.model_.module_[-1].bias.fill_(-1e4)
    probabilities = net.predict_proba(X)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == net.predict(X)).all()


class Shaped(nn.Module):
    """Returns in eval mode whatever `form` makes of its output."""

    def __init__(self, form, n_outputs=3):
        super().__init__()
        self.linear = nn.Linear(4, n_outputs)
        self.form = form

    def forward(self, X):
        output = self.linear(X)
        return output if self.training else self.form(output)


@pytest.mark.parametrize("form", [lambda o: o[:-1], lambda o: o.repeat(2, 1)])
def test_predictions_of_another_number_of_rows_are_an_error(form):
    with pytest.raises(ParameterError, match=r"rows for 150 rows of X"):
        classify(Shaped(form)).predict(X)


def test_an_output_that_lies_on_its_side_is_an_error():
    class Side(nn.Linear):
        def forward(self, X):
            return super().forward(X).T

    with pytest.raises(ParameterError, match=r"`module` returned a tensor of shape \(1, 100\)"):
        classify(Side(4, 1), X=X[:100], y=Y[:100], criterion="bce_with_logits")


def test_early_stopping_gives_back_the_criterions_weights_too():
    class Tempered(nn.Module):
        def __init__(self):
            super().__init__()
            self.log_t = nn.Parameter(torch.zeros(()))

        def forward(self, y_pred, y):
            return nn.functional.cross_entropy(y_pred / self.log_t.exp(), y)

    class Follow(Callback):
        logs = ("score",)

        def on_begin(self, ctx):
            self.seen = []

        def on_epoch_end(self, ctx):
            self.seen.append(ctx.criterion.log_t.item())
            ctx.log("score", [1, 3, 2, 0][ctx.epoch - 1])

        def state_dict(self):
            return self.seen

        def load_state_dict(self, state):
            self.seen = state

    stop = EarlyStopping(monitor="score", patience=9)
    net = classify(criterion=Tempered, lr=0.1, max_epochs=4, callbacks=[Follow(), stop])
    assert net.model_.criterion_.log_t.item() == net.model_.callbacks_.follow[1]
    assert len(set(net.model_.callbacks_.follow)) == 4


class Two(nn.Module):
    """Mean and log-variance, or a dictionary of outputs."""

    def __init__(self, as_dict):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.as_dict = as_dict

    def forward(self, X):
        output = self.linear(X)
        return {"both": output} if self.as_dict else output


class Gaussian(Callback):
    def do_get_loss(self, ctx):
        both = ctx.y_pred["both"] if isinstance(ctx.y_pred, dict) else ctx.y_pred
        mean, log_variance = both.T
        ctx.loss = nn.functional.gaussian_nll_loss(mean, ctx.y[:, 0], log_variance.exp())


@pytest.mark.parametrize("as_dict", [False, True])
def test_validation_works_with_outputs_that_the_score_cannot_be_told_of(as_dict):
    net = NeuralNetRegressor(
        Two(as_dict), callbacks=[Gaussian()], validation_fraction=0.3, dtype="float64", **FAST
    )
    with pytest.warns(UserWarning, match="valid_r2 is left out"):
        net.fit(X, Y.astype(float))
    assert "valid_loss" in net.history_
    assert "valid_r2" not in net.history_


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: classify(nn.Linear(4, 3).requires_grad_(False)), "parameters.*frozen"),
        (lambda: classify(optimizer="lbfgs"), "LBFGS needs a closure.*do_step"),
        (lambda: classify(optimizer=None), "`optimizer` parameter.*Got None"),
        (lambda: classify(optimizer=torch.optim.Optimizer), "`optimizer` parameter"),
        (lambda: classify(dtype=None), "`dtype` parameter.*Got None"),
        (lambda: classify(y=np.array(["a", 1, 2.5] * 50, dtype=object)), "^y has labels of"),
        (lambda: classify(callbacks=["passthrough"]), "no registered callback.*passthrough"),
        (
            lambda: classify(fit={"X_val": X, "y_val": Y + 7}),
            "^y_val has labels.*Leave out such rows",
        ),
    ],
)
def test_errors_say_what_to_do(build, message):
    with pytest.raises(ParameterError, match=message):
        build()


@pytest.mark.parametrize("name", ["train_loss", "valid_loss", "lr", "duration"])
def test_a_callback_cannot_overwrite_the_loops_own_columns(name):
    class Logs(Callback):
        def on_epoch_end(self, ctx):
            ctx.log(name, 1.0)

    with pytest.raises(ParameterError, match="loop's own"):
        classify(callbacks=[Logs()])


def test_a_list_cannot_be_logged():
    class Logs(Callback):
        def on_epoch_end(self, ctx):
            ctx.log("mine", [1, 2])

    with pytest.raises(ParameterError, match=r"'mine'.*Got a list"):
        classify(callbacks=[Logs()])


def test_stages_that_would_never_run_are_refused():
    def generator(self, ctx):
        yield

    async def coroutine(self, ctx):
        pass

    for function in (generator, coroutine):
        with pytest.raises(CallbackDefinitionError, match="would never run"):
            type("Never", (Callback,), {"on_begin": function})


@pytest.mark.parametrize(
    "attributes", [{"order": "late"}, {"order": float("nan")}, {"logs": "score"}]
)
def test_impossible_attributes_of_a_callback_are_refused(attributes):
    with pytest.raises(CallbackDefinitionError, match=next(iter(attributes))):
        type("Bad", (Callback,), attributes)


def test_a_cancel_in_state_dict_is_an_error():
    from skorchlike import CancelFitException

    class Cancels(Callback):
        def state_dict(self):
            raise CancelFitException

        def load_state_dict(self, state):
            pass

    with pytest.raises(StageError, match="state_dict"):
        classify(callbacks=[Cancels()])


def test_verbose_prints_beside_a_callback_that_has_the_name(capsys):
    class Quiet(Callback):
        pass

    classify(callbacks={"print_log": Quiet()}, verbose=1)
    assert "train_loss" in capsys.readouterr().out


def test_a_callback_that_came_after_the_fit_and_acts_in_predict_is_an_error():
    class Shift(Callback):
        def on_end(self, ctx):
            self.shift = 1.0

        def on_batch_predict_end(self, ctx):
            ctx.y_pred = ctx.y_pred + self.shift

        def state_dict(self):
            return self.shift

        def load_state_dict(self, state):
            self.shift = state

    net = classify().set_params(callbacks=[Shift()])
    with pytest.raises(ParameterError, match=r"'shift'.*Fit again, or drop it"):
        net.predict(X)
    net.fit(X, Y).predict(X)


def test_a_view_in_on_begin_needs_no_state_of_later_callbacks():
    class First(Callback):
        def on_begin(self, ctx):
            ctx.fitted_estimator().predict(X)

    class Later(Callback):
        def on_begin(self, ctx):
            self.value = 1

        def state_dict(self):
            return self.value

        def load_state_dict(self, state):
            self.value = state

    assert classify(callbacks=[First(), Later()]).model_.callbacks_.later == 1


def test_a_callback_in_predict_cannot_change_the_history():
    class Clears(Callback):
        def on_predict_begin(self, ctx):
            ctx.history.clear()

    net = classify(callbacks=[Clears()])
    net.predict(X)
    assert len(net.history_) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_tensors_are_taken_as_targets_and_weights(dtype):
    net = NeuralNetRegressor(**FAST).fit(
        X, torch.arange(150).to(dtype) / 150, torch.ones(150, dtype=dtype)
    )
    assert np.isfinite(net.predict(X)).all()


def test_arrays_of_the_other_byte_order_are_taken():
    swapped = X.astype(X.dtype.newbyteorder())
    torch.manual_seed(0)
    module = nn.Linear(4, 3)
    own, plain = classify(module, X=swapped), classify(module)
    assert np.array_equal(own.predict_proba(swapped), plain.predict_proba(X))


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
def test_a_failed_fit_is_freed_at_once_without_the_garbage_collector(kind):
    alive = []

    class Fails(Callback):
        def on_batch_end(self, ctx):
            alive.append(weakref.ref(ctx.module))
            raise kind

    gc.disable()
    try:
        net = NeuralNetClassifier(callbacks=[Fails()], **FAST)
        with pytest.raises(kind):
            net.fit(X, Y)
        del net
        assert alive[0]() is None
    finally:
        gc.enable()
