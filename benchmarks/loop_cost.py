"""What the loop itself costs a step: a fit whose actions do nothing, less bare iteration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timing import digits, interleave, spread

from skorchlike import Callback, NeuralNetClassifier

BATCH_SIZE, STEPS_PER_EPOCH, EPOCHS = 16, 1_000, 10
N_STEPS = STEPS_PER_EPOCH * EPOCHS
"""So many that the fit's own start (checks, clones, building) adds little to a step."""

LOSS = torch.zeros(())


class IdleClassifier(NeuralNetClassifier):
    """A classifier whose five actions do nothing."""

    def do_predict(self, ctx):
        ctx.y_pred = ctx.X

    def do_get_loss(self, ctx):
        ctx.loss = LOSS

    def do_backward(self, ctx):
        pass

    def do_step(self, ctx):
        pass

    def do_zero_grad(self, ctx):
        pass


class SixBatchStages(Callback):
    """A callback that is called six times a step and does nothing."""

    def on_batch_begin(self, ctx):
        pass

    def on_after_predict(self, ctx):
        pass

    def on_after_loss(self, ctx):
        pass

    def on_after_backward(self, ctx):
        pass

    def on_before_step(self, ctx):
        pass

    def on_batch_end(self, ctx):
        pass


class NoBatchStage(Callback):
    """A callback that is called once an epoch and does nothing."""

    def on_epoch_end(self, ctx):
        pass


BARE = "bare iteration"
NONE = "no callback"
TEN = "ten callbacks on six stages"
IDLE = "ten callbacks on no batch stage"


def variants() -> dict[str, Callable[[], object]]:
    """Return what is to be timed: the bare iteration and the fits."""
    generator = np.random.default_rng(0)
    n_rows = BATCH_SIZE * STEPS_PER_EPOCH
    X = generator.standard_normal((n_rows, 4), dtype=np.float32)
    y = generator.integers(0, 3, n_rows)

    def bare() -> None:
        X_, y_ = torch.from_numpy(X), torch.from_numpy(y)
        for _ in range(EPOCHS):
            order = torch.randperm(n_rows)
            batches = zip(X_[order].split(BATCH_SIZE), y_[order].split(BATCH_SIZE), strict=True)
            for _batch in batches:
                pass

    def fit(callback: type[Callback], n_callbacks: int) -> Callable[[], object]:
        net = IdleClassifier(
            batch_size=BATCH_SIZE,
            max_epochs=EPOCHS,
            random_state=0,
            callbacks={f"callback_{i}": callback() for i in range(n_callbacks)},
        )
        return lambda: net.fit(X, y)

    return {
        BARE: bare,
        NONE: fit(NoBatchStage, 0),
        IDLE: fit(NoBatchStage, 10),
        TEN: fit(SixBatchStages, 10),
    }


def measure(quick: bool = False) -> dict[str, Any]:
    """Return microseconds a step of each fit, less bare iteration in the same round."""
    rounds = 3 if quick else 15
    wall, cpu = interleave(variants(), rounds)
    found = {}
    for name in (name for name in wall if name != BARE):
        cost, cpu_cost = (np.subtract(t[name], t[BARE]) / N_STEPS * 1e6 for t in (wall, cpu))
        found[name] = {"us": spread(cost), "cpu": digits(float(np.median(cpu_cost)))}
    return {"n_steps": N_STEPS, "rounds": rounds, "contenders": found}


if __name__ == "__main__":
    raise SystemExit("Run instead: python benchmarks/run.py --only loop")
