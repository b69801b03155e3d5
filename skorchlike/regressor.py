"""The regressor: target shapes, predictions."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import StrOptions
from torch import nn

from skorchlike.criteria.predicting import n_outputs_per_target, predict_targets
from skorchlike.estimator import BaseNeuralNet
from skorchlike.exceptions import ParameterError
from skorchlike.fitting import R2, LossFunction, as_numpy, constructor
from skorchlike.targets.numbers import read_numbers
from skorchlike.targets.responses import keeps_tensors
from skorchlike.targets.scaling import TargetScale


class NeuralNetRegressor(MultiOutputMixin, RegressorMixin, BaseNeuralNet):
    """A regressor that trains a PyTorch module by an open, staged loop.

    Parameters
    ----------
    module : None, str, type or torch.nn.Module, default=None
        The module to train. None is the built-in `MLP`, sized from the data at fit. A
        class is built at fit with the arguments said as ``module__name``; its
        ``n_features_in``, ``n_outputs``, ``in_features`` and ``out_features`` come from
        the data unless they were said. An instance is copied, never trained itself.
    criterion : None, str, type or torch.nn.Module, default=None
        The loss function, on the module's outputs; None is ``MSELoss``. Names are those
        of torch's losses in snake case, such as ``"l1"`` or ``"huber"``, and
        ``"quantile"`` (`QuantileLoss`), ``"poisson"`` (`PoissonLoss`) and
        ``"gaussian_nll"`` (`GaussianNLL`) of `skorchlike.criteria`.
    optimizer : str or type, default="adamw"
        A `torch.optim.Optimizer` class or its name in lower case. Its arguments are said
        as ``optimizer__name``; ``optimizer__param_groups={"*.bias": {"lr": 0.1}}`` gives
        the parameters whose names match a glob options of their own.
    lr : float, default=0.01
        The learning rate; ``optimizer__lr`` beats it. Larger than the classifier's, since
        the outputs have to grow to the size of the targets.
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
        Share of the rows that is held out for validation. Not used when
        ``X_val`` is given to `fit`.
    valid_every : int, default=1
        Validate after every so many epochs, and after the last (that of ``max_epochs``, or
        one in which a callback has set ``ctx.terminate`` before validation).
    callbacks : dict or list, default=None
        ``{name: callback}``, ``[(name, callback)]``, or a list of callbacks and registered
        names. `fit` uses clones. ``callbacks__name__parameter=value`` sets a parameter
        of one, ``callbacks__name=other`` replaces it, ``callbacks__name=None`` drops it.
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
    target_transform : None, "auto" or "standard", default="auto"
        ``"standard"``: the module is trained on targets of mean 0 and standard deviation 1.
        Predictions and scores are in the units of `y`, the losses in the history and
        ``ctx.y`` in those of the scaled target. ``"auto"`` is that for the built-in modules,
        unless the criterion is for counts, and None for one's own.
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
        One row an epoch: ``epoch``, ``train_loss``, ``valid_loss``, ``valid_r2``,
        what callbacks logged, ``lr``, ``duration`` (seconds).
    loss_curve_ : list of float
        The mean training loss of each epoch.
    n_iter_ : int
        Number of epochs trained.
    n_outputs_ : int
        Number of targets.
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
    NeuralNetClassifier : The same for labels.
    Callback : What acts in the loop.

    Notes
    -----
    A module of one's own gets the targets as they are. Where they are large, set
    ``target_transform="standard"``.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skorchlike import NeuralNetRegressor
    >>> X, y = load_diabetes(return_X_y=True, scaled=True)
    >>> net = NeuralNetRegressor(criterion="huber", random_state=0).fit(X, y)
    >>> net.predict(X[:2]).shape
    (2,)
    """

    _default_criterion = "mse"
    _score_name = R2.name

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseNeuralNet._parameter_constraints,
        "target_transform": [None, StrOptions({"auto", "standard"})],
    }

    def __init__(
        self, module: Any = None, *, target_transform: Any = "auto", **params: Any
    ) -> None:
        super().__init__(module, **params)
        self.target_transform = target_transform

    # ----------------------------------------------------------------- target

    def _check_numbers(self, y: Any, name: str) -> np.ndarray:
        return read_numbers(as_numpy(y), name, self)

    def _encode_target(
        self, y: Any, name: str, *, learn: bool = False, classes: Any = None
    ) -> np.ndarray:
        y = self._check_numbers(y, name)
        if learn:
            self.n_outputs_ = y.shape[1] if y.ndim == 2 else 1
            self._target_ndim = y.ndim
        y = y.reshape(len(y), -1)
        check = getattr(constructor(self, "criterion") or self.criterion, "check_target", None)
        if check is not None:
            check(y, name)
        if y.shape[1] != self.n_outputs_:
            raise ParameterError(
                f"{name} must have {self.n_outputs_} column(s), as in the fit. Got {y.shape[1]}."
            )
        # a strided column would slow every gather down
        as_it_is = y.dtype == np.float32 or (y.dtype == np.float64 and y.flags.forc)
        return y if as_it_is else y.astype(np.float64)

    def _learns_labels(self) -> bool:
        return self._scales_target()

    def _scales_target(self) -> bool:
        """Whether the module is trained on a scaled target."""
        criterion = constructor(self, "criterion") or type(self.criterion)
        fixed = hasattr(criterion, "check_target") or criterion is nn.PoissonNLLLoss
        if self.target_transform == "standard" and fixed:
            raise ParameterError(
                f"target_transform={self.target_transform!r} moves the target, and the criterion "
                f"{criterion.__name__} is for certain numbers alone. Set target_transform=None."
            )
        if self.target_transform == "auto":
            return self._is_built_in() and not fixed
        return self.target_transform is not None

    def _learn_scale(self, y: np.ndarray | None, sample_weight: np.ndarray | None) -> None:
        self._scale = None
        if y is not None and self._scales_target():
            self._scale = TargetScale.learn(y, sample_weight)

    def _scale_target(self, y: np.ndarray) -> np.ndarray:
        return y if self._scale is None else self._scale.apply(y)

    def _n_outputs(self, criterion: nn.Module) -> int:
        return self.n_outputs_ * n_outputs_per_target(criterion)

    def _make_loss(
        self,
        criterion: nn.Module,
        y: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> LossFunction:
        return LossFunction(criterion)

    def _make_score(self, criterion: nn.Module | None = None) -> R2:
        return R2(partial(predict_targets, criterion), n_outputs_per_target(criterion))

    # ---------------------------------------------------------------- fitting

    @with_callbacks
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
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
        return self._fit(
            callbacks,
            1,
            getattr(self, "model_", None),
            X=X,
            y=y,
            sample_weight=sample_weight,
            X_val=X_val,
            y_val=y_val,
            sample_weight_val=sample_weight_val,
        )

    # -------------------------------------------------------------- prediction

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return R², the coefficient of determination.

        Parameters
        ----------
        X : inputs of n samples, as in `fit`
            Inputs; a dataset or loader holds the targets too.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; left out where X is a dataset or loader.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        Returns
        -------
        float
            At most 1; the mean over targets.
        """
        y, sample_weight = self._given_targets(X, y, sample_weight)
        return super().score(X, y, sample_weight)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict numbers.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_features)
            Inputs.
        return_std : bool, default=False
            Whether to return the standard deviation too, for ``criterion="gaussian_nll"``.

        Returns
        -------
        y_pred : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions, with one dimension if `y` had one, in the module's dtype: the
            module's outputs, or what the criterion makes of them. With scikit-learn's
            array API dispatch a tensor on X's device.
        y_std : ndarray of the same shape
            Standard deviation of the target around the prediction; only with `return_std`.

        Raises
        ------
        ParameterError
            If the criterion tells no standard deviation.
        """
        if not return_std:
            return self._answer(X, "predict")
        outputs = self._outputs(X)
        return self._answer(X, "predict", outputs), self._answer(X, "predict_std", outputs)

    def predict_quantiles(self, X: Any) -> Any:
        """Predict quantiles, for ``criterion="quantile"``.

        Parameters
        ----------
        X : array-like or torch.Tensor of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        ndarray of shape (n_samples, n_quantiles) or (n_samples, n_outputs, n_quantiles)
            The quantiles in the order of ``criterion__quantile``; three dimensions if `y`
            had two. Nothing keeps a higher one from lying below a lower one.

        Raises
        ------
        ParameterError
            If the criterion gives no quantiles.
        """
        return self._answer(X, "predict_quantiles")

    def _answer(self, X: Any, method: str, outputs: torch.Tensor | None = None) -> Any:
        outputs = self._outputs(X) if outputs is None else outputs
        if not keeps_tensors(X):
            return self._respond(outputs, method)
        return self._response(outputs, method, self.model_.criterion_).to(X.device)

    def _respond(
        self, outputs: torch.Tensor, method: str, criterion: nn.Module | None = None
    ) -> np.ndarray:
        return as_numpy(self._response(outputs, method, criterion or self.model_.criterion_))

    def _response(self, outputs: torch.Tensor, method: str, criterion: nn.Module) -> torch.Tensor:
        if outputs.dtype in (torch.float16, torch.bfloat16):
            outputs = outputs.float()
        if method == "predict":
            return self._in_shape(self._in_units(predict_targets(criterion, outputs)))
        if method not in ("predict_std", "predict_quantiles"):
            raise ParameterError(f"{type(self).__name__} has no method {method!r}, only 'predict'.")
        if not hasattr(criterion, method):
            what, name = ("standard deviation", "gaussian_nll")
            if method == "predict_quantiles":
                what, name = ("quantiles", "quantile")
            raise ParameterError(
                f"The criterion {type(criterion).__name__} tells no {what}: fit with "
                f"criterion={name!r}."
            )
        response = getattr(criterion, method)(outputs)
        if method == "predict_std":
            return self._in_shape(self._in_units(response, spread=True))
        response = self._in_units(response)
        return response[:, 0] if self._target_ndim == 1 else response

    def _in_units(self, y: torch.Tensor, *, spread: bool = False) -> torch.Tensor:
        """Return numbers in the units of the target."""
        if self._scale is None:
            return y
        return self._scale.undo(y.reshape(y.shape[0], self.n_outputs_, *y.shape[2:]), spread=spread)

    def _in_shape(self, y: torch.Tensor) -> torch.Tensor:
        """Return numbers with one dimension if the target had one."""
        y = y.reshape(y.shape[0], -1)
        return y[:, 0] if self._target_ndim == 1 else y

    def _decode_target(self, y: torch.Tensor) -> np.ndarray:
        return as_numpy(self._in_shape(self._in_units(y)))
