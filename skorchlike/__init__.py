"""PyTorch for scikit-learn users: estimators whose `fit` is an open, staged training loop."""

from skorchlike.callbacks import (
    Callback,
    EarlyStopping,
    PrintLog,
    Progress,
    get_callback,
    list_callbacks,
    make_callback,
    register_callback,
)
from skorchlike.classifier import NeuralNetClassifier
from skorchlike.exceptions import (
    CallbackDefinitionError,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    DeadContextError,
    ParameterError,
    StageError,
)
from skorchlike.model import TrainedModel
from skorchlike.regressor import NeuralNetRegressor
from skorchlike.training.context import Context

__version__ = "0.1.0"

__all__ = [
    "Callback",
    "CallbackDefinitionError",
    "CancelBatchException",
    "CancelEpochException",
    "CancelFitException",
    "Context",
    "DeadContextError",
    "EarlyStopping",
    "NeuralNetClassifier",
    "NeuralNetRegressor",
    "ParameterError",
    "PrintLog",
    "Progress",
    "StageError",
    "TrainedModel",
    "get_callback",
    "list_callbacks",
    "make_callback",
    "register_callback",
]
