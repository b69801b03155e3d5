"""The scikit-learn face that classifier and regressor share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils._param_validation import HasMethods, Interval, Options, StrOptions

from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.fitting import (
    PROVIDERS,
    SIZES,
    TRANSFORMS,
    DefaultActions,
    FitData,
    HistoryDisplay,
    Interrupts,
    LossFunction,
    build_callbacks,
    check_fit_data,
    check_resume,
    check_X,
    constructor,
    fit_model,
    follows_input_dtype,
    history_frame,
    in_order,
    is_loader,
    named_callbacks,
    unchanged_on_failure,
)
from skorchlike.params.routing import RoutedParams
from skorchlike.predicting import forward_model, predict_model, targets_of

if TYPE_CHECKING:
    import pandas as pd


FROM_FIT = ("dataset", "batch_size", "shuffle", "drop_last", "collate_fn", "generator")
"""Arguments of a loader that fit gives where they were not said."""


class BaseNeuralNet(CallbackSupportMixin, DefaultActions, RoutedParams, ABC):
    """What classifier and regressor share: parameters, fit, partial_fit, history."""

    _components: ClassVar[tuple[str, ...]] = (
        "module",
        "criterion",
        "optimizer",
        "callbacks",
        "train_loader",
        "valid_loader",
    )
    _from_fit: ClassVar[dict[str, tuple[str, ...]]] = {
        "module": SIZES,
        "train_loader": FROM_FIT,
        "valid_loader": FROM_FIT,
    }
    _default_criterion: ClassVar[str]
    _score_name: ClassVar[str]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "lr": [Interval(Real, 0, None, closed="neither")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [
            StrOptions({"auto"}),
            Options(Integral, {-1}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "predict_batch_size": [
            StrOptions({"auto"}),
            Options(Integral, {-1}),
            Interval(Integral, 1, None, closed="left"),
        ],
        "shuffle": ["boolean"],
        "drop_last": ["boolean"],
        "validation_fraction": [None, Interval(Real, 0, 1, closed="neither")],
        "valid_every": [Interval(Integral, 1, None, closed="left")],
        "numeric_transform": [
            None,
            StrOptions({"auto", *TRANSFORMS}),
            HasMethods(["fit", "transform"]),
        ],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        module: Any = None,
        *,
        criterion: Any = None,
        optimizer: Any = "adamw",
        lr: float = 0.01,
        max_epochs: int = 100,
        batch_size: int | str = "auto",
        predict_batch_size: int | str = "auto",
        shuffle: bool = True,
        drop_last: bool = False,
        validation_fraction: float | None = None,
        valid_every: int = 1,
        callbacks: Any = None,
        train_loader: Any = None,
        valid_loader: Any = None,
        device: Any = "auto",
        dtype: Any = "auto",
        numeric_transform: Any = "auto",
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int | bool = 0,
        **routed: Any,
    ) -> None:
        self.module = module
        self.criterion = criterion
        self.optimizer = optimizer
        self.lr = lr
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.predict_batch_size = predict_batch_size
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.validation_fraction = validation_fraction
        self.valid_every = valid_every
        self.callbacks = callbacks
        self.train_loader = train_loader
        self.valid_loader = valid_loader
        self.device = device
        self.dtype = dtype
        self.numeric_transform = numeric_transform
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self._say(routed)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            if callable(value) and name.startswith("do_") and name not in PROVIDERS:
                hint = did_you_mean(name, PROVIDERS)
                raise TypeError(f"{cls.__name__}.{name} is no action of the loop.{hint}")
            if callable(value) and name.startswith("on_"):
                raise TypeError(
                    f"{cls.__name__}.{name}: stages belong to callbacks. An estimator replaces "
                    f"actions alone: {', '.join(PROVIDERS)}."
                )

    # -------------------------------------------------- what subclasses define

    @abstractmethod
    def _encode_target(
        self, y: Any, name: str, *, learn: bool = False, classes: Any = None
    ) -> np.ndarray:
        """Return the target as the loss takes it; learn what it is like in a new fit."""

    @abstractmethod
    def _n_outputs(self, criterion: torch.nn.Module) -> int:
        """Return how many outputs the module needs."""

    @abstractmethod
    def _make_loss(
        self,
        criterion: torch.nn.Module,
        y: np.ndarray | None = None,
        sample_weight: np.ndarray | None = None,
    ) -> LossFunction:
        """Return what computes the loss of a batch, given those of the training rows."""

    def _learns_labels(self) -> bool:
        """Whether a new fit has to see all targets before it can begin."""
        return False

    def _learn_scale(self, y: np.ndarray | None, sample_weight: np.ndarray | None) -> None:
        """Learn from the training rows how targets are scaled, if they are."""

    def _scale_target(self, y: np.ndarray) -> np.ndarray:
        """Return encoded targets as the module is trained on."""
        return y

    def _n_softmax_classes(self) -> int | None:
        """Return how many classes share one softmax, or None where there is no such thing."""
        return None

    @abstractmethod
    def _respond(
        self, outputs: torch.Tensor, method: str, criterion: torch.nn.Module | None = None
    ) -> np.ndarray:
        """Return what a method such as ``"predict"`` makes of the module's outputs."""

    @abstractmethod
    def _decode_target(self, y: torch.Tensor) -> np.ndarray:
        """Return targets of the loss as the user gives them."""

    @abstractmethod
    def _make_score(self, criterion: torch.nn.Module | None = None) -> Any:
        """Return the score that stands beside the validation loss."""

    # ---------------------------------------------------------------- fitting

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        callbacks: Any = None,
        resume: Any = None,
    ) -> BaseNeuralNet:
        """Train the module.

        Parameters
        ----------
        X : array-like, tensor, frame or sparse matrix of shape (n_samples, n_features)
            Inputs. For a module of one's own arrays of any shape (n_samples, ...), or a dict or
            tuple of arrays, given to the module by name or in their order. A torch ``Dataset``
            or ``DataLoader`` holds the targets too.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets; left out where X is a dataset or loader.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights; the loss of a batch is Σwl/Σw. Rows of weight 0 are left out.
        X_val : array-like of shape (n_val, ...), default=None
            Validation inputs; then ``validation_fraction`` is not used.
        y_val : array-like of shape (n_val,) or (n_val, n_outputs), default=None
            Validation targets.
        sample_weight_val : array-like of shape (n_val,), default=None
            Validation weights.
        callbacks : dict or list, default=None
            Callbacks for this fit alone, beside the estimator's; ``{name: None}`` leaves
            one of those out.
        resume : bool, path or dict, default=None
            True goes on with an interrupted fit from the folder of the `Checkpoint` callback;
            where that is empty, a new fit begins. A path names another folder of checkpoints, or
            one of them; a dict is what ``ctx.snapshot()`` returned. ``max_epochs`` is then the
            total; of a fit that is finished the saved model is returned.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ParameterError
            If a parameter has an unknown name or an impossible value.
        ValueError
            If the data cannot be used.
        CheckpointError
            If the checkpoint to resume from is of another fit (other data, split or parameters:
            it says which), or damaged.
        KeyboardInterrupt
            If the fit was interrupted; the model trained so far is kept.

        Notes
        -----
        After any other error the estimator is as it was before.
        """
        continued = self.model_ if self.warm_start and hasattr(self, "model_") else None
        return self._fit(
            callbacks,
            self.max_epochs,
            continued,
            resume=check_resume(resume, continued),
            X=X,
            y=y,
            sample_weight=sample_weight,
            X_val=X_val,
            y_val=y_val,
            sample_weight_val=sample_weight_val,
        )

    def _fit(
        self,
        callbacks: Any,
        n_epochs: int,
        continued: Any,
        classes: Any = None,
        resume: Any = None,
        **data: Any,
    ) -> Any:
        with Interrupts() as interrupts:
            with unchanged_on_failure(self):
                self._validate_params()
                checked = self._check_data(data, reset=continued is None, classes=classes)
                task = self._init_callback_context(max_subtasks=n_epochs)
                weight = data["sample_weight"]
                metadata = {} if weight is None else {"sample_weight": weight}
                raw = {"X": data["X"], "y": data["y"], "metadata": metadata}
                self.model_, interrupt = fit_model(
                    self,
                    checked,
                    n_epochs=n_epochs,
                    extra_callbacks=callbacks,
                    continued=continued,
                    resume=resume,
                    sklearn_task=(task, raw) if getattr(self, "_skl_callbacks", None) else None,
                    interrupts=interrupts,
                )
            if interrupt is not None:
                try:
                    raise interrupt
                finally:
                    del interrupt  # its traceback would keep this frame alive, and that the data
        return self

    def _check_data(self, data: Mapping[str, Any], *, reset: bool, classes: Any) -> FitData:
        """Check all data of a fit, and learn what the target is like."""
        return check_fit_data(self, data, reset=reset, classes=classes)

    # -------------------------------------------------------------- prediction

    def _outputs(self, X: Any) -> torch.Tensor:
        """Return the module's outputs for inputs as a user gives them."""
        return predict_model(self, X)

    def _checked_inputs(self, X: Any) -> Any:
        own = not getattr(self.model_.module_, "follows_input_dtype", False)
        return check_X(self, X, own_module=own, reset=False)

    def _given_targets(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, Any]:
        """Return targets and weights; those that X holds, if it is a dataset or loader."""
        if not is_loader(X):
            return y, sample_weight
        if y is not None:
            raise ParameterError(
                f"X is a {type(X).__name__}, which holds the targets itself. Leave out y."
            )
        return targets_of(self, X)

    def forward(self, X: Any) -> Any:
        """Return what the module returns, untouched: all outputs of one with several heads.

        Parameters
        ----------
        X : inputs of n samples, as in `fit`
            Inputs.

        Returns
        -------
        torch.Tensor of shape (n, ...), or a tuple or dict of them
            The module's outputs in eval mode, on the CPU, without a graph.
        """
        return forward_model(self, X)

    def plot_history(self, **plot: Any) -> HistoryDisplay:
        """Draw losses, metrics and learning rate over the epochs.

        Parameters
        ----------
        **plot : dict
            Arguments of `HistoryDisplay.plot`: ``columns``, ``ax``, ``log_scale``, ...

        Returns
        -------
        HistoryDisplay
            What was drawn, with its matplotlib ``figure_`` and ``axes_``.
        """
        return HistoryDisplay.from_estimator(self, **plot)

    # ------------------------------------------------------- fitted attributes

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn what data are taken."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = self._is_built_in()
        return tags

    def _is_built_in(self) -> bool:
        """Whether the module is one that takes columns: holes in them are filled for it."""
        try:
            return self.module is None or follows_input_dtype(self.module)
        except ParameterError:
            return False  # garbage waits for fit

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is a trained model."""
        return "model_" in vars(self)

    @property
    def history_(self) -> pd.DataFrame:
        """The records of all epochs, one row an epoch."""
        return history_frame(self._fitted_model("history_").history_)

    @property
    def loss_curve_(self) -> list[float]:
        """The mean training loss of each epoch."""
        records = self._fitted_model("loss_curve_").history_
        return [record["train_loss"] for record in records if "train_loss" in record]

    @property
    def n_iter_(self) -> int:
        """The number of epochs trained."""
        return self._fitted_model("n_iter_").n_epochs_

    def _fitted_model(self, name: str) -> Any:
        if "model_" not in vars(self):
            raise AttributeError(
                f"This {type(self).__name__} is not fitted yet, so it has no {name}. Call fit."
            )
        return self.model_

    # ------------------------------------------------------------- parameters

    def _parts(self, component: str, said: Mapping[str, Any]) -> dict[str, Any] | None:
        if component != "callbacks":
            return None
        try:
            prefix = "callbacks__"
            replaced = {k.removeprefix(prefix): v for k, v in said.items() if k.startswith(prefix)}
            return named_callbacks(self.callbacks, replaced)
        except ParameterError:
            # garbage waits for fit, as scikit-learn wants it
            return None

    def _takes(self, component: str) -> Callable[..., Any] | None:
        return None if component == "callbacks" else constructor(self, component)

    def _sk_visual_block_(self) -> Any:
        """Show the callbacks in the HTML diagram, in the order in which they run."""
        # scikit-learn has no public name for this; without it there is a plain block
        from sklearn.utils._repr_html.estimator import _VisualBlock

        callbacks = build_callbacks(self.callbacks, self._said_to("callbacks"))
        if not callbacks:
            name = type(self).__name__
            return _VisualBlock("single", self, names=name, name_details=str(self))
        callbacks = in_order(callbacks)
        return _VisualBlock(
            "parallel",
            list(callbacks.values()),
            names=list(callbacks),
            name_details=[str(callback) for callback in callbacks.values()],
        )
