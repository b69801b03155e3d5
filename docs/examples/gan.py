"""Two optimizers taking turns: a small GAN on points in the plane.

A generator makes points of noise, a discriminator tells them from true ones; each has its own
loss and its own optimizer (I. Goodfellow et al., "Generative Adversarial Nets", 2014).

- The module holds both. Its `forward` is the generator, so that `predict(noise)` makes points.
- The estimator's optimizer, loss and loop are the generator's: a regressor whose inputs are
  noise and whose targets are the true points.
- A callback takes the discriminator's turn before each of the generator's, by an optimizer of
  its own, and replaces the action `get_loss`.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import make_moons
from torch import nn
from torch.nn.functional import softplus

from skorchlike import Callback, NeuralNetRegressor


def layers(n_in, n_out, width):
    return nn.Sequential(
        *(nn.Linear(n_in, width), nn.LeakyReLU(0.2)),
        *(nn.Linear(width, width), nn.LeakyReLU(0.2)),
        nn.Linear(width, n_out),
    )


class GAN(nn.Module):
    """A generator and its discriminator."""

    def __init__(self, n_features_in, n_outputs, width=64):
        super().__init__()
        self.generator = layers(n_features_in, n_outputs, width)
        self.discriminator = layers(n_outputs, 1, width)  # the logit of "true"

    def forward(self, noise):
        return self.generator(noise)


class TakeTurns(Callback):
    """Train the discriminator in turn with the generator."""

    logs = ("discriminator_loss",)

    def __init__(self, lr=1e-3):
        self.lr = lr

    def on_begin(self, ctx):
        parameters = ctx.module.discriminator.parameters()
        self.optimizer = torch.optim.Adam(parameters, lr=self.lr, betas=(0.5, 0.99))

    def on_epoch_begin(self, ctx):
        self.losses = []

    def on_batch_begin(self, ctx):
        """The discriminator's turn: one step on true points and points of the generator."""
        ctx.X = torch.randn_like(ctx.X)  # new noise for every batch, of the fit's own generator
        with torch.no_grad():
            made = ctx.module(ctx.X)
        discriminator = ctx.module.discriminator
        loss = softplus(-discriminator(ctx.y)).mean() + softplus(discriminator(made)).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(loss.detach())

    def do_get_loss(self, ctx):
        """The generator's loss: how well the discriminator tells its points."""
        ctx.loss = softplus(-ctx.module.discriminator(ctx.y_pred)).mean()

    def on_before_step(self, ctx):
        """Keep the generator's optimizer from the discriminator: it skips what has no gradient."""
        for parameter in ctx.module.discriminator.parameters():
            parameter.grad = None

    def on_epoch_end(self, ctx):
        ctx.log("discriminator_loss", torch.stack(self.losses).mean())

    # so that a fit that is continued goes on with the optimizer's averages

    def state_dict(self):
        return self.optimizer.state_dict()

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state)


def distance(one, other):
    """Return the energy distance of two clouds of points; 0 where they are alike."""

    def mean_gap(a, b):
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)).mean()

    return 2 * mean_gap(one, other) - mean_gap(one, one) - mean_gap(other, other)


def make_net(**params):
    """Return the estimator of the GAN."""
    fixed = {
        "optimizer": "adam",
        "lr": 1e-3,
        "optimizer__betas": (0.5, 0.99),
        "batch_size": 256,
        "max_epochs": 90,
        "callbacks": {"turns": TakeTurns()},
        "random_state": 0,
    }
    return NeuralNetRegressor(GAN, **{**fixed, **params})


def true_points(n=4096, seed=0):
    points, _ = make_moons(n, noise=0.05, random_state=seed)
    return (points - points.mean(0)).astype("float32")


def draw(points, made, history):
    """Return a figure of the points and of both losses."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    left.scatter(*points[:400].T, s=4, color="#999999", label="true points")
    left.scatter(*made[:400].T, s=4, color="#D55E00", label="the generator's")
    left.set(xlabel="first coordinate", ylabel="second coordinate")
    left.set(aspect="equal", xlim=(-2.2, 2.2), ylim=(-1.4, 1.6))
    left.legend(loc="upper center", ncol=2, markerscale=2, frameon=False)
    right.plot(history["epoch"], history["train_loss"], color="#D55E00", label="generator")
    right.plot(
        history["epoch"], history["discriminator_loss"], color="#0072B2", label="discriminator"
    )
    right.axhline(2 * np.log(2), color="0.6", linestyle=":", zorder=0)
    right.text(history["epoch"].max(), 2 * np.log(2), "cannot tell", ha="right", va="bottom")
    right.set(xlabel="epoch", ylabel="loss (nats)")
    right.legend()
    return figure


def main():
    points = true_points()
    noise = np.random.default_rng(1).normal(size=(len(points), 4)).astype("float32")
    net = make_net()
    for epochs in (1, 89):  # look at it early, then go on
        net.set_params(max_epochs=epochs, warm_start=True).fit(noise, points)
        made = net.predict(noise[:1000])
        print(f"{net.n_iter_:>2} epochs: energy distance {distance(made, points[:1000]):.3f}")
    other = distance(true_points(1000, seed=1), points[:1000])
    print(f"two samples of true points: {other:.3f}")
    draw(points, made, net.history_).savefig("gan.png", dpi=110)
    print("gan.png shows the points and both losses")


if __name__ == "__main__":
    main()
