"""Validation loss with and without averaging, in a regression on noisy targets."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from skorchlike import EMA, SWA, NeuralNetRegressor

START = 15
SHOWN = {
    "as trained": (None, "#999999"),
    f"SWA(start={START})": (SWA(start=START), "#d55e00"),
    "EMA(decay=0.98)": (EMA(decay=0.98), "#0072b2"),
}
NOISE = 0.7


def data(n):
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(n, 4)).astype("float32")
    y = np.sin(2 * X[:, 0]) * X[:, 1] + np.abs(X[:, 2]) + rng.normal(scale=NOISE, size=n)
    return X, y.astype("float32")


def draw():
    """Draw the losses of three fits, whose training is the same."""
    torch.set_num_threads(1)
    X, y = data(3000)
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for name, (callback, colour) in SHOWN.items():
        net = NeuralNetRegressor(
            module__hidden_layer_sizes=(32,),
            optimizer="sgd",
            lr=0.05,
            max_epochs=40,
            batch_size=10,
            callbacks=None if callback is None else [callback],
            random_state=0,
        )
        net.fit(X[:1500], y[:1500], X_val=X[1500:], y_val=y[1500:])
        epochs, losses = net.history_["epoch"], net.history_["valid_loss"]
        if isinstance(callback, SWA):  # before it the model is the one as trained
            epochs, losses = epochs[START - 1 :], losses[START - 1 :]
        axes.plot(epochs, losses, color=colour, label=name)
    axes.axhline(NOISE**2, color="0.5", linestyle="--", linewidth=1)
    axes.text(0.6, NOISE**2 + 0.01, "noise of the targets", color="0.4", va="bottom", fontsize=9)
    axes.set(xlabel="epoch", ylabel="validation loss (mean squared error)", ylim=(0.45, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
