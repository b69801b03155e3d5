"""Reads files in a process that notes whatever reading does beside reading, with little memory.

    python tests/guarded_reading.py FOLDER

reads the cases that `hostile_files.write` has put there, and prints what became of each.
"""

import functools
import gc
import importlib
import io
import json
import os
import pickle
import pkgutil
import resource
import signal
import socket
import stat
import sys
import warnings
from pathlib import Path

import numpy as np

import skorchlike
from skorchlike import NeuralNetClassifier
from skorchlike.exceptions import CheckpointError, FormatError
from skorchlike.model.checkpoints import CheckpointFolder, read_checkpoint
from skorchlike.model.codec import encode
from skorchlike.model.persistence import load, load_weights

ALLOWED_ERRORS = (FormatError, CheckpointError)
SECONDS = 5
ROOM = 300 * 2**20
DESCRIPTOR = 100
"""A file that is open and must stay so."""

RUN = "the run of the corpus"
FORBIDDEN = (
    *("exec", "compile", "os.", "subprocess.", "socket.", "pickle.", "ctypes.", "shutil."),
    *("tempfile.", "marshal.", "code.", "webbrowser.", "urllib.", "http.", "mmap.", "fcntl."),
)
HARMLESS = ("os.listdir", "os.scandir", "fcntl.flock", "ctypes.dlsym")
OURS = ("skorchlike", "torch.nn", "torch.optim", "encodings.")


def estimator(**parameters):
    """Return the estimator of which all the files are."""
    return NeuralNetClassifier(
        module__hidden_layer_sizes=(2,), max_epochs=2, batch_size=8, random_state=0, **parameters
    )


def data():
    X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


@functools.cache
def fitted():
    return estimator().fit(*data())


def weights(path):
    """Return the weights of an estimator into which a file was read."""
    return load_weights(skorchlike.model.persistence.copy.deepcopy(fitted()), path).model_.module_


def claim(path):
    """Return the names in a folder that a fit has claimed and given back."""
    folder = CheckpointFolder(path)
    folder.claim(RUN)
    folder.release()
    return sorted(os.listdir(path))


READERS = {
    "load": load,
    "weights": weights,
    "checkpoint": read_checkpoint,
    "folder": lambda path: CheckpointFolder(path).newest(),
    "claim": claim,
    "resume": lambda path: estimator().fit(*data(), resume=path).model_.module_,
}


def endless(path):
    while True:
        pass


CARELESS = {
    "runs a pickle": lambda path: pickle.loads(path.read_bytes()),
    "imports by name": lambda path: importlib.import_module("canary"),
    "evaluates": lambda path: eval(path.read_text()),
    "writes": lambda path: path.with_suffix(".new").write_bytes(b""),
    "removes": lambda path: path.unlink(),
    "starts a process": lambda path: os.system("true"),
    "opens a socket": lambda path: socket.socket().close(),
    "closes a file": lambda path: os.close(DESCRIPTOR),
    "never ends": endless,
    "allocates by what a header claims": lambda path: bytes(2**32),
    "raises what it likes": lambda path: {}["key"],
    "reads something else": lambda path: [1],
}
"""Readers that do what none may do: so it is known that this is seen."""

READERS.update(CARELESS)


def fingerprint(value):
    """Return all of a value as text, to the bit."""
    plain, tensors = encode(value)
    return json.dumps([plain, {k: [str(t.dtype), t.tolist()] for k, t in tensors.items()}])


class Watch:
    """Notes what reading does: every audit event that is more than opening a file to read it."""

    def __init__(self):
        self.events, self.on, self.may_write = [], False, None
        sys.addaudithook(self)

    def __call__(self, event, args):
        if self.on and self.is_bad(event, args):
            self.on = False  # what follows is ours
            self.events.append(f"{event} {str(args)[:200]}")
            self.on = True

    def is_bad(self, event, args):
        if event == "open":
            path, _, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            return bool(writes) and not self._may_write(path)
        if event == "import":
            return not str(args[0]).startswith(OURS)
        if event in ("os.remove", "os.rename", "os.mkdir") and self._may_write(args[0]):
            return False
        return event.startswith(FORBIDDEN) and event not in HARMLESS

    def _may_write(self, path):
        return self.may_write is not None and Path(str(path)).is_relative_to(self.may_write)


class TooLong(BaseException):
    pass


def stop(*_):
    raise TooLong


def read(watch, case, good):
    """Return what becomes of one case."""
    watch.events, watch.may_write = [], case["path"] if case["reader"] == "claim" else None
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    value, outcome = None, "loaded"
    try:
        watch.on = True
        value = READERS[case["reader"]](Path(case["path"]))
    except ALLOWED_ERRORS as error:
        outcome = f"refused: {type(error).__name__}"
    except TooLong:
        outcome = f"not done after {SECONDS} s"
    except BaseException as error:
        outcome = f"raised {type(error).__name__}: {io.StringIO(str(error)).read(300)}"
    finally:
        watch.on = False
        signal.setitimer(signal.ITIMER_REAL, 0)
    if outcome == "loaded":
        try:
            outcome = "equal" if fingerprint(value) == good.get(case["reader"]) else "other content"
        except Exception as error:
            outcome = f"other content ({error!r:.100})"
    value = None
    gc.collect()  # what it does when it goes
    events = list(watch.events)
    if not stat.S_ISREG(os.fstat(DESCRIPTOR).st_mode if is_open(DESCRIPTOR) else 0):
        events.append("closed a file of the process")
        reserve()
    if "canary" in sys.modules or hasattr(sys, "canary"):
        events.append("imported the canary")
    return {**case, "outcome": outcome, "events": events}


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def reserve():
    opened = os.open(__file__, os.O_RDONLY)
    os.dup2(opened, DESCRIPTOR)
    os.close(opened)


def memory(field):
    """Return a line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def import_all():
    """Import what reading may need, that imports seen later are the files' doing."""
    for module in pkgutil.walk_packages(skorchlike.__path__, "skorchlike."):
        importlib.import_module(module.name)


def main(folder):
    warnings.simplefilter("ignore")
    cases = json.loads((folder / "cases.json").read_text())
    import_all()
    reserve()
    good = {}
    for reader, path in cases["good"].items():
        for _ in range(2):  # once more, for what is imported late
            good[reader] = fingerprint(READERS[reader](Path(path)))
    signal.signal(signal.SIGALRM, stop)
    sys.path.insert(0, str(folder))
    before = memory("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (before + ROOM, before + ROOM))
    gc.freeze()  # what is there need not be looked at again after each case
    watch = Watch()
    resident = memory("VmRSS")
    for case in cases["cases"]:
        print(json.dumps({"begins": case["name"]}), flush=True)
        print(json.dumps(read(watch, case, good)), flush=True)
    print(json.dumps({"peak": memory("VmHWM") - resident, "room": ROOM}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
