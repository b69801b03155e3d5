"""What callbacks see through the context, what they may change, and when it ends."""

from __future__ import annotations

import copy
import math
import random
from contextlib import suppress

import numpy as np
import pytest
import torch
from doubles import (
    Linear,
    OnDevice,
    StatefulRecorder,
    make_data,
    make_net,
    same_weights,
    weights_of,
)
from torch import nn

from skorchlike import (
    Callback,
    CancelFitException,
    Context,
    DeadContextError,
    NeuralNetRegressor,
    StageError,
)
from skorchlike.exceptions import ParameterError
from skorchlike.training.stages import FIT_STAGES

READ_ONLY = [
    "estimator",
    "module",
    "criterion",
    "optimizer",
    "device",
    "epoch",
    "max_epochs",
    "step",
    "n_steps",
    "global_step",
    "training",
    "index",
    "is_last_batch",
    "history",
    "columns",
    "callbacks",
    "n_updates",
    "last_loss",
]
ASSIGNABLE = ["X", "y", "sample_weight", "y_pred", "loss", "terminate", "stop_reason"]
METHODS = ["log", "skip_step", "fitted_estimator", "snapshot"]


def look(stage, function, *data, **params):
    """Fit and call `function(ctx)` at one stage; return the estimator."""
    callback = type("Look", (Callback,), {stage: lambda self, ctx: function(ctx)})()
    X, y = data or make_data()
    return make_net(callbacks={"look": callback}, **params).fit(X, y)


# --------------------------------------------------------------------- fields


@pytest.mark.parametrize("name", READ_ONLY)
def test_a_read_only_field_refuses_an_assignment_and_names_itself(name):
    def assign(ctx):
        before = getattr(ctx, name)
        with pytest.raises(AttributeError, match=name):
            setattr(ctx, name, None)
        after = getattr(ctx, name)
        assert after is before or after == before
        tried.append(name)

    tried = []
    look("on_batch_end", assign)
    assert len(tried) == 6


@pytest.mark.parametrize("name", ["lr", "model", "epochs", "y_hat"])
def test_an_unknown_field_cannot_be_assigned_or_read(name):
    def assign(ctx):
        with pytest.raises(AttributeError, match=name):
            setattr(ctx, name, 1)
        with pytest.raises(AttributeError, match=name):
            getattr(ctx, name)
        tried.append(name)

    tried = []
    look("on_begin", assign)
    assert tried


def test_the_fields_hold_the_parts_of_this_fit():
    X, y = make_data()

    def check(ctx):
        assert isinstance(ctx, Context)
        assert isinstance(ctx.module, Linear)
        assert isinstance(ctx.criterion, nn.CrossEntropyLoss)
        assert isinstance(ctx.optimizer, torch.optim.AdamW)
        held = ctx.optimizer.param_groups[0]["params"]
        assert all(a is b for a, b in zip(held, ctx.module.parameters(), strict=True))
        assert ctx.device == torch.device("cpu")
        assert (ctx.max_epochs, ctx.n_steps, ctx.n_updates) == (3, 2, 6)
        rows = ctx.index.numpy()
        np.testing.assert_array_equal(ctx.X.numpy(), X[rows])
        np.testing.assert_array_equal(ctx.y.numpy(), y[rows])
        np.testing.assert_array_equal(ctx.sample_weight.numpy(), weight[rows])
        assert ctx.y_pred.shape == (4, 2)
        assert ctx.y_pred.requires_grad
        assert ctx.loss.shape == ()
        assert ctx.loss.requires_grad
        assert ctx.estimator is net
        checked.append(ctx.step)

    checked = []
    weight = np.arange(1.0, 9.0)
    callback = type("Look", (Callback,), {"on_after_loss": lambda self, ctx: check(ctx)})()
    net = make_net(callbacks=[callback])
    net.fit(X, y, weight)
    assert checked == [1, 2] * 3


def test_there_is_no_batch_before_and_after_a_phase():
    def check(ctx):
        assert [ctx.X, ctx.y, ctx.sample_weight, ctx.y_pred, ctx.loss, ctx.index] == [None] * 6

    for stage in ("on_begin", "on_epoch_begin", "on_before_train", "on_before_valid", "on_end"):
        look(stage, check)


def test_a_batch_begins_without_the_output_of_the_last_one():
    def check(ctx):
        assert ctx.y_pred is None
        assert ctx.loss is None

    look("on_batch_begin", check)


def test_what_a_callback_writes_to_a_batch_changes_no_data():
    X, y = make_data()
    before = X.copy()

    def destroy(ctx):
        ctx.X.fill_(7.0)
        ctx.y.fill_(0)

    look("on_batch_begin", destroy, X, y, shuffle=False)
    look("on_batch_begin", destroy, X, y, batch_size=-1)
    np.testing.assert_array_equal(X, before)
    np.testing.assert_array_equal(y, np.arange(8) % 2)


def test_inputs_and_targets_assigned_by_a_callback_are_those_trained_on():
    X, y = make_data()

    def replace(ctx):
        ctx.X, ctx.y = ctx.X * 2, 1 - ctx.y

    replaced = look("on_batch_begin", replace, X, y)
    plain = make_net().fit(2 * X, 1 - y)
    assert same_weights(weights_of(replaced.model_.module_), weights_of(plain.model_.module_))


def test_sample_weight_assigned_by_a_callback_weighs_the_loss():
    X, y = make_data()
    weight = np.linspace(0.5, 2, 8)

    def weigh(ctx):
        ctx.sample_weight = torch.from_numpy(weight)[ctx.index]

    weighed = look("on_batch_begin", weigh, X, y)
    plain = make_net().fit(X, y, weight)
    assert same_weights(weights_of(weighed.model_.module_), weights_of(plain.model_.module_))
    assert weighed.loss_curve_ == pytest.approx(plain.loss_curve_, rel=1e-12)


def test_y_pred_and_loss_assigned_by_a_callback_are_trained_on():
    def penalise(ctx):
        ctx.loss = ctx.loss + 0.1 * sum(p.square().sum() for p in ctx.module.parameters())

    def shrink(ctx):
        ctx.y_pred = ctx.y_pred / 3

    class Third(Linear):
        def forward(self, X):
            return super().forward(X) / 3

    plain = make_net().fit(*make_data())
    penalised = look("on_after_loss", penalise)
    assert not same_weights(weights_of(plain.model_.module_), weights_of(penalised.model_.module_))
    assert penalised.loss_curve_[0] > plain.loss_curve_[0]
    shrunk = look("on_after_predict", shrink)
    third = make_net(module=Third).fit(*make_data())
    assert same_weights(weights_of(shrunk.model_.module_), weights_of(third.model_.module_))


# ----------------------------------------------------------------- last_loss


class CountingTensor(OnDevice):
    """Count how often a value is fetched."""

    fetched = 0

    def item(self):
        CountingTensor.fetched += 1
        return super().item()

    def __float__(self):
        CountingTensor.fetched += 1
        return super().__float__()

    def tolist(self):
        CountingTensor.fetched += 1
        return super().tolist()


@pytest.mark.parametrize(("reads", "fetched"), [(0, 0), (1, 1), (3, 1)])
def test_last_loss_is_fetched_when_first_read_and_once_a_batch(reads, fetched, monkeypatch):
    class Read(Callback):
        def on_after_loss(self, ctx):
            ctx.loss = ctx.loss.as_subclass(CountingTensor)

        def on_batch_end(self, ctx):
            CountingTensor.fetched = 0
            for _ in range(reads):
                assert isinstance(ctx.last_loss, float)
            counts.append(CountingTensor.fetched)

    counts = []
    make_net(callbacks=[Read()]).fit(*make_data())
    assert counts == [fetched] * 6


def test_no_loss_is_fetched_during_an_epoch_when_nobody_reads_it():
    class Count(Callback):
        def on_epoch_begin(self, ctx):
            CountingTensor.fetched = 0

        def on_after_loss(self, ctx):
            ctx.loss = ctx.loss.as_subclass(CountingTensor)

        def on_batch_exit(self, ctx):
            counts.append(CountingTensor.fetched)

    counts = []
    make_net(callbacks=[Count()]).fit(*make_data(40))
    assert counts == [0] * 30


def test_last_loss_is_nan_before_the_first_batch():
    for stage in ("on_begin", "on_epoch_begin", "on_batch_begin", "on_after_loss"):
        seen = []
        look(stage, lambda ctx, seen=seen: seen.append(ctx.last_loss))
        assert math.isnan(seen[0])


def test_last_loss_is_the_loss_as_on_after_loss_left_it():
    class Scale(Callback):
        def on_after_loss(self, ctx):
            ctx.loss = ctx.loss * 10
            left.append(ctx.loss.item())

        def on_before_backward(self, ctx):
            ctx.loss = ctx.loss / 1000  # as accumulation or a gradient scaler does

        def on_batch_end(self, ctx):
            last.append(ctx.last_loss)
            scaled.append(ctx.loss.item())

    left, last, scaled = [], [], []
    net = make_net(callbacks=[Scale()]).fit(*make_data())
    assert last == left
    assert scaled == pytest.approx([loss / 1000 for loss in left])
    assert net.loss_curve_ == pytest.approx([np.mean(left[i : i + 2]) for i in (0, 2, 4)])


def test_last_loss_stays_that_of_training_in_validation():
    class Look(Callback):
        def on_after_train(self, ctx):
            trained.append(ctx.last_loss)

        def on_batch_valid_end(self, ctx):
            valid.append(ctx.last_loss)

    trained, valid = [], []
    X, y = make_data()
    make_net(callbacks=[Look()], predict_batch_size=-1).fit(X, y, X_val=X, y_val=y)
    assert valid == trained


# ------------------------------------------------------------- history and log


def test_history_ends_with_the_record_of_the_current_epoch():
    seen = []
    look("on_epoch_begin", lambda ctx: seen.append((ctx.epoch, copy.deepcopy(ctx.history))))
    for epoch, history in seen:
        assert history[-1] == {"epoch": epoch}
        assert [record["epoch"] for record in history] == [*range(1, epoch + 1)]


def test_the_record_fills_as_the_epoch_goes_on():
    class Look(Callback):
        logs = ("mine",)

    def watch(stage):
        return lambda self, ctx: columns.append((stage, sorted(ctx.history[-1])))

    for stage in ("on_after_train", "on_before_valid", "on_valid_end", "on_epoch_end"):
        setattr(Look, stage, watch(stage))
    columns = []
    X, y = make_data()
    make_net(callbacks=[Look()], max_epochs=1).fit(X, y, X_val=X, y_val=y)
    trained = ["epoch", "lr", "train_loss"]
    validated = [*trained, "valid_accuracy", "valid_loss"]
    assert columns == [
        ("on_after_train", trained),
        ("on_before_valid", trained),
        ("on_valid_end", validated),
        ("on_epoch_end", sorted([*validated, "duration"])),
    ]


VALUES = [
    (1, 1),
    (2.5, 2.5),
    (np.float32(0.5), 0.5),
    (np.array([3.0]), 3.0),
    (torch.tensor(4.0), 4.0),
    (torch.tensor([[5]]), 5),
    ("text", "text"),
    (None, None),
]


@pytest.mark.parametrize(("value", "recorded"), VALUES)
def test_log_adds_a_column_of_plain_values(value, recorded):
    net = look("on_epoch_end", lambda ctx: ctx.log("mine", value))
    got = [record["mine"] for record in net.model_.history_]
    assert got == [recorded] * 3
    assert not isinstance(got[0], (torch.Tensor, np.ndarray))
    assert "mine" in net.history_.columns


def test_log_replaces_the_value_of_the_same_epoch():
    net = look("on_batch_end", lambda ctx: ctx.log("last_step", ctx.step))
    assert net.history_["last_step"].tolist() == [2, 2, 2]


@pytest.mark.parametrize("value", [torch.zeros(2), np.zeros(0), np.zeros((2, 2))])
def test_log_refuses_several_values(value):
    with pytest.raises(ParameterError, match=r"ctx.log\('mine', ...\) takes one value"):
        look("on_batch_end", lambda ctx: ctx.log("mine", value))


@pytest.mark.parametrize("name", ["epoch", "", 3, None])
def test_log_refuses_a_name_that_is_no_column(name):
    with pytest.raises(ParameterError, match=r"ctx\.log must be"):
        look("on_batch_end", lambda ctx: ctx.log(name, 1))


def test_log_before_the_first_epoch_is_an_error():
    with pytest.raises(StageError, match=r"ctx\.log needs an epoch"):
        look("on_begin", lambda ctx: ctx.log("mine", 1))


def test_log_in_on_begin_of_a_continued_fit_does_not_change_an_old_record():
    X, y = make_data()
    net = make_net(warm_start=True).fit(X, y)
    callback = type("Log", (Callback,), {"on_begin": lambda self, ctx: ctx.log("mine", 1)})()
    with pytest.raises(StageError):
        net.fit(X, y, callbacks=[callback])
    assert "mine" not in net.history_.columns


def test_columns_names_what_the_fit_will_record():
    class Logs(Callback):
        logs = ("mine", "train_loss")

    seen = []
    own = ("epoch", "train_loss", "lr", "duration")
    look("on_begin", lambda ctx: seen.append(ctx.columns))
    look("on_begin", lambda ctx: seen.append(ctx.columns), validation_fraction=0.5)
    net = make_net(
        callbacks=[
            Logs(),
            type("Look", (Callback,), {"on_begin": lambda self, ctx: seen.append(ctx.columns)})(),
        ]
    ).fit(*make_data())
    assert seen == [own, (*own, "valid_loss", "valid_accuracy"), (*own, "mine")]
    assert "mine" not in net.history_.columns


# -------------------------------------------------------------- end of the run


@pytest.mark.parametrize("how", ["normal", "cancel", "error", "interrupt"])
@pytest.mark.parametrize("name", [*READ_ONLY, *ASSIGNABLE, *METHODS])
def test_the_context_is_dead_after_the_fit_however_it_ends(how, name):
    class Keep(Callback):
        def on_epoch_end(self, ctx):
            kept.append(ctx)
            error = {"cancel": CancelFitException, "error": OSError, "interrupt": KeyboardInterrupt}
            if how in error:
                raise error[how]

    kept = []
    with suppress(OSError, KeyboardInterrupt):
        make_net(callbacks=[Keep()]).fit(*make_data())
    with pytest.raises(DeadContextError, match=f"ctx.{name} was used after the run had ended"):
        getattr(kept[0], name)
    with pytest.raises(DeadContextError, match=f"ctx.{name}"):
        setattr(kept[0], name, 1)


def test_the_context_is_dead_after_a_prediction():
    kept = []
    callback = type("Keep", (Callback,), {"on_predict_begin": lambda self, ctx: kept.append(ctx)})()
    X, y = make_data()
    make_net(callbacks=[callback]).fit(X, y).predict(X)
    with pytest.raises(DeadContextError):
        _ = kept[0].module


def test_a_dead_context_holds_no_tensors():
    kept = []
    look("on_begin", kept.append)
    slots = [name for name in Context.__slots__ if name != "__weakref__"]
    assert all(object.__getattribute__(kept[0], name) is None for name in slots)


# ----------------------------------------------------------- fitted_estimator


@pytest.mark.parametrize(
    "stage", ["on_begin", "on_batch_end", "on_before_valid", "on_batch_valid_end"]
)
def test_fitted_estimator_predicts_as_the_fit_would_if_it_ended_here(stage):
    X, y = make_data()

    def compare(ctx):
        view = ctx.fitted_estimator()
        with torch.no_grad():
            logits = ctx.module(torch.from_numpy(X)).numpy()
        # a copy of X may lie otherwise in memory, by which the last bit of a product can depend
        difference = logits[:, 1] - logits[:, 0]
        np.testing.assert_allclose(view.decision_function(X), difference, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(view.predict(X), logits.argmax(1))
        assert view.n_iter_ == ctx.epoch
        assert len(view.history_) == len(ctx.history)
        compared.append(ctx.epoch)

    compared = []
    callback = type("Look", (Callback,), {stage: lambda self, ctx: compare(ctx)})()
    net = make_net(callbacks=[callback])
    net.fit(X, y, X_val=X, y_val=y)
    assert compared


class Dropping(nn.Sequential):
    def __init__(self, n_features_in, n_outputs):
        super().__init__(
            nn.Linear(n_features_in, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, n_outputs)
        )


def test_predicting_mid_fit_leaves_modes_rng_and_weights_alone():
    X, y = make_data(16)

    def states(ctx):
        modes = [part.training for part in ctx.module.modules()]
        return modes, torch.get_rng_state().tolist(), random.getstate(), torch.is_grad_enabled()

    def predict(ctx):
        before, buffers = states(ctx), weights_of(ctx.module)
        ctx.fitted_estimator().predict_proba(X)
        assert states(ctx) == before
        assert same_weights(weights_of(ctx.module), buffers)

    plain = make_net(module=Dropping).fit(X, y)
    for stage in ("on_batch_begin", "on_after_loss", "on_batch_end", "on_epoch_end"):
        watched = look(stage, predict, X, y, module=Dropping)
        assert same_weights(weights_of(plain.model_.module_), weights_of(watched.model_.module_))


def test_fitted_estimator_shows_the_states_of_the_callbacks_so_far():
    X, y = make_data()
    seen = []
    callback = type(
        "Look",
        (Callback,),
        {"on_epoch_end": lambda self, ctx: seen.append(ctx.fitted_estimator().model_.callbacks_)},
    )()
    make_net(callbacks=[StatefulRecorder(), callback]).fit(X, y)
    assert [state["stateful_recorder"]["n_batches"] for state in seen] == [2, 4, 6]


def test_fitted_estimator_leaves_the_estimator_unfitted():
    def check(ctx):
        ctx.fitted_estimator()
        assert not ctx.estimator.__sklearn_is_fitted__()

    look("on_epoch_end", check)


# ------------------------------------------------------------------- snapshot


def test_snapshot_is_a_copy_that_training_does_not_change():
    snapshots, direct = [], []

    def take(ctx):
        snapshots.append(ctx.snapshot())
        direct.append((weights_of(ctx.module), copy.deepcopy(ctx.history), ctx.global_step))

    net = look("on_epoch_end", take)
    for snapshot, (weights, history, global_step) in zip(snapshots, direct, strict=True):
        assert same_weights(snapshot["module"], weights)
        assert snapshot["history"] == history
        assert snapshot["position"]["global_step"] == global_step
    first, _, last = snapshots
    assert not same_weights(first["module"], last["module"])
    assert [s["position"]["epoch"] for s in snapshots] == [1, 2, 3]
    assert [s["optimizer"]["state"][0]["step"].item() for s in snapshots] == [2, 4, 6]
    assert first["seed"] == net.model_.seed_


def test_snapshot_holds_all_parts_and_the_states_of_callbacks():
    snapshots = []
    callback = type(
        "Look", (Callback,), {"on_epoch_end": lambda self, ctx: snapshots.append(ctx.snapshot())}
    )()
    make_net(callbacks={"counter": StatefulRecorder(), "look": callback}).fit(*make_data())
    parts = (
        "module buffers criterion optimizer gradients modes callbacks history position data rng "
        "seed start max_epochs run_id identity"
    )
    assert set(snapshots[0]) == set(parts.split())
    states = [snapshot["callbacks"]["counter"][1] for snapshot in snapshots]
    assert states == [{"n_batches": n} for n in (2, 4, 6)]
    assert not torch.equal(snapshots[0]["rng"]["shuffle"], snapshots[1]["rng"]["shuffle"])


def test_snapshot_and_fitted_estimator_are_for_fit():
    X, y = make_data()
    for method in ("snapshot", "fitted_estimator"):
        body = {"on_predict_begin": lambda self, ctx, method=method: getattr(ctx, method)()}
        net = make_net(callbacks=[type("Look", (Callback,), body)()]).fit(X, y)
        with pytest.raises(StageError, match=method):
            net.predict(X)


# -------------------------------------------------------- callbacks of one fit


def test_the_states_of_callbacks_given_to_fit_land_in_the_model():
    X, y = make_data()
    net = make_net(callbacks={"own": StatefulRecorder()})
    net.fit(X, y, callbacks={"extra": StatefulRecorder()})
    assert net.model_.callbacks_ == {
        "own": {"n_batches": 6},
        "extra": {"n_batches": 6},
    }
    assert list(net.callbacks) == ["own"]
    net.fit(X, y)
    assert list(net.model_.callbacks_) == ["own"]


def test_a_callback_given_to_fit_whose_name_is_taken_is_an_error():
    X, y = make_data()
    net = make_net(callbacks=[StatefulRecorder()])
    with pytest.raises(ParameterError, match="'stateful_recorder' given to fit is taken"):
        net.fit(X, y, callbacks=[StatefulRecorder()])


def test_the_users_callback_objects_are_not_those_that_run():
    class Marks(Callback):
        def on_begin(self, ctx):
            self.mark = 1

    own, extra = Marks(), Marks()
    make_net(callbacks={"own": own}).fit(*make_data(), callbacks={"extra": extra})
    assert vars(own) == vars(extra) == {}


# ---------------------------------------------------------------------- modes


class Frozen(Dropping):
    """Its batch norm stays in eval mode, as in fine-tuning."""

    def train(self, mode=True):
        super().train(mode)
        self[1].eval()
        return self


def modes_by_stage(module, **params):
    modes = {}

    class Look(Callback):
        pass

    def record(stage):
        def look(self, ctx):
            state = ([p.training for p in ctx.module.modules()], torch.is_grad_enabled())
            modes.setdefault((stage, ctx.training), []).append(state)

        return look

    for stage in FIT_STAGES:
        setattr(Look, stage, record(stage))
    X, y = make_data(16)
    net = make_net(module=module, callbacks=[Look()], **params).fit(X, y, X_val=X, y_val=y)
    return net, modes


VALID = ["on_valid_begin", *(s for s in FIT_STAGES if s.startswith("on_batch_valid"))]


@pytest.mark.parametrize(
    ("module", "training"),
    [(Dropping, [True, True, True, True, True]), (Frozen, [True, True, False, True, True])],
)
def test_validation_runs_in_eval_mode_without_gradients_and_training_as_the_module_was(
    module, training
):
    net, modes = modes_by_stage(module)
    for (stage, in_training), states in modes.items():
        in_validation = stage in VALID or (stage == "on_batch_exit" and not in_training)
        expected = ([False] * 5, False) if in_validation else (training, True)
        assert states == [expected] * len(states), stage
    assert not any(part.training for part in net.model_.module_.modules())


def test_a_part_put_into_eval_mode_by_a_callback_stays_so():
    class Freeze(Callback):
        def on_begin(self, ctx):
            ctx.module[1].eval()

        def on_epoch_end(self, ctx):
            modes.append([part.training for part in ctx.module.modules()])

    modes = []
    X, y = make_data(16)
    make_net(module=Dropping, callbacks=[Freeze()]).fit(X, y, X_val=X, y_val=y)
    assert modes == [[True, True, False, True, True]] * 3


def test_no_graph_is_built_in_validation():
    class Look(Callback):
        def on_batch_valid_end(self, ctx):
            assert not ctx.y_pred.requires_grad
            assert not ctx.loss.requires_grad
            seen.append(ctx.step)

    seen = []
    X, y = make_data(4)
    NeuralNetRegressor(max_epochs=1, callbacks=[Look()]).fit(X, y, X_val=X, y_val=y)
    assert seen == [1]
