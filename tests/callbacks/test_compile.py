"""Compilation: the same fit by graphs, and a plain model afterwards."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import warnings
import weakref
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from doubles import (
    FailingCallback,
    Linear,
    Log,
    RecordingCallback,
    make_data,
    same_weights,
    weights_of,
)
from torch import nn

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelFitException,
    Compile,
    NeuralNetClassifier,
)

X, Y = make_data(n=22, n_features=4)
VALID = {"X_val": X[:5], "y_val": Y[:5]}


class Net(nn.Module):
    """Not a torch.nn.Sequential, and other in training; in double precision."""

    def __init__(self, n_features_in, n_outputs, width=6):
        super().__init__()
        # no bias: before a batch norm its gradient would be nothing but rounding
        self.first = nn.Linear(n_features_in, width, bias=False)
        self.norm = nn.BatchNorm1d(width)
        self.second = nn.Linear(width, n_outputs)
        self.double()

    def forward(self, x):
        return self.second(torch.tanh(self.norm(self.first(x))))


class Backend:
    """A backend of torch.compile that keeps the graphs it was given, and runs them as they are."""

    def __init__(self):
        self.graphs = []
        self.n_calls = 0

    def __deepcopy__(self, memo):
        return self

    def __call__(self, graph, inputs):
        self.graphs.append(graph)

        def run(*args):
            self.n_calls += 1
            return graph.forward(*args)

        return run


@pytest.fixture
def backend():
    torch._dynamo.reset()
    yield Backend()
    torch._dynamo.reset()


def make_net(*callbacks, module=Net, **params):
    fixed = {"batch_size": 8, "max_epochs": 3, "lr": 0.05, "random_state": 0}
    return NeuralNetClassifier(module, callbacks=list(callbacks), **{**fixed, **params})


def assert_close(net, other, tolerance=1e-12):
    got, expected = (weights_of(n.model_.module_) for n in (net, other))
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------- the same fit


@pytest.mark.parametrize("what", ["module", "step"])
@pytest.mark.parametrize("name", ["eager", "aot_eager"])
@pytest.mark.parametrize("module", [Net, None], ids=["own", "built-in"])
def test_a_compiled_fit_is_the_plain_one(what, name, module):
    compiled = make_net(Compile(what, backend=name), module=module).fit(X, Y, **VALID)
    plain = make_net(module=module).fit(X, Y, **VALID)
    assert_close(compiled, plain)
    np.testing.assert_allclose(compiled.loss_curve_, plain.loss_curve_, rtol=1e-12)
    np.testing.assert_allclose(compiled.predict_proba(X), plain.predict_proba(X), rtol=1e-12)
    for column in ("valid_loss", "valid_accuracy"):
        np.testing.assert_allclose(compiled.history_[column], plain.history_[column], rtol=1e-12)


OPTIMIZERS = [
    ({"optimizer": "sgd", "optimizer__momentum": 0.9, "optimizer__fused": False}, 1e-12),
    ({"optimizer": "rmsprop"}, 1e-12),
    # compiled, torch corrects the bias of its averages in single precision
    ({"optimizer": "adamw", "optimizer__fused": False}, 1e-4),
]


@pytest.mark.parametrize(("optimizer", "tolerance"), OPTIMIZERS)
def test_a_compiled_optimizer_takes_the_plain_steps(optimizer, tolerance, backend):
    options = {**optimizer, "batch_size": 11}
    compiled = make_net(Compile("step", backend=backend), **options).fit(X, Y)
    assert_close(compiled, make_net(**options).fit(X, Y), tolerance)
    assert len(backend.graphs) >= 3


def test_with_step_module_criterion_and_optimizer_are_graphs(backend):
    make_net(
        Compile("step", backend=backend), optimizer="sgd", optimizer__fused=False, batch_size=22
    ).fit(X, Y)
    code = [graph.code for graph in backend.graphs]
    assert sum("tanh" in c for c in code) == 1
    assert sum("cross_entropy" in c for c in code) == 1
    assert sum("alpha = -0.05" in c for c in code) == 1
    # three epochs of one batch: each is run three times
    assert backend.n_calls == 3 * len(backend.graphs) == 9


def test_sample_weights_work_where_all_is_compiled():
    weights = np.linspace(0.1, 2, len(X))
    compiled = make_net(Compile("step", backend="eager")).fit(X, Y, weights)
    assert_close(compiled, make_net().fit(X, Y, weights))


def test_all_stages_run_as_without_it():
    def events(*callbacks):
        log = Log()
        make_net(*callbacks, RecordingCallback(log), max_epochs=2).fit(X, Y, **VALID)
        return log

    assert events(Compile("step", backend="eager")) == events()


def test_torchs_schedulers_work_with_a_compiled_step():
    class Schedule(Callback):
        order = 30

        def on_begin(self, ctx):
            self.scheduler = torch.optim.lr_scheduler.ExponentialLR(ctx.optimizer, 0.9)

        def on_after_step(self, ctx):
            self.scheduler.step()

    options = {"optimizer": "sgd", "optimizer__fused": False, "batch_size": 11, "module": Linear}
    compiled = make_net(Compile("step", backend="eager"), Schedule(), **options).fit(X, Y)
    assert_close(compiled, make_net(Schedule(), **options).fit(X, Y))
    assert compiled.history_["lr"].iloc[-1] == pytest.approx(0.05 * 0.9**6)


# -------------------------------------------------------------------------- graphs


def test_a_graph_is_made_for_training_for_a_smaller_last_batch_and_for_validation(backend):
    make_net(Compile(backend=backend), max_epochs=5).fit(X, Y, **VALID)
    assert len(backend.graphs) == 3
    # 3 training batches and one for validation an epoch
    assert backend.n_calls == 5 * 4


def test_with_dynamic_one_graph_serves_batches_of_any_size(backend):
    make_net(Compile(backend=backend, dynamic=np.True_), max_epochs=5).fit(X, Y)
    assert len(backend.graphs) == 1


def test_without_dynamic_each_size_has_its_own(backend):
    make_net(Compile(backend=backend, dynamic=False)).fit(X, Y)
    make_net(Compile(backend=backend, dynamic=False), batch_size=5).fit(X, Y)
    assert len(backend.graphs) == 4  # of 8, 6, 5 and 2 rows


@pytest.mark.parametrize("module", [None, Net], ids=["built-in", "own"])
def test_fits_of_like_modules_share_their_graphs(module, backend):
    fits = [make_net(Compile(backend=backend), module=module).fit(X, Y) for _ in range(3)]
    assert len(backend.graphs) == 2
    assert backend.n_calls == 3 * 9
    assert all(same_weights(*(weights_of(f.model_.module_) for f in (fits[0], g))) for g in fits)


def test_a_search_over_many_architectures_compiles_each(backend, monkeypatch):
    monkeypatch.setattr("skorchlike.callbacks.compile.MOST_GRAPHS", 4)
    n_graphs = []
    for n in range(1, 8):
        net = make_net(Compile(backend=backend), module=Linear, batch_size=-1)
        net.fit(np.repeat(X[:, :1], n, axis=1), Y)
        n_graphs.append(len(backend.graphs))
    assert n_graphs == list(range(1, 8))


def test_fits_of_one_module_in_many_ways_are_all_compiled(backend):
    """torch's own limit is 8 graphs."""

    class Freeze(Callback):
        def __init__(self, frozen):
            self.frozen = frozen

        def on_begin(self, ctx):
            for part, name in enumerate(("weight", "bias")):
                getattr(ctx.module, name).requires_grad_(part not in self.frozen)

    for dynamic_size in (6, 7, 8, 9, 10):
        for frozen in ((), (0,)):
            net = make_net(Compile(backend=backend, dynamic=False), Freeze(frozen), module=Linear)
            net.set_params(batch_size=-1, max_epochs=1).fit(X[:dynamic_size], Y[:dynamic_size])
    assert len(backend.graphs) == backend.n_calls == 10


def test_a_new_learning_rate_in_each_step_needs_no_new_graphs(backend):
    class Change(Callback):
        def on_before_step(self, ctx):
            ctx.optimizer.param_groups[0]["lr"] = 0.1 / ctx.global_step

    options = {"optimizer": "sgd", "optimizer__fused": False, "batch_size": 11, "module": Linear}
    numbers = []
    for n_epochs in (3, 30):
        torch._dynamo.reset()
        own = Backend()
        make_net(Compile("step", backend=own), Change(), max_epochs=n_epochs, **options).fit(X, Y)
        numbers.append(len(own.graphs))
    assert numbers[0] == numbers[1] < 6


def test_the_optimizer_of_each_of_many_fits_is_compiled(backend):
    options = {"optimizer": "sgd", "optimizer__fused": False, "batch_size": -1, "max_epochs": 1}
    for n in range(1, 11):
        make_net(Compile("step", backend=backend), module=Linear, **options).fit(X, Y)
        assert sum("alpha = -0.05" in graph.code for graph in backend.graphs) == n


def test_a_fused_optimizer_is_left_as_it_is():
    seen = Log()

    class Look(Callback):
        def on_batch_begin(self, ctx):
            seen.append("step" in vars(ctx.optimizer))

    for fused in (True, False):
        options = {"optimizer": "adam", "optimizer__fused": fused}
        net = make_net(Compile("step", backend="eager"), Look(), batch_size=-1, **options)
        net.set_params(max_epochs=1).fit(X, Y)
    assert seen == [False, True]


def test_hooks_that_are_set_and_removed_during_the_fit_are_called(backend):
    calls = Log()

    class HookInSecondEpoch(Callback):
        def on_epoch_begin(self, ctx):
            if ctx.epoch == 2:

                def hook(*_):
                    calls.append(ctx.epoch)

                self.handle = ctx.module.first.register_forward_hook(hook)
            elif ctx.epoch == 3:
                self.handle.remove()
                del self.handle

    net = make_net(Compile(backend=backend), HookInSecondEpoch(), max_epochs=4, batch_size=11)
    net.fit(X, Y)
    assert calls == [2, 2]


def test_the_loss_of_each_batch_is_memory_of_its_own():
    """CUDA graphs give the same memory each time, as this backend does."""
    outputs = {}

    def reuse(graph, inputs):
        def run(*args):
            result = graph.forward(*args)
            if isinstance(result[0], torch.Tensor) and result[0].ndim == 0:
                kept = outputs.setdefault("loss", torch.zeros_like(result[0]))
                with torch.no_grad():
                    kept.copy_(result[0])
                return (kept,)
            return result

        return run

    torch._dynamo.reset()
    net = make_net(Compile("step", backend=reuse), max_epochs=1, batch_size=5)
    # validation has no graph to keep, so its losses may be overwritten
    net.fit(X, Y, X_val=X, y_val=Y, callbacks=[_NoTraining()])
    net.set_params(predict_batch_size=7).fit(X, Y, X_val=X, y_val=Y, callbacks=[_NoTraining()])
    torch._dynamo.reset()
    plain = make_net(max_epochs=1, batch_size=5, predict_batch_size=7)
    plain.fit(X, Y, X_val=X, y_val=Y, callbacks=[_NoTraining()])
    assert net.history_["valid_loss"][0] == pytest.approx(plain.history_["valid_loss"][0])


class _NoTraining(Callback):
    def on_batch_begin(self, ctx):
        raise CancelBatchException


# ---------------------------------------------------------------------- afterwards


def is_plain(module):
    return module._compiled_call_impl is None and "_compiled_call_impl" not in vars(module)


def test_the_fitted_model_is_plain(backend):
    net = make_net(Compile("step", backend=backend)).fit(X, Y)
    assert is_plain(net.model_.module_)
    assert is_plain(net.model_.criterion_)
    assert list(net.model_.module_.state_dict()) == list(Net(4, 2).state_dict())
    n_calls = backend.n_calls
    predicted = net.predict_proba(X)
    assert backend.n_calls == n_calls
    for copied in (pickle.loads(pickle.dumps(net.model_)), copy.deepcopy(net.model_)):
        assert same_weights(weights_of(copied.module_), weights_of(net.model_.module_))
    assert predicted.shape == (22, 2)


ENDS = [
    ("on_begin", CancelFitException, -100),
    ("on_begin", OSError, -100),
    ("on_begin", OSError, 100),
    ("on_batch_end", CancelFitException, 0),
    ("on_after_loss", OSError, 0),
    ("on_batch_valid_end", OSError, 0),
    ("on_batch_end", KeyboardInterrupt, 0),
]


@pytest.mark.parametrize(("stage", "error", "order"), ENDS)
def test_however_a_fit_ends_all_is_plain_again(stage, error, order):
    parts = Log()
    config, filters = torch._dynamo.config.skip_nnmodule_hook_guards, [*warnings.filters]

    class Keep(Callback):
        order = -1000

        def on_begin(self, ctx):
            parts.extend([ctx.module, ctx.criterion, ctx.optimizer])

    class Failing(FailingCallback):
        pass

    Failing.order = order
    options = {"optimizer": "sgd", "optimizer__fused": False, "batch_size": -1, "module": Linear}
    net = make_net(Keep(), Compile("step", backend="eager"), Failing(stage, error), **options)
    fails = error in (OSError, KeyboardInterrupt)
    with pytest.raises(error) if fails else nullcontext() as caught:
        net.fit(X, Y, **VALID)
    notes = getattr(caught.value, "__notes__", ()) if fails else ()
    assert not any("failed too" in note for note in notes)
    module, criterion, optimizer = parts
    assert is_plain(module)
    assert is_plain(criterion)
    assert "step" not in vars(optimizer)
    assert torch._dynamo.config.skip_nnmodule_hook_guards is config
    assert warnings.filters == filters


def test_no_module_is_kept_alive():
    net = make_net(Compile("step", backend="eager")).fit(X, Y)
    kept = weakref.ref(net.model_.module_)
    del net
    gc.collect()
    assert kept() is None


def test_a_view_of_the_estimator_in_training_can_be_pickled():
    pickled = Log()

    class Save(Callback):
        def on_epoch_end(self, ctx):
            pickled.append(pickle.dumps(ctx.fitted_estimator().model_.module_))

    net = make_net(Compile(backend="eager"), Save()).fit(X, Y)
    last = pickle.loads(pickled[-1])
    assert same_weights(weights_of(last), weights_of(net.model_.module_))


def test_a_fit_that_is_continued_is_the_plain_one():
    compiled = make_net(Compile(backend="eager"), warm_start=True).fit(X, Y).fit(X, Y)
    plain = make_net(warm_start=True).fit(X, Y).fit(X, Y)
    assert_close(compiled.partial_fit(X, Y), plain.partial_fit(X, Y))


# -------------------------------------------------------------------------- errors


def test_an_error_of_compilation_says_who_wanted_it_and_what_to_do():
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    with pytest.raises(RuntimeError, match="no compiler here") as caught:
        make_net(Compile(backend=broken)).fit(X, Y)
    note = next(n for n in caught.value.__notes__ if "Compile" in n)
    assert "of the module" in note
    assert "'aot_eager'" in note
    assert any("do_predict, epoch 1, batch 1" in n for n in caught.value.__notes__)


class Breaks(Net):
    """Has what cannot be in one graph."""

    def forward(self, x):
        torch._dynamo.graph_break()
        return super().forward(x)


def test_what_does_not_fit_into_one_graph_is_an_error_only_with_fullgraph():
    compiled = make_net(Compile(backend="eager"), module=Breaks).fit(X, Y)
    assert_close(compiled, make_net(module=Breaks).fit(X, Y))
    with pytest.raises(RuntimeError, match="graph break") as caught:
        make_net(Compile(backend="eager", fullgraph=True), module=Breaks).fit(X, Y)
    assert any("try fullgraph=False" in note for note in caught.value.__notes__)


def test_an_error_of_the_module_stays_what_it_is():
    class Raises(Net):
        def forward(self, x):
            raise KeyError("of its own")

    with pytest.raises(KeyError, match="of its own") as caught:
        make_net(Compile(backend="eager"), module=Raises).fit(X, Y)
    assert not any("torch.compile" in note for note in caught.value.__notes__)


ARGUMENTS = [
    ({"what": "all"}, "'what' parameter of Compile .*'module'.* Got 'all'"),
    ({"backend": "indctor"}, "'backend' parameter of Compile.*Did you mean 'inductor'"),
    ({"backend": None}, "'backend' parameter of Compile .* Got None"),
    ({"mode": "fastest"}, "'mode' parameter of Compile .* Got 'fastest'"),
    ({"mode": "max-autotune", "backend": "eager"}, "'mode' .*for backend='inductor' alone"),
    ({"dynamic": "yes"}, "'dynamic' parameter of Compile .* Got 'yes'"),
    ({"fullgraph": None}, "'fullgraph' parameter of Compile .* Got None"),
    ({"what": math.nan}, "'what' parameter of Compile"),
]


@pytest.mark.parametrize(("params", "message"), ARGUMENTS)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    net = make_net(Compile(**params))
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert not hasattr(net, "model_")


# ------------------------------------------------------------------------ for real


@pytest.mark.slow
@pytest.mark.parametrize("what", ["module", "step"])
def test_inductor_makes_code_that_trains_the_same(what):
    options = {"optimizer": "adam", "optimizer__fused": False}
    compiled = make_net(Compile(what), **options).fit(X, Y, **VALID)
    assert_close(compiled, make_net(**options).fit(X, Y, **VALID), 1e-4)
    assert is_plain(compiled.model_.module_)
