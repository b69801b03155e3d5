"""Replace a part of the training step: in a subclass, or in a callback.

The five actions of a batch are predict, get_loss, backward, step and zero_grad. A method
`do_<action>(self, ctx)` replaces one; a stage `on_...(self, ctx)` acts between them.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.utils import clip_grad_norm_

from skorchlike import Callback, NeuralNetClassifier


class MomentumLearner(NeuralNetClassifier):
    """Gradients decay by a factor instead of being cleared: momentum in one action."""

    def __init__(self, momentum=0.85, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum

    def do_zero_grad(self, ctx):
        for parameter in ctx.module.parameters():
            parameter.grad *= self.momentum


class HandMadeMomentum(NeuralNetClassifier):
    """SGD with momentum as textbooks have it: a velocity for each parameter, in the step."""

    def __init__(self, momentum=0.9, **kwargs):
        super().__init__(**kwargs)
        self.momentum = momentum

    @torch.no_grad()
    def do_step(self, ctx):
        for group in ctx.optimizer.param_groups:  # each with its own lr, as schedulers set it
            for parameter in group["params"]:
                if parameter.grad is None:  # frozen
                    continue
                # kept with the optimizer, so a fit that is continued goes on with it
                state = ctx.optimizer.state[parameter]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(parameter)
                velocity = state["velocity"].mul_(self.momentum).add_(parameter.grad)
                parameter.sub_(group["lr"] * velocity)


class ClipGradients(Callback):
    """Scale the gradients down when their norm exceeds a limit; count how often."""

    logs = ("n_clipped",)

    def __init__(self, max_norm=1.0):
        self.max_norm = max_norm

    def on_epoch_begin(self, ctx):
        self.n_clipped = 0

    def on_before_step(self, ctx):  # only where a step is taken: after accumulation
        norm = clip_grad_norm_(ctx.module.parameters(), self.max_norm)
        self.n_clipped += int(norm > self.max_norm)

    def on_epoch_end(self, ctx):
        ctx.log("n_clipped", self.n_clipped)


class AccumulateGradients(Callback):
    """Step once every n batches, as if they were one batch n times as large."""

    def __init__(self, n_batches=4):
        self.n_batches = n_batches

    def on_begin(self, ctx):
        self.n_steps = 0

    def on_before_backward(self, ctx):  # after the loss is recorded, so the log stays true
        ctx.loss = ctx.loss / self._group_size(ctx)

    def on_after_backward(self, ctx):
        if ctx.step % self.n_batches and not ctx.is_last_batch:
            ctx.skip_step()

    def on_after_step(self, ctx):
        self.n_steps += 1

    def state_dict(self):
        return {"n_steps": self.n_steps}

    def load_state_dict(self, state):
        self.n_steps = state["n_steps"]

    def _group_size(self, ctx):
        first_of_group = ctx.step - (ctx.step - 1) % self.n_batches
        return min(self.n_batches, ctx.n_steps - first_of_group + 1)


class LabelNoise(Callback):
    """Replace the loss: train on labels of which a share is drawn at random."""

    def __init__(self, share=0.1):
        self.share = share

    def do_get_loss(self, ctx):
        if ctx.training:
            n_classes = ctx.y_pred.shape[1]
            noisy = torch.rand(len(ctx.y), device=ctx.y.device) < self.share
            ctx.y = torch.where(noisy, torch.randint_like(ctx.y, n_classes), ctx.y)
        ctx.estimator.do_get_loss(ctx)  # the default, for what is left to do


def main():
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16.0, y, test_size=0.25, stratify=y, random_state=0
    )
    common = {"optimizer": "sgd", "lr": 0.1, "max_epochs": 10, "batch_size": 50}

    plain = NeuralNetClassifier(**common, random_state=0).fit(X_train, y_train)
    print(f"plain SGD            test accuracy {plain.score(X_test, y_test):.3f}")

    momentum = MomentumLearner(momentum=0.85, **common, random_state=0).fit(X_train, y_train)
    print(f"with momentum        test accuracy {momentum.score(X_test, y_test):.3f}")
    print(f"momentum is a parameter: {momentum.get_params()['momentum']}")

    by_hand = HandMadeMomentum(momentum=0.85, **common, random_state=0).fit(X_train, y_train)
    torchs = NeuralNetClassifier(**common, optimizer__momentum=0.85, random_state=0)
    gap = by_hand.predict_proba(X_test) - torchs.fit(X_train, y_train).predict_proba(X_test)
    print(f"momentum in the step, and torch's own: probabilities differ by {abs(gap).max():.0e}")

    both = NeuralNetClassifier(
        **{**common, "lr": 0.3},  # fewer steps, so larger ones
        callbacks={"clip": ClipGradients(max_norm=0.5), "accumulate": AccumulateGradients(3)},
        random_state=0,
    ).fit(X_train, y_train)
    n_batches = -(-len(X_train) // 50)
    n_steps = both.model_.callbacks_.accumulate["n_steps"]
    print(f"clip and accumulate  test accuracy {both.score(X_test, y_test):.3f}")
    print(f"  {10 * n_batches} batches in 10 epochs, {n_steps} optimizer steps")
    print(f"  steps with a clipped gradient, by epoch: {both.history_['n_clipped'].tolist()}")

    large = NeuralNetClassifier(**{**common, "batch_size": 150}, shuffle=False, random_state=0)
    small = NeuralNetClassifier(
        **common, shuffle=False, callbacks=[AccumulateGradients(3)], random_state=0
    )
    one, other = (net.fit(X_train[:1200], y_train[:1200]) for net in (large, small))
    gap = abs(one.predict_proba(X_test) - other.predict_proba(X_test)).max()
    print(f"3 batches of 50 rows or one of 150: probabilities differ by at most {gap:.0e}")

    noisy = NeuralNetClassifier(**common, callbacks=[LabelNoise(0.2)], random_state=0)
    noisy.fit(X_train, y_train)
    print(f"20 % random labels   test accuracy {noisy.score(X_test, y_test):.3f}")


if __name__ == "__main__":
    main()
