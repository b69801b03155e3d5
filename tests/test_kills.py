"""Killed fits end with the same bits, and the harness that says so finds what it looks for."""

import importlib
import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from skorchlike import Checkpoint, EarlyStopping, GradientClipping, NeuralNetClassifier

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    """Import modules of the benchmarks as `python benchmarks/kills.py` does."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


@pytest.fixture
def folder(tmp_path):
    """The checkpoints of a finished fit of three epochs, whose last two are kept."""
    fit(Checkpoint(tmp_path / "run", keep=2))
    return tmp_path / "run"


def fit(checkpoint=None, **params):
    params = {"max_epochs": 3, "validation_fraction": 0.2, "random_state": 0, **params}
    callbacks = {"stop": EarlyStopping(), "clip": GradientClipping(), "checkpoint": checkpoint}
    net = NeuralNetClassifier(callbacks=callbacks, lr=0.01, **params)
    return net.fit(*data())


def data():
    X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def command(*said):
    # in memory, where syncs take no time
    folder = {"TMPDIR": "/dev/shm"} if os.path.isdir("/dev/shm") else {}
    return subprocess.run(
        [sys.executable, *map(str, said)],
        capture_output=True,
        text=True,
        cwd=BENCHMARKS,
        env={**os.environ, **folder},
    )


# ------------------------------------------------------------------------------ kills


def test_killed_fits_end_with_the_same_bits():
    done = command("kills.py", "--kills", 5, "--seed", 3, "--only", "together")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| **all** |  | **5** |" in done.stdout


@pytest.mark.slow
def test_all_configurations_end_with_the_same_bits():
    done = command("kills.py", "--kills", 48, "--seed", 4)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| **all** |  | **48** |" in done.stdout


PLANTED = """
import dataclasses, json, sys, time
from pathlib import Path
import kills, torch
from kills import fits
from skorchlike import Callback, Checkpoint
from skorchlike.model import checkpoint_manifest

class Forgets(Callback):
    "Scales the loss by how many batches it has seen, and does not keep that."
    def on_begin(self, ctx):
        self.n = 0
    def on_after_loss(self, ctx):
        self.n += 1
        ctx.loss = ctx.loss * (1 + self.n / 100)

class Lies(Checkpoint):
    "Says that each epoch is saved, and saves every fifth alone."
    def _save(self, ctx, name, files, score=None):
        if ctx.epoch % 5 == 0:
            super()._save(ctx, name, files, score)
        self.last = name

class Fails(Callback):
    def on_epoch_end(self, ctx):
        if ctx.epoch == 3:
            raise ValueError("planted")

class InPlace(Callback):
    "Lets the manifest be written in place, as one would without thinking of kills."
    passive = True
    def on_begin(self, ctx):
        def write(path, data):
            with open(path, "wb", buffering=0) as file:
                file.write(data[: len(data) // 2])
                time.sleep(0.004)
                file.write(data[len(data) // 2 :])
        checkpoint_manifest.write_atomically = write

class WithLies(fits.Configuration):
    def estimator(self, folder, seed):
        net = super().estimator(folder, seed)
        return net.set_params(callbacks__checkpoint=Lies(folder))

def plan(cls, saves, callbacks, n):
    return cls("planted", saves, callbacks, {"max_epochs": n, "batch_size": 100})

fits.TRUSTED = (*fits.TRUSTED, "__main__")
fits.CONFIGURATIONS = {
    "forgets": plan(fits.Configuration, {}, lambda: {"forgets": Forgets()}, 25),
    "lies": plan(WithLies, {}, dict, 40),
    "fails": plan(fits.Configuration, {}, lambda: {"fails": Fails()}, 5),
    "in_place": plan(fits.Configuration, {}, lambda: {"in_place": InPlace()}, 12),
}
kills.Runs.FRESH = 0.0  # only forked processes know these
found = kills.measure(list(fits.CONFIGURATIONS), 16, 0)
print(json.dumps({name: counts.of for name, counts in found.items()}))
"""


def test_planted_faults_are_found():
    done = command("-c", PLANTED)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["forgets"]["unequal"] > 0
    assert found["lies"]["lost"] > 0
    assert found["fails"]["failed"] > 0
    assert found["in_place"]["damaged"] > 0
    assert "unequal" not in found["lies"], "the bits are right, only the work is done twice"


def test_a_planted_fault_makes_the_command_fail(bench, monkeypatch, capsys):
    kills = bench("kills")
    counts = kills.Counts()
    counts.of["mid"] = 1
    monkeypatch.setattr(kills, "measure", lambda names, n_kills, seed: {"ema": counts})
    assert kills.main(["--kills", "1"]) == 0
    assert kills.main(["--kills", "2"]) == 1, "fewer kills than were asked for"
    counts.wrong("lost", "one")
    assert kills.main(["--kills", "1"]) == 1
    assert "| 1 | 0 | 1 | 0 | 0 |" in capsys.readouterr().out


# ------------------------------------------------------------------------ what is read


def test_a_good_folder_is_read(bench, folder):
    found = bench("kills").look(folder)
    assert found.newest == (math.inf, math.inf)
    assert (found.global_step, found.in_save, found.damaged) == (3, False, [])


def test_an_empty_folder_has_nothing(bench, tmp_path):
    kills = bench("kills")
    assert kills.look(tmp_path) == kills.Look((0, 0), 0, False, [])


@pytest.mark.parametrize("name", ["finished.safetensors", "epoch-000002.safetensors"])
def test_a_file_that_is_cut_off_is_damaged(bench, folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1])
    assert bench("kills").look(folder).damaged


def test_a_manifest_that_is_cut_off_is_damaged(bench, folder):
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:-9])
    assert bench("kills").look(folder).damaged


def test_a_checkpoint_that_is_gone_is_lost(bench, folder):
    kills = bench("kills")
    (folder / "finished.safetensors").unlink()
    found = kills.look(folder)
    assert found.newest == (3, math.inf) < kills.place_of("finished.safetensors")


def test_what_a_cut_off_save_leaves_is_seen(bench, folder):
    kills = bench("kills")
    part = folder / ".epoch-000004.safetensors.0123456789ab.tmp"
    part.write_bytes(b"half")
    assert kills.look(folder).in_save
    part.unlink()
    assert not kills.look(folder).in_save


def test_the_places_of_files_are_in_the_order_of_the_fit(bench):
    files = [
        None,
        "epoch-000001-step-000001.safetensors",
        "epoch-000001-step-000012.safetensors",
        "epoch-000001.safetensors",
        "epoch-000002-step-000001.safetensors",
        "finished.safetensors",
    ]
    places = [bench("kills").place_of(file) for file in files]
    assert all(a < b for a, b in pairwise(places))


# -------------------------------------------------------------------- what is compared


def next_float(tensor):
    """Change the last bit of one number."""
    with torch.no_grad():
        first = tensor.reshape(-1)[:1]
        first.copy_(torch.nextafter(first, first + 1))


CHANGES = {
    "module": lambda m: next_float(next(m.module_.parameters())),
    "optimizer": lambda m: next_float(m.optimizer_["state"][0]["exp_avg"]),
    "lr": lambda m: m.optimizer_["param_groups"][0].update(lr=math.nextafter(0.01, 1)),
    "history": lambda m: m.history_[1].update(valid_loss=math.nextafter(1, 2)),
    "column": lambda m: m.history_[1].pop("valid_loss"),
    "callback": lambda m: m.callbacks_.stop.update(best_epoch=7),
    "rng": lambda m: m.continuation_["rng"]["torch"].add_(1),
    "seed": lambda m: setattr(m, "seed_", 1),
    "reason": lambda m: setattr(m, "stop_reason_", "interrupted"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_single_bit_makes_results_unequal(bench, change):
    net, bits = fit(), bench("kill_configurations").bits
    before = bits(net, data()[0])
    assert bits(net, data()[0]) == before
    change(net.model_)
    assert bits(net, data()[0]) != before


def test_times_and_folders_are_not_compared(bench, tmp_path):
    bits = bench("kill_configurations").bits
    one, other = (fit(Checkpoint(tmp_path / name)) for name in "ab")
    other.model_.history_[0]["duration"] = 99.0
    assert bits(one, data()[0]) == bits(other, data()[0])


def test_what_cannot_be_compared_is_an_error(bench):
    net = fit()
    net.model_.callbacks_.stop["thing"] = object()
    with pytest.raises(TypeError, match=r"callbacks\.stop\.thing"):
        bench("kill_configurations").bits(net, data()[0])


# -------------------------------------------------------------------------- the report


def test_the_figures_are_put_on_the_page(bench):
    kills = bench("kills")
    page = (BENCHMARKS.parent / "docs" / "nothing_is_lost.md").read_text()
    new = kills.put_on_page(page, "some figures")
    assert "\n\nsome figures\n\n" in new
    assert kills.put_on_page(new, "some figures") == new
    with pytest.raises(ValueError, match="has no lines"):
        kills.put_on_page("no marks", "some figures")


def test_it_is_said_in_words_when_a_fit_saves(bench):
    told = bench("kills").saves_told
    assert told({}) == "every epoch"
    assert told({"unit": "batch", "every": 3, "keep": 2}) == "every 3 batches, 2 kept"
    assert told({"unit": "second", "every": 0.5, "monitor": "loss"}) == "every 0.5 s, the best"
