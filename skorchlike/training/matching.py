"""Targets in the form that a criterion takes, and the errors where they do not fit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from skorchlike.exceptions import ParameterError

NUMBERS, LABELS, MULTI_LABEL, SOFT = "numbers", "labels", "multi-label", "soft labels"
"""What a target may hold: numbers in columns, a label a row, several, or probabilities."""

INDICATOR_CRITERIA = (nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss)
"""Criteria that want one number an output (0 or 1) instead of a label a row."""


LABEL_CRITERIA = (
    nn.CrossEntropyLoss,
    nn.MultiLabelMarginLoss,
    nn.MultiMarginLoss,
    nn.NLLLoss,
)
"""Criteria of labels: numbers would be taken for labels or probabilities."""


ELEMENTWISE_CRITERIA = (
    nn.BCELoss,
    nn.GaussianNLLLoss,
    nn.HingeEmbeddingLoss,
    nn.HuberLoss,
    nn.KLDivLoss,
    nn.L1Loss,
    nn.MSELoss,
    nn.PoissonNLLLoss,
    nn.SmoothL1Loss,
    nn.SoftMarginLoss,
)
"""Criteria of numbers: labels would only broadcast against their outputs."""

FITTING: dict[str, tuple[type[nn.Module], ...]] = {
    NUMBERS: ELEMENTWISE_CRITERIA + INDICATOR_CRITERIA,
    LABELS: LABEL_CRITERIA + INDICATOR_CRITERIA,
    MULTI_LABEL: (*INDICATOR_CRITERIA, nn.BCELoss),
    SOFT: (*INDICATOR_CRITERIA, nn.CrossEntropyLoss, nn.KLDivLoss),
}
"""The criteria of torch that take a kind of target; one's own take what they like."""


def matcher(
    criterion: nn.Module, kind: str, n_classes: int | None
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what brings a batch's target into the criterion's form.

    Parameters
    ----------
    criterion : torch.nn.Module
        The loss function.
    kind : {"numbers", "labels", "multi-label", "soft labels"}
        What the target holds.
    n_classes : int or None
        Number of classes, or of labels a row may have; None for numbers.

    Returns
    -------
    callable
        ``(y_pred, y) -> target``; it raises a `ParameterError` where the two would only
        broadcast.

    Raises
    ------
    ParameterError
        If the criterion is for another kind of target.
    """
    check_criterion(criterion, kind)
    if kind == NUMBERS:
        return MatchNumbers(criterion)
    assert n_classes is not None
    if kind == MULTI_LABEL:
        return MatchLabelSets(criterion, n_classes)
    if isinstance(criterion, INDICATOR_CRITERIA):
        return MatchIndicators(criterion, n_classes)
    return MatchLabels(criterion, n_classes)


def check_criterion(criterion: nn.Module, kind: str) -> None:
    """Refuse a criterion that is for another kind of target."""
    name = type(criterion).__name__
    for_numbers = isinstance(criterion, ELEMENTWISE_CRITERIA)
    if hasattr(criterion, "n_outputs_per_target"):  # says of itself that it is for numbers
        if kind == NUMBERS:
            return
        for_numbers = True
    elif isinstance(criterion, FITTING[kind]):
        return
    elif not (for_numbers or isinstance(criterion, LABEL_CRITERIA)):
        return  # one's own
    raise ParameterError(f"The `criterion` {name} {_misfit(kind, for_numbers)}")


def _misfit(kind: str, for_numbers: bool) -> str:
    if kind == NUMBERS:
        return (
            "is for labels, and the target of a regressor has numbers. Use 'mse', 'huber' or "
            "'l1', or NeuralNetClassifier."
        )
    if kind == MULTI_LABEL:
        return (
            "does not fit a multi-label target, which has a 0 or 1 for each label. Use "
            "'bce_with_logits'. (A target of shape (n, k) with floats whose rows sum to 1 would be "
            "read as probabilities of classes.)"
        )
    if kind == SOFT:
        return (
            "does not take probabilities of classes (soft labels) as the target. Use "
            "'cross_entropy', or 'bce_with_logits' for one number a class."
        )
    assert for_numbers
    return (
        "compares numbers, and the target has labels: they would only broadcast. Use "
        "'cross_entropy', or 'bce_with_logits' for one number a class."
    )


class MatchNumbers:
    """Numbers in columns; the criterion may want several outputs for each.

    Parameters
    ----------
    criterion : torch.nn.Module
        The loss function.
    """

    def __init__(self, criterion: nn.Module) -> None:
        self.criterion = criterion
        self.per_target: int = getattr(criterion, "n_outputs_per_target", 1)

    def __call__(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """Return the target; it takes the shape of the output if that lacks the one column."""
        if type(self.criterion) is nn.GaussianNLLLoss:
            raise ParameterError(
                "The `criterion` GaussianNLLLoss of torch takes means and variances apart, and "
                "the module gives one tensor. Use criterion='gaussian_nll', which takes both from "
                "it, or replace the action by a do_get_loss(self, ctx)."
            )
        if self.per_target > 1:
            return self._match_several(y_pred, y)
        if y_pred.shape == y.shape:
            return y
        # one column of targets may meet an output without the column, and the
        # output of a single row may have lost all its dimensions to a squeeze()
        if y.shape[1:] == (1,) and y_pred.ndim <= 1 and y_pred.numel() == y.numel():
            return y.view_as(y_pred)
        raise ParameterError(
            f"The `module` returned a tensor of shape {tuple(y_pred.shape)}, and the target "
            f"has shape {tuple(y.shape)}: they would only broadcast. Let the module return "
            f"shape {tuple(y.shape)}, or replace the action by a do_get_loss(self, ctx)."
        )

    def _match_several(self, y_pred: Tensor, y: Tensor) -> Tensor:
        n, n_targets = y.shape
        columns = self.per_target * n_targets
        if y_pred.shape in ((n, columns), (*y.shape, self.per_target)):
            return y
        raise ParameterError(
            f"The `module` returned a tensor of shape {tuple(y_pred.shape)}, and the target has "
            f"shape {tuple(y.shape)}. The criterion takes {self.per_target} outputs for each "
            f"column of the target: let the module return shape {(n, columns)}."
        )


class MatchLabels:
    """A label a row, or its probabilities, against one output a class.

    Parameters
    ----------
    criterion : torch.nn.Module
        The loss function.
    n_classes : int
        Number of classes.
    """

    def __init__(self, criterion: nn.Module, n_classes: int) -> None:
        self.criterion, self.n_classes = criterion, n_classes
        self.checked = False

    def __call__(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """Return the target as it is, once the outputs of a first batch were looked at."""
        if not self.checked:
            self._check_n_outputs(y_pred)
            if isinstance(self.criterion, (nn.NLLLoss, nn.KLDivLoss)):
                self._check_log_probabilities(y_pred)
            self.checked = True
        return y

    def _check_n_outputs(self, y_pred: Tensor) -> None:
        if y_pred.ndim < 2 or y_pred.shape[1] != self.n_classes:
            hint = ""
            if self.n_classes == 2 and y_pred.shape[1:] in ((), (1,)):
                hint = " For one output use criterion='bce_with_logits'."
            raise ParameterError(
                f"The `module` returned a tensor of shape {tuple(y_pred.shape)}, and the "
                f"target has {self.n_classes} classes. With {type(self.criterion).__name__} "
                f"it must return logits of shape (n, {self.n_classes}).{hint}"
            )

    def _check_log_probabilities(self, y_pred: Tensor) -> None:
        """Refuse logits: their loss would fall without end, and in silence."""
        if not (y_pred.detach().logsumexp(1).abs() < 0.1).all():
            raise ParameterError(
                f"With the criterion {type(self.criterion).__name__} the `module` must return "
                "log-probabilities, whose exponentials sum to 1 in each row; it returned "
                "something else. End it in torch.nn.LogSoftmax(dim=1), or use "
                "criterion='cross_entropy', which takes logits."
            )


class MatchIndicators(MatchLabels):
    """A label a row, or its probabilities, as one number an output."""

    def __call__(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """Return a number for each output."""
        n = len(y)
        numbers = y.is_floating_point()
        if numbers and y.shape == y_pred.shape:
            return y  # soft labels, or a callback gave one number an output already
        single = y_pred.shape in ((n,), (n, 1)) or (n == 1 and y_pred.ndim == 0)
        if single and self.n_classes <= 2:
            self._check_element_weight()
            if numbers and y.shape == (n, 2):
                y = y[:, 1]
            return y.reshape(y_pred.shape).to(y_pred.dtype)
        if y_pred.shape != (n, self.n_classes):
            one = " or (n, 1)" if self.n_classes == 2 else ""
            raise ParameterError(
                f"The `module` returned a tensor of shape {tuple(y_pred.shape)}. With "
                f"{type(self.criterion).__name__} and {self.n_classes} classes it must "
                f"return logits of shape (n, {self.n_classes}){one}."
            )
        return nn.functional.one_hot(y, y_pred.size(1)).to(y_pred.dtype)

    def _check_element_weight(self) -> None:
        weight = getattr(self.criterion, "weight", None)
        if weight is not None and weight.numel() == 2:
            raise ParameterError(
                f"The `weight` of {type(self.criterion).__name__} is one for each output, and the "
                "module has one output. For weights of classes use "
                "criterion__pos_weight=torch.tensor(w), the weight of the second class over that "
                "of the first, or criterion='cross_entropy' with criterion__weight."
            )


class MatchLabelSets(MatchLabels):
    """A 0 or 1 for each label, against one output for each."""

    def __call__(self, y_pred: Tensor, y: Tensor) -> Tensor:
        """Return the target as it is, of the output's shape."""
        if y_pred.shape != y.shape:
            raise ParameterError(
                f"The `module` returned a tensor of shape {tuple(y_pred.shape)}, and the "
                f"multi-label target has shape {tuple(y.shape)}. Let the module return one logit "
                f"a label, shape (n, {self.n_classes})."
            )
        if not self.checked and isinstance(self.criterion, nn.BCELoss):
            self._check_probabilities(y_pred)
        self.checked = True
        return y

    def _check_probabilities(self, y_pred: Tensor) -> None:
        outputs = y_pred.detach()
        if not ((outputs >= 0) & (outputs <= 1)).all():
            raise ParameterError(
                f"With the criterion {type(self.criterion).__name__} the `module` must return "
                "probabilities, and it returned something else. End it in torch.nn.Sigmoid(), or "
                "use criterion='bce_with_logits', which takes logits."
            )


def is_of_torch(criterion: nn.Module) -> bool:
    """Whether a criterion computes its loss by torch's or our own code, not by the user's."""
    return type(criterion).forward.__module__.startswith(("torch.", "skorchlike."))


def repeat_rows(values: Tensor, n: int) -> Tensor:
    """Return each row n times in a row, as the outputs of n members lie once flattened."""
    return torch.repeat_interleave(values, n, dim=0)
