"""One of each built-in callback, and more of those that remember most, in fits to be resumed."""

from __future__ import annotations

import dataclasses
import functools
import re
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from callbacks.built_in import IMAGES, ON_IMAGES, make, make_estimator
from torch import nn

from skorchlike import (
    EMA,
    SWA,
    ActivationStats,
    BatchTransform,
    Callback,
    CancelBatchException,
    EarlyStopping,
    Freeze,
    GradientAccumulation,
    GradientClipping,
    LRFinder,
    LRScheduler,
    Metrics,
    MixedPrecision,
    Mixup,
    NaNGuard,
    NeuralNetClassifier,
    ParamScheduler,
    SingleEpoch,
    TensorBoard,
    Unfreeze,
    list_callbacks,
)

N = 48
X = IMAGES.reshape(N, -1)
Y = np.arange(N) % 3
EPOCHS, BATCHES = 4, 4


class CountsRight:
    """A metric of the user's: what it gathers stands in an object of its own and in a list."""

    class Tally:
        def __init__(self):
            self.right = torch.zeros((), dtype=torch.int64)

    def __init__(self):
        self.reset()

    def reset(self):
        self.tally, self.sizes = self.Tally(), []

    def update(self, preds, target):
        self.tally.right = self.tally.right + (preds.argmax(1) == target).sum()
        self.sizes.append(len(target))

    def compute(self):
        return self.tally.right / sum(self.sizes)


class Standardize(nn.Module):
    """A transform that learns by being called."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(X.shape[1], affine=False)

    def forward(self, X):
        return self.norm(X)


class Wave:
    """A transform that is no module and has a state."""

    def __init__(self):
        self.n = 0

    def __call__(self, X):
        self.n += 1
        return X + 0.1 * np.sin(self.n)

    def state_dict(self):
        return {"n": self.n}

    def load_state_dict(self, state):
        self.n = state["n"]


class LeaveOut(Callback):
    """Cancels the last batch of an epoch, so that its group goes on in the next one."""

    order = -200

    def on_batch_begin(self, ctx):
        if ctx.is_last_batch:
            raise CancelBatchException


class Spoils(Callback):
    """Makes the loss NaN from a batch on, and leaves out its steps."""

    order = -1

    def on_after_loss(self, ctx):
        if ctx.global_step >= 8:
            ctx.loss = ctx.loss * float("nan")

    def on_after_backward(self, ctx):
        if ctx.global_step >= 8:
            ctx.skip_step()


class Normed(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Linear(X.shape[1], 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
        )


def metrics_with_states():
    with warnings.catch_warnings(action="ignore"):  # torcheval's own, when it is imported
        import torcheval.metrics
        import torchmetrics

    accuracy = torchmetrics.Accuracy("multiclass", num_classes=3)
    metrics = {
        "auroc": torchmetrics.AUROC("multiclass", num_classes=3),
        "accuracy": accuracy,
        "composed": accuracy + 1.0,
        "eval": torcheval.metrics.MulticlassAccuracy(),
        "right": CountsRight(),
        "neg_log_loss": "neg_log_loss",
    }
    return [Metrics(metrics, on="both")]


NAMES = [name for name in list_callbacks() if not name.startswith(("test", "checkpoint"))]


@functools.cache
def _empty_store():
    """Return a database of MLflow: to make one takes seconds."""
    from mlflow.tracking import MlflowClient

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
        return Path(folder, "mlflow.db").read_bytes()


def case(name, folder):
    """Return an estimator of four epochs by four batches, and its data."""
    if name == "mlflow" and not Path(folder, "mlflow.db").exists():
        Path(folder, "mlflow.db").write_bytes(_empty_store())
    if name in NAMES:
        net = make_estimator(name, callbacks={name: make(name, folder)}, max_epochs=EPOCHS)
        return net, (IMAGES if name in ON_IMAGES else X), Y
    callbacks, params = more_cases(folder)[name]
    callbacks = callbacks() if callable(callbacks) else callbacks
    params = {"dtype": "float32", "batch_size": 10, "validation_fraction": 0.25, **params}
    params = {"module": None, "lr": 0.01, "max_epochs": EPOCHS, "random_state": 0, **params}
    return NeuralNetClassifier(callbacks=callbacks, **params), X, Y


def more_cases(folder):
    """Return name → callbacks and parameters of the estimator."""
    folder = Path(folder)
    one_cycle = LRScheduler("one_cycle", unit="batch")
    plateau = LRScheduler("plateau", monitor="train_loss", policy__patience=0)
    milestones = LRScheduler("multi_step", unit="batch", policy__milestones=[3, 6, 9])
    cyclic = LRScheduler("cyclic", unit="batch", policy__base_lr=0.001, policy__max_lr=0.1)
    tensor_lr = {"optimizer__lr": torch.tensor(0.01)}
    board = TensorBoard(folder / "board", unit="batch", histograms="*", gradients=True)
    return {
        "accumulation over epochs": ([GradientAccumulation(3), LeaveOut()], {}),
        "accumulation weighed": ([GradientAccumulation(3)], {"class_weight": "balanced"}),
        "accumulation in float16": ([GradientAccumulation(3), MixedPrecision("float16")], {}),
        "float16 that overflows": ([MixedPrecision("float16", init_scale=1e38)], {}),
        "float16 that grows": ([MixedPrecision("float16", growth_interval=3)], {}),
        "one_cycle": ([one_cycle], {}),
        "one_cycle, accumulated": ([one_cycle, GradientAccumulation(2)], {"lr": 0.1}),
        "one_cycle warmed up": ([LRScheduler("one_cycle", unit="batch", warmup=3)], {}),
        "cosine warmed up": ([LRScheduler(warmup=2)], {}),
        "plateau": ([plateau], {}),
        "milestones": ([milestones], {}),
        "cyclic": ([cyclic], {"optimizer": "sgd", "optimizer__momentum": 0.9}),
        "schedule of a tensor": ([one_cycle], tensor_lr),
        "early stopping": ([EarlyStopping(patience=2)], {"lr": 0.3}),
        "early stopping, last epoch": ([EarlyStopping(min_delta=9)], {}),
        "ema late": ([EMA(0.5, start=0.5)], {"module": Normed, "max_epochs": 8}),
        "swa late": (
            [SWA(0.5, lr=0.1, anneal_epochs=2)],
            {"module": Normed, "max_epochs": 8},
        ),
        "swa over a schedule": ([SWA(2, lr=0.1), ParamScheduler()], {"module": Normed}),
        "swa that is restored": ([SWA(2), EarlyStopping()], {"module": Normed}),
        "parameter by epoch": ([ParamScheduler("lr", "linear", unit="epoch")], {}),
        "parameter of a tensor": ([ParamScheduler("lr")], tensor_lr),
        "dropout by batch": ([ParamScheduler("*.p", "linear")], {"module": Normed}),
        "dropout by epoch": ([ParamScheduler("*.p", unit="epoch")], {"module": Normed}),
        "metrics": (metrics_with_states, {}),
        "metrics thinned": ([Metrics({"m": "neg_log_loss"}, on="train", max_rows=9)], {}),
        "activations thinned": ([ActivationStats(max_records=5)], {}),
        "activations, every third": ([ActivationStats(every=3)], {}),
        "transform that learns": ([BatchTransform(Standardize(), on="all")], {}),
        "transform with a state": ([BatchTransform(Wave())], {}),
        "clipping late": ([GradientClipping(0.1), GradientAccumulation(3)], {}),
        "guard, every third": ([NaNGuard("stop", every=3), Spoils()], {}),
        "unfreezing by batch": (
            [Unfreeze("2.*", {2: "0.bias", 7: "*"}, unit="batch"), GradientAccumulation(3)],
            {},
        ),
        "freezing": ([Freeze("0.*"), EMA(0.5)], {}),
        "two epochs": ([SingleEpoch(2)], {}),
        "sweep": ([LRFinder(n_steps=11, stop_factor=None)], {"module": Normed}),
        "sweep, accumulated": ([LRFinder(n_steps=4), GradientAccumulation(3)], {}),
        "board": ([board], {}),
        "dropout and mixup": ([Mixup()], {"module": Normed}),
        "many": (many, {"module": Normed}),
    }


def many():
    """Return callbacks that go together, half of all."""
    return [
        GradientAccumulation(3),
        MixedPrecision(),
        LRScheduler("one_cycle", unit="batch"),
        ParamScheduler("*.p"),
        EMA(0.8, start=0.3),
        GradientClipping(0.5),
        EarlyStopping(patience=3),
        Mixup(),
        Metrics(["neg_log_loss", "f1_macro"], on="valid"),
        ActivationStats(),
        Unfreeze(schedule={2: "0.bias"}),
        "nan_guard",
        "summary",
        "profile",
        "print_log",
    ]


MORE_NAMES = list(more_cases("."))

TIMES = ("duration", "spent", "total_ns", "n_files", "run_id")
"""What differs from fit to fit: times, and names drawn at random; TensorBoard's files."""


def bits(value, folder=""):
    """Return nested values as what ``==`` compares to the bit, without times and folders."""
    if isinstance(value, torch.Tensor):
        raw = value.detach().flatten().view(torch.uint8).numpy().tobytes()
        return str(value.dtype), tuple(value.shape), value.stride(), raw
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return {key: bits(part, folder) for key, part in value.items() if key not in TIMES}
    if isinstance(value, (list, tuple)):
        return [bits(part, folder) for part in value]
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, str):  # FreshFolder's folders have random names
        return re.sub(r"/tmp\w{8}$", "/tmp", value.replace(str(folder), ""))
    return value


def report_without_times(report):
    """Return the calls that a `ProfileReport` has counted, of those that are compared."""
    return [row[:-1] for row in report["rows"] if row[2] not in ("stops", "checkpoint")]


def outcome(net, folder):
    """Return weights, optimizer, history, states and end of a fit, as bits."""
    model = net.model_
    states = dict(model.callbacks_)
    for name, state in states.items():
        if type(state).__name__ == "ProfileReport":
            states[name] = report_without_times(state)
    inputs = X if net.n_features_in_ == X.shape[1] else IMAGES
    parts = {
        "module": model.module_.state_dict(),
        "criterion": model.criterion_.state_dict(),
        "optimizer": model.optimizer_,
        "history": model.history_,
        "states": states,
        "rng": model.continuation_["rng"],
        "stop_reason": model.stop_reason_,
        "predictions": net.predict_proba(inputs),
    }
    return {name: bits(part, folder) for name, part in parts.items()}


WARNINGS = (
    "ignore:EMA:UserWarning",
    "ignore:MixedPrecision left out:UserWarning",
    "ignore:LRFinder has n_steps:UserWarning",
    "ignore:Metrics keeps at most:UserWarning",
    "ignore:Full backward hook is firing:UserWarning",
    "ignore:The training loss of epoch:UserWarning",
)
"""What these short fits are told."""
