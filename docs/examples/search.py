"""Search over callbacks with two processes: their parameters, and whether to have them.

Every candidate is a clone, so the callback objects passed here are never changed.
"""

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skorchlike import Callback, EarlyStopping, NeuralNetClassifier


class WeightNoise(Callback):
    """Add normal noise to the weights after each step, less and less of it."""

    def __init__(self, scale=0.01):
        self.scale = scale

    def on_after_step(self, ctx):
        scale = self.scale / ctx.epoch
        for parameter in ctx.module.parameters():
            parameter.data.add_(parameter.data.new_empty(parameter.shape).normal_(), alpha=scale)


def score(fitted, X, y):
    """Accuracy, and what the early stopping of this fit did."""
    net = fitted[-1]
    stopped = net.model_.stop_reason_ == "early_stopping"
    return {"accuracy": fitted.score(X, y), "epochs": net.n_iter_, "stopped": stopped}


def main():
    X, y = load_breast_cancer(return_X_y=True)
    callbacks = {"stop": EarlyStopping(), "noise": WeightNoise()}
    net = NeuralNetClassifier(
        lr=0.01,
        max_epochs=40,
        batch_size=64,
        validation_fraction=0.2,
        callbacks=callbacks,
        random_state=0,
    )
    pipe = make_pipeline(StandardScaler(), net)
    before = joblib.hash(callbacks)

    prefix = "neuralnetclassifier__callbacks__"
    grid = [
        # a callback dropped by None has no parameters: so it is a grid of its own
        {prefix + "noise": [None], prefix + "stop__patience": [2, 8]},
        {prefix + "noise__scale": [0.01, 0.05], prefix + "stop__patience": [2, 8]},
        {prefix + "noise": [None], prefix + "stop": [None]},
    ]
    search = GridSearchCV(pipe, grid, scoring=score, refit="accuracy", cv=3, n_jobs=2)
    search.fit(X, y)

    print("Mean of 3 folds, at most 40 epochs; 'stopped' is the share ended by early stopping.")
    print(f"{'noise':>8} {'patience':>8} {'accuracy':>9} {'epochs':>7} {'stopped':>8}")
    results = search.cv_results_
    for i, params in enumerate(results["params"]):
        said = {name.removeprefix(prefix): value for name, value in params.items()}
        noise = said.get("noise__scale", "none")
        patience = said.get("stop__patience", "none")
        row = [results[f"mean_test_{name}"][i] for name in ("accuracy", "epochs", "stopped")]
        print(f"{noise:>8} {patience:>8} {row[0]:9.3f} {row[1]:7.1f} {row[2]:8.2f}")

    best = search.best_estimator_[-1]
    print(f"Callbacks of the best one: {best.callbacks}, and said to them: ", end="")
    print({k.removeprefix(prefix): v for k, v in search.best_params_.items()})
    print(f"The objects passed are unchanged: {joblib.hash(callbacks) == before}")


if __name__ == "__main__":
    main()
