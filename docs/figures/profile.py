"""Where the time of a small fit goes."""

from sklearn.datasets import load_digits

from skorchlike import Metrics, NeuralNetClassifier


def draw():
    X, y = load_digits(return_X_y=True)
    net = NeuralNetClassifier(
        max_epochs=20,
        batch_size=50,
        validation_fraction=0.2,
        callbacks=[Metrics("neg_log_loss"), "nan_guard", "profile"],
        random_state=0,
    )
    report = net.fit(X / 16, y).model_.callbacks_.profile
    return report.plot(n_rows=10)
