"""Module, criterion, optimizer and callbacks: built from names, classes and instances."""

import functools

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris
from torch import nn

from skorchlike import (
    Callback,
    EarlyStopping,
    NeuralNetClassifier,
    NeuralNetRegressor,
    ParameterError,
)
from skorchlike.modules import MLP
from skorchlike.params.callbacks import build_callbacks, named_callbacks
from skorchlike.params.components import (
    build_criterion,
    build_module,
    build_optimizer,
    named,
    optimizer_options,
)

X, Y = load_iris(return_X_y=True)
SIZES = {"n_features_in": 4, "in_features": 4, "n_outputs": 3, "out_features": 3}


class Net(nn.Module):
    def __init__(self, n_features_in, n_outputs, width=5):
        super().__init__()
        self.body = nn.Linear(n_features_in, width)
        self.head = nn.Linear(width, n_outputs)

    def forward(self, X):
        return self.head(self.body(X).relu())


class Fixed(nn.Module):
    """Takes no sizes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, X):
        return self.linear(X)


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.LazyLinear(6)
        self.head = nn.LazyLinear(3)

    def forward(self, X):
        return self.head(self.body(X).relu())


class Scale(nn.Module):
    """A criterion with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, y_pred, y):
        scale = self.log_scale.exp()
        return nn.functional.cross_entropy(y_pred, y) / scale + self.log_scale


class Tick(Callback):
    def __init__(self, size=1):
        self.size = size


def fit(**params):
    return NeuralNetClassifier(**{"max_epochs": 1, "random_state": 0, **params}).fit(X, Y)


def groups_of(model):
    """Options of each parameter group with the number of parameters in it."""
    return [(len(group["params"]), group) for group in model.optimizer_["param_groups"]]


# --------------------------------------------------------------------------- names

CRITERIA = {
    "cross_entropy": nn.CrossEntropyLoss,
    "mse": nn.MSELoss,
    "l1": nn.L1Loss,
    "smooth_l1": nn.SmoothL1Loss,
    "huber": nn.HuberLoss,
    "nll": nn.NLLLoss,
    "bce": nn.BCELoss,
    "bce_with_logits": nn.BCEWithLogitsLoss,
    "poisson_nll": nn.PoissonNLLLoss,
    "multi_margin": nn.MultiMarginLoss,
    "multi_label_soft_margin": nn.MultiLabelSoftMarginLoss,
}


@pytest.mark.parametrize(("name", "cls"), CRITERIA.items())
def test_criterion_by_name(name, cls):
    assert type(build_criterion(name, {})) is cls
    assert type(build_criterion(name.upper(), {})) is cls


@pytest.mark.parametrize("cls", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_optimizer_by_name_and_by_class(cls):
    for spec in (cls, cls.__name__.lower(), cls.__name__):
        assert optimizer_options(spec, 0.5, {}) == (cls, {"lr": 0.5})


def test_every_optimizer_of_torch_has_a_name():
    classes = {
        cls
        for cls in vars(torch.optim).values()
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer)
    } - {torch.optim.Optimizer}
    assert {named("optimizer", cls.__name__.lower()) for cls in classes} == classes


def test_optimizer_base_class_has_no_name():
    with pytest.raises(ParameterError):
        named("optimizer", "optimizer")


@pytest.mark.parametrize("spec", ["mlp", MLP, "MLP"])
def test_module_by_name_and_by_class(spec):
    module = build_module(spec, {"hidden_layer_sizes": (7,)}, SIZES)
    assert [tuple(p.shape) for p in module.parameters()] == [(7, 4), (7,), (3, 7), (3,)]


# -------------------------------------------------------------------------- module


def test_sizes_come_from_the_data():
    module = fit(module=Net).model_.module_
    assert (module.body.in_features, module.head.out_features) == (4, 3)


def test_torch_linear_receives_its_sizes_too():
    module = fit(module=nn.Linear).model_.module_
    assert (module.in_features, module.out_features) == (4, 3)


def test_sizes_said_are_kept():
    module = build_module(Net, {"n_outputs": 9, "width": 2}, SIZES)
    assert (module.body.in_features, module.head.out_features) == (4, 9)


def test_module_without_size_parameters_receives_none():
    assert isinstance(fit(module=Fixed).model_.module_, Fixed)


def test_function_may_make_the_module():
    def make(n_features_in, n_outputs, width=3):
        return nn.Sequential(nn.Linear(n_features_in, width), nn.Linear(width, n_outputs))

    module = fit(module=make, module__width=6).model_.module_
    assert module[0].out_features == 6
    module = fit(module=functools.partial(Net, width=8)).model_.module_
    assert module.body.out_features == 8


def test_regressor_sizes_the_module_by_its_targets():
    X_, y = load_diabetes(return_X_y=True)
    for target, n_outputs in ((y, 1), (y[:, None], 1), (np.c_[y, y, y], 3)):
        est = NeuralNetRegressor(Net, max_epochs=1).fit(X_, target)
        assert est.model_.module_.head.out_features == n_outputs
        assert est.model_.module_.body.in_features == 10


def test_images_give_the_size_of_the_second_dimension():
    def make(n_features_in, n_outputs):
        return nn.Sequential(nn.Conv2d(n_features_in, 2, 3), nn.Flatten(), nn.LazyLinear(n_outputs))

    images = np.random.RandomState(0).randn(20, 3, 5, 5).astype("float32")
    est = NeuralNetClassifier(make, max_epochs=1).fit(images, np.arange(20) % 4)
    assert est.model_.module_[0].in_channels == 3
    assert est.predict_proba(images).shape == (20, 4)


def test_instance_is_copied_with_its_weights_and_never_trained():
    torch.manual_seed(0)
    module = Net(4, 3)
    before = [p.detach().clone() for p in module.parameters()]
    est = fit(module=module, lr=1e-30)
    assert est.model_.module_ is not module
    for given, kept, trained in zip(
        module.parameters(), before, est.model_.module_.parameters(), strict=True
    ):
        assert torch.equal(given, kept)
        assert given.data_ptr() != trained.data_ptr()
        assert torch.equal(trained, kept)


def test_lazy_layers_get_their_sizes_before_training():
    module = fit(module=Lazy).model_.module_
    assert (module.body.in_features, module.head.in_features) == (4, 6)
    again = fit(module=Lazy()).model_.module_
    assert again.body.in_features == 4


def test_module_class_is_initialised_from_random_state():
    first, again = (fit(module=Net, lr=1e-30).model_.module_ for _ in range(2))
    other = fit(module=Net, lr=1e-30, random_state=1).model_.module_
    assert torch.equal(first.body.weight, again.body.weight)
    assert not torch.equal(first.body.weight, other.body.weight)


# ----------------------------------------------------------------------- criterion


def test_criterion_arguments_are_routed():
    criterion = fit(criterion__label_smoothing=0.2).model_.criterion_
    assert criterion.label_smoothing == 0.2


def test_criterion_instance_is_copied():
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    built = fit(criterion=criterion).model_.criterion_
    assert built is not criterion
    assert built.weight.tolist() == [1.0, 2.0, 3.0]
    assert built.weight.dtype == torch.float64, "it follows the module's dtype"
    assert criterion.weight.dtype == torch.float32, "the one given stays as it is"


def test_parameters_of_the_criterion_are_trained():
    est = fit(criterion=Scale, max_epochs=5, lr=0.05)
    assert est.model_.criterion_.log_scale.item() != pytest.approx(0.5)


# ----------------------------------------------------------------------- optimizer


def test_optimizer_arguments_are_routed():
    model = fit(optimizer="sgd", optimizer__momentum=0.9, optimizer__nesterov=True).model_
    _, group = groups_of(model)[0]
    assert (group["momentum"], group["nesterov"]) == (0.9, True)


def test_fused_or_not_is_the_users_to_say():
    assert fit().model_.optimizer_["param_groups"][0]["fused"] is True
    model = fit(optimizer__foreach=True).model_
    assert not model.optimizer_["param_groups"][0]["fused"]
    assert not fit(optimizer__fused=False).model_.optimizer_["param_groups"][0]["fused"]


def test_optimizer_without_lr_is_given_none():
    class Still(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {})

        def step(self, closure=None):
            pass

    est = fit(optimizer=Still, module=Net)
    assert est.n_iter_ == 1


def test_param_groups_have_their_own_options():
    model = fit(
        module=Net,
        lr=0.5,
        optimizer__weight_decay=0.1,
        optimizer__param_groups={"*.bias": {"weight_decay": 0.0}, "head.*": {"lr": 0.25}},
    ).model_
    options = [(n, group["lr"], group["weight_decay"]) for n, group in groups_of(model)]
    assert options == [(2, 0.5, 0.0), (1, 0.25, 0.1), (1, 0.5, 0.1)]


def test_the_first_pattern_that_matches_takes_a_parameter():
    said = [("head.weight", {"lr": 0.1}), ("head.*", {"lr": 0.2}), ("*", {"lr": 0.3})]
    model = fit(module=Net, optimizer__param_groups=said).model_
    assert [(n, group["lr"]) for n, group in groups_of(model)] == [(1, 0.1), (1, 0.2), (2, 0.3)]


def test_no_empty_group_is_left_when_patterns_take_all():
    model = fit(module=Net, optimizer__param_groups={"*": {"lr": 0.3}}).model_
    assert [n for n, _ in groups_of(model)] == [4]


def test_param_groups_reach_the_criterion_by_its_prefix():
    model = fit(criterion=Scale, optimizer__param_groups={"criterion.*": {"lr": 0.3}}).model_
    assert groups_of(model)[0][0] == 1
    assert groups_of(model)[0][1]["lr"] == 0.3


def test_group_of_rate_zero_is_frozen():
    torch.manual_seed(0)
    module = Net(4, 3)
    said = {"body.*": {"lr": 0.0}}
    trained = fit(module=module, max_epochs=5, optimizer__param_groups=said).model_.module_
    assert torch.equal(trained.body.weight, module.body.weight)
    assert not torch.equal(trained.head.weight, module.head.weight)


def test_said_groups_are_not_changed_by_building():
    said = {"*.bias": {"weight_decay": 0.0}}
    parameters = dict(Net(4, 3).named_parameters())
    build_optimizer(torch.optim.SGD, {"lr": 0.1, "param_groups": said}, parameters)
    assert said == {"*.bias": {"weight_decay": 0.0}}


# ----------------------------------------------------------------------- callbacks


def test_unnamed_callbacks_are_named_by_their_class():
    assert list(named_callbacks([EarlyStopping(), Tick()])) == ["early_stopping", "tick"]


def test_callbacks_of_every_form_keep_the_order_given():
    first, second = Tick(1), Tick(2)
    for said in ({"b": first, "a": second}, [("b", first), ("a", second)]):
        assert named_callbacks(said) == {"b": first, "a": second}
    mixed = named_callbacks([("z", first), "progress", EarlyStopping()])
    assert list(mixed) == ["z", "progress", "early_stopping"]


def test_named_callbacks_are_the_users_own_and_built_ones_are_clones():
    tick = Tick(3)
    assert named_callbacks({"a": tick})["a"] is tick
    built = build_callbacks({"a": tick}, {"a__size": 8})["a"]
    assert built is not tick
    assert (tick.size, built.size) == (3, 8)


@pytest.mark.parametrize("dropped", [None, "passthrough"])
def test_dropped_callbacks_are_not_built(dropped):
    assert build_callbacks({"a": Tick(), "b": dropped}, {}).keys() == {"a"}
    assert build_callbacks({"a": Tick(), "b": Tick()}, {"b": dropped}).keys() == {"a"}
