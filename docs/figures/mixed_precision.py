"""Losses in three precisions, and the scale of float16 from a large first value."""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

from skorchlike import Callback, MixedPrecision, NeuralNetClassifier

CASES = {
    "float32": (None, {"color": "#e69f00", "linewidth": 5, "alpha": 0.6}),
    "bfloat16": ("bfloat16", {"color": "#0072b2", "linewidth": 2}),
    "float16": ("float16", {"color": "black", "linestyle": ":", "linewidth": 2}),
}


class Scales(Callback):
    """Keep the scale after each batch, and whether it was skipped."""

    order = 60

    def on_begin(self, ctx):
        self.scales, self.skipped = [], []

    def on_batch_end(self, ctx):
        self.scales.append(ctx.callbacks["mixed_precision"].state_dict()["scale"])
        self.skipped.append(ctx.step_skipped)

    def state_dict(self):
        return {"scales": self.scales, "skipped": self.skipped}

    def load_state_dict(self, state):
        self.scales, self.skipped = state["scales"], state["skipped"]


def draw():
    """Draw the losses and the scale."""
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype("float32")
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
    for name, (dtype, style) in CASES.items():
        callbacks = [MixedPrecision(dtype)] if dtype else []
        net = NeuralNetClassifier(max_epochs=20, callbacks=callbacks, random_state=0)
        history = net.fit(X, y).history_
        left.plot(history["epoch"], history["train_loss"], label=name, **style)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log", xticks=range(0, 21, 5))
    left.legend(frameon=False)

    mixed = MixedPrecision("float16", init_scale=2.0**24, growth_interval=25)
    net = NeuralNetClassifier(max_epochs=10, callbacks=[mixed, Scales()], random_state=0)
    state = net.fit(X, y).model_.callbacks_.scales
    steps = range(1, len(state["scales"]) + 1)
    right.step(steps, state["scales"], where="post", color="black")
    points = [
        (i, s) for i, s, out in zip(steps, state["scales"], state["skipped"], strict=True) if out
    ]
    right.plot(*zip(*points, strict=True), "o", color="#d55e00", label="step left out")
    right.set_yscale("log", base=2)
    right.set(xlabel="batch", ylabel="scale of the loss")
    right.set_title("init_scale=2**24, growth_interval=25", fontsize=10)
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
