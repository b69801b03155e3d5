"""Numbers as a module likes them: holes filled and flagged, values transformed.

What is learned comes from the training rows alone, and is applied to the rows of a batch
when they are gathered; so the data are never copied as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skorchlike.exceptions import ParameterError

TRANSFORMS = ("standard", "robust", "quantile")
"""Names of the transforms of numbers."""

SAMPLE_ROWS = 200_000
"""From so many rows at most a transform other than ``"standard"`` is learned."""

Chunks = Callable[[], Iterable[tuple[np.ndarray, np.ndarray | None]]]
"""Returns the training rows anew at each call: numbers (n, p) and weights (n,) or None."""


class Preparation(nn.Module):
    """Fill, flag and transform columns of numbers, as a module of buffers.

    A missing number (NaN) is filled by the mean of its column, and a column that had holes
    in training gets a second column that is 1 where a number is missing and 0 elsewhere;
    these stand at the end. Then the numbers are transformed.

    Parameters
    ----------
    fill : Tensor of shape (p,)
        What stands for a missing number.
    flagged : Tensor of int64 of shape (k,)
        The columns that had holes in training.
    center, scale : Tensor of shape (p,) or None
        ``(x - center) / scale`` is the transform; None is no transform.
    clip : bool
        Whether to squeeze the result smoothly into (-3, 3).
    transformer : object or None
        A fitted scikit-learn transformer, used instead of `center` and `scale`; on the CPU.

    Notes
    -----
    ``"robust"`` with its smooth clipping is the preprocessing of RealMLP (Holzmüller et al.,
    "Better by default: Strong pre-tuned MLPs and boosted trees on tabular data", 2024).

    Examples
    --------
    >>> import torch
    >>> from skorchlike import NeuralNetClassifier
    >>> X = [[1.0, 10.0], [3.0, float("nan")], [5.0, 30.0]]
    >>> net = NeuralNetClassifier(max_epochs=1, random_state=0).fit(X, [0, 1, 0])
    >>> net.model_.preparation_(torch.tensor(X))[1]
    tensor([0., 0., 1.])
    """

    fill: Tensor
    flagged: Tensor
    center: Tensor | None
    scale: Tensor | None

    def __init__(
        self,
        fill: Tensor,
        flagged: Tensor,
        center: Tensor | None = None,
        scale: Tensor | None = None,
        clip: bool = False,
        transformer: Any = None,
    ) -> None:
        super().__init__()
        self.register_buffer("fill", fill)
        self.register_buffer("flagged", flagged)
        self.register_buffer("center", center)
        self.register_buffer("scale", scale)
        self.clip, self.transformer = clip, transformer
        self.n_outputs = len(fill) + len(flagged)

    def forward(self, X: Any) -> Any:
        """Return prepared inputs.

        Parameters
        ----------
        X : Tensor of shape (n, p), or dict
            Numbers, or a dict with the numbers as ``"numeric"``; the other entries stay.

        Returns
        -------
        Tensor of shape (n, p + k), or dict
            New tensors in the dtype of X.
        """
        if isinstance(X, dict):
            return {**X, "numeric": self.forward(X["numeric"])} if "numeric" in X else X
        return self._finish(torch.where(X.isnan(), self.fill.to(X), X), self._flags(X))

    def change(self, X: Any) -> Any:
        """Do the same to tensors that nobody else holds, in place: a copy of them the less."""
        if isinstance(X, dict):
            return {**X, "numeric": self.change(X["numeric"])} if "numeric" in X else X
        flags, missing = self._flags(X), X.isnan()
        if missing.any():
            torch.where(missing, self.fill.to(X), X, out=X)
        del missing
        return self._finish(X, flags)

    def _flags(self, x: Tensor) -> Tensor | None:
        if not self.flagged.numel():
            return None
        return x.index_select(1, self.flagged.to(x.device)).isnan().to(x.dtype)

    def _finish(self, x: Tensor, flags: Tensor | None) -> Tensor:
        """Transform numbers without holes in place, and append the flags."""
        if self.transformer is not None:
            x = self._transformed(x)
        elif self.center is not None and self.scale is not None:
            x.sub_(self.center.to(x)).div_(self.scale.to(x))
            if self.clip:
                x.div_((x / 3).square_().add_(1).sqrt_())
        return x if flags is None else torch.cat([x, flags], dim=1)

    def _transformed(self, x: Tensor) -> Tensor:
        result = self.transformer.transform(x.cpu().numpy())
        if hasattr(result, "toarray"):
            result = result.toarray()
        return torch.from_numpy(np.array(result, dtype=np.float64)).to(x)


def learn_preparation(chunks: Chunks, transform: Any, seed: int) -> Preparation:
    """Learn from the training rows what their numbers need.

    Parameters
    ----------
    chunks : callable
        Returns the rows anew at each call, some at a time.
    transform : None, str or scikit-learn transformer
        ``"standard"``, ``"robust"``, ``"quantile"``, or a transformer, which is cloned.
    seed : int
        For a transform that draws rows.

    Returns
    -------
    Preparation
        With buffers of float64.
    """
    mean, scale, holes = _moments(chunks)
    fill = torch.from_numpy(mean)
    flagged = torch.from_numpy(np.flatnonzero(holes))
    if transform is None:
        return Preparation(fill, flagged)
    if isinstance(transform, str) and transform == "standard":
        return Preparation(fill, flagged, fill, torch.from_numpy(scale))
    sample = _sample(chunks, mean, seed)
    if isinstance(transform, str) and transform == "robust":
        center, scale = _robust(sample)
        tensors = torch.from_numpy(center), torch.from_numpy(scale)
        return Preparation(fill, flagged, *tensors, clip=True)
    preparation = Preparation(fill, flagged, transformer=_transformer(transform, sample, seed))
    width = preparation.change(torch.from_numpy(sample[:1].copy())).shape[1]
    preparation.n_outputs = width
    return preparation


def _moments(chunks: Chunks) -> tuple[Any, Any, Any]:
    """Return mean and standard deviation of each column, and whether only some are missing.

    A column without any spread has an infinite scale: nothing can be learned of it, so a
    value that it has for the first time in a prediction must not act by weights that never
    were trained.
    """
    from sklearn.preprocessing import StandardScaler

    scaler, missing, present = StandardScaler(), np.array(False), np.array(False)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for x, weight in chunks():
            absent = np.isnan(x)
            missing, present = missing | absent.any(axis=0), present | ~absent.all(axis=0)
            scaler.partial_fit(x, sample_weight=weight)
    if np.isinf(scaler.var_).any() or np.isinf(scaler.mean_).any():
        column = int(np.flatnonzero(np.isinf(scaler.var_) | np.isinf(scaler.mean_))[0])
        raise ParameterError(
            f"X has values that are too large in column {column}: their squares are infinite, so "
            "they have no standard deviation. Scale them."
        )
    mean = np.nan_to_num(np.asarray(scaler.mean_, dtype=np.float64))
    scale = np.sqrt(np.asarray(scaler.var_, dtype=np.float64))
    # the scaler divides by 1 where it takes what rounding left for no spread
    flat = np.isnan(scale) | (scale == 0) | ((scaler.scale_ == 1) & (scale != 1))
    return mean, np.where(flat, np.inf, scale), missing & present


def _sample(chunks: Chunks, fill: np.ndarray, seed: int) -> np.ndarray:
    """Return at most `SAMPLE_ROWS` training rows in float64, holes filled."""
    rng = np.random.default_rng(seed)
    n_rows = sum(len(x) for x, _ in chunks())
    share = SAMPLE_ROWS / n_rows
    parts = []
    for x, _ in chunks():
        part = x if share >= 1 else x[rng.random(len(x)) < share]
        parts.append(np.asarray(part, dtype=np.float64))
    sample = np.concatenate(parts)
    return np.where(np.isnan(sample), fill, sample)


def _robust(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the median, and the distance of the quartiles; that of the extremes if it is 0."""
    low, center, high = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
    spread = high - low
    whole = (x.max(axis=0) - x.min(axis=0)) / 2
    scale = np.where(spread > 0, spread, whole)
    return center, np.where(scale > 0, scale, np.inf)


def _transformer(transform: Any, sample: np.ndarray, seed: int) -> Any:
    from sklearn.base import clone
    from sklearn.preprocessing import QuantileTransformer

    if isinstance(transform, str):
        n_quantiles = max(min(len(sample) // 30, 1000), 10)
        fitted = QuantileTransformer(
            n_quantiles=min(n_quantiles, len(sample)),
            output_distribution="normal",
            subsample=None,
            random_state=seed,
        )
    elif isinstance(transform, type):
        raise ParameterError(
            f"The `numeric_transform` parameter must be an instance of a transformer. Got the "
            f"class {transform.__name__}: write {transform.__name__}()."
        )
    else:
        fitted = clone(transform)
    shown = sample[:2]
    try:
        result = fitted.fit(sample).transform(shown)
    except Exception as error:
        error.add_note(f"Raised while fitting numeric_transform={transform!r} to the numbers.")
        raise
    result = np.asarray(result.toarray() if hasattr(result, "toarray") else result)
    good = result.ndim == 2 and len(result) == len(shown) and result.dtype.kind in "fiub"
    if not good or not np.isfinite(result).all():
        raise ParameterError(
            f"The `numeric_transform` parameter ({transform!r}) must return finite numbers of "
            f"shape (n, n_outputs). For {len(shown)} rows it returned shape {result.shape} of "
            f"{result.dtype}."
        )
    return fitted
