"""Every estimator check of scikit-learn, none expected to fail and none skipped."""

import os
from unittest import SkipTest

import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    estimator_checks_generator,
)

from skorchlike import Callback, EarlyStopping, NeuralNetClassifier, NeuralNetRegressor
from skorchlike.data.frames import FrameSchema


class SeenLosses(Callback):
    """A callback with a parameter and a state, as a user would write it."""

    def __init__(self, digits=3):
        self.digits = digits

    def on_begin(self, ctx):
        self.losses = []

    def on_epoch_end(self, ctx):
        self.losses.append(round(ctx.last_loss, self.digits))

    def state_dict(self):
        return {"losses": self.losses}

    def load_state_dict(self, state):
        self.losses = state["losses"]


def with_callbacks_and_routed(cls):
    return cls(
        callbacks={"seen": SeenLosses(), "stop": EarlyStopping("train_loss", patience=50)},
        callbacks__seen__digits=5,
        callbacks__stop__restore_best=False,
        module__hidden_layer_sizes=(32, 32),
        module__activation="tanh",
        optimizer__weight_decay=1e-3,
        criterion__reduction="mean",
    )


ESTIMATORS = {
    "classifier": NeuralNetClassifier(),
    "regressor": NeuralNetRegressor(),
    "classifier-with-callbacks": with_callbacks_and_routed(NeuralNetClassifier),
    "regressor-with-callbacks": with_callbacks_and_routed(NeuralNetRegressor),
}


def check_name(check):
    function = getattr(check, "func", check)
    options = ",".join(str(value) for value in getattr(check, "keywords", {}).values())
    return f"{function.__name__}({options})" if options else function.__name__


CHECKS = {
    key: [check for _, check in estimator_checks_generator(estimator)]
    for key, estimator in ESTIMATORS.items()
}


# check_set_params says callbacks=None together with what stays said to one of them. That
# is refused at once, as a contradiction; scikit-learn allows it, with this warning.
@pytest.mark.filterwarnings("ignore:ParameterError occurred during set_params of param callbacks")
@pytest.mark.parametrize(
    ("key", "check"),
    [
        pytest.param(key, check, id=f"{key}-{check_name(check)}")
        for key, checks in CHECKS.items()
        for check in checks
    ],
)
def test_estimator_check_passes(key, check):
    try:
        check(clone(ESTIMATORS[key]))
    except SkipTest as skipped:
        pytest.fail(f"{check_name(check)} was skipped: {skipped}")


@pytest.mark.parametrize("key", ESTIMATORS)
def test_dataframe_column_names_check_passes_but_for_the_order_of_columns(key, monkeypatch):
    """Columns are taken by their names: those in another order, an error there, are fine here."""
    encode, in_another_order = FrameSchema.encode, []

    def encode_or_refuse_another_order(schema, frame, name="X"):
        arrays = encode(schema, frame, name)
        if list(frame.columns) != schema.names:
            in_another_order.append(arrays)
            raise ValueError(
                "The feature names should match those that were passed during fit.\n"
                "Feature names must be in the same order as they were in fit."
            )
        return arrays

    monkeypatch.setattr(FrameSchema, "encode", encode_or_refuse_another_order)
    estimator = clone(ESTIMATORS[key])
    check_dataframe_column_names_consistency(type(estimator).__name__, estimator)
    assert in_another_order


@pytest.mark.parametrize("key", ESTIMATORS)
def test_no_fewer_checks_than_scikit_learn_has_for_such_an_estimator(key):
    assert len(CHECKS[key]) >= 60


@pytest.mark.parametrize("key", ESTIMATORS)
def test_array_api_check_is_among_those_that_run(key):
    assert os.environ["SCIPY_ARRAY_API"] == "1"
    assert any("array_api" in check_name(check) for check in CHECKS[key])


@pytest.mark.parametrize("key", ESTIMATORS)
def test_no_check_is_expected_to_fail(key):
    assert not getattr(ESTIMATORS[key], "_xfail_checks", None)
    assert not getattr(ESTIMATORS[key].__sklearn_tags__(), "_xfail_checks", None)
    assert not ESTIMATORS[key].__sklearn_tags__()._skip_test
    assert not ESTIMATORS[key].__sklearn_tags__().no_validation
    assert not ESTIMATORS[key].__sklearn_tags__().non_deterministic
