"""Metrics as a user gives them, and the stand-in for an estimator that scorers see."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from skorchlike.callbacks.tools.monitoring import LOWER_IS_BETTER
from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.params.calling import name_of, short
from skorchlike.params.routing import snake_case

OF_SCORES = ("y_score", "y_proba", "y_prob", "pred_decision")
"""What scikit-learn calls the second argument of functions that take no labels."""


def named_metrics(metrics: Any) -> dict[str, Any]:
    """Return name → scorer, or object with a state, of what a user gave."""
    if isinstance(metrics, dict):
        pairs = list(metrics.items())
    else:
        several = isinstance(metrics, (list, tuple))
        pairs = [(_name(metric), metric) for metric in (metrics if several else [metrics])]
    if not pairs:
        raise ParameterError("The `metrics` parameter of Metrics is empty. Name at least one.")
    named: dict[str, Any] = {}
    for name, metric in pairs:
        if not isinstance(name, str) or name in ("", "loss"):
            raise ParameterError(
                "The name of a metric of Metrics must be a non-empty string other than 'loss', "
                f"which is the loop's own. Got {name!r}."
            )
        if name in named:
            raise ParameterError(
                f"The `metrics` parameter of Metrics has the name {name!r} twice. Give each its "
                "own: metrics={'name': metric}."
            )
        named[name] = _checked(name, metric)
        _check_sign(name, named[name])
    return named


def _check_sign(name: str, scorer: Any) -> None:
    """Refuse a name by which early stopping would take a negated error for an error."""
    negates = getattr(scorer, "_sign", 1) < 0
    if negates and not name.startswith("neg_") and set(name.split("_")) & set(LOWER_IS_BETTER):
        raise ParameterError(
            f"The metric {name!r} of Metrics is a scorer that negates: higher is better, and its "
            f"name says the opposite. Call it 'neg_{name}', or give the function of "
            "sklearn.metrics instead."
        )


def _name(metric: Any) -> str:
    """Return the name of a metric that was given none."""
    if isinstance(metric, str):
        return metric
    if has_state(metric):
        return snake_case(name_of(metric))
    name = getattr(metric, "__name__", "")
    if callable(metric) and not name.isidentifier():  # scorers too: they may negate
        raise ParameterError(
            f"The `metrics` parameter of Metrics has an entry without a name, {short(metric)}. "
            "Give it one: metrics={'name': metric}."
        )
    return name or repr(metric)


def _checked(name: str, metric: Any) -> Any:
    """Return an object with a state as it is, and a scorer of all else."""
    from sklearn.metrics import get_scorer, get_scorer_names, make_scorer

    where = f"The metric {name!r} of Metrics"
    if isinstance(metric, str):
        if metric not in get_scorer_names():
            hint = did_you_mean(metric, get_scorer_names())
            raise ParameterError(f"{where}: scikit-learn has no scorer {metric!r}.{hint}")
        return get_scorer(metric)
    if isinstance(metric, type):
        raise ParameterError(f"{where} is the class {metric.__name__}. Pass an object of it.")
    if hasattr(metric, "items"):
        raise ParameterError(
            f"{where} is a collection. Pass its metrics: metrics=dict(collection.items())."
        )
    if has_state(metric) or isinstance(metric, type(get_scorer("accuracy"))):
        return metric
    try:
        signature = inspect.signature(metric)
        signature.bind(None, None)
    except (TypeError, ValueError):
        raise ParameterError(
            f"{where} must be callable as f(y_true, y_pred), a scorer, or an object with update, "
            f"compute and reset. Got {short(metric)}."
        ) from None
    second = [*signature.parameters][1:2]
    if second and second[0] in OF_SCORES:
        raise ParameterError(
            f"{where} takes scores or probabilities ({second[0]!r}), and a function is given what "
            "predict returns. Say what it needs: metrics={'name': make_scorer(f, "
            "response_method='predict_proba')}, or name one of scikit-learn's scorers."
        )
    return make_scorer(metric)


def weighs(scorer: Any) -> bool:
    """Whether a scorer can be given weights, and set_score_request did not forbid it."""
    return scorer.get_metadata_routing().score.requests.get("sample_weight", False) is not False


def has_state(metric: Any) -> bool:
    """Whether a metric is updated batch by batch, as torchmetrics' are."""
    return all(hasattr(metric, method) for method in ("update", "compute", "reset"))


class Stub(BaseEstimator):
    """What scorers see: an estimator whose inputs are outputs of the module."""

    def __init__(self, ctx: Any) -> None:
        self.ctx = ctx
        self.decoded: dict[str, Any] = {}

    def predict(self, X: torch.Tensor) -> Any:
        """Return labels, or numbers."""
        return self._decode(X, "predict")

    def _decode(self, X: torch.Tensor, method: str) -> Any:
        if method not in self.decoded:  # X is always the same
            self.decoded[method] = self.ctx.decode(X, method)
        return self.decoded[method]


class RegressorStub(RegressorMixin, Stub):
    """What scorers of a regression see."""


class ClassifierStub(ClassifierMixin, Stub):
    """What scorers of a classification see."""

    def __init__(self, ctx: Any) -> None:
        super().__init__(ctx)
        self.classes_ = ctx.estimator.classes_

    def predict_proba(self, X: torch.Tensor) -> Any:
        """Return probabilities."""
        return self._decode(X, "predict_proba")

    def decision_function(self, X: torch.Tensor) -> Any:
        """Return logits."""
        return self._decode(X, "decision_function")
