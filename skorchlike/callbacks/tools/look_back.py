"""Where NaN and infinity come from: a batch looked at again, and repeated."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from skorchlike.callbacks.tools.submodules import submodules, tensors_in

if TYPE_CHECKING:
    from skorchlike.training.context import Context

OVERFLOW = "Use a smaller lr, callbacks=['gradient_clipping'], or scale the data."
DATA = "Look at what makes or transforms the batch, and at casts to a narrower dtype."
LAYER = "Look at what it divides by and takes roots, logarithms and exponentials of. " + OVERFLOW


class LookBack:
    """Finds where values that are not finite came from.

    Parameters
    ----------
    ctx : Context
        In the batch, before its step; or after the training phase.
    found_in : {"loss", "gradients", "weights"}
        Where they were seen.
    every : int
        How often the guard looks.
    autocast : tuple
        Whether the batch was computed in a lower precision, and in which.
    """

    def __init__(
        self, ctx: Context, found_in: str, every: int, autocast: tuple[bool, torch.dtype]
    ) -> None:
        self.ctx, self.found_in, self.every, self.autocast = ctx, found_in, every, autocast
        self.submodules = submodules(ctx.module)

    def report(self) -> dict[str, Any]:
        """Return ``cause``, ``module``, ``module_class`` and ``message``."""
        ctx = self.ctx
        for field in ("X", "y", "sample_weight"):
            if not is_finite(getattr(ctx, field)):
                return _report(field, f"{_bad_data(ctx, field)} {DATA}")
        bad = which_are_bad(all_parameters(ctx))
        if bad:
            return self._bad_weights(bad[0])
        if self.found_in == "loss" and is_finite(ctx.y_pred):
            return self._bad_loss()
        try:
            found = self._repeat()
        except Exception as error:
            again = f"The batch could not be repeated to find the layer: {error!r}."
            return _report("unknown", f"Batch and weights are finite. {again}")
        if found is None:
            return _report(
                "unknown",
                "Batch and weights are finite, and so is everything when the batch is repeated: "
                "it is made by random numbers (dropout), by gradients accumulated before this "
                "batch, or by a callback.",
            )
        return self._bad_module(*found)

    def _bad_weights(self, name: str) -> dict[str, Any]:
        since = "one of the steps since the last look" if self.every > 1 else "the step before"
        since = "the start" if self.ctx.global_step == 1 and self.ctx.step else since
        what = f"The weights {name!r} are so since {since}; what was looked at before was finite."
        owner = name.rpartition(".")[0]
        return _report("weights", f"{what} {OVERFLOW}", owner, self.submodules.get(owner))

    def _bad_module(self, name: str, part: nn.Module) -> dict[str, Any]:
        kind = type(part).__name__
        who = f"{name!r} ({kind})" if name else f"the module ({kind})"
        what = "its inputs are finite, its output is not."
        if self.found_in == "gradients":
            what = "the gradients that reach it are finite, those that it passes on or has are not."
        if next(part.children(), None) is not None:
            what += " None of its submodules does; its own code does."
        return _report("module", f"First made by {who}: {what} {LAYER}", name, part)

    def _bad_loss(self) -> dict[str, Any]:
        ctx = self.ctx
        sizes = ", ".join(f"{of} {_largest(getattr(ctx, of))}" for of in ("y_pred", "y"))
        what = f"The module's output is finite (largest absolute values: {sizes})"
        with self._undisturbed():
            _provider(ctx, "do_get_loss")(ctx)
            if is_finite(ctx.loss):
                text = f"{what}, and so is its loss: a callback has changed that."
                return _report("on_after_loss", text)
        kind = type(ctx.criterion).__name__
        return _report("criterion", f"{what}: it is made by the loss ({kind}). {LAYER}")

    # ---------------------------------------------------------------- repeating a batch

    def _repeat(self) -> tuple[str, nn.Module] | None:
        """Return the first submodule that makes what is not finite, in a batch repeated."""
        ctx = self.ctx
        found: list[tuple[str, nn.Module]] = []
        inputs_finite: list[bool] = []

        def enter(part: nn.Module, args: Any, kwargs: Any) -> None:
            inputs_finite.append(is_finite((args, kwargs)))

        def leave(name: str, part: nn.Module, args: Any, output: Any) -> None:
            if inputs_finite.pop() and not found and not is_finite(output):
                found.append((name, part))

        reached: set[str] = set()  # by gradients that are not finite

        def pass_on(name: str, part: nn.Module, grad_input: Any, grad_output: Any) -> None:
            if not is_finite(grad_output):
                reached.add(name)
            if not found and is_finite(grad_output) and not is_finite(grad_input):
                found.append((name, part))

        with self._undisturbed() as stack:
            for name, part in self.submodules.items():
                if self.found_in == "gradients":
                    hooks = [part.register_full_backward_hook(partial(pass_on, name))]
                else:
                    hooks = [
                        part.register_forward_pre_hook(enter, with_kwargs=True),
                        part.register_forward_hook(partial(leave, name)),
                    ]
                for hook in hooks:
                    stack.callback(hook.remove)
            _provider(ctx, "do_predict")(ctx)
            bad = self._bad_gradients() if self.found_in == "gradients" else []
        if not found and bad:
            # none of those passed on is bad: the parameter nearest the loss was the first
            owner = bad[-1].rpartition(".")[0]
            while owner in reached and owner:
                # they were bad before they came to it: code of the module that holds it
                owner = owner.rpartition(".")[0]
            found.append((owner, self.submodules.get(owner, ctx.criterion)))
        return found[0] if found else None

    def _bad_gradients(self) -> list[str]:
        """Return the parameters whose gradients are bad, leaving those in their ``grad``."""
        ctx = self.ctx
        _provider(ctx, "do_get_loss")(ctx)
        parameters = {n: p for n, p in all_parameters(ctx).items() if p.requires_grad}
        gradients = torch.autograd.grad(
            ctx.loss, list(parameters.values()), allow_unused=True, materialize_grads=True
        )
        return which_are_bad(dict(zip(parameters, gradients, strict=True)))

    @contextmanager
    def _undisturbed(self) -> Iterator[ExitStack]:
        """Let a batch be repeated without a trace, in eager mode and with nothing in place."""
        ctx, (enabled, dtype) = self.ctx, self.autocast
        before = {field: getattr(ctx, field) for field in ("X", "y", "y_pred", "loss")}
        buffers = [(b, b.clone()) for b in (*ctx.module.buffers(), *ctx.criterion.buffers())]
        # backward hooks stand no change in place
        in_place = [part for part in ctx.module.modules() if getattr(part, "inplace", None) is True]
        device = ctx.device.type
        with ExitStack() as stack, warnings.catch_warnings():
            stack.enter_context(torch.random.fork_rng([ctx.device] if device == "cuda" else []))
            stack.enter_context(torch.autocast(device, dtype, enabled))
            if "torch._dynamo" in sys.modules:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            warnings.simplefilter("ignore")
            try:
                for part in in_place:
                    part.inplace = False
                yield stack
            finally:
                for part in in_place:
                    part.inplace = True
                put_back(buffers)
                for field, value in before.items():
                    setattr(ctx, field, value)


def _report(cause: str, message: str, name: str | None = None, part: Any = None) -> dict[str, Any]:
    kind = None if part is None else type(part).__name__
    return {"cause": cause, "module": name, "module_class": kind, "message": message}


def _bad_data(ctx: Context, field: str) -> str:
    """Say which rows and columns are not finite."""
    values = getattr(ctx, field)
    if not isinstance(values, Tensor) or values.ndim == 0:
        return f"{field} is not finite."
    bad = ~torch.isfinite(values.detach())
    rows = bad.reshape(len(bad), -1).any(1).nonzero().flatten().cpu()
    index = ctx.index
    rows = index.cpu()[rows] if index is not None and len(index) == len(bad) else rows
    text = f"{field} is not finite in the rows {_few(rows.tolist())} of the data"
    if values.ndim == 2:
        columns = bad.any(0).nonzero().flatten().tolist()
        names = getattr(ctx.estimator, "feature_names_in_", ())
        if field == "X" and len(names) == values.shape[1]:
            columns = [str(names[i]) for i in columns]
        text += f", columns {_few(columns)}"
    return text + "."


def _few(values: list[Any]) -> str:
    shown = ", ".join(map(repr, values[:5]))
    return f"{shown}, ... ({len(values)} in all)" if len(values) > 5 else shown


def _largest(values: Any) -> str:
    largest = [
        tensor.detach().abs().max().item() for tensor in tensors_in(values) if tensor.numel()
    ]
    return f"{max(largest):.3g}" if largest else "none"


def put_back(buffers: list[tuple[Tensor, Tensor]]) -> None:
    """Give buffers the values that go with them."""
    with torch.no_grad():
        for buffer, value in buffers:
            buffer.copy_(value)


def _provider(ctx: Context, method: str) -> Any:
    providers = (cb for cb in ctx.callbacks.values() if hasattr(cb, method))
    return getattr(next(providers, ctx.estimator), method)


def all_parameters(ctx: Context) -> dict[str, Tensor]:
    """Return name → parameter, those of the criterion too."""
    named = {n.replace("_orig_mod.", ""): p for n, p in ctx.module.named_parameters()}
    return {**named, **{f"criterion.{n}": p for n, p in ctx.criterion.named_parameters()}}


def is_finite(values: Any) -> bool:
    """Whether all numbers are finite, in tensors and in tuples, lists and dicts of them."""
    return all(bool(torch.isfinite(_dense(tensor)).all()) for tensor in tensors_in(values))


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether the norm over all tensors is finite; if not, they may yet be: it may overflow."""
    values = [_dense(tensor) for tensor in tensors_in(tensors)]
    return not values or math.isfinite(nn.utils.get_total_norm(values).item())


def _dense(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor._values() if tensor.is_sparse else tensor


def which_are_bad(tensors: dict[str, Tensor]) -> list[str]:
    """Return the names of those that are not finite, at the cost of one wait if none is."""
    if all_finite(list(tensors.values())):
        return []
    return [name for name, tensor in tensors.items() if not is_finite(tensor)]
