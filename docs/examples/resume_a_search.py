"""A grid search that is killed in the middle, and goes on when it is run again.

Each candidate and fold has a folder of checkpoints of its own. Run again, the search reads the
finished fits, goes on with the one that was under way, and trains the rest.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skorchlike import Callback, Checkpoint, NeuralNetClassifier


class Batches(Callback):
    """Count the batches that are trained, and end the process after so many."""

    passive = True  # it only watches
    trained = 0
    kill_after = None

    def on_batch_end(self, ctx):
        Batches.trained += 1
        if Batches.trained == Batches.kill_after:
            os.kill(os.getpid(), signal.SIGKILL)  # nothing can be done against this one


def search(folder):
    """Run the whole search; the same call starts it and goes on with it."""
    X, y = load_digits(return_X_y=True)
    net = NeuralNetClassifier(
        max_epochs=6,
        batch_size=64,
        callbacks={
            "checkpoint": Checkpoint(f"{folder}/{{fingerprint}}", every=0.2, unit="second"),
            "batches": Batches(),
        },
        random_state=0,
    )
    pipe = make_pipeline(StandardScaler(), net)
    grid = {"neuralnetclassifier__lr": [0.001, 0.01]}
    # with "raise" a folder that cannot be used is an error, and not a score of NaN
    found = GridSearchCV(pipe, grid, cv=3, error_score="raise")
    return found.fit(X, y, neuralnetclassifier__resume=True)


def main():
    with tempfile.TemporaryDirectory() as folder:
        killed = subprocess.run([sys.executable, __file__, folder])
        done = len(list(Path(folder).glob("*/finished.safetensors")))
        print(f"Ended by signal {-killed.returncode}, with {done} of 7 fits finished.")

        again = search(folder)
        print(f"Run again: {Batches.trained} batches trained.")

        before, started = Batches.trained, time.perf_counter()
        search(folder)
        taken = time.perf_counter() - started
        print(f"A third time: {Batches.trained - before} batches, {taken:.1f} s.")

    with tempfile.TemporaryDirectory() as folder:
        Batches.trained = 0
        never_killed = search(folder)
        print(f"Never killed: {Batches.trained} batches trained.")

    scores = "mean_test_score"
    same = (again.cv_results_[scores] == never_killed.cv_results_[scores]).all()
    weights, others = (
        found.best_estimator_[-1].model_.module_.state_dict() for found in (again, never_killed)
    )
    same_weights = all(weights[name].equal(others[name]) for name in weights)
    print(f"The same scores: {same}. The same bits of the best model: {same_weights}.")


if __name__ == "__main__":
    if len(sys.argv) > 1:  # the process that is killed, in the fourth of its seven fits
        Batches.kill_after = 3 * 6 * 19 + 70
        search(sys.argv[1])
    else:
        main()
