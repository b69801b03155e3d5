"""The histories of three learning rates over each other, until each stops early."""

from sklearn.base import clone
from sklearn.datasets import load_digits

from skorchlike import HistoryDisplay, NeuralNetClassifier


def draw():
    X, y = load_digits(return_X_y=True)
    net = NeuralNetClassifier(
        max_epochs=60, validation_fraction=0.3, callbacks=["early_stopping"], random_state=0
    )
    rates = (0.001, 0.005, 0.05)
    fits = {f"lr = {lr}": clone(net).set_params(lr=lr).fit(X / 16, y) for lr in rates}
    display = HistoryDisplay.from_estimators(fits, columns=["loss", "accuracy"], log_scale=True)
    return display.figure_
