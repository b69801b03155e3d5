"""How far each layer moves under a schedule."""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from skorchlike import Callback, NeuralNetClassifier, Unfreeze

LAYERS = {"head": "#0072b2", "body.2": "#e69f00", "body.0": "#009e73"}


class Net(nn.Module):
    """A body of two layers and a head."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        first, second = nn.Linear(n_features_in, 32), nn.Linear(32, 32)
        self.body = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
        self.head = nn.Linear(32, n_outputs)

    def forward(self, X):
        return self.head(self.body(X))


class Distance(Callback):
    """Record how far the weights of each layer are from where they began."""

    logs = tuple(LAYERS)

    def on_begin(self, ctx):
        weights = ctx.module.state_dict()
        self.start = {name: weights[f"{name}.weight"].clone() for name in LAYERS}

    def on_epoch_end(self, ctx):
        for name, start in self.start.items():
            ctx.log(name, (ctx.module.state_dict()[f"{name}.weight"] - start).norm() / start.norm())


def draw():
    """Draw the distances by epoch."""
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    unfreeze = Unfreeze(starting="head.*", schedule={6: "body.2.*", 11: "*"})
    net = NeuralNetClassifier(Net, max_epochs=15, callbacks=[unfreeze, Distance()], random_state=0)
    history = net.fit((X / 16).astype("float32"), y).history_
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for name, colour in LAYERS.items():
        axes.plot(history["epoch"], history[name], "o-", color=colour, markersize=4)
        axes.annotate(
            name,
            (15, history[name].iloc[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
        )
    for epoch, what in {6: "body.2.* from epoch 6", 11: "all from epoch 11"}.items():
        axes.axvline(epoch - 0.5, color="0.6", linestyle="--", linewidth=1)
        axes.text(epoch - 0.4, axes.get_ylim()[1], what, color="0.4", fontsize=9, va="top")
    axes.set(xlabel="epoch", ylabel="relative change of weights", xticks=range(1, 16, 2))
    axes.spines[["top", "right"]].set_visible(False)
    return figure
