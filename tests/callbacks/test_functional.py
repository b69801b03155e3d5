"""Callbacks made from functions."""

from __future__ import annotations

import copy
import pickle

import pytest
from doubles import make_data, make_net
from sklearn.base import clone

from skorchlike import Callback, CallbackDefinitionError, ParameterError, make_callback

counter = make_callback(
    "counter",
    params={"step": 1, "start": 0},
    on_begin=lambda self, ctx: setattr(self, "count", self.start),
    on_batch_end=lambda self, ctx: setattr(self, "count", self.count + self.step),
    state_dict=lambda self: {"count": self.count},
    load_state_dict=lambda self, state: setattr(self, "count", state["count"]),
)

required = make_callback(
    "required",
    params={"optional": 1, "message": ...},
    on_epoch_end=lambda self, ctx: None,
)


def test_it_is_a_class_like_one_written_by_hand():
    assert issubclass(counter, Callback)
    assert (counter.__name__, counter.__module__) == ("counter", __name__)
    assert counter().get_params() == {"step": 1, "start": 0}
    assert repr(counter(step=3)) == "counter(step=3)"
    assert counter.order == 0


def test_it_runs_and_keeps_its_state():
    X, y = make_data()
    net = make_net(callbacks={"c": counter(step=2)}, callbacks__c__start=100).fit(X, y)
    assert net.model_.callbacks_.c == {"count": 112}
    net = make_net(callbacks=[counter()], warm_start=True).fit(X, y).fit(X, y)
    assert net.model_.callbacks_.counter == {"count": 12}


@pytest.mark.parametrize("make", [clone, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_it_can_be_cloned_copied_and_pickled(make):
    copied = make(counter(step=5))
    assert type(copied) is counter
    assert copied.get_params() == {"step": 5, "start": 0}


def test_a_fitted_estimator_with_it_can_be_pickled():
    X, y = make_data()
    net = make_net(callbacks=[counter()]).fit(X, y)
    loaded = pickle.loads(pickle.dumps(net))
    assert loaded.model_.callbacks_.counter == {"count": 6}
    assert (loaded.predict(X) == net.predict(X)).all()


def test_parameters_with_an_ellipsis_are_required_and_come_first():
    callback = required("Done!")
    assert callback.get_params() == {"message": "Done!", "optional": 1}
    assert clone(callback).message == "Done!"
    assert required(message="Done!", optional=2).optional == 2
    with pytest.raises(ParameterError, match=r"required.*message"):
        required()
    with pytest.raises(ParameterError, match="masage"):
        required(message="x", masage="y")
    with pytest.raises(ParameterError, match="counter"):
        counter(1, 2, 3)


def test_order_passive_logs_and_doc_are_those_given():
    cls = make_callback("c", order=5, passive=True, logs=["x"], doc="Mine.")
    assert (cls.order, cls.passive, cls.logs, cls.__doc__) == (5, True, ("x",), "Mine.")


def test_it_may_replace_an_action():
    steps = []
    cls = make_callback("stepper", do_step=lambda self, ctx: steps.append(ctx.step))
    make_net(callbacks=[cls()], max_epochs=1).fit(*make_data())
    assert steps == [1, 2]


@pytest.mark.parametrize("name", ["my callback", "", "1st", None, 3])
def test_the_name_must_be_an_identifier(name):
    with pytest.raises(ParameterError, match="must be an identifier"):
        make_callback(name)


BAD = [
    ({"on_batch_ends": lambda self, ctx: None}, "Did you mean 'on_batch_end'"),
    ({"on_fit_begin": lambda self, ctx: None}, "called on_begin here"),
    ({"do_steps": lambda self, ctx: None}, "Did you mean 'do_step'"),
    ({"on_batch_end": lambda ctx: None}, r"on_batch_end\(self, ctx\)"),
    ({"on_batch_end": 3}, "on_batch_end=3"),
    ({"batch_end": lambda self, ctx: None}, "batch_end="),
    ({"step": lambda self, ctx: None}, "step="),
    ({"state_dict": lambda self: None}, "without load_state_dict"),
]


@pytest.mark.parametrize(("functions", "message"), BAD)
def test_what_is_no_stage_action_or_state_function_is_an_error(functions, message):
    with pytest.raises(CallbackDefinitionError, match=message):
        make_callback("bad", **functions)


@pytest.mark.parametrize("default", [[], {}])
def test_a_default_that_can_be_changed_is_not_shared_between_fits(default):
    def grow(self, ctx):
        self.value.update({1: 1}) if isinstance(self.value, dict) else self.value.append(1)

    cls = make_callback("grows", {"value": default}, on_begin=grow)
    X, y = make_data()
    make_net(callbacks=[cls()]).fit(X, y)
    assert not default
    assert not cls().value
