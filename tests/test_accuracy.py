"""At default settings not below scikit-learn's MLP at its own, on scaled real data."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skorchlike import NeuralNetClassifier, NeuralNetRegressor

CLASSIFIERS = NeuralNetClassifier, MLPClassifier, StratifiedKFold
REGRESSORS = NeuralNetRegressor, MLPRegressor, KFold
DATA = {
    "wine": (load_wine, CLASSIFIERS),
    "breast-cancer": (load_breast_cancer, CLASSIFIERS),
    "digits": (load_digits, CLASSIFIERS),
    "diabetes": (load_diabetes, REGRESSORS),
}


def mean_score(cls, data, split, seeds):
    """Mean over seeds of the 5-fold score; the seed shuffles the folds and the fit."""
    scores = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for seed in seeds:
            folds = split(5, shuffle=True, random_state=seed)
            est = make_pipeline(StandardScaler(), cls(random_state=seed))
            scores.append(cross_val_score(est, *data, cv=folds))
    return np.mean(scores)


@pytest.mark.parametrize(
    "name",
    [
        "wine",
        "diabetes",
        pytest.param("breast-cancer", marks=pytest.mark.slow),
        pytest.param("digits", marks=pytest.mark.slow),
    ],
)
def test_default_accuracy_is_not_below_scikit_learns(name):
    load, (ours, theirs, split) = DATA[name]
    data = load(return_X_y=True)
    score, reference = (mean_score(cls, data, split, range(5)) for cls in (ours, theirs))
    print(f"{name}: ours {score:.4f}, theirs {reference:.4f}")
    assert score >= reference
