"""Several metrics of one fit, on data of which one row in twenty is positive."""

import matplotlib.pyplot as plt
from sklearn.datasets import make_classification

from skorchlike import Metrics, NeuralNetClassifier

LINES = {
    "accuracy": ("accuracy", "#0072b2"),
    "balanced_accuracy": ("balanced accuracy", "#e69f00"),
    "average_precision": ("average precision", "#009e73"),
}


def draw():
    X, y = make_classification(
        4000, 20, n_informative=6, n_clusters_per_class=3, weights=[0.95], random_state=0
    )
    net = NeuralNetClassifier(
        max_epochs=30,
        callbacks=[Metrics(list(LINES))],
        validation_fraction=0.5,
        random_state=0,
    )
    history = net.fit(X, y).history_.set_index("epoch")

    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for name, (label, color) in LINES.items():
        column = history[f"valid_{name}"]
        axes.plot(column, color=color)
        axes.annotate(
            label,
            (column.index[-1], column.iloc[-1]),
            xytext=(6, 0),
            textcoords="offset points",
            color=color,
            va="center",
        )
    axes.set_xlim(1, 38)
    axes.set_xticks([1, 10, 20, 30])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("epoch")
    axes.set_ylabel("score on the validation data")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines.bottom.set_bounds(1, 30)
    return figure
