"""File operations that fail, stop short or crash, one at a time, and a disk that loses power.

    python tests/faulty_storage.py

prints for every operation of a claim, saves and a finished fit what became of the folder.
"""

import contextlib
import errno
import itertools
import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch

from skorchlike.exceptions import CheckpointError, FormatError
from skorchlike.model import checkpoint_lock, storage
from skorchlike.model.checkpoints import CheckpointFolder

WRITING = ("create", "write", "sync", "close", "rename", "sync_folder", "remove", "make_folder")
READING = ("read", "names")
RUN = "the run"
# thousands of real syncs would take minutes
IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None


class Crash(BaseException):
    """The process is gone: nothing after it happens."""


# ------------------------------------------------------------------------------ faults


@dataclass(frozen=True)
class Fault:
    """What happens to one operation.

    `error` is raised, or the process crashes where that is None; before the operation, after
    it, or when a write has taken so many bytes (a fraction of them, or a number). A `lasting`
    fault meets all later operations too: a disk that was mounted anew to be read only.
    """

    name: str
    error: int | None = None
    after: bool = False
    cut: float | None = None
    lasting: bool = False
    interrupt: bool = False

    @property
    def crashes(self):
        return self.error is None and not self.interrupt

    def strike(self, what):
        if self.interrupt:
            raise KeyboardInterrupt
        if self.error is None:
            raise Crash
        raise OSError(self.error, os.strerror(self.error), what)

    def n_bytes(self, n):
        cuts = {"none": 0, "one": 1, "half": n // 2, "all but one": n - 1, "all": n}
        return cuts[self.cut]


PLAIN = (
    Fault("no space", errno.ENOSPC),
    Fault("input/output", errno.EIO),
    Fault("no permission", errno.EACCES),
    Fault("read-only from now on", errno.EROFS, lasting=True),
    Fault("Ctrl-C", interrupt=True),
    Fault("crash", lasting=True),
)
AFTER = (
    Fault("done, then input/output", errno.EIO, after=True),
    Fault("done, then Ctrl-C", after=True, interrupt=True),
    Fault("done, then crash", after=True, lasting=True),
)
CUTS = tuple(
    Fault(f"{cut} written, then {name}", error, cut=cut, lasting=error is None)
    for cut in ("none", "one", "half", "all but one", "all")
    for name, error in (("no space", errno.ENOSPC), ("crash", None))
)


def faults_of(operation):
    """Return the faults that an operation can have."""
    if operation in ("create", "lock"):
        return PLAIN + AFTER[2:]  # that one fails after it has given a file is no fault of a disk
    return PLAIN + (AFTER if operation in WRITING else ()) + (CUTS if operation == "write" else ())


class FaultyStorage:
    """Counts the file operations, and lets the one with a given number fail.

    A context manager. `log` holds the operations: their name, and the path or content.
    """

    def __init__(self, at=None, fault=None, struck=None):
        self.at, self.fault = at, fault
        self.log, self.struck = [], [] if struck is None else struck  # the operation that was hit
        self.descriptors = {}

    def __enter__(self):
        self.real = {name: getattr(storage, name) for name in WRITING + READING}
        for name in self.real:
            setattr(storage, name, self._counted(name, self.real[name]))
        self.real_lock = checkpoint_lock._open
        checkpoint_lock._open = self._counted("lock", self.real_lock)
        return self

    def __exit__(self, *exc):
        for name, function in self.real.items():
            setattr(storage, name, function)
        checkpoint_lock._open = self.real_lock
        for descriptor in self.descriptors:  # what a crash left open, the system closes
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _counted(self, name, function):
        def operation(*args):
            number = len(self.log)
            self.log.append((name, *self._described(name, args)))
            hit = self.fault is not None and number == self.at
            if self.struck and self.fault.lasting and (self.fault.crashes or name in WRITING):
                self.fault.strike(str(args[0]))
            if hit:
                self.struck.append(name)
            if hit and self.fault.cut is not None:
                function(args[0], args[1][: self.fault.n_bytes(len(args[1]))])
                self.fault.strike(str(args[0]))
            if hit and not self.fault.after:
                self.fault.strike(str(args[0]))
            result = function(*args)
            if name == "create":
                self.descriptors[result] = args[0]
            elif name == "close":
                self.descriptors.pop(args[0])
            if hit:
                self.fault.strike(str(args[0]))
            return result

        return operation

    def _described(self, name, args):
        if name in ("write", "sync", "close"):
            return (self.descriptors[args[0]], *map(bytes, args[1:]))
        return args


# --------------------------------------------------------------------------- scenarios


def make_snapshot(epoch, step=None, finished=False, run_id=RUN, size=50):
    """Return a small snapshot whose tensors differ from those of every other place."""
    generator = torch.Generator().manual_seed(1000 * epoch + (step or 0) + finished)
    return {
        "module": {"weight": torch.randn(size, generator=generator)},
        "rng": {"torch": generator.get_state()},
        "history": [{"epoch": n, "train_loss": 1 / n} for n in range(1, min(epoch, 9) + 1)],
        "callbacks": {"checkpoint": ["Checkpoint", {"files": [], "best_score": 0.1 * epoch}]},
        "position": {
            "epoch": epoch,
            "step": step or 0,
            "global_step": 10 * (epoch - 1) + (10 if step is None else step),
            "in_epoch": step is not None,
            "finished": finished,
        },
        "run_id": run_id,
        "identity": {"data": "0123456789abcdef"},
    }


def flat(value, path=""):
    """Return a snapshot as comparable pairs: each leaf's path and its type and bits."""
    if isinstance(value, dict):
        return [pair for key in value for pair in flat(value[key], f"{path}.{key}")]
    if isinstance(value, list):
        found = [(path, len(value))]
        return found + [pair for i, v in enumerate(value) for pair in flat(v, f"{path}.{i}")]
    if isinstance(value, torch.Tensor):
        return [(path, value.dtype, tuple(value.shape), value.numpy().tobytes())]
    return [(path, type(value).__name__, repr(value))]


def claim(path):
    folder = CheckpointFolder(path)
    folder.claim(RUN)
    return folder


def saving(snapshot, **options):
    """Return an action on a folder that is claimed."""
    return lambda folder: folder.save(snapshot, **options)


def begin(path):
    """Claim a folder and save: as a fit of one epoch does."""
    folder = claim(path)
    try:
        folder.save(FIRST)
    finally:
        folder.release()
    return folder


E = "epoch-{:06d}.safetensors".format
FIRST, SECOND, THIRD = make_snapshot(1), make_snapshot(2), make_snapshot(3)
FOURTH, MIDDLE, END = make_snapshot(4), make_snapshot(5, step=3), make_snapshot(4, finished=True)
AGAIN = {**make_snapshot(4, finished=True), "rng": {"torch": torch.zeros(3)}}


@dataclass
class Scenario:
    """An action on a folder, what was done before, and what the folder reads as then and after."""

    prepare: list = field(default_factory=list)
    action: object = None
    previous: object = None
    new: object = None


TWO = [saving(FIRST, score=0.1, best=E(1)), saving(SECOND, keep=[E(1)], best=E(1))]
THREE = [*TWO, saving(THIRD, keep=[E(1), E(2)], best=E(1))]
CLAIMING = (claim, begin)  # they are called with the path, others with a folder
SCENARIOS = {
    "claim of a new folder": Scenario([], claim),
    "claim of a used one": Scenario(THREE, claim, THIRD, THIRD),
    "claim and first save": Scenario([], begin, None, FIRST),
    "first save": Scenario([claim], saving(FIRST), None, FIRST),
    "second save": Scenario([saving(FIRST)], saving(SECOND, keep=[E(1)]), FIRST, SECOND),
    "save in the middle": Scenario(THREE, saving(MIDDLE, keep=[E(1), E(3)]), THIRD, MIDDLE),
    "save, last goes": Scenario([saving(FIRST)], saving(SECOND), FIRST, SECOND),
    "save, two go, best stays": Scenario(
        THREE, saving(FOURTH, keep=[E(1)], score=0.2, best=E(1)), THIRD, FOURTH
    ),
    "save, new best": Scenario(THREE, saving(FOURTH, best=E(4)), THIRD, FOURTH),
    "finished": Scenario(
        [*THREE, saving(FOURTH, keep=[E(1)])], saving(END, keep=[E(1), E(4)]), FOURTH, END
    ),
    "finished again": Scenario(
        [saving(FOURTH), saving(END, keep=[E(4)])], saving(AGAIN, keep=[E(4)]), END, AGAIN
    ),
}


def run_steps(path, steps):
    for step in steps:
        folder = claim(path)
        try:
            if step is not claim:
                step(folder)
        finally:
            folder.release()


def run_faulty(scenario, path, *fault):
    """Run a scenario's action; a claim is the action itself, or comes before the fault."""
    folder = None if scenario.action in CLAIMING else claim(path)
    faulty = FaultyStorage(*fault)
    try:
        with faulty:
            if folder is None:
                folder = scenario.action(path)
            else:
                scenario.action(folder)
    finally:
        if folder is not None:
            folder.release()
    return faulty


def operations_of(scenario, folder):
    """Return the log of the file operations of a scenario's action."""
    path = Path(folder, "counted", "run")
    run_steps(path, scenario.prepare)
    return run_faulty(scenario, path).log, path


# ----------------------------------------------------------------------------- outcome


def outcome_of(path, scenario):
    """Return which of the two snapshots a fresh look at the folder gives: or what else."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is damaged by it
        try:
            found = CheckpointFolder(path).newest()
        except (CheckpointError, FormatError, UserWarning):
            return "other"
    for name in ("previous", "new"):
        expected = getattr(scenario, name)
        if found is None or expected is None:
            if found is expected:
                return name
        elif flat(found) == flat(expected):
            return name
    return "other"


def goes_on(path, scenario):
    """Whether the same run can claim the folder and save, and leaves nothing behind there."""
    before, last = outcome_of(path, scenario), make_snapshot(9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            claim(path).release()
            same = outcome_of(path, scenario) == before
            run_steps(path, [saving(last)])
        except (CheckpointError, OSError, UserWarning):
            return False
    whole = flat(CheckpointFolder(path).newest()) == flat(last)
    expected = {".lock", "manifest.json", E(9)}
    finished = {"finished.safetensors"} & set(os.listdir(path))
    return same and whole and set(os.listdir(path)) == expected | finished


@dataclass
class Count:
    """What became of the folder after the faults of one scenario."""

    operations: int = 0
    faults: int = 0
    previous: int = 0
    new: int = 0
    other: int = 0
    silent: int = 0
    stuck: int = 0


def inject(scenario, folder, at, fault):
    """Run a scenario with one fault; return the outcome, whether it raised, and the folder."""
    path = Path(folder, f"{at}-{fault.name}".replace("/", "-"), "run")
    run_steps(path, scenario.prepare)
    raised, struck = False, []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            run_faulty(scenario, path, at, fault, struck)
        except (OSError, KeyboardInterrupt, Crash):
            raised = True
    assert struck, "the fault was not reached"
    # what cannot be read is warned about where the rest of the folder tells the same
    told = raised or (bool(told) and struck[0] in READING)
    return outcome_of(path, scenario), told, path


def inject_all(scenario, folder):
    """Let every operation of a scenario fail in every way, and count what became of it."""
    log, _ = operations_of(scenario, folder)
    count = Count(operations=len(log))
    for at, (operation, *_) in enumerate(log):
        for fault in faults_of(operation):
            outcome, told, path = inject(scenario, folder, at, fault)
            count.faults += 1
            setattr(count, outcome, getattr(count, outcome) + 1)
            count.silent += not told
            count.stuck += not goes_on(path, scenario)
            shutil.rmtree(path.parent)
    return count


# -------------------------------------------------------------------------- power loss


class Disk:
    """What a disk is sure to hold: the bytes synced, and the names of folders synced.

    Names that were changed and not synced may have reached it or not, each for itself; bytes
    that were written and not synced may have, in part or not at all.
    """

    def __init__(self, path):
        self.root = path
        self.files, self.synced = [], []  # contents by number: as written, as sure
        self.names, self.pending, self.now = {}, [], {}
        self.folder_is_sure = path.is_dir()
        if self.folder_is_sure:
            for name in sorted(os.listdir(path)):
                self.files.append((path / name).read_bytes())
                self.synced.append(self.files[-1])
                self.names[name] = self.now[name] = len(self.files) - 1

    def apply(self, operation, path, *more):
        path = Path(path)
        name = path.name
        if operation in ("create", "lock") and name not in self.now:
            self.files.append(b"")
            self.synced.append(b"")
            self._change(name, len(self.files) - 1)
        elif operation == "write":
            self.files[self.now[name]] += more[0]
        elif operation == "sync":
            self.synced[self.now[name]] = self.files[self.now[name]]
        elif operation == "rename":
            number = self.now[name]
            self._change(name, None)
            self._change(Path(more[0]).name, number)
        elif operation == "remove":
            self._change(name, None)
        elif operation == "sync_folder" and path == self.root:
            self.names, self.pending = dict(self.now), []
        elif operation == "sync_folder" and path == self.root.parent:
            self.folder_is_sure = True

    def _change(self, name, number):
        self.pending.append((name, number))
        if number is None:
            self.now.pop(name, None)
        else:
            self.now[name] = number

    def after_power_loss(self):
        """Yield each folder, as name → content or None, that may be found then."""
        if not self.folder_is_sure:
            yield None
        for chosen in itertools.product((False, True), repeat=len(self.pending)):
            names = dict(self.names)
            for (name, number), is_there in zip(self.pending, chosen, strict=True):
                if is_there:
                    names[name] = number
            for part in (0.0, 0.5, 1.0):
                yield {
                    name: self._content(number, part)
                    for name, number in names.items()
                    if number is not None
                }

    def _content(self, number, part):
        sure, written = self.synced[number], self.files[number]
        return sure + written[len(sure) : len(sure) + round(part * (len(written) - len(sure)))]


def lose_power(scenario, folder):
    """Cut the power after every operation of a scenario, and count what became of it."""
    path = Path(folder, "powered", "run")
    path.parent.mkdir()
    run_steps(path, scenario.prepare)
    if scenario.action not in CLAIMING:
        claim(path).release()
    disk = Disk(path)
    log = run_faulty(scenario, path).log
    count, seen = Count(operations=len(log)), {}
    for number, operation in enumerate(log):
        disk.apply(*operation)
        for files in disk.after_power_loss():
            key = None if files is None else tuple(sorted(files.items()))
            if key not in seen:
                seen[key] = _found(files, Path(folder, f"lost-{number}-{len(seen)}"), scenario)
            count.faults += 1
            setattr(count, seen[key], getattr(count, seen[key]) + 1)
    # once a save has returned, power cannot undo it
    last = {seen[key] for key in _keys(disk)}
    count.other += last != {outcome_of(path, scenario)}
    return count


def _keys(disk):
    for files in disk.after_power_loss():
        yield None if files is None else tuple(sorted(files.items()))


def _found(files, path, scenario):
    if files is not None:
        path.mkdir()
        for name, content in files.items():
            (path / name).write_bytes(content)
    return outcome_of(path, scenario)


def main():
    """Print the table."""
    columns = ("operations", "faults", "previous", "new", "other", "silent", "stuck")
    print(f"{'':28}" + "".join(f"{name:>11}" for name in columns))
    total = Count()
    for how, run in (("", inject_all), ("power lost: ", lose_power)):
        for name, scenario in SCENARIOS.items():
            with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
                count = run(scenario, folder)
            print(f"{how + name:28}" + "".join(f"{getattr(count, c):>11}" for c in columns))
            for column in columns:
                setattr(total, column, getattr(total, column) + getattr(count, column))
    print(f"{'all':28}" + "".join(f"{getattr(total, c):>11}" for c in columns))
    return 1 if total.other or total.silent or total.stuck else 0


if __name__ == "__main__":
    raise SystemExit(main())
