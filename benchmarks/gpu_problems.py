"""What is trained on an accelerator: a small MLP, a CNN, a transformer encoder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from workloads import Net


class ImageNet(nn.Module):
    """Three stages of two convolutions each, for 32 × 32 images; without batch norm."""

    def __init__(self, width: int = 64, n_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for size in (width, 2 * width, 4 * width):
            for _ in range(2):
                layers += [nn.Conv2d(channels, size, 3, padding=1), nn.ReLU()]
                channels = size
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.ModuleList(layers)
        self.last = nn.Linear(channels, n_classes)

    def forward(self, X: Tensor) -> Tensor:
        for layer in self.layers:
            X = layer(X)
        return self.last(X.mean((2, 3)))


class Encoder(nn.Module):
    """A transformer encoder over tokens that are vectors, and their mean to a linear layer."""

    def __init__(self, n_features: int, width: int, n_layers: int, n_classes: int = 10) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, max(1, width // 64), 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.first = nn.Linear(n_features, width)
        self.encoder = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)
        self.last = nn.Linear(width, n_classes)

    def forward(self, X: Tensor) -> Tensor:
        return self.last(self.encoder(self.first(X)).mean(1))


@dataclass(frozen=True)
class Problem:
    """One problem, and which tricks suit it.

    The rows are a multiple of the batch size: a graph that was recorded replays one shape.
    """

    name: str
    shape: tuple[int, ...]
    build: Callable[[], nn.Module]
    n_classes: int
    batch_size: int
    max_epochs: int
    bfloat16: bool = False
    channels_last: bool = False
    graph: bool = False

    @property
    def n_steps(self) -> int:
        """Batches of an epoch."""
        return self.shape[0] // self.batch_size

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Return random X and y; what a fit costs does not depend on their values."""
        if self.shape[0] % self.batch_size:
            raise ValueError(f"{self.shape[0]} rows are no multiple of {self.batch_size}.")
        generator = np.random.default_rng(0)
        X = generator.standard_normal(self.shape, dtype=np.float32)
        return X, generator.integers(0, self.n_classes, self.shape[0])

    def autocast(self, device: torch.device, tricks: bool) -> Any:
        """Return the context in which module and loss are computed."""
        if not (tricks and self.bfloat16):
            return contextlib.nullcontext()
        return torch.autocast(device.type, torch.bfloat16)

    def __str__(self) -> str:
        size = " × ".join(f"{n:,}" for n in self.shape)
        suited = {"bfloat16": self.bfloat16, "channels last": self.channels_last}
        tricks = [*(name for name, is_so in suited.items() if is_so), "fused Adam"]
        graph = ["the step as one CUDA graph"] * self.graph
        return (
            f"{self.name}: {size}, batch {self.batch_size}, {self.max_epochs} epochs of "
            f"{self.n_steps} steps; tricks: {', '.join([*tricks, *graph])}"
        )


def problems() -> list[Problem]:
    """Return the problems of a full run."""
    return [
        Problem("small MLP", (65_536, 20), lambda: Net((20, 64, 64, 3)), 3, 256, 40, graph=True),
        Problem(
            "CNN", (8_192, 3, 32, 32), ImageNet, 10, 256, 10, bfloat16=True, channels_last=True
        ),
        Problem(
            "transformer encoder",
            (8_192, 64, 32),
            lambda: Encoder(32, 256, 4),
            10,
            128,
            10,
            bfloat16=True,
        ),
    ]


def tiny() -> list[Problem]:
    """Return problems of the same kinds that train in moments, to try every line."""
    return [
        Problem("small MLP", (64, 4), lambda: Net((4, 8, 3)), 3, 16, 3, graph=True),
        Problem(
            "CNN", (16, 3, 8, 8), lambda: ImageNet(4, 3), 3, 8, 2, bfloat16=True, channels_last=True
        ),
        Problem(
            "transformer encoder", (16, 4, 3), lambda: Encoder(3, 16, 1, 3), 3, 8, 2, bfloat16=True
        ),
    ]
