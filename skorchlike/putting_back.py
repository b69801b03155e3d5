"""The bits of a snapshot, put into the parts of a fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from skorchlike.building import parameters_by_name
from skorchlike.exceptions import CheckpointError
from skorchlike.params.continuing import load_optimizer
from skorchlike.training.randomness import GlobalGenerators, restore_rng


@contextmanager
def _fitting() -> Iterator[None]:
    """Say that a snapshot does not fit into the parts of the fit, whatever came of it."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise CheckpointError(
            "The checkpoint does not fit the module, the criterion or the optimizer that is built "
            f"now: {e}. A callback that changes their structure must do so in on_begin, which a "
            "fit that goes on runs again."
        ) from e


class PutBack:
    """Puts the bits of a snapshot into the parts of a fit.

    Parameters
    ----------
    snapshot : dict
        What ``ctx.snapshot()`` returned.
    parts : Parts
        The components, built as for a new fit.
    train : Data
        The training batches.
    generator : torch.Generator
        What shuffles the rows.
    """

    def __init__(
        self, snapshot: Mapping[str, Any], parts: Any, train: Any, generator: torch.Generator
    ) -> None:
        self.snapshot, self.parts = snapshot, parts
        self.train, self.generator = train, generator

    @_fitting()
    def before_begin(self) -> None:
        """Put in place what callbacks see in ``on_begin``."""
        self._buffers()
        # what callbacks change of the structure, as groups of the optimizer, comes in on_begin
        self.parts.module.load_state_dict(self.snapshot["module"], strict=False)
        self.parts.criterion.load_state_dict(self.snapshot["criterion"])
        groups = self.snapshot["optimizer"]["param_groups"]
        here = self.parts.optimizer.param_groups
        if [len(g["params"]) for g in groups] == [len(g["params"]) for g in here]:
            load_optimizer(self.parts.optimizer, self.snapshot["optimizer"])

    @_fitting()
    def everything(self, optimizer: bool = True) -> None:
        """Put everything back as it was: weights, gradients, modes, random numbers.

        Parameters
        ----------
        optimizer : bool, default=True
            Whether the optimizer is needed: not where the fit is finished.
        """
        snapshot, parts = self.snapshot, self.parts
        self._buffers()
        parts.module.load_state_dict(snapshot["module"])
        _load_buffers(parts.module, snapshot["buffers"])
        parts.criterion.load_state_dict(snapshot["criterion"])
        if optimizer:
            load_optimizer(parts.optimizer, snapshot["optimizer"])
        for name, parameter in parameters_by_name(parts.module, parts.criterion).items():
            gradient = snapshot["gradients"].get(name)
            parameter.grad = None if gradient is None else gradient.clone().to(parameter.device)
        self._modes()
        rng = snapshot["rng"]
        restore_rng(rng, self.generator)
        for name, generator in loader_generators(self.train).items():
            generator.set_state(rng["loaders"][name])
        GlobalGenerators.restore(rng["globals"])

    def _buffers(self) -> None:
        """Make room for buffers that the module has set or grown in its forward."""
        module = self.parts.module
        device = next((p.device for p in module.parameters()), None)
        for name, value in {**self.snapshot["module"], **self.snapshot["buffers"]}.items():
            path, _, leaf = name.rpartition(".")
            owner = _submodule(module, path)
            if owner is None or leaf not in owner._buffers:
                continue
            here = owner._buffers[leaf]
            if here is None or (here.shape, here.dtype) != (value.shape, value.dtype):
                owner._buffers[leaf] = torch.empty_like(value, device=device)

    def _modes(self) -> None:
        """Put back what trains and what is in eval mode, as callbacks may have set them."""
        modes = self.snapshot["modes"]
        for name, parameter in parameters_by_name(self.parts.module, self.parts.criterion).items():
            parameter.requires_grad_(modes["requires_grad"][name])
        for name, part in self.parts.module.named_modules():
            part.training = modes["training"][name]


def modes_of(parts: Any) -> dict[str, Any]:
    """Return which parameters train, and which modules are in training mode."""
    return {
        "requires_grad": {
            n: p.requires_grad for n, p in parameters_by_name(parts.module, parts.criterion).items()
        },
        "training": {name: part.training for name, part in parts.module.named_modules()},
    }


def _submodule(module: torch.nn.Module, path: str) -> torch.nn.Module | None:
    try:
        return module.get_submodule(path)
    except AttributeError:
        return None


def buffers_beside(module: torch.nn.Module) -> dict[str, Any]:
    """Return the buffers that a module's ``state_dict`` leaves out."""
    kept = module.state_dict()
    return {name: b for name, b in module.named_buffers() if name not in kept}


def _load_buffers(module: torch.nn.Module, buffers: Mapping[str, Any]) -> None:
    own = dict(module.named_buffers())
    with torch.no_grad():
        for name, value in buffers.items():
            own[name].copy_(value)


def loader_generators(train: Any) -> dict[str, Any]:
    """Return the generators of loaders and samplers that the user gave."""
    found = train.generators() if hasattr(train, "generators") else {}
    return {name: generator for name, generator in found.items() if name != "fit"}
