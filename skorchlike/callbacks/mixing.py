"""Train on mixtures of two rows of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError
from skorchlike.nested import arrays_of, is_nested, map_arrays, n_rows_of

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context


class _Mixing(Callback):
    """What Mixup and CutMix share: the share, the partners, the mixed loss."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "alpha": [Interval(Real, 0, None, closed="neither")]
    }
    alpha: float

    def advise(self, setup: Setup) -> list[str]:
        """Say which callbacks would make the mixed loss wrong."""
        return self._conflicts(setup.callbacks)

    def on_begin(self, ctx: Context) -> None:
        """Refuse callbacks that would make the mixed loss wrong."""
        if conflicts := self._conflicts(ctx.callbacks):
            raise ParameterError(conflicts[0])

    def on_batch_begin(self, ctx: Context) -> None:
        """Mix every row of X with its partner."""
        share = _beta(float(self.alpha))
        self.partner = torch.randperm(n_rows_of(ctx.X), device=ctx.device)
        self.share = self._mix(ctx, share)

    def on_after_loss(self, ctx: Context) -> None:
        """Mix the loss with that of the partners' targets, in the same shares."""
        loss, y, weight, y_pred = ctx.loss, ctx.y, ctx.sample_weight, ctx.y_pred
        try:
            ctx.y = y if y is None else y[self.partner]
            ctx.sample_weight = weight if weight is None else weight[self.partner]
            ctx.estimator.do_get_loss(ctx)
            ctx.loss = self.share * loss + (1 - self.share) * ctx.loss
        finally:
            ctx.y, ctx.sample_weight, ctx.y_pred = y, weight, y_pred

    def _conflicts(self, callbacks: Mapping[str, Callback]) -> list[str]:
        name, conflicts = type(self).__name__, []
        for other, callback in callbacks.items():
            if hasattr(callback, "do_get_loss"):
                conflicts.append(
                    f"{name} computes the loss of a batch twice, by the estimator's do_get_loss, "
                    f"and the callback {other!r} replaces that action. Drop one of them, or "
                    "move do_get_loss to a subclass of the estimator."
                )
            if isinstance(callback, _Mixing) and callback is not self:
                conflicts.append(
                    f"{name} meets the callback {other!r} ({type(callback).__name__}): a row is "
                    "mixed with one other. Drop one of them."
                )
        return conflicts

    def _mix(self, ctx: Context, share: float) -> float:
        """Mix X and return the share that the rows kept of themselves."""
        raise NotImplementedError


class Mixup(_Mixing):
    """Train on weighted means of two rows.

    Each row of a training batch becomes ``lam * row + (1 - lam) * partner``, and the loss
    ``lam * loss(own targets) + (1 - lam) * loss(partners' targets)``. The partners are a
    random permutation of the batch. Validation and predict are untouched.

    Parameters
    ----------
    alpha : float, default=0.2
        ``lam`` is drawn from Beta(alpha, alpha) for each batch. The smaller, the nearer to
        0 or 1, that is, to plain rows; 1 makes every share equally likely.

    Raises
    ------
    ParameterError
        If X has no real numbers, another callback mixes too, or one replaces the action
        ``get_loss``.

    Notes
    -----
    Any criterion, sample weights and class weights work. ``ctx.y`` stays the rows' own
    targets; the recorded training loss is the mixed one.

    H. Zhang, M. Cisse, Y. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical Risk
    Minimization", 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import Mixup, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(callbacks=[Mixup(alpha=0.4)], random_state=0).fit(X, y)
    """

    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = alpha

    def _mix(self, ctx: Context, share: float) -> float:
        for name, part in arrays_of(ctx.X):
            if not (part.is_floating_point() or part.is_complex()):
                raise ParameterError(
                    f"Mixup takes means of rows, which needs real numbers. {name} is {part.dtype}: "
                    "numbers that stand for something else, such as embedded words or categories, "
                    "have no mean."
                )
        ctx.X = map_arrays(lambda part: torch.lerp(part[self.partner], part, share), ctx.X)
        return share


class CutMix(_Mixing):
    """Train on images (or series) with a patch of another.

    In each training batch one box is drawn, and in every row it is filled with what the
    partner has there. The loss is ``lam * loss(own targets) + (1 - lam) * loss(partners'
    targets)``, where ``lam`` is the share of the area outside the box. The partners are a
    random permutation of the batch. Validation and predict are untouched.

    Parameters
    ----------
    alpha : float, default=1.0
        The share of the area that rows keep is drawn from Beta(alpha, alpha) for each
        batch, before the box is cut off at the borders.

    Raises
    ------
    ParameterError
        If X is not of shape (n, channels, length) or (n, channels, height, width), another
        callback mixes too, or one replaces the action ``get_loss``.

    Notes
    -----
    Any criterion, sample weights and class weights work. ``ctx.y`` stays the rows' own
    targets; the recorded training loss is the mixed one.

    S. Yun, D. Han, S. Oh, S. Chun, J. Choe and Y. Yoo, "CutMix: Regularization Strategy to
    Train Strong Classifiers with Localizable Features", 2019.

    Examples
    --------
    >>> from skorchlike import CutMix, NeuralNetClassifier
    >>> net = NeuralNetClassifier(callbacks=[CutMix(alpha=0.5)])
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def _mix(self, ctx: Context, share: float) -> float:
        if is_nested(ctx.X):
            raise ParameterError("CutMix needs one tensor X. Got several inputs.")
        sizes = ctx.X.shape[2:]
        if ctx.X.ndim not in (3, 4):
            raise ParameterError(
                "CutMix needs an X of shape (n, channels, length) or (n, channels, height, "
                f"width). Got shape {tuple(ctx.X.shape)}. For rows of features use Mixup."
            )
        side = (1 - share) ** (1 / len(sizes))
        box = [_interval(size, round(side * size)) for size in sizes]
        patch = ctx.X[(..., *box)]
        patch.copy_(patch[self.partner])
        area = 1.0
        for part, size in zip(box, sizes, strict=True):
            area *= (part.stop - part.start) / size
        return 1 - area


def _interval(size: int, length: int) -> slice:
    """Return an interval around a random centre, cut off at the borders."""
    # drawn where numbers are at hand: on the device the host would have to wait for it
    start = int(torch.randint(size, (), device="cpu")) - length // 2
    return slice(max(start, 0), min(start + length, size))


def _beta(alpha: float) -> float:
    """Draw from Beta(alpha, alpha) by the processor's generator, so without a wait."""
    # G(a) = G(a + 1) * U^(1/a), in logarithms: torch's own Beta gives 1/2 where both its
    # gammas underflow, one time in four at alpha = 0.001
    shape = torch.full((2,), alpha + 1, dtype=torch.float64, device="cpu")
    gammas = torch.distributions.Gamma(shape, torch.ones_like(shape)).sample().log()
    uniforms = (1 - torch.rand_like(shape)).log()
    difference = gammas[0] - gammas[1] + (uniforms[0] - uniforms[1]) / alpha
    return float(torch.sigmoid(difference))
