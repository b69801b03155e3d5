"""The plot of the history while a fit runs: in a fake notebook, and in the file."""

from __future__ import annotations

import copy
import io
import os
import pickle
import sys
import time
from contextlib import nullcontext
from types import SimpleNamespace

import IPython
import IPython.display
import matplotlib.figure
import numpy as np
import pytest
from doubles import FailingCallback, Log, make_data, make_net, same_weights, weights_of
from matplotlib import pyplot
from matplotlib.image import imread

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelFitException,
    LivePlot,
    ParameterError,
    explain,
)

X, Y = make_data(n=22)
VALID = {"X_val": X[:5], "y_val": Y[:5]}


@pytest.fixture
def drawings(monkeypatch):
    """What each drawing had: panel → line → its points, as the figure was when saved."""
    seen = []
    save = matplotlib.figure.Figure.savefig

    def savefig(figure, *args, **kwargs):
        seen.append(
            {
                axes.get_ylabel(): {
                    line.get_label(): [tuple(map(float, point)) for point in line.get_xydata()]
                    for line in axes.get_lines()
                }
                for axes in figure.axes
            }
        )
        save(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    return seen


class FakeDisplay:
    """Stands for IPython.display.display and its handle."""

    def __init__(self):
        self.shown = []
        self.updated = []

    def __call__(self, image, display_id):
        assert display_id is True
        self.shown.append(image)
        return self

    def update(self, image):
        self.updated.append(image)


@pytest.fixture
def notebook(monkeypatch):
    display = FakeDisplay()
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setattr(IPython.display, "display", display)
    return display


def fit(*callbacks, plot=None, **params):
    plot = LivePlot(min_interval=0) if plot is None else plot
    return make_net(callbacks=[*callbacks, plot], **params).fit(X, Y, **VALID)


def points(net, column):
    return [(r["epoch"], r[column]) for r in net.model_.history_ if column in r]


# --------------------------------------------------------------------- in a notebook


def test_one_display_is_drawn_anew_each_epoch(notebook, drawings):
    net = fit(max_epochs=4)
    assert len(notebook.shown) == 1
    assert len(notebook.updated) == 3
    images = [*notebook.shown, *notebook.updated]
    assert all(isinstance(image, IPython.display.Image) for image in images)
    assert len({image.data for image in images}) == 4
    height, width, _ = imread(io.BytesIO(images[-1].data)).shape
    assert (width, height) == (500, 300)
    last = drawings[-1]["loss"]
    assert [*last.values()] == [points(net, "train_loss"), points(net, "valid_loss")]
    assert [len(next(iter(drawing["loss"].values()))) for drawing in drawings] == [1, 2, 3, 4]


def test_the_legend_says_the_last_values(notebook, drawings):
    record = fit().model_.history_[-1]
    expected = [f"{name} = {record[name]:.4g}" for name in ("train_loss", "valid_loss")]
    assert list(drawings[-1]["loss"]) == expected


def test_columns_of_one_quantity_share_a_panel(notebook, drawings):
    columns = ["valid_accuracy", "train_loss", "lr", "valid_loss", "own"]

    class Own(Callback):
        logs = ("own",)

        def on_epoch_end(self, ctx):
            ctx.log("own", [1.5, None, float("nan"), "text", 2][ctx.epoch - 1])

    net = fit(Own(), plot=LivePlot(columns, min_interval=0), max_epochs=5)
    panels = {name: [*lines.values()] for name, lines in drawings[-1].items()}
    assert panels == {
        "accuracy": [points(net, "valid_accuracy")],
        "loss": [points(net, "train_loss"), points(net, "valid_loss")],
        "lr": [points(net, "lr")],
        "own": [[(1.0, 1.5), (5.0, 2.0)]],
    }


def test_one_column_may_be_a_string_and_validation_be_missing(notebook, drawings):
    net = make_net(callbacks=[LivePlot("train_loss")]).fit(X, Y)
    assert [*drawings[-1]["loss"].values()] == [points(net, "train_loss")]
    make_net(callbacks=[LivePlot()]).fit(X, Y)
    assert len(drawings[-1]["loss"]) == 1


def test_epochs_without_validation_are_left_out_of_its_line(notebook, drawings):
    net = fit(valid_every=2, max_epochs=5)
    train, valid = drawings[-1]["loss"].values()
    assert [epoch for epoch, _ in valid] == [2, 4, 5]
    assert [epoch for epoch, _ in train] == [1, 2, 3, 4, 5]
    assert valid == points(net, "valid_loss")


def test_a_continued_fit_shows_the_epochs_before_it(notebook, drawings):
    fit(warm_start=True).fit(X, Y)
    assert [epoch for epoch, _ in next(iter(drawings[-1]["loss"].values()))] == [1, 2, 3, 4, 5, 6]
    assert len(notebook.shown) == 2


# ------------------------------------------------------------------------ how often


def test_it_draws_every_so_many_epochs_and_at_the_end(notebook, drawings):
    fit(plot=LivePlot(every=3, min_interval=0), max_epochs=8)
    assert [len(next(iter(d["loss"].values()))) for d in drawings] == [3, 6, 8]


def test_it_draws_at_most_once_in_an_interval_and_at_the_end(notebook, drawings, monkeypatch):
    now = [0.0]

    class Clock(Callback):
        def on_epoch_begin(self, ctx):
            now[0] += 0.4

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    fit(Clock(), plot=LivePlot(min_interval=1), max_epochs=9)
    # at 0.4, 1.6 and 2.8 seconds, and the last one
    assert [len(next(iter(d["loss"].values()))) for d in drawings] == [1, 4, 7, 9]


def test_a_last_epoch_that_is_drawn_is_not_drawn_again(notebook, drawings):
    fit(max_epochs=2)
    assert len(drawings) == 2


@pytest.mark.parametrize("stage", ["on_batch_end", "on_valid_begin", "on_epoch_end"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, CancelFitException])
def test_however_the_fit_ends_its_epochs_are_drawn(stage, error, notebook, drawings):
    with nullcontext() if error is CancelFitException else pytest.raises(error):
        fit(FailingCallback(stage, error, epoch=3), plot=LivePlot(min_interval=1000))
    assert [epoch for epoch, _ in next(iter(drawings[-1]["loss"].values()))][:2] == [1, 2]


# ------------------------------------------------------------------------ to a file


def test_outside_a_notebook_the_file_is_written(tmp_path, drawings, capsys):
    path = tmp_path / "new" / "losses.png"
    net = fit(plot=LivePlot(path=path, min_interval=0))
    image = imread(path)
    assert image.shape[:2] == (300, 500)
    # the blue and orange of the lines, on white
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        near = np.abs(image[..., :3] * 255 - colour).max(-1) < 8
        assert near.sum() > 100
    assert len(drawings) == 3
    assert next(iter(drawings[-1]["loss"].values())) == points(net, "train_loss")
    assert os.listdir(path.parent) == ["losses.png"]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "begins"), [("a.svg", b"<?xml"), ("a.PDF", b"%PDF")])
def test_the_ending_tells_the_type(name, begins, tmp_path):
    fit(plot=LivePlot(path=str(tmp_path / name)))
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_function_may_name_the_file(tmp_path):
    plot = LivePlot(path=lambda ctx: tmp_path / f"{ctx.estimator.lr}.png")
    fit(plot=plot, lr=0.5)
    assert os.listdir(tmp_path) == ["0.5.png"]


def test_both_a_file_and_a_notebook(tmp_path, notebook):
    fit(plot=LivePlot(path=tmp_path / "a.png", min_interval=0))
    assert (len(notebook.shown), len(notebook.updated)) == (1, 2)
    assert imread(tmp_path / "a.png").shape == imread(io.BytesIO(notebook.updated[-1].data)).shape


def test_with_nowhere_to_draw_it_draws_nothing_and_explain_says_so(drawings, capsys):
    net = fit()
    assert net.n_iter_ == 3
    assert drawings == []
    assert capsys.readouterr() == ("", "")
    assert any("nowhere to draw" in warning for warning in explain(net).warnings)


def test_explain_says_nothing_of_it_where_there_is_somewhere(notebook):
    net = make_net(callbacks=[LivePlot()])
    assert not any("nowhere" in warning for warning in explain(net).warnings)


def test_explain_says_nothing_of_it_where_there_is_a_path():
    net = make_net(callbacks=[LivePlot(path="a.png")])
    assert not any("nowhere" in warning for warning in explain(net).warnings)


# ------------------------------------------------------------------ only watching


def test_the_trained_weights_are_the_same_bits(notebook):
    with_it, without = fit(), make_net().fit(X, Y, **VALID)
    assert same_weights(*(weights_of(net.model_.module_) for net in (with_it, without)))


def test_pyplot_is_left_alone(notebook, monkeypatch):
    before = pyplot.get_fignums()
    fit()
    assert pyplot.get_fignums() == before


ENDS = [
    ("on_begin", CancelFitException, -1000),
    ("on_begin", OSError, -1000),
    ("on_begin", OSError, 1000),
    ("on_batch_begin", CancelBatchException, 0),
    ("on_batch_valid_end", OSError, 0),
    ("on_batch_end", KeyboardInterrupt, 0),
    ("on_epoch_end", OSError, 1000),
]


@pytest.mark.parametrize(("stage", "error", "order"), ENDS)
def test_however_a_fit_ends_no_figure_is_kept(stage, error, order, notebook):
    seen = Log()

    class Look(FailingCallback):
        order = 2000

        def on_exit(self, ctx):
            seen.append(pickle.loads(pickle.dumps(ctx.callbacks["live_plot"])))

    class Failing(FailingCallback):
        pass

    Failing.order = order
    fails = error in (OSError, KeyboardInterrupt)
    with pytest.raises(error) if fails else nullcontext() as caught:
        fit(Look("nowhere"), Failing(stage, error))
    notes = getattr(caught.value, "__notes__", ()) if fails else ()
    assert not any("failed too" in note for note in notes)
    assert not [name for name in ("_figure", "_lines", "_handle") if name in vars(seen[0])]


def test_it_can_be_pickled_and_copied_after_a_fit(notebook):
    net = fit()
    for copied in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert (copied.predict(X) == net.predict(X)).all()


# -------------------------------------------------------------------------- errors

ARGUMENTS = [
    ({"columns": "train_los"}, "LivePlot monitors 'train_los'.*Did you mean 'train_loss'"),
    ({"columns": ["train_loss", "valid_r2"]}, "'valid_r2', which nothing in this fit records"),
    ({"columns": []}, r"'columns' parameter of LivePlot must name one or more.*Got \[\]"),
    ({"columns": [1]}, r"'columns' parameter of LivePlot must name.*Got \[1\]"),
    ({"columns": 3}, "'columns' parameter of LivePlot .* Got 3"),
    ({"every": 0}, "'every' parameter of LivePlot .* Got 0"),
    ({"min_interval": -1}, "'min_interval' parameter of LivePlot .* Got -1"),
    ({"path": 3}, "'path' parameter of LivePlot .* Got 3"),
    ({"path": "plot.xyz"}, r"`path` of LivePlot .*'plot.xyz': it must end in one of .*png"),
    ({"path": "plot"}, r"`path` of LivePlot .*'plot': it must end in one of"),
    ({"path": lambda ctx: None}, r"`path` of LivePlot .*None"),
    ({"path": __file__ + "/a.png"}, r"`path` of LivePlot must be an image file"),
]


@pytest.mark.parametrize(("params", "message"), ARGUMENTS)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    batches = []

    class Count(Callback):
        def on_batch_begin(self, ctx):
            batches.append(1)

    net = make_net(callbacks=[LivePlot(**params), Count()])
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y, **VALID)
    assert batches == []


def test_a_column_of_validation_without_validation_data_is_an_error():
    with pytest.raises(ParameterError, match="no validation data"):
        make_net(callbacks=[LivePlot(["valid_loss"])]).fit(X, Y)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"LivePlot needs .*'matplotlib'.*skorchlike\[plot\]"):
        fit()
