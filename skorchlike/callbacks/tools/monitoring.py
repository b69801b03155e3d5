"""A column of the history that a callback watches."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from skorchlike.exceptions import ParameterError, did_you_mean

LOWER_IS_BETTER = ("loss", "error", "mse", "mae", "rmse", "deviance", "perplexity", "duration")
HIGHER_IS_BETTER = (
    *("accuracy", "score", "r2", "auc", "auroc", "auprc", "f1", "precision", "recall", "ap"),
    *("kappa", "jaccard"),
)


def check_monitor(owner: str, monitor: str, columns: Iterable[str]) -> None:
    """Refuse a column that this fit will not have.

    Parameters
    ----------
    owner : str
        Who monitors, as the error names it: the callback's class.
    monitor : str
        The column.
    columns : iterable of str
        The columns that the fit will have, or globs: ``ctx.columns``.

    Raises
    ------
    ParameterError
        If the column is none of them.
    """
    columns = list(columns)
    if any(fnmatchcase(monitor, column) for column in columns):
        return
    if monitor.startswith("valid_") and "valid_loss" not in columns:
        raise ParameterError(
            f"{owner} monitors {monitor!r}, and this fit has no validation data. Set "
            "validation_fraction=0.1, pass X_val and y_val to fit, or monitor 'train_loss'."
        )
    raise ParameterError(
        f"{owner} monitors {monitor!r}, which nothing in this fit records."
        f"{did_you_mean(monitor, columns)} A callback that records a column names it in its "
        "attribute `logs`."
    )


def direction(owner: str, monitor: str, mode: str = "auto") -> str:
    """Return ``"min"`` or ``"max"``: whether lower or higher values are better.

    Parameters
    ----------
    owner : str
        Who asks, as the error names it.
    monitor : str
        The column, whose name tells in mode ``"auto"``.
    mode : {"auto", "min", "max"}, default="auto"
        What the user said.

    Raises
    ------
    ParameterError
        If the name does not tell.
    """
    if mode != "auto":
        return mode
    if monitor.startswith(("train_neg_", "valid_neg_")):
        return "max"  # scikit-learn's scorers: of every one higher is better
    words = monitor.lower().split("_")
    lower = any(word in LOWER_IS_BETTER for word in words)
    higher = any(word in HIGHER_IS_BETTER for word in words)
    if lower == higher:
        raise ParameterError(
            f"{owner} cannot tell whether lower or higher is better for {monitor!r}. Set "
            "mode='min' or mode='max'."
        )
    return "min" if lower else "max"
