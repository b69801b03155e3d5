"""Weights of classes, as scikit-learn's `class_weight` has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import nn

from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.targets.pieces import pieces_of
from skorchlike.training.matching import MULTI_LABEL, is_of_torch


def class_weights(
    said: Mapping[Any, float] | str | None,
    kind: str,
    classes: np.ndarray,
    y: Any,
    sample_weight: Any,
) -> torch.Tensor | None:
    """Return a weight for each class, or None where there are none.

    Parameters
    ----------
    said : dict, "balanced" or None
        Label → weight, 1 for those left out; ``"balanced"`` gives all classes the same
        weight in sum, and leaves the sum of all weights as it is.
    kind : {"labels", "multi-label", "soft labels"}
        What the target holds.
    classes : ndarray of shape (n_classes,)
        The labels.
    y : ndarray of shape (n,) or (n, n_classes), or None
        Training targets, positions in `classes` or probabilities; None if not known. It may be
        what gives slices of rows as arrays; `sample_weight` too.
    sample_weight : ndarray of shape (n,) or None
        Weights of the training rows.

    Returns
    -------
    torch.Tensor of shape (n_classes,), float64, or None
        The weights.

    Raises
    ------
    ParameterError
        If a label is unknown or a weight impossible.
    """
    if said is None:
        return None
    if kind == MULTI_LABEL:
        raise ParameterError(
            "The `class_weight` parameter is for one label a row, and y has several (multi-label). "
            "Use criterion__pos_weight=[...], a weight for each label where it is 1."
        )
    if isinstance(said, str):
        return torch.from_numpy(_balanced(len(classes), y, sample_weight))
    position = {label: i for i, label in enumerate(classes.tolist())}
    weights = np.ones(len(classes))
    for label, weight in said.items():
        if label not in position:
            raise ParameterError(
                f"The `class_weight` parameter has a weight for {label!r}, which is none of the "
                f"labels in y.{did_you_mean(str(label), [*position][:20])}"
            )
        if not isinstance(weight, Real) or not math.isfinite(weight) or weight < 0:
            raise ParameterError(
                f"The `class_weight` of {label!r} must be a number of at least 0. Got {weight!r}."
            )
        weights[position[label]] = weight
    if not weights.any():
        raise ParameterError("The `class_weight` parameter is 0 for all labels: none would train.")
    return torch.from_numpy(weights)


def check_criterion_weight(
    criterion: nn.Module, kind: str, n_classes: int, n_outputs: int | None = None
) -> None:
    """Refuse weights of torch's criteria that are not one for each class, before training.

    Parameters
    ----------
    criterion : torch.nn.Module
        The loss function, with ``weight`` or ``pos_weight`` or neither.
    kind : {"labels", "multi-label", "soft labels"}
        What the target holds.
    n_classes : int
        How many classes there are.
    n_outputs : int or None
        How many outputs the module has; None where a module of one's own decides that.

    Raises
    ------
    ParameterError
        If there are too many or too few.

    Examples
    --------
    >>> import torch
    >>> from skorchlike.targets.weights import check_criterion_weight
    >>> weighted = torch.nn.CrossEntropyLoss(weight=torch.ones(3))
    >>> check_criterion_weight(weighted, "labels", n_classes=3)
    """
    if not is_of_torch(criterion):
        return
    name, weight = "weight", getattr(criterion, "weight", None)
    wanted: tuple[int, ...] = (n_classes,)
    if isinstance(criterion, nn.BCEWithLogitsLoss):
        name, weight = "pos_weight", criterion.pos_weight
        wanted = (1,) if n_outputs == 1 else (1, n_outputs or n_classes)
    elif not isinstance(criterion, (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)):
        return
    if not isinstance(weight, torch.Tensor) or weight.numel() in wanted:
        return
    each, by_label = "label", ""
    if kind != MULTI_LABEL:
        each, by_label = "class", " (By label: class_weight={label: weight}.)"
    expected = f"one weight for each {each}, {wanted[-1]} in the order of classes_"
    if wanted == (1,):
        expected = (
            "one number, the weight of the second class over that of the first (or use "
            "criterion='cross_entropy' with criterion__weight, one for each)"
        )
    raise ParameterError(
        f"The `{name}` of the criterion {type(criterion).__name__} must be {expected}. Got "
        f"{weight.numel()}.{by_label}"
    )


def _balanced(n_classes: int, y: Any, sample_weight: Any) -> np.ndarray:
    """Return Σw / (classes present * Σw of the class), as scikit-learn does; 1 for absent ones."""
    if y is None:
        raise ParameterError(
            "class_weight='balanced' counts the labels before training, and those of this kind of "
            "data are not known then. Give the weights: class_weight={label: weight}."
        )
    if y.ndim == 1:
        totals = _totals(y, sample_weight, n_classes)
    else:
        weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
        totals = weight @ np.asarray(y, dtype=np.float64)
    present = totals > 0
    weights = np.ones(n_classes)
    weights[present] = totals.sum() / (present.sum() * totals[present])
    return weights


def _totals(y: Any, sample_weight: Any, n_classes: int) -> np.ndarray:
    """Return the sum of weights of each class; each goes on from piece to piece."""
    totals: np.ndarray = np.zeros(n_classes)
    labels = np.arange(n_classes)
    if sample_weight is None:
        for part in pieces_of(y):
            totals += np.bincount(part, minlength=n_classes)
        return totals
    for part, weights in zip(pieces_of(y), pieces_of(sample_weight), strict=True):
        weight = np.concatenate([totals, weights])
        totals = np.bincount(np.concatenate([labels, part]), weight, n_classes)
    return totals
