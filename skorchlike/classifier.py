"""The classifier: labels, probabilities."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, column_or_1d
from torch import nn

from skorchlike.estimator import BaseNeuralNet
from skorchlike.exceptions import ParameterError
from skorchlike.fitting import INDICATOR_CRITERIA, Accuracy, LossFunction, as_numpy

NONLINEARITIES = {
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "identity": lambda probabilities: probabilities,
}


class NeuralNetClassifier(ClassifierMixin, BaseNeuralNet):
    """placeholder."""

    _default_criterion = "cross_entropy"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseNeuralNet._parameter_constraints,
        "predict_nonlinearity": [StrOptions({"auto", *NONLINEARITIES}), callable],
    }

    def __init__(
        self, module: Any = None, *, predict_nonlinearity: Any = "auto", **params: Any
    ) -> None:
        super().__init__(module, **params)
        self.predict_nonlinearity = predict_nonlinearity

    # ----------------------------------------------------------------- target

    def _learn_target(self, y: Any, classes: Any = None) -> None:
        if classes is None:
            self.classes_ = np.unique(self._check_labels(y, "y"))
        else:
            self.classes_ = np.unique(self._check_labels(classes, "classes"))

    def _check_labels(self, y: Any, name: str) -> np.ndarray:
        y = as_numpy(y)
        y = check_array(y, ensure_2d=False, dtype=None, input_name=name, estimator=self)
        if y.ndim == 2 and y.shape[1] > 1:
            raise ParameterError(
                f"{name} must be one label a row, of shape (n,). Got shape {y.shape}; several "
                "labels a row are not supported yet."
            )
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return y

    def _encode_target(self, y: Any, name: str) -> np.ndarray:
        y = self._check_labels(y, name)
        codes = np.searchsorted(self.classes_, y)
        codes = np.minimum(codes, len(self.classes_) - 1)
        unseen = self.classes_[codes] != y
        if unseen.any():
            raise ParameterError(
                f"{name} has labels that the classifier does not know: "
                f"{np.unique(y[unseen])[:5].tolist()}. Known: {self.classes_[:10].tolist()}. "
                "Name all classes in the first call: partial_fit(X, y, classes=...)."
            )
        return codes.astype(np.int64)

    def _n_outputs(self, criterion: nn.Module) -> int:
        n_classes = len(self.classes_)
        return 1 if isinstance(criterion, INDICATOR_CRITERIA) and n_classes == 2 else n_classes

    def _make_loss(self, criterion: nn.Module) -> LossFunction:
        return LossFunction(criterion, n_classes=len(self.classes_))

    def _make_score(self) -> Accuracy:
        return Accuracy(self._decide)

    def _decide(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the index of the predicted class for each row."""
        if callable(self.predict_nonlinearity):
            outputs = self.predict_nonlinearity(outputs)
        if outputs.ndim == 2 and outputs.shape[1] > 1:
            return outputs.argmax(1)
        if len(self.classes_) == 1:
            return torch.zeros(len(outputs), dtype=torch.int64, device=outputs.device)
        of_probabilities = callable(self.predict_nonlinearity) or (
            self.predict_nonlinearity == "identity"
        )
        return (outputs.reshape(-1) > (0.5 if of_probabilities else 0.0)).long()

    # ---------------------------------------------------------------- fitting

    @with_callbacks
    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        callbacks: Any = None,
    ) -> NeuralNetClassifier:
        """Train one further epoch; the first call starts a fit.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that any call may hold. Needed in the first call if its `y` lacks
            some of them; later it must be the same.
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
        continued = getattr(self, "model_", None)
        if continued is not None and classes is not None:
            classes = np.unique(self._check_labels(classes, "classes"))
            if not np.array_equal(classes, self.classes_):
                raise ParameterError(
                    f"classes must be those of the first call, {self.classes_.tolist()}. "
                    f"Got {classes.tolist()}."
                )
        data = {"X": X, "y": y, "sample_weight": sample_weight, "X_val": X_val, "y_val": y_val}
        data["sample_weight_val"] = sample_weight_val
        self._fit(data, callbacks, 1, continued, classes)
        return self

    # -------------------------------------------------------------- prediction

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels, as in `y`.
        """
        outputs = self._outputs(X)
        return self.classes_[as_numpy(self._decide(outputs))]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict probabilities.

        The nonlinearity that matches the criterion is applied to the module's outputs:
        softmax for ``CrossEntropyLoss``, sigmoid for ``BCEWithLogitsLoss``, exp for
        ``NLLLoss``; for others set ``predict_nonlinearity``.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of ``classes_``, in the module's dtype.

        Raises
        ------
        ParameterError
            If no nonlinearity is known for the criterion.
        """
        outputs = self._outputs(X)
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()
        probabilities = self._nonlinearity()(outputs)
        if probabilities.ndim == 1 or probabilities.shape[1] == 1:
            column = probabilities.reshape(-1, 1)
            if len(self.classes_) == 1:
                return np.ones((len(column), 1), dtype=as_numpy(column).dtype)
            probabilities = torch.cat([1 - column, column], dim=1)
        elif self._nonlinearity() is torch.sigmoid:
            # one against the rest: each is right alone, together they sum to one
            probabilities = probabilities / probabilities.sum(1, keepdim=True)
        return as_numpy(probabilities)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Logits; for two classes one number, positive for ``classes_[1]``: the output
            itself, or the second output less the first.
        """
        outputs = self._outputs(X)
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()
        if len(self.classes_) == 2:
            if outputs.ndim == 2 and outputs.shape[1] == 2:
                outputs = outputs[:, 1] - outputs[:, 0]
            outputs = outputs.reshape(-1)
        return as_numpy(outputs)

    def _nonlinearity(self) -> Any:
        said = self.predict_nonlinearity
        if callable(said):
            return said
        if said != "auto":
            return NONLINEARITIES[said]
        criterion = self.model_.criterion_
        if isinstance(criterion, nn.CrossEntropyLoss):
            return NONLINEARITIES["softmax"]
        if isinstance(criterion, INDICATOR_CRITERIA):
            return NONLINEARITIES["sigmoid"]
        if isinstance(criterion, nn.NLLLoss):
            return NONLINEARITIES["exp"]
        raise ParameterError(
            f"How outputs become probabilities is not known for {type(criterion).__name__}. Set "
            "predict_nonlinearity to 'softmax', 'sigmoid', 'exp', 'identity' or a function of "
            "the outputs."
        )
