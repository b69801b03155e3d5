"""Predictions: the short way for plain inputs gives what the general way gives, in few calls."""

from __future__ import annotations

import itertools
import sys
import threading
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from torch import nn

from skorchlike import (
    Callback,
    CancelFitException,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
    StageError,
    predicting,
)
from skorchlike.predicting import AllOutputs, JoinedRows, MainOutputs
from skorchlike.training.actions import DefaultActions

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 5))
Y, NUMBERS = rng.integers(0, 3, 300), 3 * X[:, 0] + 1
HOLES = X.copy()
HOLES[::7, 2] = np.nan


class Own(nn.Module):
    def __init__(self, n_features_in, n_outputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features_in, 19),
            nn.BatchNorm1d(19),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(19, n_outputs),
        )

    def forward(self, X):
        return self.layers(X)


class WritesToItsInput(Own):
    def forward(self, X):
        return super().forward(X.mul_(2))


class FailsInEvalMode(Own):
    error: type[BaseException] = OSError

    def forward(self, X):
        if not self.training:
            raise self.error("out of order")
        return super().forward(X)


class Scaled(Callback):
    def on_batch_predict_end(self, ctx):
        ctx.y_pred = 2 * ctx.y_pred + ctx.index[:, None]


class ReplacesPredict(NeuralNetClassifier):
    def do_predict(self, ctx):
        super().do_predict(ctx)
        ctx.y_pred = 3 * ctx.y_pred


NETS = {
    "own": lambda: NeuralNetClassifier(Own),
    "own, in float64": lambda: NeuralNetClassifier(Own, dtype="float64"),
    "own, standardized": lambda: NeuralNetClassifier(Own, numeric_transform="standard"),
    "own, writes to its input": lambda: NeuralNetClassifier(WritesToItsInput),
    "built-in": NeuralNetClassifier,
    "robust": lambda: NeuralNetClassifier(numeric_transform="robust"),
    "quantile": lambda: NeuralNetClassifier(numeric_transform="quantile"),
    "sigmoid": lambda: NeuralNetClassifier(criterion="bce_with_logits"),
    "callback": lambda: NeuralNetClassifier(callbacks=[Scaled()]),
    "idle callback": lambda: NeuralNetClassifier(callbacks=["gradient_clipping"]),
    "subclass": ReplacesPredict,
}


def fit(net, inputs=X, y=Y):
    return net.set_params(max_epochs=1, random_state=0).fit(inputs, y)


@cache
def fitted(name):
    if name == "numbers":
        return fit(NeuralNetRegressor(), y=NUMBERS)
    if name == "holes":
        return fit(NeuralNetClassifier(), HOLES)
    if name == "frame":
        return fit(NeuralNetClassifier(), pd.DataFrame(X, columns=list("abcde")))
    return fit(NETS[name]())


def general_way(monkeypatch):
    monkeypatch.setattr(predicting, "plain_tensor", lambda estimator, X: None)
    monkeypatch.setattr(predicting, "has_default_predict", lambda estimator: False)


def outcome(net, method, inputs):
    """Return what a method returned or raised, and what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = getattr(net, method)(inputs)
        except Exception as error:
            result = (type(error), str(error), getattr(error, "__notes__", None))
        else:
            result = np.asarray(result)
            result = (result.dtype, result.shape, result.tobytes())
    return result, [(w.category, str(w.message)) for w in caught]


def methods_of(net):
    regressor = isinstance(net, NeuralNetRegressor)
    return ["predict", "forward", *([] if regressor else ["predict_proba", "decision_function"])]


def in_layout(array, layout):
    if layout == "Fortran":
        return np.asfortranarray(array)
    if layout == "reversed":
        return array[::-1]
    if layout == "tensor":
        return torch.from_numpy(array)
    array = array.copy()
    array.flags.writeable = layout != "read-only"
    return array


@settings(max_examples=120, deadline=None)
@given(
    name=st.sampled_from([*NETS, "numbers", "holes", "frame"]),
    n=st.integers(1, 40),
    dtype=st.sampled_from([np.float32, np.float64]),
    layout=st.sampled_from(["C", "Fortran", "reversed", "tensor", "read-only"]),
    size=st.sampled_from(["auto", -1, 1, 7, 1000]),
    holes=st.booleans(),
    data=st.data(),
)
def test_the_short_way_gives_what_the_general_way_gives(name, n, dtype, layout, size, holes, data):
    net = fitted(name)
    method = data.draw(st.sampled_from(methods_of(net)))
    inputs = in_layout((HOLES if holes else X)[:n].astype(dtype), layout)
    net.predict_batch_size = size
    with pytest.MonkeyPatch.context() as monkeypatch:
        general_way(monkeypatch)
        expected = outcome(net, method, inputs)
    assert outcome(net, method, inputs) == expected


OTHERS = {
    "list": X[:3].tolist(),
    "integers": (3 * X).astype(int),
    "wide": np.c_[X, X],
    "one row as a vector": X[0],
    "three dimensions": X[:, :, None],
    "no rows": X[:0],
    "infinity": np.where(np.arange(300)[:, None] == 250, np.inf, X),
    "too large for float32": np.where(np.arange(300)[:, None] == 250, 1e200, X),
    "too large for a sum": np.full((4, 5), 3e38, np.float32),
    "complex": X + 1j,
    "other byte order": X.astype(">f8"),
    "frame": pd.DataFrame(X),
    "frame with names": pd.DataFrame(X, columns=list("abcde")),
    "sparse": csr_array(X),
    "tuple": (X,),
    "dict": {"X": X},
    "dataset": torch.utils.data.TensorDataset(torch.from_numpy(X)),
    "wide tensor": torch.ones(3, 9),
    "None": None,
}


@pytest.mark.parametrize("name", ["own", "built-in", "callback", "frame"])
def test_other_inputs_have_the_values_errors_and_warnings_of_the_general_way(name):
    net = fitted(name)
    net.predict_batch_size = 100
    with pytest.MonkeyPatch.context() as monkeypatch:
        general_way(monkeypatch)
        expected = {key: outcome(net, "predict_proba", inputs) for key, inputs in OTHERS.items()}
    for key, inputs in OTHERS.items():
        assert outcome(net, "predict_proba", inputs) == expected[key], key


@pytest.mark.parametrize("size", [3, "auto"])
@pytest.mark.parametrize(
    "error", [OSError, RuntimeError, TypeError, torch.OutOfMemoryError, MemoryError]
)
def test_an_error_of_the_module_has_the_notes_of_the_general_way(error, size):
    net = fit(NeuralNetClassifier(FailsInEvalMode, predict_batch_size=size))
    net.model_.module_.error = error
    with pytest.MonkeyPatch.context() as monkeypatch:
        general_way(monkeypatch)
        expected = outcome(net, "predict_proba", X)
    (kind, text, notes), _ = outcome(net, "predict_proba", X)
    assert ((kind, text, notes), []) == expected
    assert (kind, text) == (error, "out of order")
    assert "the estimator (NeuralNetClassifier) in do_predict, batch 1" in notes[0]
    assert torch.is_grad_enabled()


def test_a_cancel_in_the_module_has_no_meaning_in_the_short_way_either():
    net = fit(NeuralNetClassifier(FailsInEvalMode))
    net.model_.module_.error = CancelFitException
    with pytest.raises(StageError, match="CancelFitException has no meaning in do_predict"):
        net.predict(X)


# ------------------------------------------------------------- who acts, and on what


@pytest.mark.parametrize("owner", ["estimator", "class", "default actions"])
def test_a_do_predict_put_in_place_later_acts(owner, monkeypatch):
    net = fit(NeuralNetClassifier(Own))
    expected = 5 * net.forward(X)

    def do_predict(ctx):
        ctx.y_pred = 5 * ctx.module(ctx.X)

    if owner == "estimator":
        monkeypatch.setattr(net, "do_predict", do_predict, raising=False)
    else:
        cls = DefaultActions if owner == "default actions" else NeuralNetClassifier
        monkeypatch.setattr(cls, "do_predict", lambda self, ctx: do_predict(ctx))
    assert torch.equal(net.forward(X), expected)


def test_hooks_of_the_module_run_and_keep_what_they_saw():
    net = fit(NeuralNetClassifier(Own, numeric_transform="standard", predict_batch_size=70))
    seen = []
    net.model_.module_.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    net.predict(X)
    assert [len(part) for part in seen] == [70, 70, 70, 70, 20]
    expected = net.model_.preparation_(torch.from_numpy(X)).float()
    assert torch.equal(torch.cat(seen), expected)


def test_a_module_may_keep_what_it_made_in_predict_for_training():
    class Caches(Own):
        positions = None

        def forward(self, X):
            if self.positions is None and not self.training:
                self.positions = torch.arange(float(X.shape[1]))
            scale = 1 if self.positions is None else 1 + self.positions
            return super().forward(X * scale)

    net = fit(NeuralNetClassifier(Caches))
    net.predict(X)
    net.partial_fit(X, Y)
    outputs = net.forward(X)
    weight = torch.ones(3, requires_grad=True)
    (outputs * weight).sum().backward()
    assert weight.grad is not None


def test_a_module_left_in_training_mode_predicts_in_eval_mode():
    net = fit(NeuralNetClassifier(Own))
    expected = net.predict_proba(X)
    net.model_.module_.train()
    np.testing.assert_array_equal(net.predict_proba(X), expected)
    assert all(part.training for part in net.model_.module_.modules())


@pytest.mark.parametrize("enabled", [True, False])
def test_predictions_leave_the_gradient_mode_alone(enabled):
    net = fitted("own")
    with torch.set_grad_enabled(enabled):
        net.predict(X)
        assert torch.is_grad_enabled() is enabled


def test_a_prediction_changes_nothing_of_the_estimator():
    net = fitted("built-in")
    before = dict(vars(net))
    weights = [p.clone() for p in net.model_.module_.parameters()]
    net.predict_proba(X)
    assert vars(net) == before
    assert all(map(torch.equal, net.model_.module_.parameters(), weights))


def test_threads_may_predict_with_one_estimator():
    net = fitted("built-in")
    net.predict_batch_size = 16
    parts = [X[i : i + 60] for i in range(0, 240, 60)]
    expected = [net.predict_proba(part) for part in parts]
    found = {}
    start = threading.Barrier(4)

    def work(i):
        start.wait()
        found[i] = [net.predict_proba(parts[i]) for _ in range(10)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, result in itertools.chain.from_iterable(
        ((i, result) for result in found[i]) for i in range(4)
    ):
        np.testing.assert_array_equal(result, expected[i])


@pytest.mark.parametrize("inputs", [X, X.tolist()], ids=["array", "list"])
@pytest.mark.parametrize("size", [0, -3, 2.5, "many", None])
def test_an_impossible_batch_size_said_after_the_fit_is_refused(size, inputs):
    net = fit(NeuralNetClassifier()).set_params(predict_batch_size=size)
    with pytest.raises(ParameterError, match=r"`predict_batch_size` parameter of Neural.*Got "):
        net.predict(inputs)


# -------------------------------------------------------------------------- outputs


def test_rows_are_written_into_one_tensor_as_they_come():
    rows = JoinedRows(7)
    parts = torch.arange(14.0).reshape(7, 2).split(3)
    for part in parts:
        rows.append(part)
    assert rows.parts == []
    assert rows.result() is rows.whole
    assert torch.equal(rows.result(), torch.cat(parts))


@pytest.mark.parametrize("n_rows", [None, 3, 5, 6, 50])
def test_more_or_fewer_rows_than_expected_are_joined_all_the_same(n_rows):
    rows = JoinedRows(n_rows)
    parts = [torch.ones(2, 3), torch.zeros(2, 3), torch.ones(1, 3), torch.zeros(1, 3)]
    for part in parts:
        rows.append(part)
    result = rows.result()
    assert torch.equal(result, torch.cat(parts))
    assert result.untyped_storage().nbytes() == result.nbytes


def test_rows_of_another_dtype_are_promoted_and_those_of_another_shape_refused():
    rows = JoinedRows(4)
    rows.append(torch.ones(2, 3))
    rows.append(torch.zeros(2, 3).double())
    assert rows.result().dtype is torch.float64
    rows = JoinedRows(3)
    rows.append(torch.ones(2, 1))
    rows.append(torch.ones(1))
    with pytest.raises(RuntimeError, match="dimensions"):
        rows.result()


def test_a_module_that_returns_too_many_rows_is_refused():
    outputs = MainOutputs(3)
    for _ in range(2):
        outputs.append(torch.ones(2, 1))
    with pytest.raises(ParameterError, match="returned 4 rows for 3 rows of X"):
        outputs.result()


def test_all_outputs_are_joined_in_their_structure():
    outputs = AllOutputs(4)
    for i in (0.0, 2.0):
        part = torch.tensor([[i], [i + 1]])
        outputs.append({"a": part, "b": (part * 2, {"c": part[:, 0]})})
    result = outputs.result()
    assert result["a"].tolist() == [[0], [1], [2], [3]]
    assert result["b"][0].tolist() == [[0], [2], [4], [6]]
    assert result["b"][1]["c"].tolist() == [0, 1, 2, 3]
    assert all(rows.parts == [] for rows in (outputs.rows["a"], outputs.rows["b"][0]))


# ---------------------------------------------------------------------- its own cost


def n_calls(function):
    """Return how many Python functions a call runs through."""
    n = 0

    def count(frame, event, argument):
        nonlocal n
        n += event == "call"

    function()
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return n


@pytest.mark.parametrize("name", ["own", "built-in"])
def test_one_row_costs_few_calls_beside_those_of_the_module(name):
    net = fitted(name)
    net.predict_batch_size = "auto"
    module, row = net.model_.module_, X[:1].astype(np.float32)
    tensor = torch.from_numpy(row).to(next(module.parameters()).dtype)
    with torch.no_grad():
        of_module = n_calls(lambda: module(tensor))
    assert n_calls(lambda: net.predict_proba(row)) - of_module <= 58


def test_many_rows_cost_few_calls_a_batch_beside_those_of_the_module():
    net = fitted("built-in")
    module = net.model_.module_
    tensor = torch.from_numpy(X[:10]).to(next(module.parameters()).dtype)
    with torch.no_grad():
        of_module = n_calls(lambda: module(tensor))
    net.predict_batch_size = 10
    few, many = (n_calls(lambda n=n: net.predict_proba(X[:n])) for n in (20, 300))
    assert (many - few) / 28 - of_module <= 6


class Changing(nn.Module):
    """Returns a tensor for the first rows and a tuple for others."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, X):
        output = self.layer(X)
        return (output, output) if X[0, 0] > 0 and not self.training else output


def test_outputs_of_another_structure_than_the_batch_before_are_an_error():
    X = np.zeros((4, 4), np.float32)
    X[2:] = 1
    net = NeuralNetClassifier(Changing, max_epochs=1, predict_batch_size=2)
    net.fit(X, [0, 1, 2, 0])
    with pytest.raises(ParameterError, match="a tensor for one batch and a tuple of 2 for another"):
        net.forward(X)
