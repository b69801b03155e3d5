"""Full fits, each from the arrays of a `Workload` to a fitted model.

All train in float32 with Adam, on shuffled batches, without validation. What is timed is
the whole call: the module is built, the arrays are taken over, the losses are kept.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from peers import Trained, ignite, lightning, loader, skorch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from torch import nn
from workloads import Workload

from skorchlike import NeuralNetClassifier
from skorchlike.modules import MLP


def reference(work: Workload) -> Trained:
    """Train by the raw loop R: one shuffle and gather an epoch, fused Adam."""
    torch.manual_seed(work.seed)
    X, y = torch.from_numpy(work.X), torch.from_numpy(work.y)

    def batches() -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(X)) if work.shuffle else torch.arange(len(X))
        return zip(X[order].split(work.batch_size), y[order].split(work.batch_size), strict=True)

    return _raw_loop(work, batches, fused=True)


def raw_dataloader(work: Workload) -> Trained:
    """Train by the loop of the tutorials: a DataLoader and Adam as they come."""
    torch.manual_seed(work.seed)
    batches = loader(work)
    return _raw_loop(work, lambda: batches)


def _raw_loop(work: Workload, batches: Callable[[], Iterable[Any]], **options: Any) -> Trained:
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
    return Trained(module, optimizer, loss_curve)


def own_module(work: Workload) -> NeuralNetClassifier:
    """Fit this package's classifier around the module that the raw loop trains."""
    if work.module is not None:
        return _fit(work, module=work.module)
    named = {f"module__{name}": value for name, value in work.arguments.items()}
    return _fit(work, module=work.module_class, **named)


def built_in(work: Workload) -> NeuralNetClassifier:
    """Fit this package's classifier with its built-in MLP of the same sizes.

    As it comes it also standardizes the numbers, which no other contender does. With a
    given module it begins from that one's weights and leaves the numbers as they are.
    """
    if work.module is None:
        return _fit(work, module__hidden_layer_sizes=work.hidden)
    module = MLP(work.sizes[0], work.n_classes, work.hidden)
    for mine, given in zip(module.parameters(), work.module.parameters(), strict=True):
        mine.data = given.detach().clone()
    return _fit(work, module=module, numeric_transform=None)


def _fit(work: Workload, **arguments: Any) -> NeuralNetClassifier:
    net = NeuralNetClassifier(
        **arguments,
        optimizer="adam",
        lr=work.lr,
        max_epochs=work.max_epochs,
        batch_size=work.batch_size,
        shuffle=work.shuffle,
        random_state=work.seed,
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


REFERENCE, OWN, BUILT_IN = "raw loop R", "skorchlike", "skorchlike, built-in MLP"
SKLEARN = "scikit-learn MLP"

ALL: dict[str, Callable[[Workload], Any]] = {
    REFERENCE: reference,
    OWN: own_module,
    BUILT_IN: built_in,
    "skorch": skorch,
    "Lightning": lightning,
    "ignite": ignite,
    SKLEARN: scikit_learn,
    "raw, DataLoader": raw_dataloader,
}
MLPS = {BUILT_IN, SKLEARN}
"""Contenders that train an MLP and nothing else."""

PACKAGES = {"skorch": "skorch", "Lightning": "pytorch_lightning", "ignite": "ignite"}


def missing() -> list[str]:
    """Return the contenders whose package is not installed."""
    return [name for name, package in PACKAGES.items() if not importlib.util.find_spec(package)]


def suited(work: Workload) -> dict[str, Callable[[Workload], Any]]:
    """Return the contenders that are installed and can train this workload."""
    absent = set(missing()) | (set() if work.is_mlp else MLPS)
    return {name: fit for name, fit in ALL.items() if name not in absent}
