"""One of each built-in callback, ready for a small classifier."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from skorchlike import NeuralNetClassifier, get_callback

N, SIDE = 48, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, SIDE * SIDE)).astype(np.float32)
IMAGES = X.reshape(N, 1, SIDE, SIDE)
Y = np.arange(N) % 3
ON_IMAGES = ("channels_last", "cutmix")


def look(*args):
    """Do nothing: a hook."""


class FreshFolder:
    """Another folder for each fit: TensorBoard waits where two fits of a second share one."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, ctx):
        return tempfile.mkdtemp(dir=self.folder)


def make(name, folder):
    """Return a callback by its registered name; files go into the folder."""
    folder = Path(folder)
    params = {
        "batch_transform": {"transform": torch.tanh},
        "checkpoint": {"path": FreshFolder(folder)},
        "compile": {"backend": "eager"},
        "csv_logger": {"path": folder / "log.csv"},
        "ema": {"decay": 0.5},
        "freeze": {"patterns": "*.bias"},
        "hooks": {"forward": look, "backward": look, "when": "both"},
        "lr_finder": {"n_steps": 5},
        "metrics": {"metrics": ["neg_log_loss", "roc_auc_ovr"], "on": "both"},
        "mlflow": {"tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"},
        "nan_guard": {},
        "swa": {"start": 1},
        "tensorboard": {"log_dir": FreshFolder(folder)},
        "time_limit": {"seconds": 3600},
        "unfreeze": {"starting": "*.bias", "schedule": {2: "*"}},
    }
    return get_callback(name, **params.get(name, {}))


def make_estimator(name, **params):
    """Return an estimator that suits the callback: of images where it needs them."""
    if name in ON_IMAGES:
        torch.manual_seed(0)
        module = torch.nn.Sequential(
            torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 3)
        )
    else:
        module = None
        params = {"module__hidden_layer_sizes": (4,), **params}
    params = {
        "lr": 0.01,
        "max_epochs": 2,
        "batch_size": 10,
        "validation_fraction": 0.25,
        "random_state": 0,
        **params,
    }
    return NeuralNetClassifier(module, **params)


def data_for(name):
    """Return the inputs that suit the callback, and labels."""
    return (IMAGES if name in ON_IMAGES else X), Y
