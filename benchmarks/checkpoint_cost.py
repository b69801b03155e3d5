"""Measure what a checkpoint every epoch costs, beside torch.save of the same tensors.

Usage: python benchmarks/checkpoint_cost.py [--rounds 7] [--folder DIR]

For modules of three sizes, in turn in one process: a fit of some epochs without checkpoints and
with `Checkpoint(every=1, keep=1)`, whose difference is shared among the checkpoints, and
torch.save of the state dicts of module and optimizer, with and without fsync.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

HEAD = (
    "| module | parameters, M | file, MB | epoch, ms | checkpoint, ms | torch.save, ms "
    "| torch.save + fsync, ms | ÷ torch.save | ÷ with fsync | share of an epoch |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Size:
    """A module and its data; the fit trains ``n_epochs`` of ``n_steps`` batches."""

    name: str
    n_features: int
    hidden: tuple[int, ...]
    batch_size: int
    n_steps: int
    n_epochs: int

    @property
    def n_rows(self) -> int:
        """Rows of the data."""
        return self.batch_size * self.n_steps


SIZES = (
    Size("small (W1)", 20, (64, 64), 64, 157, 5),
    Size("medium", 256, (2048, 2048), 64, 20, 3),
    Size("large", 1024, (6656, 6144), 64, 4, 2),
)


def net(size: Size, **params: Any) -> Any:
    """Return the estimator of a size, not fitted."""
    from workloads import Net

    from skorchlike import NeuralNetClassifier

    return NeuralNetClassifier(
        module=Net,
        module__sizes=(size.n_features, *size.hidden, 3),
        batch_size=size.batch_size,
        max_epochs=size.n_epochs,
        random_state=0,
        **params,
    )


def data(size: Size) -> tuple[Any, Any]:
    """Return X and y of a size."""
    import numpy as np

    rng = np.random.default_rng(0)
    X = rng.standard_normal((size.n_rows, size.n_features), dtype=np.float32)
    return X, np.arange(size.n_rows) % 3


def contenders(size: Size, folder: Path) -> dict[str, Callable[[], object]]:
    """Return name → what is timed: two fits, and two ways to save what the fit's end holds."""
    import torch

    from skorchlike import Checkpoint

    X, y = data(size)
    plain = net(size)
    saved = net(size, callbacks={"checkpoint": Checkpoint(folder / "fit")})
    model = net(size).set_params(max_epochs=1).fit(X, y).model_
    state = {"module": model.module_.state_dict(), "optimizer": model.optimizer_}

    def fit_with() -> object:
        shutil.rmtree(folder / "fit", ignore_errors=True)
        return saved.fit(X, y)

    def save(sync: bool) -> None:
        with (folder / "state.pt").open("wb") as file:
            torch.save(state, file)
            if sync:
                file.flush()
                os.fsync(file.fileno())

    return {
        "fit": lambda: plain.fit(X, y),
        "with checkpoints": fit_with,
        "torch.save": partial(save, False),
        "with fsync": partial(save, True),
    }


def measure(size: Size, folder: Path, rounds: int) -> dict[str, float]:
    """Return milliseconds and megabytes of one size, medians over the rounds."""
    import numpy as np
    from timing import interleave

    timed = contenders(size, folder)
    wall, _ = interleave(timed, rounds)
    n_saved = size.n_epochs + 1  # the finished fit is saved too
    taken = {name: float(np.median(times)) * 1e3 for name, times in wall.items()}
    extra = np.subtract(wall["with checkpoints"], wall["fit"])
    files = list((folder / "fit").glob("*.safetensors"))
    widths = (size.n_features, *size.hidden, 3)
    return {
        "parameters": sum(a * b + b for a, b in pairwise(widths)) / 1e6,
        "megabytes": max(file.stat().st_size for file in files) / 1e6,
        "epoch": taken["fit"] / size.n_epochs,
        "checkpoint": float(np.median(extra)) / n_saved * 1e3,
        "save": taken["torch.save"],
        "synced": taken["with fsync"],
    }


def row(name: str, found: dict[str, float]) -> str:
    """Return a row of the table."""
    cost, epoch = found["checkpoint"], found["epoch"]
    parts = [
        name,
        f"{found['parameters']:.2g}",
        f"{found['megabytes']:.3g}",
        *(f"{found[key]:.3g}" for key in ("epoch", "checkpoint", "save", "synced")),
        f"{cost / found['save']:.2f}",
        f"{cost / found['synced']:.2f}",
        f"{cost / epoch:.0%}",
    ]
    return f"| {' | '.join(parts)} |"


def rows(rounds: int, folder: Path | None = None) -> Iterator[str]:
    """Yield the lines of the table."""
    yield HEAD
    for size in SIZES:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            yield row(size.name, measure(size, Path(own), rounds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="on which disk")
    args = parser.parse_args()
    # read when the libraries are loaded
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    torch.set_num_threads(args.threads)
    for line in rows(args.rounds, args.folder):
        print(line, flush=True)
