"""L-BFGS: an optimizer that evaluates the loss several times in one step.

torch.optim.LBFGS wants a closure that computes loss and gradients anew wherever it has moved the
parameters to. A callback gives it one by replacing the action `step`: the closure calls the
other actions again, so that whatever they are in this fit (autocast, a subclass, a loss of one's
own), L-BFGS evaluates the same.
"""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from skorchlike import Callback, NeuralNetClassifier


class LBFGSStep(Callback):
    """Let an optimizer that needs a closure take its step; count how often it evaluates."""

    logs = ("n_evaluations",)

    def on_epoch_begin(self, ctx):
        self.n_evaluations = 0

    def do_step(self, ctx):
        y_pred, loss = ctx.y_pred, ctx.loss
        evaluated = True  # the loop has just done so, where the step begins

        def closure():
            nonlocal evaluated
            self.n_evaluations += 1
            if not evaluated:
                ctx.optimizer.zero_grad()
                ctx.estimator.do_predict(ctx)
                ctx.estimator.do_get_loss(ctx)
                ctx.estimator.do_backward(ctx)
            evaluated = False
            return ctx.loss

        ctx.optimizer.step(closure)
        ctx.y_pred, ctx.loss = y_pred, loss  # what later stages see is the batch as recorded

    def on_epoch_end(self, ctx):
        ctx.log("n_evaluations", self.n_evaluations)


class Logistic(nn.Linear):
    """Logistic regression: one logit, in double precision."""

    def __init__(self, n_features_in, n_outputs):
        super().__init__(n_features_in, n_outputs, dtype=torch.float64)


def make_net(**params):
    """Return logistic regression by L-BFGS, on all rows at once."""
    fixed = {
        "criterion": "bce_with_logits",  # one output for two classes
        "optimizer": "lbfgs",
        "lr": 1.0,
        "optimizer__line_search_fn": "strong_wolfe",
        "optimizer__max_iter": 10,
        "batch_size": -1,  # its curvature estimates need one and the same loss throughout
        "max_epochs": 5,
        "callbacks": [LBFGSStep()],
        "random_state": 0,
    }
    return NeuralNetClassifier(Logistic, **{**fixed, **params})


def main():
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X[:, :8])  # not separable, so there is one best fit

    net = make_net().fit(X, y)
    print(net.history_[["epoch", "train_loss", "n_evaluations"]].to_string(index=False))

    adam = NeuralNetClassifier(
        Logistic,
        criterion="bce_with_logits",
        optimizer="adam",
        lr=0.1,
        batch_size=-1,
        max_epochs=int(net.history_["n_evaluations"].sum()),
        random_state=0,
    ).fit(X, y)
    sklearns = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(X, y)

    def loss(logits):
        return np.logaddexp(0, -(2 * y - 1) * logits).mean()

    best = loss(sklearns.decision_function(X))
    print(f"loss of scikit-learn's LogisticRegression      {best:.8f}")
    for name, fitted in (("L-BFGS", net), ("Adam with as many evaluations", adam)):
        above = loss(fitted.decision_function(X)) - best
        print(f"{name:<46} {above:+.1e} above it")


if __name__ == "__main__":
    main()
