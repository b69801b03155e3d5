"""Learning rates of some policies over a fit of 30 epochs, without and with a warm-up."""

import matplotlib.pyplot as plt
import numpy as np

from skorchlike import LRScheduler, NeuralNetRegressor

POLICIES = {
    "cosine": ({}, "#0072B2"),
    "one_cycle": ({}, "#D55E00"),
    "step": ({"policy__step_size": 10, "policy__gamma": 0.4}, "#009E73"),
    "cosine_warm_restarts": ({"policy__T_0": 10}, "#CC79A7"),
}


def draw():
    X = np.linspace(-1, 1, 20)[:, None]
    figure, axes = plt.subplots(1, 2, figsize=(7, 3.2), sharey=True, layout="constrained")
    for ax, warmup in zip(axes, (0, 6), strict=True):
        for policy, (said, color) in POLICIES.items():
            net = NeuralNetRegressor(
                module__hidden_layer_sizes=(2,),
                lr=0.1,
                max_epochs=30,
                callbacks=[LRScheduler(policy, warmup=warmup, **said)],
                random_state=0,
            ).fit(X, X[:, 0])
            history = net.history_
            ax.step(history["epoch"], history["lr"], where="mid", color=color, label=policy)
        ax.set(xlabel="epoch", title=f"warmup={warmup}")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("learning rate")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    return figure
