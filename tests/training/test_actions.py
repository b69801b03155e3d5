"""The five actions: replaced by a callback or a subclass, wrapped, provided once."""

from __future__ import annotations

import pytest
import torch
from doubles import Linear, Log, make_data, make_net, same_weights, weights_of

from skorchlike import Callback, NeuralNetClassifier, NeuralNetRegressor, ParameterError
from skorchlike.training.actions import DefaultActions
from skorchlike.training.stages import ACTIONS, PROVIDERS

DEFAULTS = {
    "predict": "ctx.y_pred = ctx.module(ctx.X)",
    "get_loss": "ctx.loss = ctx.criterion(ctx.y_pred, ctx.y)",
    "backward": "ctx.loss.backward()",
    "step": "ctx.optimizer.step()",
    "zero_grad": "ctx.optimizer.zero_grad()",
}


def provider(action, calls):
    """Return a method that does by hand what the action does, and counts."""

    def do(self, ctx):
        calls.append(action)
        exec(DEFAULTS[action], {"ctx": ctx})
        return "ignored"

    return do


def fit_plain():
    X, y = make_data()
    return weights_of(make_net().fit(X, y, X_val=X, y_val=y).model_.module_)


def n_calls(action):
    """Return how often an action runs in 3 epochs of 2 training and 4 validation batches."""
    return 18 if action in ("predict", "get_loss") else 6


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_is_replaced_by_a_callback(action):
    calls, X, y = Log(), *make_data()
    callback = type("Does", (Callback,), {f"do_{action}": provider(action, calls)})()
    net = make_net(callbacks=[callback]).fit(X, y, X_val=X, y_val=y)
    assert calls == [action] * n_calls(action)
    assert same_weights(weights_of(net.model_.module_), fit_plain())


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_is_replaced_by_a_subclass_of_the_estimator(action):
    calls, X, y = Log(), *make_data()
    cls = type("Net", (NeuralNetClassifier,), {f"do_{action}": provider(action, calls)})
    net = cls(**make_net().get_params(deep=False)).fit(X, y, X_val=X, y_val=y)
    assert calls == [action] * n_calls(action)
    assert same_weights(weights_of(net.model_.module_), fit_plain())


@pytest.mark.parametrize("action", ACTIONS)
def test_a_callbacks_action_replaces_that_of_the_estimators_subclass(action):
    of_net, of_callback = Log(), Log()
    method = f"do_{action}"
    cls = type("Net", (NeuralNetClassifier,), {method: provider(action, of_net)})
    callback = type("Does", (Callback,), {method: provider(action, of_callback)})()
    cls(Linear, max_epochs=1, callbacks=[callback]).fit(*make_data())
    assert of_net == []
    assert of_callback == [action]


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_is_wrapped_by_calling_the_estimators(action):
    calls = Log()

    def wrap(self, ctx):
        calls.append("before")
        getattr(ctx.estimator, f"do_{action}")(ctx)
        calls.append("after")

    X, y = make_data()
    callback = type("Wraps", (Callback,), {f"do_{action}": wrap})()
    net = make_net(callbacks=[callback]).fit(X, y, X_val=X, y_val=y)
    assert calls == ["before", "after"] * n_calls(action)
    assert same_weights(weights_of(net.model_.module_), fit_plain())


@pytest.mark.parametrize("base", [NeuralNetClassifier, NeuralNetRegressor])
def test_a_subclass_wraps_an_action_by_super(base):
    class Net(base):
        def do_step(self, ctx):
            steps.append(ctx.global_step)
            super().do_step(ctx)

    steps = []
    Net(max_epochs=2, batch_size=4).fit(*make_data())
    assert steps == [1, 2, 3, 4]


def test_the_base_estimators_define_all_five_actions():
    for cls in (NeuralNetClassifier, NeuralNetRegressor):
        assert issubclass(cls, DefaultActions)
        assert all(callable(getattr(cls, name)) for name in PROVIDERS)


@pytest.mark.parametrize("action", ACTIONS)
def test_two_callbacks_with_one_action_are_an_error_before_training(action):
    started = Log()
    body = {
        f"do_{action}": lambda self, ctx: None,
        "on_begin": lambda self, ctx: started.append(1),
    }
    one, other = type("One", (Callback,), dict(body)), type("Other", (Callback,), dict(body))
    net = make_net(callbacks={"first": one(), "second": other()})
    with pytest.raises(ParameterError, match=f"'first' and 'second' both.*{action}"):
        net.fit(*make_data())
    assert not started


def test_a_dropped_callback_provides_nothing():
    calls = Log()
    cls = type("Does", (Callback,), {"do_step": provider("step", calls)})
    net = make_net(callbacks={"first": cls(), "second": cls()}, callbacks__first=None)
    net.fit(*make_data())
    assert len(calls) == 6


def test_one_callback_may_provide_all_five():
    calls = Log()
    body = {f"do_{action}": provider(action, calls) for action in ACTIONS}
    net = make_net(callbacks=[type("Train", (Callback,), body)()], max_epochs=1)
    net.fit(*make_data())
    assert calls == [*ACTIONS] * 2


def test_an_action_that_does_nothing_leaves_its_part_out():
    grads = []

    class Keep(Callback):
        def do_zero_grad(self, ctx):
            pass

        def on_before_step(self, ctx):
            grads.append(ctx.module.weight.grad.clone())

    class NoStep(Keep):
        def do_step(self, ctx):
            pass

    X, y = make_data()
    start = []
    NoStep.on_begin = lambda self, ctx: start.append(weights_of(ctx.module))
    net = make_net(callbacks=[NoStep()], batch_size=-1).fit(X, y)
    assert same_weights(weights_of(net.model_.module_), start[0])
    # the same gradient is added three times
    torch.testing.assert_close(grads[2], 3 * grads[0], rtol=1e-12, atol=0)


def test_do_predict_acts_in_training_validation_and_predict():
    class Constant(Callback):
        def do_predict(self, ctx):
            ctx.y_pred = ctx.module(ctx.X) * 0 + torch.tensor([0.0, 5.0])

    X, y = make_data()
    net = make_net(callbacks=[Constant()], max_epochs=1).fit(X, y, X_val=X, y_val=y)
    assert net.predict(X).tolist() == [1] * 8
    assert net.history_["valid_accuracy"].tolist() == [0.5]
    expected = torch.nn.functional.cross_entropy(
        torch.tensor([[0.0, 5.0]] * 2), torch.tensor([0, 1])
    )
    assert net.loss_curve_ == pytest.approx([expected.item()], rel=1e-6)


def test_do_predict_of_an_estimators_subclass_acts_in_predict():
    class Net(NeuralNetRegressor):
        def do_predict(self, ctx):
            super().do_predict(ctx)
            ctx.y_pred = ctx.y_pred * 0 + 3.0

    X, y = make_data()
    net = Net(max_epochs=1, target_transform=None).fit(X, y)
    assert net.predict(X).tolist() == [3.0] * 8


def test_do_predict_of_a_callback_given_to_fit_does_not_act_in_predict():
    class Constant(Callback):
        def do_predict(self, ctx):
            ctx.y_pred = ctx.module(ctx.X) * 0

    X, y = make_data()
    net = make_net(max_epochs=1).fit(X, y, callbacks=[Constant()])
    assert net.decision_function(X).any()


def test_a_helper_named_like_an_action_is_no_provider():
    class Helps(Callback):
        def step(self):
            raise AssertionError("a helper was called by the loop")

        def predict(self, X):
            raise AssertionError("a helper was called by the loop")

    assert make_net(callbacks=[Helps()]).fit(*make_data()).n_iter_ == 3


def test_a_replaced_get_loss_may_use_a_module_of_several_outputs():
    class Two(torch.nn.Module):
        def __init__(self, n_features_in, n_outputs):
            super().__init__()
            self.main = Linear(n_features_in, n_outputs)
            self.side = Linear(n_features_in, 1)

        def forward(self, X):
            return self.main(X), self.side(X)

    class Loss(Callback):
        def do_get_loss(self, ctx):
            logits, side = ctx.y_pred
            ctx.loss = ctx.criterion(logits, ctx.y) + side.square().mean()

    X, y = make_data()
    net = make_net(module=Two, callbacks=[Loss()]).fit(X, y)
    assert net.loss_curve_[-1] < net.loss_curve_[0]
    assert net.predict_proba(X).shape == (8, 2)
    with pytest.raises(ParameterError, match=r"returned a tuple.*do_get_loss"):
        make_net(module=Two).fit(X, y)


def test_a_module_of_several_outputs_validates_with_a_score_too():
    class Two(Linear):
        def forward(self, X):
            return super().forward(X), X

    class Loss(Callback):
        def do_get_loss(self, ctx):
            ctx.loss = ctx.criterion(ctx.y_pred[0], ctx.y)

    X, y = make_data()
    net = make_net(module=Two, callbacks=[Loss()]).fit(X, y, X_val=X, y_val=y)
    accuracy = (net.predict(X) == y).mean()
    assert net.history_["valid_accuracy"].iloc[-1] == pytest.approx(accuracy)


def test_images_with_the_channels_last_are_named():
    images, labels = torch.zeros(4, 6, 6, 3), [0, 1, 0, 1]
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 6), torch.nn.Flatten())
    with pytest.raises(RuntimeError, match="channels") as raised:
        NeuralNetClassifier(module, max_epochs=1).fit(images, labels)
    note = "\n".join(raised.value.__notes__)
    assert "shape (4, 6, 6, 3)" in note
    assert "transpose(0, 3, 1, 2)" in note
    right = torch.from_numpy(images.numpy().transpose(0, 3, 1, 2).copy())
    NeuralNetClassifier(module, max_epochs=1).fit(right, labels)
