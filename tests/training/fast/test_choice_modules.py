"""Modules, criteria and states of torch that keep a fit from the hand-written step."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from torch.optim.optimizer import register_optimizer_step_pre_hook
from training.fast.drawn import BETWEEN
from training.fast.ways import at, chain, classes, compare, in_epoch, layers, nothing

from skorchlike import NeuralNetClassifier

HAND_WRITTEN, DIRECT, GENERAL = "hand-written", "direct", "general"


def goes(path, reason="", *, data=None, cls=NeuralNetClassifier, **params):
    """Assert that a fit goes a way for a reason, and leaves what the general way leaves."""
    params = {"module": chain(), **params}
    return compare(cls, params, *(data or classes()), path=path, reason=reason)


# -------------------------------------------------------------------------- modules


class Doubling(nn.Linear):
    """A linear layer that is none."""

    def forward(self, X):
        return super().forward(X) * 2


class Squaring(nn.Sequential):
    def forward(self, X):
        return super().forward(X) ** 2


class Called(nn.Sequential):
    def __call__(self, X):
        return super().__call__(X) * 3


class Residual(nn.Module):
    """It has a `_chain`, which is no business of the package."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 3)

    @property
    def _chain(self):
        return [self.inner, self.outer]

    def forward(self, X):
        return self.outer(X + self.inner(X))


def with_own_forward():
    module = chain()
    module[0].forward = lambda X: functional.linear(X, module[0].weight)
    return module


MODULES = {
    "a subclass of a layer": (
        lambda: nn.Sequential(Doubling(4, 3)),
        "Doubling has a forward of its own",
    ),
    "a forward of its own": (lambda: Squaring(*chain()), "Squaring has a forward of its own"),
    "a call of its own": (lambda: Called(*chain()), "Called has a __call__ of its own"),
    "a property by chance": (Residual, "Residual has a forward of its own"),
    "another activation": (lambda: layers(4, 6, nn.ELU(), 3), "ELU has no gradient"),
    "dropout": (lambda: layers(4, 6, nn.Dropout(), 3), "Dropout has no gradient"),
    "batch norm": (lambda: layers(4, 6, nn.BatchNorm1d(6), 3), "BatchNorm1d has no gradient"),
    "an empty sequence": (lambda: layers(4, 6, nn.Sequential(), 3), "Sequential has no gradient"),
    "an activation first": (lambda: nn.Sequential(nn.ReLU(), *chain()), "before the first linear"),
    "two activations": (lambda: layers(4, 6, nn.ReLU(), nn.Tanh(), 3), "behind another one"),
    "a hidden layer of one unit": (lambda: layers(4, 1, nn.Tanh(), 3), "one unit"),
    "a parametrized layer": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3))),
        "ParametrizedLinear has no gradient",
    ),
}


@pytest.mark.parametrize("kind", MODULES)
def test_a_module_that_is_no_chain(kind):
    make, reason = MODULES[kind]
    goes(DIRECT, reason, module=make())


def tied():
    module = layers(4, 3, nn.Tanh(), 3, nn.Tanh(), 3)
    module[4].weight = module[2].weight
    return module


def with_hook():
    module = chain()
    module[1].register_forward_hook(doubled)
    return module


def doubled(module, args, output):
    return output * 2


def with_gradient_hook():
    module = chain()
    module[0].register_full_backward_hook(watched)
    return module


def watched(module, grad_input, grad_output):
    return None


def frozen():
    module = chain()
    module[0].weight.requires_grad_(False)
    return module


def transposed():
    module = chain()
    module[0].weight.data = module[0].weight.data.t().contiguous().t()
    return module


NOT_NOW = {
    "tied weights": (tied, "share parameters"),
    "a hook of a layer": (with_hook, "LeakyReLU has hooks"),
    "a backward hook": (with_gradient_hook, "Linear has hooks"),
    "a frozen parameter": (frozen, ""),
    "weights that lie otherwise": (transposed, ""),
}


@pytest.mark.parametrize("kind", NOT_NOW)
def test_a_chain_with_something_that_only_autograd_takes_into_account(kind):
    make, reason = NOT_NOW[kind]
    goes(DIRECT, reason, module=make())


def test_a_layer_is_pruned_or_parametrized_between_epochs():
    def prunes(ctx):
        prune.l1_unstructured(ctx.module[0], "weight", 0.5)

    def normalizes(ctx):
        parametrizations.weight_norm(ctx.module[0])

    goes(DIRECT, "from epoch 2 on", callbacks=[at(on_epoch_end=in_epoch(1, prunes))])
    goes(DIRECT, "from epoch 2 on", callbacks=[at(on_epoch_end=in_epoch(1, normalizes))])
    goes(None, callbacks=[at(on_begin=prunes)])


def test_a_forward_replaced_on_the_instance():
    def replace(ctx):
        layer = ctx.module[0]
        layer.forward = lambda X: functional.linear(X, layer.weight) * 2

    goes(DIRECT, "its forward is replaced", callbacks=[at(on_begin=replace)])
    goes(DIRECT, "its forward is replaced", callbacks=[at(on_epoch_end=in_epoch(1, replace))])


def test_a_compiled_module():
    compiled = at(on_begin=lambda ctx: ctx.module.compile(backend="eager"))
    goes(DIRECT, "hooks", callbacks=[compiled])


def test_hooks_for_all_modules_and_all_optimizers():
    handles = []

    def hook_modules(ctx):
        register = nn.modules.module.register_module_forward_hook
        handles.append(register(lambda module, args, output: output * 0.5))

    def hook_optimizers(ctx):
        handles.append(register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: None))

    def remove(ctx):
        while handles:
            handles.pop().remove()

    goes(DIRECT, "has hooks", callbacks=[at(on_begin=hook_modules, on_exit=remove)])
    goes(GENERAL, "has hooks", callbacks=[at(on_begin=hook_optimizers, on_exit=remove)])


def test_several_predictions_a_row():
    params = {
        "module": "tabm",
        "module__d_block": 8,
        "module__n_members": 2,
        "module__dropout": 0.0,
    }
    net = compare(NeuralNetClassifier, params, *classes(), path=DIRECT)
    assert "several predictions" in net.model_.path_reason_


# ------------------------------------------------------------------------- criteria


class Penalized(nn.Module):
    """A criterion that reaches weights past its own parameters."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def forward(self, y_pred, y):
        penalty = sum((weight**2).sum() for weight in self.weights)
        return functional.cross_entropy(y_pred, y) + 0.1 * penalty


class InPlace(nn.Module):
    def forward(self, y_pred, y):
        return functional.cross_entropy(y_pred.clamp_(-1, 1), y)


class Looking(nn.Module):
    def forward(self, y_pred, y):
        assert y_pred.grad_fn is not None
        return functional.cross_entropy(y_pred, y)


class Turned(nn.Module):
    """A criterion whose gradient lies in memory otherwise than the outputs."""

    def forward(self, y_pred, y):
        return functional.cross_entropy(y_pred.movedim(0, 1)[None], y[None])


class Constant(nn.Module):
    """A criterion that does not look at the outputs."""

    def __init__(self):
        super().__init__()
        self.value = torch.ones((), requires_grad=True)

    def forward(self, y_pred, y):
        return self.value * 2


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, y_pred, y):
        return functional.cross_entropy(y_pred * self.scale, y)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("criterion", [InPlace, Looking, Turned, Constant])
def test_a_criterion_of_the_users(criterion, optimizer):
    goes(DIRECT, "is of one's own", criterion=criterion, optimizer=optimizer)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_criterion_that_reaches_the_weights(optimizer):
    def reach(ctx):
        ctx.criterion.weights = list(ctx.module.parameters())

    goes(DIRECT, criterion=Penalized, optimizer=optimizer, callbacks=[at(on_begin=reach)])


def test_a_criterion_with_parameters():
    goes(DIRECT, "criterion", criterion=Scaled)
    of_torch = nn.CrossEntropyLoss()
    of_torch.register_parameter("scale", nn.Parameter(torch.ones(())))
    goes(DIRECT, "has parameters", criterion=of_torch)


# -------------------------------------------------------- what changes between epochs


def annealed(ctx):
    ctx.module[1].negative_slope = 0.3 * ctx.epoch


def another_activation(ctx):
    ctx.module[1] = nn.Tanh() if ctx.epoch % 2 else nn.GELU()


def longer(ctx):
    ctx.module.append(nn.Tanh())


def another_weight(ctx):
    generator = torch.Generator().manual_seed(ctx.epoch)
    ctx.module[0].weight = nn.Parameter(torch.randn(6, 4, generator=generator))


def other_data(ctx):
    for parameter in ctx.module.parameters():
        parameter.data = parameter.data * 0.5


def another_parameter(ctx):
    extra = nn.Parameter(torch.ones(2))
    ctx.module.register_parameter("extra", extra)
    ctx.optimizer.add_param_group({"params": [extra]})


def unrelated_parameter(ctx):
    ctx.module.register_parameter("extra", nn.Parameter(torch.ones(2)))


def smoother(ctx):
    ctx.criterion.label_smoothing = 0.1 * ctx.epoch


def weighted(ctx):
    ctx.criterion.weight = torch.tensor([1.0, 2.0, 3.0])


def summed(ctx):
    ctx.criterion.reduction = "sum"


def hooked(ctx):
    ctx.criterion.register_forward_hook(doubled)


def swapped_parameter(ctx):
    """The new one takes the old one's place, in the module and in the optimizer."""
    old, generator = ctx.module[0].weight, torch.Generator().manual_seed(ctx.epoch)
    ctx.module[0].weight = new = nn.Parameter(torch.randn(6, 4, generator=generator))
    parameters = ctx.optimizer.param_groups[0]["params"]
    parameters[[*map(id, parameters)].index(id(old))] = new
    ctx.optimizer.state.pop(old, None)


def left_gradient(ctx):
    for parameter in ctx.module.parameters():
        parameter.grad = torch.ones_like(parameter)


def empty_group(ctx):
    group = ctx.optimizer.param_groups[0]
    ctx.optimizer.param_groups[:] = [{**group, "params": []}, {**group}]


def other_states(ctx):
    state = ctx.optimizer.state
    for parameter, of_parameter in state.items():
        state[parameter] = {name: tensor.clone() for name, tensor in of_parameter.items()}


def with_momentum(ctx):
    for group in ctx.optimizer.param_groups:
        group |= {"momentum": 0.9} if "momentum" in group else {"lr": torch.tensor(0.02)}


def unfused(ctx):
    for group in ctx.optimizer.param_groups:
        group["fused"] = False


def scaled(ctx):
    ctx.optimizer.grad_scale = torch.tensor(2.0)


CHANGES = [
    annealed,
    another_activation,
    longer,
    another_weight,
    other_data,
    in_epoch(1, another_parameter),
    in_epoch(1, unrelated_parameter),
    smoother,
    weighted,
    summed,
    hooked,
    swapped_parameter,
    left_gradient,
    in_epoch(1, empty_group),
    other_states,
    with_momentum,
    unfused,
    scaled,
    *BETWEEN,
]


@pytest.mark.parametrize("stages", [{}, {"on_batch_end": nothing}], ids=["alone", "in batch"])
@pytest.mark.parametrize(
    "stage",
    ["on_epoch_begin", "on_before_train", "on_after_step", "on_batch_exit", "on_epoch_end"],
)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_change_by_a_callback_is_seen(change, stage, stages, optimizer):
    params = {"module": chain(), "callbacks": [at(**{stage: change}, **stages)]}
    compare(NeuralNetClassifier, {**params, "optimizer": optimizer}, *classes(), fails=None)
