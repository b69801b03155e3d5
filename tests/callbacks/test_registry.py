"""Callbacks by name."""

from __future__ import annotations

import pytest
from doubles import make_data, make_net

from skorchlike import (
    Callback,
    EarlyStopping,
    ParameterError,
    PrintLog,
    Progress,
    get_callback,
    list_callbacks,
    register_callback,
)
from skorchlike.callbacks import registry


@pytest.fixture(autouse=True)
def _registry_as_it_was(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


BUILT_IN = {"early_stopping": EarlyStopping, "print_log": PrintLog, "progress": Progress}


@pytest.mark.parametrize(("name", "cls"), BUILT_IN.items())
def test_the_built_in_ones_are_there(name, cls):
    assert name in list_callbacks()
    assert type(get_callback(name)) is cls
    assert get_callback(name) is not get_callback(name)


def test_the_names_are_sorted():
    assert list_callbacks() == sorted(list_callbacks())


def test_arguments_are_passed_on():
    assert get_callback("early_stopping", patience=3).get_params()["patience"] == 3


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(ParameterError, match="Did you mean 'early_stopping'"):
        get_callback("early_stoping")
    with pytest.raises(ParameterError, match="Did you mean 'progress'"):
        make_net(callbacks=["progres"]).fit(*make_data())


def test_an_unknown_argument_names_the_nearest():
    with pytest.raises(
        ParameterError, match=r"EarlyStopping has no parameter 'patients'.*patience"
    ):
        get_callback("early_stopping", patients=3)
    with pytest.raises(ParameterError, match="patience__x"):
        get_callback("early_stopping", patience__x=3)


def test_ones_own_is_registered_by_decorator():
    @register_callback("mine")
    class First(Callback):
        pass

    @register_callback()
    class SecondOne(Callback):
        pass

    @register_callback
    class ThirdOne(Callback):
        pass

    assert {"mine", "second_one", "third_one"} <= set(list_callbacks())
    assert type(get_callback("mine")) is First
    net = make_net(callbacks=["third_one"]).fit(*make_data())
    assert list(net.get_params()["callbacks"]) == ["third_one"]
    assert isinstance(First(), First)


def test_a_taken_name_is_an_error_that_says_by_whom():
    with pytest.raises(ParameterError, match=r"'progress' is registered for .*\.Progress"):

        @register_callback("progress")
        class Other(Callback):
            pass

    assert type(get_callback("progress")) is Progress


def test_the_same_class_may_be_registered_again_and_the_last_counts():
    def cell(value):
        @register_callback("again")
        class Again(Callback):
            number = value

    cell(1)
    cell(2)
    assert get_callback("again").number == 2


@pytest.mark.parametrize("thing", [int, 3, Callback(), lambda: None])
def test_what_is_no_callback_class_cannot_be_registered(thing):
    with pytest.raises(ParameterError, match="takes a subclass of Callback"):
        register_callback("thing")(thing)


def test_a_name_that_could_not_be_routed_is_an_error():
    with pytest.raises(ParameterError, match="without '__'"):
        register_callback("a__b")(type("Mine", (Callback,), {}))
