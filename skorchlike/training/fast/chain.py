"""Linear layers one after another, with the gradients written by hand instead of by autograd."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from skorchlike.training.fast import kernels

aten = torch.ops.aten

Backward = Callable[[Tensor, Tensor], Tensor]


class Activation(NamedTuple):
    """How an activation is computed, and its gradient from that of its output.

    Attributes
    ----------
    forward : callable
        Input → output; it may overwrite the input unless that is `kept`.
    backward : callable
        Gradient of the output, and what was kept → gradient of the input. The kernel that
        autograd calls too.
    keeps_input : bool
        Whether the input is kept for `backward`; else the output is.
    """

    forward: Callable[[Tensor], Tensor]
    backward: Backward
    keeps_input: bool


def _relu(layer: Any) -> Activation:
    kernel = aten.threshold_backward.default
    return Activation(torch.relu_, lambda d, out: kernel(d, out, 0), False)


def _tanh(layer: Any) -> Activation:
    return Activation(torch.tanh_, aten.tanh_backward.default, False)


def _sigmoid(layer: Any) -> Activation:
    return Activation(torch.sigmoid_, aten.sigmoid_backward.default, False)


def _gelu(layer: nn.GELU) -> Activation:
    kernel = aten.gelu_backward.default
    return Activation(
        lambda x: functional.gelu(x, approximate=layer.approximate),
        lambda d, x: kernel(d, x, approximate=layer.approximate),
        True,
    )


def _silu(layer: nn.SiLU) -> Activation:
    return Activation(functional.silu, aten.silu_backward.default, True)


def _mish(layer: nn.Mish) -> Activation:
    return Activation(functional.mish, aten.mish_backward.default, True)


def _leaky_relu(layer: nn.LeakyReLU) -> Activation:
    kernel = aten.leaky_relu_backward.default
    return Activation(
        lambda x: functional.leaky_relu(x, layer.negative_slope),
        lambda d, x: kernel(d, x, layer.negative_slope, False),
        True,
    )


ACTIVATIONS: dict[type[nn.Module], Callable[[Any], Activation]] = {
    nn.ReLU: _relu,
    nn.Tanh: _tanh,
    nn.Sigmoid: _sigmoid,
    nn.GELU: _gelu,
    nn.SiLU: _silu,
    nn.Mish: _mish,
    nn.LeakyReLU: _leaky_relu,
}
"""The activations whose gradient is one kernel."""


LAYERS = (nn.Linear, nn.Identity, *ACTIVATIONS)

KINDS = ((torch.float32, "cpu"), (torch.float64, "cpu"))
"""Other dtypes have kernels of their own for layers, and accelerators another order of sums."""


class Chain:
    """Linear layers with an activation behind some of them, forward and backward.

    The kernels, and the order of their operands, are those that autograd calls, so outputs and
    gradients are the same, bit by bit. What is spared is the graph.

    Parameters
    ----------
    layers : list of Module
        What `why_no_chain` has nothing against.

    Attributes
    ----------
    gradients : dict of int to Tensor
        The gradient of each parameter as `backward` wrote it, by the parameter's ``id``.
    """

    def __init__(self, layers: list[nn.Module]) -> None:
        self.modules = layers
        self.layers: list[tuple[Tensor, Tensor | None, Activation | None]] = []
        self.gradients: dict[int, Tensor] = {}
        for layer in layers:
            if isinstance(layer, nn.Linear):
                self.layers.append((layer.weight, layer.bias, None))
            elif not isinstance(layer, nn.Identity):
                weight, bias, _ = self.layers.pop()
                self.layers.append((weight, bias, ACTIVATIONS[type(layer)](layer)))
        self.parameters = parameters_of(layers)
        of = self.gradients
        for parameter in self.parameters:
            of[id(parameter)] = torch.empty_like(parameter, requires_grad=False)
        self.steps_back = [
            (weight, activation, of[id(weight)], None if bias is None else of[id(bias)])
            for weight, bias, activation in reversed(self.layers)
        ]
        self.kept: list[tuple[Tensor, Tensor]] = []

    def is_of(self, layers: list[nn.Module]) -> bool:
        """Whether these are its layers, with the parameters that they had."""
        parameters = parameters_of(layers)
        return (
            len(layers) == len(self.modules)
            and len(parameters) == len(self.parameters)
            and all(map(is_, layers, self.modules))
            and all(map(is_, parameters, self.parameters))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of shape (n, n_outputs), and keep what `backward` needs."""
        self.kept = kept = []
        for weight, bias, activation in self.layers:
            z = functional.linear(x, weight, bias)
            out = z if activation is None else activation.forward(z)
            kept.append((x, z if activation is None or activation.keeps_input else out))
            x = out
        return x

    def backward(self, d: Tensor) -> None:
        """Write the gradients of the parameters, given that of the outputs."""
        kept, left = self.kept, len(self.kept)
        for weight, activation, of_weight, of_bias in self.steps_back:
            x, inner = kept.pop()
            left -= 1
            if activation is not None:
                d = activation.backward(d, inner)
            torch.mm(d.t(), x, out=of_weight)
            if of_bias is not None:
                torch.sum(d, 0, out=of_bias)
            if left:
                d = torch.mm(d, weight)


def _parts_of(module: nn.Module) -> list[nn.Module] | None:
    """Return the parts that a module calls one after another, or None."""
    cls = next(cls for cls in type(module).__mro__ if "forward" in vars(cls))
    if cls is nn.Sequential:
        return list(module)  # type: ignore[call-overload]
    if cls.__module__.startswith("skorchlike.") and "_chain" in vars(cls):
        chain: list[nn.Module] | None = module._chain  # type: ignore[assignment]
        return chain
    return None


def layers_of(module: nn.Module) -> list[nn.Module] | None:
    """Return the layers of a module that calls one after another and does nothing else, or None.

    Those are a `nn.Sequential`, and a module of this package whose class has a property ``_chain``
    beside its ``forward``; a subclass with another ``forward``, hooks or parameters of its own
    has none.
    """
    if type(module) in LAYERS:
        return [module] if kernels.forward_is_own(module) else None
    if type(module).__call__ is not nn.Module.__call__ or vars(module)["_parameters"]:
        return None
    parts = _parts_of(module)
    if not parts or kernels.has_hooks(module):
        return None
    found: list[nn.Module] = []
    for part in parts:
        layers = layers_of(part)
        if layers is None:
            return None
        found += layers
    return found


def misfit_of(module: nn.Module) -> str:
    """Say what of a module has no gradient written by hand, where `layers_of` returns None."""
    name = type(module).__name__
    if type(module) in LAYERS:
        return f"the forward of {name} is replaced"
    if type(module).__call__ is not nn.Module.__call__:
        return f"{name} has a __call__ of its own"
    parts = _parts_of(module)
    if parts:
        for part in parts:
            if layers_of(part) is None:
                return misfit_of(part)
        return f"{name} has hooks, or parameters outside of its layers"
    if type(module).__module__.startswith(("torch.", "skorchlike.")):
        return f"{name} has no gradient written by hand, as linear layers and activations have"
    return f"{name} has a forward of its own: only that of nn.Sequential is known"


def parameters_of(layers: list[nn.Module]) -> list[Any]:
    """Return the parameters of layers, which have no parts."""
    return [p for part in layers for p in vars(part)["_parameters"].values() if p is not None]


def why_no_chain(layers: list[nn.Module]) -> str | None:
    """Say why the gradients of such layers are left to autograd, or None: they are a `Chain`."""
    after_linear, first = False, True
    for layer in layers:
        if kernels.has_hooks(layer):
            return f"{type(layer).__name__} has hooks, or its forward is replaced"
        if isinstance(layer, nn.Linear):
            if 0 in (layer.in_features, layer.out_features):
                return "a layer is empty"
            if layer.in_features == 1 and not first:
                return "a hidden layer has one unit"  # there autograd multiplies in another order
            after_linear, first = True, False
        elif not isinstance(layer, nn.Identity):
            if not after_linear:
                return "an activation stands before the first linear layer, or behind another one"
            after_linear = False
    return "there is no linear layer" if first else None


def why_not_parameters(layers: list[nn.Module], trained: list[Any]) -> str | None:
    """Say why the gradients of the layers' parameters are left to autograd, or None.

    Parameters
    ----------
    layers : list of Module
        What `why_no_chain` has nothing against.
    trained : list of Parameter
        What the optimizer trains.
    """
    parameters = parameters_of(layers)
    if len({*map(id, parameters)}) < len(parameters):
        return "layers share parameters"
    if {*map(id, parameters)} != {*map(id, trained)}:
        return "the optimizer has other parameters than the layers"
    kind = parameters[0].dtype, parameters[0].device.type
    for p in parameters:
        if (p.dtype, p.device.type) != kind or kind not in KINDS:
            return "the parameters are not all of float32 or all of float64, on the CPU"
        if not p.requires_grad:
            return "parameters are frozen"
        if p.grad is not None or kernels.has_gradient_hooks(p):
            return "a parameter has a gradient already, or a hook"
        if type(p) is not nn.Parameter or not p.is_contiguous():
            return "a parameter is no plain one"
    return None
