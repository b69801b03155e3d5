"""Fitted neural nets, found inside what is around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skorchlike.exceptions import ParameterError

# where meta-estimators of scikit-learn keep the one estimator that they fitted
KEPT_AS = ("best_estimator_", "estimator_", "regressor_", "classifier_")


def find_nets(estimators: Any) -> dict[str, Any]:
    """Return label → fitted neural net.

    Parameters
    ----------
    estimators : dict of str to estimator, or iterable of estimator
        What holds them; or what scikit-learn's ``cross_validate`` returned.

    Raises
    ------
    ParameterError
        If it holds none.
    """
    if isinstance(estimators, Mapping) and {"fit_time", "score_time"} <= estimators.keys():
        if "estimator" not in estimators:
            raise ParameterError(
                "The results of cross_validate hold no estimators, and so no histories. Call it "
                "with return_estimator=True."
            )
        estimators = estimators["estimator"]
    if not isinstance(estimators, Mapping):
        if not isinstance(estimators, Iterable) or isinstance(estimators, str):
            raise ParameterError(
                "HistoryDisplay.from_estimators takes a dict or a list of fitted "
                f"estimators. Got a {type(estimators).__name__}"
                f"{': use from_estimator' if hasattr(estimators, 'fit') else ''}."
            )
        estimators = {f"fit {i}": each for i, each in enumerate(estimators, start=1)}
    return {str(label): find_net(each) for label, each in estimators.items()}


def find_net(estimator: Any) -> Any:
    """Return the fitted neural net in an estimator, through whatever is around it."""
    if hasattr(type(estimator), "history_") or "history_" in getattr(estimator, "__dict__", ()):
        check_is_fitted(estimator)
        return estimator
    if getattr(estimator, "steps", None):  # a Pipeline, scikit-learn's or another library's
        return find_net(estimator.steps[-1][1])
    for name in KEPT_AS:
        # an ensemble keeps there what it made copies of
        if hasattr(estimator, name) and not hasattr(estimator, "estimators_"):
            return find_net(getattr(estimator, name))
    if isinstance(estimator, type):
        raise ParameterError(
            f"HistoryDisplay takes fitted estimators. Got the class {estimator.__name__}."
        )
    if hasattr(estimator, "fit") and not any(n.endswith("_") for n in vars(estimator)):
        raise NotFittedError(
            f"This {type(estimator).__name__} is not fitted yet, so it has no history. Call fit."
        )
    advice = "Pass a neural net, or a Pipeline or a search (with refit=True) around one."
    if hasattr(estimator, "estimators_"):
        advice = "Pass its estimators_ to HistoryDisplay.from_estimators."
    raise ParameterError(
        f"HistoryDisplay finds no history in this {type(estimator).__name__}. {advice}"
    )


def best_epoch(net: Any) -> int | None:
    """Return the best epoch, if a callback kept one."""
    states = getattr(getattr(net, "model_", None), "callbacks_", None) or {}
    for state in states.values():
        epoch = state.get("best_epoch") if isinstance(state, Mapping) else None
        if isinstance(epoch, Integral):
            return int(epoch)
    return None
