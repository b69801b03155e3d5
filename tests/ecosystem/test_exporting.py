"""Fitted models leave the process: ONNX, cloudpickle, joblib, skops."""

import subprocess
import sys

import cloudpickle
import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skorchlike import NeuralNetClassifier

X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32)


class TwoLayers(torch.nn.Module):
    def __init__(self, n_features_in, n_outputs, n_units=16):
        super().__init__()
        self.hidden = torch.nn.Linear(n_features_in, n_units)
        self.out = torch.nn.Linear(n_units, n_outputs)

    def forward(self, X):
        return self.out(torch.relu(self.hidden(X)))


class Probabilities(torch.nn.Module):
    """Scaling, module and softmax as one."""

    def __init__(self, scaler, module):
        super().__init__()
        self.register_buffer("mean", torch.tensor(scaler.mean_, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scaler.scale_, dtype=torch.float32))
        self.module = module

    def forward(self, X):
        return self.module((X - self.mean) / self.scale).softmax(1)


def net(**params):
    return NeuralNetClassifier(**{"max_epochs": 10, "lr": 0.01, "random_state": 0, **params})


def run_onnx(module, path, X):
    """Export a module, and return what onnxruntime computes from the file."""
    import onnxruntime

    rows = torch.export.Dim("rows")
    torch.onnx.export(
        module.eval(),
        (torch.zeros(2, X.shape[1], dtype=torch.as_tensor(X).dtype),),
        path,
        input_names=["X"],
        dynamic_shapes=({0: rows},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"X": X})[0]


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # within torch.onnx.export
@pytest.mark.filterwarnings("ignore::DeprecationWarning:onnxscript")
def test_a_scaler_and_the_net_are_exported_as_one(tmp_path):
    pipe = make_pipeline(StandardScaler(), net(module=TwoLayers)).fit(X, Y)
    whole = Probabilities(pipe[0], pipe[-1].model_.module_)
    probabilities = run_onnx(whole, tmp_path / "pipe.onnx", X)
    np.testing.assert_allclose(probabilities, pipe.predict_proba(X), atol=1e-5)
    assert np.array_equal(probabilities.argmax(1), pipe.predict(X))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # within torch.onnx.export
@pytest.mark.filterwarnings("ignore::DeprecationWarning:onnxscript")
def test_the_preparation_of_a_built_in_module_is_exported_with_it(tmp_path):
    with_holes = X.copy()
    with_holes[::7, 1] = np.nan
    est = net(numeric_transform="robust").fit(with_holes, Y)
    whole = torch.nn.Sequential(
        est.model_.preparation_, est.model_.module_, torch.nn.Softmax(dim=1)
    )
    probabilities = run_onnx(whole, tmp_path / "net.onnx", with_holes)
    np.testing.assert_allclose(probabilities, est.predict_proba(with_holes), atol=1e-5)


class OfTwoInputs(torch.nn.Module):
    """What a net makes of the numbers and codes of a frame."""

    def __init__(self, model):
        super().__init__()
        self.preparation, self.module = model.preparation_, model.module_

    def forward(self, numeric, categorical):
        inputs = self.preparation({"numeric": numeric, "categorical": categorical})
        return self.module(**inputs).softmax(1)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # within torch.onnx.export
@pytest.mark.filterwarnings("ignore::DeprecationWarning:onnxscript")
def test_a_net_of_a_mixed_frame_is_exported_behind_the_encoding(tmp_path):
    import onnxruntime

    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": np.where(X[:, 2] > 3, "x", "z")})
    frame.loc[::9, "a"] = np.nan
    frame.loc[::8, "c"] = None
    est = net().fit(frame, Y)
    inputs = est.model_.inputs_.encode(frame)
    torch.onnx.export(
        OfTwoInputs(est.model_).eval(),
        (),
        tmp_path / "net.onnx",
        kwargs={name: torch.as_tensor(values[:2]) for name, values in inputs.items()},
        dynamic_shapes={name: {0: torch.export.Dim.DYNAMIC} for name in inputs},
        verbose=False,
    )
    session = onnxruntime.InferenceSession(
        tmp_path / "net.onnx", providers=["CPUExecutionProvider"]
    )
    probabilities = session.run(None, inputs)[0]
    np.testing.assert_allclose(probabilities, est.predict_proba(frame), atol=1e-5)


def test_a_net_with_a_module_from_a_notebook_is_read_elsewhere(tmp_path):
    class Local(torch.nn.Module):  # not importable: plain pickle would refuse it
        def __init__(self, n_features_in, n_outputs):
            super().__init__()
            self.linear = torch.nn.Linear(n_features_in, n_outputs)

        def forward(self, X):
            return self.linear(X).double()

    pipe = make_pipeline(StandardScaler(), net(module=Local)).fit(X, Y)
    (tmp_path / "pipe.pkl").write_bytes(cloudpickle.dumps(pipe))
    np.save(tmp_path / "X.npy", X)
    code = (
        "import pickle, sys, numpy as np, torch; torch.set_num_threads(1)\n"
        "pipe = pickle.load(open('pipe.pkl', 'rb'))\n"
        "np.save('p.npy', pipe.predict_proba(np.load('X.npy')))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert np.array_equal(np.load(tmp_path / "p.npy"), pipe.predict_proba(X))


def test_joblib_files_hold_the_fitted_pipeline(tmp_path):
    pipe = make_pipeline(StandardScaler(), net()).fit(X, Y)
    joblib.dump(pipe, tmp_path / "pipe.joblib", compress=3)
    again = joblib.load(tmp_path / "pipe.joblib")
    assert np.array_equal(again.predict_proba(X), pipe.predict_proba(X))
    assert again[-1].history_.equals(pipe[-1].history_)


def test_skops_keeps_the_parameters_that_reproduce_a_fit():
    said = {
        "module__hidden_layer_sizes": (8,),
        "optimizer": "sgd",
        "callbacks": ["gradient_clipping"],
    }
    pipe = make_pipeline(StandardScaler(), net(**said))
    data = skops.io.dumps(pipe)
    unknown = skops.io.get_untrusted_types(data=data)
    assert unknown == ["skorchlike.classifier.NeuralNetClassifier"]
    again = skops.io.loads(data, trusted=unknown)
    assert str(again[-1].get_params()) == str(pipe[-1].get_params())
    expected = pipe.fit(X, Y).predict_proba(X)
    assert np.array_equal(again.fit(X, Y).predict_proba(X), expected)


def test_skops_cannot_write_a_trained_module():
    est = net().fit(X, Y)
    with pytest.raises(RuntimeError, match="TensorBase"):
        skops.io.dumps(est)
