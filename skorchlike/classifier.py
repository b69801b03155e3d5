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
from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.fitting import INDICATOR_CRITERIA, Accuracy, LossFunction, as_numpy

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
        The loss function, on the module's logits; None is ``CrossEntropyLoss``. Names
        are those of torch's losses in snake case, such as ``"bce_with_logits"``.
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
    predict_nonlinearity : str or callable, default="auto"
        Makes probabilities of the module's outputs: ``"softmax"``, ``"sigmoid"``,
        ``"exp"``, ``"identity"``, or a function of the outputs, a tensor. ``"auto"`` tells
        by the criterion.
    device : str or torch.device, default="auto"
        Where to train; ``"auto"`` is CUDA if there is one, else the CPU.
    dtype : str, torch.dtype or numpy dtype, default="auto"
        ``"auto"``: the built-in modules follow X (float32 or float64), a module of one's
        own keeps its dtype and X is cast to it (integers stay integers if it has an
        embedding). Else module and X are cast to it; an integer dtype casts X alone.
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
        ``module``, ``criterion``, ``optimizer`` and ``callbacks``.

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
        The labels, sorted.
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

    _default_criterion = "cross_entropy"
    _score_name = Accuracy.name
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseNeuralNet._parameter_constraints,
        "predict_nonlinearity": [StrOptions({"auto", *NONLINEARITIES}), callable],
    }

    def __init__(
        self,
        module: Any = None,
        *,
        lr: float = 0.001,
        predict_nonlinearity: Any = "auto",
        **params: Any,
    ) -> None:
        super().__init__(module, lr=lr, **params)
        self.predict_nonlinearity = predict_nonlinearity

    # ----------------------------------------------------------------- target

    def _check_labels(self, y: Any, name: str) -> np.ndarray:
        y = as_numpy(y)
        y = check_array(y, ensure_2d=False, dtype=None, input_name=name, estimator=self)
        if y.ndim == 2 and y.shape[1] > 1:
            raise ParameterError(
                f"{name} must be one label a row, of shape (n,). Got shape {y.shape}; several "
                "labels a row are not supported yet."
            )
        y = column_or_1d(y, warn=True)
        try:
            check_classification_targets(y)
        except TypeError as error:
            raise ParameterError(
                f"{name} has labels of several types, which cannot be sorted: {error}. Make "
                "them all numbers or all strings."
            ) from error
        return y

    def _encode_target(
        self, y: Any, name: str, *, learn: bool = False, classes: Any = None
    ) -> np.ndarray:
        y = self._check_labels(y, name)
        if learn:
            known = y if classes is None else self._check_labels(classes, "classes")
            self.classes_ = np.unique(known)
        codes = np.searchsorted(self.classes_, y)
        codes = np.minimum(codes, len(self.classes_) - 1)
        unseen = self.classes_[codes] != y
        if unseen.any():
            advice = "Leave out such rows, or train with them."
            if name == "y":
                advice = (
                    "A fit that goes on cannot learn new ones: fit anew (warm_start=False), or "
                    "name all in the first call of partial_fit(X, y, classes=...)."
                )
            raise ParameterError(
                f"{name} has labels that the classifier does not know: "
                f"{np.unique(y[unseen])[:5].tolist()}. Known: {self.classes_[:10].tolist()}. "
                f"{advice}"
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
        ndarray of shape (n_samples,)
            Labels, as in `y`.
        """
        return self._respond(self._outputs(X), "predict")

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
        return self._respond(self._outputs(X), "predict_proba")

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
            itself, or of two outputs the logarithm of the odds.
        """
        return self._respond(self._outputs(X), "decision_function")

    def _respond(
        self, outputs: torch.Tensor, method: str, criterion: nn.Module | None = None
    ) -> np.ndarray:
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()
        if method == "predict":
            return self.classes_[as_numpy(self._decide(outputs))]
        nonlinearity = self._nonlinearity(criterion or self.model_.criterion_)
        respond = {"predict_proba": self._probabilities, "decision_function": self._logits}
        if method not in respond:
            raise ParameterError(
                f"{type(self).__name__} has no method {method!r}."
                f"{did_you_mean(method, ['predict', *respond])}"
            )
        return respond[method](outputs, nonlinearity)

    def _decode_target(self, y: torch.Tensor) -> np.ndarray:
        return self.classes_[as_numpy(y)]

    def _probabilities(self, outputs: torch.Tensor, nonlinearity: Any) -> np.ndarray:
        if nonlinearity is torch.sigmoid and outputs.ndim == 2 and outputs.shape[1] > 1:
            # one against the rest, each over their sum; so it holds where all are tiny
            outputs, nonlinearity = nn.functional.logsigmoid(outputs), NONLINEARITIES["softmax"]
        probabilities = nonlinearity(outputs)
        if probabilities.ndim == 1 or probabilities.shape[1] == 1:
            column = probabilities.reshape(-1, 1)
            if len(self.classes_) == 1:
                return np.ones((len(column), 1), dtype=as_numpy(column).dtype)
            probabilities = torch.cat([1 - column, column], dim=1)
        return as_numpy(probabilities)

    def _logits(self, outputs: torch.Tensor, nonlinearity: Any) -> np.ndarray:
        if len(self.classes_) == 2:
            if outputs.ndim == 2 and outputs.shape[1] == 2:
                if nonlinearity is torch.sigmoid:
                    outputs = nn.functional.logsigmoid(outputs)
                outputs = outputs[:, 1] - outputs[:, 0]
            outputs = outputs.reshape(-1)
        return as_numpy(outputs)

    def _nonlinearity(self, criterion: nn.Module) -> Any:
        said = self.predict_nonlinearity
        if callable(said):
            return said
        if said != "auto":
            return NONLINEARITIES[said]
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
