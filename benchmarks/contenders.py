"""Full fits, each from the arrays of a `Workload` to a fitted model.

All train in float32 with Adam, on shuffled batches, without validation. What is timed is
the whole call: the module is built, the arrays are taken over, the losses are kept.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from workloads import Net, Workload

from skorchlike import NeuralNetClassifier


class RawModel(NamedTuple):
    """What a raw loop leaves behind."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    loss_curve: list[float]


def reference(work: Workload) -> RawModel:
    """Train by the raw loop R: one shuffle and gather an epoch, fused Adam."""
    torch.manual_seed(work.seed)
    X, y = torch.from_numpy(work.X), torch.from_numpy(work.y)

    def batches() -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(X)) if work.shuffle else torch.arange(len(X))
        return zip(X[order].split(work.batch_size), y[order].split(work.batch_size), strict=True)

    return _raw_loop(work, batches, fused=True)


def raw_dataloader(work: Workload) -> RawModel:
    """Train by the loop of the tutorials: a DataLoader and Adam as they come."""
    torch.manual_seed(work.seed)
    dataset = TensorDataset(torch.from_numpy(work.X), torch.from_numpy(work.y))
    loader = DataLoader(dataset, batch_size=work.batch_size, shuffle=work.shuffle)
    return _raw_loop(work, lambda: loader)


def _raw_loop(work: Workload, batches: Callable[[], Iterable[Any]], **options: Any) -> RawModel:
    module = work.build_module()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(module.parameters(), lr=work.lr, **options)
    loss_curve = []
    for _ in range(work.max_epochs):
        total = 0.0
        for X, y in batches():
            loss = criterion(module(X), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.item() * len(X)
        loss_curve.append(total / len(work.X))
    module.eval()
    return RawModel(module, optimizer, loss_curve)


def _module_arguments(work: Workload) -> dict[str, Any]:
    if work.module is not None:
        return {"module": work.module}
    return {"module": Net, "module__sizes": work.sizes}


def skorchlike(work: Workload) -> NeuralNetClassifier:
    """Fit this package's classifier."""
    net = NeuralNetClassifier(
        **_module_arguments(work),
        optimizer="adam",
        lr=work.lr,
        max_epochs=work.max_epochs,
        batch_size=work.batch_size,
        shuffle=work.shuffle,
        random_state=work.seed,
    )
    return net.fit(work.X, work.y)


def skorch(work: Workload) -> Any:
    """Fit skorch's classifier: its DataLoader and callbacks as they come."""
    from skorch import NeuralNetClassifier as SkorchClassifier

    torch.manual_seed(work.seed)
    net = SkorchClassifier(
        **_module_arguments(work),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=work.lr,
        max_epochs=work.max_epochs,
        batch_size=work.batch_size,
        iterator_train__shuffle=work.shuffle,
        train_split=None,
        verbose=0,
    )
    return net.fit(work.X, work.y)


def scikit_learn(work: Workload) -> MLPClassifier:
    """Fit scikit-learn's own MLP, which can begin from no given weights."""
    net = MLPClassifier(
        work.hidden,
        solver="adam",
        alpha=0.0,
        batch_size=work.batch_size,
        learning_rate_init=work.lr,
        max_iter=work.max_epochs,
        shuffle=work.shuffle,
        random_state=work.seed,
        tol=0.0,
        n_iter_no_change=10**9,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return net.fit(work.X, work.y)


REFERENCE = "raw loop R"

ALL: dict[str, Callable[[Workload], Any]] = {
    REFERENCE: reference,
    "skorchlike": skorchlike,
    "skorch": skorch,
    "scikit-learn MLP": scikit_learn,
    "raw, DataLoader": raw_dataloader,
}


def missing() -> list[str]:
    """Return the contenders whose package is not installed."""
    return [] if importlib.util.find_spec("skorch") else ["skorch"]
