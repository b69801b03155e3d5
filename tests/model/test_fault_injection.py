"""Whatever happens to one file operation, the folder reads as before or after the save."""

import contextlib
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import faulty_storage
import pytest
from faulty_storage import SCENARIOS, WRITING, inject_all, lose_power, operations_of, outcome_of

from skorchlike.model import checkpoint_manifest, checkpoints, storage


@pytest.fixture
def fast(tmp_path_factory):
    """Return a folder in memory, where syncs take no time."""
    if faulty_storage.IN_MEMORY is None:
        yield tmp_path_factory.mktemp("faults")
    else:
        with tempfile.TemporaryDirectory(dir=faulty_storage.IN_MEMORY) as folder:
            yield Path(folder)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_fault_ends_in_the_state_before_or_after(name, fast):
    count = inject_all(SCENARIOS[name], fast)
    assert count.faults == count.previous + count.new > 0
    assert count.other == 0
    assert count.silent == 0, "a fault raised nothing"
    assert count.stuck == 0, "the folder could not be used afterwards, or was left untidy"


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_power_cut_ends_in_the_state_before_or_after(name, fast):
    count = lose_power(SCENARIOS[name], fast)
    assert count.faults == count.previous + count.new > count.operations
    assert count.other == 0


def test_without_a_fault_each_scenario_ends_in_the_new_state(fast):
    for name, scenario in SCENARIOS.items():
        (fast / name).mkdir()
        log, path = operations_of(scenario, fast / name)
        new = replace(scenario, previous=object())
        assert outcome_of(path, new) == "new", name
        assert {operation for operation, *_ in log} >= {"create", "write", "sync", "rename"}


def test_both_ends_and_all_kinds_of_operations_are_met(fast):
    scenario = SCENARIOS["save, two go, best stays"]
    count = inject_all(scenario, fast)
    assert count.previous > 50
    assert count.new > 20
    log, _ = operations_of(scenario, fast)
    assert {operation for operation, *_ in log} == set(WRITING) - {"make_folder"}
    assert [operation for operation, *_ in log].count("remove") == 2


# ------------------------------------------------- the harness sees what is done wrongly


def plainly(path, data):
    """Write a file in its place: not at once."""
    storage.remove(path) if Path(path).exists() else None
    descriptor = storage.create(path)
    storage.write(descriptor, memoryview(b"".join(data) if isinstance(data, list) else data))
    storage.sync(descriptor)
    storage.close(descriptor)
    storage.sync_folder(Path(path).parent)


def without(name, function):
    """Return a function that runs with one of the file operations left out."""

    def run(*args):
        real = getattr(storage, name)
        setattr(storage, name, lambda *args: None)
        try:
            return function(*args)
        finally:
            setattr(storage, name, real)

    return run


def use(monkeypatch, write):
    monkeypatch.setattr(checkpoints, "write_atomically", write)
    monkeypatch.setattr(checkpoint_manifest, "write_atomically", write)


@pytest.mark.parametrize("name", ["finished again", "claim of a used one"])
def test_the_harness_sees_files_that_are_not_written_at_once(name, fast, monkeypatch):
    use(monkeypatch, plainly)
    count = inject_all(SCENARIOS[name], fast)
    assert count.other + count.stuck > 0


@pytest.mark.parametrize("left_out", ["sync", "sync_folder"])
def test_the_harness_sees_a_missing_sync(left_out, fast, monkeypatch):
    use(monkeypatch, without(left_out, checkpoints.write_atomically))
    assert lose_power(SCENARIOS["save, last goes"], fast).other > 0


def test_the_harness_sees_what_is_removed_too_early(fast, monkeypatch):
    write = checkpoints.write_atomically

    def remove_first(path, data):
        for other in Path(path).parent.glob("epoch-*.safetensors"):
            storage.remove(other)
        write(path, data)

    monkeypatch.setattr(checkpoints, "write_atomically", remove_first)
    assert inject_all(SCENARIOS["save, last goes"], fast).other > 0


def test_the_harness_sees_an_error_that_is_swallowed(fast, monkeypatch):
    write = checkpoints.write_atomically

    def swallow(path, data):
        with contextlib.suppress(OSError):
            write(path, data)

    use(monkeypatch, swallow)
    assert inject_all(SCENARIOS["second save"], fast).silent > 0


@pytest.mark.slow
def test_the_table_of_counts_is_printed():
    done = subprocess.run(
        [sys.executable, faulty_storage.__file__], capture_output=True, text=True, check=True
    )
    total = done.stdout.splitlines()[-1].split()
    assert total[0] == "all"
    assert int(total[2]) > 2000
    assert total[5:] == ["0", "0", "0"]
