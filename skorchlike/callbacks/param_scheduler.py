"""Any number of training by a schedule: optimizer options, dropout rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from sklearn.utils._param_validation import StrOptions

from skorchlike.callbacks.base import Callback
from skorchlike.exceptions import ParameterError, did_you_mean

if TYPE_CHECKING:
    from torch import nn, optim

    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context

SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda t: 1 - t,
    "cosine": lambda t: 0.5 * (1 + math.cos(math.pi * t)),
    "flat_cos": lambda t: 1.0 if t < 0.5 else 0.5 * (1 + math.cos(math.pi * (2 * t - 1))),
    "coslog4": lambda t: 0.5 * (1 - math.cos(2 * math.pi * math.log2(1 + 15 * t))),
}
"""Factors by the share of the fit that is done."""


class ParamScheduler(Callback):
    """Multiply an option of the optimizer, or an attribute of submodules, by a schedule.

    Parameters
    ----------
    param : str, default="lr"
        An option of the optimizer (``"lr"``, ``"weight_decay"``), in all its parameter
        groups; or, with a dot, an attribute of the module's submodules, by a glob:
        ``"*.p"`` are the rates of all dropout layers. It must be a number.
    shape : str or callable, default="cosine"
        ``"linear"`` and ``"cosine"`` fall from 1 to 0, ``"flat_cos"`` stays at 1 for half of
        the fit, ``"coslog4"`` has four cosine waves, each twice as long as the one before; or
        a function that takes the share of the fit that is done, from 0 to 1, and returns
        the factor. The value is that at the beginning of the fit times the factor.
    unit : {"batch", "epoch"}, default="batch"
        Whether it changes with every optimizer step or with every epoch.

    Raises
    ------
    ParameterError
        Before training: if there is no such option or attribute, if it is no number, or
        if the number of optimizer steps is not known and `unit` is ``"batch"``.

    Notes
    -----
    Attributes of submodules have their own value again when the fit ends; options of the
    optimizer stay as the schedule left them. A fit continued to the same last epoch goes
    on with its schedule; one that is given further epochs (``warm_start``,
    ``partial_fit``) begins a new one from the values before the first.

    For the schedules of torch, and warm-up, see `LRScheduler`. The shapes ``"flat_cos"``
    and ``"coslog4"`` are those of D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by
    default: strong pre-tuned MLPs and boosted trees on tabular data", 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import NeuralNetClassifier, ParamScheduler
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     lr=0.08, max_epochs=4, random_state=0,
    ...     callbacks={"lr": ParamScheduler("lr", "linear", unit="epoch")})
    >>> net.fit(X, y).history_["lr"].round(2).tolist()
    [0.08, 0.06, 0.04, 0.02]
    """

    order = 30
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "param": [str],
        "shape": [StrOptions(set(SHAPES)), callable],
        "unit": [StrOptions({"batch", "epoch"})],
    }

    # what there is when the fit ends before on_begin
    places: list[tuple[Any, str]] | None = None

    def __init__(
        self,
        param: str = "lr",
        shape: str | Callable[[float], float] = "cosine",
        unit: str = "batch",
    ) -> None:
        self.param = param
        self.shape = shape
        self.unit = unit

    @property
    def idle_stages(self) -> tuple[str, ...]:
        """Those that set and count by what is not the unit."""
        by_epoch, by_batch = ("on_epoch_begin", "on_epoch_end"), ("on_batch_begin", "on_after_step")
        return by_epoch if self.unit == "batch" else by_batch

    def advise(self, setup: Setup) -> list[str]:
        """Say that another one changes the same number."""
        others = [
            name
            for name, callback in setup.callbacks.items()
            if isinstance(callback, ParamScheduler)
            and callback is not self
            and callback.param == self.param
        ]
        return [
            f"{name!r} schedules {self.param!r} too: each changes what the other set."
            for name in others
        ]

    def on_begin(self, ctx: Context) -> None:
        """Find what is to be changed, and keep its values."""
        self.factor = SHAPES[self.shape] if isinstance(self.shape, str) else self.shape
        total = ctx.n_updates if self.unit == "batch" else ctx.max_epochs - ctx.epoch
        if total is None:
            raise ParameterError(
                "The number of optimizer steps of this fit is not known, and ParamScheduler "
                "with unit='batch' needs it. Use unit='epoch'."
            )
        self.places = self._find(ctx.module, ctx.optimizer)
        self.base, self._loaded = self._now(), False
        self.taken, self.total, self.last_epoch = 0, total, ctx.max_epochs

    def on_epoch_begin(self, ctx: Context) -> None:
        """Set the values of an epoch."""
        if self.unit == "epoch":
            self._set()

    def on_batch_begin(self, ctx: Context) -> None:
        """Set the values of a step."""
        if self.unit == "batch":
            self._set()

    def on_after_step(self, ctx: Context) -> None:
        """Count an optimizer step."""
        self.taken += self.unit == "batch"

    def on_epoch_end(self, ctx: Context) -> None:
        """Count an epoch."""
        self.taken += self.unit == "epoch"

    def on_exit(self, ctx: Context) -> None:
        """Give submodules their own values back, and let go of all."""
        if "." in self.param:
            self._put(self.base if self.places else [])
        self.places = None

    def state_dict(self) -> dict[str, Any] | None:
        """Return where the schedule is, and the values before it and now."""
        if self.places is None:
            return None
        names = ("base", "taken", "total", "last_epoch")
        state = {name: getattr(self, name) for name in names}
        return {"said": self._schedule(), "now": self._now(), **state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the schedule of the fit continued, or begin anew from its base."""
        now = self._now()
        if state["said"][0] != self.param or len(state["now"]) != len(now):
            return  # of something else, or of other parameter groups
        if "." not in self.param and not self._loaded:
            # what is not as the fit left it was set since then, and holds
            triples = zip(now, state["now"], state["base"], strict=True)
            self.base = [base if value == was else value for value, was, base in triples]
        self._loaded = True
        if tuple(state["said"]) == self._schedule() and state["last_epoch"] == self.last_epoch:
            self.taken, self.total = state["taken"], state["total"]
            if self.base == state["base"]:
                self._put(state["now"])

    def _now(self) -> list[float]:
        return [_get(place) for place in self.places or ()]

    def _put(self, values: list[float]) -> None:
        for place, value in zip(self.places or (), values, strict=True):
            _put(place, value)

    def _schedule(self) -> tuple[str, str, str]:
        return self.param, self.shape if isinstance(self.shape, str) else "own", self.unit

    def _set(self) -> None:
        factor = self.factor(min(self.taken / max(self.total, 1), 1.0))
        self._put([value * factor for value in self.base])

    def _find(self, module: nn.Module, optimizer: optim.Optimizer) -> list[tuple[Any, str]]:
        """Return holder and name of each value that is meant."""
        glob, dot, name = self.param.rpartition(".")
        if dot:
            parts = [part for n, part in module.named_modules() if fnmatchcase(n, glob)]
            places = [(part, name) for part in parts if _is_number(getattr(part, name, None))]
            if places:
                return places
            raise ParameterError(
                f"The 'param' parameter of ParamScheduler must name a number that submodules have. "
                f"None whose name matches {glob!r} has a number {name!r}. Got {self.param!r}."
            )
        groups = optimizer.param_groups
        if not all(_is_number(group.get(name)) for group in groups):
            numbers = [key for key, value in groups[0].items() if _is_number(value)]
            raise ParameterError(
                "The 'param' parameter of ParamScheduler must be an option of the optimizer that "
                f"is a number, or, with a dot, an attribute of submodules such as '*.p'. Got "
                f"{name!r}.{did_you_mean(name, numbers)}"
            )
        return [(_Group(optimizer, i), name) for i in range(len(groups))]


class _Group(NamedTuple):
    """A parameter group by its number: an optimizer that loads a state makes its groups anew."""

    optimizer: optim.Optimizer
    number: int


def _held(place: tuple[Any, str]) -> tuple[Any, str]:
    holder, name = place
    return (holder.optimizer.param_groups[holder.number], name) if type(holder) is _Group else place


def _is_number(value: Any) -> bool:
    import torch

    if isinstance(value, torch.Tensor):  # an lr that is a tensor
        return value.ndim == 0 and not value.requires_grad
    return isinstance(value, Real) and not isinstance(value, bool)


def _get(place: tuple[Any, str]) -> float:
    holder, name = _held(place)
    return float(holder[name] if isinstance(holder, dict) else getattr(holder, name))


def _put(place: tuple[Any, str], value: float) -> None:
    holder, name = _held(place)
    if not isinstance(holder, dict):
        setattr(holder, name, value)
    elif hasattr(holder[name], "fill_"):
        holder[name].fill_(value)
    else:
        holder[name] = value
