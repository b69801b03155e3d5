"""The states of the callbacks at the end of a fit."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from skorchlike.exceptions import CancelException, StageError
from skorchlike.training.interrupts import unbroken


@unbroken
def gather_states(
    callbacks: Mapping[str, Any],
    to_load: Mapping[str, Any],
    interrupt: KeyboardInterrupt | None = None,
) -> dict[str, Any]:
    """Copy what each callback wants to keep; a failure must not hide an interrupt.

    Parameters
    ----------
    callbacks : mapping
        Name → callback.
    to_load : mapping
        Name → state of the fit that is continued, where it was not loaded.
    interrupt : KeyboardInterrupt or None
        What ended the fit; errors are noted on it.
    """
    states = {}
    for name, callback in callbacks.items():
        if name in to_load:  # the fit ended before its on_begin
            states[name] = to_load[name]
            continue
        try:
            state = callback.state_dict()
        except Exception as error:
            note = f"Raised by state_dict() of the callback {name!r}."
            if isinstance(error, CancelException) and interrupt is None:
                raise StageError(
                    f"{type(error).__name__} has no meaning in state_dict(), where the "
                    f"callback {name!r} raised it."
                ) from error
            if interrupt is None:
                error.add_note(note)
                raise
            interrupt.add_note(f"Then no state was kept of {name!r}: {error!r}. {note}")
            continue
        if state is not None:
            states[name] = copy.deepcopy(state)
    return states
