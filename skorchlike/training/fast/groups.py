"""One parameter group of an optimizer, updated by one call of a fused kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any, ClassVar

import torch
from torch import Tensor

from skorchlike.training.fast import kernels


class Group(ABC):
    """The parameters of a group that have gradients, and the options of the group.

    Parameters
    ----------
    group : dict
        One of the optimizer's ``param_groups``.
    active : sequence of Parameter
        Those of its parameters that have gradients.
    state : mapping
        The optimizer's ``state``.
    """

    needs: ClassVar[tuple[str, ...]]
    on: ClassVar[tuple[str, ...]]

    def __init__(
        self, group: dict[str, Any], active: Sequence[Tensor], state: Mapping[Any, Any]
    ) -> None:
        self.group, self.parameters = group, list(group["params"])
        self.active = list(active)
        taken = set(map(id, active))
        self.idle = [p for p in self.parameters if id(p) not in taken]

    @classmethod
    def why_not(cls, group: Mapping[str, Any]) -> str | None:
        """Say which of a group's options needs the optimizer's own step, or None."""
        for name in cls.on:
            if group[name]:
                return f"{name}={group[name]}"
        if group["fused"] is not True:
            return "fused=False"
        return "a tensor as lr" if isinstance(group["lr"], Tensor) else None

    @staticmethod
    def has_state(state: Mapping[Any, Any], parameter: Tensor) -> bool:
        """Whether there is all that an update of the parameter needs."""
        return True

    def is_as_it_was(self, group: dict[str, Any]) -> bool:
        """Whether it is the same group, with the same parameters, and nothing against it."""
        return (
            group is self.group
            and len(group["params"]) == len(self.parameters)
            and all(map(is_, group["params"], self.parameters))
            and self.why_not(group) is None
        )

    def gradients(self) -> list[Any] | None:
        """Return the gradients, or None if they are sparse, or of other parameters than before."""
        found = [parameter.grad for parameter in self.active]
        for gradient in found:
            if gradient is None or gradient.layout is not torch.strided:
                return None
        for parameter in self.idle:
            if parameter.grad is not None:
                return None
        return found

    @abstractmethod
    def update(self, gradients: Sequence[Tensor], one: Tensor) -> None:
        """Update the active parameters; gradients are off."""


class AdamGroup(Group):
    """A group of Adam or AdamW."""

    needs = ("fused_adam", "fused_adamw", "foreach_add")
    on = ("amsgrad", "capturable", "differentiable")

    def __init__(
        self, group: dict[str, Any], active: Sequence[Tensor], state: Mapping[Any, Any]
    ) -> None:
        super().__init__(group, active, state)
        self.states = [state[parameter] for parameter in active]

    @classmethod
    def why_not(cls, group: Mapping[str, Any]) -> str | None:
        """See `Group.why_not`."""
        beta1, beta2 = group["betas"]
        if isinstance(beta1, Tensor) or isinstance(beta2, Tensor):
            return "tensors as betas"
        return super().why_not(group)

    @staticmethod
    def has_state(state: Mapping[Any, Any], parameter: Tensor) -> bool:
        """See `Group.has_state`."""
        return parameter in state and state[parameter].keys() >= {"step", "exp_avg", "exp_avg_sq"}

    def is_as_it_was(self, group: dict[str, Any]) -> bool:
        """See `Group.is_as_it_was`."""
        return super().is_as_it_was(group) and all(self.states)

    def update(self, gradients: Sequence[Tensor], one: Tensor) -> None:
        """See `Group.update`."""
        group, states = self.group, self.states
        beta1, beta2 = group["betas"]
        decoupled = group["decoupled_weight_decay"]
        kernel: Any = kernels.fused_adamw if decoupled else kernels.fused_adam
        steps = [state["step"] for state in states]
        # a tensor to add spares one conversion for each of them
        kernels.foreach_add(steps, one, alpha=1.0)  # type: ignore[misc]
        kernel(
            self.active,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            steps,
            amsgrad=False,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=group["maximize"],
            grad_scale=None,
            found_inf=None,
        )


class SGDGroup(Group):
    """A group of SGD without momentum, which has no state."""

    needs = ("fused_sgd",)
    on = ("momentum", "nesterov", "differentiable")

    def update(self, gradients: Sequence[Tensor], one: Tensor) -> None:
        """See `Group.update`."""
        group = self.group
        kernels.fused_sgd(  # type: ignore[misc]
            self.active,
            gradients,
            [],
            weight_decay=group["weight_decay"],
            momentum=0.0,
            lr=group["lr"],
            dampening=group["dampening"],
            nesterov=False,
            maximize=group["maximize"],
            is_first_step=False,
            grad_scale=None,
            found_inf=None,
        )
