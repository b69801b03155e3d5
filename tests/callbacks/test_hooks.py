"""Functions called in forward and backward passes, against hooks placed by hand."""

from __future__ import annotations

import copy
import pickle
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from doubles import FailingCallback, Log, make_data, make_net, same_weights, weights_of
from sklearn.model_selection import GridSearchCV
from torch import nn

from skorchlike import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    Hooks,
    explain,
)

X, Y = make_data()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 5), nn.Tanh())
        self.head = nn.Linear(5, 2)

    def forward(self, X):
        return self.head(self.body(X))


NAMES = ["body.0", "body.1", "body", "head", ""]  # as their forward passes end


def fit(*callbacks, **params):
    said = {"module": Net, "max_epochs": 2, "dtype": "float64", "shuffle": False, **params}
    return make_net(callbacks=list(callbacks), **said).fit(X, Y, X_val=X, y_val=Y)


def hooks_left(module):
    return [
        name
        for name, part in module.named_modules()
        if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks
    ]


class Recorder:
    """A function for hooks that notes each call; all copies share the notes."""

    def __init__(self):
        self.calls = Log()

    def __deepcopy__(self, memo):
        return self

    def forward(self, name, module, inputs, output, ctx):
        where = ("train" if ctx.training else "valid", ctx.epoch, ctx.step)
        self.calls.append((where, name, type(module), inputs[0].clone(), output.clone()))

    def backward(self, name, module, grad_input, grad_output, ctx):
        where = ("train" if ctx.training else "valid", ctx.epoch, ctx.step)
        self.calls.append((where, name, type(module), grad_input, grad_output))

    def places(self):
        return [(where, name) for where, name, *_ in self.calls]


# ------------------------------------------------------------------- what is called


def batches(phase):
    n_steps = {"train": 2, "valid": 4}[phase]
    return [(phase, step + 1) for step in range(n_steps)]


@pytest.mark.parametrize(
    ("when", "phases"), [("train", ["train"]), ("valid", ["valid"]), ("both", ["train", "valid"])]
)
def test_forward_is_called_for_every_submodule_and_batch_of_the_phases(when, phases):
    recorder = Recorder()
    fit(Hooks(forward=recorder.forward, when=when))
    assert recorder.places() == [
        ((phase, epoch, step), name)
        for epoch in (1, 2)
        for wanted in phases
        for phase, step in batches(wanted)
        for name in NAMES
    ]


def test_inputs_and_outputs_are_those_of_the_pass():
    recorder = Recorder()
    net = fit(Hooks(forward=recorder.forward, when="valid"), max_epochs=1)
    module = net.model_.module_
    last = {name: (inputs, output) for _, name, _, inputs, output in recorder.calls[-5:]}
    with torch.no_grad():
        body = module.body(torch.from_numpy(X[-2:]))
        assert torch.equal(last["body.1"][1], body)
        assert torch.equal(last["head"][0], body)
        assert torch.equal(last["head"][1], module.head(body))
    assert torch.equal(last[""][0], torch.from_numpy(X[-2:]))


def test_backward_receives_the_gradients_that_autograd_computes():
    recorder = Recorder()
    weights = Log()

    class Look(Callback):
        def on_begin(self, ctx):
            weights.append(weights_of(ctx.module))

    fit(Look(), Hooks("head", backward=recorder.backward), max_epochs=1, batch_size=8)
    module = Net().double()
    module.load_state_dict(weights[0])
    hidden = module.body(torch.from_numpy(X))
    logits = module.head(hidden)
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(Y))
    by_hand = torch.autograd.grad(loss, [hidden, logits])
    [(_, name, kind, grad_input, grad_output)] = recorder.calls
    assert (name, kind) == ("head", nn.Linear)
    assert len(grad_input) == len(grad_output) == 1
    torch.testing.assert_close((grad_input[0], grad_output[0]), by_hand)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ("head", ["head"]),
        ("body.*", ["body.0", "body.1"]),
        (["*.0", "head"], ["body.0", "head"]),
        ("", [""]),
        (lambda name: len(name) == 4, ["body", "head"]),
        (str.isalpha, ["body", "head"]),
    ],
)
def test_patterns_choose_the_submodules(patterns, names):
    recorder = Recorder()
    fit(Hooks(patterns, forward=recorder.forward), max_epochs=1, batch_size=8)
    assert [name for _, name in recorder.places()] == names


def test_a_function_without_ctx_is_called_with_four_arguments():
    seen = Log()
    fit(Hooks("head", forward=lambda *arguments: seen.append(len(arguments))), max_epochs=1)
    assert seen == [4, 4]


def test_predictions_outside_of_the_phases_are_not_hooked():
    recorder = Recorder()

    class Predicts(Callback):
        def on_epoch_end(self, ctx):
            ctx.fitted_estimator().predict(X)

    net = fit(Predicts(), Hooks("head", forward=recorder.forward), max_epochs=1)
    net.predict(X)
    assert len(recorder.calls) == 2


@pytest.mark.filterwarnings("ignore::UserWarning")  # the compiler's own
def test_names_are_those_of_the_module_when_it_is_compiled():
    class Compiles(Callback):
        order = -60

        def on_begin(self, ctx):
            ctx.wrap(module=torch.compile(ctx.module, backend="eager"))

    recorder = Recorder()
    hooks = Hooks(forward=recorder.forward, when="both")
    net = fit(Compiles(), hooks, max_epochs=1, batch_size=8)
    assert [name for where, name in recorder.places() if where[0] == "train"] == NAMES
    n_calls = len(recorder.calls)
    net.predict(X)
    assert len(recorder.calls) == n_calls
    assert not hooks_left(net.model_.module_)


# -------------------------------------------------------------- what it does not do


def test_what_a_function_returns_is_ignored():
    plain = fit()
    forward = Hooks("*.*", forward=lambda name, module, inputs, output: output * 0)
    backward = Hooks("head", backward=lambda name, module, grads, _: tuple(g * 0 for g in grads))
    hooked = fit(("forward", forward), ("backward", backward))
    assert same_weights(weights_of(plain.model_.module_), weights_of(hooked.model_.module_))


ENDS = [
    ("on_begin", CancelFitException),
    ("on_before_train", CancelEpochException),
    ("on_after_predict", CancelBatchException),
    ("on_batch_end", CancelEpochException),
    ("on_after_loss", CancelFitException),
    ("on_valid_begin", CancelEpochException),
    ("on_batch_valid_after_predict", CancelFitException),
    ("on_before_train", OSError),
    ("on_after_backward", OSError),
    ("on_batch_valid_end", OSError),
    ("on_batch_end", KeyboardInterrupt),
    ("on_exit", OSError),
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
    hooks = Hooks(forward=lambda *a: None, when="both")
    fails = error in (OSError, KeyboardInterrupt)
    with pytest.raises(error) if fails else nullcontext():
        fit(Breaks(stage, error), hooks)
    assert not hooks_left(modules[0])


def test_an_error_in_a_function_says_which_and_where():
    def broken(name, module, inputs, output):
        raise LookupError("mine")

    modules = Log()

    class Look(Callback):
        def on_begin(self, ctx):
            modules.append(ctx.module)

    with pytest.raises(LookupError, match="mine") as caught:
        fit(Look(), Hooks("body.*", forward=broken))
    notes = " ".join(caught.value.__notes__)
    assert "the `forward` function of Hooks at the submodule 'body.0'" in notes
    assert not hooks_left(modules[0])


# ------------------------------------------------------------------ arguments


def nothing(name, module, inputs, output):
    """Do nothing."""


def test_a_pattern_that_matches_nothing_warns_once_and_names_the_nearest():
    with pytest.warns(UserWarning, match="pattern 'haed' matches no.*mean 'head'") as caught:
        fit(Hooks(["haed", "body*"], forward=nothing))
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="matches no submodule"):
        fit(Hooks(lambda name: False, forward=nothing))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "Hooks has nothing to call.*forward=... or backward=..."),
        ({"forward": 3}, "'forward' parameter of Hooks.*Got 3"),
        ({"backward": "print"}, "'backward' parameter of Hooks.*Got 'print'"),
        ({"forward": nothing, "when": "fit"}, "'when' parameter of Hooks.*Got 'fit'"),
        ({"forward": nothing, "patterns": 1}, "'patterns' parameter of Hooks.*Got 1"),
        ({"forward": nothing, "patterns": [1]}, "`patterns` parameter of Hooks"),
        ({"backward": nothing, "when": "valid"}, "never call `backward`"),
        ({"forward": lambda: None}, r"`forward` of Hooks must be callable as forward\(name, "),
        ({"forward": lambda a, b: None}, "too many positional arguments"),
        ({"backward": lambda a, b, c, d, e: None}, "`backward` of Hooks.*'e'"),
    ],
)
def test_an_impossible_argument_is_an_error_before_training(params, message):
    net = make_net(callbacks=[Hooks(**params)])
    with pytest.raises(ValueError, match=message):
        net.fit(X, Y)
    assert not hasattr(net, "model_")


@pytest.mark.parametrize(
    ("hooks", "warnings"),
    [
        (Hooks(), ["hooks: Hooks has nothing to call. Give it forward=... or backward=..."]),
        (Hooks(forward=nothing), []),
    ],
)
def test_what_is_wrong_is_told_before_a_fit(hooks, warnings):
    assert explain(make_net(callbacks=[hooks])).warnings == warnings


def test_it_can_be_pickled_copied_and_searched_over():
    hooks = Hooks("head", forward=nothing)
    net = fit(hooks)
    for copied in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert (copied.predict(X) == net.predict(X)).all()
    search = GridSearchCV(net, {"callbacks__hooks__patterns": ["head", "body.0"]}, cv=2)
    assert len(search.fit(X, Y).cv_results_["params"]) == 2
    assert hooks.patterns == "head"


def test_a_submodule_used_twice_is_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.same = self.layer
            self.head = nn.Linear(3, 2)

        def forward(self, X):
            return self.head(self.same(self.layer(X)))

    recorder = Recorder()
    fit(Hooks("layer", forward=recorder.forward), module=Twice, max_epochs=1, batch_size=8)
    assert [name for _, name in recorder.places()] == ["layer", "layer"]
    first, second = recorder.calls
    assert np.array_equal(first[4].detach(), second[3].detach())
