"""The regressor: target shapes, predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.callback import with_callbacks
from sklearn.utils.validation import check_array
from torch import nn

from skorchlike.estimator import BaseNeuralNet
from skorchlike.exceptions import ParameterError
from skorchlike.fitting import R2, LossFunction, as_numpy


class NeuralNetRegressor(MultiOutputMixin, RegressorMixin, BaseNeuralNet):
    """placeholder."""

    _default_criterion = "mse"

    def __init__(self, module: Any = None, **params: Any) -> None:
        super().__init__(module, **params)

    # ----------------------------------------------------------------- target

    def _learn_target(self, y: Any, classes: Any = None) -> None:
        y = self._check_numbers(y, "y")
        self.n_outputs_ = y.shape[1] if y.ndim == 2 else 1
        self._target_ndim = y.ndim

    def _check_numbers(self, y: Any, name: str) -> np.ndarray:
        y = check_array(
            as_numpy(y),
            ensure_2d=False,
            allow_nd=True,
            dtype="numeric",
            input_name=name,
            estimator=self,
        )
        if y.ndim > 2 or (y.ndim == 2 and y.shape[1] == 0):
            raise ParameterError(
                f"{name} must have shape (n,) or (n, n_outputs). Got shape {y.shape}."
            )
        return y

    def _encode_target(self, y: Any, name: str) -> np.ndarray:
        y = self._check_numbers(y, name)
        y = y.reshape(len(y), -1)
        if y.shape[1] != self.n_outputs_:
            raise ParameterError(
                f"{name} must have {self.n_outputs_} column(s), as in the fit. Got {y.shape[1]}."
            )
        return y if y.dtype == np.float32 else y.astype(np.float64)

    def _n_outputs(self, criterion: nn.Module) -> int:
        return self.n_outputs_

    def _make_loss(self, criterion: nn.Module) -> LossFunction:
        return LossFunction(criterion)

    def _make_score(self) -> R2:
        return R2()

    # ---------------------------------------------------------------- fitting

    @with_callbacks
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        callbacks: Any = None,
    ) -> NeuralNetRegressor:
        """Train one further epoch; the first call starts a fit.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.
        X_val, y_val, sample_weight_val : array-like, default=None
            Validation data, as in `fit`.
        callbacks : dict or list, default=None
            Callbacks for this call alone.

        Returns
        -------
        self
            The fitted estimator.
        """
        data = {"X": X, "y": y, "sample_weight": sample_weight, "X_val": X_val, "y_val": y_val}
        data["sample_weight_val"] = sample_weight_val
        self._fit(data, callbacks, 1, getattr(self, "model_", None))
        return self

    # -------------------------------------------------------------- prediction

    def predict(self, X: Any) -> np.ndarray:
        """Predict numbers.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions, with one dimension if `y` had one, in the module's dtype.
        """
        outputs = self._outputs(X)
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()
        predictions = as_numpy(outputs)
        if self._target_ndim == 1:
            return predictions.reshape(len(predictions), -1)[:, 0]
        return predictions.reshape(len(predictions), -1)
