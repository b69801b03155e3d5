"""A table of an estimator's layers, without a fit."""

from __future__ import annotations

import copy
from numbers import Integral
from typing import Any

from sklearn.base import clone
from sklearn.utils import Bunch

from skorchlike.data.batches import (
    AUTO_BATCH_SIZE,
    AUTO_PREDICT_BATCH_SIZE,
    resolve_batch_size,
)
from skorchlike.data.loading import is_loader
from skorchlike.data.peeking import first_batch
from skorchlike.estimator import BaseNeuralNet
from skorchlike.exceptions import ParameterError
from skorchlike.fitting import build_callbacks, build_parts, learn_inputs_of, make_feed
from skorchlike.modules.layers import LayerRecorder, LayerTable
from skorchlike.nested import is_nested, map_arrays, n_rows_of
from skorchlike.params.placing import check_device
from skorchlike.training.calls import uses_stage
from skorchlike.training.randomness import draw_seed, private_rng


def summary(estimator: Any, X: Any, y: Any = None, *, depth: int | None = None) -> LayerTable:
    """Show the layers of an estimator's module: output shapes, parameters, multiply-adds.

    One batch is passed through as in prediction, by ``do_predict`` and the callbacks that act
    there. Nothing is trained, and nothing of the estimator changes.

    Parameters
    ----------
    estimator : NeuralNetClassifier, NeuralNetRegressor, or Pipeline that ends in one
        Fitted or not. Of one that is not, the module is built as `fit` would build it, and
        callbacks that learn something in a fit are left out.
    X : array-like or torch.Tensor of shape (n_samples, n_features) or (n_samples, ...)
        Inputs. The first rows are passed through, as many as a batch has.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Targets, which an estimator that is not fitted needs.
    depth : int or None, default=None
        Layers further down are added up in the one that holds them: 1 are the module's
        children, 0 is the module alone. None shows all.

    Returns
    -------
    LayerTable
        Print it; ``table`` is a DataFrame, ``parameters``, ``trainable``,
        ``multiply_adds`` and ``size_mb`` are the totals.

    Raises
    ------
    ParameterError
        If it is no such estimator, `depth` is impossible, or `y` is missing.

    Notes
    -----
    Parameters that several layers share are counted once, in the first. Multiply-adds are
    those of matrix products, convolutions, attention and recurrent layers, as counted by
    ``torch.utils.flop_counter``; other operations count nothing.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NeuralNetClassifier, summary
    >>> X, y = load_iris(return_X_y=True)
    >>> summary(NeuralNetClassifier(batch_size=10), X, y)
    name  layer   output shape  parameters  multiply-adds
    -----------------------------------------------------
    0     Linear  (10, 256)          1,280         10,240
    1     ReLU    (10, 256)              0              0
    2     Linear  (10, 3)              771          7,680
    -----------------------------------------------------
    Parameters: 2,051, of which trainable: 2,051
    Multiply-adds: 17,920 for 10 rows
    Size of parameters and buffers: 0.016 MB
    """
    if depth is not None and (not isinstance(depth, Integral) or depth < 0):
        raise ParameterError(f"The `depth` of summary must be None or an int >= 0. Got {depth!r}.")
    steps, net = _steps(estimator)
    fitted = net.__sklearn_is_fitted__()
    if not fitted:
        if y is None and not is_loader(X):
            raise ParameterError(
                f"summary needs y: this {type(net).__name__} is not fitted, and its module is "
                "built for the data."
            )
        X = X if steps is None else clone(steps).fit_transform(X, y)
        net = _built(net, X, y)
    X = _first_rows(net, X)
    if fitted and steps is not None:
        X = steps.transform(X)
    module = net.model_.module_
    with private_rng(0, net.model_.device_), LayerRecorder(module) as recorder:
        net._outputs(X)
    return recorder.table(None if depth is None else int(depth), _n_rows(X))


def _steps(estimator: Any) -> tuple[Any, Any]:
    """Return the steps before the estimator, None if there are none, and the estimator."""
    from sklearn.pipeline import Pipeline  # not cheap to import

    steps = None
    if isinstance(estimator, Pipeline):
        steps = estimator[:-1] if len(estimator.steps) > 1 else None
        estimator = estimator.steps[-1][1]
    if not isinstance(estimator, BaseNeuralNet):
        raise ParameterError(
            "summary takes a NeuralNetClassifier, a NeuralNetRegressor or a Pipeline that ends in "
            f"one. Got a {type(estimator).__name__}."
        )
    return steps, estimator


def _built(estimator: Any, X: Any, y: Any) -> Any:
    """Return a copy of an estimator with the module that a fit would begin with."""
    net = copy.copy(estimator)
    net._validate_params()
    names = ("X", "y", "sample_weight", "X_val", "y_val", "sample_weight_val")
    data = net._check_data({**dict.fromkeys(names), "X": X, "y": y}, reset=True, classes=None)
    device = check_device(net.device)
    with private_rng(draw_seed(net.random_state), device):
        feed = make_feed(net, data, 0)
        inputs = learn_inputs_of(net, feed, None)
        parts = build_parts(net, inputs, feed, device, None)
    callbacks = build_callbacks(net.callbacks, net._said_to("callbacks"))
    net.set_params(
        callbacks={n: cb for n, cb in callbacks.items() if not uses_stage(cb, "state_dict")}
    )
    net.model_ = Bunch(
        module_=parts.module,
        criterion_=parts.criterion,
        history_=[],
        n_epochs_=0,
        device_=device,
        place_=parts.place,
        inputs_=inputs,
        continuation_={"callbacks": {}, "classes": {}},
    )
    return net


def _batch_rows(net: Any, n: int) -> int:
    """Return the rows of a training batch, at most those that are predicted at once."""
    return min(
        n,
        resolve_batch_size(net.batch_size, n, AUTO_BATCH_SIZE),
        resolve_batch_size(net.predict_batch_size, n, AUTO_PREDICT_BATCH_SIZE),
    )


def _first_rows(net: Any, X: Any) -> Any:
    """Return the inputs of a batch."""
    if is_loader(X):
        size = net.batch_size if isinstance(net.batch_size, int) else AUTO_BATCH_SIZE
        return first_batch(X, max(size, 1), with_target=False)[0]
    n = _batch_rows(net, _n_rows(X))
    if is_nested(X):
        return map_arrays(lambda part: part[:n], X)
    return X.iloc[:n] if hasattr(X, "iloc") else X[:n]


def _n_rows(X: Any) -> int:
    if is_nested(X):
        return n_rows_of(X)
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)
