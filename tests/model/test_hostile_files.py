"""Damaged and hostile files are refused, run nothing, and take no memory of their choosing."""

import json
import pickle

import guarded_reading
import hostile_files
import pytest


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return what became of each case, read in a process of its own, and the memory it took."""
    folder = tmp_path_factory.mktemp("corpus")
    hostile_files.write(folder)
    return hostile_files.read(folder)


def told(cases):
    parts = ("kind", "reader", "name", "outcome", "events")
    return "\n".join(" | ".join(str(case[part])[:200] for part in parts) for case in cases)


@pytest.mark.parametrize("kind", hostile_files.KINDS)
def test_every_file_is_refused_or_reads_as_it_was_written(kind, corpus):
    cases = [case for case in corpus[0] if case["kind"] == kind]
    assert len(cases) > 3
    bad = [case for case in cases if not hostile_files.is_good(case)]
    assert not bad, told(bad)


def test_reading_stays_within_the_memory_that_there_is(corpus):
    _, memory = corpus
    assert 0 < memory["peak"] < memory["room"] / 2


def test_the_corpus_is_as_large_as_it_says_and_meets_every_reader(corpus):
    cases, _ = corpus
    assert len(cases) > 900
    assert {case["reader"] for case in cases} == set(guarded_reading.READERS) - set(
        guarded_reading.CARELESS
    )
    refused = {case["outcome"].partition(": ")[2] for case in cases}
    assert refused >= {"DamagedFileError", "FormatError", "UntrustedError", "CheckpointError"}


def test_what_is_damaged_without_a_right_checksum_never_reads(corpus):
    for kind in ("cut off", "a bit flipped", "put together wrongly", "other format"):
        cases = [case for case in corpus[0] if case["kind"] == kind]
        # weights are read from files of others too, which have no checksum
        whole = [case for case in cases if case["reader"] != "weights"]
        assert {case["outcome"].partition(":")[0] for case in whole} == {"refused"}, kind
        assert len(whole) > len(cases) / 2


@pytest.fixture(scope="module")
def careless(tmp_path_factory):
    """Return what the reading process says of readers that do what none may do."""
    folder = tmp_path_factory.mktemp("careless")
    (folder / "canary.py").write_text(hostile_files.CANARY)
    cases = []
    for reader in guarded_reading.CARELESS:
        path = folder / reader
        path.write_text("1 + 1")
        if "pickle" in reader:
            path.write_bytes(pickle.dumps(hostile_files.Evil()))
        cases.append({"kind": "careless", "reader": reader, "name": reader, "path": str(path)})
    (folder / "cases.json").write_text(json.dumps({"good": {}, "cases": cases}))
    return {case["reader"]: case for case in hostile_files.read(folder)[0]}


@pytest.mark.parametrize("reader", guarded_reading.CARELESS)
def test_what_no_reader_may_do_is_seen(reader, careless):
    assert not hostile_files.is_good(careless[reader])


def test_each_of_it_is_seen_for_what_it_is(careless):
    def events(reader):
        return " ".join(careless[reader]["events"])

    assert "exec" in events("runs a pickle")
    assert "imported the canary" in events("runs a pickle")
    assert "imported the canary" in events("imports by name")
    assert "exec" in events("evaluates")
    assert "open" in events("writes")
    assert "os.remove" in events("removes")
    assert "os.system" in events("starts a process")
    assert "socket" in events("opens a socket")
    assert "closed" in events("closes a file")
    assert careless["never ends"]["outcome"].startswith("not done")
    assert "MemoryError" in careless["allocates by what a header claims"]["outcome"]
    assert "KeyError" in careless["raises what it likes"]["outcome"]
    assert careless["reads something else"]["outcome"] == "other content"
