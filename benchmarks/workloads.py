"""The data, modules and sizes that every contender is given."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.datasets import load_iris, make_classification
from torch import Tensor, nn


class Net(nn.Module):
    """Linear layers with ReLU between them: a module of one's own, with its own forward.

    No contender can know what such a forward does, so each has to train it by autograd.
    """

    def __init__(self, sizes: tuple[int, ...] = ()) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, size in pairwise(sizes):
            layers += [nn.Linear(width, size), nn.ReLU()]
        self.layers = nn.ModuleList(layers[:-1])

    def forward(self, X: Tensor) -> Tensor:
        for layer in self.layers:
            X = layer(X)
        return X


class SmallCNN(nn.Module):
    """Two convolutions with pooling and a linear layer, for images of 28 × 28."""

    def __init__(self, n_classes: int = 10) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 16, 3, padding=1)
        self.last = nn.Linear(16 * 7 * 7, n_classes)

    def forward(self, X: Tensor) -> Tensor:
        X = nn.functional.max_pool2d(nn.functional.relu(self.first(X)), 2)
        X = nn.functional.max_pool2d(nn.functional.relu(self.second(X)), 2)
        return self.last(X.flatten(1))


@dataclass(frozen=True)
class Workload:
    """One problem and how it is to be trained.

    `hidden` are the widths of the hidden layers, empty where the module is no MLP.
    `module` replaces the fresh module by copies of an instance, and `shuffle=False` keeps
    the rows' order: so contenders can start from the same weights on the same batches.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    hidden: tuple[int, ...]
    batch_size: int
    max_epochs: int
    module_class: type[nn.Module] = Net
    lr: float = 1e-3
    seed: int = 0
    shuffle: bool = True
    module: nn.Module | None = field(default=None, repr=False)

    @property
    def is_mlp(self) -> bool:
        """Whether the built-in MLP and scikit-learn's can be given the same layers."""
        return self.module_class is Net

    @property
    def n_classes(self) -> int:
        return int(self.y.max()) + 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of all layers of the MLP, from the features to the classes."""
        return (self.X.shape[1], *self.hidden, self.n_classes)

    @property
    def arguments(self) -> dict[str, Any]:
        """What `module_class` is called with."""
        return {"sizes": self.sizes} if self.is_mlp else {"n_classes": self.n_classes}

    @property
    def n_steps(self) -> int:
        """Optimizer steps of a full fit."""
        return -(-len(self.X) // self.batch_size) * self.max_epochs

    def build_module(self) -> nn.Module:
        """Return the module to train, for the loops that build it themselves."""
        if self.module is not None:
            return copy.deepcopy(self.module)
        return self.module_class(**self.arguments)

    def __str__(self) -> str:
        rows, *shape = self.X.shape
        layers = f"MLP {'-'.join(map(str, self.hidden))}" if self.is_mlp else "small CNN"
        return (
            f"{self.name}: {rows:,} × {' × '.join(map(str, shape))}, {self.n_classes} classes, "
            f"{layers}, batch {self.batch_size}, {self.max_epochs} epochs, {self.n_steps} steps"
        ).replace(" 1 epochs", " 1 epoch")


def w1() -> Workload:
    """Return the workload of throughput: 10,000 rows of 20 features."""
    return _classification("W1", (10_000, 20, 3), (64, 64), 64, 5)


def w2() -> Workload:
    """Return the larger network on more rows, of the size of the covertype data."""
    return _classification("W2", (50_000, 54, 7), (256, 256), 256, 3)


def w3() -> Workload:
    """Return the workload of latency: the 150 rows of iris."""
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    return Workload("W3", X.astype(np.float32), y.astype(np.int64), (20,), 16, 50)


def w4() -> Workload:
    """Return small images for a small CNN: a bright square each, by whose place they differ."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 10, 2_000)
    X = generator.standard_normal((2_000, 1, 28, 28), dtype=np.float32)
    for image, label in zip(X, y, strict=True):
        row, column = divmod(int(label), 4)
        image[0, 8 * row : 8 * row + 6, 7 * column : 7 * column + 6] += 1
    return Workload("W4", X, y, (), 64, 1, SmallCNN)


def _classification(
    name: str, shape: tuple[int, int, int], hidden: tuple[int, ...], batch_size: int, epochs: int
) -> Workload:
    rows, features, n_classes = shape
    X, y = make_classification(
        rows, features, n_informative=10, n_classes=n_classes, random_state=0
    )
    return Workload(name, X.astype(np.float32), y.astype(np.int64), hidden, batch_size, epochs, Net)


ALL = {"W1": w1, "W2": w2, "W3": w3, "W4": w4}
