"""Recipes: the parameters by which a built-in module trains as its paper, or we, found best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skorchlike.callbacks.early_stopping import EarlyStopping
from skorchlike.callbacks.param_scheduler import ParamScheduler
from skorchlike.exceptions import ParameterError, did_you_mean

TASKS = ("classification", "regression")


def recipe(name: str, task: str = "classification", **params: Any) -> dict[str, Any]:
    """Return constructor parameters by which a built-in module trains well.

    They are ordinary parameters of `NeuralNetClassifier` or `NeuralNetRegressor`: what a
    recipe is can be read off them, changed by ``set_params``, and searched.

    Parameters
    ----------
    name : {"mlp", "resnet", "ft_transformer", "tabm", "realmlp"}
        The recipe, and the module that it trains.
    task : {"classification", "regression"}, default="classification"
        Which of the two estimators the parameters are for.
    **params : dict
        Parameters that replace those of the recipe. A component that is said as a whole
        (``callbacks``, ``criterion``, ``optimizer``, ``module``) drops what the recipe says
        beneath it. With ``lr`` the rates of single parameter groups keep their ratio to it.

    Returns
    -------
    dict
        Parameters for the constructor.

    Raises
    ------
    ParameterError
        If name or task are unknown.

    Notes
    -----
    "realmlp" follows D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by default: strong
    pre-tuned MLPs and boosted trees on tabular data", 2024, and the decays those of its
    authors' package; of epochs that are equally good it keeps the first, not the last, and
    it does not clip predictions to the range of the targets. It holds out a fifth of the rows
    (unless `fit` is given ``X_val``), "mlp" and "resnet" 15 %.

    "resnet" and "ft_transformer" take their modules from Y. Gorishniy et al., "Revisiting Deep
    Learning Models for Tabular Data", 2021, "tabm" from Y. Gorishniy et al., "TabM: Advancing
    Tabular Deep Learning with Parameter-Efficient Ensembling", 2025. The sizes of
    "ft_transformer" and "tabm" are a fraction of theirs, to train on a CPU; and where these
    stop early, "ft_transformer" and "tabm" anneal the rate over a fixed number of epochs, on
    all rows.

    How well they do is in the accuracy table of the documentation.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NeuralNetClassifier, recipe
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(**recipe("realmlp", max_epochs=20), random_state=0)
    >>> bool(net.fit(X, y).score(X, y) > 0.9)
    True
    """
    if name not in RECIPES:
        raise ParameterError(f"There is no recipe named {name!r}.{did_you_mean(name, RECIPES)}")
    if task not in TASKS:
        raise ParameterError(
            f"The `task` of a recipe must be 'classification' or 'regression'. Got {task!r}."
        )
    lr = {"lr": params["lr"]} if "lr" in params else {}
    made = {"module": name, "dtype": "float32", **RECIPES[name](task, **lr)}
    if task == "regression":
        made["target_transform"] = "standard"
    for component in ("module", "criterion", "optimizer", "callbacks"):
        if component in params and params[component] != made.get(component):
            made = {key: v for key, v in made.items() if not key.startswith(f"{component}__")}
    return {**made, **params}


def _mlp(task: str, lr: float = 2e-3) -> dict[str, Any]:
    return {
        "module__hidden_layer_sizes": (256, 256),
        "module__dropout": 0.3,
        "module__numeric_embedding": "piecewise_linear",
        "module__embedding_size": 8,
        "module__n_bins": 16,
        "batch_size": 128,
        "optimizer__weight_decay": 1e-2,
        **_stopped_early(lr),
    }


def _resnet(task: str, lr: float = 1e-3) -> dict[str, Any]:
    return {"batch_size": 128, "optimizer__weight_decay": 1e-2, **_stopped_early(lr)}


def _ft_transformer(task: str, lr: float = 5e-4) -> dict[str, Any]:
    return {
        "module__n_blocks": 2,
        "module__d_block": 64,
        "numeric_transform": "quantile",
        "batch_size": 128,
        "optimizer__weight_decay": 1e-5,
        **_annealed(lr, max_epochs=30),
    }


def _tabm(task: str, lr: float = 5e-3) -> dict[str, Any]:
    return {
        # a quarter of the paper's width, half of its members: a tenth of the time on a CPU
        "module__n_members": 16,
        "module__d_block": 128,
        "module__n_blocks": 2,
        "module__dropout": 0.2,
        "module__numeric_embedding": "piecewise_linear",
        "module__embedding_size": 8,
        "module__n_bins": 16,
        "batch_size": 64,
        "optimizer__weight_decay": 0.05,
        **_annealed(lr, max_epochs=32),
    }


def _realmlp(task: str, lr: float | None = None) -> dict[str, Any]:
    regression = task == "regression"
    if lr is None:
        lr = 0.2 if regression else 0.04
    return {
        "numeric_transform": "robust",
        "batch_size": 256,
        "max_epochs": 256,
        "lr": lr,
        "optimizer__betas": (0.9, 0.95),
        "optimizer__weight_decay": 0.02,
        "optimizer__param_groups": {
            "*.bias": {"lr": 0.1 * lr, "weight_decay": 0.0},
            # the authors' code multiplies the decay by the factor of the rate once more
            "scale.*": {"lr": 6 * lr, "weight_decay": 0.12},
            # activation.weight and numeric_embedding.*; a pattern of the latter alone would
            # match nothing where there are no numbers
            "*i[cv]*": {"lr": 0.1 * lr, "weight_decay": 0.002},
        },
        "validation_fraction": 0.2,
        "callbacks": {
            "best_epoch": EarlyStopping(
                "valid_loss" if regression else "valid_accuracy", patience=256
            ),
            "lr_schedule": ParamScheduler("lr", "coslog4"),
            "weight_decay_schedule": ParamScheduler("weight_decay", "flat_cos"),
            "dropout_schedule": ParamScheduler("*.p", "flat_cos"),
        },
        **({} if regression else {"criterion__label_smoothing": 0.1}),
    }


def _stopped_early(lr: float) -> dict[str, Any]:
    return {
        "lr": lr,
        "max_epochs": 200,
        "validation_fraction": 0.15,
        "callbacks": {"early_stopping": EarlyStopping(patience=16)},
    }


def _annealed(lr: float, max_epochs: int) -> dict[str, Any]:
    schedule = ParamScheduler("lr", "cosine")
    return {"lr": lr, "max_epochs": max_epochs, "callbacks": {"lr_schedule": schedule}}


RECIPES: dict[str, Callable[..., dict[str, Any]]] = {
    "mlp": _mlp,
    "resnet": _resnet,
    "ft_transformer": _ft_transformer,
    "tabm": _tabm,
    "realmlp": _realmlp,
}
"""Names of recipes, and what makes their parameters."""
