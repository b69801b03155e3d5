"""Bad input: every case names the parameter, what came and, where sensible, what to do.

A case is what is done, the error's type, and pieces (regular expressions) each of which
must stand in the message or in its notes.
"""

import copy
import re

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.callback import ScoringMonitor
from sklearn.exceptions import NotFittedError
from torch import nn

from skorchlike import (
    Callback,
    EarlyStopping,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
    get_callback,
    register_callback,
)

N = 24
RNG = np.random.RandomState(0)
X = RNG.randn(N, 4)
Y = np.arange(N) % 3
TWO = np.arange(N) % 2
T = RNG.randn(N)
T2 = RNG.randn(N, 2)
W = np.ones(N)
VAL = {"X_val": X[:6], "y_val": Y[:6]}


class Logger(Callback):
    def __init__(self, alpha=0.1):
        self.alpha = alpha


class Scales(Callback):
    def do_backward(self, ctx):
        (2 * ctx.loss).backward()


class Halves(Callback):
    def do_backward(self, ctx):
        (0.5 * ctx.loss).backward()


class Last(Callback):
    order = float("inf")


class LateState(Callback):
    order = float("inf")

    def state_dict(self):
        return {"n": 1}

    def load_state_dict(self, state):
        pass


class Own(nn.Module):
    """Logits of a chosen shape: ``width`` columns, then whatever ``form`` makes of them."""

    def __init__(self, width=3, form=None):
        super().__init__()
        self.linear = nn.Linear(4, width)
        self.form = form

    def forward(self, X):
        out = self.linear(X.reshape(len(X), -1)[:, :4])
        return out if self.form is None else self.form(out)


class NeedsWidth(nn.Module):
    def __init__(self, width):
        super().__init__()


class RefusesZero(nn.Module):
    def __init__(self, width=0):
        super().__init__()
        raise OverflowError("width must not be 0")


class NoParameters(nn.Module):
    def forward(self, X):
        return X[:, :3]


class WholeBatchLoss(nn.Module):
    """A criterion without the attribute ``reduction``."""

    def forward(self, y_pred, y):
        return nn.functional.cross_entropy(y_pred, y)


class IgnoresReduction(WholeBatchLoss):
    reduction = "mean"


class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return X[i], Y[i]


def fit(*data, fit_params=None, **params):
    """Fit a classifier of few epochs; what it raises is what is tested."""
    params = {"max_epochs": 2, "random_state": 0, **params}
    data = data or (X, Y)
    return NeuralNetClassifier(**params).fit(*data, **(fit_params or {}))


def fit_reg(*data, fit_params=None, **params):
    params = {"max_epochs": 2, "random_state": 0, **params}
    return NeuralNetRegressor(**params).fit(*(data or (X, T)), **(fit_params or {}))


def fit_own(*data, width=3, form=None, **params):
    return fit(*data, module=Own(width, form), **params)


def with_nan(array, value=np.nan):
    array = np.array(array, dtype=float)
    array.flat[1] = value
    return array


LOGGER = {"logger": Logger()}
STOP = {"stop": EarlyStopping()}
MONITOR = ScoringMonitor(scoring="accuracy")
OPTIMIZER = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


def case(id, do, error, *pieces):
    return pytest.param(do, error, pieces, id=id)


def both(id, said, *pieces):
    """A name that the constructor and set_params must both refuse, at once."""
    start = {key: value for key, value in said.items() if key == "callbacks"}
    later = {key: value for key, value in said.items() if key != "callbacks"}
    return [
        case(f"init-{id}", lambda: NeuralNetClassifier(**said), ParameterError, *pieces),
        case(
            f"set_params-{id}",
            lambda: NeuralNetClassifier(**start).set_params(**later),
            ParameterError,
            *pieces,
        ),
    ]


NAMES = [
    *both("parameter", {"max_epoch": 3}, "'max_epoch'", "Did you mean 'max_epochs'"),
    *both("parameter-batch", {"batchsize": 3}, "'batchsize'", "Did you mean 'batch_size'"),
    *both("parameter-far-off", {"qqq": 3}, "'qqq'", "Valid names: .*max_epochs", "module__<name>"),
    *both("prefix-module", {"modul__dropout": 0.1}, "'modul'", "Did you mean 'module'"),
    *both("prefix-optimizer", {"optimiser__lr": 0.1}, "'optimiser'", "'optimizer'"),
    *both("prefix-criterion", {"criteria__weight": 1}, "'criteria'", "'criterion'"),
    *both("prefix-callbacks", {"callback__logger": None}, "'callback'", "'callbacks'"),
    *both("empty-rest", {"module__": 1}, "'module__'"),
    *both("no-callbacks", {"callbacks__logger__alpha": 1}, "'logger'", "callback", "none"),
    *both(
        "callback-name",
        {"callbacks": LOGGER, "callbacks__loger__alpha": 1},
        "callbacks__loger__alpha",
        "Did you mean 'logger'",
    ),
    *both(
        "callback-replaced",
        {"callbacks": LOGGER, "callbacks__loger": Logger()},
        "callbacks__loger",
        "Did you mean 'logger'",
    ),
    *both(
        "callback-parameter",
        {"callbacks": LOGGER, "callbacks__logger__alpa": 1},
        "Logger",
        "'alpa'",
        "Did you mean 'alpha'",
    ),
    *both(
        "callback-parameter-by-registered-name",
        {"callbacks": ["early_stopping"], "callbacks__early_stopping__patiance": 1},
        "EarlyStopping",
        "'patiance'",
        "Did you mean 'patience'",
    ),
    *both(
        "callback-parameter-of-the-replacement",
        {"callbacks": LOGGER, "callbacks__logger": EarlyStopping(), "callbacks__logger__alpha": 1},
        "EarlyStopping",
        "'alpha'",
    ),
    *both(
        "callback-dropped-and-set",
        {"callbacks": LOGGER, "callbacks__logger": None, "callbacks__logger__alpha": 1},
        "callbacks__logger__alpha",
        "dropped",
    ),
    *both(
        "callback-passthrough-and-set",
        {"callbacks": LOGGER, "callbacks__logger": "passthrough", "callbacks__logger__alpha": 1},
        "callbacks__logger__alpha",
        "dropped",
    ),
    case(
        "get_callback-name",
        lambda: get_callback("early_stoping"),
        ParameterError,
        "'early_stoping'",
        "Did you mean 'early_stopping'",
    ),
    case(
        "get_callback-parameter",
        lambda: get_callback("early_stopping", patiance=3),
        ParameterError,
        "EarlyStopping",
        "'patiance'",
        "Did you mean 'patience'",
    ),
    case(
        "register_callback-not-a-callback",
        lambda: register_callback("thing")(int),
        ParameterError,
        "register_callback",
        "int",
    ),
    case(
        "register_callback-name-taken",
        lambda: register_callback("early_stopping")(Logger),
        ParameterError,
        "'early_stopping'",
        "EarlyStopping",
    ),
    case(
        "module-name", lambda: fit(module="mpl"), ParameterError, "`module`", "'mpl'", "mean 'mlp'"
    ),
    case(
        "criterion-name",
        lambda: fit(criterion="cros_entropy"),
        ParameterError,
        "`criterion`",
        "'cros_entropy'",
        "mean 'cross_entropy'",
    ),
    case(
        "optimizer-name",
        lambda: fit(optimizer="adm"),
        ParameterError,
        "`optimizer`",
        "'adm'",
        "Did you mean 'adam",
    ),
    case(
        "module-parameter",
        lambda: fit(module__hiden_layer_sizes=(3,)),
        ParameterError,
        "module__hiden_layer_sizes",
        "MLP",
        "Did you mean 'hidden_layer_sizes'",
    ),
    case(
        "own-module-parameter",
        lambda: fit(module=Own, module__widht=3),
        ParameterError,
        "module__widht",
        "Own",
        "Did you mean 'width'",
    ),
    case(
        "criterion-parameter",
        lambda: fit(criterion__label_smooting=0.1),
        ParameterError,
        "criterion__label_smooting",
        "CrossEntropyLoss",
        "Did you mean 'label_smoothing'",
    ),
    case(
        "optimizer-parameter",
        lambda: fit(optimizer="sgd", optimizer__momentun=0.9),
        ParameterError,
        "optimizer__momentun",
        "SGD",
        "Did you mean 'momentum'",
    ),
    case(
        "param_groups-option",
        lambda: fit(optimizer__param_groups={"*.bias": {"weight_decy": 0.0}}),
        ParameterError,
        "param_groups",
        "'weight_decy'",
        "Did you mean 'weight_decay'",
    ),
]


def garbage(id, callbacks, *pieces):
    """Garbage in ``callbacks`` waits for fit."""
    return case(f"callbacks-{id}", lambda: fit(callbacks=callbacks), ParameterError, *pieces)


CALLBACKS = [
    garbage("integer", -1, "`callbacks`", "dict", "Got -1"),
    garbage("array", np.arange(3), "`callbacks`", "dict", "array"),
    garbage("class", Logger, "`callbacks`", "list", "Logger"),
    garbage("one-not-in-a-list", Logger(), "`callbacks`", "list", "Logger"),
    garbage("one-name-not-in-a-list", "early_stopping", "`callbacks`", "list", "early_stopping"),
    garbage("class-in-list", [Logger], "class Logger", r"Pass an instance: Logger\(\)"),
    garbage("class-in-dict", {"a": Logger}, "'a'", "class Logger", r"Logger\(\)"),
    garbage("number-in-list", [3], "`callbacks`", "Got 3"),
    garbage("number-in-dict", {"a": 3}, "'a'", "Got 3"),
    garbage("none-in-list", [None], "`callbacks`", "None"),
    garbage("function", {"a": print}, "'a'", "print"),
    garbage("unknown-name", ["early_stoping"], "'early_stoping'", "mean 'early_stopping'"),
    garbage("name-not-a-string", {1: Logger()}, "name", "Got 1"),
    garbage("name-empty", {"": Logger()}, "name", "''"),
    garbage("name-with-delimiter", {"a__b": Logger()}, "'__'", "'a__b'"),
    garbage("duplicate-class", [Logger(), Logger(0.2)], "'logger'", "twice", "callbacks={"),
    garbage("duplicate-name", [("a", Logger()), ("a", Last())], "'a'", "twice"),
    garbage("duplicate-registered", ["early_stopping"] * 2, "'early_stopping'", "twice"),
    garbage("triple", [("a", Logger(), 1)], "`callbacks`", "tuple"),
    garbage("scikit-learn-in-list", [MONITOR], "ScoringMonitor", "set_callbacks"),
    garbage("scikit-learn-in-dict", {"m": MONITOR}, "'m'", "ScoringMonitor", "set_callbacks"),
    garbage("one-action-twice", [Scales(), Halves()], "'scales'", "'halves'", "backward"),
    garbage("state-after-the-checkpoint", [Last(), LateState()], "'late_state'", "'last'"),
    case(
        "fit-callbacks-class",
        lambda: fit(fit_params={"callbacks": [Logger]}),
        ParameterError,
        "class Logger",
        r"Logger\(\)",
    ),
    case(
        "fit-callbacks-name-taken",
        lambda: fit(callbacks=LOGGER, fit_params={"callbacks": [Logger()]}),
        ParameterError,
        "'logger'",
        "estimator's",
        "fit",
    ),
    case(
        "fit-callbacks-garbage",
        lambda: fit(fit_params={"callbacks": 3}),
        ParameterError,
        "`callbacks`",
        "Got 3",
    ),
    case(
        "replaced-by-garbage-at-fit",
        lambda: NeuralNetClassifier(callbacks=LOGGER).set_params(callbacks__logger=3).fit(X, Y),
        ParameterError,
        "'logger'",
        "Got 3",
    ),
]


def stopping(id, *pieces, valid=True, **params):
    """Early stopping that cannot work, said before training."""
    data = VAL if valid else {}
    return case(
        f"early-stopping-{id}",
        lambda: fit(callbacks=[EarlyStopping(**params)], fit_params=data),
        ValueError,
        "EarlyStopping",
        *pieces,
    )


EARLY_STOPPING = [
    stopping("no-validation", "'valid_loss'", "validation_fraction", "X_val", valid=False),
    stopping("unknown-monitor", "'nothing_like_it'", "valid_loss", monitor="nothing_like_it"),
    stopping("monitor-off", "'train_los'", "mean 'train_loss'", monitor="train_los"),
    stopping("monitor-none", "monitor", "None", monitor=None),
    stopping("patience-negative", "patience", "-1", patience=-1),
    stopping("patience-string", "patience", "'5'", patience="5"),
    stopping("patience-fraction", "patience", "2.5", patience=2.5),
    stopping("min_delta-negative", "min_delta", "-0.1", min_delta=-0.1),
    stopping("min_delta-nan", "min_delta", "nan", min_delta=float("nan")),
    stopping("mode", "mode", "'max'", "'smallest'", mode="smallest"),
    stopping("direction-unknown", "'lr'", "mode", monitor="lr"),
]


def parameter(name, value, *pieces, id=None):
    """A value that a parameter of the estimator cannot have."""
    got = re.escape(repr(value)) if not pieces else pieces[0]
    return case(
        f"{name}={id or value!r}",
        lambda: fit(**{name: value}),
        (ValueError, TypeError),
        rf"['`]{name}['`] parameter",
        got,
        *pieces[1:],
    )


PARAMETERS = [
    *(parameter("lr", value) for value in (0, -0.1, "0.1", None, [0.1])),
    *(parameter("lr", value) for value in (float("nan"), float("inf"))),
    *(parameter("max_epochs", value) for value in (0, -1, 2.5, "10", None)),
    *(parameter("batch_size", value) for value in (0, -2, 1.5, "full", None)),
    *(parameter("predict_batch_size", value) for value in (0, -2, "full")),
    *(parameter("shuffle", value) for value in ("yes", None)),
    *(parameter("drop_last", value) for value in ("no", None)),
    *(parameter("validation_fraction", value) for value in (0, 1, -0.1, 1.5, "0.1", 10)),
    *(parameter("valid_every", value) for value in (0, 1.5, "2")),
    *(parameter("warm_start", value) for value in ("x", None)),
    *(parameter("random_state", value) for value in ("seed", -1, 0.5)),
    *(parameter("verbose", value) for value in (-1, "loud")),
    *(parameter("device", value) for value in ("gpu", "cuda:99", 3.5, None)),
    *(parameter("dtype", value) for value in ("float23", "complex64", "bloat16", 3)),
    parameter("dtype", torch.int64, "int64", "floating"),
    *(parameter("predict_nonlinearity", value) for value in ("softmx", 3)),
]

COMPONENTS = [
    case("module-number", lambda: fit(module=3), ParameterError, "`module`", "Got 3"),
    case("module-dict", lambda: fit(module={"a": 1}), ParameterError, "`module`", "'a'"),
    case("module-builtin-class", lambda: fit(module=dict), ParameterError, "`module`", "dict"),
    case(
        "module-gives-something-else",
        lambda: fit(module=lambda: {}),
        ParameterError,
        "`module`",
        "torch.nn.Module",
        "dict",
    ),
    case(
        "module-misses-an-argument",
        lambda: fit(module=NeedsWidth),
        ParameterError,
        "NeedsWidth",
        "'width'",
        "module__width=",
    ),
    case(
        "module-raises",
        lambda: fit(module=RefusesZero, module__width=0),
        OverflowError,
        "width must not be 0",
        "building the module",
        r"RefusesZero\(width=0\)",
    ),
    case(
        "module-instance-with-arguments",
        lambda: fit(module=Own(), module__width=5),
        ParameterError,
        "module__width",
        "instance of Own",
        "module=Own",
    ),
    case("module-without-parameters", lambda: fit(module=NoParameters), ValueError, "`module`"),
    case("hidden-zero", lambda: fit(module__hidden_layer_sizes=(0,)), ParameterError, r"\(0,\)"),
    case(
        "hidden-string",
        lambda: fit(module__hidden_layer_sizes="big"),
        ParameterError,
        "hidden_layer_sizes",
        "'big'",
    ),
    case(
        "activation",
        lambda: fit(module__activation="relo"),
        ParameterError,
        "activation",
        "'relo'",
        "mean 'relu'",
    ),
    case("dropout", lambda: fit(module__dropout=1.5), ParameterError, "dropout", "1.5"),
    case(
        "criterion-function",
        lambda: fit(criterion=nn.functional.cross_entropy),
        ParameterError,
        "`criterion`",
        "torch.nn.Module",
        "cross_entropy",
    ),
    case("criterion-number", lambda: fit(criterion=3), ParameterError, "`criterion`", "Got 3"),
    case(
        "criterion-instance-with-arguments",
        lambda: fit(criterion=nn.CrossEntropyLoss(), criterion__label_smoothing=0.1),
        ParameterError,
        "criterion__label_smoothing",
        "instance of CrossEntropyLoss",
    ),
    case(
        "criterion-without-reduction",
        lambda: fit(criterion__reduction="none"),
        ParameterError,
        "loss",
        "shape",
        r"reduction",
    ),
    case(
        "optimizer-instance",
        lambda: fit(optimizer=OPTIMIZER),
        ParameterError,
        "`optimizer`",
        "instance",
        "class",
    ),
    case("optimizer-number", lambda: fit(optimizer=3), ParameterError, "`optimizer`", "3"),
    case("optimizer-other-class", lambda: fit(optimizer=dict), ParameterError, "`optimizer`"),
    case(
        "optimizer-value",
        lambda: fit(optimizer__lr=-1.0),
        ValueError,
        r"-1\.0",
        "building the optimizer",
        "lr=-1.0",
    ),
    case(
        "param_groups-no-match",
        lambda: fit(optimizer__param_groups={"layer9.*": {"lr": 0.1}}),
        ParameterError,
        "'layer9",
        "param_groups",
        r"0\.weight",
    ),
    case(
        "param_groups-taken-by-an-earlier-pattern",
        lambda: fit(optimizer__param_groups=[("*", {"lr": 0.1}), ("*.bias", {"lr": 0.2})]),
        ParameterError,
        r"'\*\.bias'",
        "earlier",
    ),
    case(
        "param_groups-garbage",
        lambda: fit(optimizer__param_groups=3),
        ParameterError,
        "optimizer__param_groups",
        "Got 3",
    ),
    case(
        "criterion-cannot-be-unreduced",
        lambda: fit(X, Y, W, criterion=WholeBatchLoss),
        ParameterError,
        "WholeBatchLoss",
        "reduction",
        "sample_weight",
    ),
    case(
        "criterion-ignores-reduction",
        lambda: fit(X, Y, W, criterion=IgnoresReduction),
        ParameterError,
        "IgnoresReduction",
        "reduction",
        "sample_weight",
    ),
    case(
        "probabilities-of-an-unknown-criterion",
        lambda: fit(criterion="multi_margin").predict_proba(X),
        ParameterError,
        "MultiMarginLoss",
        "predict_nonlinearity",
    ),
]

OUTPUTS = [
    case(
        "too-few-logits", lambda: fit_own(width=2), ParameterError, r"24, 2", "3 classes", r"n, 3"
    ),
    case("too-many-logits", lambda: fit_own(width=4), ParameterError, r"24, 4", "3 classes"),
    case(
        "one-logit-for-two-classes",
        lambda: fit_own(X, TWO, width=1),
        ParameterError,
        "2 classes",
        "bce_with_logits",
    ),
    case(
        "bce-wrong-width",
        lambda: fit_own(width=2, criterion="bce_with_logits"),
        ParameterError,
        "BCEWithLogitsLoss",
        "24, 2",
        "n, 3",
    ),
    case(
        "bce-one-logit-for-three-classes",
        lambda: fit_own(width=1, criterion="bce_with_logits"),
        ParameterError,
        "BCEWithLogitsLoss",
        "3 classes",
    ),
    case("tuple", lambda: fit_own(form=lambda out: (out, out)), ParameterError, "tuple", "module"),
    case("none", lambda: fit_own(form=lambda out: print(end="")), ParameterError, "NoneType"),
    case(
        "numpy",
        lambda: fit_own(form=lambda out: out.detach().numpy()),
        ParameterError,
        "ndarray",
        "module",
    ),
    case(
        "regression-two-outputs-for-one-target",
        lambda: fit_reg(module=Own(2)),
        ParameterError,
        "24, 2",
        "24, 1",
        "broadcast",
    ),
    case(
        "regression-one-output-for-two-targets",
        lambda: fit_reg(X, T2, module=Own(1)),
        ParameterError,
        "24, 1",
        "24, 2",
        "broadcast",
    ),
    case(
        "regression-flat-output-for-two-targets",
        lambda: fit_reg(X, T2, module=Own(1, lambda out: out[:, 0])),
        ParameterError,
        r"\(24,\)",
        "24, 2",
        "broadcast",
    ),
    case(
        "regression-extra-dimension",
        lambda: fit_reg(module=Own(1, lambda out: out[None])),
        ParameterError,
        "1, 24, 1",
        "broadcast",
    ),
    case(
        "regression-one-output-for-the-whole-batch",
        lambda: fit_reg(module=Own(1, lambda out: out.mean())),
        ParameterError,
        r"\(\)",
        "broadcast",
    ),
    case(
        "regression-broadcast-in-validation-only",
        lambda: fit_reg(
            module=Own(1, lambda out: out if out.requires_grad else out.T),
            fit_params={"X_val": X, "y_val": T},
        ),
        ParameterError,
        "1, 24",
        "broadcast",
    ),
]


def inputs(id, do, *pieces, error=(ValueError, TypeError)):
    return case(f"data-{id}", do, error, *pieces)


DATA = [
    inputs("X-nan", lambda: fit_own(with_nan(X), Y), "X", "NaN"),
    inputs("X-infinity", lambda: fit(with_nan(X, np.inf), Y), "X", "infinity"),
    inputs("X-complex", lambda: fit(X + 1j, Y), "Complex"),
    inputs("X-strings", lambda: fit([["a"] * 4] * N, Y), "string|convert", "a"),
    inputs("X-object", lambda: fit(np.array([[{}] * 4] * N), Y), "dict|float"),
    inputs("X-no-rows", lambda: fit(X[:0], Y[:0]), r"0 sample\(s\)"),
    inputs("X-no-features", lambda: fit(X[:, :0], Y), r"0 feature\(s\)"),
    inputs("X-one-dimension", lambda: fit(X[:, 0], Y), "1D array", "[Rr]eshape"),
    inputs("X-three-dimensions", lambda: fit(X[..., None], Y), "3", "dim"),
    inputs("X-scalar", lambda: fit(3.0, Y), "scalar|0-d|dim"),
    inputs("X-none", lambda: fit(None, Y), "X|array", "None"),
    inputs("X-sparse-nan", lambda: fit(scipy.sparse.csr_matrix(with_nan(X)), Y), "X", "NaN"),
    inputs("X-ragged", lambda: fit([[1.0, 2.0], [1.0]], [0, 1]), "inhomogeneous"),
    inputs("X-dataset-and-y", lambda: fit(Rows(), Y), "X", "Rows", "Leave out y"),
    inputs("X-column-of-lists", lambda: fit(pd.DataFrame({"a": [[1]] * N}), Y), "'a'", "list"),
    inputs("X-tensor-one-dimension", lambda: fit(torch.zeros(N), Y), "X", "24", "reshape"),
    inputs("X-tensor-three-dimensions", lambda: fit(torch.zeros(N, 2, 2), Y), "X", "24, 2, 2"),
    inputs("X-tensor-nan", lambda: fit_own(torch.tensor(with_nan(X)), Y), "X", "NaN"),
    inputs("X-tensor-complex", lambda: fit(torch.zeros(N, 4) + 1j, Y), "Complex", "X"),
    inputs("X-tensor-no-rows", lambda: fit(torch.zeros(0, 4), Y[:0]), "X", r"0 sample\(s\)"),
    inputs("X-tensor-no-features", lambda: fit(torch.zeros(N, 0), Y), "X", r"0 feature\(s\)"),
    inputs(
        "X-tensor-sparse",
        lambda: fit(torch.zeros(N, 2, 2).to_sparse(), Y),
        "X",
        "sparse",
        "two dimensions",
        "to_dense",
    ),
    inputs("y-none", lambda: fit(X, None), "y", "None"),
    inputs("y-short", lambda: fit(X, Y[:-1]), "X and y", "24", "23"),
    inputs("y-tensor-long", lambda: fit(X[:-1], torch.tensor(Y)), "X and y", "23", "24"),
    inputs("y-nan", lambda: fit(X, with_nan(Y)), "y", "NaN"),
    inputs("y-complex", lambda: fit(X, Y + 1j), "[Cc]omplex"),
    inputs("y-continuous", lambda: fit(X, T), "continuous"),
    inputs("y-no-probabilities", lambda: fit(X, 2 * np.eye(3)[Y]), "y", r"24, 3", "sum 2"),
    inputs("y-scalar", lambda: fit(X, 1), "y|array", "scalar|0-d|dim|shape"),
    inputs("y-mixed-labels", lambda: fit(X, np.array(["a", 1] * 12, object)), "str"),
    inputs("target-strings", lambda: fit_reg(X, ["a"] * N), "string|convert", "a"),
    inputs("target-nan", lambda: fit_reg(X, with_nan(T)), "y", "NaN"),
    inputs("target-infinity", lambda: fit_reg(X, with_nan(T, np.inf)), "y", "infinity"),
    inputs("target-complex", lambda: fit_reg(X, T + 1j), "[Cc]omplex"),
    inputs("target-short", lambda: fit_reg(X, T[:-1]), "X and y", "24", "23"),
    inputs("target-three-dimensions", lambda: fit_reg(X, T2[..., None]), "y", "24, 2, 1"),
    inputs("target-no-columns", lambda: fit_reg(X, T2[:, :0]), "y", "24, 0|0 feature"),
    inputs("weight-short", lambda: fit(X, Y, W[:-1]), "sample_weight", "23", "24"),
    inputs("weight-negative", lambda: fit(X, Y, -W), "[Nn]egative", "sample_weight"),
    inputs("weight-nan", lambda: fit(X, Y, with_nan(W)), "sample_weight", "NaN"),
    inputs("weight-two-dimensions", lambda: fit(X, Y, np.ones((N, 2))), "[Ss]ample.weight", "1D"),
    inputs("weight-strings", lambda: fit(X, Y, ["a"] * N), "sample_weight", "string|convert"),
    inputs("weight-all-zero", lambda: fit(X, Y, 0 * W), "sample|weight", "zero|0"),
]


def val(id, *pieces, **fit_params):
    return case(f"valid-{id}", lambda: fit(fit_params=fit_params), (ValueError, TypeError), *pieces)


BIG = np.array([0] * 20 + [1] * 4)

VALIDATION = [
    val("no-y_val", "y_val", "X_val", X_val=X),
    val("no-X_val", "y_val", "X_val", y_val=Y),
    val("weights-alone", "sample_weight_val", "X_val", sample_weight_val=W),
    val("lengths", "X_val and y_val", "24", "23", X_val=X, y_val=Y[:-1]),
    val("weight-length", "sample_weight_val", "23", **VAL, sample_weight_val=W[:-1]),
    val("weight-negative", "sample_weight_val", "[Nn]egative", **VAL, sample_weight_val=-W[:6]),
    val("weight-all-zero", "sample_weight_val", **VAL, sample_weight_val=0 * W[:6]),
    val("features", "X_val", "3", "4", X_val=X[:, :3], y_val=Y),
    val("infinity", "X_val", "infinity", X_val=with_nan(X, np.inf), y_val=Y),
    val("unseen-label", "y_val", "7", r"\[0, 1, 2\]", X_val=X, y_val=np.full(N, 7)),
    val("y_val-nan", "y_val", "NaN", X_val=X, y_val=with_nan(Y)),
    val("y_val-one-hot", "y_val", "24, 3", X_val=X, y_val=np.eye(3)[Y]),
    val("X_val-sparse", "X_val", "3", "4", X_val=scipy.sparse.csr_matrix(X[:, :3]), y_val=Y),
    case(
        "valid-shape-of-images",
        lambda: fit(
            X.reshape(N, 2, 2),
            Y,
            module=Own(3),
            fit_params={"X_val": X.reshape(N, 2, 2, 1), "y_val": Y},
        ),
        ParameterError,
        "X_val",
        r"\(2, 2\)",
        r"\(2, 2, 1\)",
    ),
    case(
        "valid-columns-of-the-target",
        lambda: fit_reg(X, T2, fit_params={"X_val": X, "y_val": T}),
        ParameterError,
        "y_val",
        "2 column",
        "Got 1",
    ),
    case(
        "valid-class-too-rare",
        lambda: fit(X, np.array([0] * 23 + [1]), validation_fraction=0.2),
        ParameterError,
        "validation_fraction",
        "24 rows",
        "X_val",
    ),
    case(
        "valid-too-few-rows",
        lambda: fit_reg(X[:1], T[:1], validation_fraction=0.5),
        ParameterError,
        "validation_fraction",
        "1 rows",
    ),
    case(
        "valid-fraction-smaller-than-the-classes",
        lambda: fit(X, np.arange(N) // 2, validation_fraction=0.1),
        ParameterError,
        "validation_fraction",
        "X_val",
    ),
    case(
        "drop_last-leaves-nothing",
        lambda: fit(drop_last=True, batch_size=100),
        ParameterError,
        "drop_last",
        "batch_size=100",
        "24",
    ),
    case(
        "drop_last-leaves-nothing-after-the-split",
        lambda: fit(drop_last=True, batch_size=20, validation_fraction=0.5),
        ParameterError,
        "drop_last",
        "batch_size=20",
        "12",
    ),
]

FITTED = fit()
NAMED = fit(pd.DataFrame(X, columns=list("abcd")), Y)
WARM = fit(warm_start=True)


def later(fitted, name, *args, **kwargs):
    return lambda: getattr(copy.deepcopy(fitted), name)(*args, **kwargs)


LATER = [
    *(
        case(f"{name}-before-fit", later(NeuralNetClassifier(), name, X), NotFittedError, "fit")
        for name in ("predict", "predict_proba", "decision_function")
    ),
    *(
        case(
            f"{name}-before-fit",
            lambda name=name: getattr(NeuralNetClassifier(), name),
            AttributeError,
            name,
            "fit",
        )
        for name in ("history_", "loss_curve_", "n_iter_")
    ),
    case("predict-features", later(FITTED, "predict", X[:, :3]), ValueError, "3 features", "4"),
    case(
        "predict-tensor-features",
        later(FITTED, "predict", torch.zeros(2, 3)),
        ValueError,
        "3 features",
        "4",
    ),
    case(
        "predict-infinity",
        later(FITTED, "predict", with_nan(X, np.inf)),
        ValueError,
        "X",
        "infinity",
    ),
    case("predict-no-rows", later(FITTED, "predict", X[:0]), ValueError, r"0 sample\(s\)"),
    case("predict-one-dimension", later(FITTED, "predict", X[0]), ValueError, "1D", "[Rr]eshape"),
    case("predict-three-dimensions", later(FITTED, "predict", X[..., None]), ValueError, "3"),
    case(
        "predict-feature-names",
        later(NAMED, "predict", pd.DataFrame(X, columns=list("abce"))),
        ValueError,
        "feature names",
        "e",
    ),
    case(
        "X_val-feature-names",
        later(
            NAMED,
            "fit",
            pd.DataFrame(X, columns=list("abcd")),
            Y,
            X_val=pd.DataFrame(X, columns=list("abce")),
            y_val=Y,
        ),
        ValueError,
        "feature names",
        "e",
    ),
    case(
        "partial_fit-classes-changed",
        later(FITTED, "partial_fit", X, Y, classes=[0, 1]),
        ParameterError,
        "classes",
        r"\[0, 1, 2\]",
        r"\[0, 1\]",
    ),
    case(
        "partial_fit-unseen-label",
        later(FITTED, "partial_fit", X, Y + 1),
        ParameterError,
        "y",
        "3",
        "classes=",
    ),
    case(
        "partial_fit-label-not-among-classes",
        later(NeuralNetClassifier(), "partial_fit", X, Y, classes=[0, 1]),
        ParameterError,
        "y",
        r"\[2\]",
        "classes",
    ),
    case(
        "partial_fit-features",
        later(FITTED, "partial_fit", X[:, :3], Y),
        ValueError,
        "3 features",
        "4",
    ),
    case(
        "partial_fit-target-columns",
        later(fit_reg(), "partial_fit", X, T2),
        ParameterError,
        "y",
        "1 column",
        "Got 2",
    ),
    case(
        "warm_start-module-changed",
        lambda: copy.deepcopy(WARM).set_params(module__hidden_layer_sizes=(7,)).fit(X, Y),
        ParameterError,
        "`module`",
        "warm_start=False",
    ),
    case("warm_start-unseen-label", later(WARM, "fit", X, Y + 1), ParameterError, "y", "3"),
    case(
        "param_groups-changed",
        lambda: (
            copy.deepcopy(WARM)
            .set_params(optimizer__param_groups={"*.bias": {"weight_decay": 0.0}})
            .fit(X, Y)
        ),
        ParameterError,
        "optimizer|param_groups",
        "warm_start=False|group",
    ),
]

TABLES = {
    "names": NAMES,
    "callbacks": CALLBACKS,
    "early stopping": EARLY_STOPPING,
    "parameters": PARAMETERS,
    "components": COMPONENTS,
    "outputs": OUTPUTS,
    "data": DATA,
    "validation": VALIDATION,
    "later": LATER,
}
CASES = [one for table in TABLES.values() for one in table]


def message_of(error):
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


@pytest.mark.parametrize(("do", "error", "pieces"), CASES)
def test_bad_input_raises_an_error_that_names_what_is_wrong(do, error, pieces):
    with pytest.raises(error) as caught:
        do()
    message = message_of(caught.value)
    for piece in pieces:
        assert re.search(piece, message, re.DOTALL), f"{piece!r} is not in: {message}"


def test_the_table_is_complete_and_its_cases_differ():
    ids = [one.id for one in CASES]
    assert len(ids) == len(set(ids))
    assert len(ids) >= 80


# ------------------------------------------------------------- what is left behind

FAILING_FITS = {
    "X-infinity": lambda est: est.fit(with_nan(X, np.inf), Y),
    "y-short": lambda est: est.fit(X, Y[:-1]),
    "y-continuous": lambda est: est.fit(X, T),
    "other-features-then-bad-weight": lambda est: est.fit(X[:, :3], Y, -W),
    "other-classes-then-bad-X_val": lambda est: est.fit(X, TWO, X_val=X[:, :3], y_val=TWO),
    "lr": lambda est: est.set_params(lr=-1).fit(X, Y),
    "callbacks": lambda est: est.set_params(callbacks=-1).fit(X[:, :2], TWO),
    "module-name": lambda est: est.set_params(module="mpl").fit(X[:, :2], TWO),
    "module-output": lambda est: est.set_params(module=Own(7)).fit(X, Y),
    "optimizer": lambda est: est.set_params(optimizer__lr=-1.0).fit(X[:, :2], TWO),
    "no-monitor": lambda est: est.set_params(callbacks=[EarlyStopping()]).fit(X[:, :2], TWO),
    "error-in-the-last-epoch": lambda est: est.fit(X, Y, callbacks=[FailsInEpoch(2)]),
    "partial_fit-unseen-label": lambda est: est.partial_fit(X, Y + 1),
    "partial_fit-weights": lambda est: est.partial_fit(X, Y, sample_weight=-W),
    "partial_fit-fails-late": lambda est: est.partial_fit(X, Y, callbacks=[FailsInEpoch(3)]),
}


class FailsInEpoch(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, ctx):
        if ctx.epoch == self.epoch:
            raise RuntimeError("no more of this")


@pytest.mark.parametrize("do", FAILING_FITS.values(), ids=FAILING_FITS.keys())
@pytest.mark.parametrize("start", [FITTED, NAMED], ids=["array", "frame"])
def test_a_failed_fit_leaves_a_fitted_estimator_as_it_was(start, do):
    estimator = copy.deepcopy(start)
    names = list(vars(estimator))
    with pytest.raises(Exception, match=r"."):
        do(estimator)
    estimator.set_params(**start.get_params(deep=False))

    assert set(vars(estimator)) - {"_routed"} == set(names) - {"_routed"}
    data = pd.DataFrame(X, columns=list("abcd")) if start is NAMED else X
    assert np.array_equal(estimator.predict_proba(data), start.predict_proba(data))
    assert estimator.classes_.tolist() == [0, 1, 2]
    assert estimator.n_features_in_ == 4
    assert estimator.model_.n_epochs_ == 2
    assert estimator.history_.equals(start.history_)


@pytest.mark.parametrize("do", FAILING_FITS.values(), ids=FAILING_FITS.keys())
def test_a_failed_first_fit_leaves_an_unfitted_estimator(do):
    if do is FAILING_FITS["partial_fit-unseen-label"]:
        do = lambda est: est.partial_fit(X, Y, classes=[0, 1])  # noqa: E731
    if do is FAILING_FITS["partial_fit-fails-late"]:
        do = lambda est: est.partial_fit(X, Y, callbacks=[FailsInEpoch(1)])  # noqa: E731
    estimator = NeuralNetClassifier(max_epochs=2, random_state=0)
    names = set(vars(estimator))
    with pytest.raises(Exception, match=r"."):
        do(estimator)
    assert set(vars(estimator)) - {"_routed"} == names - {"_routed"}
    with pytest.raises(NotFittedError):
        estimator.predict(X)


# -------------------------------------------------- what looks alike and must be taken

GOOD = {
    "numpy-patience": lambda: fit(callbacks=[EarlyStopping("train_loss", patience=np.int64(3))]),
    "numpy-min_delta": lambda: fit(
        callbacks=[EarlyStopping("train_loss", min_delta=np.float32(0.1))]
    ),
    "numpy-max_epochs": lambda: fit(max_epochs=np.int64(2)),
    "numpy-lr": lambda: fit(lr=np.float32(0.01)),
    "numpy-batch_size": lambda: fit(batch_size=np.int32(8)),
    "numpy-hidden": lambda: fit(module__hidden_layer_sizes=np.int64(8)),
    "numpy-hidden-array": lambda: fit(module__hidden_layer_sizes=np.array([8, 8])),
    "numpy-dropout": lambda: fit(module__dropout=np.float32(0.1)),
    "numpy-fraction": lambda: fit(validation_fraction=np.float64(0.25)),
    "numpy-bool": lambda: fit(shuffle=np.True_),
    "numpy-seed": lambda: fit(random_state=np.uint32(3)),
    "integer-lr": lambda: fit(lr=1),
    "lists": lambda: fit(X.tolist(), Y.tolist(), W.tolist()),
    "tensors": lambda: fit(torch.tensor(X), torch.tensor(Y), torch.ones(N)),
    "series": lambda: fit(pd.DataFrame(X), pd.Series(Y), pd.Series(W)),
    "bool-target": lambda: fit(X, TWO == 1),
    "integer-target-of-a-regressor": lambda: fit_reg(X, Y),
    "one-row": lambda: fit_reg(X[:1], T[:1]),
    "numpy-dtype": lambda: fit(dtype=np.float32),
    "torch-device": lambda: fit(device=torch.device("cpu")),
    "registered-name-in-capitals": lambda: fit(optimizer="SGD"),
    "empty-callbacks": lambda: fit(callbacks=[]),
    "scalar-weight": lambda: fit(X, Y, 2.0),
}


@pytest.mark.parametrize("do", GOOD.values(), ids=GOOD.keys())
def test_good_input_of_unusual_type_is_taken(do):
    estimator = do()
    assert np.isfinite(estimator.loss_curve_).all()
    assert len(estimator.loss_curve_) == 2
