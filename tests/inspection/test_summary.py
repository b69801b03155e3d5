"""A table of the layers without a fit: against that which a fit prints."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from doubles import make_data
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skorchlike import (
    EMA,
    Callback,
    ChannelsLast,
    EarlyStopping,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
    Summary,
)
from skorchlike.inspection.summary import summary

X, Y = make_data(n=30, n_features=4, n_classes=3)


def of_a_fit(estimator, X, y):
    """Return the table that a fit takes from its first training batch."""
    return estimator.fit(X, y, callbacks=[Summary()]).model_.callbacks_.summary


ESTIMATORS = {
    "built-in": NeuralNetClassifier(max_epochs=1),
    "sizes": NeuralNetClassifier(module__hidden_layer_sizes=(7, 6), max_epochs=1),
    "batches": NeuralNetClassifier(batch_size=8, max_epochs=1),
    "all rows": NeuralNetClassifier(batch_size=-1, max_epochs=1),
    "class": NeuralNetClassifier(nn.Linear, module__bias=False, max_epochs=1),
    "instance": NeuralNetClassifier(nn.Sequential(nn.Linear(4, 3)), max_epochs=1),
    "lazy": NeuralNetClassifier(nn.Sequential(nn.LazyLinear(5), nn.LazyLinear(3)), max_epochs=1),
    "dtype": NeuralNetClassifier(dtype="float32", max_epochs=1),
    "regressor": NeuralNetRegressor(max_epochs=1),
    "dropout": NeuralNetClassifier(module__dropout=0.5, max_epochs=1),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_it_is_the_table_of_a_fit_before_and_after_it(name):
    estimator = ESTIMATORS[name]
    before = summary(estimator, X, Y)
    assert not hasattr(estimator, "model_")
    fitted = pickle.loads(pickle.dumps(estimator))
    assert before == of_a_fit(fitted, X, Y)
    assert summary(fitted, X) == before
    assert summary(fitted, X, Y) == before


def test_nothing_of_the_estimator_changes():
    module = nn.Sequential(nn.LazyLinear(5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    random_state = np.random.RandomState(0)
    net = NeuralNetClassifier(
        module, callbacks={"stop": EarlyStopping()}, random_state=random_state
    )
    net.set_params(callbacks__stop__patience=2)
    before, params = dict(vars(net)), net.get_params()
    summary(net, X, Y)
    assert vars(net) == before
    assert net.get_params() == params
    assert isinstance(module[0], nn.LazyLinear)
    assert random_state.randint(1000) == np.random.RandomState(0).randint(1000)


def test_nothing_of_a_fitted_estimator_changes():
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.Linear(5, 3))
    net = NeuralNetClassifier(module, max_epochs=2, callbacks=[Summary()]).fit(X, Y)
    model, before = net.model_, pickle.dumps(net.model_)
    summary(net, X[:7])
    assert net.model_ is model
    assert pickle.dumps(model) == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module_.modules())


def test_no_random_number_is_drawn():
    net = NeuralNetClassifier(module__dropout=0.5, random_state=0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    summary(net, X, Y)
    summary(net.set_params(max_epochs=1).fit(X, Y), X)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("fitted", [False, True])
def test_pipelines(fitted):
    class Widen(StandardScaler):
        def transform(self, X):
            return np.hstack([super().transform(X)] * 2)

    pipe = make_pipeline(Widen(), NeuralNetClassifier(max_epochs=1))
    if fitted:
        pipe.fit(X, Y)
    table = summary(pipe, X, None if fitted else Y)
    assert table == summary(NeuralNetClassifier(), np.hstack([X, X]), Y)
    assert hasattr(pipe[0], "scale_") == fitted
    alone = make_pipeline(NeuralNetClassifier())
    assert summary(alone, X, Y) == summary(NeuralNetClassifier(), X, Y)


def test_frames_tensors_and_lists():
    names = list("abcd")
    frame = pd.DataFrame(X, columns=names)
    expected = summary(NeuralNetClassifier(), X, Y)
    for data in (frame, torch.from_numpy(X), X.tolist()):
        assert summary(NeuralNetClassifier(), data, Y) == expected
    fitted = NeuralNetClassifier(max_epochs=1).fit(frame, Y)
    assert summary(fitted, frame) == expected  # without a warning about names
    labels = np.array(["red", "green", "blue"])[Y]
    assert summary(NeuralNetClassifier(), X, labels) == expected


def test_images_and_callbacks_that_act_in_predict():
    class Reshape(Callback):
        order = -100

        def on_batch_begin(self, ctx):
            ctx.X = ctx.X.reshape(-1, 1, 2, 2)

        on_batch_predict_begin = on_batch_begin

    module = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(2, 3)).double()
    net = NeuralNetClassifier(module, max_epochs=1, callbacks=[Reshape()])
    assert summary(net, X, Y) == of_a_fit(net, X, Y) == summary(net, X)
    images = NeuralNetClassifier(module, max_epochs=1, callbacks=[ChannelsLast()])
    assert summary(images, X.reshape(-1, 1, 2, 2), Y).layers[0].output_shape == (30, 2, 1, 1)


def test_callbacks_that_learn_in_a_fit_are_left_out_before_it():
    net = NeuralNetClassifier(max_epochs=2, callbacks=[EMA(decay=0.1), EarlyStopping("train_loss")])
    before = summary(net, X, Y)
    assert before == summary(net.fit(X, Y), X)


def test_a_replaced_predict_acts():
    class Twice(NeuralNetClassifier):
        def do_predict(self, ctx):
            ctx.module(ctx.X)
            super().do_predict(ctx)

    once, twice = summary(NeuralNetClassifier(), X, Y), summary(Twice(), X, Y)
    assert twice.multiply_adds == 2 * once.multiply_adds
    assert [layer.calls for layer in twice.layers] == [2, 2, 2]


def test_depth():
    net = NeuralNetClassifier(module__hidden_layer_sizes=(5,))
    (layer,) = summary(net, X, Y, depth=0).layers
    assert (layer.name, layer.layer, layer.parameters) == ("", "MLP", 5 * 5 + 6 * 3)
    assert summary(net, X, Y, depth=np.int64(1)) == summary(net, X, Y)


ERRORS = [
    (LogisticRegression(), {}, r"summary takes a NeuralNetClassifier.*Got a LogisticRegression"),
    (make_pipeline(StandardScaler()), {}, "Got a StandardScaler"),
    (NeuralNetClassifier(), {"y": None}, "summary needs y: this NeuralNetClassifier is not fitted"),
    (NeuralNetClassifier(), {"depth": -1}, r"`depth` of summary must be .* Got -1"),
    (NeuralNetClassifier(), {"depth": "all"}, r"`depth` of summary must be .* Got 'all'"),
    (NeuralNetClassifier(max_epochs=0), {}, "'max_epochs' parameter"),
    (NeuralNetClassifier(), {"X": X[:5]}, "same number of rows"),
    (NeuralNetClassifier(module="mpl"), {}, "Did you mean 'mlp'"),
]


@pytest.mark.parametrize(("estimator", "data", "message"), ERRORS)
def test_errors_say_what_to_do(estimator, data, message):
    with pytest.raises(ValueError, match=message):
        summary(estimator, **{"X": X, "y": Y, **data})


def test_the_wrong_type_is_a_parameter_error():
    with pytest.raises(ParameterError):
        summary(nn.Linear(2, 3), X, Y)
