"""Every built-in callback keeps to the rules, and the passive ones change no bit."""

import numpy as np
import pytest
import torch
from callbacks.built_in import data_for, make, make_estimator
from sklearn.base import clone

from skorchlike import check_callback, get_callback, list_callbacks
from skorchlike.callbacks import base
from skorchlike.callbacks.registry import callback_class

NAMES = [name for name in list_callbacks() if not name.startswith("test")]
PASSIVE = (
    "activation_stats",
    "checkpoint",
    "csv_logger",
    "live_plot",
    "metrics",
    "mlflow",
    "nan_guard",
    "print_log",
    "profile",
    "progress",
    "summary",
    "tensorboard",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_passes_check_callback(name, tmp_path):
    X, y = data_for(name)
    check_callback(make(name, tmp_path), make_estimator(name), X, y)


def test_these_are_the_passive_ones(tmp_path):
    assert tuple(name for name in NAMES if make(name, tmp_path).passive) == PASSIVE


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PASSIVE)
def test_a_passive_callback_leaves_the_trained_weights_bit_identical(name, dtype, tmp_path):
    X, y = data_for(name)
    net = make_estimator(name, dtype=dtype, module__dropout=0.2, max_epochs=3)
    plain = clone(net).fit(X, y)
    watched = net.set_params(callbacks={name: make(name, tmp_path)}).fit(X, y)
    before, after = (est.model_.module_.state_dict() for est in (plain, watched))
    assert before.keys() == after.keys()
    for key in before:
        assert torch.equal(before[key], after[key])
    np.testing.assert_array_equal(plain.predict_proba(X), watched.predict_proba(X))


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_an_unnamed_built_in_is_its_registered_name(name, tmp_path):
    net = make_estimator(name, callbacks=[make(name, tmp_path)])
    assert f"callbacks__{name}" in net.get_params()


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_is_documented_and_declares_what_its_parameters_may_be(name):
    cls = type(get_callback(name)) if _has_defaults(name) else _class(name)
    assert "Examples\n" in cls.__doc__
    assert "Parameters\n" in cls.__doc__ or not cls._get_param_names()
    otherwise = {"patterns", "starting"}  # checked by params.patterns
    assert set(cls._get_param_names()) - set(cls._parameter_constraints) <= otherwise
    for parameter in cls._get_param_names():
        assert f"{parameter} :" in cls.__doc__


def _has_defaults(name):
    try:
        get_callback(name)
    except TypeError:
        return False
    return True


def _class(name):
    assert issubclass(callback_class(name), base.Callback)
    return callback_class(name)
