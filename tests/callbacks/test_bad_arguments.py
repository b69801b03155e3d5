"""Bad arguments of every built-in: an error before training that names the argument."""

import numpy as np
import pytest
import torch
from callbacks.built_in import data_for, make, make_estimator

from skorchlike import Callback, NeuralNetClassifier, get_callback, list_callbacks
from skorchlike.callbacks.registry import callback_class

NAN = float("nan")

# registered name → (arguments, what the error must name beside the class)
BAD = {
    "accelerate": [
        ({"mixed_precision": "fp7"}, "mixed_precision"),
        ({"mixed_precision": 16}, "mixed_precision"),
        ({"mixed_precision": True}, "mixed_precision"),
    ],
    "activation_stats": [
        ({"patterns": 3}, "patterns"),
        ({"every": 0}, "every"),
        ({"n_bins": 1.5}, "n_bins"),
        ({"dead_threshold": -1}, "dead_threshold"),
        ({"max_records": 0}, "max_records"),
    ],
    "batch_transform": [
        ({"transform": 3}, "transform"),
        ({"transform": torch.tanh, "on": "test"}, "on"),
        ({"transform": torch.tanh, "with_target": 2}, "with_target"),
    ],
    "checkpoint": [
        ({"path": 3}, "path"),
        ({"path": ""}, "path"),
        ({"path": "never/{epoch}"}, "{fingerprint}"),
        ({"path": "never", "every": 0}, "every"),
        ({"path": "never", "unit": "step"}, "unit"),
        ({"path": "never", "keep": 0}, "keep"),
        ({"path": "never", "monitor": "valid_los"}, "'valid_loss'"),
    ],
    "compile": [
        ({"what": "all"}, "what"),
        ({"backend": 3}, "backend"),
        ({"backend": "inductr"}, "backend"),
        ({"dynamic": "yes"}, "dynamic"),
        ({"fullgraph": "yes"}, "fullgraph"),
    ],
    "csv_logger": [
        ({"path": 3}, "path"),
        ({"path": None}, "path"),
        ({"path": "."}, "path"),
    ],
    "cutmix": [({"alpha": 0}, "alpha"), ({"alpha": -1}, "alpha"), ({"alpha": "1"}, "alpha")],
    "early_stopping": [
        ({"patience": -1}, "patience"),
        ({"mode": "low"}, "mode"),
        ({"monitor": "valid_los"}, "'valid_loss'"),
    ],
    "ema": [
        ({"decay": 1}, "decay"),
        ({"decay": -0.1}, "decay"),
        ({"start": 0}, "start"),
        ({"start": 1.5}, "start"),
    ],
    "freeze": [
        ({"patterns": 3}, "patterns"),
        ({"patterns": None}, "patterns"),
        ({"patterns": [1]}, "patterns"),
        ({"patterns": "*"}, "patterns"),
    ],
    "gradient_accumulation": [
        ({"n_batches": 0}, "n_batches"),
        ({"n_batches": 2.5}, "n_batches"),
        ({"n_batches": "2"}, "n_batches"),
    ],
    "gradient_clipping": [
        ({"max_norm": 0}, "max_norm"),
        ({"max_norm": NAN}, "max_norm"),
        ({"norm_type": "two"}, "norm_type"),
        ({"clip_value": -1}, "clip_value"),
    ],
    "hooks": [
        ({"forward": print, "patterns": 3}, "patterns"),
        ({"forward": 3}, "forward"),
        ({"backward": "print"}, "backward"),
        ({"forward": print, "when": "test"}, "when"),
    ],
    "live_plot": [
        ({"columns": 3}, "columns"),
        ({"every": 0}, "every"),
        ({"min_interval": -1}, "min_interval"),
        ({"path": 3}, "path"),
    ],
    "lr_finder": [
        ({"start_lr": 0}, "start_lr"),
        ({"start_lr": 1.0, "end_lr": 0.1}, "end_lr"),
        ({"n_steps": 1}, "n_steps"),
        ({"mode": "log"}, "mode"),
        ({"stop_factor": 0.5}, "stop_factor"),
        ({"smoothing": 1.0}, "smoothing"),
    ],
    "lr_scheduler": [
        ({"policy": "cosin"}, "policy"),
        ({"policy": 3}, "policy"),
        ({"policy": torch.optim.SGD}, "policy"),
        ({"policy": "step"}, "policy__step_size"),
        ({"policy": "step", "policy__gama": 1}, "policy__gama"),
        ({"unit": "step"}, "unit"),
        ({"warmup": -1}, "warmup"),
        ({"warmup": 2}, "warmup"),
        ({"policy": "plateau", "monitor": "valid_los"}, "'valid_loss'"),
        ({"policy": "plateau", "unit": "batch"}, "unit"),
    ],
    "metrics": [
        ({"metrics": None}, "metrics"),
        ({"metrics": "acuracy"}, "'accuracy'"),
        ({"metrics": ["accuracy", "accuracy"]}, "metrics"),
        ({"metrics": []}, "metrics"),
        ({"metrics": "accuracy", "on": "test"}, "on"),
        ({"metrics": "accuracy", "max_rows": 0}, "max_rows"),
    ],
    "mixed_precision": [
        ({"dtype": "float8"}, "dtype"),
        ({"dtype": torch.float64}, "dtype"),
        ({"dtype": "float16", "init_scale": 0}, "init_scale"),
        ({"dtype": "float16", "growth_interval": 0}, "growth_interval"),
    ],
    "mixup": [({"alpha": 0}, "alpha"), ({"alpha": NAN}, "alpha"), ({"alpha": None}, "alpha")],
    "mlflow": [
        ({"tracking_uri": 3}, "tracking_uri"),
        ({"experiment": 3}, "experiment"),
        ({"run_name": 3}, "run_name"),
        ({"log_params": "yes"}, "log_params"),
    ],
    "nan_guard": [
        ({"action": "ignore"}, "action"),
        ({"every": 0}, "every"),
        ({"check_gradients": "yes"}, "check_gradients"),
    ],
    "print_log": [({"sink": 3}, "sink"), ({"digits": 0}, "digits"), ({"digits": 2.5}, "digits")],
    "profile": [
        ({"trace": 3}, "trace"),
        ({"trace_steps": 0}, "trace_steps"),
        ({"synchronize": "yes"}, "synchronize"),
    ],
    "progress": [
        ({"batches": "yes"}, "batches"),
        ({"delay": -1}, "delay"),
        ({"min_interval": NAN}, "min_interval"),
    ],
    "param_scheduler": [
        ({"param": 3}, "param"),
        ({"param": "momentum"}, "param"),
        ({"param": "*.rate"}, "param"),
        ({"shape": "cosin"}, "shape"),
        ({"unit": "step"}, "unit"),
    ],
    "single_batch": [
        ({"n_batches": 0}, "n_batches"),
        ({"n_batches": 1.5}, "n_batches"),
        ({"n_batches": None}, "n_batches"),
    ],
    "single_epoch": [
        ({"n_epochs": 0}, "n_epochs"),
        ({"n_epochs": 1.5}, "n_epochs"),
        ({"n_epochs": "1"}, "n_epochs"),
    ],
    "summary": [({"depth": -1}, "depth"), ({"depth": 1.5}, "depth"), ({"depth": "all"}, "depth")],
    "swa": [
        ({"start": 0}, "start"),
        ({"start": 1, "lr": 0}, "lr"),
        ({"start": 1, "anneal_epochs": -1}, "anneal_epochs"),
        ({"start": 1, "anneal": "step"}, "anneal"),
    ],
    "tensorboard": [
        ({"log_dir": 3}, "log_dir"),
        ({"unit": "step"}, "unit"),
        ({"every": 0}, "every"),
        ({"histograms": 3}, "histograms"),
    ],
    "time_limit": [
        ({"seconds": -1}, "seconds"),
        ({"seconds": "1 h"}, "seconds"),
        ({"seconds": 1, "when": "step"}, "when"),
    ],
    "unfreeze": [
        ({"starting": 3, "schedule": {1: "*"}}, "starting"),
        ({"starting": "*", "schedule": {0: "*"}}, "schedule"),
        ({"starting": "*", "schedule": {1: 3}}, "schedule"),
        ({"starting": "*", "schedule": "all"}, "schedule"),
        ({"starting": "*", "schedule": {1: "*"}, "unit": "step"}, "unit"),
    ],
}
CASES = [
    pytest.param(name, params, word, id=f"{name}-{i}")
    for name, cases in BAD.items()
    for i, (params, word) in enumerate(cases)
]


class Count(Callback):
    """Counts the batches that began, over all clones."""

    order = -1000
    n_batches = 0

    def on_batch_begin(self, ctx):
        type(self).n_batches += 1


@pytest.mark.parametrize(("name", "params", "word"), CASES)
def test_a_bad_argument_is_an_error_before_training_that_names_it(name, params, word, tmp_path):
    Count.n_batches = 0
    X, y = data_for(name)
    callbacks = {"it": make(name, tmp_path), "count": Count()}
    said = {f"callbacks__it__{key}": value for key, value in params.items()}
    net = make_estimator(name, callbacks=callbacks, dtype="float32")
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        net.set_params(**said).fit(X, y)
    message = str(caught.value)
    assert word in message
    assert Count.n_batches == 0
    assert callback_class(name).__name__ in message or word.startswith("policy__")


# channels_last has no parameters: what it cannot take are other inputs
@pytest.mark.parametrize("shape", [(48, 16), (48, 4, 4), (48, 1, 2, 2, 2, 2)])
def test_inputs_that_are_no_images_are_an_error_of_channels_last(shape):
    X = np.zeros(shape, dtype=np.float32)
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    params = {"max_epochs": 1, "random_state": 0}
    net = NeuralNetClassifier(module, callbacks=["channels_last"], **params)
    with pytest.raises(ValueError, match=r"ChannelsLast.*\(n, c"):
        net.fit(X, np.arange(48) % 3)


def test_every_built_in_has_at_least_three_cases():
    names = set(list_callbacks()) - {"channels_last"}
    assert {name for name, cases in BAD.items() if len(cases) >= 3} >= names


def test_an_unknown_parameter_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'max_norm'"):
        get_callback("gradient_clipping", max_nrm=1)
