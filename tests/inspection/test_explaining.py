"""explain shows what a fit will do: compared with what a fit then does."""

import pandas as pd
import pytest
from doubles import Log, RecordingCallback
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skorchlike import (
    Callback,
    EarlyStopping,
    GradientAccumulation,
    LRScheduler,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
    explain,
)
from skorchlike.training.stages import ACTIONS, FIT_STAGES

X, Y = load_iris(return_X_y=True)


class First(RecordingCallback):
    order = -5


class Second(RecordingCallback):
    order = 5


class Momentum(Callback):
    def do_step(self, ctx):
        ctx.estimator.do_step(ctx)


class AlsoSteps(Callback):
    def do_step(self, ctx):
        ctx.estimator.do_step(ctx)


class Stateful(Callback):
    order = float("inf")

    def state_dict(self):
        return 1

    def load_state_dict(self, state):
        pass


class Saves(Callback):
    order = float("inf")


class ClipsTooEarly(Callback):
    changes_gradients = True

    def on_after_backward(self, ctx):
        pass


def warnings_of(*callbacks, **params):
    return explain(NeuralNetClassifier(callbacks=list(callbacks), **params)).warnings


# -------------------------------------------------------------------- stages


def test_the_order_shown_is_the_order_in_which_a_fit_calls():
    log = Log()
    callbacks = {"b": Second(log, "b"), "a": First(log, "a"), "c": Second(log, "c")}
    net = NeuralNetClassifier(callbacks=callbacks, max_epochs=1, validation_fraction=0.2)
    stages = explain(net).stages
    net.fit(X, Y)
    for stage in FIT_STAGES:
        called = [event.who for event in log if event.place == stage][:3]
        shown = stages.xs(stage, level="stage").iloc[0]
        acting = shown[shown > 0].drop("(estimator)", errors="ignore").sort_values().index
        assert list(acting) == called, stage


def test_a_stage_that_a_callback_leaves_alone_is_zero():
    stages = explain(NeuralNetClassifier(callbacks=[EarlyStopping()])).stages
    column = stages["early_stopping"].droplevel("level")
    assert column["on_batch_end"] == 0
    assert column["on_epoch_end"] == 1


def test_each_action_has_its_provider():
    explained = explain(NeuralNetClassifier(callbacks=[Momentum()]))
    assert list(explained.actions) == list(ACTIONS)
    assert explained.actions["step"] == "the callback 'momentum' (Momentum)"
    assert explained.actions["backward"] == "the estimator (NeuralNetClassifier)"
    steps = explained.stages.xs("step", level="stage").iloc[0]
    assert steps.to_dict() == {"momentum": 1, "(estimator)": 0}


# ------------------------------------------------------------------ warnings


def test_a_sound_estimator_has_no_warnings():
    assert warnings_of(EarlyStopping(), validation_fraction=0.1) == []


WRONG = {
    "monitor-nobody-produces": ([EarlyStopping("valid_auc")], "'valid_auc'"),
    "no-validation": ([EarlyStopping()], "no validation data"),
    "direction-not-told": ([EarlyStopping("duration_of")], "'duration_of'"),
    "bad-argument": ([EarlyStopping("train_loss", patience=-1)], "'patience' parameter"),
    "two-providers": ([Momentum(), AlsoSteps()], "both replace the action 'step'"),
    "stateful-after-checkpoint": ([Saves(), Stateful()], "'stateful' has a state"),
    "clip-of-partial-sums": ([GradientAccumulation(), ClipsTooEarly()], "in on_after_backward"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_looks_wrong_is_said(name):
    callbacks, message = WRONG[name]
    warnings = warnings_of(*callbacks)
    assert len(warnings) == 1
    assert message in warnings[0]
    assert message in repr(explain(NeuralNetClassifier(callbacks=callbacks)))


def test_two_schedules_of_one_lr_are_said():
    two = [("a", LRScheduler("step", policy__step_size=1)), ("b", LRScheduler("constant"))]
    assert all("several schedules of one lr" in text for text in warnings_of(*two))
    assert len(warnings_of(*two)) == 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"optimizer__weight_deca": 0.1}, "'weight_decay'"),
        ({"criterion__label_smoothin": 0.1}, "'label_smoothing'"),
        ({"optimizer": "adan"}, "'adan'"),
        ({"module": "mlpp"}, "'mlp'"),
        ({"module__hidden": 3}, "module__hidden"),
        ({"lr": -1}, "'lr' parameter"),
    ],
)
def test_unknown_arguments_of_components_are_said(params, message):
    warnings = warnings_of(**params)
    assert len(warnings) == 1
    assert message in warnings[0]


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize("cls", [NeuralNetClassifier, NeuralNetRegressor])
def test_every_parameter_shown_can_be_set(cls):
    net = cls(callbacks=[EarlyStopping()])
    for name, (value, _) in explain(net).parameters.iterrows():
        clone(net).set_params(**{name: value})
    shown = explain(net).parameters.index
    assert set(net.get_params()) <= set(shown)
    assert {"optimizer__weight_decay", "criterion__reduction", "module__dropout"} <= set(shown)


def test_present_values_are_shown_and_what_was_said_is_marked():
    net = NeuralNetClassifier(
        lr=0.5, callbacks=[EarlyStopping()], callbacks__early_stopping__patience=3
    )
    net.set_params(module__dropout=0.25)
    table = explain(net).parameters
    said = set(table.index[table["said"]])
    assert said == {"lr", "callbacks", "callbacks__early_stopping__patience", "module__dropout"}
    assert table.loc["callbacks__early_stopping__patience", "value"] == 3
    assert table.loc["module__dropout", "value"] == 0.25
    assert table.loc["optimizer__lr", "value"] == 0.5
    assert table.loc["optimizer__weight_decay", "value"] == 0.01
    assert table.loc["module__n_outputs", "value"] == "(from the fit)"


def test_in_a_pipeline_the_names_are_those_of_the_pipeline():
    pipe = make_pipeline(StandardScaler(), NeuralNetClassifier(callbacks=[EarlyStopping()]))
    for name in explain(pipe).parameters.index:
        assert name.startswith("neuralnetclassifier__")
    pipe.set_params(neuralnetclassifier__module__dropout=0.1)


# -------------------------------------------------------------------- the rest


def test_nothing_of_the_estimator_changes():
    net = NeuralNetClassifier(callbacks=[EarlyStopping()], callbacks__early_stopping__patience=3)
    before = {name: repr(value) for name, value in net.get_params().items()}
    explain(net)
    assert {name: repr(value) for name, value in net.get_params().items()} == before
    assert vars(net).keys() == vars(clone(net)).keys()


def test_it_shows_as_text_and_as_html():
    explained = explain(NeuralNetClassifier(callbacks=[EarlyStopping(), "print_log"]))
    text = repr(explained)
    assert "callbacks in their order: early_stopping, print_log" in text
    assert "on_epoch_end                   early_stopping, print_log" in text
    assert isinstance(explained.parameters, pd.DataFrame)
    assert "<table" in explained._repr_html_()


@pytest.mark.parametrize("bad", [LogisticRegression(), make_pipeline(LogisticRegression()), 3])
def test_only_our_estimators_are_explained(bad):
    with pytest.raises(ParameterError, match="explain takes a NeuralNetClassifier"):
        explain(bad)


@pytest.mark.parametrize("advice", [None, "it is bad", [3]])
def test_advice_that_is_no_list_of_sentences_is_said_with_who_gave_it(advice):
    wrong = type("Wrong", (Callback,), {"advise": lambda self, setup: advice})
    assert warnings_of(wrong()) == [
        "wrong: advise() of the callback 'wrong' (Wrong) must return a list of strings. Got "
        f"{advice!r}."
    ]


class ActsInBatches(Callback):
    def on_batch_end(self, ctx):
        pass


@pytest.mark.parametrize(
    ("said", "expected", "then"),
    [
        ({}, "hand-written, if the module", "hand-written"),
        ({"callbacks": [EarlyStopping("train_loss")]}, "hand-written, if the", "hand-written"),
        ({"callbacks": [ActsInBatches()]}, "direct: the callback 'acts_in", "direct: the callback"),
        ({"callbacks": [Momentum()]}, "general: the callback 'mom", "general: the callback 'mom"),
        ({"optimizer": "adadelta"}, "general: Adadelta is not", "general: Adadelta is not"),
        (
            {"optimizer": "sgd", "optimizer__momentum": 0.9},
            "general: SGD has momentum=0.9",
            "general: SGD has momentum=0.9",
        ),
        ({"optimizer__amsgrad": True}, "general: AdamW has amsgrad", "general: AdamW has amsgrad"),
        ({"module__dropout": 0.1}, "hand-written, if", "direct: Dropout has no gradient"),
        ({"callbacks": [Momentum(), AlsoSteps()]}, "an error", None),
        ({"optimizer": "no such thing"}, "an error", None),
    ],
)
def test_it_says_which_way_batches_go_before_and_after_a_fit(said, expected, then):
    net = NeuralNetClassifier(max_epochs=2, random_state=0, **said)
    explained = explain(net)
    assert explained.path.startswith(expected)
    assert f"Training step: {explained.path}" in str(explained)
    if then is not None:
        net.fit(X, Y)
        assert explain(net).path.startswith(expected)
        assert f"(in the last fit {then}" in explain(net).path


def test_it_speaks_of_the_fit_to_come():
    net = NeuralNetClassifier(max_epochs=1, callbacks=[Momentum()]).fit(X, Y)
    net.set_params(callbacks=None)
    assert explain(net).path.startswith("hand-written")
    assert "in the last fit general: the callback 'momentum'" in explain(net).path
