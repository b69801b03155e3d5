"""What is checked when a callback class is written, and what the base class gives it."""

from __future__ import annotations

import copy
import pickle

import pytest
from doubles import StatefulRecorder, make_data, make_net
from sklearn.base import clone

from skorchlike import Callback, CallbackDefinitionError
from skorchlike.exceptions import ParameterError
from skorchlike.training.stages import ACTIONS, PROVIDERS, STAGES


def define(**body):
    return type("Mine", (Callback,), body)


def with_ctx(self, ctx):
    pass


def without(self):
    pass


# ------------------------------------------------------------------- names

MISSPELT = [
    ("on_batch_ends", "on_batch_end"),
    ("on_befor_valid", "on_before_valid"),
    ("on_valid_ended", "on_valid_end"),
    ("on_exits", "on_exit"),
    ("do_predicts", "do_predict"),
    ("do_zero_grads", "do_zero_grad"),
    ("do_getloss", "do_get_loss"),
]


@pytest.mark.parametrize(("name", "nearest"), MISSPELT)
def test_an_unknown_stage_or_action_is_an_error_that_names_the_nearest(name, nearest):
    message = f"Mine.{name} is no .* of the loop. Did you mean {nearest!r}?"
    with pytest.raises(CallbackDefinitionError, match=message):
        define(**{name: with_ctx})


@pytest.mark.parametrize("name", ["on_zzzzzzzz", "do_zzzzzzzz"])
def test_a_name_like_no_other_is_an_error_that_lists_the_valid_ones(name):
    with pytest.raises(CallbackDefinitionError, match="Valid names") as caught:
        define(**{name: with_ctx})
    valid = STAGES if name.startswith("on_") else PROVIDERS
    assert all(known in str(caught.value) for known in valid)


# as the seeds' libraries call them
FOREIGN = {
    "on_fit_begin": "on_begin",
    "on_train_begin": "on_before_train",
    "on_train_batch_begin": "on_batch_begin",
    "on_train_batch_after_pred": "on_after_predict",
    "on_train_batch_after_loss": "on_after_loss",
    "on_train_batch_before_backward": "on_before_backward",
    "on_train_batch_before_step": "on_before_step",
    "on_train_batch_after_step": "on_after_step",
    "on_train_batch_end": "on_batch_end",
    "on_train_end": "on_after_train",
    "on_valid_batch_begin": "on_batch_valid_begin",
    "on_valid_batch_after_pred": "on_batch_valid_after_predict",
    "on_valid_batch_after_loss": "on_batch_valid_after_loss",
    "on_valid_batch_end": "on_batch_valid_end",
    "on_fit_end": "on_end",
    "on_predict_batch_begin": "on_batch_predict_begin",
    "on_predict_batch_end": "on_batch_predict_end",
    "before_fit": "on_begin",
    "before_epoch": "on_before_train or on_valid_begin",
    "before_batch": "on_batch_begin or on_batch_valid_begin",
    "after_predict": "on_after_predict or on_batch_valid_after_predict",
    "after_loss": "on_after_loss or on_batch_valid_after_loss",
    "after_backward": "on_after_backward",
    "after_step": "on_after_step",
    "after_batch": "on_batch_end or on_batch_valid_end",
    "after_epoch": "on_after_train or on_valid_end",
    "after_fit": "on_end",
    "cleanup_batch": "on_batch_exit",
    "cleanup_epoch": "on_phase_exit",
    "cleanup_fit": "on_exit",
}


@pytest.mark.parametrize(("foreign", "ours"), FOREIGN.items())
def test_a_stage_by_its_name_in_luz_or_miniai_is_an_error_with_our_name(foreign, ours):
    with pytest.raises(CallbackDefinitionError, match=f"Mine.{foreign}.*called {ours} here"):
        define(**{foreign: with_ctx})


@pytest.mark.parametrize("action", ACTIONS)
def test_the_bare_name_of_an_action_with_ctx_is_an_error_that_names_do(action):
    with pytest.raises(CallbackDefinitionError, match=f"call the method do_{action}"):
        define(**{action: with_ctx})


@pytest.mark.parametrize("action", ACTIONS)
def test_a_helper_with_the_bare_name_of_an_action_is_fine(action):
    assert callable(getattr(define(**{action: without})(), action))


def test_data_and_private_helpers_may_have_any_name():
    cls = define(on_colour="red", do_nothing=None, _on_batch=with_ctx, helper=with_ctx)
    assert cls.on_colour == "red"


@pytest.mark.parametrize("name", [*STAGES, *PROVIDERS])
def test_every_stage_and_action_may_be_defined(name):
    assert getattr(define(**{name: with_ctx}), name) is with_ctx


# -------------------------------------------------------------- signatures

WRONG = [
    ("on_batch_end", without, "on_batch_end(self, ctx)"),
    ("on_batch_end", lambda self, ctx, loss: None, "on_batch_end(self, ctx)"),
    ("on_batch_end", lambda self, *, ctx: None, "on_batch_end(self, ctx)"),
    ("on_begin", lambda: None, "on_begin(self, ctx)"),
    ("on_exit", None, "on_exit(self, ctx)"),
    ("on_exit", 3, "on_exit(self, ctx)"),
    ("do_step", without, "do_step(self, ctx)"),
    ("do_predict", lambda self, ctx, X: None, "do_predict(self, ctx)"),
    ("state_dict", with_ctx, "state_dict(self)"),
    ("load_state_dict", without, "load_state_dict(self, state)"),
]


@pytest.mark.parametrize(("name", "function", "wanted"), WRONG)
def test_a_wrong_signature_is_an_error_that_shows_the_right_one(name, function, wanted):
    with pytest.raises(CallbackDefinitionError) as caught:
        define(**{name: function})
    assert f"Mine.{name} must be callable as {wanted}" in str(caught.value)


RIGHT = [
    with_ctx,
    lambda self, context: None,
    lambda self, ctx, loss=None: None,
    lambda *args: None,
    lambda self, ctx, **kwargs: None,
    staticmethod(lambda ctx: None),
    classmethod(lambda cls, ctx: None),
]


@pytest.mark.parametrize("function", RIGHT)
def test_what_can_be_called_with_ctx_is_accepted_and_called(function):
    assert make_net(callbacks=[define(on_batch_end=function)()]).fit(*make_data()).n_iter_ == 3


# ------------------------------------------------------------------- state


@pytest.mark.parametrize("name", ["state_dict", "load_state_dict"])
def test_only_one_of_the_state_methods_is_an_error_that_names_the_other(name):
    function = without if name == "state_dict" else with_ctx
    other = "load_state_dict" if name == "state_dict" else "state_dict"
    with pytest.raises(CallbackDefinitionError, match=f"defines {name} without {other}"):
        define(**{name: function})


def test_a_subclass_may_override_one_of_two_inherited_state_methods():
    class More(StatefulRecorder):
        def state_dict(self):
            return {**super().state_dict(), "more": 1}

    net = make_net(callbacks=[More()]).fit(*make_data())
    assert net.model_.callbacks_.more == {"n_batches": 6, "more": 1}


def test_a_mixin_may_bring_the_other_state_method():
    class Loads:
        def load_state_dict(self, state):
            self.loaded = state

    class Both(Loads, Callback):
        def state_dict(self):
            return {"kept": True}

    assert make_net(callbacks=[Both()]).fit(*make_data()).model_.callbacks_.both == {"kept": True}


@pytest.mark.parametrize("state", [{}, [], 0, False, ""])
def test_a_state_is_left_out_only_when_it_is_none(state):
    cls = define(state_dict=lambda self: state, load_state_dict=lambda self, state: None)
    assert make_net(callbacks=[cls()]).fit(*make_data()).model_.callbacks_ == {"mine": state}
    none = define(state_dict=lambda self: None, load_state_dict=lambda self, state: None)
    assert make_net(callbacks=[none()]).fit(*make_data()).model_.callbacks_ == {}


def test_the_state_in_the_model_is_a_copy():
    held = []

    class Holds(Callback):
        def on_begin(self, ctx):
            self.values = [1]
            held.append(self.values)

        def on_exit(self, ctx):
            self.values.append(2)

        def state_dict(self):
            return {"values": self.values}

        def load_state_dict(self, state):
            self.values = state["values"]

    net = make_net(callbacks=[Holds()]).fit(*make_data())
    assert net.model_.callbacks_["holds"] == {"values": [1]}
    assert held == [[1, 2]]


def test_load_state_dict_runs_right_after_the_callbacks_own_on_begin():
    order = []

    class Stateful(StatefulRecorder):
        def __init__(self, name):
            self.name = name

        def on_begin(self, ctx):
            super().on_begin(ctx)
            order.append(("begin", self.name, ctx.epoch, len(ctx.history)))

        def load_state_dict(self, state):
            assert self.n_batches == 0
            order.append(("load", self.name, state["n_batches"]))
            super().load_state_dict(state)

    X, y = make_data()
    net = make_net(callbacks={"a": Stateful("a"), "b": Stateful("b")}, warm_start=True)
    net.fit(X, y)
    order.clear()
    net.fit(X, y)
    assert order == [("begin", "a", 3, 3), ("load", "a", 6), ("begin", "b", 3, 3), ("load", "b", 6)]
    assert net.model_.callbacks_.a == {"n_batches": 12}


def test_a_state_is_loaded_into_a_callback_of_the_same_name_and_class_alone():
    class Other(StatefulRecorder):
        pass

    X, y = make_data()
    net = make_net(callbacks={"a": StatefulRecorder()}, warm_start=True).fit(X, y)
    net.set_params(callbacks={"b": StatefulRecorder()}).fit(X, y)
    assert net.model_.callbacks_ == {"b": {"n_batches": 6}}
    net.set_params(callbacks={"b": Other()})
    with pytest.warns(UserWarning, match="'b' is a .*Other and was a .*StatefulRecorder"):
        net.fit(X, y)
    assert net.model_.callbacks_ == {"b": {"n_batches": 6}}


# ------------------------------------------------------------- inheritance


def test_stages_and_actions_are_inherited():
    ran = []

    class Base(Callback):
        def on_batch_end(self, ctx):
            ran.append("base")

        def do_step(self, ctx):
            ran.append("step")

    class Derived(Base):
        def on_batch_end(self, ctx):
            super().on_batch_end(ctx)
            ran.append("derived")

    make_net(callbacks=[Derived()], max_epochs=1).fit(*make_data())
    assert ran == ["step", "base", "derived"] * 2


def test_super_of_a_stage_that_the_base_class_does_not_use_is_a_no_op():
    class Calls(Callback):
        pass

    for name in STAGES:
        setattr(Calls, name, lambda self, ctx, name=name: getattr(Callback, name)(self, ctx))
    net = make_net(callbacks=[Calls()]).fit(*make_data())
    assert net.predict(make_data()[0]).shape == (8,)


def test_a_subclass_of_a_callback_is_checked_too():
    with pytest.raises(CallbackDefinitionError, match=r"Worse\.on_batch_ended"):
        type("Worse", (StatefulRecorder,), {"on_batch_ended": with_ctx})


def test_order_passive_and_logs_are_inherited():
    class Base(Callback):
        order, passive, logs = 7, True, ("x",)

    class Derived(Base):
        pass

    assert (Derived().order, Derived().passive, Derived().logs) == (7, True, ("x",))
    assert (Callback.order, Callback.passive, Callback.logs) == (0, False, ())


def test_every_stage_has_a_docstring_in_the_base_class():
    assert all(getattr(Callback, name).__doc__ for name in STAGES)


# -------------------------------------------------------------- parameters


class Parts(Callback):
    def __init__(self, a=1, b=None):
        self.a = a
        self.b = b


def test_a_callback_is_an_ordinary_scikit_learn_object():
    callback = Parts(a=3)
    assert callback.get_params() == {"a": 3, "b": None}
    assert repr(callback) == "Parts(a=3)"
    for copied in (clone(callback), copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert type(copied) is Parts
        assert copied.get_params() == callback.get_params()
    assert callback.set_params(b=2).b == 2


def test_an_unknown_parameter_of_a_callback_names_the_nearest():
    class Logger(Callback):
        def __init__(self, alpha=0.1):
            self.alpha = alpha

    with pytest.raises(ParameterError, match="alpha"):
        Logger().set_params(alhpa=0.5)
    with pytest.raises(ParameterError, match="Did you mean 'alpha'"):
        make_net(callbacks={"logger": Logger()}, callbacks__logger__alhpa=0.5)


@pytest.mark.parametrize("passive", [True, False])
def test_passive_callbacks_change_no_bit(passive):
    from skorchlike import PrintLog, Progress
    from skorchlike.callbacks.registry import get_callback

    assert PrintLog.passive
    assert Progress.passive
    X, y = make_data()
    callbacks = [PrintLog(sink=len), get_callback("progress")] if passive else []
    net = make_net(callbacks=callbacks).fit(X, y)
    plain = make_net().fit(X, y)
    assert net.loss_curve_ == plain.loss_curve_
    assert (net.predict_proba(X) == plain.predict_proba(X)).all()
