"""The classifier: labels, probabilities."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import StrOptions
from torch import nn

from skorchlike.estimator import BaseNeuralNet
from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.fitting import INDICATOR_CRITERIA, Accuracy, LossFunction, as_numpy, constructor
from skorchlike.targets.labels import (
    LABELS,
    MULTI_LABEL,
    SOFT,
    distinct,
    encode_labels,
    read_labels,
)
from skorchlike.targets.responses import keeps_tensors
from skorchlike.targets.weights import check_criterion_weight, class_weights

NONLINEARITIES = {
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "identity": lambda probabilities: probabilities,
}


class NeuralNetClassifier(ClassifierMixin, BaseNeuralNet):
    """A classifier that trains a PyTorch module by an open, staged loop.

    Parameters
    ----------
    module : None, str, type or torch.nn.Module, default=None
        The module to train. None is the built-in `MLP`, sized from the data at fit. A
        class is built at fit with the arguments said as ``module__name``; its
        ``n_features_in``, ``n_outputs``, ``in_features`` and ``out_features`` come from
        the data unless they were said. An instance is copied, never trained itself.
    criterion : None, str, type or torch.nn.Module, default=None
        The loss function, on the module's logits; None is ``CrossEntropyLoss``, or
        ``BCEWithLogitsLoss`` where a row may have several labels. Names are those of
        torch's losses in snake case, such as ``"bce_with_logits"``.
    optimizer : str or type, default="adamw"
        A `torch.optim.Optimizer` class or its name in lower case. Its arguments are said
        as ``optimizer__name``; ``optimizer__param_groups={"*.bias": {"lr": 0.1}}`` gives
        the parameters whose names match a glob options of their own.
    lr : float, default=0.001
        The learning rate; ``optimizer__lr`` beats it.
    max_epochs : int, default=100
        Number of passes over the training data.
    batch_size : int or "auto", default="auto"
        Rows a batch; ``"auto"`` is 200, or all rows if they are fewer; -1 is all rows.
    predict_batch_size : int or "auto", default="auto"
        Rows a batch in validation and prediction; ``"auto"`` is 1024; -1 is all rows.
    shuffle : bool, default=True
        Whether each epoch takes the training rows in a new order.
    drop_last : bool, default=False
        Whether to leave out the last batch of an epoch if it has fewer rows.
    validation_fraction : float or None, default=None
        Share of the rows that is held out for validation,
        the shares of the classes being kept. Not used when
        ``X_val`` is given to `fit`.
    valid_every : int, default=1
        Validate after every so many epochs, and after the last (that of ``max_epochs``, or
        one in which a callback has set ``ctx.terminate`` before validation).
    callbacks : dict or list, default=None
        ``{name: callback}``, ``[(name, callback)]``, or a list of callbacks and registered
        names. `fit` uses clones. ``callbacks__name__parameter=value`` sets a parameter
        of one, ``callbacks__name=other`` replaces it, ``callbacks__name=None`` drops it.
    class_weight : dict, "balanced" or None, default=None
        Label → weight, 1 for those left out. It multiplies the sample weights of the
        label's rows in the training and validation loss (with soft labels, by their
        probabilities), and not in scores. ``"balanced"`` gives all classes of the training
        rows of each call of fit or partial_fit the same weight in sum.
    classes : array-like of shape (n_classes,), default=None
        All labels that there are, where those in y may lack some: rare ones in
        cross-validation, or data that are not to be looked through beforehand.
    predict_nonlinearity : str or callable, default="auto"
        Makes probabilities of the module's outputs: ``"softmax"``, ``"sigmoid"``,
        ``"exp"``, ``"identity"``, or a function of the outputs, a tensor. ``"auto"`` tells
        by the criterion.
    train_loader, valid_loader : None or type, default=None
        What builds the loaders of datasets (and of arrays, where arguments are said as
        ``train_loader__name``): None is ``torch.utils.data.DataLoader``. The first is for
        training, the second for validation and prediction.
    device : str or torch.device, default="auto"
        Where to train; ``"auto"`` is CUDA if there is one, else the CPU.
    dtype : str, torch.dtype or numpy dtype, default="auto"
        ``"auto"``: the built-in modules follow X (float32 or float64), a module of one's
        own keeps its dtype and X is cast to it (integers stay integers if it has an
        embedding). Else module and X are cast to it; an integer dtype casts X alone.
    numeric_transform : None, str or transformer, default="auto"
        How columns of numbers are transformed: ``"standard"``, ``"robust"``,
        ``"quantile"``, a scikit-learn transformer, or None. ``"auto"`` is ``"standard"`` for
        the built-in modules and None for one's own. Learned from the training rows.
    warm_start : bool, default=False
        Whether `fit` continues the previous fit with ``max_epochs`` more.
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the split, the order of the rows and all random
        numbers that the module draws in training, to the bit on a CPU at a fixed number
        of threads. A `RandomState` is left as it was; None takes fresh entropy. The
        global generators are not changed.
    verbose : int, default=0
        1 prints the record of each epoch, by the callback `PrintLog`.
    **routed : dict
        Parameters of components, ``component__name=value``, for the components
        ``module``, ``criterion``, ``optimizer``, ``callbacks``, ``train_loader`` and
        ``valid_loader``.

    Attributes
    ----------
    model_ : TrainedModel
        All that the fit produced: ``module_``, ``criterion_``, ``optimizer_``,
        ``callbacks_`` (name → state), ``history_``, ``n_epochs_``, ``stop_reason_``,
        ``seed_``.
    history_ : pandas.DataFrame
        One row an epoch: ``epoch``, ``train_loss``, ``valid_loss``, ``valid_accuracy``,
        what callbacks logged, ``lr``, ``duration`` (seconds).
    loss_curve_ : list of float
        The mean training loss of each epoch.
    n_iter_ : int
        Number of epochs trained.
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted; the numbers of the columns where y has several.
    n_features_in_ : int
        ``X.shape[1]``.
    feature_names_in_ : ndarray of str
        Column names of X, if it was a DataFrame.

    Raises
    ------
    ParameterError
        If a name is unknown (at once), or a value impossible (at fit).

    See Also
    --------
    NeuralNetRegressor : The same for numbers.
    Callback : What acts in the loop.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skorchlike import EarlyStopping, NeuralNetClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     module__hidden_layer_sizes=(32,),
    ...     validation_fraction=0.2,
    ...     callbacks={"stop": EarlyStopping()},
    ...     callbacks__stop__patience=3,
    ...     random_state=0,
    ... )
    >>> pipe = make_pipeline(StandardScaler(), net).fit(X, y)
    >>> bool(pipe.score(X, y) > 0.95)
    True
    """

    _target_kind = LABELS
    _score_name = Accuracy.name
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseNeuralNet._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "classes": ["array-like", None],
        "predict_nonlinearity": [StrOptions({"auto", *NONLINEARITIES}), callable],
    }

    def __init__(
        self,
        module: Any = None,
        *,
        lr: float = 0.001,
        class_weight: Any = None,
        classes: Any = None,
        predict_nonlinearity: Any = "auto",
        **params: Any,
    ) -> None:
        super().__init__(module, lr=lr, **params)
        self.class_weight = class_weight
        self.classes = classes
        self.predict_nonlinearity = predict_nonlinearity

    # ----------------------------------------------------------------- target

    @property
    def _default_criterion(self) -> str:  # type: ignore[override]
        return "bce_with_logits" if self._target_kind == MULTI_LABEL else "cross_entropy"

    def _encode_target(
        self, y: Any, name: str, *, learn: bool = False, classes: Any = None
    ) -> np.ndarray:
        classes = self.classes if classes is None else classes
        kind, y = read_labels(as_numpy(y), name, self, learn=learn and classes is None)
        if learn:
            self._learn_labels(kind, y, classes)
        width = len(self.classes_)
        if kind != self._target_kind or (kind != LABELS and y.shape[1] != width):
            wanted = "(n,)" if self._target_kind == LABELS else f"(n, {width})"
            raise ParameterError(
                f"{name} must hold {self._target_kind}, of shape {wanted}, as in the fit. Got "
                f"{kind} of shape {y.shape} and {y.dtype}."
            )
        if kind != LABELS:
            return y
        advice = "Leave out such rows, or train with them."
        if name == "y":
            advice = (
                "A fit that goes on cannot learn new ones: fit anew (warm_start=False), or "
                "name all in the first call of partial_fit(X, y, classes=...)."
            )
        if learn:
            advice = "Name all of them in `classes`, or leave out such rows."
        return encode_labels(y, self.classes_, name, advice)

    def _learn_labels(self, kind: str, y: np.ndarray, classes: Any) -> None:
        self._target_kind = kind
        if kind == LABELS:
            self.classes_ = distinct(y) if classes is None else self._read_classes(classes)
            return
        self.classes_ = np.arange(y.shape[1])
        if classes is not None and not np.array_equal(self._read_classes(classes), self.classes_):
            raise ParameterError(
                f"y holds {kind} in {y.shape[1]} columns, whose classes are their numbers, 0 to "
                f"{y.shape[1] - 1}. Leave out `classes`."
            )

    def _read_classes(self, classes: Any) -> np.ndarray:
        kind, labels = read_labels(as_numpy(classes), "classes", self, learn=False)
        if kind != LABELS:
            raise ParameterError(
                f"classes must be a list of labels, of shape (n_classes,). Got {labels.shape}."
            )
        try:
            return np.unique(labels)
        except TypeError as error:
            raise ParameterError(
                f"classes has labels of several types, which cannot be sorted: {error}. Make them "
                "all numbers or all strings."
            ) from error

    def _learns_labels(self) -> bool:
        return self.classes is None

    def _n_outputs(self, criterion: nn.Module) -> int:
        n_classes = len(self.classes_)
        one = isinstance(criterion, INDICATOR_CRITERIA) and n_classes == 2
        return 1 if one and self._target_kind != MULTI_LABEL else n_classes

    def _n_softmax_classes(self) -> int | None:
        cls = constructor(self, "criterion") or type(self.criterion)
        of_indicators = isinstance(cls, type) and issubclass(cls, INDICATOR_CRITERIA)
        return len(self.classes_) if self._target_kind == LABELS and not of_indicators else None

    def _make_loss(
        self,
        criterion: nn.Module,
        y: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> LossFunction:
        kind, said = self._target_kind, self.class_weight
        n_outputs = self._n_outputs(criterion) if self._is_built_in() else None
        check_criterion_weight(criterion, kind, len(self.classes_), n_outputs)
        weight = class_weights(said, kind, self.classes_, y, sample_weight)
        return LossFunction(criterion, len(self.classes_), kind=kind, class_weight=weight)

    def _make_score(self, criterion: nn.Module | None = None) -> Accuracy:
        decide = partial(self._decide, criterion=criterion)
        if self._target_kind == SOFT:
            return Accuracy(decide, lambda y: y.argmax(1))
        return Accuracy(decide)

    def _decide(self, outputs: torch.Tensor, criterion: nn.Module | None = None) -> torch.Tensor:
        """Return the index of the predicted class for each row, or a 0 or 1 for each label."""
        said = self.predict_nonlinearity
        if self._target_kind == MULTI_LABEL:
            if said == "sigmoid" or (said == "auto" and not isinstance(criterion, nn.BCELoss)):
                return (outputs > 0).long()
            return (self._nonlinearity(criterion)(outputs) > 0.5).long()
        if callable(said):
            outputs = said(outputs)
        if outputs.ndim == 2 and outputs.shape[1] > 1:
            return outputs.argmax(1)
        if len(self.classes_) == 1:
            return torch.zeros(len(outputs), dtype=torch.int64, device=outputs.device)
        of_probabilities = callable(said) or said == "identity"
        return (outputs.reshape(-1) > (0.5 if of_probabilities else 0.0)).long()

    # ---------------------------------------------------------------- fitting

    @with_callbacks
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
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
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
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
            classes = self._read_classes(classes)
            if not np.array_equal(classes, self.classes_):
                raise ParameterError(
                    f"classes must be those of the first call, {self.classes_.tolist()}. "
                    f"Got {classes.tolist()}."
                )
        return self._fit(
            callbacks,
            1,
            continued,
            classes,
            X=X,
            y=y,
            sample_weight=sample_weight,
            X_val=X_val,
            y_val=y_val,
            sample_weight_val=sample_weight_val,
        )

    # -------------------------------------------------------------- prediction

    def predict(self, X: Any) -> np.ndarray:
        """Predict labels.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_labels)
            Labels, as in `y`; of soft labels the number of the likeliest class; where a
            row may have several labels, a 0 or 1 for each. With scikit-learn's array API
            dispatch a tensor on X's device, unless the labels are strings.
        """
        return self._answer(X, "predict")

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
            Probabilities, in the order of ``classes_``, in the module's dtype; where a row
            may have several labels, that of each label for itself. With scikit-learn's
            array API dispatch a tensor on X's device.

        Raises
        ------
        ParameterError
            If no nonlinearity is known for the criterion.
        """
        return self._answer(X, "predict_proba")

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
            itself, or of two outputs the logarithm of the odds. With scikit-learn's array
            API dispatch a tensor on X's device.
        """
        return self._answer(X, "decision_function")

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the accuracy.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_features)
            Inputs.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels; of soft labels the likeliest class counts, and of several labels a row
            all must be right.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        float
            Share of rows (or of weight) that `predict` has right.
        """
        y, sample_weight = self._given_targets(X, y, sample_weight)
        if not keeps_tensors(X):
            y = as_numpy(y)
        if self._target_kind == SOFT and getattr(y, "ndim", None) != 1:
            y = y if hasattr(y, "argmax") else np.asarray(y)
            y = y.argmax(1) if y.ndim == 2 else y
        return super().score(X, y, sample_weight)

    def _answer(self, X: Any, method: str) -> Any:
        outputs = self._outputs(X)
        if not keeps_tensors(X):
            return self._respond(outputs, method)
        response = self._response(outputs, method, self.model_.criterion_)
        if method == "predict" and self._target_kind != MULTI_LABEL:
            if self.classes_.dtype.kind not in "biuf":
                return self.classes_[as_numpy(response)]  # there are no tensors of strings
            response = torch.as_tensor(self.classes_, device=response.device)[response]
        return response.to(X.device)

    def _respond(
        self, outputs: torch.Tensor, method: str, criterion: nn.Module | None = None
    ) -> np.ndarray:
        response = as_numpy(self._response(outputs, method, criterion or self.model_.criterion_))
        if method == "predict" and self._target_kind != MULTI_LABEL:
            return self.classes_[response]
        return response

    def _response(self, outputs: torch.Tensor, method: str, criterion: nn.Module) -> torch.Tensor:
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()
        if method == "predict":
            return self._decide(outputs, criterion)
        nonlinearity = self._nonlinearity(criterion)
        respond = {"predict_proba": self._probabilities, "decision_function": self._logits}
        if method not in respond:
            raise ParameterError(
                f"{type(self).__name__} has no method {method!r}."
                f"{did_you_mean(method, ['predict', *respond])}"
            )
        return respond[method](outputs, nonlinearity)

    def _decode_target(self, y: torch.Tensor) -> np.ndarray:
        if self._target_kind == MULTI_LABEL:
            return as_numpy(y.long())
        if self._target_kind == SOFT:
            y = y.argmax(1)
        return self.classes_[as_numpy(y)]

    def _probabilities(self, outputs: torch.Tensor, nonlinearity: Any) -> torch.Tensor:
        if self._target_kind == MULTI_LABEL:
            return nonlinearity(outputs)
        if nonlinearity is torch.sigmoid and outputs.ndim == 2 and outputs.shape[1] > 1:
            # one against the rest, each over their sum; so it holds where all are tiny
            outputs, nonlinearity = nn.functional.logsigmoid(outputs), NONLINEARITIES["softmax"]
        probabilities = nonlinearity(outputs)
        if probabilities.ndim == 1 or probabilities.shape[1] == 1:
            column = probabilities.reshape(-1, 1)
            if len(self.classes_) == 1:
                return torch.ones_like(column)
            probabilities = torch.cat([1 - column, column], dim=1)
        return probabilities

    def _logits(self, outputs: torch.Tensor, nonlinearity: Any) -> torch.Tensor:
        if len(self.classes_) == 2 and self._target_kind != MULTI_LABEL:
            if outputs.ndim == 2 and outputs.shape[1] == 2:
                if nonlinearity is torch.sigmoid:
                    outputs = nn.functional.logsigmoid(outputs)
                outputs = outputs[:, 1] - outputs[:, 0]
            outputs = outputs.reshape(-1)
        return outputs

    def _nonlinearity(self, criterion: nn.Module | None) -> Any:
        said = self.predict_nonlinearity
        if callable(said):
            return said
        if said != "auto":
            return NONLINEARITIES[said]
        if isinstance(criterion, nn.CrossEntropyLoss):
            return NONLINEARITIES["softmax"]
        if isinstance(criterion, INDICATOR_CRITERIA):
            return NONLINEARITIES["sigmoid"]
        if isinstance(criterion, (nn.NLLLoss, nn.KLDivLoss)):
            return NONLINEARITIES["exp"]
        if isinstance(criterion, nn.BCELoss):
            return NONLINEARITIES["identity"]
        raise ParameterError(
            f"How outputs become probabilities is not known for {type(criterion).__name__}. Set "
            "predict_nonlinearity to 'softmax', 'sigmoid', 'exp', 'identity' or a function of "
            "the outputs."
        )

    def __sklearn_tags__(self) -> Any:
        """Say that a row may have several labels."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
