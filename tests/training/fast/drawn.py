"""Random configurations of a fit."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import torch
from hypothesis import event
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from training.fast.ways import at, classes, in_epoch, nothing, numbers

from skorchlike import LRScheduler, NeuralNetClassifier, NeuralNetRegressor
from skorchlike.modules.checks import ACTIVATIONS
from skorchlike.training.fast.path import BATCH_STAGES

STAGES = tuple(dict.fromkeys((*BATCH_STAGES, "on_batch_exit")))

# ------------------------------------------------------------------------- modules


class WithDropout(nn.Module):
    """A module with a forward of its own."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.inner, self.outer = nn.Linear(n_features_in, 5), nn.Linear(5, n_outputs)
        self.dropout = nn.Dropout(0.3)

    def forward(self, X):
        return self.outer(self.dropout(torch.relu(self.inner(X))))


def stacked(n_inputs, widths, n_outputs, activation, bias=True, last=()):
    built, width = [], n_inputs
    for size in widths:
        built += [nn.Linear(width, size, bias=bias), activation()]
        width = size
    return [*built, *last, nn.Linear(width, n_outputs, bias=bias)]


@st.composite
def modules(draw, n_inputs, n_outputs, dtype):
    """Draw the parameters of an estimator that say its module."""
    torch.manual_seed(draw(st.integers(0, 99)))
    widths = draw(st.lists(st.sampled_from([1, 2, 5, 16, 33]), max_size=3))
    name = draw(st.sampled_from(sorted(ACTIVATIONS)))
    kind = draw(st.sampled_from(["built-in", "flat", "no bias", "nested", "dropout", "norm"]))
    event(kind)
    if kind == "built-in":
        extra = draw(st.sampled_from([{}, {}, {"dropout": 0.2}, {"normalization": "layer"}]))
        options = {"hidden_layer_sizes": widths or (4,), "activation": name, **extra}
        return {f"module__{key}": value for key, value in options.items()}
    if kind == "dropout":
        return {"module": WithDropout(n_inputs, n_outputs).to(dtype)}
    last = [nn.BatchNorm1d(widths[-1])] if kind == "norm" and widths else []
    parts = stacked(n_inputs, widths, n_outputs, ACTIVATIONS[name], kind != "no bias", last)
    if kind == "nested":
        parts = [nn.Identity(), nn.Sequential(*parts[:1]), *parts[1:]]
    return {"module": nn.Sequential(*parts).to(dtype)}


ON_CHAINS = [
    nn.ReLU,
    partial(nn.ReLU, inplace=True),
    nn.Tanh,
    nn.Sigmoid,
    nn.GELU,
    partial(nn.GELU, approximate="tanh"),
    nn.SiLU,
    nn.Mish,
    nn.LeakyReLU,
    partial(nn.LeakyReLU, 0.2, inplace=True),
    nn.Identity,
]


# ------------------------------------------------------------------------ criteria


class Own(nn.Module):
    """A criterion of the user's."""

    reduction = "mean"

    def forward(self, y_pred, y):
        return functional.cross_entropy(y_pred, y, reduction=self.reduction)


class Learned(Own):
    """One with a parameter, which is trained too."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, y_pred, y):
        return super().forward(y_pred * self.scale.to(y_pred.dtype), y)


OF_NUMBERS = [
    {"criterion": "mse"},
    {"criterion": "mse"},
    {"criterion": "huber"},
    {"criterion": "l1"},
    {"criterion": "mse", "criterion__reduction": "sum"},
]
OF_LABELS = [
    {},
    {},
    {"criterion__label_smoothing": 0.1},
    {"criterion__ignore_index": 1},
    {"criterion__reduction": "sum"},
    {"criterion": "bce_with_logits"},
    {"criterion": Own},
    {"criterion": Learned},
]

# ---------------------------------------------------------------------- optimizers

COMMON = [{}, {}, {"weight_decay": 0.1}, {"maximize": True}]
OF_ADAM = [
    {},
    {"betas": (0.5, 0.9), "eps": 1e-4},
    {"amsgrad": True},
    {"fused": False},
    {"foreach": True},
    {"lr": torch.tensor(0.01)},
    {"param_groups": {"*weight": {"lr": 0.02, "weight_decay": 0.3}}},
]
OF_SGD = [
    {},
    {},
    {"momentum": 0.9},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.9, "fused": True},
    {"dampening": 0.1},
    {"foreach": True},
]
OPTIMIZERS = st.one_of(
    st.tuples(st.sampled_from(["adam", "adamw"]), st.sampled_from(OF_ADAM)),
    st.tuples(st.just("sgd"), st.sampled_from(OF_SGD)),
)

# ------------------------------------------------------- what happens between epochs


def lower_lr(ctx):
    for group in ctx.optimizer.param_groups:
        group["lr"] *= 0.5


def freeze(ctx):
    next(ctx.module.parameters()).requires_grad_(ctx.epoch % 2 == 0)


def load(ctx):
    ctx.optimizer.load_state_dict(copy.deepcopy(ctx.optimizer.state_dict()))


def forget(ctx):
    ctx.optimizer.state.clear()


def forget_within(ctx):
    for state in ctx.optimizer.state.values():
        state.clear()


def regroup(ctx):
    parameter = ctx.optimizer.param_groups[0]["params"].pop()
    ctx.optimizer.add_param_group({"params": [parameter], "lr": 0.03})


def halve_outputs(ctx):
    ctx.module.register_forward_hook(lambda module, args, output: output * 0.5)


def double_gradients(ctx):
    next(ctx.module.parameters()).register_hook(lambda gradient: gradient * 2)


def watch_steps(ctx):
    ctx.optimizer.register_step_pre_hook(lambda optimizer, args, kwargs: None)


def skip_every_other(ctx):
    if ctx.step % 2:
        ctx.skip_step()


BETWEEN = [
    lower_lr,
    freeze,
    load,
    forget,
    forget_within,
    in_epoch(1, regroup),
    in_epoch(1, halve_outputs),
    in_epoch(1, double_gradients),
    in_epoch(1, watch_steps),
]


@st.composite
def callbacks(draw):
    kind = draw(st.sampled_from(["none", "none", "between", "in batch", "both", "skip", "sched"]))
    event(kind)
    found = {}
    if kind in ("between", "both"):
        found["between"] = at(on_epoch_end=draw(st.sampled_from(BETWEEN)))
    if kind in ("in batch", "both"):
        found["in_batch"] = at(**{draw(st.sampled_from(STAGES)): nothing})
    if kind == "skip":
        found["skip"] = at(on_after_backward=skip_every_other)
    if kind == "sched":
        policy = torch.optim.lr_scheduler.StepLR
        found["sched"] = LRScheduler(policy, policy__step_size=1, policy__gamma=0.5)
    return found


@st.composite
def fits(draw):
    """Draw an estimator's class and parameters, data and arguments of fit."""
    dtype, regression = draw(st.sampled_from(["float32", "float64"])), draw(st.booleans())
    n_outputs = draw(st.sampled_from([1, 3] if regression else [2, 3, 7]))
    n_inputs, seed = draw(st.sampled_from([1, 2, 4, 9])), draw(st.integers(0, 99))
    make = numbers if regression else classes
    X, y = make(draw(st.sampled_from([14, 23])), n_inputs, n_outputs, dtype, seed)
    params = dict(draw(st.sampled_from(OF_NUMBERS if regression else OF_LABELS)))
    params |= draw(modules(n_inputs, n_outputs, getattr(torch, dtype)))
    name, options = draw(OPTIMIZERS)
    options = {**draw(st.sampled_from(COMMON)), **options}
    params |= {"optimizer": name, **{f"optimizer__{k}": v for k, v in options.items()}}
    params["lr"] = 0.001 if "maximize" in options else draw(st.sampled_from([0.001, 0.05]))
    # batch norm takes no batch of one row
    sizes = [5, 64] if "norm" in repr(params).lower() else [1, 5, 8, 64]
    params["batch_size"] = draw(st.sampled_from(sizes))
    params["drop_last"] = draw(st.booleans()) and params["batch_size"] < 14
    params |= {"shuffle": draw(st.booleans()), "callbacks": draw(callbacks())}
    fit = {}
    if draw(st.integers(0, 3)) == 0:
        fit["sample_weight"] = np.random.default_rng(seed).uniform(0.1, 2, len(X))
    if draw(st.integers(0, 3)) == 0:
        fit |= {"X_val": X[:9], "y_val": y[:9]}
    if not regression and draw(st.integers(0, 4)) == 0:
        params["class_weight"] = "balanced"
    return NeuralNetRegressor if regression else NeuralNetClassifier, params, X, y, fit


@st.composite
def chains(draw):
    """Draw what the hand-written step takes: linear layers, a fused optimizer, no callback."""
    dtype, regression = draw(st.sampled_from(["float32", "float64"])), draw(st.booleans())
    n_outputs = draw(st.sampled_from([1, 3] if regression else [2, 3, 7]))
    n_inputs, seed = draw(st.sampled_from([1, 3, 9, 40])), draw(st.integers(0, 99))
    make = numbers if regression else classes
    X, y = make(draw(st.sampled_from([14, 70])), n_inputs, n_outputs, dtype, seed)
    params = dict(draw(st.sampled_from(OF_NUMBERS if regression else OF_LABELS[:6])))
    torch.manual_seed(seed)
    widths = draw(st.lists(st.sampled_from([2, 5, 16, 33, 64]), max_size=3))
    activation = draw(st.sampled_from(ON_CHAINS))
    bias, n_columns = draw(st.booleans()), n_outputs
    if params.get("criterion") == "bce_with_logits" and n_outputs == 2:
        n_columns = draw(st.sampled_from([1, 2]))
    parts = stacked(n_inputs, widths, n_columns, activation, bias)
    params["module"] = nn.Sequential(*parts).to(getattr(torch, dtype))
    params |= {"optimizer": draw(st.sampled_from(["adam", "adamw", "sgd"])), "lr": 0.01}
    params |= {f"optimizer__{k}": v for k, v in draw(st.sampled_from(COMMON)).items()}
    params |= {"batch_size": draw(st.sampled_from([1, 8, 13, 64])), "max_epochs": 2}
    fit = {}
    if draw(st.booleans()):
        fit["sample_weight"] = np.random.default_rng(seed).uniform(0.1, 2, len(X))
    return NeuralNetRegressor if regression else NeuralNetClassifier, params, X, y, fit
