"""A worker whose parent was killed saves its fit and gives the folder back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from test_resuming import X, Y, make, same

from skorchlike import Callback
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


def until(there):
    end = time.monotonic() + 60
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_fit_in_a_process_of_its_own_is_no_worker():
    from skorchlike.callbacks.tools.workers import Worker

    worker = Worker()
    assert worker.parent is None
    worker.end_if_orphaned()
    worker.parent = os.getppid() + 1
    assert worker.is_orphaned()
