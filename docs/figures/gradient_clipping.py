"""Clipping in a regression with a few extreme targets."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from skorchlike import GradientClipping, NeuralNetRegressor

COLOURS = {"not clipped": "#d55e00", "max_norm=1": "#0072b2"}


def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 5)).astype("float32")
    y = np.sin(2 * X[:, 0]) + X[:, 1] + rng.normal(scale=0.1, size=1000)
    y[::100] += 60
    return X, y.astype("float32")


def draw():
    """Draw norms and errors with and without clipping."""
    torch.set_num_threads(1)
    X, y = data()
    figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2), layout="constrained")
    for name, max_norm in {"not clipped": None, "max_norm=1": 1.0}.items():
        net = NeuralNetRegressor(
            optimizer="sgd",
            lr=0.03,
            max_epochs=30,
            batch_size=50,
            callbacks=[GradientClipping(max_norm)],
            random_state=0,
        )
        X_val, y_val = X[1:100], y[1:100]
        net.fit(X[100:], y[100:], X_val=X_val, y_val=y_val)
        history = net.history_
        style = {"color": COLOURS[name], "label": name}
        left.plot(history["epoch"], history["gradient_norm_max"], **style)
        right.plot(history["epoch"], history["valid_loss"], **style)
    left.axhline(1, color="0.5", linestyle="--", linewidth=1)
    left.text(30, 1.1, "limit", color="0.4", ha="right", va="bottom", fontsize=9)
    left.set(yscale="log", xlabel="epoch", ylabel="largest gradient norm")
    left.set_yticks([1, 3, 10, 30], ["1", "3", "10", "30"])
    left.minorticks_off()
    left.set_title("before clipping", fontsize=10)
    right.set(xlabel="epoch", ylabel="validation loss", ylim=(0, None))
    right.set_title("on rows without extreme targets", fontsize=10)
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
