"""Quickstart: a callback of one's own, from its first line to a grid search over it.

Handwritten digits (1797 images of 8 x 8 pixels), shipped with scikit-learn. Writes
learning_curves.png to the current directory. Takes about half a minute.
"""

from contextlib import redirect_stdout

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skorchlike import Callback, EarlyStopping, NeuralNetClassifier, get_callback

# so small a module gains nothing from more threads, and where cores are busy they wait for
# each other: many times as slow
torch.set_num_threads(1)


class EMALogger(Callback):
    """Print an exponential moving average of the training loss before each validation."""

    def __init__(self, alpha=0.1):
        self.alpha = alpha

    def on_begin(self, ctx):
        self.moving_loss = None

    def on_batch_end(self, ctx):
        previous = ctx.last_loss if self.moving_loss is None else self.moving_loss
        self.moving_loss = self.alpha * ctx.last_loss + (1 - self.alpha) * previous

    def on_before_valid(self, ctx):
        print(f"Epoch {ctx.epoch}: {self.moving_loss:.2f}")

    def state_dict(self):
        return {"moving_loss": self.moving_loss}

    def load_state_dict(self, state):
        self.moving_loss = state["moving_loss"]


def heading(text):
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def log_by_hand(X, y):
    """Fit a pipeline with the logger; return it for further use."""
    heading("1. A callback of one's own in one fit")
    print("Moving average of the training loss, after each epoch:")
    net = NeuralNetClassifier(
        module__hidden_layer_sizes=(20,),
        lr=0.01,
        max_epochs=5,
        batch_size=64,
        callbacks={"logger": EMALogger()},
        callbacks__logger__alpha=0.05,  # a parameter like any other: set, cloned, searched
        random_state=0,
    )
    pipe = Pipeline([("scale", StandardScaler()), ("net", net)])
    pipe.fit(X, y)
    print("What the callback learned is kept on the fitted model, under its name:")
    print(f"  model_.callbacks_.logger = {pipe['net'].model_.callbacks_.logger}")
    return pipe


def search_alpha(pipe, X, y):
    """Search over a parameter of the callback, and read its state in the scorer."""
    heading("2. scikit-learn's tools on the pipeline")

    def score(fitted, X, y):
        state = fitted["net"].model_.callbacks_.logger
        return {"accuracy": fitted.score(X, y), "moving_loss": state["moving_loss"]}

    with redirect_stdout(None):  # the logger would print a line for each epoch of each fit
        accuracy = cross_val_score(pipe, X, y, cv=3)
        search = GridSearchCV(
            pipe,
            {"net__callbacks__logger__alpha": [0.05, 0.1, 0.5]},
            scoring=score,
            refit="accuracy",
            cv=3,
        ).fit(X, y)
    print(f"cross_val_score, 3 folds: accuracy {accuracy.mean():.3f} +- {accuracy.std():.3f}")
    print("GridSearchCV over the logger's alpha. It changes what is logged and not how the")
    print("net is trained, so the accuracy stays the same and the callback's state differs:")
    results = search.cv_results_
    for params, acc, loss in zip(
        results["params"],
        results["mean_test_accuracy"],
        results["mean_test_moving_loss"],
        strict=True,
    ):
        alpha = params["net__callbacks__logger__alpha"]
        print(f"  alpha {alpha:<4}  accuracy {acc:.3f}  moving loss {loss:.3f}")


def search_training(X, y):
    """Search over parameters that matter: learning rate and patience."""
    heading("3. A search over what matters")
    net = NeuralNetClassifier(
        module__hidden_layer_sizes=(64,),
        max_epochs=60,
        batch_size=64,
        validation_fraction=0.2,
        callbacks=[EarlyStopping()],
        random_state=0,
    )
    pipe = Pipeline([("scale", StandardScaler()), ("net", net)])

    def score(fitted, X, y):
        return {"accuracy": fitted.score(X, y), "epochs": fitted["net"].n_iter_}

    grid = {
        "net__lr": [0.0003, 0.003],
        "net__callbacks__early_stopping__patience": [1, 5],
    }
    search = GridSearchCV(pipe, grid, scoring=score, refit="accuracy", cv=3).fit(X, y)
    print("Learning rate and early-stopping patience, mean of 3 folds. 'epochs' is how many were")
    print("trained (60 at most) before the validation loss had not improved 'patience' times:")
    results = search.cv_results_
    for params, acc, epochs in zip(
        results["params"], results["mean_test_accuracy"], results["mean_test_epochs"], strict=True
    ):
        lr = params["net__lr"]
        patience = params["net__callbacks__early_stopping__patience"]
        print(f"  lr {lr:<6}  patience {patience}  accuracy {acc:.3f}  epochs {epochs:.1f}")
    print(f"Best: {search.best_params_}")
    return search.best_estimator_


def final_fit(pipe, X, y, X_test, y_test):
    """Fit the best pipeline with a progress bar, then draw its learning curves."""
    heading("4. The best one again, with a progress bar")
    # for this fit alone; an epoch takes so little time that a bar for its batches is no use
    pipe.fit(X, y, net__callbacks=[get_callback("progress", batches=False)])
    net = pipe["net"]
    best = net.model_.callbacks_.early_stopping
    print(f"Stopped after epoch {net.n_iter_} (reason: {net.model_.stop_reason_}); the weights")
    print(f"are those of epoch {best['best_epoch']}, where the validation loss was lowest:")
    print(f"  validation loss {best['best_score']:.3f}")
    print(f"  test accuracy   {pipe.score(X_test, y_test):.3f}  ({len(X_test)} images not seen)")
    print("The last epochs in history_, a DataFrame:")
    print(net.history_.drop(columns="duration").tail(3).to_string(index=False))
    draw(net.history_, best["best_epoch"], "learning_curves.png")
    print("Learning curves: learning_curves.png")


def draw(history, best_epoch, path):
    """Save training and validation loss, and validation accuracy, by epoch."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(history["epoch"], history["train_loss"], label="training")
    left.plot(history["epoch"], history["valid_loss"], label="validation")
    left.set(xlabel="epoch", ylabel="cross-entropy loss (log scale)", title="Loss", yscale="log")
    right.plot(history["epoch"], 100 * history["valid_accuracy"], color="C1", label="validation")
    right.set(xlabel="epoch", ylabel="accuracy (%)", title="Accuracy on the validation rows")
    for ax in (left, right):
        ax.axvline(best_epoch, color="0.5", linestyle="--", label=f"best epoch ({best_epoch})")
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend()
    fig.savefig(path, dpi=150)
    plt.close(fig)


def main():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, stratify=y, random_state=0
    )
    pipe = log_by_hand(X_train, y_train)
    search_alpha(pipe, X_train, y_train)
    best = search_training(X_train, y_train)
    final_fit(best, X_train, y_train, X_test, y_test)


if __name__ == "__main__":
    main()
