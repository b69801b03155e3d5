"""A sweep over learning rates on the digits."""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from skorchlike import NeuralNetClassifier, lr_find


def draw():
    X, y = load_digits(return_X_y=True)
    result = lr_find(NeuralNetClassifier(batch_size=64, random_state=0), X / 16, y)
    figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
    result.plot(ax).spines[["top", "right"]].set_visible(False)
    return figure
