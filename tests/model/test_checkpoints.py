"""A folder of checkpoints: what it holds, what of it is good, whose it is."""

import hashlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections import Counter
from functools import partial

import numpy as np
import pytest
import safetensors.torch
import torch
from faulty_storage import RUN, E, Fault, FaultyStorage, flat, make_snapshot
from sklearn.preprocessing import StandardScaler

from skorchlike.exceptions import CheckpointError, DamagedFileError, FormatError, UntrustedError
from skorchlike.model.checkpoints import CheckpointFolder, read_checkpoint
from skorchlike.model.codec import decode, encode
from skorchlike.model.files import checksum_of, pack, unpack
from skorchlike.model.trust import Trusted, packages_of

FINISHED, MANIFEST = "finished.safetensors", "manifest.json"


def fill(path, *snapshots, run_id=RUN, keep=True, **options):
    """Save snapshots, all of which are kept; return the folder, released."""
    folder = CheckpointFolder(path)
    folder.claim(run_id)
    names = []
    for snapshot in snapshots:
        names.append(folder.save(snapshot, keep=names if keep else (), **options))
    folder.release()
    return folder


def epochs(*numbers, **options):
    return [make_snapshot(number, **options) for number in numbers]


def assert_newest(path, expected, finished=None):
    assert flat(CheckpointFolder(path).newest(finished)) == flat(expected)


def manifest_of(path):
    return json.loads((path / MANIFEST).read_text())


def listed(path):
    return [entry["file"] for entry in manifest_of(path)["checkpoints"]]


def on_disk(path):
    return sorted(name for name in os.listdir(path) if name.endswith("safetensors"))


def damage(path, how="flip"):
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 1
    elif how == "cut":
        del data[len(data) // 2 :]
    elif how == "empty":
        data.clear()
    elif how == "longer":
        data += b"x"
    elif how == "missing":
        path.unlink()
        return
    path.write_bytes(data)


# --------------------------------------------------------------------- what is written


def test_a_new_folder_has_no_checkpoint(tmp_path):
    assert CheckpointFolder(tmp_path / "none").newest() is None
    assert CheckpointFolder(tmp_path).newest() is None
    fill(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / MANIFEST).exists()
    assert CheckpointFolder(tmp_path / "a" / "b").newest() is None


def test_what_is_saved_is_read_to_the_bit(tmp_path):
    snapshot = make_snapshot(3)
    snapshot["odd"] = {"nan": float("nan"), "none": None, 1: [torch.tensor([], dtype=torch.int8)]}
    fill(tmp_path, snapshot)
    assert_newest(tmp_path, snapshot)
    assert flat(read_checkpoint(tmp_path / E(3))) == flat(snapshot)


def test_files_are_named_by_the_place_in_the_fit(tmp_path):
    places = [make_snapshot(4), make_snapshot(5, step=120), make_snapshot(5, step=1_234_567)]
    fill(tmp_path, *places, make_snapshot(1_000_000), make_snapshot(1_000_000, finished=True))
    assert listed(tmp_path) == [
        "epoch-000004.safetensors",
        "epoch-000005-step-000120.safetensors",
        "epoch-000005-step-1234567.safetensors",
        "epoch-1000000.safetensors",
        "finished.safetensors",
    ]
    assert on_disk(tmp_path) == sorted(listed(tmp_path))


def test_plain_safetensors_reads_the_weights(tmp_path):
    snapshot = make_snapshot(1)
    fill(tmp_path, snapshot)
    tensors = safetensors.torch.load_file(tmp_path / E(1))
    assert torch.equal(tensors["module.weight"], snapshot["module"]["weight"])


def test_the_manifest_lists_what_the_files_are(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.claim(RUN)
    folder.save(make_snapshot(1), score=0.25, best=E(1))
    folder.save(make_snapshot(2, step=3), keep=[E(1)], score=float("nan"), best=E(1))
    manifest = manifest_of(tmp_path)
    assert manifest["version"] == 1
    assert manifest["run_id"] == RUN
    assert manifest["identity"] == {"data": "0123456789abcdef"}
    first, second = manifest["checkpoints"]
    data = (tmp_path / E(1)).read_bytes()
    assert first == {
        "file": E(1),
        "sha256": checksum_of(data),
        "size": len(data),
        "best": True,
        "epoch": 1,
        "step": 0,
        "global_step": 10,
        "in_epoch": False,
        "finished": False,
        "score": 0.25,
    }
    assert (second["step"], second["in_epoch"], second["best"]) == (3, True, False)
    assert second["score"] is None
    folder.release()


@pytest.mark.parametrize("identity", [{("a", 1): {2}}, {"t": torch.ones(1)}, [float("nan")], None])
def test_any_identity_is_shown_in_the_manifest(tmp_path, identity):
    fill(tmp_path, {**make_snapshot(1), "identity": identity})
    assert CheckpointFolder(tmp_path).files() == [E(1)]
    assert repr(CheckpointFolder(tmp_path).newest()["identity"]) == repr(identity)


def test_only_what_is_to_be_kept_stays(tmp_path):
    folder = fill(tmp_path, *epochs(1, 2, 3))
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "epoch-7.safetensors").write_text("not named as ours")
    folder.claim(RUN)
    folder.save(make_snapshot(4), keep=[E(1), E(3)])
    assert listed(tmp_path) == [E(1), E(3), E(4)]
    assert on_disk(tmp_path) == [E(1), E(3), E(4), "epoch-7.safetensors"]
    folder.save(make_snapshot(4, finished=True))
    assert listed(tmp_path) == [FINISHED]
    folder.save(make_snapshot(5))
    assert listed(tmp_path) == [FINISHED, E(5)]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    folder.release()


def test_what_is_later_than_a_save_goes_with_it(tmp_path):
    """A fit that went on from an earlier place makes the later ones anew."""
    folder = fill(tmp_path, *epochs(1, 2, 3), make_snapshot(3, finished=True))
    folder.claim(RUN)
    folder.save(make_snapshot(2, step=4), keep=[E(1), E(2), E(3)])
    assert listed(tmp_path) == [E(1), "epoch-000002-step-000004.safetensors"]
    assert on_disk(tmp_path) == sorted(listed(tmp_path))
    folder.release()


def test_saving_needs_a_claim(tmp_path):
    folder = CheckpointFolder(tmp_path)
    with pytest.raises(CheckpointError, match="not claimed for this fit"):
        folder.save(make_snapshot(1))
    folder.claim("another run")
    with pytest.raises(CheckpointError, match="not claimed for this fit"):
        folder.save(make_snapshot(1))
    folder.release()
    assert on_disk(tmp_path) == []


# ------------------------------------------------------------------- what is the newest


def test_the_newest_is_the_last_in_the_fit_whatever_the_times_of_the_files(tmp_path):
    middle, end = make_snapshot(3, step=10), make_snapshot(3)  # its last batch
    assert middle["position"]["global_step"] == end["position"]["global_step"]
    finished = make_snapshot(3, finished=True)
    fill(tmp_path, *epochs(1, 2), middle, end, finished)
    os.utime(tmp_path / E(1))
    assert_newest(tmp_path, finished)
    assert_newest(tmp_path, finished, finished=True)
    assert_newest(tmp_path, end, finished=False)
    fill(tmp_path, make_snapshot(4, step=1))
    assert_newest(tmp_path, make_snapshot(4, step=1))
    assert_newest(tmp_path, finished, finished=True)


def test_an_epoch_without_a_batch_is_later_than_the_one_before(tmp_path):
    empty = make_snapshot(3)
    empty["position"]["global_step"] = 20
    fill(tmp_path, make_snapshot(2), empty)
    assert_newest(tmp_path, empty)
    assert listed(tmp_path) == [E(2), E(3)]


def test_without_one_of_that_kind_there_is_none(tmp_path):
    fill(tmp_path / "a", make_snapshot(1))
    assert CheckpointFolder(tmp_path / "a").newest(finished=True) is None
    fill(tmp_path / "b", make_snapshot(1, finished=True))
    assert CheckpointFolder(tmp_path / "b").newest(finished=False) is None


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "longer", "missing"])
def test_a_damaged_one_is_warned_about_and_passed_over(tmp_path, how):
    fill(tmp_path, *epochs(1, 2, 3))
    damage(tmp_path / E(3), how)
    with pytest.warns(UserWarning, match=r"epoch-000003\.safetensors.*passed over") as told:
        assert_newest(tmp_path, make_snapshot(2))
    assert len(told) == 1
    damage(tmp_path / E(2), "missing")
    with pytest.warns(UserWarning, match="epoch") as told:
        assert_newest(tmp_path, make_snapshot(1))
    assert len(told) == 2
    assert f"{E(2)}' is not good, it is passed over: it is missing" in str(told[1].message)


def test_every_single_damaged_byte_is_noticed(tmp_path):
    small = {**make_snapshot(2), "rng": {}, "history": []}
    fill(tmp_path, make_snapshot(1), small)
    data = (tmp_path / E(2)).read_bytes()
    for place in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8)
        (tmp_path / E(2)).write_bytes(damaged)
        with pytest.warns(UserWarning, match="epoch-000002"):
            assert_newest(tmp_path, make_snapshot(1))


def test_other_contents_under_its_name_are_noticed(tmp_path):
    fill(tmp_path, *epochs(1, 2, 3))
    shutil.copy(tmp_path / E(1), tmp_path / E(3))
    with pytest.warns(UserWarning, match="was epoch-000001.*renamed"):
        assert_newest(tmp_path, make_snapshot(2))
    fill(tmp_path / "other", make_snapshot(3, run_id="other"), run_id="other")
    shutil.copy(tmp_path / "other" / E(3), tmp_path / E(3))
    with pytest.warns(UserWarning, match="not the file that was saved"):
        assert_newest(tmp_path, make_snapshot(2))
    (tmp_path / E(3)).write_bytes(pack({"head": {"epoch": "3"}, "snapshot": {}}, {}, "checkpoint"))
    with pytest.warns(UserWarning, match="does not say which fit"):
        assert_newest(tmp_path, make_snapshot(2))
    (tmp_path / E(3)).write_bytes(pack([], {}, "checkpoint"))
    with pytest.warns(UserWarning, match="no snapshot"):
        assert_newest(tmp_path, make_snapshot(2))


def test_a_file_with_another_value_in_the_place_of_a_snapshot_is_passed_over(tmp_path):
    fill(tmp_path, *epochs(1, 2))
    plain, tensors = unpack((tmp_path / E(2)).read_bytes(), "checkpoint")
    (tmp_path / E(2)).write_bytes(pack({**plain, "snapshot": [1]}, tensors, "checkpoint"))
    with pytest.warns(UserWarning, match="no snapshot"):
        assert_newest(tmp_path, make_snapshot(1))


def test_a_file_that_is_a_hole_of_a_terabyte_is_not_read(tmp_path):
    fill(tmp_path, *epochs(1, 2))
    os.truncate(tmp_path / E(2), 2**40)
    with pytest.warns(UserWarning, match="epoch-000002"):
        assert_newest(tmp_path, make_snapshot(1))
    os.truncate(tmp_path / MANIFEST, 2**40)
    (tmp_path / E(2)).unlink()
    with pytest.warns(UserWarning, match="manifest"):
        assert_newest(tmp_path, make_snapshot(1))


def test_a_folder_or_a_pipe_under_its_name_is_passed_over(tmp_path):
    fill(tmp_path, *epochs(1, 2, 3))
    (tmp_path / E(3)).unlink()
    (tmp_path / E(3)).mkdir()
    (tmp_path / E(2)).unlink()
    os.mkfifo(tmp_path / E(2))  # whoever opens it waits for ever
    with pytest.warns(UserWarning, match="is missing"):
        assert_newest(tmp_path, make_snapshot(1))


def test_none_that_is_good_is_an_error(tmp_path):
    fill(tmp_path, *epochs(1, 2))
    damage(tmp_path / E(1)), damage(tmp_path / E(2))
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(CheckpointError, match=r"No checkpoint in .* is whole.*start afresh"),
    ):
        CheckpointFolder(tmp_path).newest()
    (tmp_path / MANIFEST).unlink()
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(CheckpointError, match=r"No checkpoint in .* is whole"),
    ):
        CheckpointFolder(tmp_path).newest()


def test_where_none_that_is_listed_is_good_an_unlisted_one_of_the_fit_counts(tmp_path):
    fill(tmp_path, *epochs(1, 2))
    older = (tmp_path / E(2)).read_bytes()
    fill(tmp_path, make_snapshot(3), keep=False)
    (tmp_path / E(2)).write_bytes(older)  # as a crash leaves it before it is removed
    assert listed(tmp_path) == [E(3)]
    assert_newest(tmp_path, make_snapshot(3))
    damage(tmp_path / E(3))
    with pytest.warns(UserWarning, match="epoch-000003"):
        assert_newest(tmp_path, make_snapshot(2))


def test_a_damaged_finished_one_leaves_those_before(tmp_path):
    fill(tmp_path, make_snapshot(1), make_snapshot(1, finished=True))
    damage(tmp_path / FINISHED)
    with pytest.warns(UserWarning, match=r"finished\.safetensors"):
        assert CheckpointFolder(tmp_path).newest(finished=True) is None
    assert_newest(tmp_path, make_snapshot(1), finished=False)
    with pytest.warns(UserWarning, match=r"finished\.safetensors"):
        assert_newest(tmp_path, make_snapshot(1))


# --------------------------------------------------------------------- the manifest


def edited(text):
    text["checkpoints"][0]["size"] += 1


BAD_MANIFESTS = {
    "empty": b"",
    "no JSON": b"{",
    "a list": b"[]",
    "another JSON": b'{"format": "other"}',
    "deep": b"[" * 100_000,
    "no text": b"\xff\xfe",
    "long number": b'{"version": ' + b"9" * 10_000 + b"}",
    "zeros": b"\0" * 500,
}


@pytest.mark.parametrize("name", [*BAD_MANIFESTS, "edited", "folder"])
def test_with_a_damaged_manifest_the_files_tell(tmp_path, name):
    fill(tmp_path, *epochs(1, 2), make_snapshot(3, step=2))
    path = tmp_path / MANIFEST
    if name == "edited":
        text = json.loads(path.read_text())
        text["checkpoints"][0]["size"] += 1
        path.write_text(json.dumps(text))
    elif name == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(BAD_MANIFESTS[name])
    with pytest.warns(UserWarning, match=r"manifest\.json.*the files themselves"):
        assert_newest(tmp_path, make_snapshot(3, step=2))
    if name == "folder":
        return
    with pytest.warns(UserWarning, match=r"manifest\.json"):
        fill(tmp_path)
    assert len(listed(tmp_path)) == 3  # mended by the next claim
    assert_newest(tmp_path, make_snapshot(3, step=2))


def test_every_single_damaged_byte_of_the_manifest_is_noticed(tmp_path):
    fill(tmp_path, *epochs(1))
    data = (tmp_path / MANIFEST).read_bytes()
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        (tmp_path / MANIFEST).write_bytes(damaged)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert_newest(tmp_path, make_snapshot(1))
        try:
            same = json.loads(damaged) == json.loads(data)
        except ValueError:
            same = False
        assert bool(told) != same


def signed(text):
    """Return a manifest with a checksum that holds, as one who means ill would write it."""
    text = {name: value for name, value in text.items() if name != "sha256"}
    said = json.dumps(text, sort_keys=True).encode()
    return json.dumps({**text, "sha256": hashlib.sha256(said).hexdigest()})


@pytest.mark.parametrize(
    "change",
    [
        {"file": "../../etc/passwd"},
        {"file": "/etc/passwd"},
        {"file": None},
        {"epoch": -1},
        {"epoch": "1"},
        {"epoch": True},
        {"size": None},
        {"finished": 1},
        {"sha256": 5},
        {"score": "low"},
    ],
)
def test_a_manifest_with_impossible_entries_is_damaged(tmp_path, change):
    fill(tmp_path, *epochs(1))
    text = manifest_of(tmp_path)
    text["checkpoints"][0].update(change)
    (tmp_path / MANIFEST).write_text(signed(text))
    with pytest.warns(UserWarning, match=r"manifest\.json"):
        assert_newest(tmp_path, make_snapshot(1))


@pytest.mark.parametrize("change", [{"run_id": 5}, {"checkpoints": {}}, {"checkpoints": [7]}])
def test_a_manifest_of_wrong_types_is_damaged(tmp_path, change):
    fill(tmp_path, *epochs(1))
    (tmp_path / MANIFEST).write_text(signed({**manifest_of(tmp_path), **change}))
    with pytest.warns(UserWarning, match=r"manifest\.json"):
        assert_newest(tmp_path, make_snapshot(1))


def test_a_manifest_of_another_version_is_an_error_that_says_so(tmp_path):
    fill(tmp_path, *epochs(1))
    (tmp_path / MANIFEST).write_text(signed({**manifest_of(tmp_path), "version": 2}))
    with pytest.raises(FormatError, match=r"format version 2.*reads 1"):
        CheckpointFolder(tmp_path).newest()


def test_without_a_manifest_the_files_tell(tmp_path):
    fill(tmp_path, *epochs(1, 2))
    (tmp_path / MANIFEST).unlink()
    assert_newest(tmp_path, make_snapshot(2))
    fill(tmp_path)
    assert listed(tmp_path) == [E(1), E(2)]


def test_files_of_several_fits_without_a_manifest_are_an_error(tmp_path):
    fill(tmp_path, *epochs(1))
    fill(tmp_path / "other", *epochs(2, run_id="other"), run_id="other")
    shutil.copy(tmp_path / "other" / E(2), tmp_path)
    assert_newest(tmp_path, make_snapshot(1))  # what is not listed is not ours
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match="several fits"):
        CheckpointFolder(tmp_path).newest()
    fill(tmp_path / "new")
    shutil.copy(tmp_path / E(2), tmp_path / "new")
    with pytest.raises(CheckpointError, match="several fits"):
        CheckpointFolder(tmp_path / "new").newest()


# ------------------------------------------------------------------- whose folder it is


def test_another_fit_is_refused(tmp_path):
    fill(tmp_path, *epochs(1))
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    refused = CheckpointFolder(tmp_path)
    with pytest.raises(CheckpointError, match=r"another fit.*resume=True.*\{fingerprint\}"):
        refused.claim("another run")
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    fill(tmp_path)  # and the lock is free


def test_a_folder_whose_fit_saved_nothing_is_free(tmp_path):
    fill(tmp_path)
    fill(tmp_path, *epochs(1, run_id="another run"), run_id="another run")
    assert manifest_of(tmp_path)["run_id"] == "another run"


def test_a_folder_of_damaged_checkpoints_is_refused(tmp_path):
    fill(tmp_path, *epochs(1))
    (tmp_path / MANIFEST).unlink()
    damage(tmp_path / E(1))
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(CheckpointError, match="none of them can be read"),
    ):
        CheckpointFolder(tmp_path).claim(RUN)


def test_a_folder_has_one_writer_at_a_time(tmp_path):
    first, second = CheckpointFolder(tmp_path), CheckpointFolder(tmp_path)
    first.claim(RUN)
    first.claim(RUN)  # again is no harm
    with pytest.raises(CheckpointError, match="Another fit writes its checkpoints"):
        second.claim(RUN)
    first.save(make_snapshot(1))
    first.release()
    second.claim(RUN)
    with pytest.raises(CheckpointError, match="was not claimed"):
        first.save(make_snapshot(2))
    second.release()
    second.release()


def test_another_process_is_refused_and_one_that_is_killed_leaves_no_lock(tmp_path):
    """Also when a process that it forked, as data loaders do, lives on."""
    code = f"""
    import multiprocessing, os, signal, sys, time
    from skorchlike.model.checkpoints import CheckpointFolder
    folder = CheckpointFolder({str(tmp_path)!r})
    folder.claim({RUN!r})
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    print(child.pid, flush=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(process.stdout.readline())
    try:
        with pytest.raises(CheckpointError, match="Another fit"):
            CheckpointFolder(tmp_path).claim(RUN)
        process.stdin.write("die\n")
        process.stdin.flush()
        process.wait()
        os.kill(child, 0)  # it lives
        fill(tmp_path, *epochs(1))
    finally:
        os.kill(child, 9)
        process.kill()
        process.communicate()


def test_a_child_does_not_end_the_lock_of_its_parent(tmp_path):
    folder = CheckpointFolder(tmp_path)
    folder.claim(RUN)
    child = multiprocessing.get_context("fork").Process(target=os.getpid)
    child.start()
    child.join()
    with pytest.raises(CheckpointError, match="Another fit"):
        CheckpointFolder(tmp_path).claim(RUN)
    folder.release()


def test_a_file_system_without_locks_is_warned_about(tmp_path, monkeypatch):
    from skorchlike.model import checkpoint_lock

    def flock(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(checkpoint_lock.fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="cannot lock"):
        fill(tmp_path, *epochs(1))
    monkeypatch.setattr(checkpoint_lock, "fcntl", None)
    fill(tmp_path)


def test_a_file_that_could_not_be_listed_takes_no_room(tmp_path):
    """A full disk may have room for the file and none for the manifest."""
    folder = fill(tmp_path, *epochs(1))
    folder.claim(RUN)
    with FaultyStorage() as counted:
        folder.save(make_snapshot(2), keep=[E(1)])
    second_write = [i for i, (name, *_) in enumerate(counted.log) if name == "write"][1]
    with FaultyStorage(second_write, Fault("full", 28)), pytest.raises(OSError, match="space"):
        folder.save(make_snapshot(3), keep=[E(1), E(2)])
    assert on_disk(tmp_path) == listed(tmp_path) == [E(1), E(2)]
    folder.release()


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file") as told:
        CheckpointFolder(tmp_path / "file" / "run").claim(RUN)
    assert "Checkpoints cannot be written to the folder" in told.value.__notes__[-1]
    assert CheckpointFolder(tmp_path / "file" / "run").newest() is None


def test_a_folder_in_the_place_of_the_manifest_is_an_error_that_names_it(tmp_path):
    (tmp_path / MANIFEST).mkdir()
    with (
        pytest.warns(UserWarning, match=r"manifest\.json"),
        pytest.raises(CheckpointError, match=r"manifest\.json' is a folder.*rename"),
    ):
        CheckpointFolder(tmp_path).claim(RUN)


@pytest.mark.parametrize("later", [make_snapshot(4, 2), make_snapshot(4), make_snapshot(9)])
def test_a_claim_may_refuse_what_is_later(tmp_path, later):
    fill(tmp_path, *epochs(2, 3), later)
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    folder = CheckpointFolder(tmp_path)
    with pytest.raises(CheckpointError, match=r"later checkpoints \(epoch [49]\).*\(epoch 3\)"):
        folder.claim(RUN, epoch=3)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    folder.claim(RUN, epoch=9)
    folder.claim(RUN)
    folder.release()


def test_what_may_be_named_is_known_when_it_is_saved(tmp_path):
    snapshot = make_snapshot(1) | {"callbacks": {"own": ("Own", {"x": [1, Counter("ab"), Own]})}}
    folder = CheckpointFolder(tmp_path)
    folder.claim(RUN)
    with pytest.raises(FormatError, match=rf"^callbacks\.own\.1\.x\.2 names '{__name__}\.Own'"):
        folder.save(snapshot, trusted=["elsewhere"])
    assert on_disk(tmp_path) == []
    folder.save(snapshot, trusted=[__name__])
    folder.save(snapshot)
    folder.release()
    read = CheckpointFolder(tmp_path).newest(trusted=[__name__])
    assert read["callbacks"]["own"][1]["x"] == [1, Counter("ab"), Own]


def test_the_packages_of_a_fit_are_those_of_its_classes_and_no_library(tmp_path):
    class Elsewhere(Own):
        """A class of one package that derives from one of another."""

    Elsewhere.__module__ = "mine.deep"
    here = __name__.partition(".")[0]
    libraries = [torch.nn.Linear(1, 1), torch.optim.Adam, StandardScaler(), np.float64(1), None]
    python = ["text", partial(print), Counter(), json.JSONDecoder]
    assert packages_of([*libraries, *python, CheckpointFolder(tmp_path)]) == []
    assert packages_of([Own(1, 1), Own, make_snapshot]) == sorted({here, "faulty_storage"})
    assert packages_of([Elsewhere]) == sorted([here, "mine"])
    Elsewhere.__module__ = "__main__"
    assert packages_of([Elsewhere(1, 1)]) == sorted([here, "__main__"])


def sparse_gradient(coalesced):
    table = torch.nn.Embedding(5, 2, sparse=True)
    (table(torch.tensor([1, 3, 1])) * torch.rand(3, 2)).sum().backward()
    return table.weight.grad.coalesce() if coalesced else table.weight.grad


@pytest.mark.parametrize("coalesced", [False, True])
def test_sparse_tensors_are_read_to_the_bit(tmp_path, coalesced):
    gradient = sparse_gradient(coalesced)
    empty = torch.zeros(3, 4, dtype=torch.float64).to_sparse()
    fill(tmp_path, make_snapshot(1) | {"gradients": {"a": gradient, "b": empty, "c": gradient}})
    read = CheckpointFolder(tmp_path).newest()["gradients"]
    for value, again in ((gradient, read["a"]), (empty, read["b"])):
        assert again.layout == torch.sparse_coo
        assert again.shape == value.shape
        assert again.is_coalesced() == value.is_coalesced()
        assert torch.equal(again._indices(), value._indices())
        assert torch.equal(again._values(), value._values())
        assert again.dtype == value.dtype
    assert read["a"] is read["c"]


def _cut(node, part, value):
    node["items"][part] = value


@pytest.mark.parametrize(
    "change",
    [
        lambda node, tensors: tensors["g.indices"].fill_(5),
        lambda node, tensors: tensors["g.indices"].fill_(-1),
        lambda node, tensors: tensors.update({"g.indices": torch.ones(1, 3)}),
        lambda node, tensors: tensors.update({"g.indices": torch.ones(3, dtype=torch.int64)}),
        lambda node, tensors: tensors.update({"g.values": torch.ones(2, 2)}),
        lambda node, tensors: node.update(coalesced=True),
        lambda node, tensors: node.update(sizes=[5, 3]),
        lambda node, tensors: node.update(sizes=[2**62, 2**62]),
        lambda node, tensors: node.update(sizes=[-5, 2]),
        lambda node, tensors: node.update(sizes={"$": "range", "items": [0, 2**60, 1]}),
        lambda node, tensors: node.update(items=[node["items"][0]]),
        lambda node, tensors: _cut(node, 1, [1.0, 2.0]),
        lambda node, tensors: _cut(node, 1, node["items"][1] | {"requires_grad": True}),
        lambda node, tensors: _cut(node, 1, json.loads(json.dumps(node))),
    ],
)
def test_an_impossible_sparse_tensor_is_damaged(change):
    node, tensors = encode(sparse_gradient(coalesced=False), "g")
    assert decode(node, dict(tensors), Trusted()).is_sparse
    change(node, tensors)
    with pytest.raises(DamagedFileError):
        decode(node, tensors, Trusted())


def test_a_claim_removes_what_a_crash_left_and_nothing_else(tmp_path):
    fill(tmp_path, *epochs(1, 2))
    manifest = (tmp_path / MANIFEST).read_bytes()
    fill(tmp_path, *epochs(3))
    fill(tmp_path / "other", *epochs(9, run_id="other"), run_id="other")
    ours = [f".{E(4)}.0123456789ab.tmp", ".manifest.json.0123456789ab.tmp"]
    foreign = [".other.tmp", "epoch-4.safetensors", E(5), "manifest.json.bak", f"{E(6)}.tmp"]
    for name in ours + foreign:
        (tmp_path / name).write_text("x")
    shutil.copy(tmp_path / "other" / E(9), tmp_path)
    data = (tmp_path / E(3)).read_bytes()
    shutil.rmtree(tmp_path / "other")
    # as before the save of the third epoch, whose file is there already
    (tmp_path / MANIFEST).write_bytes(manifest)
    fill(tmp_path)
    assert {*os.listdir(tmp_path)} >= {*foreign, E(9)}
    assert not {*os.listdir(tmp_path)} & {*ours, E(3)}
    assert data


def test_a_first_save_that_was_cut_off_before_the_manifest_counts(tmp_path):
    fill(tmp_path)
    manifest = (tmp_path / MANIFEST).read_bytes()
    fill(tmp_path, *epochs(1))
    (tmp_path / MANIFEST).write_bytes(manifest)
    assert_newest(tmp_path, make_snapshot(1))
    fill(tmp_path)
    assert_newest(tmp_path, make_snapshot(1))
    assert listed(tmp_path) == [E(1)]


def test_a_moved_folder_reads_the_same(tmp_path):
    fill(tmp_path / "here", *epochs(1))
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert_newest(tmp_path / "there", make_snapshot(1))


def test_the_working_folder_may_change(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    folder = CheckpointFolder("run")
    folder.claim(RUN)
    monkeypatch.chdir(tmp_path)
    folder.save(make_snapshot(1))
    folder.release()
    assert on_disk(tmp_path / "one" / "run") == [E(1)]


# ----------------------------------------------------------------------------- trust


class Own(torch.nn.Linear):
    """A class of the user's."""


def test_classes_of_the_user_must_be_trusted(tmp_path):
    snapshot = {**make_snapshot(1), "own": Own(2, 1)}
    fill(tmp_path, snapshot)
    with pytest.raises(UntrustedError, match="Own") as told:
        CheckpointFolder(tmp_path).newest()
    assert E(1) in told.value.__notes__[-1]
    read = CheckpointFolder(tmp_path).newest(trusted=[Own])["own"]
    assert type(read) is Own
    assert torch.equal(read.weight, snapshot["own"].weight)
    with pytest.raises(UntrustedError):
        read_checkpoint(tmp_path / E(1))
    assert type(read_checkpoint(tmp_path / E(1), trusted=[Own])["own"]) is Own


def test_one_file_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    fill(tmp_path, *epochs(1))
    damage(tmp_path / E(1))
    with pytest.raises(DamagedFileError) as told:
        read_checkpoint(tmp_path / E(1))
    assert E(1) in told.value.__notes__[-1]
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / E(2))
    (tmp_path / E(3)).write_bytes(pack({}, {}, "estimator"))
    with pytest.raises(FormatError, match="no checkpoint file"):
        read_checkpoint(tmp_path / E(3))
