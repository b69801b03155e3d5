"""Searches over the parameters of built-in callbacks, and over whether to have them at all."""

import numpy as np
import pytest
from callbacks.built_in import X, Y, data_for, make, make_estimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

GRIDS = {
    "batch_transform": {"on": ["train", "both"]},
    "cutmix": {"alpha": [0.2, 1.0]},
    "early_stopping": {"patience": [1, 3]},
    "ema": {"decay": [0.2, 0.5]},
    "freeze": {"patterns": ["*.bias", "0.*"]},
    "gradient_accumulation": {"n_batches": [1, 3]},
    "gradient_clipping": {"max_norm": [0.01, 1.0]},
    "lr_scheduler": {"policy": ["cosine", "one_cycle"], "unit": ["batch"]},
    "metrics": {"metrics": ["neg_log_loss", "accuracy"]},
    "mixed_precision": {"dtype": ["bfloat16", "float16"]},
    "mixup": {"alpha": [0.2, 1.0]},
    "nan_guard": {"every": [1, 2]},
    "param_scheduler": {"param": ["lr", "weight_decay"], "shape": ["linear"], "unit": ["epoch"]},
    "single_batch": {"n_batches": [1, 2]},
    "swa": {"start": [1, 2]},
    "unfreeze": {"unit": ["epoch", "batch"]},
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_search_over_the_parameters_of_a_callback_is_each_candidate_fitted(name, tmp_path):
    inputs, y = data_for(name)
    grid = {f"callbacks__{name}__{key}": values for key, values in GRIDS[name].items()}
    net = make_estimator(name, callbacks=[make(name, tmp_path)], dtype="float32", max_epochs=3)
    search = GridSearchCV(net, grid, cv=2, scoring="neg_log_loss", refit=False)
    search.fit(inputs, y)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    for params, score in zip(search.cv_results_["params"], scores, strict=True):
        one = GridSearchCV(net, {k: [v] for k, v in params.items()}, cv=2, scoring="neg_log_loss")
        assert one.fit(inputs, y).best_score_ == score


def test_a_search_in_two_processes_over_many_callbacks_at_once_equals_one_process(tmp_path):
    names = ["gradient_clipping", "gradient_accumulation", "lr_scheduler", "ema", "mixup"]
    net = make_estimator("ema", callbacks={name: make(name, tmp_path) for name in names})
    pipe = make_pipeline(StandardScaler(), net)
    prefix = "neuralnetclassifier__callbacks"
    grid = [
        {f"{prefix}__gradient_clipping__max_norm": [0.1, 1.0], f"{prefix}__ema__decay": [0.5]},
        {
            f"{prefix}__lr_scheduler__policy": ["step"],
            f"{prefix}__lr_scheduler__policy__step_size": [1, 2],
        },
        {f"{prefix}__mixup": [None, "passthrough"]},
    ]
    scores = [
        GridSearchCV(pipe, grid, cv=2, n_jobs=n_jobs).fit(X, Y).cv_results_["mean_test_score"]
        for n_jobs in (1, 2)
    ]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("name", [name for name in GRIDS if name not in ("single_batch",)])
def test_a_search_can_drop_a_callback(name, tmp_path):
    inputs, y = data_for(name)
    net = make_estimator(name, dtype="float32")
    with_it = make_estimator(name, callbacks={"it": make(name, tmp_path)}, dtype="float32")
    search = GridSearchCV(with_it, {"callbacks__it": [None]}, cv=2, scoring="neg_log_loss")
    plain = GridSearchCV(net, {"lr": [net.lr]}, cv=2, scoring="neg_log_loss")
    assert search.fit(inputs, y).best_score_ == plain.fit(inputs, y).best_score_
    assert "it" not in search.best_estimator_.model_.callbacks_
