"""A worker whose parent was killed saves its fit and gives the folder back."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_resuming import X, Y, make, same

from skorchlike import Callback
from skorchlike.callbacks.tools.workers import Worker
from skorchlike.model.checkpoints import CheckpointFolder

PROGRAM = """
import multiprocessing, sys, time
sys.path.insert(0, {tests!r})
import test_orphans as t

if __name__ == "__main__":
    worker = multiprocessing.get_context("fork").Process(target=t.fit_slowly, args=({folder!r},))
    worker.start()
    time.sleep(600)
"""


class Slow(Callback):
    """Makes every batch take some time."""

    passive = True

    def on_batch_begin(self, ctx):
        time.sleep(0.1)


def net(folder):
    return make(folder).set_params(callbacks__checkpoint__unit="epoch", max_epochs=3)


def fit_slowly(folder):
    net(folder).fit(X, Y, callbacks=[Slow()])


def test_a_worker_whose_parent_was_killed_saves_and_ends(tmp_path):
    folder = tmp_path / "run"
    code = PROGRAM.format(tests=str(Path(__file__).parent), folder=str(folder))
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    try:
        until(lambda: list(folder.glob("epoch-000001*")))
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        # at once: the resumed fit waits for the folder
        resumed = net(folder).fit(X, Y, resume=True)
    finally:
        parent.kill()
    assert same(net(tmp_path / "whole").fit(X, Y), resumed)
    assert CheckpointFolder(folder).newest()["position"]["finished"]


LATE = """
import multiprocessing, sys, time
sys.path.insert(0, {tests!r})
import joblib
import test_orphans as t

if __name__ == "__main__":
    if {way!r} == "joblib":
        joblib.Parallel(2)(joblib.delayed(t.fit_late)(f"{folder}-{{i}}") for i in range(2))
    context = multiprocessing.get_context({way!r})
    context.Process(target=t.fit_late, args=({folder!r} + "-0",)).start()
    time.sleep(600)
"""


def fit_late(folder):
    """Fit when the parent is gone, as with a task that waited in a queue."""
    first = os.getppid()
    Path(folder + ".waits").touch()
    until(lambda: os.getppid() != first)
    try:
        net(folder).fit(X, Y)
    except KeyboardInterrupt:
        Path(folder + ".ended").touch()


@pytest.mark.parametrize("way", ["fork", pytest.param("spawn", marks=pytest.mark.slow), "joblib"])
def test_a_fit_that_begins_when_the_parent_is_gone_saves_and_ends(way, tmp_path):
    folder = str(tmp_path / "run")
    code = LATE.format(tests=str(Path(__file__).parent), folder=folder, way=way)
    (tmp_path / "program.py").write_text(code)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        n = 2 if way == "joblib" else 1
        until(lambda: len(list(tmp_path.glob("*.waits"))) == n)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        until(lambda: len(list(tmp_path.glob("*.ended"))) == n)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
    newest = CheckpointFolder(folder + "-0").newest()["position"]
    assert (newest["global_step"], newest["finished"]) == (1, False)


def tell(path):
    Path(path).write_text(str(Worker().is_orphaned()))


@pytest.mark.parametrize(
    "way", ["fork", pytest.param("spawn", marks=pytest.mark.slow), "forkserver"]
)
def test_a_worker_whose_parent_lives_is_not_orphaned(way, tmp_path):
    worker = multiprocessing.get_context(way).Process(target=tell, args=(str(tmp_path / "told"),))
    worker.start()
    worker.join()
    assert (tmp_path / "told").read_text() == "False"


def test_a_fit_in_a_process_of_its_own_is_no_worker():
    worker = Worker()
    assert worker.parent is None
    worker.end_if_orphaned()


def until(there):
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)
