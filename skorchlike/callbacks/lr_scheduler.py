"""The learning rate by a schedule of torch, with warm-up."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from torch.optim import lr_scheduler as schedulers
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.registry import register_callback
from skorchlike.callbacks.tools.monitoring import check_monitor, direction
from skorchlike.callbacks.tools.schedules import (
    TOTALS,
    Schedule,
    check_rise,
    group_options,
    is_kind,
    missing_total,
    put_options,
    resolve_policy,
    shown,
)
from skorchlike.exceptions import ParameterError, warn_continued
from skorchlike.params.calling import call, check_options, name_of, parameters_of, short

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context


@register_callback("lr_scheduler")
class LRScheduler(Callback):
    """Change the learning rate by a schedule of ``torch.optim.lr_scheduler``.

    Parameters
    ----------
    policy : str, type or callable, default="cosine"
        A name (``"cosine"``, ``"cosine_warm_restarts"``, ``"step"``, ``"multi_step"``,
        ``"exponential"``, ``"linear"``, ``"polynomial"``, ``"constant"``, ``"cyclic"``,
        ``"one_cycle"``, ``"plateau"``, ``"lambda"``, ``"multiplicative"``), a class of
        torch or of one's own, or a function that takes the optimizer and returns a
        scheduler. Its arguments are said as ``policy__gamma=0.5``.
    unit : {"epoch", "batch"}, default="epoch"
        What the schedule counts: epochs, or optimizer steps (accumulated batches are one).
    monitor : str, default="valid_loss"
        The history column that ``"plateau"`` looks at, in epochs that have it; no other
        policy uses it.
    warmup : int, default=0
        Before the policy, raise the lr in so many units, linearly from the (warmup + 1)-th
        part to the lr at which the policy begins.
    **routed : dict
        ``policy__name=value``.

    Raises
    ------
    ParameterError
        Before training: for an unknown policy, an unknown or missing argument of it, a
        column that nothing produces, or a fit too short for the warm-up.

    Notes
    -----
    What is not said comes from the fit: ``T_max`` (cosine), ``total_steps`` (one_cycle)
    and ``total_iters`` (linear, polynomial) are the units that the warm-up leaves of
    it, ``max_lr`` of one_cycle is each group's lr, ``mode`` of plateau is told by the
    column's name. After such a total the lr stays.

    A fit continued to the same last epoch goes on to the bit. One that is given further
    epochs (``warm_start``, ``partial_fit``) begins a schedule with a total from the fit
    anew; others go on where they were.

    The schedules are torch's own; see there for their sources.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skorchlike import LRScheduler, NeuralNetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> net = NeuralNetClassifier(
    ...     lr=0.08, max_epochs=4, callbacks=[LRScheduler("step", policy__step_size=2)],
    ...     callbacks__lr_scheduler__policy__gamma=0.5, random_state=0)
    >>> net.fit(X, y).history_["lr"].tolist()
    [0.08, 0.08, 0.04, 0.04]
    """

    _components = ("policy",)
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "policy": [str, callable],
        "unit": [StrOptions({"epoch", "batch"})],
        "monitor": [str],
        "warmup": [Interval(Integral, 0, None, closed="left")],
    }

    # what there is when the fit ends before on_begin
    schedule: Schedule | None = None

    def __init__(
        self,
        policy: Any = "cosine",
        unit: str = "epoch",
        monitor: str = "valid_loss",
        warmup: int = 0,
        **routed: Any,
    ) -> None:
        self.policy = policy
        self.unit = unit
        self.monitor = monitor
        self.warmup = warmup
        self._say(routed)

    @property
    def order(self) -> float:  # type: ignore[override]
        """30; for a plateau 90, after those that log columns at the end of an epoch."""
        make = self._takes("policy")
        return 90 if make is not None and is_kind(make, ReduceLROnPlateau) else 30

    def _takes(self, component: str) -> Callable[..., Any] | None:
        try:
            return resolve_policy(self.policy)
        except ParameterError:
            return None

    def advise(self, setup: Setup) -> list[str]:
        """Say which arguments look as if they were meant in the other unit."""
        epochs, in_epochs = setup.max_epochs, self.unit == "epoch"
        total = self._arguments([1.0], setup.columns)[2]
        if total and in_epochs:
            self._left(epochs, total)
        said, advice = self._said_to("policy"), []
        for name in (name for name in TOTALS if isinstance(said.get(name), Real)):
            if in_epochs and said[name] > 2 * epochs:
                advice.append(
                    f"policy__{name}={said[name]} counts epochs, and the fit has {epochs}: it ends "
                    "long before the schedule. Leave it out, or set unit='batch'."
                )
            if not in_epochs and said[name] == epochs > 1:
                advice.append(
                    f"policy__{name}={said[name]} counts optimizer steps (unit='batch') and is the "
                    "number of epochs. Leave it out, or set unit='epoch'."
                )
        if in_epochs and said.get("step_size", 0) + self.warmup >= epochs:
            advice.append(
                f"the schedule's first step would come after the last of {epochs} epochs. Make "
                "policy__step_size or warmup smaller."
            )
        return advice

    def on_begin(self, ctx: Context) -> None:
        """Build the scheduler; a continued fit may have a state first."""
        self.optimizer, self.columns, self.last_epoch = ctx.optimizer, ctx.columns, ctx.max_epochs
        self.units = ctx.max_epochs - ctx.epoch if self.unit == "epoch" else ctx.n_updates
        self.schedule = None
        if ctx.epoch == 0:
            self._begin()

    def on_epoch_begin(self, ctx: Context) -> None:
        """Build the scheduler of a continued fit that has none yet."""
        if self.schedule is None:
            for group in self.optimizer.param_groups:
                group.pop("initial_lr", None)  # of another schedule, in the fit before
            self._begin()

    def on_after_step(self, ctx: Context) -> None:
        """Count an optimizer step."""
        if self.unit == "batch":
            self.schedule.step()  # type: ignore[union-attr]

    def on_epoch_end(self, ctx: Context) -> None:
        """Count an epoch."""
        if self.unit == "epoch" and self.schedule is not None:  # an epoch may be cancelled early
            self.schedule.step(ctx.history[-1].get(self.monitor))

    def on_exit(self, ctx: Context) -> None:
        """Let go of the optimizer."""
        self.schedule = self.optimizer = None

    def state_dict(self) -> dict[str, Any] | None:
        """Return where the schedule is, and the optimizer's options before it and now."""
        if self.schedule is None:
            return None
        state = {name: getattr(self, name) for name in ("said", "last_epoch", "total", "base")}
        return {**state, "now": group_options(self.optimizer), **self.schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the schedule of the fit continued, or begin anew from its base lr."""
        now = group_options(self.optimizer) if self.schedule is None else state["now"]
        if [*map(set, state["now"])] != [*map(set, now)]:
            return  # another optimizer, which starts afresh: on_epoch_begin builds on it
        changed = [
            {name: v for name, v in group.items() if name in base and v != was[name]}
            for group, base, was in zip(now, state["base"], state["now"], strict=True)
        ]
        otherwise = self._signature() != state["said"] or any("lr" in group for group in changed)
        if otherwise:
            warn_continued(
                "The lr or the parameters of LRScheduler are not those of the fit that is "
                "continued: its schedule begins anew."
            )
        further = state["total"] is not None and self.last_epoch != state["last_epoch"]
        base = [was | new for was, new in zip(state["base"], changed, strict=True)]
        put_options(self.optimizer, base)
        self._begin(None if otherwise or further else state["total"])
        if not (otherwise or further):
            put_options(self.optimizer, now)
            self.schedule.load_state_dict(state)  # type: ignore[union-attr]

    # -------------------------------------------------------------- the scheduler

    def _begin(self, total: int | None = None) -> None:
        """Build the scheduler on the optimizer as it is; `total` is one to keep."""
        self.base, self.said = group_options(self.optimizer), self._signature()
        if any("lr" not in options for options in self.base):
            raise ParameterError(
                f"LRScheduler needs an optimizer with an lr; {name_of(self.optimizer)} has none."
            )
        lrs = [options["lr"] for options in self.base]
        make, options, name = self._arguments(lrs, self.columns)
        if name:
            total = options[name] = self._left(self.units, name) if total is None else total
        check_rise(make, options)
        scheduler = call("policy", make, self.optimizer, **options)
        if not isinstance(scheduler, schedulers.LRScheduler):
            raise ParameterError(
                "The 'policy' parameter of LRScheduler must give a torch.optim.lr_scheduler."
                f"LRScheduler. {name_of(make)} gave {short(scheduler)}."
            )
        self._check_plateau(scheduler, self.columns)
        self.total = end = total
        if isinstance(scheduler, OneCycleLR):
            end = scheduler.total_steps - 1  # a step further the lr would rise again
        self.schedule = Schedule(scheduler, self.optimizer, int(self.warmup), end)

    def _signature(self) -> str:
        """Return what was said, the same in every process."""
        said = sorted((name, shown(value)) for name, value in self._said_to("policy").items())
        make = resolve_policy(self.policy)
        monitor = self.monitor if is_kind(make, ReduceLROnPlateau) else None
        return repr((name_of(make), said, self.unit, int(self.warmup), monitor))

    def _arguments(
        self, lrs: list[Any], columns: tuple[str, ...]
    ) -> tuple[Callable[..., Any], dict[str, Any], str | None]:
        """Return what to call, its arguments, and the one that the fit's length is to give."""
        make = resolve_policy(self.policy)
        parameters = dict(list(parameters_of(make).items())[1:])  # the first is the optimizer
        if isinstance(make, type):
            parameters.pop("last_epoch", None)  # continuing is this callback's affair
        said = self._said_to("policy")
        options = {n: v.item() if isinstance(v, np.generic) else v for n, v in said.items()}
        self._check_plateau(make, columns)
        if is_kind(make, OneCycleLR):
            options.setdefault("max_lr", lrs)
        if is_kind(make, ReduceLROnPlateau) and "mode" not in options:
            try:
                options["mode"] = direction("LRScheduler", self.monitor)
            except ParameterError as error:
                raise ParameterError(str(error).replace("mode=", "policy__mode=")) from None
        total = missing_total(make, parameters, options)
        check_options("policy", make, parameters, {total: 1, **options} if total else options)
        for name in (*TOTALS, "step_size") if make.__module__ == schedulers.__name__ else ():
            value = options.get(name, 1)
            if value is not None and not (isinstance(value, (int, float)) and value >= 1):
                raise ParameterError(
                    f"The parameter 'policy__{name}' of LRScheduler must be at least 1. Got "
                    f"{value!r}."
                )
        return make, options, total

    def _left(self, units: int | None, total: str) -> int:
        """Return the units that the warm-up leaves to the policy."""
        if units is None:
            raise ParameterError(
                "The number of optimizer steps of this fit is not known, and the policy of "
                f"LRScheduler needs it. Say policy__{total}=..., or use unit='epoch'."
            )
        if units <= self.warmup:
            counted = "epochs" if self.unit == "epoch" else "optimizer steps"
            raise ParameterError(
                f"The 'warmup' parameter of LRScheduler must leave some of the {units} {counted} "
                f"of this fit to the policy. Got {self.warmup}. Make it smaller, or say "
                f"policy__{total}=..."
            )
        return int(units - self.warmup)

    def _check_plateau(self, policy: Any, columns: tuple[str, ...]) -> None:
        if not is_kind(policy, ReduceLROnPlateau):
            return
        if self.unit == "batch":
            raise ParameterError(
                "LRScheduler with the policy 'plateau' needs unit='epoch': the column that it "
                "monitors is there once an epoch. Got unit='batch'."
            )
        check_monitor("LRScheduler", self.monitor, columns)
