"""The data and sizes that every contender is given."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from sklearn.datasets import load_iris, make_classification
from torch import nn


class Net(nn.Sequential):
    """Linear layers with ReLU between them: the module of every torch contender."""

    def __init__(self, sizes: tuple[int, ...] = ()) -> None:
        layers: list[nn.Module] = []
        for width, size in pairwise(sizes):
            layers += [nn.Linear(width, size), nn.ReLU()]
        super().__init__(*layers[:-1])


@dataclass(frozen=True)
class Workload:
    """One problem and how it is to be trained.

    `module` replaces the fresh `Net` by copies of an instance, and `shuffle=False` keeps
    the rows' order: so contenders can start from the same weights on the same batches.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    hidden: tuple[int, ...]
    batch_size: int
    max_epochs: int
    lr: float = 1e-3
    seed: int = 0
    shuffle: bool = True
    module: nn.Module | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of all layers, from the features to the classes."""
        return (self.X.shape[1], *self.hidden, int(self.y.max()) + 1)

    @property
    def n_steps(self) -> int:
        """Optimizer steps of a full fit."""
        return -(-len(self.X) // self.batch_size) * self.max_epochs

    def build_module(self) -> nn.Module:
        """Return the module to train, for the loops that build it themselves."""
        return Net(self.sizes) if self.module is None else copy.deepcopy(self.module)

    def __str__(self) -> str:
        rows, features = self.X.shape
        layers = "-".join(map(str, self.hidden))
        return (
            f"{self.name}: {rows:,} x {features}, {self.sizes[-1]} classes, MLP {layers}, "
            f"batch {self.batch_size}, {self.max_epochs} epochs, {self.n_steps} steps"
        )


def w1() -> Workload:
    """Return the workload of throughput: 10,000 rows of 20 features."""
    X, y = make_classification(10_000, 20, n_informative=10, n_classes=3, random_state=0)
    return Workload("W1", X.astype(np.float32), y.astype(np.int64), (64, 64), 64, 5)


def w3() -> Workload:
    """Return the workload of latency: the 150 rows of iris."""
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    return Workload("W3", X.astype(np.float32), y.astype(np.int64), (20,), 16, 50)
