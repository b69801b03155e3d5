"""Small batches, large batches, and small batches accumulated."""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

from skorchlike import GradientAccumulation, NeuralNetClassifier


def draw():
    """Draw the training loss of the three."""
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    cases = [
        ("batch_size=256", 256, None, {"color": "#0072b2", "linewidth": 2}),
        ("batch_size=32", 32, None, {"color": "#e69f00", "linewidth": 2}),
        ("batch_size=32, n_batches=8", 32, 8, {"color": "black", "marker": "o", "linestyle": ""}),
    ]
    for name, size, n_batches, style in cases:
        net = NeuralNetClassifier(batch_size=size, lr=0.003, max_epochs=20, random_state=0)
        if n_batches:
            net.set_params(callbacks=[GradientAccumulation(n_batches)])
        history = net.fit(X / 16, y).history_
        axes.plot(history["epoch"], history["train_loss"], label=name, **style)
    axes.set(xlabel="epoch", ylabel="training loss", yscale="log", xticks=range(0, 21, 5))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
