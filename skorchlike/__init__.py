"""PyTorch for scikit-learn users: estimators whose `fit` is an open, staged training loop."""

from typing import TYPE_CHECKING

from skorchlike.callbacks import (
    Callback,
    get_callback,
    list_callbacks,
    make_callback,
    register_callback,
)
from skorchlike.callbacks.registry import BUILT_IN as _BUILT_IN
from skorchlike.classifier import NeuralNetClassifier
from skorchlike.exceptions import (
    CallbackDefinitionError,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    CheckpointError,
    DamagedFileError,
    DeadContextError,
    FormatError,
    ParameterError,
    StageError,
    UntrustedError,
)
from skorchlike.lazy import lazy_names as _lazy_names
from skorchlike.model import TrainedModel
from skorchlike.model.display import HistoryDisplay
from skorchlike.model.persistence import load, load_weights, save, save_weights
from skorchlike.regressor import NeuralNetRegressor
from skorchlike.training.context import Context
from skorchlike.training.interrupts import SigtermInterrupt

if TYPE_CHECKING:
    from skorchlike.callbacks import (
        EMA,
        SWA,
        Accelerate,
        ActivationStats,
        BatchTransform,
        ChannelsLast,
        Checkpoint,
        Compile,
        CSVLogger,
        CutMix,
        EarlyStopping,
        Freeze,
        GradientAccumulation,
        GradientClipping,
        Hooks,
        LivePlot,
        LRFinder,
        LRScheduler,
        Metrics,
        MixedPrecision,
        Mixup,
        MLflow,
        NaNGuard,
        ParamScheduler,
        PrintLog,
        Profile,
        Progress,
        SingleBatch,
        SingleEpoch,
        Summary,
        TensorBoard,
        TimeLimit,
        Unfreeze,
    )
    from skorchlike.data.sequences import PadCollate, pad_sequences
    from skorchlike.inspection.conformance import check_callback
    from skorchlike.inspection.explaining import explain
    from skorchlike.inspection.lr_finding import lr_find
    from skorchlike.inspection.summary import summary
    from skorchlike.recipes import recipe

__version__ = "0.1.0"

__all__ = [
    "EMA",
    "SWA",
    "Accelerate",
    "ActivationStats",
    "BatchTransform",
    "CSVLogger",
    "Callback",
    "CallbackDefinitionError",
    "CancelBatchException",
    "CancelEpochException",
    "CancelFitException",
    "ChannelsLast",
    "Checkpoint",
    "CheckpointError",
    "Compile",
    "Context",
    "CutMix",
    "DamagedFileError",
    "DeadContextError",
    "EarlyStopping",
    "FormatError",
    "Freeze",
    "GradientAccumulation",
    "GradientClipping",
    "HistoryDisplay",
    "Hooks",
    "LRFinder",
    "LRScheduler",
    "LivePlot",
    "MLflow",
    "Metrics",
    "MixedPrecision",
    "Mixup",
    "NaNGuard",
    "NeuralNetClassifier",
    "NeuralNetRegressor",
    "PadCollate",
    "ParamScheduler",
    "ParameterError",
    "PrintLog",
    "Profile",
    "Progress",
    "SigtermInterrupt",
    "SingleBatch",
    "SingleEpoch",
    "StageError",
    "Summary",
    "TensorBoard",
    "TimeLimit",
    "TrainedModel",
    "Unfreeze",
    "UntrustedError",
    "check_callback",
    "explain",
    "get_callback",
    "list_callbacks",
    "load",
    "load_weights",
    "lr_find",
    "make_callback",
    "pad_sequences",
    "recipe",
    "register_callback",
    "save",
    "save_weights",
    "summary",
]

if not TYPE_CHECKING:
    # what a plain fit does not need: a third of the time that the package takes to import
    __getattr__, __dir__ = _lazy_names(
        __name__,
        {
            **{path.partition(".")[2]: "callbacks" for path in _BUILT_IN.values()},
            "PadCollate": "data.sequences",
            "check_callback": "inspection.conformance",
            "explain": "inspection.explaining",
            "lr_find": "inspection.lr_finding",
            "pad_sequences": "data.sequences",
            "recipe": "recipes",
            "summary": "inspection.summary",
        },
    )
