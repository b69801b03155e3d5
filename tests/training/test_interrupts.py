"""Ctrl-C and SIGTERM: when they are raised, whose handlers stand, what is never lost."""

from __future__ import annotations

import _signal
import copy
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from contextlib import contextmanager, suppress

import pytest
import torch
from processes import Forked, wait_for_a_signal
from torch.utils.data import DataLoader, TensorDataset

from skorchlike.training.interrupts import Interrupts, SigtermInterrupt, unbroken

SIGNALS = [signal.SIGINT, signal.SIGTERM]
RAISES = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SigtermInterrupt}


def handlers():
    return {signum: signal.getsignal(signum) for signum in SIGNALS}


@pytest.fixture(autouse=True)
def python_s_own_handlers():
    before = handlers()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    left = handlers()
    for signum, handler in before.items():
        signal.signal(signum, handler)
    assert left == {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


@contextmanager
def fit_ended_by(kind):
    """Stand for a fit that is interrupted; yields its interrupts and what it raised."""
    with pytest.raises(kind) as caught, Interrupts() as interrupts:
        yield interrupts, caught


# ------------------------------------------------------------------ at once


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_raises_at_once_and_is_said_to_be_sigterm(signum):
    reached = False
    with fit_ended_by(KeyboardInterrupt) as (_, caught):
        signal.raise_signal(signum)
        reached = True
    assert type(caught.value) is RAISES[signum]
    assert not reached


@pytest.mark.parametrize("error", [None, ZeroDivisionError, SystemExit])
def test_the_handlers_are_back_however_it_ends(error):
    before = handlers()
    with suppress(error or ()), Interrupts():
        assert handlers()[signal.SIGINT] != before[signal.SIGINT]
        assert handlers()[signal.SIGTERM] != before[signal.SIGTERM]
        if error is not None:
            raise error
    assert handlers() == before


def test_it_serves_several_times_in_a_row():
    def serve(interrupts, signum):
        with interrupts:
            assert not interrupts.pending
            interrupts.defer()
            signal.raise_signal(signum)
            assert interrupts.pending

    interrupts = Interrupts()
    for signum in [*SIGNALS, *SIGNALS]:
        with pytest.raises(RAISES[signum]):
            serve(interrupts, signum)


def test_an_interrupt_at_once_is_raised_once():
    with fit_ended_by(KeyboardInterrupt) as (interrupts, caught):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            assert not interrupts.pending
            interrupts.raise_pending()
    assert caught.value.__context__ is None


# ----------------------------------------------------------------- deferred


@pytest.mark.parametrize("signum", SIGNALS)
def test_the_first_signal_waits_for_the_next_safe_point(signum):
    with Interrupts() as interrupts:
        interrupts.defer()
        assert not interrupts.pending
        interrupts.raise_pending()
        signal.raise_signal(signum)
        assert interrupts.pending
        with pytest.raises(KeyboardInterrupt) as caught:
            interrupts.raise_pending()
        assert type(caught.value) is RAISES[signum]
        assert not interrupts.pending
        interrupts.raise_pending()


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_a_second_signal_raises_at_once(first, second):
    reached = False
    with fit_ended_by(KeyboardInterrupt) as (interrupts, caught):
        interrupts.defer()
        signal.raise_signal(first)
        signal.raise_signal(second)
        reached = True
    assert type(caught.value) is RAISES[second]
    assert not reached


def test_the_signal_after_one_that_waited_raises_at_once():
    with Interrupts() as interrupts:
        interrupts.defer()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.raise_pending()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_to_defer_anew_gives_no_further_patience_while_one_waits():
    with fit_ended_by(KeyboardInterrupt) as (interrupts, _):
        interrupts.defer()
        signal.raise_signal(signal.SIGINT)
        interrupts.defer()
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not at once")


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_that_still_waits_at_the_end_is_raised_behind_the_handlers(signum):
    done = False
    with fit_ended_by(KeyboardInterrupt) as (interrupts, caught):
        interrupts.defer()
        signal.raise_signal(signum)
        done = True
    assert done
    assert type(caught.value) is RAISES[signum]


def test_a_signal_that_waits_is_not_lost_by_an_error():
    with fit_ended_by(KeyboardInterrupt) as (interrupts, caught):
        interrupts.defer()
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError
    assert type(caught.value.__cause__) is ZeroDivisionError


def test_a_signal_that_waits_says_so_on_stderr_in_one_line(capfd):
    with fit_ended_by(KeyboardInterrupt) as (interrupts, _):
        interrupts.defer()
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.strip().count("\n") == 0
    assert "SIGINT received" in err
    assert "a second one ends it at once" in err


def test_the_line_breaks_into_no_print_that_is_under_way(capfd):
    class Slow(str):
        def __str__(self):
            signal.raise_signal(signal.SIGINT)
            return "slow"

    with fit_ended_by(KeyboardInterrupt) as (interrupts, _):
        interrupts.defer()
        for _ in range(3):
            interrupts.defer()
            print("a", Slow(), file=sys.stderr)
            with pytest.raises(KeyboardInterrupt):
                interrupts.raise_pending()
        signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err.count("slow") == 3


# --------------------------------------------------- where it does nothing


def test_another_handler_stays_and_is_asked():
    seen = []

    def handler(signum, frame):
        seen.append(signum)

    signal.signal(signal.SIGINT, handler)
    try:
        with Interrupts() as interrupts:
            interrupts.defer()
            assert signal.getsignal(signal.SIGINT) is handler
            signal.raise_signal(signal.SIGINT)
            assert not interrupts.pending
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(SigtermInterrupt):
                interrupts.raise_pending()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen == [signal.SIGINT]


@pytest.mark.parametrize("signum", SIGNALS)
def test_an_ignored_signal_stays_ignored(signum):
    default = signal.signal(signum, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signum)
            assert not interrupts.pending
        assert signal.getsignal(signum) is signal.SIG_IGN
    finally:
        signal.signal(signum, default)


def test_a_handler_that_was_installed_meanwhile_stays():
    def handler(signum, frame):
        raise AssertionError

    with Interrupts():
        signal.signal(signal.SIGTERM, handler)
    assert signal.getsignal(signal.SIGTERM) is handler
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_handler_that_calls_the_one_before_it_finds_python_s_own_behaviour():
    with Interrupts():
        ours = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, lambda signum, frame: ours(signum, frame))
    with pytest.raises(KeyboardInterrupt) as caught:
        signal.raise_signal(signal.SIGINT)
    assert type(caught.value) is KeyboardInterrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_another_thread_leaves_the_handlers_alone():
    seen = []

    def fit():
        with Interrupts() as interrupts:
            interrupts.defer()
            interrupts.raise_pending()
            seen.append((handlers(), interrupts.pending))

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert seen == [(handlers(), False)]


def test_of_nested_ones_the_outer_one_decides():
    with Interrupts() as outer:
        ours = handlers()
        with fit_ended_by(KeyboardInterrupt) as (inner, _):
            inner.defer()
            assert handlers() == ours
            signal.raise_signal(signal.SIGINT)
        assert handlers() == ours
        outer.defer()
        with Interrupts() as inner:
            signal.raise_signal(signal.SIGINT)
            inner.raise_pending()
        assert outer.pending
        with pytest.raises(KeyboardInterrupt):
            outer.raise_pending()


# ------------------------------------------------------- unbroken functions


def test_an_unbroken_function_is_the_very_same():
    def function():
        return 1

    assert unbroken(function) is function


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_first_signal_in_an_unbroken_function_waits(signum):
    log = []

    @unbroken
    def cleanup():
        deeper()
        log.append("cleaned")

    def deeper():
        signal.raise_signal(signum)

    with fit_ended_by(RAISES[signum]) as (interrupts, _):
        cleanup()
        assert interrupts.pending
        interrupts.raise_pending()
    assert log == ["cleaned"]


def test_an_interrupt_on_its_way_lets_the_next_signal_wait_in_an_unbroken_function():
    log = []

    @unbroken
    def cleanup():
        signal.raise_signal(signal.SIGINT)
        log.append("cleaned")

    with fit_ended_by(KeyboardInterrupt) as (_, caught):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleanup()
    assert log == ["cleaned"]
    assert type(caught.value) is SigtermInterrupt


def test_a_second_signal_breaks_off_an_unbroken_function_too():
    @unbroken
    def hangs():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError

    with fit_ended_by(KeyboardInterrupt):
        hangs()


# ------------------------------------------------- a signal at any moment


class At:
    """Raise a signal at the n-th moment at which the interpreter could run a handler.

    It does so at function entries and after calls of built-in functions.
    """

    def __init__(self, n, signum, codes):
        self.n, self.signum, self.codes = n, signum, codes

    def __call__(self, frame, event, argument):
        # where SIGTERM has its own handler, it would end this process, and rightly so
        if event not in ("call", "c_return") or _signal.getsignal(self.signum) == signal.SIG_DFL:
            return
        if self.is_within(frame):
            self.n -= 1
            if self.n == 0:
                signal.raise_signal(self.signum)

    def is_within(self, frame):
        while frame is not None and frame.f_code not in self.codes:
            frame = frame.f_back
        return frame is not None


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_while_handlers_are_installed_or_put_back_is_raised_and_breaks_neither(
    signum, error
):
    before = handlers()
    codes = {Interrupts.__enter__.__code__, Interrupts.__exit__.__code__}
    for n in range(1, 1000):
        moment = At(n, signum, codes)
        raised, entered = None, False
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            sys.setprofile(moment)
            with Interrupts():
                entered = True
                if error is not None:
                    raise error
        except BaseException as caught:
            raised = caught
        finally:
            sys.setprofile(None)
        assert handlers() == before
        if moment.n > 0:
            break
        assert type(raised) is RAISES[signum], (n, raised)
        assert not entered or error is None or type(raised.__context__) is error
    assert 10 < n < 1000


# ------------------------------------------------------------ the exception


def test_sigterm_is_an_interrupt_and_ends_a_process_with_143():
    assert issubclass(SigtermInterrupt, KeyboardInterrupt)
    for interrupt in (SigtermInterrupt(), SigtermInterrupt("why")):
        for one in (interrupt, copy.copy(interrupt), pickle.loads(pickle.dumps(interrupt))):
            assert type(one) is SigtermInterrupt
            assert one.code == 143
            assert one.args == interrupt.args


def test_an_interrupt_that_was_raised_keeps_nothing_alive():
    class Thing:
        pass

    def fit():
        thing = Thing()
        alive.append(weakref.ref(thing))
        with Interrupts() as interrupts:
            for defers in (True, False):
                if defers:
                    interrupts.defer()
                signal.raise_signal(signal.SIGINT)

    alive = []
    gc.disable()
    try:
        with pytest.raises(KeyboardInterrupt):
            fit()
        assert alive[0]() is None
    finally:
        gc.enable()


def test_the_death_of_a_worker_by_the_same_signal_is_the_interrupt():
    died = RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. ")
    with Interrupts() as interrupts:
        assert interrupts.unmask(died) is died
        interrupts.defer()
        signal.raise_signal(signal.SIGTERM)
        for other in (ValueError("DataLoader worker"), RuntimeError("shapes differ")):
            assert interrupts.unmask(other) is other
        assert interrupts.pending
        interrupt = interrupts.unmask(died)
        assert type(interrupt) is SigtermInterrupt
        assert interrupt.__cause__ is died
        assert not interrupts.pending


# ------------------------------------------------------------ processes


def test_a_process_that_does_not_catch_it_ends_as_the_signal_wants():
    script = (
        "import time\n"
        "from skorchlike.training.interrupts import Interrupts\n"
        "with Interrupts():\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(20)"
    )
    processes = {
        signum: subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for signum in SIGNALS
    }
    statuses = {}
    for signum, process in processes.items():
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signum)
        _, err = process.communicate(timeout=60)
        statuses[signum] = process.returncode
        assert ("SIGTERM received" in err) is (signum == signal.SIGTERM)
        assert ("KeyboardInterrupt" in err) is (signum == signal.SIGINT)
    assert statuses == {signal.SIGTERM: 143, signal.SIGINT: -signal.SIGINT}


@pytest.mark.parametrize("defers", [True, False])
def test_a_forked_child_dies_of_sigterm_as_without_a_fit_and_the_parent_goes_on(defers):
    def child(say):
        say("ready")
        wait_for_a_signal()

    with Interrupts() as interrupts:
        if defers:
            interrupts.defer()
        forked = Forked(child)
        assert forked.read() == "ready"
        os.kill(forked.pid, signal.SIGTERM)
        assert forked.end() == (-signal.SIGTERM, [])
        assert not interrupts.pending


def test_a_forked_child_raises_ctrl_c_as_without_a_fit():
    def child(say):
        say("ready")
        wait_for_a_signal()

    with Interrupts() as interrupts:
        forked = Forked(child)
        assert forked.read() == "ready"
        os.kill(forked.pid, signal.SIGINT)
        assert forked.end() == (1, ["KeyboardInterrupt()"])
        assert not interrupts.pending


class SlowDataset(TensorDataset):
    def __getitem__(self, i):
        time.sleep(0.005)
        return super().__getitem__(i)


def fit_with_a_worker(say, *, defers, ends=True):
    """Load batches in a worker, as the loop does; say what comes."""
    loader = DataLoader(SlowDataset(torch.arange(400.0)), batch_size=4, num_workers=1)
    n_after = 0
    with Interrupts() as interrupts:
        if defers:
            interrupts.defer()
        try:
            for i, _ in enumerate(loader):
                if i == 2:
                    say("ready")
                if interrupts.pending:
                    say("pending")
                    n_after += 1
                    if n_after > 3 and ends:
                        interrupts.raise_pending()
        except BaseException as error:
            unmasked = interrupts.unmask(error)
            if unmasked is not error:
                say("the worker died")
            raise unmasked from None


@pytest.mark.parametrize("defers", [True, False])
@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_to_the_whole_group_with_a_worker_that_loads(signum, defers):
    forked = Forked(lambda say: fit_with_a_worker(say, defers=defers))
    assert forked.read() == "ready"
    os.killpg(forked.pid, signum)
    status, said = forked.end()
    assert status == 1
    assert said[-1] == f"{RAISES[signum].__name__}()"
    if defers and signum == signal.SIGINT:
        # the worker passes over it and loads what comes until the safe point
        assert said.count("pending") == 4
        assert "the worker died" not in said
    elif defers:
        assert "the worker died" in said


def test_a_second_ctrl_c_to_the_whole_group_ends_worker_and_fit_at_once():
    forked = Forked(lambda say: fit_with_a_worker(say, defers=True, ends=False))
    assert forked.read() == "ready"
    os.killpg(forked.pid, signal.SIGINT)
    assert forked.read() == "pending"
    os.killpg(forked.pid, signal.SIGINT)
    status, said = forked.end()
    assert status == 1
    assert said[-1] == "KeyboardInterrupt()"
    assert 0 < said.count("pending") + 1 < 90
