"""Full fits by other packages over PyTorch: the same module, Adam and batches.

Each gets its data as its documentation has it, by a DataLoader, and Adam as it comes.
"""

from __future__ import annotations

import copy
import functools
import logging
import warnings
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from workloads import Workload


class Trained(NamedTuple):
    """What a fit leaves behind."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    loss_curve: list[float]


def loader(work: Workload) -> DataLoader:
    """Return the loader of the tutorials over the arrays."""
    dataset = TensorDataset(torch.from_numpy(work.X), torch.from_numpy(work.y))
    return DataLoader(dataset, batch_size=work.batch_size, shuffle=work.shuffle)


def skorch(work: Workload) -> Any:
    """Fit skorch's classifier: its DataLoader and callbacks as they come."""
    from skorch import NeuralNetClassifier as SkorchClassifier

    torch.manual_seed(work.seed)
    if work.module is not None:
        arguments = {"module": copy.deepcopy(work.module)}  # an instance is trained in place
    else:
        named = {f"module__{name}": value for name, value in work.arguments.items()}
        arguments = {"module": work.module_class, **named}
    net = SkorchClassifier(
        **arguments,
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


def lightning(work: Workload) -> Trained:
    """Fit by Lightning's Trainer with `barebones=True`: everything off that it can do without.

    Logger, checkpoints, progress bar, summary and sanity checks are off then; with these
    switched off one by one it takes as long.
    """
    torch.manual_seed(work.seed)
    trainer_class, module_class = _lightning()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one worker loads, and deprecations of its own
        trainer = trainer_class(accelerator="cpu", max_epochs=work.max_epochs, barebones=True)
        module = module_class(work)
        trainer.fit(module, loader(work))
    module.module.eval()
    return Trained(module.module, trainer.optimizers[0], module.loss_curve)


@functools.cache
def _lightning() -> tuple[Any, Any]:
    """Import Lightning, once and not in the measured time, and define its module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pytorch_lightning as pl
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # a banner a fit

    class Module(pl.LightningModule):
        def __init__(self, work: Workload) -> None:
            super().__init__()
            self.work, self.module = work, work.build_module()
            self.criterion = nn.CrossEntropyLoss()
            self.loss_curve, self.total = [], 0.0

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            X, y = batch
            loss = self.criterion(self.module(X), y)
            self.total += loss.item() * len(X)
            return loss

        def on_train_epoch_end(self) -> None:
            self.loss_curve.append(self.total / len(self.work.X))
            self.total = 0.0

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=self.work.lr)

    return pl.Trainer, Module


def ignite(work: Workload) -> Trained:
    """Fit by ignite's `create_supervised_trainer`."""
    engine = _ignite()
    torch.manual_seed(work.seed)
    module = work.build_module()
    optimizer = torch.optim.Adam(module.parameters(), lr=work.lr)
    total, loss_curve = [0.0], []

    def add(X: Any, y: Any, y_pred: Any, loss: Any) -> None:
        total[0] += loss.item() * len(X)

    trainer = engine.create_supervised_trainer(
        module, optimizer, nn.CrossEntropyLoss(), output_transform=add
    )

    @trainer.on(engine.Events.EPOCH_COMPLETED)
    def close(trainer: Any) -> None:
        loss_curve.append(total[0] / len(work.X))
        total[0] = 0.0

    trainer.run(loader(work), max_epochs=work.max_epochs)
    module.eval()
    return Trained(module, optimizer, loss_curve)


@functools.cache
def _ignite() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ignite.engine
    return ignite.engine
