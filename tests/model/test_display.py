"""Pictures of the history."""

import builtins
import math
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, LearningCurveDisplay, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from skorchlike import (
    Callback,
    EarlyStopping,
    HistoryDisplay,
    LRScheduler,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
)

X, Y = load_iris(return_X_y=True)
plt.switch_backend("Agg")


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    plt.close("all")


def net(**params):
    said = {"max_epochs": 4, "validation_fraction": 0.2, "random_state": 0, **params}
    return NeuralNetClassifier(**said)


@pytest.fixture(scope="module")
def fitted():
    return net(callbacks=[LRScheduler("exponential", policy__gamma=0.5)]).fit(X, Y)


def points(line):
    return list(zip(*(values.tolist() for values in line.get_data()), strict=True))


def labels(legend):
    return [text.get_text() for text in legend.get_texts()]


# ------------------------------------------------------------------------- what is drawn


def test_lines_are_the_columns_of_the_history(fitted):
    display = HistoryDisplay.from_estimator(fitted)
    history = fitted.history_
    assert list(display.lines_) == ["train_loss", "valid_loss", "valid_accuracy", "lr"]
    for name, lines in display.lines_.items():
        expected = list(zip(history["epoch"], history[name], strict=True))
        assert points(lines["fit"]) == expected


def test_losses_share_a_panel_and_the_lr_comes_last(fitted):
    display = HistoryDisplay.from_estimator(fitted)
    assert [axes.get_ylabel() for axes in display.axes_] == ["loss", "accuracy", "lr"]
    assert {axes.get_xlabel() for axes in display.axes_} == {"epoch"}
    loss = display.axes_[0]
    assert display.lines_["train_loss"]["fit"].axes is loss
    assert display.lines_["valid_loss"]["fit"].axes is loss
    assert labels(loss.get_legend()) == ["train", "valid"]


def test_a_display_keeps_what_scikit_learns_displays_keep(fitted):
    own = HistoryDisplay.from_estimator(fitted, columns="loss")
    tree = DecisionTreeClassifier()
    other = LearningCurveDisplay.from_estimator(tree, X, Y, shuffle=True, random_state=0)
    for name in ("ax_", "figure_", "lines_"):
        assert hasattr(own, name)
        assert hasattr(other, name)
    assert isinstance(own.ax_, type(other.ax_))
    assert own.ax_.figure is own.figure_
    assert own.plot() is own


def test_drawing_again_takes_the_same_data_to_a_new_figure(fitted):
    display = HistoryDisplay.from_estimator(fitted)
    first, line = display.figure_, display.lines_["train_loss"]["fit"]
    display.plot(columns=["train_loss"])
    assert display.figure_ is not first
    assert points(display.lines_["train_loss"]["fit"]) == points(line)


def test_columns_and_quantities_can_be_named(fitted):
    display = HistoryDisplay.from_estimator(fitted, columns=["accuracy", "train_loss", "duration"])
    assert [axes.get_ylabel() for axes in display.axes_] == ["accuracy", "loss", "duration"]
    assert list(display.lines_) == ["valid_accuracy", "train_loss", "duration"]
    both = HistoryDisplay.from_estimator(fitted, columns="loss")
    assert list(both.lines_) == ["train_loss", "valid_loss"]


def test_metrics_come_before_what_callbacks_log_and_strings_are_left_out():
    history = pd.DataFrame(
        {
            "epoch": [1, 2],
            "lr": [0.1, 0.1],
            "note": ["a", "b"],
            "norm": [1, 2],
            "train_f1": [0.1, 0.2],
            "valid_f1": [0.3, 0.4],
            "train_loss": [2.0, 1.0],
        }
    )
    display = HistoryDisplay(history).plot()
    assert list(display.lines_) == ["train_loss", "train_f1", "valid_f1", "norm", "lr"]
    assert len(display.axes_) == 4


def test_what_a_callback_logs_is_drawn():
    class Squares(Callback):
        def on_epoch_end(self, ctx):
            ctx.log("square", ctx.epoch**2)

    display = HistoryDisplay.from_estimator(net(callbacks=[Squares()]).fit(X, Y), columns="square")
    assert points(display.lines_["square"]["fit"]) == [(1, 1), (2, 4), (3, 9), (4, 16)]


def test_epochs_without_validation_are_joined_and_marked():
    display = HistoryDisplay.from_estimator(net(max_epochs=7, valid_every=3).fit(X, Y))
    valid = display.lines_["valid_loss"]["fit"]
    assert valid.get_xdata().tolist() == [3, 6, 7]
    assert np.isfinite(valid.get_ydata()).all()
    assert valid.get_marker() == "."
    assert valid.get_linestyle() == "-"
    assert display.lines_["train_loss"]["fit"].get_marker() == "None"


def test_numbers_that_are_not_finite_are_not_drawn():
    history = pd.DataFrame({"epoch": [1, 2, 3, 4], "train_loss": [3.0, math.inf, math.nan, 1.0]})
    line = HistoryDisplay(history).plot().lines_["train_loss"]["fit"]
    assert points(line) == [(1, 3.0), (4, 1.0)]


def test_a_single_epoch_can_be_seen():
    display = HistoryDisplay.from_estimator(net(max_epochs=1).fit(X, Y))
    assert all(lines["fit"].get_marker() == "." for lines in display.lines_.values())
    display.figure_.canvas.draw()
    ticks = [float(t) for t in display.ax_.get_xticks()]
    assert all(tick.is_integer() for tick in ticks)


def test_a_continued_fit_shows_all_its_epochs():
    est = net(warm_start=True, max_epochs=3).fit(X, Y).fit(X, Y)
    line = HistoryDisplay.from_estimator(est).lines_["train_loss"]["fit"]
    assert line.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]


def test_a_regressor_is_drawn_too():
    est = NeuralNetRegressor(max_epochs=2, validation_fraction=0.2).fit(
        *load_diabetes(return_X_y=True)
    )
    ylabels = [axes.get_ylabel() for axes in HistoryDisplay.from_estimator(est).axes_]
    assert ylabels == ["loss", "r2", "lr"]


def test_plot_history_is_the_display_of_the_estimator(fitted):
    display = fitted.plot_history(columns="loss", log_scale=True)
    assert isinstance(display, HistoryDisplay)
    assert display.ax_.get_yscale() == "log"
    expected = HistoryDisplay.from_estimator(fitted, columns="loss")
    for name in ("train_loss", "valid_loss"):
        assert points(display.lines_[name]["fit"]) == points(expected.lines_[name]["fit"])


def test_histories_can_be_records_or_frames(fitted):
    records = HistoryDisplay(fitted.model_.history_).plot()
    frame = HistoryDisplay(fitted.history_).plot()
    several = HistoryDisplay([fitted.history_, fitted.model_.history_]).plot()
    expected = points(frame.lines_["lr"]["fit"])
    assert points(records.lines_["lr"]["fit"]) == expected
    assert points(several.lines_["lr"]["fit 2"]) == expected


# --------------------------------------------------------------------------- several fits


def test_folds_of_cross_validate_lie_over_each_other():
    folds = cross_validate(
        make_pipeline(StandardScaler(), net()), X, Y, cv=3, return_estimator=True
    )
    display = HistoryDisplay.from_estimators(folds["estimator"])
    assert list(display.lines_["valid_loss"]) == ["fit 1", "fit 2", "fit 3"]
    for each, line in zip(folds["estimator"], display.lines_["valid_loss"].values(), strict=True):
        assert line.get_ydata().tolist() == each[-1].history_["valid_loss"].tolist()
    (legend,) = display.figure_.legends
    assert labels(legend) == ["fit 1", "fit 2", "fit 3", "train", "valid"]
    whole = HistoryDisplay.from_estimators(folds)
    for name, line in whole.lines_["valid_loss"].items():
        assert points(line) == points(display.lines_["valid_loss"][name])


def test_results_of_cross_validate_without_estimators_are_an_error():
    folds = cross_validate(net(), X, Y, cv=2)
    with pytest.raises(ParameterError, match="return_estimator=True"):
        HistoryDisplay.from_estimators(folds)


@pytest.mark.parametrize("n_fits", [2, 7, 12])
def test_fits_differ_in_colour_and_phases_in_style(fitted, n_fits):
    display = HistoryDisplay.from_estimators({f"no {i}": fitted for i in range(n_fits)})
    train, valid = display.lines_["train_loss"], display.lines_["valid_loss"]
    colours = {matplotlib.colors.to_hex(line.get_color()) for line in train.values()}
    assert len(colours) == n_fits
    for label in train:
        assert np.array_equal(train[label].get_color(), valid[label].get_color())
        assert (train[label].get_linestyle(), valid[label].get_linestyle()) == ("--", "-")


def test_a_column_that_only_some_fits_have_is_drawn_for_those():
    fits = {"with": net().fit(X, Y), "without": net(validation_fraction=None).fit(X, Y)}
    display = HistoryDisplay.from_estimators(fits)
    assert list(display.lines_["train_loss"]) == ["with", "without"]
    assert list(display.lines_["valid_loss"]) == ["with"]


@pytest.mark.parametrize("labels", ["dict", "list", "array"])
def test_estimators_come_as_dict_list_or_array(fitted, labels):
    given = {
        "dict": {0: fitted, "b": fitted},
        "list": [fitted, fitted],
        "array": np.array([fitted, fitted], dtype=object),
    }[labels]
    expected = ["0", "b"] if labels == "dict" else ["fit 1", "fit 2"]
    assert list(HistoryDisplay.from_estimators(given).lines_["lr"]) == expected


def test_one_estimator_in_a_dict_is_drawn_as_one(fitted):
    display = HistoryDisplay.from_estimators({"mine": fitted}, columns="loss")
    assert labels(display.ax_.get_legend()) == ["train", "valid"]
    assert list(display.lines_["train_loss"]) == ["mine"]


# --------------------------------------------------------------------- finding the net


def test_pipelines_searches_and_target_transformers_are_looked_through():
    pipe = make_pipeline(StandardScaler(), net())
    search = GridSearchCV(pipe, {"neuralnetclassifier__lr": [0.01, 0.1]}, cv=2).fit(X, Y)
    inner = search.best_estimator_[-1]
    display = HistoryDisplay.from_estimator(search)
    drawn = display.lines_["train_loss"]["fit"].get_ydata().tolist()
    assert drawn == inner.history_["train_loss"].tolist()

    diabetes = load_diabetes(return_X_y=True)
    scaled = TransformedTargetRegressor(NeuralNetRegressor(max_epochs=2), func=np.log1p)
    scaled.set_params(inverse_func=np.expm1, check_inverse=False).fit(*diabetes)
    display = HistoryDisplay.from_estimator(make_pipeline(scaled))
    drawn = display.lines_["train_loss"]["fit"].get_ydata().tolist()
    assert drawn == scaled.regressor_.loss_curve_


def test_members_of_an_ensemble_are_drawn_from_its_estimators():
    bag = BaggingClassifier(net(validation_fraction=None), n_estimators=2).fit(X, Y)
    with pytest.raises(ParameterError, match="estimators_"):
        HistoryDisplay.from_estimator(bag)
    display = HistoryDisplay.from_estimators(bag.estimators_)
    assert len(display.lines_["train_loss"]) == 2


# ---------------------------------------------------------------------------- best epoch


def stopped():
    return net(lr=0.05, max_epochs=60, callbacks=[EarlyStopping(patience=2)]).fit(X, Y)


def test_the_best_epoch_of_early_stopping_is_marked_on_validation_curves():
    est = stopped()
    best = est.model_.callbacks_.early_stopping["best_epoch"]
    display = HistoryDisplay.from_estimator(est)
    assert display.best_epochs == {"fit": best}
    (mark,) = [line for line in display.axes_[0].lines if line.get_label() == "_best"]
    history = est.history_.set_index("epoch")
    assert points(mark) == [(best, history["valid_loss"][best])]
    assert labels(display.ax_.get_legend()) == ["train", "valid", "best epoch"]
    lr_panel = display.axes_[-1]
    assert len(lr_panel.lines) == 1


def test_marking_the_best_epoch_can_be_left_out():
    display = HistoryDisplay.from_estimator(stopped(), mark_best=False)
    assert len(display.axes_[0].lines) == 2
    assert labels(display.ax_.get_legend()) == ["train", "valid"]


def test_best_epochs_can_be_given():
    history = pd.DataFrame({"epoch": [1, 2, 3], "valid_loss": [3.0, 1.0, 2.0]})
    display = HistoryDisplay({"a": history, "b": history}, best_epochs={"b": 2}).plot()
    (mark,) = [line for line in display.ax_.lines if line.get_label() == "_best"]
    assert points(mark) == [(2, 1.0)]
    assert mark.get_color() == display.lines_["valid_loss"]["b"].get_color()


# ------------------------------------------------------------------------------- options


def test_log_scale_is_for_loss_and_lr(fitted):
    display = HistoryDisplay.from_estimator(fitted, log_scale=True)
    assert [axes.get_yscale() for axes in display.axes_] == ["log", "linear", "log"]
    display.plot(log_scale=["lr"])
    assert [axes.get_yscale() for axes in display.axes_] == ["linear", "linear", "log"]


def test_log_scale_leaves_what_is_not_positive():
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [1.0, -1.0], "lr": [0.1, 0.01]})
    display = HistoryDisplay(history).plot(log_scale=True)
    assert [axes.get_yscale() for axes in display.axes_] == ["linear", "log"]
    with pytest.raises(ParameterError, match=r"positive values\. 'loss' has others"):
        display.plot(log_scale="loss")
    with pytest.raises(ParameterError, match=r"names no panel that is drawn: 'los'.*'loss'"):
        display.plot(log_scale=["los"])


def test_line_kw_reach_all_lines(fitted):
    display = HistoryDisplay.from_estimator(fitted, line_kw={"linewidth": 4, "color": "red"})
    for lines in display.lines_.values():
        assert (lines["fit"].get_linewidth(), lines["fit"].get_color()) == (4, "red")


def test_one_panel_is_drawn_in_the_axes_given(fitted):
    figure, ax = plt.subplots()
    display = HistoryDisplay.from_estimator(fitted, columns="loss", ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    assert figure.legends == []


def test_several_panels_share_the_place_of_one_axes(fitted):
    figure, (left, right) = plt.subplots(1, 2)
    display = HistoryDisplay.from_estimator(fitted, ax=right)
    figure.canvas.draw()
    place = right.get_position()
    assert len(display.axes_) == 3
    for axes in display.axes_:
        assert axes.figure is figure
        assert axes.get_position().x0 >= place.x0 - 1e-9
        assert axes.get_position().x1 <= place.x1 + 1e-9
    assert left.lines[:] == []


def test_each_panel_is_drawn_in_its_axes(fitted):
    _, axes = plt.subplots(3, 1)
    display = HistoryDisplay.from_estimator(fitted, ax=axes)
    assert list(display.axes_) == list(axes)
    with pytest.raises(ParameterError, match=r"one for each of the 3 panels.*Got 2"):
        display.plot(ax=axes[:2])


# -------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "estimator",
    [
        net(),
        make_pipeline(StandardScaler(), net()),
        GridSearchCV(net(), {}),
        TransformedTargetRegressor(NeuralNetRegressor()),
    ],
    ids=["net", "pipeline", "search", "target transformer"],
)
def test_an_estimator_that_is_not_fitted_is_an_error(estimator):
    with pytest.raises(NotFittedError, match="not fitted"):
        HistoryDisplay.from_estimator(estimator)
    with pytest.raises(NotFittedError, match="not fitted"):
        HistoryDisplay.from_estimators([estimator])


def test_an_estimator_without_a_net_is_an_error():
    for other in (LogisticRegression(max_iter=1000).fit(X, Y), "net", None, make_pipeline(None)):
        with pytest.raises(ParameterError, match="finds no history in this"):
            HistoryDisplay.from_estimator(other)
    search = GridSearchCV(net(max_epochs=1), {"lr": [0.1]}, cv=2, refit=False).fit(X, Y)
    with pytest.raises(ParameterError, match="refit=True"):
        HistoryDisplay.from_estimator(search)
    with pytest.raises(ParameterError, match="Got the class NeuralNetClassifier"):
        HistoryDisplay.from_estimator(NeuralNetClassifier)


def test_one_and_several_estimators_are_not_mixed_up(fitted):
    with pytest.raises(ParameterError, match=r"takes one estimator\. Got a list"):
        HistoryDisplay.from_estimator([fitted])
    with pytest.raises(ParameterError, match="NeuralNetClassifier: use from_estimator"):
        HistoryDisplay.from_estimators(fitted)
    with pytest.raises(ParameterError, match="needs a history"):
        HistoryDisplay.from_estimators([])


def test_an_unknown_column_is_named_with_the_nearest(fitted):
    with pytest.raises(ParameterError, match=r"no column 'valid_los'\. Did you mean 'valid_loss'"):
        HistoryDisplay.from_estimator(fitted, columns=["valid_los"])
    with pytest.raises(ParameterError, match=r"no column 'accuray'\. Did you mean 'accuracy'"):
        HistoryDisplay.from_estimator(fitted, columns="accuray")
    for wrong in ([], 3, [3]):
        with pytest.raises(ParameterError, match="must name one or more columns"):
            HistoryDisplay.from_estimator(fitted, columns=wrong)


def test_a_column_without_numbers_is_an_error_when_named():
    history = pd.DataFrame({"epoch": [1], "train_loss": [math.nan], "note": ["x"], "lr": [0.1]})
    display = HistoryDisplay(history).plot()
    assert list(display.lines_) == ["lr"]
    for name in ("train_loss", "note"):
        with pytest.raises(ParameterError, match=f"{name!r} of the history holds no finite"):
            display.plot(columns=name)


def test_a_history_without_epochs_is_an_error():
    with pytest.raises(ParameterError, match="nothing to draw: the history has no epochs"):
        HistoryDisplay(pd.DataFrame({"epoch": []})).plot()
    for wrong in ({}, [], None, 3):
        with pytest.raises(ParameterError, match="needs a history"):
            HistoryDisplay(wrong)
    with pytest.raises(ParameterError, match=r"with a column 'epoch'.*Got DataFrame for 'fit'"):
        HistoryDisplay(pd.DataFrame({"loss": [1]}))
    with pytest.raises(
        ParameterError,
        match=r"names no history: 'x'\. Valid names: fit",
    ):
        HistoryDisplay(pd.DataFrame({"epoch": [1]}), best_epochs={"x": 1})


def test_without_matplotlib_the_error_names_the_extra(fitted, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for name in [n for n in list(sys.modules) if n.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    display = HistoryDisplay(fitted.model_.history_)
    with pytest.raises(ImportError, match=r"HistoryDisplay needs .*skorchlike\[plot\]"):
        display.plot()
