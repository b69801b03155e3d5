"""Calls functions in forward and backward passes of layers."""

from __future__ import annotations

import inspect
import textwrap
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.tools.submodules import submodules
from skorchlike.exceptions import ParameterError, did_you_mean
from skorchlike.params.calling import name_of, parameters_of
from skorchlike.params.patterns import Patterns, check_patterns, matching

if TYPE_CHECKING:
    from torch import nn

    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context

FORWARD = ("name", "module", "inputs", "output")
BACKWARD = ("name", "module", "grad_input", "grad_output")


class Hooks(Callback):
    """Call functions of yours in the forward and backward passes of submodules.

    Parameters
    ----------
    patterns : str, list of str, or callable, default="*"
        Which submodules: globs on their qualified names, of which one must match, or a
        function of a name. The whole module's name is ``""``, which ``"*"`` matches.
    forward : callable, optional
        Called as ``forward(name, module, inputs, output)`` after a submodule's forward
        pass; ``inputs`` is the tuple of its positional arguments.
    backward : callable, optional
        Called as ``backward(name, module, grad_input, grad_output)`` once the gradients
        of a submodule's inputs are known; both are tuples of tensors or None.
    when : {"train", "valid", "both"}, default="train"
        In which phases. Validation has no backward pass.

    Raises
    ------
    ParameterError
        Before training: if there is no function to call, a function cannot be called
        so, or `backward` could never be called.

    Notes
    -----
    A function that has a parameter ``ctx`` is given the context too, by that name. What a
    function returns is ignored, so it cannot replace an output by accident; a tensor that
    it changes in place is changed. A pattern that matches nothing warns.

    The hooks are PyTorch's own; they stand from the beginning of a phase to its end and
    are removed whatever happens. PyTorch allows no ``backward`` at a submodule whose inputs or
    output are changed in place (``ReLU(inplace=True)``), and raises an error; where none of
    the inputs needs a gradient, as at the first layer, it warns and ``grad_input`` holds None.

    The idea: ``HooksCallback`` of fastai's miniai.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import Hooks, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> def show(name, module, inputs, output, ctx):
    ...     print(ctx.epoch, name, type(module).__name__, tuple(output.shape))
    >>> net = NeuralNetClassifier(max_epochs=1, callbacks=[Hooks(["0", "2"], forward=show)])
    >>> net = net.fit(X, y)
    1 0 Linear (150, 256)
    1 2 Linear (150, 3)
    """

    order = 60
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "patterns": [str, list, tuple, set, frozenset, callable],
        "forward": [callable, None],
        "backward": [callable, None],
        "when": [StrOptions({"train", "valid", "both"})],
    }

    _handles: tuple[Any, ...] = ()

    def __init__(
        self,
        patterns: Patterns = "*",
        forward: Callable[..., Any] | None = None,
        backward: Callable[..., Any] | None = None,
        when: str = "train",
    ) -> None:
        self.patterns = patterns
        self.forward = forward
        self.backward = backward
        self.when = when

    def advise(self, setup: Setup) -> list[str]:
        """Say that a function is missing or would never be called."""
        return self._wrong()

    def _wrong(self) -> list[str]:
        if self.forward is None and self.backward is None:
            return ["Hooks has nothing to call. Give it forward=... or backward=..."]
        if self.backward is not None and self.when == "valid":
            return [
                "Hooks(when='valid') would never call `backward`: validation has no backward "
                "pass. Use when='train' or when='both'."
            ]
        return []

    def on_begin(self, ctx: Context) -> None:
        """Check the functions and the patterns."""
        check_patterns(self.patterns, "The `patterns` parameter of Hooks")
        for wrong in self._wrong():
            raise ParameterError(wrong)
        _check_function("forward", self.forward, FORWARD)
        _check_function("backward", self.backward, BACKWARD)
        names = list(submodules(ctx.module))
        alone = callable(self.patterns) or isinstance(self.patterns, str)
        for pattern in [self.patterns] if alone else self.patterns:  # type: ignore[union-attr]
            if not matching(pattern, names):
                hint = did_you_mean(str(pattern), [name for name in names if name])
                warnings.warn(
                    f"Hooks: the pattern {pattern!r} matches no submodule. "
                    f"{textwrap.shorten(hint, 300, placeholder=' ...')}",
                    stacklevel=2,
                )

    def on_before_train(self, ctx: Context) -> None:
        """Put the hooks in place."""
        if self.when != "valid":
            self._register(ctx)

    def on_valid_begin(self, ctx: Context) -> None:
        """Put the hooks in place."""
        if self.when != "train":
            self._register(ctx)

    def on_phase_exit(self, ctx: Context) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = ()

    def on_exit(self, ctx: Context) -> None:
        """Remove what is left, should a phase have been left in an unusual way."""
        self.on_phase_exit(ctx)

    def _register(self, ctx: Context) -> None:
        modules = submodules(ctx.module)
        for name in matching(self.patterns, modules):
            module = modules[name]
            if self.forward is not None:
                hook = _hook("forward", self.forward, name, ctx)
                self._handles += (module.register_forward_hook(hook),)
            if self.backward is not None and ctx.training:
                hook = _hook("backward", self.backward, name, ctx)
                self._handles += (module.register_full_backward_hook(hook),)


def _hook(kind: str, function: Callable[..., Any], name: str, ctx: Context) -> Callable[..., None]:
    more = {"ctx": ctx} if "ctx" in parameters_of(function) else {}

    def hook(module: nn.Module, before: Any, after: Any) -> None:
        try:
            function(name, module, before, after, **more)
        except Exception as error:
            error.add_note(f"Raised by the `{kind}` function of Hooks at the submodule {name!r}.")
            raise

    return hook


def _check_function(
    kind: str, function: Callable[..., Any] | None, arguments: tuple[str, ...]
) -> None:
    """Refuse a function that does not take the arguments."""
    if function is None:
        return
    try:
        signature = inspect.signature(function)
    except ValueError:
        return  # none can be told of some built-in functions
    more = {"ctx": None} if "ctx" in signature.parameters else {}
    try:
        signature.bind(*arguments, **more)
    except TypeError as error:
        raise ParameterError(
            f"The `{kind}` of Hooks must be callable as {kind}({', '.join(arguments)}), and may "
            f"have a parameter ctx. {name_of(function)}{signature}: {error}."
        ) from None
