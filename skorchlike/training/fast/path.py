"""Which way the training batches of a fit go, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from skorchlike.training.actions import DefaultActions
from skorchlike.training.batches import Batch
from skorchlike.training.calls import Call, Calls
from skorchlike.training.fast.by_hand import HandWrittenStep
from skorchlike.training.fast.chain import why_no_chain
from skorchlike.training.fast.direct import DirectStep, direct_backward, direct_zero_grad
from skorchlike.training.fast.updates import FusedUpdate, why_not
from skorchlike.training.stages import ACTIONS

if TYPE_CHECKING:
    from skorchlike.training.loop import Loop

GENERAL, DIRECT, BY_HAND = "general", "direct", "hand-written"

BATCH_STAGES = (
    "on_batch_begin",
    "on_after_predict",
    "on_after_loss",
    "on_before_backward",
    "on_after_backward",
    "on_before_step",
    "on_after_step",
    "on_batch_end",
    "on_batch_exit",
)
"""The stages of a training batch."""


class Path:
    """The way that the training batches of a fit go.

    Parameters
    ----------
    name : {"general", "direct", "hand-written"}
        Which way.
    reason : str
        Why it is not a faster one.
    step : HandWrittenStep, optional
        The hand-written step.
    """

    def __init__(
        self, name: str = GENERAL, reason: str = "", step: HandWrittenStep | None = None
    ) -> None:
        self.name, self.reason, self.step = name, reason, step

    def begin(self, loop: Loop) -> Callable[[Batch], None]:
        """Return what trains the batches of the phase that begins."""
        if self.step is None:
            return loop.train_batch
        reason = self.step.why_not_now()
        if reason is None:
            return self.step
        self.step, self.name = None, DIRECT
        self.reason = f"from epoch {loop.ctx.epoch} on {reason}"
        return loop.train_batch


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
    do, optimizer = loop.do, loop.ctx.optimizer
    replaced = [action for action in ACTIONS if not _is_default(getattr(do, action))]
    if "backward" not in replaced:
        do.backward = _in_place_of(do.backward, direct_backward)
    not_direct = _not_default(loop, ("step", "zero_grad"), replaced) or why_not(optimizer)
    if not_direct is not None:
        return Path(GENERAL, not_direct)
    update = FusedUpdate(optimizer)
    do.step = _in_place_of(do.step, DirectStep(update))
    do.zero_grad = _in_place_of(do.zero_grad, direct_zero_grad)
    not_by_hand = _not_default(loop, ACTIONS, replaced) or _acts_in_batch(loop)
    not_by_hand = not_by_hand or _why_no_chain(loop)
    if not_by_hand is not None:
        return Path(DIRECT, not_by_hand)
    return Path(BY_HAND, "", HandWrittenStep(loop, update))


def _is_default(calls: Calls) -> bool:
    """Whether an action is the default one, without a wrapper around it."""
    own = getattr(DefaultActions, calls.place)
    return len(calls) == 1 and getattr(calls[0], "__func__", None) is own


def _in_place_of(calls: Calls, call: Call) -> Calls:
    return Calls(calls.place, [(calls.owners[0], call)], calls.cancels)


def _not_default(loop: Loop, actions: tuple[str, ...], replaced: list[str]) -> str | None:
    for action in actions:
        if action in replaced:
            calls = getattr(loop.do, action)
            return f"{calls.owners[0]} replaces or wraps {calls.place}"
    return None


def _acts_in_batch(loop: Loop) -> str | None:
    for stage in BATCH_STAGES:
        calls = getattr(loop.on, stage)
        if calls:
            return f"{calls.owners[0]} acts in {stage}"
    return None


def _why_no_chain(loop: Loop) -> str | None:
    if loop.ctx._criterion is not None and any(True for _ in loop.ctx._criterion.parameters()):
        return "the criterion has parameters"
    if loop.ctx._loss_function.n_members is not None:
        return "the module makes several predictions a row"
    return why_no_chain(loop.ctx._module)
