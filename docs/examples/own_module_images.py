"""A module of one's own: a small convolutional network on 8 x 8 images.

A module gets X as it is, here of shape (n, channels, height, width). The sizes that its
`__init__` asks for by name (`n_features_in`, `n_outputs`) are read off the data.
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skorchlike import NeuralNetClassifier


class SmallCNN(nn.Module):
    """Two convolutions, each followed by a ReLU and a pooling, then a linear layer."""

    def __init__(self, n_outputs, width=16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * width, n_outputs),
        )

    def forward(self, X):
        return self.layers(X)  # logits: the criterion and predict_proba expect these


def main():
    X, y = load_digits(return_X_y=True)
    images = (X / 16.0).reshape(-1, 1, 8, 8)  # float64; cast to the module's float32
    X_train, X_test, y_train, y_test = train_test_split(
        images, y, test_size=0.25, stratify=y, random_state=0
    )
    net = NeuralNetClassifier(
        SmallCNN,
        module__width=16,  # n_outputs=10 comes from the labels
        lr=0.01,
        max_epochs=8,
        batch_size=64,
        validation_fraction=0.1,
        random_state=0,
        verbose=1,
    )
    print(f"X_train: {X_train.shape}, {X_train.dtype}")
    net.fit(X_train, y_train)

    n_parameters = sum(p.numel() for p in net.model_.module_.parameters())
    dtype = next(net.model_.module_.parameters()).dtype
    print(f"SmallCNN has {n_parameters} parameters of {dtype}.")
    print(f"Accuracy on {len(X_test)} images not seen: {net.score(X_test, y_test):.3f}")
    print(f"Probabilities of one image sum to {net.predict_proba(X_test[:1]).sum():.3f}")


if __name__ == "__main__":
    main()
