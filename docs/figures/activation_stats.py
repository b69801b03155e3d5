"""Activations of a ReLU network at a learning rate that is far too large."""

from sklearn.datasets import load_digits

from skorchlike import ActivationStats, NeuralNetClassifier


def draw():
    X, y = load_digits(return_X_y=True)
    net = NeuralNetClassifier(
        module__hidden_layer_sizes=(64, 64, 64),
        lr=0.1,
        max_epochs=4,
        batch_size=50,
        callbacks=[ActivationStats(["1", "3", "5"], every=6, n_bins=30)],
        random_state=0,
    )
    stats = net.fit(X / 16, y).model_.callbacks_.activation_stats
    figure = stats.plot()
    figure.set_size_inches(7, 3.2)
    return figure
