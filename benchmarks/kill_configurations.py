"""The fits that `kills.py` kills: small ones that together use most of what has a state."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.datasets import make_classification, make_regression
from sklearn.metrics import mean_absolute_error
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from skorchlike import (
    EMA,
    SWA,
    Callback,
    Checkpoint,
    CutMix,
    EarlyStopping,
    GradientAccumulation,
    GradientClipping,
    LRScheduler,
    Metrics,
    MixedPrecision,
    Mixup,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParamScheduler,
    Unfreeze,
)

TRUSTED = (__name__,)
X, Y = make_classification(310, 6, n_informative=4, n_classes=3, random_state=0)
X = X.astype(np.float32)
HELD = {"X_val": X[:60], "y_val": Y[:60]}
NUMBERS = make_regression(310, 6, noise=5, random_state=1)


class Reports(Callback):
    """Tell through a pipe where the fit is and which checkpoint was saved last."""

    order = float("inf")  # given after the checkpoint, it is called after it
    passive = True

    def __init__(self, descriptor: int = -1) -> None:
        self.descriptor = descriptor

    def tell(self, ctx: Any, place: str) -> None:
        saved = ctx.callbacks["checkpoint"].last if "checkpoint" in ctx.callbacks else None
        tell(self.descriptor, place, ctx.global_step, saved)

    def on_begin(self, ctx: Any) -> None:
        self.tell(ctx, "begins")

    def on_epoch_begin(self, ctx: Any) -> None:
        self.tell(ctx, "in an epoch")

    def on_batch_exit(self, ctx: Any) -> None:
        self.tell(ctx, "in an epoch")

    def on_epoch_end(self, ctx: Any) -> None:
        self.tell(ctx, "between")

    def on_end(self, ctx: Any) -> None:
        self.tell(ctx, "between")


def tell(descriptor: int, *said: Any) -> None:
    """Write a line: by one system call, so that it comes whole or not at all."""
    os.write(descriptor, json.dumps(said).encode() + b"\n")


class Normalized(nn.Sequential):
    """A module of one's own, with running statistics."""

    def __init__(self, n_features_in: int, n_outputs: int) -> None:
        layers = (nn.Linear(n_features_in, 16), nn.BatchNorm1d(16), nn.ReLU())
        super().__init__(*layers, nn.Dropout(0.2), nn.Linear(16, n_outputs))


class Images(nn.Sequential):
    """A convolution over 4 x 4 images."""

    def __init__(self) -> None:
        layers = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1))
        super().__init__(*layers, nn.Linear(64, 3))


class Noisy(Dataset):
    """Rows that are changed at random each time they are read."""

    def __len__(self) -> int:
        return 150

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        flip = 1 if torch.rand(()) < 0.5 else -1
        return flip * torch.from_numpy(X[i]) + 0.1 * torch.randn(6), int(Y[i])


class MeanError:
    """A metric with a state, which it gathers from batch to batch."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total, self.n_rows = torch.zeros(()), 0

    def update(self, preds: torch.Tensor, target: torch.Tensor) -> None:
        self.total = self.total + (1 - preds.max(dim=1).values).sum()
        self.n_rows += len(target)

    def compute(self) -> float:
        return float(self.total / self.n_rows)


@dataclass(frozen=True)
class Configuration:
    """A fit.

    Attributes
    ----------
    what : str
        In words, for the table.
    saves : dict
        What is said to `Checkpoint`.
    callbacks : function
        Returns the callbacks beside it.
    params : dict
        Parameters of the estimator.
    data : function
        Returns what ``fit`` is given.
    cls : type
        The estimator.
    seed : int or None
        Its ``random_state``.
    """

    what: str
    saves: Mapping[str, Any]
    callbacks: Callable[[], dict[str, Any]] = dict
    params: Mapping[str, Any] = field(default_factory=dict)
    data: Callable[[], dict[str, Any]] = lambda: {"X": X, "y": Y}
    cls: type = NeuralNetClassifier
    seed: int | None = 0

    def estimator(self, folder: Path, seed: int | None) -> Any:
        """Return the estimator, unfitted."""
        callbacks = {"checkpoint": Checkpoint(folder, **self.saves), **self.callbacks()}
        own_module = "module" in self.params
        size = {} if own_module else {"module__hidden_layer_sizes": (24,)}
        params = {"batch_size": 40, "validation_fraction": 0.2, "lr": 0.01, **size, **self.params}
        return self.cls(callbacks=callbacks, random_state=seed, **params)


def loader() -> dict[str, Any]:
    """Return a loader with a generator of its own."""
    data = TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    generator = torch.Generator().manual_seed(5)
    return {"X": DataLoader(data, batch_size=30, shuffle=True, generator=generator)}


def frame() -> dict[str, Any]:
    """Return a frame with categories and a hole."""
    columns = pd.DataFrame(X[:, :4], columns=list("abcd")).astype("float64")
    columns.loc[3, "b"] = np.nan
    kinds = np.array(["low", "middle", "high"])[np.digitize(X[:, 4], [-0.5, 0.5])]
    return {"X": columns.assign(kind=pd.Categorical(kinds)), "y": Y}


def weighted() -> dict[str, Any]:
    """Return numbers to predict, with weights."""
    weight = np.random.default_rng(0).uniform(0.5, 2, len(NUMBERS[1]))
    return {"X": NUMBERS[0], "y": 100 + 1000 * NUMBERS[1], "sample_weight": weight}


def images() -> dict[str, Any]:
    """Return images."""
    pixels = np.random.default_rng(0).normal(size=(150, 1, 4, 4)).astype(np.float32)
    return {"X": pixels, "y": Y[:150]}


def all_together() -> dict[str, Any]:
    """Return many callbacks that have a state."""
    return {
        "accumulation": GradientAccumulation(4),
        "clipping": GradientClipping(1.0),
        "bf16": MixedPrecision("bfloat16"),
        "one_cycle": LRScheduler("one_cycle", unit="batch"),
        "ema": EMA(0.9),
        "mixup": Mixup(0.4),
        "metrics": Metrics({"f1": "f1_macro", "error": MeanError()}),
        "stopping": EarlyStopping("valid_f1", patience=15),
    }


NO_SPLIT = {"validation_fraction": None}
DROPOUT = {"module__dropout": 0.2}
BATCH = {"unit": "batch"}

CONFIGURATIONS: dict[str, Configuration] = {
    "accumulation": Configuration(
        "7 batches an epoch in groups of 3, gradient clipping, dropout",
        BATCH,
        lambda: {"accumulation": GradientAccumulation(3), "clipping": GradientClipping(0.5)},
        {"max_epochs": 20, **DROPOUT},
    ),
    "bf16": Configuration(
        "mixed precision in bfloat16, dropout, given validation data",
        {"unit": "batch", "every": 3},
        lambda: {"bf16": MixedPrecision("bfloat16")},
        {"max_epochs": 30, **DROPOUT},
        lambda: {"X": X[60:], "y": Y[60:], **HELD},
    ),
    "one_cycle": Configuration(
        "one-cycle by batch for lr and momentum, SGD",
        {"unit": "batch", "keep": 3},
        lambda: {"one_cycle": LRScheduler("one_cycle", unit="batch")},
        {"max_epochs": 20, "optimizer": "sgd", "optimizer__momentum": 0.9},
    ),
    "ema": Configuration(
        "EMA, cosine by epoch",
        {"keep": 3, "monitor": "valid_loss"},
        lambda: {"ema": EMA(0.95), "cosine": LRScheduler("cosine")},
        {"max_epochs": 60, **DROPOUT},
    ),
    "swa": Configuration(
        "SWA with its own lr over a module with batch normalization",
        {"unit": "batch", "every": 3, "keep": 2},
        lambda: {"swa": SWA(0.4, lr=0.02, anneal_epochs=3)},
        {"module": Normalized, "max_epochs": 40},
    ),
    "early_stopping": Configuration(
        "early stopping that restores the best weights, lr lowered on a plateau",
        {"monitor": "valid_loss"},
        lambda: {
            "stopping": EarlyStopping(patience=12),
            "plateau": LRScheduler("plateau", policy__patience=5),
        },
        {"max_epochs": 400, "lr": 0.005, **DROPOUT},
    ),
    "mixup": Configuration(
        "dropout and mixup",
        {"unit": "second", "every": 0.03},
        lambda: {"mixup": Mixup(0.4)},
        {"max_epochs": 120, "module__dropout": 0.4},
    ),
    "images": Configuration(
        "CutMix on images, weight decay that follows a curve",
        {"unit": "batch", "every": 2},
        lambda: {"cutmix": CutMix(), "decay": ParamScheduler("weight_decay", "linear")},
        {"module": Images, "max_epochs": 25, "optimizer": "adamw", "batch_size": 20},
        images,
    ),
    "dataset": Configuration(
        "a dataset that draws random numbers for each row",
        BATCH,
        dict,
        {"max_epochs": 20, "batch_size": 25, **NO_SPLIT, **DROPOUT},
        lambda: {"X": Noisy()},
    ),
    "workers": Configuration(
        "the same read by two worker processes",
        {"unit": "batch", "every": 2},
        dict,
        {"max_epochs": 8, "batch_size": 25, **NO_SPLIT, "train_loader__num_workers": 2},
        lambda: {"X": Noisy()},
    ),
    "loader": Configuration(
        "a DataLoader with a generator of its own",
        BATCH,
        dict,
        {"max_epochs": 14, **NO_SPLIT, **DROPOUT},
        loader,
    ),
    "regressor": Configuration(
        "regression with scaled targets and sample weights, a metric",
        {"unit": "second", "every": 0.02},
        lambda: {"metrics": Metrics(mean_absolute_error, on="both")},
        {"max_epochs": 60, **DROPOUT},
        weighted,
        NeuralNetRegressor,
    ),
    "metrics": Configuration(
        "metrics of training and validation data, a frame with categories",
        {"unit": "batch", "every": 1, "keep": 3, "monitor": "valid_f1"},
        lambda: {"metrics": Metrics({"f1": "f1_macro", "error": MeanError()}, on="both")},
        {"max_epochs": 12, **DROPOUT},
        frame,
    ),
    "unfreezing": Configuration(
        "layers unfrozen in turn",
        BATCH,
        lambda: {"unfreeze": Unfreeze(starting="*.bias", schedule={4: "*"})},
        {"max_epochs": 16, **DROPOUT},
    ),
    "no_seed": Configuration(
        "`random_state=None`: the seed comes from the checkpoint",
        BATCH,
        dict,
        {"max_epochs": 20, **DROPOUT},
        seed=None,
    ),
    "together": Configuration(
        "accumulation, clipping, bf16, one-cycle, EMA, mixup, metrics, early stopping at once",
        BATCH,
        all_together,
        {"max_epochs": 14, "module": Normalized},
    ),
}


def fit(
    name: str, folder: Path | None, result: Path, descriptor: int, seed: int | None = None
) -> None:
    """Fit, from where an earlier process came; write down what came out.

    Parameters
    ----------
    name : str
        Which configuration.
    folder : Path or None
        Of the checkpoints. None fits without any.
    result : Path
        The file for `bits`.
    descriptor : int
        Of the pipe through which `Reports` tells.
    seed : int or None
        The seed where the configuration has none.
    """
    torch.set_num_threads(1)
    configuration = CONFIGURATIONS[name]
    seed = configuration.seed if configuration.seed is not None else seed
    callbacks: dict[str, Any] = {"reports": Reports(descriptor)}
    net = configuration.estimator(Path() if folder is None else folder, seed)
    if folder is None:
        callbacks["checkpoint"] = None
    given = configuration.data()
    tell(descriptor, "fit", 0, None)
    net.fit(**given, callbacks=callbacks, resume=folder is not None or None)
    X = X_of(given["X"])
    beside = result.with_suffix(".part")
    beside.write_text(json.dumps(bits(net, X, configuration.saves.get("unit") == "second")))
    beside.rename(result)


def X_of(given: Any) -> Any:
    """Return inputs to predict from."""
    return X if isinstance(given, (Dataset, DataLoader)) else given


def bits(net: Any, inputs: Any, by_time: bool = False) -> dict[str, str]:
    """Return every bit of a fit by its place: numbers in hexadecimal, arrays as digests.

    Times are left out, and so is where the checkpoints are; with `by_time` also which.
    """
    model = net.model_
    places = {"folder", "files", "last", "best_file"} if by_time else {"folder"}
    states = {name: dict(state) for name, state in model.callbacks_.items()}
    if "checkpoint" in states:
        kept = states["checkpoint"].items()
        states["checkpoint"] = {key: value for key, value in kept if key not in places}
    rows = [{k: v for k, v in row.items() if k != "duration"} for row in model.history_]
    asked = [name for name in ("predict", "predict_proba") if hasattr(net, name)]
    told = {
        "module": model.module_.state_dict(),
        "buffers": dict(model.module_.named_buffers()),
        "criterion": model.criterion_.state_dict(),
        "optimizer": model.optimizer_,
        "callbacks": states,
        "history": rows,
        "rng": model.continuation_["rng"],
        "seed": model.seed_,
        "n_epochs": model.n_epochs_,
        "global_step": model.continuation_["global_step"],
        "stop_reason": model.stop_reason_,
        "predictions": {name: getattr(net, name)(inputs) for name in asked},
    }
    return dict(_places(told, ""))


def _places(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield places and values of nested containers; what is of an unknown kind is an error."""
    if isinstance(value, Mapping):
        yield place, f"{type(value).__name__} of {[str(key) for key in value]}"
        for key, part in value.items():
            yield from _places(part, f"{place}.{key}" if place else str(key))
    elif isinstance(value, (list, tuple)):
        yield place, f"{type(value).__name__} of {len(value)}"
        for number, part in enumerate(value):
            yield from _places(part, f"{place}[{number}]")
    elif isinstance(value, float) and type(value) is float:
        yield place, value.hex()
    elif value is None or type(value) in (bool, int, str):
        yield place, repr(value)
    elif isinstance(value, torch.Tensor):
        raw = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        yield place, f"{value.dtype} {tuple(value.shape)} {_digest(raw)}"
    elif isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.hasobject:
            yield from _places(array.tolist(), place)
            return
        yield place, f"{array.dtype} {array.shape} {_digest(np.ascontiguousarray(array))}"
    else:
        raise TypeError(f"{place} is of a kind that is not compared: {type(value)!r}")


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]
