"""Compiles the module or the whole step by torch.compile."""

from __future__ import annotations

import contextlib
import functools
import importlib
import types
import warnings
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from sklearn.utils._param_validation import StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError, did_you_mean

if TYPE_CHECKING:
    from skorchlike.training.context import Context

MOST_GRAPHS = 32
"""Of one module in a process: torch's 8 are soon used up by fits with other callbacks."""

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


class Compile(Callback):
    """Compile the module, or all parts of a step, by ``torch.compile``.

    Parameters
    ----------
    what : {"module", "step"}, default="module"
        ``"step"`` compiles the module, the criterion and the optimizer's step, each by
        itself, so that all stages between them still run.
    backend : str or callable, default="inductor"
        What makes code of the graphs. ``"inductor"`` needs a C++ compiler on a CPU;
        ``"eager"`` and ``"aot_eager"`` only trace, to find out what cannot be compiled.
    mode : str or None, default=None
        How hard inductor tries, and only for it: ``"default"`` (None), ``"reduce-overhead"``,
        ``"max-autotune"``, ``"max-autotune-no-cudagraphs"``.
    dynamic : bool or None, default=None
        Whether one graph serves batches of any size. None: it does from the second size on.
    fullgraph : bool, default=False
        Whether it is an error if module or criterion do not fit into one graph.

    Raises
    ------
    ParameterError
        Before training, if there is no such backend, or the mode is not for it.

    Notes
    -----
    A graph is made at the first batch, for a smaller last one and for validation, each in
    seconds to minutes. Fits of like modules in one process share them.

    All is compiled in place: the names of parameters stay, and the fitted model is plain.

    Source: J. Ansel et al., "PyTorch 2: Faster Machine Learning Through Dynamic Python
    Bytecode Transformation and Graph Compilation", ASPLOS 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import Compile, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(max_epochs=2, callbacks=[Compile(backend="eager")])
    >>> net.fit(X, y).predict(X).shape
    (150,)
    """

    order = -60
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "what": [StrOptions({"module", "step"})],
        "backend": [str, callable],
        "mode": [StrOptions(set(MODES)), None],
        "dynamic": ["boolean", None],
        "fullgraph": ["boolean"],
    }

    _undo: contextlib.ExitStack | None = None

    def __init__(
        self,
        what: str = "module",
        backend: str | Callable[..., Any] = "inductor",
        mode: str | None = None,
        dynamic: bool | None = None,
        fullgraph: bool = False,
    ) -> None:
        self.what = what
        self.backend = backend
        self.mode = mode
        self.dynamic = dynamic
        self.fullgraph = fullgraph

    def on_begin(self, ctx: Context) -> None:
        """Put compiled calls in the place of the plain ones; graphs are made when called."""
        names = torch.compiler.list_backends(exclude_tags=())
        if isinstance(self.backend, str) and self.backend not in names:
            raise ParameterError(
                "The 'backend' parameter of Compile must be a callable or a backend of "
                f"torch.compile. Got {self.backend!r}.{did_you_mean(self.backend, names)}"
            )
        if self.mode is not None and self.backend != "inductor":
            raise ParameterError(
                "The 'mode' parameter of Compile is for backend='inductor' alone. Got "
                f"mode={self.mode!r} and backend={self.backend!r}: leave one out."
            )
        if self.backend == "inductor" or self.what == "step":
            # compiling would import it, with deprecations of torch's own that may be errors
            with warnings.catch_warnings(action="ignore"):
                importlib.import_module("torch._inductor.compile_fx")
        self._undo = contextlib.ExitStack()
        # else hooks that a callback sets or removes later would be ignored in silence
        hook_guards = torch._dynamo.config.patch(skip_nnmodule_hook_guards=False)
        self._undo.enter_context(hook_guards)
        # torch hides this warning of its own, but not from those who make warnings errors
        self._undo.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", r"The \.grad attribute of a Tensor")
        self._compile_module(ctx.module, "module")
        if self.what == "step":
            self._compile_module(ctx.criterion, "criterion")
            self._compile_step(ctx.optimizer)

    def on_after_loss(self, ctx: Context) -> None:
        """Copy the loss: CUDA graphs write that of each batch to the same memory."""
        if self.what == "step":
            ctx.loss = ctx.loss.clone()

    on_batch_valid_after_loss = on_after_loss

    def on_exit(self, ctx: Context) -> None:
        """Make all plain again."""
        if self._undo is not None:
            self._undo.close()
            self._undo = None

    def _compile_module(self, module: Any, what: str) -> None:
        # not module.compile(): torch traces no frame of its own files, so that would do
        # nothing, in silence, for a torch.nn.Sequential
        call = _caller(module)
        shapes = [tuple(p.shape) for p in module.parameters()]
        call.__code__ = _own_code(
            f"{self.mode} {self.dynamic} {self.fullgraph} {type(module)} {module} {shapes}"
        )
        options = {"fullgraph": bool(self.fullgraph), "recompile_limit": MOST_GRAPHS}
        compiled = self._compile(call, what, **options)
        self._replace(module, "_compiled_call_impl", compiled)

    def _compile_step(self, optimizer: Any) -> None:
        if all(group.get("fused") for group in optimizer.param_groups):
            return  # one kernel already, which torch does not trace
        # graphs of an optimizer serve no other; isolated they count towards no other's limit
        compiled = self._compile(optimizer.step, "optimizer's step", isolate_recompiles=True)
        # a method, as torch's schedulers expect, which put one of their own around it
        step = types.MethodType(lambda _, *args: compiled(*args), optimizer)
        self._replace(optimizer, "step", step)

    def _replace(self, thing: Any, name: str, value: Any) -> None:
        assert self._undo is not None
        self._undo.callback(vars(thing).pop, name, None)
        setattr(thing, name, value)

    def _compile(self, call: Any, what: str, **options: Any) -> Callable[..., Any]:
        """Return the compiled call, which says what to do where it cannot be compiled."""
        options["dynamic"] = None if self.dynamic is None else bool(self.dynamic)
        compiled = torch.compile(call, backend=self.backend, mode=self.mode, **options)
        errors = torch._dynamo.exc
        failures = (errors.TorchDynamoException, errors.FailOnRecompileLimitHit)

        def noted(*args: Any, **kwargs: Any) -> Any:
            try:
                return compiled(*args, **kwargs)
            except failures as error:
                error.add_note(
                    f"Raised by torch.compile of the {what}, for the callback Compile with backend="
                    f"{self.backend!r}. If the fit fails without the callback too, the {what} is "
                    "at fault. If not, try fullgraph=False, another backend ('aot_eager'), "
                    "what='module', or torch.compiler.disable on what cannot be compiled."
                )
                raise

        return noted


def _caller(module: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        return module._call_impl(*args, **kwargs)

    return call


@functools.lru_cache(maxsize=64)
def _own_code(description: str) -> types.CodeType:
    """Return a copy of the caller's code for modules and options of one description.

    torch keeps graphs by code object, so many of each, and then compiles no more: so fits of
    like modules (cross-validation) share graphs, and a search over layers has enough. By the
    name torch remembers which sizes vary.
    """
    name = f"compiled_module_{zlib.crc32(description.encode()):08x}"
    return _caller(None).__code__.replace(co_name=name)
