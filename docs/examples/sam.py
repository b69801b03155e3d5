"""Sharpness-aware minimization: each step by the gradient at the worst point nearby.

P. Foret, A. Kleiner, H. Mobahi, B. Neyshabur, "Sharpness-Aware Minimization for Efficiently
Improving Generalization", ICLR 2021. One step:

1. The loop has computed the gradient g at the parameters w.
2. Climb to w + rho * g / |g|, where the loss nearby is about the largest.
3. Compute the gradient there: predict, loss and backward once more.
4. Go back to w and let the optimizer take its step by that gradient.

All of it is the action `step`, which the callback replaces. It works with any optimizer and any
estimator, since for each part it calls the action that the estimator has. (A module with batch
norm updates its running statistics in both passes.)
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skorchlike import Callback, NeuralNetClassifier


class SAM(Callback):
    """Step by the gradient at the worst point within a distance of `rho`."""

    changes_gradients = True  # it reads them: `explain` says so where they are not whole

    def __init__(self, rho=0.05):
        self.rho = rho

    def do_step(self, ctx):
        groups = ctx.optimizer.param_groups
        parameters = [p for group in groups for p in group["params"] if p.grad is not None]
        weights = [p.detach().clone() for p in parameters]
        y_pred, loss = ctx.y_pred, ctx.loss
        try:
            self.climb(parameters)
            ctx.optimizer.zero_grad()
            ctx.estimator.do_predict(ctx)
            ctx.estimator.do_get_loss(ctx)
            ctx.estimator.do_backward(ctx)
        finally:  # also when the second pass fails or is interrupted
            with torch.no_grad():
                for parameter, weight in zip(parameters, weights, strict=True):
                    parameter.copy_(weight)
            ctx.y_pred, ctx.loss = y_pred, loss  # later stages see the batch as recorded
        ctx.estimator.do_step(ctx)

    @torch.no_grad()
    def climb(self, parameters):
        gradients = [p.grad for p in parameters]
        norm = torch.nn.utils.get_total_norm(gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.add_(gradient * (self.rho / (norm + 1e-12)))  # never waits for a GPU


def main():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        (X / 16).astype("float32"), y, train_size=600, stratify=y, random_state=0
    )
    # three in ten labels drawn at random: who fits them exactly has learned them by heart
    rng = np.random.default_rng(0)
    wrong = rng.random(len(y_train)) < 0.3
    y_train = np.where(wrong, rng.integers(0, 10, len(y_train)), y_train)

    for rho in (None, 0.05, 0.2, 0.5):
        net = NeuralNetClassifier(
            module__hidden_layer_sizes=(64,),
            optimizer="sgd",
            lr=0.1,
            optimizer__momentum=0.9,
            batch_size=50,
            max_epochs=60,
            callbacks=None if rho is None else {"sam": SAM(rho)},
            random_state=0,
        ).fit(X_train, y_train)
        name = "SGD" if rho is None else f"SAM, rho={rho}"
        print(
            f"{name:<14} loss on the noisy labels {net.loss_curve_[-1]:.2f}, "
            f"accuracy on true ones {net.score(X_test, y_test):.3f}"
        )


if __name__ == "__main__":
    main()
