"""The base class of callbacks, checked when a subclass is written."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

from skorchlike.exceptions import CallbackDefinitionError, did_you_mean
from skorchlike.params.routing import RoutedParams
from skorchlike.training.stages import ACTIONS, FOREIGN_NAMES, PROVIDERS, STAGES

if TYPE_CHECKING:
    from skorchlike.training.context import Context


class Callback(RoutedParams):
    """Base class of everything that acts in the training loop.

    A callback is a class with a method for each stage at which it acts. Each receives
    the `Context` of the run, ``ctx``, and needs nothing else. Its ``__init__`` stores its
    arguments under their own names and does nothing more: they are scikit-learn
    parameters, which an estimator sets on copies (``callbacks__logger__alpha=0.5``).
    What it needs in training it makes in ``on_begin``.

    A method ``do_predict``, ``do_get_loss``, ``do_backward``, ``do_step`` or
    ``do_zero_grad`` replaces the action of that name.

    To keep something on the fitted model (``model_.callbacks_``) define both
    ``state_dict`` and ``load_state_dict``.

    Attributes
    ----------
    order : float, default=0
        Callbacks run by ascending order; ties in the order in which they were given.
    passive : bool, default=False
        Whether the callback only watches: the trained weights are the same bits
        without it.
    logs : tuple of str, default=()
        Names of the history columns that it adds by ``ctx.log``. Only named columns can
        be monitored by other callbacks. May be a property, or hold globs (``"grad_*"``)
        for names that are known only in a fit.
    changes_gradients : bool, default=False
        Whether it reads or changes gradients and so needs them whole (the accumulation
        complete, no scaling of mixed precision left in them), which they are from
        ``on_before_step`` on. `explain` warns where that does not hold.
    changes_inputs : bool, default=False
        Whether its ``on_batch_predict_begin`` changes ``ctx.X``, so that whoever runs the
        module over ``ctx.train_inputs()`` has to call it.

    Raises
    ------
    CallbackDefinitionError
        When a subclass is written that defines an unknown ``on_*`` or ``do_*`` method, a
        stage by its name in luz or miniai, a method with a wrong signature, or only one
        of ``state_dict`` and ``load_state_dict``.

    Notes
    -----
    The stages and the state methods follow mlr3torch; ``order``, the cancel exceptions
    and the replaceable actions follow fastai's miniai.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import Callback, NeuralNetClassifier
    >>> class LastLoss(Callback):
    ...     def on_begin(self, ctx):
    ...         self.losses = []
    ...     def on_epoch_end(self, ctx):
    ...         self.losses.append(ctx.last_loss)
    ...     def state_dict(self):
    ...         return {"losses": self.losses}
    ...     def load_state_dict(self, state):
    ...         self.losses = state["losses"]
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(max_epochs=3, callbacks=[LastLoss()], random_state=0)
    >>> len(net.fit(X, y).model_.callbacks_.last_loss["losses"])
    3
    """

    order: ClassVar[float] = 0
    passive: ClassVar[bool] = False
    logs: ClassVar[tuple[str, ...]] = ()
    changes_gradients: ClassVar[bool] = False
    changes_inputs: ClassVar[bool] = False
    _parameter_constraints: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check_definition(cls)

    @property
    def idle_stages(self) -> tuple[str, ...]:
        """Stages that it defines and that would do nothing with these parameters.

        The loop does not call them: so a callback that has no work in the midst of a batch
        leaves the fastest training step open (``model_.path_``). It is read when the
        parameters are set, before ``on_begin``, and may depend on nothing else. Default:
        none. What a subclass defines is called, unless the subclass names it itself.

        Returns
        -------
        tuple of str
            Names of stages (``on_*``).

        Examples
        --------
        >>> from skorchlike import LRScheduler
        >>> LRScheduler("cosine", unit="epoch").idle_stages
        ('on_after_step',)
        """
        return ()

    def state_dict(self) -> Any:
        """Return what to keep after the fit, without the parameters; None for nothing.

        A checkpoint asks for it too, after any batch: return all that an interrupted fit needs
        to go on there, but for what ``on_begin``, ``on_epoch_begin`` and ``on_before_train``
        make. It holds what files can hold: numbers, strings, tensors, arrays, lists, dicts.
        """
        return None

    def load_state_dict(self, state: Any) -> None:
        """Take up a state that ``state_dict`` returned; runs right after ``on_begin``.

        Where a fit is resumed in the middle of an epoch, it runs again after ``on_epoch_begin``
        and after ``on_before_train``, which then run again too.

        Parameters
        ----------
        state : object
            A copy of what ``state_dict`` returned.
        """

    def plan(self, n_epochs: int, n_updates: int) -> tuple[int, int]:
        """Return how much training is left of a fit by what this callback leaves out.

        Asked once, before the fit begins, in the order in which the callbacks run.
        ``ctx.n_updates`` is the product that the last one leaves.

        Parameters
        ----------
        n_epochs : int
            Epochs that will be trained.
        n_updates : int
            Optimizer steps an epoch.

        Returns
        -------
        n_epochs, n_updates : int
            The same with this callback. Accumulation over two batches halves the second.
        """
        return n_epochs, n_updates

    def wrap_call(
        self, owner: str, place: str, call: Callable[[Context], None]
    ) -> Callable[[Context], None]:
        """Return what the loop calls in the place of a callback's stage or an action.

        Asked once a fit for every call of every stage and action, before ``on_begin``.
        For measuring: what is returned must do what `call` does.

        Parameters
        ----------
        owner : str
            The name of the callback that is called, or ``"estimator"`` for an action of
            the estimator.
        place : str
            The stage, or the method of the action, such as ``"do_backward"``.
        call : callable
            Takes the context.
        """
        return call

    def advise(self, setup: Setup) -> list[str]:
        """Return what looks wrong about this callback among the others, a sentence each.

        Asked by `explain`, before a fit.

        Parameters
        ----------
        setup : Setup
            The callbacks in their order, the columns of the history, the epochs.
        """
        return []

    _method: Any
    for _method in (state_dict, load_state_dict, plan, wrap_call, advise):
        _method.is_no_op = True
    del _method


@dataclass(frozen=True)
class Setup:
    """What is known of a fit before it begins: what `Callback.advise` goes by.

    Attributes
    ----------
    name : str
        The name under which the callback that is asked stands.
    callbacks : dict
        Name → callback, in the order in which they run.
    columns : tuple of str
        Names of the history columns that the fit can have.
    max_epochs : int
        Epochs of the fit.
    """

    name: str
    callbacks: dict[str, Callback]
    columns: tuple[str, ...]
    max_epochs: int


def _no_op(name: str, meaning: str) -> Callable[[Any, Context], None]:
    def stage(self: Any, ctx: Context) -> None:
        pass

    stage.__name__ = name
    stage.__qualname__ = f"Callback.{name}"
    stage.__doc__ = meaning.replace("`", "``")
    stage.is_no_op = True  # type: ignore[attr-defined]
    return stage


# so that help(Callback) shows every stage, and super().on_begin(ctx) always works
for _stage in STAGES.values():
    setattr(Callback, _stage.name, _no_op(_stage.name, _stage.meaning))


METHODS = {
    "state_dict": (),
    "load_state_dict": ("state",),
    "plan": ("n_epochs", "n_updates"),
    "wrap_call": ("owner", "place", "call"),
    "advise": ("setup",),
}
"""What else a callback may define, and its arguments."""


def _check_definition(cls: type[Callback]) -> None:
    """Check what a subclass defines against the table of stages."""
    for name, value in vars(cls).items():
        if name in STAGES or name in PROVIDERS:
            _check_signature(cls, name, value, ("ctx",))
        elif name in METHODS:
            _check_signature(cls, name, value, METHODS[name])
        elif name in FOREIGN_NAMES and callable(value):
            raise CallbackDefinitionError(
                f"{cls.__name__}.{name}: this stage is called {FOREIGN_NAMES[name]} here."
            )
        elif name.startswith(("on_", "do_")) and callable(value):
            kind, valid = ("stage", STAGES) if name.startswith("on_") else ("action", PROVIDERS)
            raise CallbackDefinitionError(
                f"{cls.__name__}.{name} is no {kind} of the loop.{did_you_mean(name, valid)} "
                "(A helper method needs another name.)"
            )
        elif name in ACTIONS and _takes_ctx(value):
            raise CallbackDefinitionError(
                f"{cls.__name__}.{name}(self, ctx) would not be called. To replace the action "
                f"{name!r} call the method do_{name}; a helper method needs another name."
            )
    _check_attributes(cls)
    state = [
        name
        for name in ("state_dict", "load_state_dict")
        if not getattr(getattr(cls, name), "is_no_op", False)
    ]
    if len(state) == 1:
        other = "load_state_dict" if state[0] == "state_dict" else "state_dict"
        raise CallbackDefinitionError(
            f"{cls.__name__} defines {state[0]} without {other}. Define both: what one "
            "returns the other takes up when a fit is continued."
        )


def _check_attributes(cls: type[Callback]) -> None:
    order, logs = vars(cls).get("order", 0), vars(cls).get("logs", ())
    if not isinstance(order, property) and (not isinstance(order, Real) or order != order):
        raise CallbackDefinitionError(f"{cls.__name__}.order must be a number. Got {order!r}.")
    if not isinstance(logs, property) and (
        isinstance(logs, str) or not all(isinstance(name, str) for name in logs)
    ):
        raise CallbackDefinitionError(
            f"{cls.__name__}.logs must be a tuple of column names. Got {logs!r}."
        )


def _check_signature(cls: type, name: str, value: Any, arguments: tuple[str, ...]) -> None:
    wanted = f"{name}({', '.join(('self', *arguments))})"
    function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise CallbackDefinitionError(
            f"{cls.__name__}.{name} must be a plain function: a generator or coroutine would "
            "never run."
        )
    try:
        if isinstance(value, staticmethod):
            inspect.signature(function).bind(*arguments)
        else:
            inspect.signature(function).bind(None, *arguments)
    except (TypeError, ValueError):
        got = f"{name}{inspect.signature(function)}" if callable(function) else repr(value)
        raise CallbackDefinitionError(
            f"{cls.__name__}.{name} must be callable as {wanted}. Got {got}."
        ) from None


def _takes_ctx(value: Any) -> bool:
    return inspect.isfunction(value) and "ctx" in inspect.signature(value).parameters
