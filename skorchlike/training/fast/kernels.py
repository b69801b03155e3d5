"""The private functions of torch that the fast paths call, and what to do without them.

Nothing else in the package calls them. Each is None where this version of torch has it not;
whoever asks then takes the public way: ``loss.backward()``, ``optimizer.step()``, a module's
forward under autograd.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as _modules
from torch.optim import optimizer as _optimizers


def _private(owner: Any, *path: str) -> Any:
    for name in path:
        owner = getattr(owner, name, None)
    return owner


run_backward: Callable[..., Any] | None = _private(
    torch.autograd.Variable, "_execution_engine", "run_backward"
)
fused_adam: Callable[..., None] | None = _private(torch, "_fused_adam_")
fused_adamw: Callable[..., None] | None = _private(torch, "_fused_adamw_")
fused_sgd: Callable[..., None] | None = _private(torch, "_fused_sgd_")
foreach_add: Callable[..., None] | None = _private(torch, "_foreach_add_")
log_softmax_backward: Callable[..., Tensor] | None = _private(
    torch, "_C", "_VariableFunctions", "_log_softmax_backward_data"
)

_GLOBAL_MODULE_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)
_MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_GLOBAL_STEP_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")

# whose step is the one that the fused kernels are called by
_STEPS = {
    cls: inspect.unwrap(cls.step) for cls in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
}

_graph_log: logging.Logger | None = _private(torch.autograd.graph, "log")


def backward(loss: Tensor) -> None:
    """Do as ``loss.backward()`` for a loss on the CPU, without its bookkeeping.

    What is left out: the check for functorch and for tensors of other classes, the log of the
    graph's nodes, and the hand-over of the context to threads of other devices.
    """
    if run_backward is None or type(loss) is not Tensor or not loss.is_cpu or _logs_graph():
        loss.backward()
        return
    run_backward(
        (loss,),
        (torch.ones_like(loss),),
        False,  # keep_graph
        False,  # create_graph
        (),
        allow_unreachable=True,
        accumulate_grad=True,
    )


def _logs_graph() -> bool:
    return _graph_log is None or _graph_log.isEnabledFor(logging.DEBUG)


def step_is_own(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it is one of the classes above, with the step that it came with."""
    # the first optimizer of a class wraps the class's step
    return _STEPS.get(type(optimizer)) is inspect.unwrap(type(optimizer).step)


def step_hooks(optimizer: torch.optim.Optimizer) -> list[Any]:
    """Return the hooks that run around a step: those of the optimizer, and those for all.

    The dicts themselves, so that one can look again without another look-up.
    """
    own = [getattr(optimizer, name) for name in _STEP_HOOKS]
    return own + [getattr(_optimizers, name) for name in _GLOBAL_STEP_HOOKS]


def is_profiled() -> bool:
    """Whether a profiler of torch runs, which would miss the names of what is left out."""
    return bool(_private(torch.autograd.profiler, "_is_profiler_enabled"))


def hooked(modules: list[nn.Module]) -> nn.Module | None:
    """Return the first module with hooks, or whose call is replaced or compiled; or None."""
    if any(getattr(_modules, name, True) for name in _GLOBAL_MODULE_HOOKS):
        return modules[0]
    for module in modules:
        said = vars(module)
        replaced = "forward" in said or said.get("_compiled_call_impl") is not None
        if replaced or any(said.get(name, True) for name in _MODULE_HOOKS):
            return module
    return None


def has_hooks(parameter: Tensor) -> bool:
    """Whether gradients of a parameter are shown to hooks."""
    return any(getattr(parameter, name, None) for name in _PARAMETER_HOOKS)


def lacking(*names: str) -> str | None:
    """Return the first of these functions that this version of torch lacks, or None."""
    return next((name for name in chain(names) if globals()[name] is None), None)
