"""One fit from start to end: placement of module and data, seeds, callbacks of one fit."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris, make_regression
from torch import nn

from skorchlike import Callback, NeuralNetClassifier, NeuralNetRegressor, ParameterError

X, y = load_iris(return_X_y=True)


class Sees(Callback):
    """Remember dtype and device of the first batch."""

    def on_batch_begin(self, ctx):
        if ctx.global_step == 1:
            parameter = next(ctx.module.parameters())
            self.seen = [str(ctx.X.dtype), str(parameter.dtype), str(ctx.X.device)]

    def state_dict(self):
        return self.seen

    def load_state_dict(self, state):
        self.seen = state


def seen(X_given, **params):
    net = NeuralNetClassifier(max_epochs=1, callbacks=[Sees()], **params)
    return net.fit(X_given, y).model_.callbacks_.sees[:2]


@pytest.mark.parametrize(
    ("x_dtype", "params", "expected"),
    [
        ("float64", {}, ["float64", "float64"]),
        ("float32", {}, ["float32", "float32"]),
        ("int64", {}, ["float64", "float64"]),
        ("float64", {"dtype": "float32"}, ["float32", "float32"]),
        ("float64", {"dtype": np.float32}, ["float32", "float32"]),
        ("float64", {"dtype": torch.bfloat16}, ["bfloat16", "bfloat16"]),
        ("float64", {"module": nn.Linear}, ["float32", "float32"]),
        ("int64", {"module": nn.Linear}, ["float32", "float32"]),
        ("float32", {"module": nn.Linear, "dtype": "float64"}, ["float64", "float64"]),
    ],
)
def test_dtype_of_batches_and_module(x_dtype, params, expected):
    assert seen(X.astype(x_dtype), **params) == [f"torch.{name}" for name in expected]


def test_integers_stay_integers_for_an_embedding():
    class Bag(nn.Module):
        def __init__(self, n_outputs):
            super().__init__()
            self.bag = nn.EmbeddingBag(10, n_outputs)

        def forward(self, tokens):
            return self.bag(tokens)

    tokens = np.random.default_rng(0).integers(0, 10, size=(150, 6))
    assert seen(tokens, module=Bag) == ["torch.int64", "torch.float32"]


def test_an_integer_dtype_casts_inputs_alone():
    class LooksUp(nn.Module):
        def __init__(self, n_outputs):
            super().__init__()
            self.table = nn.Parameter(torch.zeros(10, n_outputs))

        def forward(self, rows):
            return self.table[rows[:, 0]]

    assert seen(np.floor(X), module=LooksUp, dtype="int64") == ["torch.int64", "torch.float32"]


def test_half_precision_predictions_come_as_float32():
    net = NeuralNetClassifier(max_epochs=1, dtype="bfloat16").fit(X, y)
    assert net.predict_proba(X).dtype == np.float32
    regressor = NeuralNetRegressor(max_epochs=1, dtype="bfloat16").fit(X, y.astype(float))
    assert regressor.predict(X).dtype == np.float32


def test_lazy_layers_get_their_sizes_from_the_data():
    module = nn.Sequential(nn.LazyLinear(8), nn.BatchNorm1d(8), nn.ReLU(), nn.LazyLinear(3))
    net = NeuralNetClassifier(module, max_epochs=5, random_state=0).fit(X, y)
    assert net.model_.module_[0].in_features == 4
    assert isinstance(module[0], nn.LazyLinear)


def test_images_and_sequences_reach_a_module_of_ones_own_in_their_shape():
    shapes = []

    class Shape(nn.Module):
        def __init__(self, n_features_in, n_outputs):
            super().__init__()
            assert n_features_in == 1
            self.linear = nn.Linear(16, n_outputs)

        def forward(self, images):
            shapes.append(images.shape[1:])
            return self.linear(images.flatten(1))

    images = np.random.default_rng(0).normal(size=(30, 1, 4, 4))
    net = NeuralNetClassifier(Shape, max_epochs=1).fit(images, np.arange(30) % 3)
    assert net.predict(images).shape == (30,)
    assert set(shapes) == {(1, 4, 4)}


def test_fused_kernels_are_used_unless_one_chooses_otherwise():
    def fused(**params):
        net = NeuralNetClassifier(max_epochs=1, **params).fit(X, y)
        return net.model_.optimizer_["param_groups"][0].get("fused")

    assert fused(optimizer="adam") is True
    assert fused(optimizer="sgd") is True
    assert not fused(optimizer="adam", optimizer__foreach=True)
    assert fused(optimizer="adam", optimizer__fused=False) is False
    assert not fused(optimizer="rmsprop")


def test_parameters_of_the_criterion_are_trained_too():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(1.0))

        def forward(self, y_pred, y):
            return nn.functional.mse_loss(y_pred, y) * self.scale

    Xr, yr = make_regression(40, 3, random_state=0)
    net = NeuralNetRegressor(criterion=Scaled, max_epochs=2).fit(Xr, yr)
    assert net.model_.criterion_.scale.item() != 1.0


def test_validation_rows_are_never_trained_on_and_all_are_validated():
    class Rows(Callback):
        def on_begin(self, ctx):
            self.train, self.valid = set(), set()

        def on_batch_begin(self, ctx):
            assert torch.equal(ctx.X, torch.from_numpy(X)[ctx.index])
            self.train.update(ctx.index.tolist())

        def on_batch_valid_begin(self, ctx):
            assert torch.equal(ctx.X, torch.from_numpy(X)[ctx.index])
            self.valid.update(ctx.index.tolist())

        def state_dict(self):
            return {"train": self.train, "valid": self.valid}

        def load_state_dict(self, state):
            self.train, self.valid = state["train"], state["valid"]

    net = NeuralNetClassifier(
        max_epochs=2,
        batch_size=16,
        validation_fraction=0.2,
        numeric_transform=None,
        callbacks=[Rows()],
        random_state=0,
    ).fit(X, y)
    rows = net.model_.callbacks_.rows
    assert rows["train"].isdisjoint(rows["valid"])
    assert rows["train"] | rows["valid"] == set(range(150))
    assert np.bincount(y[list(rows["valid"])]).tolist() == [10, 10, 10]


def test_given_validation_data_take_the_place_of_the_split():
    net = NeuralNetClassifier(max_epochs=1, validation_fraction=0.5, batch_size=-1, random_state=0)
    one = net.fit(X, y, X_val=X[:10], y_val=y[:10]).loss_curve_
    two = net.set_params(validation_fraction=None).fit(X, y).loss_curve_
    assert one == two


def test_callbacks_given_to_fit_act_once_and_share_no_name():
    class Acts(Callback):
        def on_epoch_end(self, ctx):
            ctx.log("acted", 1)

    net = NeuralNetClassifier(max_epochs=1)
    assert "acted" in net.fit(X, y, callbacks=[Acts()]).history_
    assert "acted" not in net.fit(X, y).history_
    net.set_params(callbacks={"acts": Acts()})
    with pytest.raises(ParameterError, match="'acts' given to fit is taken"):
        net.fit(X, y, callbacks=[Acts()])


def test_verbose_prints_the_history(capsys):
    NeuralNetClassifier(max_epochs=2, verbose=1).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["epoch", "train_loss", "lr", "duration"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2"]
    NeuralNetClassifier(max_epochs=2).fit(X, y)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("predict_batch_size", [1, 7, -1, "auto", 10_000])
def test_predictions_do_not_depend_on_the_batch_size(predict_batch_size):
    net = NeuralNetClassifier(max_epochs=3, random_state=0).fit(X, y)
    expected = net.predict_proba(X)
    net.set_params(predict_batch_size=predict_batch_size)
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=1e-12)


def test_two_seeds_split_and_start_differently():
    def first(seed):
        net = NeuralNetClassifier(max_epochs=1, validation_fraction=0.3, random_state=seed)
        return net.fit(X, y).history_.drop(columns="duration").iloc[0].tolist()

    assert first(0) == first(0)
    assert first(0) != first(1)


class Scaled(torch.nn.Module):
    """A criterion with a parameter."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.loss = torch.nn.CrossEntropyLoss()

    def forward(self, y_pred, y):
        return self.loss(y_pred * self.weight, y)


class WithCriterion(torch.nn.Module):
    """A module with a part that is called criterion, which has a parameter of the same name."""

    def __init__(self):
        super().__init__()
        self.criterion = torch.nn.Linear(20, 2, bias=False)

    def forward(self, X):
        return self.criterion(X)


def test_a_part_called_criterion_is_trained_beside_a_criterion_with_parameters():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 20)).astype(np.float32), np.arange(40) % 2
    model = NeuralNetClassifier(WithCriterion, criterion=Scaled, max_epochs=1).fit(X, y).model_
    assert len(model.optimizer_["state"]) == 2
