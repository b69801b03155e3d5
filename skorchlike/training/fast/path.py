"""Which way the training batches of a fit go, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from skorchlike.training.actions import DefaultActions
from skorchlike.training.batches import Batch
from skorchlike.training.calls import Call, Calls
from skorchlike.training.fast import kernels
from skorchlike.training.fast.by_hand import HandWrittenStep
from skorchlike.training.fast.direct import DirectStep, direct_backward, direct_zero_grad
from skorchlike.training.fast.updates import FusedUpdate, why_not
from skorchlike.training.interrupts import unbroken
from skorchlike.training.stages import ACTIONS, TABLE

if TYPE_CHECKING:
    from skorchlike.training.loop import Loop

GENERAL, DIRECT, BY_HAND = "general", "direct", "hand-written"

BATCH_STAGES = tuple(
    row.name
    for row in TABLE
    if row.level == "train_batch" and not row.is_action and not row.is_exit
)
"""The stages in the midst of a training batch; at its exit passive callbacks may look on."""


class Path:
    """The way that the training batches of a fit go.

    Parameters
    ----------
    name : {"general", "direct", "hand-written"}
        Which way.
    reason : str
        Why it is not a faster one.
    update : FusedUpdate, optional
        The direct step of the optimizer.
    step : HandWrittenStep, optional
        The hand-written step of a batch.

    Attributes
    ----------
    name : str
        The way of the last phase; empty before the first.
    """

    def __init__(
        self,
        name: str = GENERAL,
        reason: str = "",
        update: FusedUpdate | None = None,
        step: HandWrittenStep | None = None,
    ) -> None:
        self.chosen, self.reason = name, reason
        self.update, self.step = update, step
        self.name = ""  # until a phase has begun

    def begin(self, loop: Loop) -> Callable[[Batch], None]:
        """Return what trains the batches of the phase that begins."""
        self.name = self.chosen
        if self.update is not None and (kernels.is_patched() or not self.update.ready()):
            reason = why_not(loop.ctx.optimizer)
            if reason is not None:  # the direct step sees it too, and leaves it to the optimizer
                self._slow_down(GENERAL, reason, loop)
        if self.step is not None:
            reason = self.step.why_not()
            if reason is None:
                self.step.begin()
                return self.step
            self._slow_down(DIRECT, reason, loop)
        return loop.train_batch

    @unbroken
    def forget(self) -> None:
        """Let go of the loop, which has the data, and of the optimizer."""
        self.step = self.update = None

    def _slow_down(self, name: str, reason: str, loop: Loop) -> None:
        self.name = self.chosen = name
        self.reason, self.step = f"from epoch {loop.ctx.epoch} on {reason}", None


def choose_path(loop: Loop) -> Path:
    """Choose the fastest way that does the same, and put its actions in the loop.

    Parameters
    ----------
    loop : Loop
        A fit whose ``on_begin`` is over: wrappers and hooks are where they will be.

    Returns
    -------
    Path
        The way, and why it is not a faster one.
    """
    do, ctx = loop.do, loop.ctx
    not_direct, not_by_hand = obstacles(do, loop.on)
    if _is_default(do.backward) and not kernels.is_patched():
        do.backward = _in_place_of(do.backward, direct_backward)
    not_direct = not_direct or why_not(ctx.optimizer)
    if not_direct is not None:
        return Path(GENERAL, not_direct)
    update = FusedUpdate(ctx.optimizer)
    do.step = _in_place_of(do.step, DirectStep(update))
    do.zero_grad = _in_place_of(do.zero_grad, direct_zero_grad)
    step = HandWrittenStep(loop, update)
    not_by_hand = not_by_hand or step.why_not()
    if not_by_hand is not None:
        return Path(DIRECT, not_by_hand, update)
    return Path(BY_HAND, "", update, step)


def obstacles(do: Any, on: Any) -> tuple[str | None, str | None]:
    """Return what speaks against the direct and against the hand-written way, or None.

    As far as callbacks and replaced actions go, which are known before a fit.

    Parameters
    ----------
    do : namespace
        The `Calls` of each action.
    on : namespace
        The `Calls` of each stage.
    """
    against = [
        (action, _who_replaces(calls))
        for action in ACTIONS
        if not _is_default(calls := getattr(do, action))
    ]
    against += [
        (stage, f"{calls.owners[0]} acts in {stage}")
        for stage in BATCH_STAGES
        if (calls := getattr(on, stage))
    ]
    against += [
        ("on_batch_exit", f"{owner}, which is not passive, acts in on_batch_exit")
        for owner, call in zip(on.on_batch_exit.owners, on.on_batch_exit, strict=True)
        if not getattr(getattr(call, "__self__", None), "passive", False)
    ]
    not_direct = next((why for what, why in against if what in ("step", "zero_grad")), None)
    return not_direct, against[0][1] if against else None


def _is_default(calls: Calls) -> bool:
    """Whether an action is the default one, without a wrapper around it."""
    own = getattr(DefaultActions, calls.place)
    return len(calls) == 1 and getattr(calls[0], "__func__", None) is own


def _who_replaces(calls: Calls) -> str:
    if not hasattr(calls[0], "__self__"):
        return f"a callback's wrap_call wraps {calls.place}"
    return f"{calls.owners[0]} replaces {calls.place}"


def _in_place_of(calls: Calls, call: Call) -> Calls:
    return Calls(calls.place, [(calls.owners[0], call)], calls.cancels)
