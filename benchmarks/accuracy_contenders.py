"""What the accuracy table compares: each builds an unfitted estimator for a task.

Every contender is given the same rows and columns as they come; what it needs done to
them (scaling, one-hot, imputation) is part of its own fit and of its time.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import (
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

RECIPES = ("mlp", "resnet", "ft_transformer", "tabm", "realmlp")

CATEGORIES = make_column_selector(dtype_include=["category", "str", "object"])
NUMBERS = make_column_selector(dtype_include="number")


class StringsAsCategories(TransformerMixin, BaseEstimator):
    """Give the string columns of a frame the category dtype; arrays stay as they are."""

    def fit(self, X: Any, y: Any = None) -> StringsAsCategories:
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: Any) -> Any:
        if not isinstance(X, pd.DataFrame):
            return X
        return X.astype(dict.fromkeys(CATEGORIES(X), "category"))


def _numeric_pipeline(X: Any, estimator: Any, dtype: str = "float64") -> Any:
    """Impute and flag, scale, one-hot: the usual pipeline to an estimator of numbers."""
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    if not isinstance(X, pd.DataFrame):
        return make_pipeline(numbers, FunctionTransformer(lambda A: A.astype(dtype)), estimator)
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    both = make_column_transformer((numbers, NUMBERS), (one_hot, CATEGORIES))
    return make_pipeline(both, FunctionTransformer(lambda A: A.astype(dtype)), estimator)


def _scaled_target(estimator: Any) -> TransformedTargetRegressor:
    return TransformedTargetRegressor(estimator, transformer=StandardScaler())


def hist_gb(task: str, X: Any, seed: int) -> Any:
    """scikit-learn's gradient boosting, as it comes."""
    cls = (
        HistGradientBoostingClassifier
        if task == "classification"
        else HistGradientBoostingRegressor
    )
    return make_pipeline(StringsAsCategories(), cls(random_state=seed))


def sklearn_mlp(task: str, X: Any, seed: int) -> Any:
    """scikit-learn's MLP, as it comes, behind the usual pipeline."""
    if task == "classification":
        return _numeric_pipeline(X, MLPClassifier(random_state=seed))
    return _scaled_target(_numeric_pipeline(X, MLPRegressor(random_state=seed)))


def pytabkit_realmlp(task: str, X: Any, seed: int) -> Any:
    """RealMLP with tuned defaults, of the paper's own package; it takes no holes in numbers."""
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # a banner a fit
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    cls = RealMLP_TD_Classifier if task == "classification" else RealMLP_TD_Regressor
    net = cls(device="cpu", random_state=seed, n_threads=1, verbosity=0)
    if not isinstance(X, pd.DataFrame):
        return net
    fill = make_column_transformer(
        (SimpleImputer(add_indicator=True), NUMBERS),
        remainder="passthrough",
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    return make_pipeline(StringsAsCategories(), fill, net)


class SkorchMLP(BaseEstimator):
    """skorch's estimator around this package's MLP, trained as the recipe "mlp" says.

    It is built in fit, because skorch does not read the sizes off the data; and without the
    embedding of numbers, whose bins only this package's estimators learn.
    """

    def __init__(self, task: str, seed: int = 0) -> None:
        self.task = task
        self.seed = seed

    def fit(self, X: Any, y: Any) -> SkorchMLP:
        """Encode the target, build skorch's estimator for it, and fit that."""
        import torch
        from skorch import NeuralNetClassifier, NeuralNetRegressor
        from skorch.callbacks import EarlyStopping
        from skorch.dataset import ValidSplit

        from skorchlike.modules import MLP
        from skorchlike.recipes import recipe

        said = recipe("mlp", self.task)
        labels = self.task == "classification"
        if labels:
            self.classes_, y = np.unique(y, return_inverse=True)
        else:
            y = np.asarray(y, dtype=np.float32)[:, None]
        torch.manual_seed(self.seed)
        stop = EarlyStopping(
            patience=said["callbacks"]["early_stopping"].patience, load_best=True, sink=_no_print
        )
        self.net_ = (NeuralNetClassifier if labels else NeuralNetRegressor)(
            MLP,
            module__n_features_in=X.shape[1],
            module__n_outputs=len(self.classes_) if labels else 1,
            module__hidden_layer_sizes=said["module__hidden_layer_sizes"],
            module__dropout=said["module__dropout"],
            criterion=torch.nn.CrossEntropyLoss if labels else torch.nn.MSELoss,
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=said["optimizer__weight_decay"],
            lr=said["lr"],
            max_epochs=said["max_epochs"],
            batch_size=said["batch_size"],
            iterator_train__shuffle=True,
            train_split=ValidSplit(said["validation_fraction"], stratified=labels),
            callbacks=[stop],
            verbose=0,
        ).fit(X, y)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return numbers, or labels."""
        found = self.net_.predict(X)
        return self.classes_[found] if self.task == "classification" else found[:, 0]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the shares of the classes."""
        return np.asarray(self.net_.predict_proba(X))


def _no_print(text: str) -> None:
    pass


def skorch_mlp(task: str, X: Any, seed: int) -> Any:
    """skorch with the module and the training of the recipe "mlp", behind the usual pipeline."""
    net = _numeric_pipeline(X, SkorchMLP(task, seed), "float32")
    return net if task == "classification" else _scaled_target(net)


def recipe_contender(name: str) -> Callable[[str, Any, int], Any]:
    """Return the contender that trains by a recipe of ours, on the data as they come."""

    def make(task: str, X: Any, seed: int) -> Any:
        from skorchlike import NeuralNetClassifier, NeuralNetRegressor
        from skorchlike.recipes import recipe

        cls = NeuralNetClassifier if task == "classification" else NeuralNetRegressor
        return cls(**recipe(name, task=task), random_state=seed)

    make.__doc__ = f"skorchlike, recipe {name}"
    return make


ALL: dict[str, Callable[[str, Any, int], Any]] = {
    "HistGB": hist_gb,
    "sklearn MLP": sklearn_mlp,
    "skorch MLP": skorch_mlp,
    "pytabkit RealMLP": pytabkit_realmlp,
    **{name: recipe_contender(name) for name in RECIPES},
}
OURS = RECIPES


MOST_CELLS = {"ft_transformer": 20_000}
"""Contenders that are slow on a CPU, and the rows times columns up to which they are run."""


def is_run(name: str, X: Any) -> bool:
    """Whether a contender is run on data of this size."""
    return X.shape[0] * X.shape[1] <= MOST_CELLS.get(name, X.shape[0] * X.shape[1])


def missing() -> list[str]:
    """Return the contenders whose package is not installed."""
    packages = {"skorch MLP": "skorch", "pytabkit RealMLP": "pytabkit"}
    return [name for name, package in packages.items() if not importlib.util.find_spec(package)]
