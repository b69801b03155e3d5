"""Statistics of activations, against NumPy on the outputs that hooks placed by hand see."""

from __future__ import annotations

import copy
import pickle
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from doubles import FailingCallback, Log, make_data, make_net, same_weights, weights_of
from torch import nn

from skorchlike import (
    ActivationStats,
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    Compile,
    NaNGuard,
)
from skorchlike.callbacks.tools.activation_records import measure

X, Y = make_data(n=22)  # six training batches of four, the last of two


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(5, 2)

    def forward(self, X):
        return self.head(self.body(X))


LEAVES = ["body.0", "body.1", "body.2", "head"]


class Outputs(Callback):
    """Copy what layers put out in training, by hooks of its own."""

    def __init__(self, log, names):
        self.log = log
        self.names = names

    def on_batch_begin(self, ctx):
        parts = dict(ctx.module.named_modules())
        self.handles = [
            parts[name].register_forward_hook(self.hook(name, ctx)) for name in self.names
        ]

    def hook(self, name, ctx):
        def copy_output(part, inputs, output):
            at = (name, ctx.epoch, ctx.step, ctx.global_step)
            self.log.append((*at, output.detach().numpy().copy()))

        return copy_output

    def on_batch_exit(self, ctx):
        for handle in getattr(self, "handles", []):
            handle.remove()


def fit(*callbacks, **params):
    said = {"module": Net, "dtype": "float64", **params}
    return make_net(callbacks=list(callbacks), **said).fit(X, Y, X_val=X, y_val=Y)


def stats_of(*callbacks, **params):
    return fit(*callbacks, **params).model_.callbacks_.activation_stats


# --------------------------------------------------------------- what is recorded


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_is_that_of_numpy(dtype):
    log = Log()
    callbacks = [Outputs(log, LEAVES), ActivationStats(dead_threshold=0.1)]
    stats = stats_of(*callbacks, dtype=dtype)
    records = stats.records
    assert len(records) == len(log) == 3 * 6 * 4
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    for row, (*at, output) in zip(records.itertuples(index=False), log, strict=True):
        assert [row.layer, row.epoch, row.step, row.global_step] == at
        near = np.abs(output) <= 0.1
        by_hand = [output.mean(), output.std(), near.mean(), near.all(axis=0).mean()]
        got = [row.mean, row.std, row.near_zero, row.dead]
        np.testing.assert_allclose(got, by_hand, rtol=tolerance, atol=tolerance)


def test_histograms_are_shares_of_the_outputs_by_bin():
    log = Log()
    stats = stats_of(Outputs(log, ["head"]), ActivationStats("head", n_bins=8))
    assert stats.edges.shape == (9,)
    assert stats.edges[[0, -1]] == pytest.approx([-100, 100])
    assert (np.diff(stats.edges) > 0).all()
    by_hand = [np.histogram(out, stats.edges)[0] / out.size for *_, out in log]
    np.testing.assert_allclose(stats.histograms["head"], by_hand, rtol=1e-6)
    assert stats.histograms["head"].shape == (18, 8)


def test_outputs_beyond_the_bins_are_in_the_outermost_and_nan_is_in_none():
    values = torch.tensor([[-1e30, -1e3, 0.0, 99.0, 1e4, np.inf, -np.inf, np.nan]])
    shares = measure(values, 4, 0.0)[4:]
    np.testing.assert_allclose(shares, np.array([3, 0, 1, 3]) / 8)


def test_a_dead_unit_is_one_that_is_near_zero_in_all_rows():
    output = torch.tensor([[0.0, 0.0, 1.0, 0.0], [0.0, 2.0, 0.0, 1e-9]])
    near_zero, dead = measure(output, 2, 1e-6)[2:4]
    assert near_zero.item() == 6 / 8
    assert dead.item() == 2 / 4


def test_a_unit_of_a_convolution_is_a_channel_at_a_place():
    output = torch.zeros(3, 2, 4, 4)
    output[1, 0, 2, 3] = 1
    assert measure(output, 2, 0.0)[3].item() == pytest.approx(31 / 32)


@pytest.mark.parametrize("shape", [(4,), (1, 3), (5, 1), ()])
def test_outputs_of_any_shape_are_measured(shape):
    assert torch.isfinite(measure(torch.ones(shape), 2, 0.0)).all()


def test_half_precision_is_measured_in_single():
    output = torch.full((3, 1000), 60000.0, dtype=torch.float16)
    assert measure(output, 2, 0.0)[0].item() == 60000
    assert measure(output.bfloat16(), 2, 0.0).dtype == torch.float32


def test_of_very_many_outputs_the_histogram_is_of_the_first_rows():
    output = torch.arange(2**10, dtype=torch.float32).repeat(100, 1) / 20
    output[64:] = 1e6
    statistics = measure(output, 10, 0.0)
    assert torch.equal(statistics[4:], measure(output[:64], 10, 0.0)[4:])
    assert statistics[0].item() == pytest.approx(output.mean().item())


def test_a_row_of_very_many_outputs_is_measured_whole():
    output = torch.cat([torch.zeros(1, 2**16), torch.full((1, 2**16), 99.0)], 1)
    np.testing.assert_allclose(measure(output, 2, 0.0)[4:], [0, 1])
    np.testing.assert_allclose(measure(output, 3, 0.0)[4:], [0, 0.5, 0.5])


# ----------------------------------------------------------------- which layers


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ("*", LEAVES),
        ("body.*", LEAVES[:3]),
        ("body", ["body"]),
        (["head", "body.1"], ["body.1", "head"]),
        (["body", "*d"], ["body", "head"]),
        ("", [""]),
        (lambda name: "b" in name, LEAVES[:3]),
    ],
)
def test_patterns_choose_layers_without_submodules_and_names_any(patterns, names):
    stats = stats_of(ActivationStats(patterns), max_epochs=1, batch_size=22)
    assert stats.records["layer"].tolist() == names
    assert list(stats.histograms) == names


def test_a_module_that_is_one_layer_is_recorded():
    stats = stats_of(ActivationStats(), module=nn.Linear(3, 2), max_epochs=1)
    assert set(stats.records["layer"]) == {""}


def test_patterns_that_match_nothing_warn():
    with pytest.warns(UserWarning, match="'haed' matches no layer. Did you mean 'head'"):
        stats = stats_of(ActivationStats("haed"))
    assert len(stats.records) == 0
    with pytest.raises(ValueError, match="nothing to plot"):
        stats.plot()


def test_of_several_outputs_the_first_tensor_counts_and_of_several_calls_the_first():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.LSTM(3, 4, batch_first=True)
            self.twice = nn.Linear(4, 4)
            self.labels = Labels()
            self.head = nn.Linear(4, 2)

        def forward(self, X):
            hidden = self.cell(X[:, None])[0][:, 0]
            self.labels(hidden)
            return self.head(self.twice(self.twice(hidden)))

    class Labels(nn.Module):
        def forward(self, X):
            return X.argmax(1)

    stats = stats_of(ActivationStats(), module=Recurrent, max_epochs=1, batch_size=22)
    assert stats.records["layer"].tolist() == ["cell", "twice", "head"]


# ---------------------------------------------------------------- which batches


def test_every_so_many_batches_are_recorded_over_all_epochs():
    stats = stats_of(ActivationStats("head", every=4))
    assert stats.records["global_step"].tolist() == [1, 5, 9, 13, 17]
    assert stats.records["epoch"].tolist() == [1, 1, 2, 3, 3]
    assert stats.records["step"].tolist() == [1, 5, 3, 1, 5]


@pytest.mark.parametrize(
    ("most", "every", "kept"),
    [
        (18, 1, range(1, 19)),
        (17, 1, range(1, 19, 2)),
        (9, 1, range(1, 19, 2)),
        (8, 1, range(1, 19, 4)),
        (2, 1, (1, 17)),
        (3, 3, (1, 7, 13)),
    ],
)
@pytest.mark.parametrize("in_one_epoch", [False, True])
def test_above_the_bound_every_second_batch_is_dropped(most, every, kept, in_one_epoch):
    net = make_net(
        module=Net, dtype="float64", callbacks=[ActivationStats("head", every, max_records=most)]
    )
    if in_one_epoch:
        net.set_params(max_epochs=1, batch_size=1).fit(X[:18], Y[:18])
    else:
        net.fit(X, Y)
    stats = net.model_.callbacks_.activation_stats
    assert stats.records["global_step"].tolist() == list(kept)
    assert stats.stride == kept[1] - kept[0]
    assert len(stats.histograms["head"]) == len(kept)


def test_validation_and_passes_beside_the_batches_are_not_recorded():
    class Predicts(Callback):
        order = 500

        def on_batch_end(self, ctx):
            ctx.module(ctx.X * 1e9)

        def on_epoch_end(self, ctx):
            ctx.fitted_estimator().predict(X)

    stats = stats_of(Predicts(), ActivationStats("head"), max_epochs=1)
    assert len(stats.records) == 6
    assert stats.records["std"].max() < 1e3


def test_a_continued_fit_goes_on_where_the_first_ended():
    once = stats_of(ActivationStats(every=4), max_epochs=4, shuffle=False)
    net = fit(ActivationStats(every=4), max_epochs=2, warm_start=True, shuffle=False)
    again = pickle.loads(pickle.dumps(net)).fit(X, Y).model_.callbacks_.activation_stats
    assert again.records.equals(once.records)
    assert (again.shares == once.shares).all()


def test_a_continued_fit_records_as_rarely_as_it_is_told():
    net = fit(ActivationStats("head"), max_epochs=1, warm_start=True)
    net.set_params(callbacks__activation_stats__every=5).fit(X, Y)
    steps = net.model_.callbacks_.activation_stats.records["global_step"]
    assert steps.tolist() == [1, 2, 3, 4, 5, 6, 11]


def test_with_other_bins_a_continued_fit_begins_anew_and_says_so():
    net = fit(ActivationStats(n_bins=4), max_epochs=1, warm_start=True)
    net.set_params(callbacks__activation_stats__n_bins=6)
    with pytest.warns(UserWarning, match="starts afresh: .* has 4 bins and n_bins is 6"):
        net.fit(X, Y)
    assert net.model_.callbacks_.activation_stats.records["epoch"].unique().tolist() == [2]


# ------------------------------------------------------------- what it leaves


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_changes_no_bit_of_the_weights_nor_of_random_numbers(dtype):
    plain, watched = fit(dtype=dtype), fit(ActivationStats(), dtype=dtype)
    assert same_weights(weights_of(plain.model_.module_), weights_of(watched.model_.module_))
    assert plain.loss_curve_ == watched.loss_curve_
    rng = [net.model_.continuation_["rng"]["torch"] for net in (plain, watched)]
    assert torch.equal(*rng)


ENDS = [
    ("on_begin", CancelFitException),
    ("on_before_train", CancelEpochException),
    ("on_batch_begin", CancelBatchException),
    ("on_after_predict", CancelFitException),
    ("on_batch_end", CancelEpochException),
    ("on_before_train", OSError),
    ("on_after_predict", OSError),
    ("on_batch_end", KeyboardInterrupt),
    ("on_phase_exit", OSError),
]


@pytest.mark.parametrize(("stage", "error"), ENDS)
@pytest.mark.parametrize("order", [0, 1000])
def test_however_a_fit_ends_no_hook_is_left(stage, error, order):
    modules = Log()

    class Breaks(FailingCallback):
        def on_begin(self, ctx):
            modules.append(ctx.module)
            super().on_begin(ctx)

    Breaks.order = order
    fails = error in (OSError, KeyboardInterrupt)
    with pytest.raises(error) if fails else nullcontext():
        fit(Breaks(stage, error), ActivationStats())
    assert not any(part._forward_hooks for part in modules[0].modules())


def test_what_was_recorded_before_a_fit_was_cut_off_is_kept():
    stats = stats_of(
        FailingCallback("on_after_loss", CancelFitException, epoch=2, step=3), ActivationStats()
    )
    assert stats.records["global_step"].max() == 9


def test_layers_that_are_not_finite_are_recorded_as_they_are():
    class Bad(nn.Module):
        def forward(self, X):
            return X * float("nan")

    module = nn.Sequential(nn.Linear(3, 2), Bad())
    stats = stats_of(ActivationStats(), NaNGuard("stop"), module=module)
    table = stats.records.set_index("layer")
    assert np.isfinite(table["mean"]["0"])
    assert np.isnan(table["mean"]["1"])
    assert stats.histograms["1"].sum() == 0


@pytest.mark.filterwarnings("ignore::UserWarning")  # the compiler's own
def test_a_compiled_module_is_recorded_as_a_plain_one():
    params = {"max_epochs": 2, "batch_size": 11}
    plain = stats_of(ActivationStats(), **params)
    compiled = stats_of(Compile(backend="eager"), ActivationStats(), **params)
    assert compiled.records["layer"].tolist() == plain.records["layer"].tolist()
    for name in ("mean", "std", "near_zero", "dead"):
        np.testing.assert_allclose(compiled[name], plain[name], rtol=1e-9)


# --------------------------------------------------------------------- the object


def test_the_records_are_a_dict_that_can_be_pickled_and_copied():
    stats = stats_of(ActivationStats(n_bins=4))
    for again in (pickle.loads(pickle.dumps(stats)), copy.deepcopy(stats)):
        assert type(again) is type(stats)
        assert again.records.equals(stats.records)
        assert repr(again) == repr(stats)
    assert isinstance(stats, dict)
    assert stats["edges"] is stats.edges
    assert {"plot", "records", "histograms"} <= set(dir(stats))
    names = "'body.0', 'body.1', 'body.2', 'head'"
    assert repr(stats) == f"ActivationRecords(layers: {names}; batches: 18)"


@pytest.fixture
def pyplot(monkeypatch):
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_the_plot_shows_the_statistics_and_a_picture_of_each_layer(pyplot):
    stats = stats_of(ActivationStats())
    figure = stats.plot()
    figure.canvas.draw()
    mean, std, dead, *pictures = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    for ax, column in ((mean, "mean"), (std, "std"), (dead, "dead")):
        assert [line.get_label() for line in ax.lines] == LEAVES
        for line, name in zip(ax.lines, LEAVES, strict=True):
            rows = stats.records[stats.records["layer"] == name]
            np.testing.assert_array_equal(line.get_ydata(), rows[column])
            np.testing.assert_array_equal(line.get_xdata(), rows["global_step"])
    assert [ax.get_title() for ax in pictures] == LEAVES
    shown = pictures[3].collections[0].get_array()
    assert np.asarray(shown).sum() == pytest.approx(stats.histograms["head"].sum())


@pytest.mark.parametrize(
    ("layers", "titles"), [("head", ["head"]), (["body.*"], LEAVES[:3]), ("*.1", ["body.1"])]
)
def test_the_plot_shows_the_layers_that_are_asked_for(layers, titles, pyplot):
    figure = stats_of(ActivationStats(), max_epochs=1).plot(layers)
    axes = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    assert [ax.get_title() for ax in axes[3:]] == titles
    figure.canvas.draw()


def test_a_single_batch_and_a_layer_without_finite_outputs_can_be_plotted(pyplot):
    class Bad(nn.Module):
        def forward(self, X):
            return X * float("nan")

    module = nn.Sequential(nn.Linear(3, 2), Bad())
    stats = stats_of(ActivationStats(), NaNGuard("stop"), module=module)
    figure = stats.plot()
    figure.canvas.draw()
    assert {"0", "1"} <= {ax.get_title() for ax in figure.axes}


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    stats = stats_of(ActivationStats(), max_epochs=1)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"ActivationRecords.plot needs .*skorchlike\[plot\]"):
        stats.plot()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"patterns": 3}, r"'patterns' parameter of ActivationStats.*Got 3"),
        ({"patterns": [3]}, r"`patterns` parameter of ActivationStats.*Got \[3\]"),
        ({"every": 0}, r"'every' parameter of ActivationStats.*Got 0"),
        ({"n_bins": 1}, r"'n_bins' parameter of ActivationStats.*Got 1"),
        ({"dead_threshold": -1}, r"'dead_threshold' parameter of ActivationStats.*Got -1"),
        ({"max_records": 1.5}, r"'max_records' parameter of ActivationStats.*Got 1.5"),
    ],
)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    net = make_net(callbacks=[ActivationStats(**params)])
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert not hasattr(net, "model_")
