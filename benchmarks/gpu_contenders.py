"""Full fits on a device, each from NumPy arrays to a trained module, all by equally many steps.

The loops written by hand keep the data on the device, shuffle and gather once an epoch, and
fetch the loss once an epoch.
"""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gpu_problems import Problem
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from skorchlike import ChannelsLast, Compile, MixedPrecision, NeuralNetClassifier


@dataclass
class Fitted:
    """A trained module, and the mean loss of each epoch."""

    module: nn.Module
    loss_curve: list[float]


@dataclass(frozen=True)
class Fit:
    """What all contenders are given. `backend` is torch.compile's."""

    problem: Problem
    X: np.ndarray
    y: np.ndarray
    device: torch.device
    module: nn.Module
    backend: str = "inductor"

    def build(self, tricks: bool) -> nn.Module:
        """Return a copy of the module on the device."""
        copied = self.problem.build()
        copied.load_state_dict(self.module.state_dict())
        channels = torch.channels_last if tricks and self.problem.channels_last else None
        return copied.to(self.device, memory_format=channels)


def plain(fit: Fit) -> Fitted:
    """Train by the eager loop without any trick but fused Adam."""
    return by_hand(fit, tricks=False, compiled=False)


def tricky(fit: Fit) -> Fitted:
    """Train with the tricks that suit the problem."""
    return by_hand(fit, tricks=True, compiled=False)


def compiled(fit: Fit) -> Fitted:
    """Train with those tricks and a compiled module."""
    return by_hand(fit, tricks=True, compiled=True)


def by_hand(fit: Fit, tricks: bool, compiled: bool) -> Fitted:
    """Train by a loop written by hand."""
    problem, device = fit.problem, fit.device
    torch.manual_seed(0)
    X, y = torch.from_numpy(fit.X).to(device), torch.from_numpy(fit.y).to(device)
    if tricks and problem.channels_last:
        X = X.contiguous(memory_format=torch.channels_last)
    module = fit.build(tricks)
    forward = torch.compile(module, backend=fit.backend) if compiled else module
    graphed = tricks and problem.graph and device.type == "cuda"
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True, capturable=graphed)
    criterion, total = nn.CrossEntropyLoss(), torch.zeros((), device=device)

    def step(X: Tensor, y: Tensor) -> None:
        with problem.autocast(device, tricks):
            loss = criterion(forward(X), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        total.add_(loss.detach())

    take = record(step, module, optimizer, X, y, problem.batch_size) if graphed else step
    loss_curve = []
    for _ in range(problem.max_epochs):
        total.zero_()
        order = torch.randperm(len(X), device=device)
        size = problem.batch_size
        for batch in zip(X[order].split(size), y[order].split(size), strict=True):
            take(*batch)
        loss_curve.append(total.item() / problem.n_steps)
    return Fitted(module, loss_curve)


def record(
    step: Callable[[Tensor, Tensor], None],
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    X: Tensor,
    y: Tensor,
    batch_size: int,
) -> Callable[[Tensor, Tensor], None]:
    """Record the step as a CUDA graph; return what replays it on other rows.

    The steps that warm up (they choose kernels and allocate the optimizer's state) are undone.
    """
    held_X, held_y = X[:batch_size].clone(), y[:batch_size].clone()
    before = [parameter.detach().clone() for parameter in module.parameters()]
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            step(held_X, held_y)
    torch.cuda.current_stream().wait_stream(beside)
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), before, strict=True):
            parameter.copy_(value)
            for kept in optimizer.state[parameter].values():
                kept.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step(held_X, held_y)

    def replay(X: Tensor, y: Tensor) -> None:
        held_X.copy_(X)
        held_y.copy_(y)
        graph.replay()

    return replay


def lightning(fit: Fit) -> Fitted:
    """Train by Lightning with `barebones=True`, pinned batches, fused Adam and its own bfloat16."""
    trainer_class, module_class = _lightning()
    problem, cuda = fit.problem, fit.device.type == "cuda"
    torch.manual_seed(0)
    dataset = TensorDataset(torch.from_numpy(fit.X), torch.from_numpy(fit.y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trainer_class(
            accelerator="gpu" if cuda else "cpu",
            devices=1,
            precision="bf16-mixed" if problem.bfloat16 else "32-true",
            max_epochs=problem.max_epochs,
            barebones=True,
        )
        module = module_class(fit)
        batches = DataLoader(dataset, problem.batch_size, shuffle=True, pin_memory=cuda)
        trainer.fit(module, batches)
    return Fitted(module.module, module.loss_curve)


@functools.cache
def _lightning() -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_lightning as pl
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    class Module(pl.LightningModule):
        def __init__(self, fit: Fit) -> None:
            super().__init__()
            self.problem, self.module = fit.problem, fit.build(tricks=True)
            self.criterion, self.loss_curve = nn.CrossEntropyLoss(), []
            self.register_buffer("total", torch.zeros(()))

        def training_step(self, batch: Any, number: int) -> Tensor:
            X, y = batch
            if self.problem.channels_last:
                X = X.contiguous(memory_format=torch.channels_last)
            loss = self.criterion(self.module(X), y)
            self.total += loss.detach()
            return loss

        def on_train_epoch_end(self) -> None:
            self.loss_curve.append(self.total.item() / self.problem.n_steps)
            self.total.zero_()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)

    return pl.Trainer, Module


def skorchlike(fit: Fit, *callbacks: Any) -> Fitted:
    """Fit this package's classifier with the callbacks for the same tricks."""
    problem = fit.problem
    suited = [ChannelsLast()] * problem.channels_last + [MixedPrecision()] * problem.bfloat16
    net = NeuralNetClassifier(
        fit.module,
        optimizer="adam",
        optimizer__fused=True,
        lr=1e-3,
        batch_size=problem.batch_size,
        max_epochs=problem.max_epochs,
        device=fit.device,
        callbacks=[*suited, *callbacks],
        random_state=0,
    ).fit(fit.X, fit.y)
    return Fitted(net.model_.module_, list(net.loss_curve_))


def skorchlike_compiled(fit: Fit) -> Fitted:
    """Fit this package's classifier with the whole step compiled."""
    graphs = fit.problem.graph and fit.device.type == "cuda"
    mode = "reduce-overhead" if graphs and fit.backend == "inductor" else None
    return skorchlike(fit, Compile("step", backend=fit.backend, mode=mode))


PLAIN, BY_HAND, COMPILED = "plain eager loop", "by hand, same tricks", "by hand, also compiled"
OWN = "skorchlike"

ALL: dict[str, Callable[[Fit], Fitted]] = {
    PLAIN: plain,
    BY_HAND: tricky,
    COMPILED: compiled,
    OWN: skorchlike,
    "skorchlike, compiled": skorchlike_compiled,
    "Lightning": lightning,
}
