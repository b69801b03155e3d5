"""Missing numbers in arrays, filled for a module of one's own."""

import numpy as np
import pytest
import torch
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import TensorDataset

from skorchlike import NeuralNetClassifier, ParameterError
from skorchlike.data.loading import is_loader

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, (90, 4)).astype(np.float32)
Y = (X[:, 0] > 3).astype(int)
X[::5, 1] = X[1::7, 3] = np.nan


class Own(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.linear = nn.Linear(n_features_in, n_outputs)

    def forward(self, X):
        return self.linear(X)


class Rows(torch.utils.data.Dataset):
    """A dataset that is read row by row."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i], int(Y[i])


def in_file(path):
    mapped = np.memmap(path, X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    return mapped


KINDS = {
    "array": lambda path: X,
    "list": lambda path: X.tolist(),
    "file": lambda path: in_file(path / "X"),
    "tensor": lambda path: torch.tensor(X),
    "tensor-dataset": lambda path: TensorDataset(torch.tensor(X), torch.tensor(Y)),
    "dataset": lambda path: Rows(),
}


def net(**params):
    said = {"numeric_transform": "standard", "max_epochs": 5, "lr": 0.05, "random_state": 0}
    return NeuralNetClassifier(Own, **{**said, **params})


def by_scikit_learn(X, fitted_to=X):
    """Return filled and scaled numbers, and flags behind them."""
    filled = SimpleImputer().fit(fitted_to).transform(X)
    flags = MissingIndicator().fit(fitted_to).transform(X)
    # scaled by the spread of the numbers that are there, which filling would lessen
    return np.c_[StandardScaler().fit(fitted_to).transform(filled), flags].astype(np.float32)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_holes_are_filled_and_flagged_as_scikit_learns_transformers_do(make, tmp_path):
    given = make(tmp_path)
    ours = net().fit(given) if is_loader(given) else net().fit(given, Y)
    theirs = net(numeric_transform=None).fit(by_scikit_learn(X), Y)
    assert ours.model_.module_.linear.in_features == 6
    np.testing.assert_allclose(
        ours.predict_proba(given), theirs.predict_proba(by_scikit_learn(X)), rtol=1e-4
    )


def test_holes_are_filled_in_validation_and_prediction_alone():
    complete = np.nan_to_num(X)
    ours = net().fit(complete, Y, X_val=X, y_val=Y)
    assert ours.model_.module_.linear.in_features == 4  # no flags: training had no holes
    filled = np.where(np.isnan(X), complete.mean(0), X)
    np.testing.assert_allclose(ours.predict_proba(X), ours.predict_proba(filled), rtol=1e-4)
    assert ours.history_["valid_accuracy"].iloc[-1] == ours.score(filled, Y)


def test_what_the_fit_learned_holds_whatever_is_said_later():
    ours = net().fit(X, Y)
    expected = ours.predict_proba(X)
    assert np.array_equal(ours.set_params(numeric_transform=None).predict_proba(X), expected)
    plain = net(numeric_transform=None).fit(np.nan_to_num(X), Y)
    with pytest.raises(ParameterError, match="NaN"):
        plain.set_params(numeric_transform="standard").predict(X)


def test_images_with_holes_are_refused():
    images = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    for given in (X.reshape(-1, 2, 2), torch.tensor(X.reshape(-1, 2, 2))):
        with pytest.raises(ParameterError, match=r"NaN.* Impute or drop"):
            NeuralNetClassifier(images, max_epochs=1).fit(given, Y)
