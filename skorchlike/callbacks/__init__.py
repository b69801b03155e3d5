"""Callbacks: the base class, the registry, and the built-in ones, imported when they are used."""

from typing import TYPE_CHECKING

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.functional import make_callback
from skorchlike.callbacks.registry import BUILT_IN, get_callback, list_callbacks, register_callback
from skorchlike.lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from skorchlike.callbacks.accelerate import Accelerate
    from skorchlike.callbacks.activation_stats import ActivationStats
    from skorchlike.callbacks.batch_transform import BatchTransform
    from skorchlike.callbacks.channels_last import ChannelsLast
    from skorchlike.callbacks.checkpoint import Checkpoint
    from skorchlike.callbacks.compile import Compile
    from skorchlike.callbacks.csv_logger import CSVLogger
    from skorchlike.callbacks.early_stopping import EarlyStopping
    from skorchlike.callbacks.freezing import Freeze, Unfreeze
    from skorchlike.callbacks.gradient_accumulation import GradientAccumulation
    from skorchlike.callbacks.gradient_clipping import GradientClipping
    from skorchlike.callbacks.hooks import Hooks
    from skorchlike.callbacks.live_plot import LivePlot
    from skorchlike.callbacks.lr_finder import LRFinder
    from skorchlike.callbacks.lr_scheduler import LRScheduler
    from skorchlike.callbacks.metrics import Metrics
    from skorchlike.callbacks.mixed_precision import MixedPrecision
    from skorchlike.callbacks.mixing import CutMix, Mixup
    from skorchlike.callbacks.mlflow import MLflow
    from skorchlike.callbacks.nan_guard import NaNGuard
    from skorchlike.callbacks.param_scheduler import ParamScheduler
    from skorchlike.callbacks.print_log import PrintLog
    from skorchlike.callbacks.profile import Profile
    from skorchlike.callbacks.progress import Progress
    from skorchlike.callbacks.single import SingleBatch, SingleEpoch
    from skorchlike.callbacks.summary import Summary
    from skorchlike.callbacks.tensorboard import TensorBoard
    from skorchlike.callbacks.time_limit import TimeLimit
    from skorchlike.callbacks.weight_averaging import EMA, SWA

__all__ = [
    "EMA",
    "SWA",
    "Accelerate",
    "ActivationStats",
    "BatchTransform",
    "CSVLogger",
    "Callback",
    "ChannelsLast",
    "Checkpoint",
    "Compile",
    "CutMix",
    "EarlyStopping",
    "Freeze",
    "GradientAccumulation",
    "GradientClipping",
    "Hooks",
    "LRFinder",
    "LRScheduler",
    "LivePlot",
    "MLflow",
    "Metrics",
    "MixedPrecision",
    "Mixup",
    "NaNGuard",
    "ParamScheduler",
    "PrintLog",
    "Profile",
    "Progress",
    "SingleBatch",
    "SingleEpoch",
    "Summary",
    "TensorBoard",
    "TimeLimit",
    "Unfreeze",
    "get_callback",
    "list_callbacks",
    "make_callback",
    "register_callback",
]

if not TYPE_CHECKING:
    _HOMES = (path.split(".") for path in BUILT_IN.values())
    __getattr__, __dir__ = _lazy_names(__name__, {cls: file for file, cls in _HOMES})
