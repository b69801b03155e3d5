"""Ctrl-C and SIGTERM while a fit runs: at once, or at the loop's next safe point."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

DEFAULTS: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
"""The signals that a fit takes, and the handlers it takes them from."""

_UNBROKEN: set[CodeType] = set()


class SigtermInterrupt(KeyboardInterrupt, SystemExit):
    """A fit was ended by SIGTERM; the model trained so far is kept.

    It is a ``KeyboardInterrupt``, so what catches Ctrl-C catches it. A process that does not
    catch it exits with status 143 (128 + 15), as shells and schedulers expect of one that
    SIGTERM ended: it is a ``SystemExit`` too, since Python ends with status 1 after any other
    subclass of ``KeyboardInterrupt``.

    Examples
    --------
    >>> SigtermInterrupt().code
    143
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.code = 128 + signal.SIGTERM


def unbroken(function: F) -> F:
    """Mark a function that a first signal does not break off: it waits, a second one does not.

    For the code behind ``finally``. It costs a call nothing: the handler looks up the stack.

    Parameters
    ----------
    function : function
        A plain Python function.

    Returns
    -------
    function
        The very same.
    """
    _UNBROKEN.add(function.__code__)
    return function


class Interrupts:
    """Takes SIGINT and SIGTERM for the time of a fit, and afterwards puts them back.

    Without `defer` a signal raises at once, wherever the fit is: ``KeyboardInterrupt``, or its
    subclass `SigtermInterrupt`. A first one that comes in an `unbroken` function, or between
    the handlers' installation and removal, waits. With `defer` the first one waits in any case,
    and `pending` is true until `raise_pending` or the end of the ``with`` block raises it. A
    second one raises at once. One that waits says so in one line on stderr.

    It acts in the main thread alone, where Python runs handlers, and takes only a signal that
    has Python's own handler: whoever installed another one (a notebook, a server, the fit in
    whose callback this one runs) goes on to decide. Elsewhere it does nothing.

    Attributes
    ----------
    pending : bool
        Whether a signal waits.

    Notes
    -----
    CPython runs a handler between bytecodes of the main thread, after function entries, calls
    and jumps backwards: a kernel that runs is always finished first. What remains: a second
    signal can break off an exit stage, and so can, outside of `unbroken` functions, a first one.
    A child that was forked in the fit (a worker of a ``DataLoader``) has the handlers too, and
    there they do as Python's own, but for this: where the parent lets the first Ctrl-C wait,
    which a terminal sends to both, the child passes over it.

    Examples
    --------
    >>> with Interrupts() as interrupts:
    ...     interrupts.defer()
    ...     signal.raise_signal(signal.SIGINT)
    ...     print(interrupts.pending)
    ...     try:
    ...         interrupts.raise_pending()
    ...     except KeyboardInterrupt as interrupt:
    ...         print(repr(interrupt))
    True
    KeyboardInterrupt()
    """

    def __init__(self) -> None:
        self.pending = False
        self._patient = False
        self._received = 0
        self._taken: list[int] = []
        self._pid = 0

    def __enter__(self) -> Interrupts:
        self.pending = self._patient = False
        self._received = 0
        self._pid, self._taken = os.getpid(), []
        if threading.current_thread() is threading.main_thread():
            for signum, default in DEFAULTS.items():
                if signal.getsignal(signum) is default:
                    self._taken.append(signum)
                    signal.signal(signum, self._handle)
        if self.pending:  # came just now; no call may follow, a handler would run after it
            self.__exit__(None, None, None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # SIGINT was taken first and is put back last: its own handler raises in the midst of this
        for signum in reversed(self._taken):
            # a handler that somebody installed in the meantime, and left there, stays
            if signal.getsignal(signum) == self._handle:
                signal.signal(signum, DEFAULTS[signum])
        self._taken = []
        if self.pending and not isinstance(error, KeyboardInterrupt):
            raise self._take() from error

    def defer(self) -> None:
        """Let the next signal wait, if none does already."""
        self._patient = not self.pending

    def raise_pending(self) -> None:
        """Raise the signal that waits, if one does.

        Raises
        ------
        KeyboardInterrupt
            For SIGINT; for SIGTERM a `SigtermInterrupt`.
        """
        if self.pending:
            raise self._take()

    def unmask(self, error: BaseException) -> BaseException:
        """Return the interrupt that an error is only the consequence of, or the error.

        A signal sent to a whole group of processes ends the workers of a ``DataLoader`` too,
        and torch then raises a ``RuntimeError`` about them, anywhere in the main process.

        Parameters
        ----------
        error : BaseException
            What ends the fit.

        Returns
        -------
        BaseException
            The interrupt, with the error as its ``__cause__``, or the error itself.
        """
        of_worker = isinstance(error, RuntimeError) and "DataLoader worker" in str(error)
        if not (of_worker and self._received):
            return error
        interrupt = self._take()
        interrupt.__cause__ = error
        return interrupt

    def _take(self) -> KeyboardInterrupt:
        self.pending = self._patient = False
        if self._received == signal.SIGTERM:
            return SigtermInterrupt()
        return KeyboardInterrupt()

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal: Python calls it in the main thread, between two bytecodes."""
        if not self._taken or os.getpid() != self._pid:
            self._handle_elsewhere(signum, frame)
            return
        self._received = signum
        if _is_in(frame, _OWN):
            self.pending = True
        elif not self.pending and (self._patient or _is_in(frame, _UNBROKEN)):
            self.pending, self._patient = True, False
            _tell(signum, "ends as soon as it can be continued; a second one ends it at once")
        else:
            if signum == signal.SIGTERM:
                _tell(signum, "ends")
            raise self._take()

    def _handle_elsewhere(self, signum: int, frame: FrameType | None) -> None:
        """Do as Python's own handler: in a forked child, or when the fit is over."""
        if signum == signal.SIGTERM:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
        elif self._patient and self._taken:
            self._patient = False  # the parent got it too, and ends this child
        else:
            signal.default_int_handler(signum, frame)


_OWN = {Interrupts.__enter__.__code__, Interrupts.__exit__.__code__}


def _is_in(frame: FrameType | None, codes: set[CodeType]) -> bool:
    """Whether one of the functions runs, in this frame or in one that called it."""
    while frame is not None:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False


def _tell(signum: int, what: str) -> None:
    """Say on stderr what a signal does.

    By a system call: a print could break into another one to the same buffer, an error.
    """
    if sys.__stderr__ is not None:
        line = f"\nskorchlike: {signal.Signals(signum).name} received. The fit {what}.\n"
        with contextlib.suppress(OSError):
            os.write(2, line.encode())


unbroken(Interrupts.defer)
