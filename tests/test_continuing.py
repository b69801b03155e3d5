"""A fit goes on: partial_fit and warm_start."""

import copy

import numpy as np
import pytest
import torch
from doubles import StatefulRecorder
from sklearn.datasets import load_digits
from torch import nn

from skorchlike import (
    Callback,
    CancelFitException,
    EarlyStopping,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
)

X, Y = load_digits(return_X_y=True)
X, Y = X[:300] / 16, Y[:300]


class Noisy(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.body = nn.Linear(n_features_in, 16)
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(16, n_outputs)

    def forward(self, X):
        return self.head(self.drop(self.norm(self.body(X)).relu()))


class WithScale(nn.Module):
    """A criterion with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, y_pred, y):
        loss = nn.functional.cross_entropy(y_pred, y)
        return loss / self.log_scale.exp() + self.log_scale


class Memory(Callback):
    """Resets its state in on_begin, as callbacks do, and notes what it sees of the past."""

    def on_begin(self, ctx):
        self.began_at = ctx.epoch, ctx.global_step, len(ctx.history)
        self.totals = ctx.max_epochs, ctx.n_updates
        self.epochs, self.steps = [], 0

    def on_epoch_begin(self, ctx):
        self.at_first_epoch = list(self.epochs)

    def on_batch_end(self, ctx):
        self.steps += 1
        self.global_step = ctx.global_step

    def on_epoch_end(self, ctx):
        self.epochs.append(ctx.epoch)

    def state_dict(self):
        return {
            "epochs": self.epochs,
            "steps": self.steps,
            "global_step": self.global_step,
            "began_at": self.began_at,
            "totals": self.totals,
        }

    def load_state_dict(self, state):
        self.epochs, self.steps = state["epochs"], state["steps"]


class Halve(Callback):
    """A schedule: halves the learning rate after each epoch."""

    def on_epoch_end(self, ctx):
        for group in ctx.optimizer.param_groups:
            group["lr"] /= 2


class FailsInEpoch(Callback):
    def __init__(self, epoch, stage="on_epoch_end"):
        self.epoch = epoch
        self.stage = stage

    def on_batch_end(self, ctx):
        self._maybe("on_batch_end", ctx)

    def on_epoch_end(self, ctx):
        self._maybe("on_epoch_end", ctx)

    def on_exit(self, ctx):
        self._maybe("on_exit", ctx)

    def _maybe(self, stage, ctx):
        if ctx.epoch == self.epoch and stage == self.stage:
            raise RuntimeError("on purpose")


def net(cls=NeuralNetClassifier, **params):
    said = {"module": Noisy, "max_epochs": 4, "batch_size": 32, "random_state": 0}
    return cls(**{**said, **params})


def bits(est):
    model = est.model_
    tensors = {
        **model.module_.state_dict(),
        **model.criterion_.state_dict(),
        **{
            f"{i}.{name}": value
            for i, state in model.optimizer_["state"].items()
            for name, value in state.items()
            if isinstance(value, torch.Tensor)
        },
    }
    return {name: value.numpy().tobytes() for name, value in tensors.items()}


def records(est):
    return est.history_.drop(columns="duration").to_dict("list")


SETTINGS = {
    "dropout-norm-shuffle": {},
    "defaults": {"module": None, "batch_size": "auto"},
    "no-shuffle": {"shuffle": False},
    "split": {"validation_fraction": 0.2},
    "drop-last": {"drop_last": True},
    "sgd-momentum": {"optimizer": "sgd", "optimizer__momentum": 0.9},
    "lbfgs-like-state": {"optimizer": "adagrad"},
    "param-groups": {"optimizer__param_groups": {"head.*": {"lr": 0.001}}},
    "trained-criterion": {"criterion": WithScale, "predict_nonlinearity": "softmax"},
    "schedule": {"callbacks": [Halve()]},
    "early-stopping": {"callbacks": [EarlyStopping("train_loss", restore_best=False)]},
    "module-instance": {"module": Noisy(64, 10)},
    "lazy": {"module": lambda: nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(10))},
}
settings = pytest.mark.parametrize("params", SETTINGS.values(), ids=SETTINGS.keys())


@settings
def test_partial_fit_k_times_is_a_fit_of_k_epochs_to_the_bit(params):
    whole = net(**params).fit(X, Y)
    parts = net(**params)
    for _ in range(4):
        assert parts.partial_fit(X, Y) is parts
    assert bits(parts) == bits(whole)
    assert records(parts) == records(whole)
    assert parts.n_iter_ == 4
    assert np.array_equal(parts.predict_proba(X), whole.predict_proba(X))


@settings
def test_warm_start_two_and_two_epochs_are_four_to_the_bit(params):
    whole = net(**params).fit(X, Y)
    warm = net(**params, warm_start=True).set_params(max_epochs=2)
    warm.fit(X, Y).fit(X, Y)
    assert bits(warm) == bits(whole)
    assert records(warm) == records(whole)
    assert warm.n_iter_ == 4


def test_regressor_continues_to_the_bit_too():
    whole = net(NeuralNetRegressor).fit(X, Y)
    parts = net(NeuralNetRegressor)
    for _ in range(4):
        parts.partial_fit(X, Y)
    assert bits(parts) == bits(whole)


def test_partial_fit_goes_on_after_fit():
    whole = net(max_epochs=5).fit(X, Y)
    assert bits(net().fit(X, Y).partial_fit(X, Y)) == bits(whole)


def test_continuing_a_copy_goes_on_as_the_original_does():
    est = net().fit(X, Y)
    twin = copy.deepcopy(est)
    assert bits(twin.partial_fit(X, Y)) == bits(est.partial_fit(X, Y))


def test_no_random_state_continues_with_its_seed():
    est = net(random_state=None, warm_start=True).fit(X, Y)
    seed = est.model_.seed_
    whole = net(random_state=seed, max_epochs=8).fit(X, Y)
    assert bits(est.fit(X, Y)) == bits(whole)
    assert est.model_.seed_ == seed


def test_fit_without_warm_start_begins_anew():
    est = net().fit(X, Y)
    first = bits(est)
    est.partial_fit(X, Y)
    assert bits(est.fit(X, Y)) == first
    assert est.n_iter_ == 4


# -------------------------------------------------------------------- history, counters


def test_history_and_counters_continue():
    est = net(callbacks=[Memory()], warm_start=True, max_epochs=2)
    est.fit(X, Y)
    state = est.model_.callbacks_.memory
    assert state["began_at"] == (0, 0, 0)
    assert state["totals"] == (2, 20)
    est.fit(X, Y).partial_fit(X, Y)
    state = est.model_.callbacks_.memory
    assert state["began_at"] == (4, 40, 4)
    assert state["totals"] == (5, 10)
    assert state["global_step"] == 50
    assert est.history_["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert est.n_iter_ == est.model_.n_epochs_ == len(est.loss_curve_) == 5


def test_callback_state_comes_back_after_its_own_on_begin():
    est = net(callbacks=[Memory()], warm_start=True, max_epochs=2)
    est.fit(X, Y).fit(X, Y)
    state = est.model_.callbacks_.memory
    assert state["epochs"] == [1, 2, 3, 4]
    assert state["steps"] == 40


def test_callback_state_kept_on_the_model_is_not_changed_by_going_on():
    est = net(callbacks=[Memory()]).fit(X, Y)
    model = est.model_
    before = copy.deepcopy(dict(model.callbacks_))
    est.partial_fit(X, Y)
    assert dict(model.callbacks_) == before


def test_former_model_is_not_changed_by_going_on():
    est = net().fit(X, Y)
    former, before, history = est.model_, bits(est), copy.deepcopy(est.model_.history_)
    est.partial_fit(X, Y)
    assert est.model_ is not former
    kept = copy.copy(est)
    kept.model_ = former
    assert bits(kept) == before
    assert former.history_ == history
    assert former.n_epochs_ == 4


def test_callback_that_is_new_in_the_continued_fit_starts_afresh():
    est = net(warm_start=True, max_epochs=2).fit(X, Y)
    est.set_params(callbacks=[Memory()]).fit(X, Y)
    assert est.model_.callbacks_.memory["epochs"] == [3, 4]


def test_callback_of_another_class_by_the_same_name_starts_afresh_with_a_warning():
    class Other(Memory):
        pass

    est = net(warm_start=True, max_epochs=2, callbacks={"memory": Memory()}).fit(X, Y)
    est.set_params(callbacks={"memory": Other()})
    with pytest.warns(UserWarning, match="'memory'.*Other.*Memory.*afresh"):
        est.fit(X, Y)
    assert est.model_.callbacks_.memory["epochs"] == [3, 4]


def test_callback_parameter_said_later_applies():
    est = net(
        callbacks={"stop": EarlyStopping("train_loss", patience=50)}, warm_start=True, max_epochs=2
    ).fit(X, Y)
    est.set_params(callbacks__stop__min_delta=1e9, callbacks__stop__patience=1, max_epochs=9)
    assert est.fit(X, Y).n_iter_ == 3
    assert est.model_.stop_reason_ == "early_stopping"


# ----------------------------------------------------------- what is said otherwise


def rates(est):
    return [group["lr"] for group in est.model_.optimizer_["param_groups"]]


@pytest.mark.parametrize("name", ["lr", "optimizer__lr"])
def test_changed_learning_rate_applies(name):
    est = net(**{name: 0.01}).fit(X, Y)
    before = bits(est)
    est.set_params(**{name: 1e-30}).partial_fit(X, Y)
    assert rates(est) == [1e-30]
    trained = bits(est)
    assert all(trained[key] == before[key] for key in before if key.endswith("weight"))


def test_unchanged_learning_rate_stays_where_a_schedule_left_it():
    est = net(callbacks=[Halve()], lr=0.08, warm_start=True, max_epochs=2).fit(X, Y)
    assert rates(est) == [0.02]
    assert rates(est.fit(X, Y)) == [0.005]


def test_changed_learning_rate_leaves_groups_with_their_own():
    groups = {"head.*": {"lr": 0.001}}
    est = net(lr=0.01, optimizer__param_groups=groups).fit(X, Y)
    est.set_params(lr=0.02).partial_fit(X, Y)
    assert rates(est) == [0.001, 0.02]


def test_other_changed_optimizer_options_apply():
    est = net(optimizer="sgd", optimizer__momentum=0.9).fit(X, Y)
    est.set_params(optimizer__momentum=0.5, optimizer__weight_decay=0.1).partial_fit(X, Y)
    group = est.model_.optimizer_["param_groups"][0]
    assert (group["momentum"], group["weight_decay"]) == (0.5, 0.1)


def test_option_no_longer_said_goes_back_to_its_default():
    est = net(optimizer="sgd", optimizer__momentum=0.9).fit(X, Y)
    est.set_params(optimizer="sgd").partial_fit(X, Y)
    assert est.model_.optimizer_["param_groups"][0]["momentum"] == 0


def test_other_optimizer_starts_afresh_with_a_warning():
    est = net().fit(X, Y)
    before = bits(est)
    est.set_params(optimizer="sgd", optimizer__lr=1e-30)
    with pytest.warns(UserWarning, match="optimizer.*SGD.*AdamW.*afresh"):
        est.partial_fit(X, Y)
    assert bits(est)["head.weight"] == before["head.weight"], "the weights went on"


CHANGED = {
    "class": {"module": lambda: nn.Linear(64, 10)},
    "sizes": {"module": None},
}


@pytest.mark.parametrize("changed", CHANGED.values(), ids=CHANGED.keys())
@pytest.mark.parametrize("how", ["warm_start", "partial_fit"])
def test_changed_module_is_an_error_and_leaves_the_model(changed, how):
    est = net(warm_start=True).fit(X, Y)
    before = bits(est)
    est.set_params(**changed)
    with pytest.raises(ParameterError, match=r"(?s)`module`.*warm_start=False"):
        est.fit(X, Y) if how == "warm_start" else est.partial_fit(X, Y)
    assert bits(est) == before
    est.set_params(module=Noisy)
    assert est.partial_fit(X, Y).n_iter_ == 5


def test_changed_hidden_sizes_are_an_error():
    est = net(module="mlp", warm_start=True).fit(X, Y)
    est.set_params(module__hidden_layer_sizes=(7,))
    with pytest.raises(ParameterError, match="`module`"):
        est.fit(X, Y)


def test_other_data_may_follow():
    est = net().fit(X, Y)
    est.partial_fit(X[:100], Y[:100])
    assert est.n_iter_ == 5
    assert est.classes_.tolist() == list(range(10))


def test_data_without_some_classes_may_follow():
    est = net().fit(X, Y)
    few = Y < 3
    assert est.partial_fit(X[few], Y[few]).predict_proba(X).shape == (300, 10)


def test_classes_named_in_the_first_call_may_come_later():
    few = Y < 3
    est = net(module=None)
    est.partial_fit(X[few], Y[few], classes=np.arange(10))
    assert est.predict_proba(X).shape == (300, 10)
    est.partial_fit(X, Y).partial_fit(X, Y, classes=list(range(10)))
    assert est.n_iter_ == 3


# --------------------------------------------------------------------------- failures


@pytest.mark.parametrize("stage", ["on_batch_end", "on_epoch_end", "on_exit"])
@pytest.mark.parametrize("how", ["warm_start", "partial_fit"])
def test_failed_continuation_leaves_the_estimator_as_it_was(stage, how):
    est = net(callbacks=[Memory()], warm_start=True).fit(X, Y)
    attributes, model, before = dict(vars(est)), est.model_, bits(est)
    history, states = copy.deepcopy(model.history_), copy.deepcopy(dict(model.callbacks_))
    if how == "warm_start":
        callbacks = [FailsInEpoch(8 if stage == "on_exit" else 6, stage)]
        fails = lambda: est.fit(X, Y, callbacks=callbacks)  # noqa: E731
    else:
        fails = lambda: est.partial_fit(X, Y, callbacks=[FailsInEpoch(5, stage)])  # noqa: E731
    with pytest.raises(RuntimeError, match="on purpose"):
        fails()
    assert vars(est) == attributes
    assert est.model_ is model
    assert bits(est) == before
    assert (model.history_, dict(model.callbacks_)) == (history, states)

    expected = net(callbacks=[Memory()]).fit(X, Y).partial_fit(X, Y)
    assert bits(est.partial_fit(X, Y)) == bits(expected), "it goes on as if nothing had been"


def test_interrupted_fit_can_go_on():
    class Interrupts(Callback):
        def on_epoch_end(self, ctx):
            if ctx.epoch == 2:
                raise KeyboardInterrupt

    est = net(warm_start=True, callbacks=[Memory()])
    with pytest.raises(KeyboardInterrupt):
        est.fit(X, Y, callbacks=[Interrupts()])
    assert est.model_.stop_reason_ == "interrupted"
    assert est.n_iter_ == 2
    est.set_params(max_epochs=2).fit(X, Y)
    assert bits(est) == bits(net().fit(X, Y))
    assert est.model_.stop_reason_ == "completed"


def weights_of_classes(first):
    return torch.tensor([first, *[1.0] * 9], dtype=torch.float64)


def test_new_class_weights_act_in_the_fit_that_goes_on():
    params = {"max_epochs": 2, "random_state": 0, "warm_start": True, "batch_size": -1}
    params["numeric_transform"] = None
    net = NeuralNetClassifier(criterion__weight=weights_of_classes(1.0), **params).fit(X, Y)
    before = copy.deepcopy(net.model_.module_)
    net.set_params(criterion__weight=weights_of_classes(50.0), max_epochs=1).fit(X, Y)
    assert net.model_.criterion_.weight[0] == 50.0
    logits = before(torch.from_numpy(X))
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(Y), weight=weights_of_classes(50.0))
    assert net.loss_curve_[-1] == pytest.approx(loss.item(), rel=1e-9)
    net.set_params(criterion__weight=None).fit(X, Y)
    assert net.model_.criterion_.weight is None


@pytest.mark.parametrize(
    "change",
    [
        {"module__dropout": 0.9},
        {"module__activation": "tanh"},
        {"module": nn.Linear(64, 10, dtype=torch.float64)},
    ],
)
def test_changed_arguments_of_the_module_are_an_error_also_where_the_shapes_agree(change):
    net = NeuralNetClassifier(max_epochs=1, warm_start=True, random_state=0).fit(X, Y)
    model = net.model_
    with pytest.raises(ParameterError, match=r"`module.* has changed.*warm_start=False"):
        net.set_params(**change).fit(X, Y)
    assert net.model_ is model


def test_lazy_layers_that_have_buffers_alone_can_go_on():
    class Lazy(nn.Module):
        def __init__(self, n_features_in, n_outputs):
            super().__init__()
            self.norm = nn.LazyBatchNorm1d(affine=False)
            self.head = nn.Linear(n_features_in, n_outputs)

        def forward(self, X):
            return self.head(self.norm(X))

    net = NeuralNetClassifier(Lazy, max_epochs=1, warm_start=True).fit(X, Y)
    assert net.fit(X, Y).n_iter_ == 2


def test_a_long_stream_costs_no_more_a_call():
    net = NeuralNetClassifier(max_epochs=1, module__hidden_layer_sizes=(2,), random_state=0)
    net.partial_fit(X, Y)
    first = net.model_.history_[0]
    for _ in range(3):
        net.partial_fit(X, Y)
    # each call holds copies of the records, and nothing that grows with their depth
    assert net.model_.history_[0] == first
    assert net.model_.history_[0] is not first
    assert [record["epoch"] for record in net.model_.history_] == [1, 2, 3, 4]


def test_a_fit_that_ends_before_on_begin_keeps_the_states_of_the_fit_before():
    class Cancels(Callback):
        order = -10

        def on_begin(self, ctx):
            if ctx.epoch:
                raise CancelFitException

    callbacks = {"cancels": Cancels(), "counts": StatefulRecorder()}
    net = NeuralNetClassifier(callbacks=callbacks, max_epochs=2, warm_start=True)
    net.fit(X, Y)
    before = dict(net.model_.callbacks_.counts)
    assert before["n_batches"] > 0
    assert net.fit(X, Y).model_.callbacks_.counts == before
