"""The learning rate by a schedule of torch, with warm-up."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions
from torch.optim.lr_scheduler import ReduceLROnPlateau

from skorchlike.callbacks.base import Callback
from skorchlike.callbacks.tools.policies import TOTALS, Policy, is_kind, resolve_policy
from skorchlike.callbacks.tools.schedules import Schedule, group_options, put_options
from skorchlike.exceptions import ParameterError, warn_continued

if TYPE_CHECKING:
    from skorchlike.callbacks.base import Setup
    from skorchlike.training.context import Context


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
    _from_fit: ClassVar[dict[str, tuple[str, ...]]] = {"policy": (*TOTALS, "max_lr")}
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

    @property
    def idle_stages(self) -> tuple[str, ...]:
        """The one that counts what is not the unit."""
        return ("on_epoch_end",) if self.unit == "batch" else ("on_after_step",)

    def _takes(self, component: str) -> Callable[..., Any] | None:
        try:
            return resolve_policy(self.policy)
        except ParameterError:
            return None

    def advise(self, setup: Setup) -> list[str]:
        """Say which arguments look as if they were meant in the other unit."""
        others = [cb for cb in setup.callbacks.values() if isinstance(cb, LRScheduler)]
        advice = self._policy().advice(setup.max_epochs, setup.columns)
        if len(others) > 1:
            advice.append("there are several schedules of one lr: each changes what another set.")
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
        otherwise = self._policy().signature() != state["said"] or any(
            "lr" in group for group in changed
        )
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

    def _policy(self) -> Policy:
        said = self._said_to("policy")
        return Policy(self.policy, said, self.unit, self.monitor, self.warmup)

    def _begin(self, total: int | None = None) -> None:
        """Build the schedule on the optimizer as it is; `total` is one to keep."""
        policy = self._policy()
        self.base, self.said = group_options(self.optimizer), policy.signature()
        self.schedule, self.total = policy.build(self.optimizer, self.units, self.columns, total)
