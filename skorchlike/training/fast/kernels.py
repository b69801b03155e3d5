"""The private functions of torch that the fast paths call, and what to do without them.

Nothing else in the package calls them. Each is None where this version of torch has it not;
whoever asks then takes the public way: ``loss.backward()``, ``optimizer.step()``, a module's
forward under autograd.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.optim import lr_scheduler
from torch.optim import optimizer as optimizers


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

_GLOBAL_MODULE_HOOKS = [  # None where there is no such dict: then there may be hooks
    _private(modules, name)
    for name in (
        "_global_forward_hooks",
        "_global_forward_pre_hooks",
        "_global_backward_hooks",
        "_global_backward_pre_hooks",
    )
]
_MODULE_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_PROFILED = "_is_profiler_enabled"
_STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_UNKNOWN = (None,)  # in the place of hooks that this version of torch keeps elsewhere
_GLOBAL_STEP_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")


def _unwrapped(step: Any) -> Any:
    """Return what stands beneath the wrappers that torch itself puts around a step."""
    while hasattr(step, "__wrapped__") and step.__code__.co_filename == optimizers.__file__:
        step = step.__wrapped__
    return step


# whose step is the one that the fused kernels are called by
_STEPS: dict[type, Any] = {
    cls: _unwrapped(cls.step) for cls in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
}

_saved_tensors_hooks: Callable[[bool], Any] | None = _private(
    torch, "_C", "_autograd", "_top_saved_tensors_default_hooks"
)
_n_function_modes: Callable[[], int] | None = _private(torch, "_C", "_len_torch_function_stack")
_n_dispatch_modes: Callable[[], int] | None = _private(torch, "_C", "_len_torch_dispatch_stack")
_graph_log: logging.Logger | None = _private(torch.autograd.graph, "log")


_PASSED_OVER = [
    (owner, name, getattr(owner, name))
    for owner, name in (
        (Tensor, "backward"),
        (torch.autograd, "backward"),
        (torch.optim.Optimizer, "zero_grad"),
        (nn.Module, "__call__"),
    )
]
_FORWARDS = {
    cls: cls.forward
    for cls in vars(nn).values()
    if isinstance(cls, type) and issubclass(cls, nn.Module)
}


def backward(loss: Tensor) -> None:
    """Do as ``loss.backward()`` for a loss on the CPU, without its bookkeeping.

    What is left out: the check for functorch and for tensors of other classes, the log of the
    graph's nodes, and the hand-over of the context to threads of other devices.
    """
    plain = type(loss) is Tensor and loss.is_cpu and loss.is_floating_point()
    if run_backward is None or not plain or loss.numel() != 1 or is_overridden() or _logs_graph():
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
    cls = type(optimizer)
    own_zero_grad = cls.zero_grad is torch.optim.Optimizer.zero_grad
    return own_zero_grad and _STEPS.get(cls) is _unwrapped(cls.step)


def is_of_schedule(step: Any, optimizer: torch.optim.Optimizer) -> bool:
    """Whether what stands for an optimizer's step is torch's note that it was called.

    Its schedules put that there, directly around the step of the class.
    """
    code = getattr(step, "__code__", None)
    of_torch = code is not None and code.co_filename == lr_scheduler.__file__
    return of_torch and getattr(step, "__wrapped__", None) is type(optimizer).step


def step_hooks(optimizer: torch.optim.Optimizer) -> list[Any]:
    """Return the hooks that run around a step: those of the optimizer, and those for all.

    The dicts themselves, so that one can look again without another look-up.
    """
    own = [getattr(optimizer, name, _UNKNOWN) for name in _STEP_HOOKS]
    return own + [getattr(optimizers, name, _UNKNOWN) for name in _GLOBAL_STEP_HOOKS]


def is_profiled() -> bool:
    """Whether a profiler of torch runs, which would miss the names of what is left out."""
    return getattr(torch.autograd.profiler, _PROFILED, True)


def has_hooks(module: nn.Module) -> bool:
    """Whether a module's call shows anything to hooks, or is replaced or compiled."""
    said = vars(module)
    if "forward" in said or said.get("_compiled_call_impl") is not None:
        return True
    for name in _MODULE_HOOKS:
        if said.get(name, True):
            return True
    return any(hooks is None or hooks for hooks in _GLOBAL_MODULE_HOOKS)


def has_gradient_hooks(parameter: Tensor) -> bool:
    """Whether gradients of a parameter are shown to hooks."""
    return any(getattr(parameter, name, _UNKNOWN) for name in _PARAMETER_HOOKS)


def graph_has_hooks() -> bool:
    """Whether what a graph keeps is handed to hooks, such as those that keep it elsewhere."""
    return _saved_tensors_hooks is None or _saved_tensors_hooks(True) is not None


def is_overridden() -> bool:
    """Whether a mode (`TorchFunctionMode`, `TorchDispatchMode`) looks at what is called."""
    if _n_function_modes is None or _n_dispatch_modes is None:
        return True
    return _n_function_modes() > 0 or _n_dispatch_modes() > 0


def is_patched() -> bool:
    """Whether somebody has replaced a function of torch that is passed over."""
    return any(getattr(owner, name) is not known for owner, name, known in _PASSED_OVER)


def forward_is_own(module: nn.Module) -> bool:
    """Whether a layer or criterion has the ``forward`` that its class came with."""
    return _FORWARDS.get(type(module)) is type(module).forward


def is_scaled(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a fused step has been given a scale of its gradients, as a scaler of losses does."""
    said = vars(optimizer)
    return said.get("grad_scale") is not None or said.get("found_inf") is not None


def lacking(*names: str) -> str | None:
    """Return the first of these functions that this version of torch lacks, or None."""
    return next((name for name in names if globals()[name] is None), None)
