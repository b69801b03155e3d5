"""Seconds of a fit as rows, features, epochs, callbacks and batches grow, and a line through them.

Each axis changes one size and keeps the others. The line is seconds = fixed + slope × size,
drawn so that the relative distances of its points are least; `off` is the largest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import contenders as c
import numpy as np
from timing import digits, interleave
from workloads import Workload

from skorchlike import Callback, NeuralNetClassifier


class MovingLoss(Callback):
    """A callback with a little to do at the end of every batch."""

    def on_begin(self, ctx):
        self.moving_loss = 0.0

    def on_batch_end(self, ctx):
        self.moving_loss = 0.1 * ctx.last_loss + 0.9 * self.moving_loss


@dataclass(frozen=True)
class Axis:
    """One size that grows: its values, and the workload at each."""

    name: str
    values: Sequence[int]
    quick_values: Sequence[int]
    rounds: int
    work: Callable[[int], Workload]
    with_reference: bool = True


def data(
    rows: int = 20_000, features: int = 20, batch_size: int = 64, max_epochs: int = 1
) -> Workload:
    """Return a workload of random numbers: what a fit costs does not depend on their values."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((rows, features), dtype=np.float32)
    return Workload("scaling", X, np.arange(rows) % 3, (64, 64), batch_size, max_epochs)


AXES = (
    Axis(
        "rows",
        (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
        (1_000, 3_000, 10_000),
        3,
        lambda n: data(rows=n, max_epochs=2),
    ),
    Axis(
        "features",
        (10, 100, 250, 500, 750, 1_000),
        (10, 100, 200),
        7,
        lambda n: data(features=n),
    ),
    Axis("epochs", (1, 5, 10, 20, 40), (1, 3, 6), 7, lambda n: data(rows=5_000, max_epochs=n)),
    Axis(
        "batches of 65,536 rows",
        (128, 256, 512, 1_024, 2_048),
        (128, 256, 512),
        7,
        lambda n: data(rows=65_536, batch_size=65_536 // n),
    ),
    Axis("callbacks", (0, 10, 20, 30, 40, 50), (0, 25, 50), 15, lambda n: data(), False),
)


def with_callbacks(work: Workload, n: int) -> NeuralNetClassifier:
    """Fit with so many callbacks, each on one stage of every batch."""
    net = NeuralNetClassifier(
        module=work.module_class,
        module__sizes=work.sizes,
        optimizer="adam",
        lr=work.lr,
        max_epochs=work.max_epochs,
        batch_size=work.batch_size,
        random_state=work.seed,
        callbacks={f"callback_{i}": MovingLoss() for i in range(n)},
    )
    return net.fit(work.X, work.y)


def measure(quick: bool = False) -> dict[str, Any]:
    """Return for each axis the values, the seconds at each, and the line through them."""
    return {axis.name: measure_axis(axis, quick) for axis in AXES}


def measure_axis(axis: Axis, quick: bool = False) -> dict[str, Any]:
    """Time the fits of an axis in turn."""
    values = axis.quick_values if quick else axis.values
    rounds = 2 if quick else axis.rounds
    calls: dict[str, Callable[[], object]] = {}
    for value in values:
        work = axis.work(value)
        if axis.name == "callbacks":
            calls[f"{c.OWN}|{value}"] = partial(with_callbacks, work, value)
            continue
        calls[f"{c.OWN}|{value}"] = partial(c.own_module, work)
        if axis.with_reference:
            calls[f"{c.REFERENCE}|{value}"] = partial(c.reference, work)
    wall, _ = interleave(calls, rounds)
    found: dict[str, Any] = {"values": list(values), "rounds": rounds, "contenders": {}}
    for name in dict.fromkeys(key.split("|")[0] for key in calls):
        # what disturbs a fit makes it longer, never shorter
        seconds = [digits(min(wall[f"{name}|{value}"])) for value in values]
        found["contenders"][name] = {"seconds": seconds, **line(values, seconds)}
    return found


def line(values: Sequence[float], seconds: Sequence[float]) -> dict[str, float]:
    """Return the line with the least relative distances, its R², and the largest distance.

    Returns
    -------
    dict
        ``fixed`` (seconds), ``slope`` (seconds a unit), ``r2`` (of the seconds), ``off``
        (largest distance of a point as a share of the line there), ``power`` (the exponent
        of the straight line in logarithms, of the positive values).
    """
    x, t = np.asarray(values, float), np.asarray(seconds, float)
    columns = np.stack([np.ones_like(x), x], 1) / t[:, None]
    fixed, slope = np.linalg.lstsq(columns, np.ones_like(t), rcond=None)[0]
    fitted = fixed + slope * x
    r2 = 1 - ((t - fitted) ** 2).sum() / ((t - t.mean()) ** 2).sum()
    positive = x > 0
    power = np.polyfit(np.log(x[positive]), np.log(t[positive]), 1)[0]
    off = np.abs(t / fitted - 1).max()
    named = {"fixed": fixed, "slope": slope, "r2": r2, "off": off, "power": power}
    return {name: digits(float(value)) for name, value in named.items()}


if __name__ == "__main__":
    raise SystemExit("Run instead: python benchmarks/run.py --only scaling")
