"""The table printed at the first batch."""

from __future__ import annotations

import copy
import pickle
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from doubles import FailingCallback, Log, make_data, make_net, same_weights, weights_of
from torch import nn

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelFitException,
    Compile,
    NeuralNetClassifier,
    Summary,
)
from skorchlike.modules.layers import LayerRecorder

X, Y = make_data(n=22, n_features=4)
HEAD = "output shape  parameters"


class Net(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.calls = Log()
        self.block = nn.Sequential(nn.Linear(n_features_in, 5), nn.Dropout(0.5), nn.ReLU())
        self.out = nn.Linear(5, n_outputs)
        self.double()

    def forward(self, x):
        self.calls.append(len(x))
        return self.out(self.block(x))


def fit(*callbacks, **params):
    return make_net(module=Net, batch_size=8, callbacks=[*callbacks], **params).fit(X, Y)


def hooks_of(module):
    return [h for m in module.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]


def test_it_prints_the_table_of_the_first_batch_once(capsys):
    net = fit(Summary())
    lines = capsys.readouterr().out.splitlines()
    assert sum(HEAD in line for line in lines) == 1
    assert lines == repr(net.model_.callbacks_.summary).splitlines()
    rows = [line.split() for line in lines[2:6]]
    assert rows == [
        ["block.0", "Linear", "(8,", "5)", "25", str(8 * 4 * 5)],
        ["block.1", "Dropout", "(8,", "5)", "0", "0"],
        ["block.2", "ReLU", "(8,", "5)", "0", "0"],
        ["out", "Linear", "(8,", "2)", "12", str(8 * 5 * 2)],
    ]
    assert "Multiply-adds: 240 for 8 rows" in lines


def test_it_costs_no_further_pass(capsys):
    with_it, without = fit(Summary()), fit()
    assert with_it.model_.module_.calls == without.model_.module_.calls == [8, 8, 6] * 3


def test_the_trained_weights_are_the_same_bits(capsys):
    with_it, without = fit(Summary()), fit()
    assert same_weights(weights_of(with_it.model_.module_), weights_of(without.model_.module_))


def test_depth_is_that_of_the_table(capsys):
    net = fit(Summary(depth=1))
    assert [layer.name for layer in net.model_.callbacks_.summary.layers] == ["block", "out"]
    deep = net.set_params(callbacks__summary__depth=None).fit(X, Y)
    assert len(deep.model_.callbacks_.summary.layers) == 4


def test_a_continued_fit_keeps_the_table_and_prints_no_other(capsys):
    net = fit(Summary(), warm_start=True)
    table = net.model_.callbacks_.summary
    capsys.readouterr()
    net.fit(X, Y).partial_fit(X, Y)
    assert capsys.readouterr().out == ""
    assert net.model_.callbacks_.summary == table


def test_a_first_batch_that_is_cancelled_leaves_it_to_the_next(capsys):
    class Cancel(FailingCallback):
        order = 70

    net = fit(Cancel("on_batch_begin", CancelBatchException, epoch=1, step=1))
    assert capsys.readouterr().out == ""
    for stage in ("on_batch_begin", "on_after_predict"):
        net = fit(Summary(), Cancel(stage, CancelBatchException, epoch=1, step=1))
        assert capsys.readouterr().out.count(HEAD) == 1
        assert net.model_.callbacks_.summary.n_rows == 8


def test_without_a_batch_there_is_no_table(capsys):
    net = fit(FailingCallback("on_batch_begin", CancelBatchException), Summary())
    assert "summary" not in net.model_.callbacks_
    assert capsys.readouterr().out == ""
    earlier = FailingCallback("on_begin", CancelFitException)
    assert "summary" not in fit(earlier, Summary()).model_.callbacks_


@pytest.mark.parametrize("stage", ["on_batch_begin", "on_after_predict", "on_batch_end"])
@pytest.mark.parametrize("error", [CancelFitException, OSError, KeyboardInterrupt])
@pytest.mark.parametrize("order", [-1, 100])
def test_however_a_fit_ends_nothing_is_watched_any_more(stage, error, order, capsys):
    modules = Log()

    class Keep(Callback):
        def on_begin(self, ctx):
            modules.append(ctx.module)

    class Failing(FailingCallback):
        pass

    Failing.order = order
    fails = error is not CancelFitException
    with pytest.raises(error) if fails else nullcontext():
        fit(Keep(), Summary(), Failing(stage, error))
    assert hooks_of(modules[0]) == []
    # a mode left open would count this
    with LayerRecorder(modules[0]) as recorder:
        modules[0](torch.from_numpy(X))
    assert recorder.table().multiply_adds == len(X) * 30


def test_an_error_in_the_forward_pass_leaves_nothing_behind(capsys):
    class Broken(Net):
        def forward(self, x):
            self.block(x)
            raise OSError("own")

    module = Broken(4, 2)
    with pytest.raises(OSError, match="own"):
        make_net(module=module, callbacks=[Summary()]).fit(X, Y)
    assert hooks_of(module) == []
    assert torch.overrides._get_current_function_mode_stack() == []
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


def test_modules_with_several_outputs(capsys):
    class Two(Net):
        def forward(self, x):
            code = self.block(x)
            return self.out(code), code

    class First(NeuralNetClassifier):
        def do_predict(self, ctx):
            ctx.y_pred, _ = ctx.module(ctx.X)

    net = First(Two, batch_size=10, max_epochs=1, callbacks=[Summary(depth=0)]).fit(X, Y)
    assert net.model_.callbacks_.summary.layers[0].output_shape == [(10, 2), (10, 5)]


def test_it_shows_what_a_compiled_module_computes(capsys):
    compiled = fit(Summary(), Compile(backend="eager")).model_.callbacks_.summary
    assert compiled == fit(Summary()).model_.callbacks_.summary


def test_one_row_and_float32(capsys):
    net = NeuralNetClassifier(max_epochs=1, callbacks=[Summary()], random_state=0)
    net.fit(X[:1].astype("float32"), Y[:1])
    table = net.model_.callbacks_.summary
    assert table.n_rows == 1
    assert table.n_bytes == 4 * table.parameters


def test_a_fitted_model_can_be_pickled_and_copied(capsys):
    net = fit(Summary())
    for copied in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert copied.model_.callbacks_.summary == net.model_.callbacks_.summary
        np.testing.assert_array_equal(copied.predict(X), net.predict(X))


ARGUMENTS = [
    ({"depth": -1}, r"'depth' parameter of Summary .* Got -1"),
    ({"depth": 1.5}, r"'depth' parameter of Summary .* Got 1.5"),
    ({"depth": "all"}, r"'depth' parameter of Summary .* Got 'all'"),
]


@pytest.mark.parametrize(("params", "message"), ARGUMENTS)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    with pytest.raises(ValueError, match=message):
        fit(Summary(**params))
