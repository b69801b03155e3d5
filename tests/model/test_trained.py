"""What a fit leaves behind."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from skorchlike import Callback, NeuralNetClassifier

X, y = load_iris(return_X_y=True)


class Counter(Callback):
    def on_begin(self, ctx):
        self.n = 0

    def on_batch_end(self, ctx):
        self.n += 1

    def state_dict(self):
        return {"n": self.n}

    def load_state_dict(self, state):
        self.n = state["n"]


class Stateless(Callback):
    def on_batch_end(self, ctx):
        pass


def fitted(**params):
    return NeuralNetClassifier(
        max_epochs=3,
        batch_size=50,
        callbacks={"counter": Counter(), "stateless": Stateless()},
        random_state=0,
        **params,
    ).fit(X, y)


def test_the_model_holds_all_that_the_fit_produced():
    model = fitted(validation_fraction=0.2).model_
    assert isinstance(model.module_, torch.nn.Module)
    assert isinstance(model.criterion_, torch.nn.CrossEntropyLoss)
    assert model.optimizer_["param_groups"][0]["lr"] > 0
    assert model.callbacks_["counter"] == {"n": 9}
    assert model.callbacks_.counter is model.callbacks_["counter"]
    assert list(model.callbacks_) == ["counter"]
    assert [record["epoch"] for record in model.history_] == [1, 2, 3]
    assert model.n_epochs_ == 3
    assert model.stop_reason_ == "completed"
    assert model.seed_ == 0


def test_the_module_is_left_in_eval_mode_without_gradients():
    module = fitted().model_.module_
    assert not any(part.training for part in module.modules())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_estimator_shows_the_records_in_scikit_learns_names():
    net = fitted(validation_fraction=0.2)
    assert net.n_iter_ == 3
    assert net.loss_curve_ == net.history_["train_loss"].tolist()
    assert {"epoch", "train_loss", "valid_loss", "valid_accuracy", "lr", "duration"} == set(
        net.history_.columns
    )
    assert (net.history_["duration"] > 0).all()


def test_repr_tells_the_module_the_epochs_and_the_states():
    text = repr(fitted().model_)
    for piece in ("MLP", "n_epochs_=3", "'completed'", "counter"):
        assert piece in text


def test_unfitted_attributes_say_that_fit_is_missing():
    net = NeuralNetClassifier()
    for name in ("history_", "loss_curve_", "n_iter_"):
        assert not hasattr(net, name)
        with pytest.raises(AttributeError, match="not fitted"):
            getattr(net, name)


def test_a_state_is_a_copy_that_later_changes_do_not_reach():
    class Keeps(Callback):
        def on_begin(self, ctx):
            self.values = []

        def on_epoch_end(self, ctx):
            self.values.append(ctx.epoch)

        def on_exit(self, ctx):
            self.values.clear()

        def state_dict(self):
            return {"values": self.values}

        def load_state_dict(self, state):
            self.values = state["values"]

    net = NeuralNetClassifier(max_epochs=2, callbacks=[Keeps()]).fit(X, y)
    assert net.model_.callbacks_.keeps == {"values": [1, 2]}


def test_final_train_loss_is_that_of_the_weights_in_use_for_one_full_batch():
    net = NeuralNetClassifier(max_epochs=1, batch_size=-1, lr=1e-9, random_state=0).fit(X, y)
    logits = net.model_.module_(net.model_.preparation_(torch.from_numpy(X)))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y)).item()
    assert np.isclose(net.loss_curve_[0], loss, rtol=1e-6)
