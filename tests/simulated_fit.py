"""What should run when a callback raises or ends the fit somewhere: the rules, simulated.

Written from the documented rules over a flat list of all places of a fit, each of which
knows its epoch, phase and batch; it has no loop and shares nothing with the package's.
"""

from __future__ import annotations

from dataclasses import dataclass

from doubles import (
    EarlyRecorder,
    FailingCallback,
    LateRecorder,
    Log,
    RecordingActions,
    StatefulRecorder,
    make_data,
    make_net,
)

from skorchlike import CancelBatchException, CancelEpochException, CancelFitException

ACTIONS = ("predict", "get_loss", "backward", "step", "zero_grad")
# a batch as the documented loop has it
TRAIN_BATCH = [
    "on_batch_begin",
    "predict",
    "on_after_predict",
    "get_loss",
    "on_after_loss",
    "on_before_backward",
    "backward",
    "on_after_backward",
    "on_before_step",
    "step",
    "on_after_step",
    "on_batch_end",
    "zero_grad",
    "on_batch_exit",
]
VALID_BATCH = [
    "on_batch_valid_begin",
    "predict",
    "on_batch_valid_after_predict",
    "get_loss",
    "on_batch_valid_after_loss",
    "on_batch_valid_end",
    "on_batch_exit",
]

N_EPOCHS, N_BATCHES = 3, 2
CANCELS = (CancelBatchException, CancelEpochException, CancelFitException)


@dataclass(frozen=True)
class Place:
    """One position of a fit."""

    name: str
    epoch: int | None = None
    phase: str | None = None
    batch: int | None = None

    def __str__(self):
        return f"{self.name}-{self.phase}" if self.phase else self.name

    @property
    def is_exit(self):
        return self.name in ("on_batch_exit", "on_phase_exit", "on_exit")

    def same_batch(self, other):
        return self.batch is not None and self.same_phase(other) and self.batch == other.batch

    def same_phase(self, other):
        return self.phase is not None and (self.epoch, self.phase) == (other.epoch, other.phase)

    def leaves_by(self, other):
        """Whether `other` is the exit stage of a level that this place is inside."""
        if other.name == "on_batch_exit":
            return self.same_batch(other)
        if other.name == "on_phase_exit":
            return self.same_phase(other)
        return other.name == "on_exit"


def all_places():
    """Return every place of an undisturbed fit with validation, in order."""
    places = [Place("on_begin")]
    for epoch in range(1, N_EPOCHS + 1):
        places.append(Place("on_epoch_begin", epoch))
        for phase, batch, first, last in (
            ("train", TRAIN_BATCH, "on_before_train", "on_after_train"),
            ("valid", VALID_BATCH, "on_valid_begin", "on_valid_end"),
        ):
            if phase == "valid":
                places.append(Place("on_before_valid", epoch))
            places.append(Place(first, epoch, phase))
            for number in range(1, N_BATCHES + 1):
                places += [Place(name, epoch, phase, number) for name in batch]
            places += [Place(name, epoch, phase) for name in (last, "on_phase_exit")]
        places.append(Place("on_epoch_end", epoch))
    return [*places, Place("on_end"), Place("on_exit")]


ALL = all_places()
# in the middle of the fit: the second epoch, and in it the first batch
TARGETS = [p for p in ALL if p.epoch in (2, None) and p.batch in (1, None)]


def has_meaning(cancel, place):
    """Whether a cancel exception may be raised at a place."""
    if place.is_exit or place.name == "on_end":
        return False
    if cancel is CancelFitException:
        return True
    if cancel is CancelEpochException:
        return place.phase is not None or place.name in ("on_epoch_begin", "on_before_valid")
    return place.batch is not None


def still_runs(place, what):
    """Return the places after `place` that still run when `what` happens there.

    `what` is None for ``ctx.terminate``, a cancel exception, KeyboardInterrupt, or any
    other exception class.
    """
    later = ALL[ALL.index(place) + 1 :]
    if what is None:
        return [p for p in later if p.epoch in (None, place.epoch)]
    if what in CANCELS and not has_meaning(what, place):
        what = StageMisuse
    stepped = place.phase == "train" and place.name in TRAIN_BATCH[TRAIN_BATCH.index("step") + 1 :]

    def kept(p):
        if place.leaves_by(p):
            return True
        if stepped and p.name == "zero_grad" and place.same_batch(p):
            return what in (*CANCELS, KeyboardInterrupt)
        if what is CancelBatchException:
            return not place.same_batch(p)
        if what is CancelEpochException and place.phase:
            return not place.same_phase(p)
        if what is CancelEpochException:
            return p.epoch != place.epoch or p.name == "on_epoch_end"
        return what is CancelFitException and p.name == "on_end"

    return [p for p in later if kept(p)]


class StageMisuse(Exception):
    """Stands for the error that a misplaced cancel becomes."""


def expected_log(place, what):
    """Return (who, place, epoch, batch) of everything that runs, before and after."""
    before = ALL[: ALL.index(place)]
    log = [entry for p in before for entry in _entries(p)]
    here = _entries(place)
    # the later callbacks of the stage are skipped, but not those of an exit stage
    log += here if place.is_exit or what is None else here[:1]
    return log + [entry for p in still_runs(place, what) for entry in _entries(p)]


def _entries(p):
    who = ["actions"] if p.name in ACTIONS else ["early", "late"]
    return [(w, p.name, p.epoch, p.batch) for w in who]


@dataclass
class Outcome:
    """What a fit with a callback that raises did."""

    net: object
    log: list
    raised: BaseException | None

    def entries(self):
        """Return the log in the form of `expected_log`."""
        named = []
        for e in self.log:
            epoch = None if e.place in ("on_begin", "on_end", "on_exit") else e.epoch
            in_batch = e.place in TRAIN_BATCH + VALID_BATCH
            named.append((e.who, e.place, epoch, e.step if in_batch else None))
        return named


def run_fit(place, what, net=None):
    """Fit with validation and let `what` happen at `place`; None sets ``ctx.terminate``."""
    log = Log()
    training = None if place.phase is None else place.phase == "train"
    where = {"epoch": place.epoch, "step": place.batch, "training": training}
    bad = {"place": place.name, "error": what, **where}
    in_action = place.name in ACTIONS
    callbacks = {
        "late": LateRecorder(log, "late"),
        "bad": RecordingActions(log, **bad) if in_action else FailingCallback(**bad),
        "early": EarlyRecorder(log, "early"),
        "counter": StatefulRecorder(),
    }
    if not in_action:
        callbacks["actions"] = RecordingActions(log)
    net = net or make_net(max_epochs=N_EPOCHS)
    X, y = make_data(4 * N_BATCHES)
    X_val, y_val = make_data(2 * N_BATCHES, seed=1)
    raised = None
    try:
        net.fit(X, y, X_val=X_val, y_val=y_val, callbacks=callbacks)
    except (Exception, KeyboardInterrupt) as error:
        raised = error
    return Outcome(net, log, raised)
