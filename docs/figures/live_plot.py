"""The plot of a fit, as LivePlot leaves it."""

import tempfile

from sklearn.datasets import load_digits

from skorchlike import LivePlot, NeuralNetClassifier

FIGURES = []


class Keeping(LivePlot):
    """Keep the figure, which the callback lets go of when the fit ends."""

    def on_exit(self, ctx):
        FIGURES.append(self._figure)
        super().on_exit(ctx)


def draw():
    X, y = load_digits(return_X_y=True)
    columns = ["train_loss", "valid_loss", "valid_accuracy"]
    with tempfile.TemporaryDirectory() as folder:
        NeuralNetClassifier(
            max_epochs=40,
            lr=0.003,
            validation_fraction=0.3,
            callbacks=[Keeping(columns, path=f"{folder}/digits.png")],
            random_state=0,
        ).fit(X / 16, y)
    return FIGURES.pop()
