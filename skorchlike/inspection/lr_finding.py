"""A sweep over learning rates with a copy of an estimator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import clone

from skorchlike.callbacks.checkpoint import Checkpoint
from skorchlike.callbacks.lr_finder import LRFinder
from skorchlike.callbacks.tools.lr_records import LRFinderResult
from skorchlike.estimator import BaseNeuralNet
from skorchlike.exceptions import ParameterError
from skorchlike.params.calling import short


def lr_find(
    est: Any,
    X: Any,
    y: Any = None,
    *,
    start_lr: float = 1e-6,
    end_lr: float = 10.0,
    n_steps: int = 100,
    mode: str = "exp",
    stop_factor: float | None = 4.0,
    smoothing: float = 0.9,
    sample_weight: Any = None,
    keep_callbacks: bool = False,
) -> LRFinderResult:
    """Sweep over learning rates with a copy of an estimator, and suggest one.

    Parameters
    ----------
    est : NeuralNetClassifier, NeuralNetRegressor, or Pipeline that ends in one
        Fitted or not; nothing of it is changed. The earlier steps of a pipeline are
        cloned and fitted.
    X : array-like of shape (n_samples, ...)
        Inputs.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        Targets; left out where X is a dataset or loader.
    start_lr, end_lr, n_steps, mode, stop_factor, smoothing
        As in `LRFinder`.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows, for the estimator alone.
    keep_callbacks : bool, default=False
        Whether the estimator's callbacks run too (as for a precision or batches of one's
        own; one that writes a file writes it for the sweep too). The finder's lr wins over
        a schedule's; a callback that ends the fit ends the sweep. Without them a sweep is
        that of module, criterion, optimizer and batches.

    Returns
    -------
    LRFinderResult
        With the attributes ``suggestion`` and ``records``, and ``plot()``.

    Raises
    ------
    ParameterError
        If `est` is no such estimator, or an argument is impossible.

    Notes
    -----
    As many epochs are trained as the steps need, without validation (the rows of
    ``validation_fraction`` are held out all the same). The global random generators stay
    as they were. The source of the method is named in `LRFinder`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skorchlike import NeuralNetClassifier, lr_find
    >>> X, y = load_iris(return_X_y=True)
    >>> pipe = make_pipeline(StandardScaler(), NeuralNetClassifier(random_state=0))
    >>> result = lr_find(pipe, X, y, n_steps=50)
    >>> 1e-4 < result.suggestion < 1
    True
    """
    from sklearn.pipeline import Pipeline  # not cheap to import

    finder = LRFinder(start_lr, end_lr, n_steps, mode, stop_factor, smoothing)
    finder._validate_params()
    while isinstance(est, Pipeline):
        earlier, est = est[:-1], est.steps[-1][1]
        if len(earlier.steps):
            with _numpy_as_it_was():
                X = clone(earlier).fit_transform(X, y)
    if not (isinstance(est, BaseNeuralNet)):
        raise ParameterError(
            "lr_find takes a NeuralNetClassifier, a NeuralNetRegressor or a Pipeline that ends in "
            f"one. Got {short(est)}."
        )
    net: Any = clone(est)
    net.set_callbacks()  # scikit-learn's own, which clone keeps
    # every epoch has a step at least, and the last one ends before its validation
    net.set_params(max_epochs=n_steps, valid_every=n_steps, warm_start=False, verbose=0)
    if not keep_callbacks:
        net.set_params(callbacks=None)
    for name, callback in (net._parts("callbacks", net._said) or {}).items():
        if isinstance(callback, (Checkpoint, LRFinder)):  # the folder is for the fit to come
            net.set_params(**{f"callbacks__{name}": None})
    net.fit(X, y, sample_weight=sample_weight, callbacks={"lr_finder": finder})
    return net.model_.callbacks_["lr_finder"]


@contextmanager
def _numpy_as_it_was() -> Iterator[None]:
    """Put numpy's global generator back, from which transformers may draw."""
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
