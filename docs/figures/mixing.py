"""What Mixup and CutMix make of a digit and its partner."""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from skorchlike import Callback, CutMix, Mixup, NeuralNetClassifier

ROWS = (3, 4)
SEED = 31


class Keep(Callback):
    """Keep the first batch as it is after mixing."""

    order = 1

    def __init__(self, kept):
        self.kept = kept

    def __sklearn_clone__(self):
        return self

    def on_batch_begin(self, ctx):
        mixing = ctx.callbacks["mixing"]
        self.kept.append((mixing.partner.tolist(), ctx.X.numpy().copy(), mixing.share))


def mix(mixing, images, y):
    """Return the partners in one batch, what the rows became, and the share they kept."""
    kept = []
    net = NeuralNetClassifier(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        callbacks={"mixing": mixing, "keep": Keep(kept)},
        max_epochs=1,
        shuffle=False,
        random_state=SEED,
    )
    net.fit(images, y)
    return kept[0]


def draw():
    """Draw digits, their partners and the two mixtures."""
    torch.set_num_threads(1)
    images, y = load_digits(return_X_y=True)
    images = images[:10].reshape(10, 1, 8, 8).astype("float32")
    results = {name: mix(mixing, images, y[:10]) for name, mixing in
               {"Mixup": Mixup(1.0), "CutMix": CutMix(1.0)}.items()}  # fmt: skip
    partner = results["Mixup"][0]
    assert partner == results["CutMix"][0]
    figure, axes = plt.subplots(len(ROWS), 4, figsize=(7, 3.7), layout="constrained")
    for row, line in zip(ROWS, axes, strict=True):
        other = partner[row]
        shown = {f"row: {y[row]}": images[row], f"partner: {y[other]}": images[other]}
        for name, (_, mixed, share) in results.items():
            shown[f"{name}: {share:.2f} × {y[row]}, {1 - share:.2f} × {y[other]}"] = mixed[row]
        for ax, (title, image) in zip(line, shown.items(), strict=True):
            ax.imshow(image[0], cmap="gray_r", vmin=0, vmax=16)
            ax.set_title(title, fontsize=8)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color("0.7")
    return figure
