"""Files hold tensors and JSON, know when they are damaged, and are written whole or not at all."""

import errno
import hashlib
import json
import os
import pickle
import re
import stat
import sys
import tracemalloc

import joblib
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from safetensors.torch import save as save_plain

import skorchlike
from skorchlike.exceptions import DamagedFileError, FormatError
from skorchlike.model import files, storage
from skorchlike.model.files import pack, unpack, write_atomically
from skorchlike.model.tensor_files import DTYPES, read_tensors, write_tensors

PLAIN = {"epoch": 3, "names": ["ä", "☃"], "nothing": None, "x": 0.1}
TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b.c": torch.tensor([True, False]),
    "empty": torch.empty(0, 2),
    "scalar": torch.tensor(1.5, dtype=torch.bfloat16),
}


def data_of(plain=PLAIN, tensors=TENSORS, kind="checkpoint"):
    return pack(plain, tensors, kind)


def header_of(data):
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def header_text(data):
    return data[8 : 8 + int.from_bytes(data[:8], "little")]


def resigned(data, **metadata):
    """Return a file with other metadata and a checksum that is right: what a stranger can make."""
    header, rest = header_of(data)
    header["__metadata__"] = {**header["__metadata__"], **metadata, "sha256": "0" * 64}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = len(text).to_bytes(8, "little") + text + rest
    checksum = hashlib.sha256(data).hexdigest().encode()
    return data.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + checksum)


def equal(one, other):
    if one.keys() != other.keys() or any(one[k].dtype != other[k].dtype for k in one):
        return False
    return all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("kind", ["estimator", "weights", "checkpoint"])
def test_content_comes_back(kind, tmp_path):
    data = data_of(kind=kind)
    (tmp_path / "file").write_bytes(data)
    for source in (data, tmp_path / "file", str(tmp_path / "file")):
        plain, tensors = unpack(source, kind)
        assert plain == PLAIN
        assert equal(tensors, TENSORS)


def test_other_readers_of_safetensors_find_tensors_and_versions(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data_of())
    assert equal(load_file(path), TENSORS)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "skorchlike"
    assert metadata["kind"] == "checkpoint"
    assert metadata["version"] == "1"
    assert metadata["skorchlike"] == skorchlike.__version__
    assert metadata["torch"] == torch.__version__


def test_tensors_can_be_written_to():
    _, tensors = unpack(data_of(), "checkpoint")
    tensors["a"].add_(1)
    assert tensors["a"][0, 0] == 1


def test_tied_tensors_are_written_once_and_stay_tied():
    weight = torch.randn(100, 100)
    tied, apart = {"a": weight, "b": weight}, {"a": weight, "b": weight.clone()}
    assert len(data_of({}, tied)) < len(data_of({}, apart)) - 30_000
    _, tensors = unpack(data_of({}, tied), "checkpoint")
    assert tensors["b"].data_ptr() == tensors["a"].data_ptr()
    assert torch.equal(tensors["b"], weight)
    _, tensors = unpack(data_of({}, apart), "checkpoint")
    assert tensors["b"].data_ptr() != tensors["a"].data_ptr()


def test_file_of_weights_has_tied_tensors_under_every_name(tmp_path):
    weight = torch.randn(3)
    (tmp_path / "w").write_bytes(data_of({}, {"a": weight, "b": weight}, "weights"))
    assert equal(load_file(tmp_path / "w"), {"a": weight, "b": weight})


def test_views_of_one_storage_are_written_apart():
    whole = torch.arange(6.0)
    views = {"head": whole[:3], "tail": whole[3:], "whole": whole, "grid": whole.view(2, 3)}
    assert equal(unpack(data_of({}, views), "checkpoint")[1], views)


def test_json_that_is_too_long_for_a_header_comes_back(monkeypatch):
    monkeypatch.setattr(files, "LONG", 100)
    plain = {"text": "ä" * 1000}
    data = data_of(plain)
    assert len(header_of(data)[0]["__metadata__"]["content"]) == 0
    assert unpack(data, "checkpoint")[0] == plain
    assert equal(unpack(data, "checkpoint")[1], TENSORS)


# -------------------------------------------------------------------------- damage


def test_every_flipped_bit_is_found():
    data = data_of({"a": 1}, {"t": torch.arange(3.0)})
    for i in range(len(data)):
        bad = bytearray(data)
        bad[i] ^= 1 << (i % 8)
        with pytest.raises(FormatError) as error:
            unpack(bytes(bad), "checkpoint")
        assert isinstance(error.value, DamagedFileError) or b"version" in data[i - 20 : i]


def test_every_truncation_is_found():
    data = data_of({"a": 1}, {"t": torch.arange(3.0)})
    for n in range(len(data)):
        with pytest.raises(DamagedFileError):
            unpack(data[:n], "checkpoint")


def test_bytes_at_the_end_are_found():
    with pytest.raises(DamagedFileError):
        unpack(data_of() + b"\0", "checkpoint")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95",
        b"PK\x03\x04" + b"\0" * 100,
        b"\xff" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (2).to_bytes(8, "little") + b"{}",
        (20).to_bytes(8, "little") + b'{"__metadata__":{}} ',
        (30).to_bytes(8, "little") + b'{"__metadata__":{"format":1}}  ',
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        (5000).to_bytes(8, "little") + b'{"a":' + b"9" * 4994 + b"}",
    ],
    ids=range(12),
)
def test_what_is_no_file_of_ours_is_refused(data, tmp_path):
    path = tmp_path / "some file"
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match="some file cannot be read: it"):
        unpack(path, "checkpoint")


def foreign_files(folder):
    """Write files of other programs, as name → what the error must say."""
    state = {"a": torch.ones(3)}
    torch.save(state, folder / "new.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    with (folder / "handle.pt").open("wb") as file:
        torch.save(state, file)
    for protocol in (2, 3, 4, 5):
        with (folder / f"{protocol}.pickle").open("wb") as file:
            pickle.dump([np.arange(3), {"a": 1}], file, protocol)
    (folder / "none.pickle").write_bytes(pickle.dumps(None))
    joblib.dump({"a": np.arange(3)}, folder / "it.joblib")
    np.savez(folder / "it.npz", a=np.arange(3))
    (folder / "it.csv").write_text("a,b\n1,2\n" * 100)
    (folder / "empty").write_bytes(b"")
    of_torch = (
        r"looks like a file of torch\.save.*torch\.load\(path, weights_only=True\).*load_state"
    )
    told = {
        ".pt": of_torch,
        ".pickle": "looks like a pickle.*pickle or joblib, only if you trust it",
        ".joblib": "looks like a pickle",
        ".npz": "looks like a zip archive, such as numpy",
        ".csv": r"no safetensors file\. It is damaged, or no file .*If there is a backup",
        "": r"is empty\. If there is a backup",
    }
    return {path: told[path.suffix] for path in folder.iterdir()}


def test_file_of_another_program_is_named_with_how_to_read_it(tmp_path):
    cases = foreign_files(tmp_path)
    assert len(cases) == 12
    for path, told in cases.items():
        for source, named in ((path, re.escape(str(path))), (path.read_bytes(), "The file")):
            with pytest.raises(DamagedFileError, match=f"{named} cannot be read: it .*{told}"):
                unpack(source, "estimator")
            is_of_ours = path.suffix in (".csv", "")
            with pytest.raises(DamagedFileError) as error:
                unpack(source, "estimator")
            assert ("backup" in str(error.value)) == is_of_ours


def test_damaged_file_of_ours_that_starts_like_a_pickle_is_called_damaged(tmp_path):
    path = tmp_path / "file"
    # the first bytes of a file are the length of its header
    for wanted in (b"\x80\x04", b"PK"):
        length = int.from_bytes(wanted, "little")
        short = len(header_text(data_of({"text": ""})))
        data = data_of({"text": "x" * (length - short)})
        assert data.startswith(wanted)
        for bad in (data[:-1], data[:100], data[:-1] + b"?"):
            path.write_bytes(bad)
            for source in (path, bad):
                with pytest.raises(DamagedFileError, match="If there is a backup of it, use that"):
                    unpack(source, "checkpoint")


def test_folder_is_told_from_a_file(tmp_path):
    with pytest.raises(IsADirectoryError, match=r"folder: name a file in it.*best_file") as error:
        unpack(tmp_path, "estimator")
    assert error.value.filename == str(tmp_path)


def test_plain_safetensors_file_is_told_from_ours():
    with pytest.raises(DamagedFileError, match="was not written by skorchlike"):
        unpack(save_plain(TENSORS), "weights")


def test_pickle_is_never_loaded(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(DamagedFileError):
        unpack(path, "estimator")


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"version": "2"}, r"newer skorchlike \(skorchlike .*, format 2\); .* up to 1: upgrade"),
        ({"version": "0"}, r"older skorchlike .*format 0.*Read it with the version that wrote it"),
        ({"kind": "estimator"}, r"no checkpoint file\. It holds an estimator.*skorchlike\.load"),
        ({"kind": "weights"}, r"no checkpoint file\. It holds weights alone.*load_weights"),
    ],
)
def test_other_version_or_kind_is_named(metadata, told, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(resigned(data_of(), **metadata))
    with pytest.raises(FormatError, match=told) as error:
        unpack(path, "checkpoint")
    assert not isinstance(error.value, DamagedFileError)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("digit", "0359")
def test_a_flipped_bit_in_the_version_is_damage_and_no_other_version(digit):
    data = data_of().replace(b'"version":"1"', f'"version":"{digit}"'.encode())
    with pytest.raises(DamagedFileError, match="its version is not the one that was written"):
        unpack(data, "checkpoint")


def test_newer_version_is_named_even_if_its_checksum_is_another():
    data = resigned(data_of(), version="7").replace(b'"sha256":"', b'"sha512":"')
    with pytest.raises(FormatError, match="format 7"):
        unpack(data, "checkpoint")


@pytest.mark.parametrize(
    "metadata",
    [
        {"version": "-1"},
        {"version": "one"},
        {"version": "9" * 5000},
        {"version": "²"},
        {"kind": "other"},
        {"kind": ""},
        {"content": ""},
        {"content": "[]"},
        {"content": "null"},
        {"content": "{"},
        {"content": "{}"},
        {"content": '{"plain": 1, "aliases": []}'},
        {"content": '{"plain": 1, "aliases": {"x": "absent"}}'},
        {"content": '{"plain": 1, "aliases": {"x": {}}}'},
        {"content": "[" * 100_000},
        {"content": '{"aliases": {}, "plain": ' + "9" * 5000 + "}"},
    ],
    ids=lambda metadata: str(metadata)[:50],
)
def test_content_that_is_wrong_is_refused_though_its_checksum_is_right(metadata):
    assert unpack(resigned(data_of()), "checkpoint")[0] == PLAIN
    with pytest.raises(DamagedFileError):
        unpack(resigned(data_of(), **metadata), "checkpoint")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]},
        {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [7], "data_offsets": [0, 24]},
        {"dtype": "F99", "shape": [6], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [-6], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [6], "data_offsets": [24, 0]},
        {"dtype": "F32", "shape": [6], "data_offsets": [-24, 0]},
        {"dtype": "F32", "shape": "6", "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [6.0], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [True, 6], "data_offsets": [0, 24]},
        {"dtype": "F32", "shape": [2**70, 0], "data_offsets": [0, 0]},
        {"dtype": "F32", "shape": [5], "data_offsets": [0, 20]},
        {"dtype": "F32", "shape": [5], "data_offsets": [4, 24]},
        {"dtype": ["F32"], "shape": [6], "data_offsets": [0, 24]},
        {},
        3,
    ],
    ids=str,
)
def test_header_that_claims_what_is_not_there_allocates_nothing(entry):
    header, rest = header_of(resigned(data_of({}, {"a": torch.arange(6.0)})))
    header["a"] = entry
    text = json.dumps(header).encode()
    data = resigned(len(text).to_bytes(8, "little") + text + rest)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFileError):
            unpack(data, "checkpoint")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_tensor_names_are_only_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"../../evil": torch.ones(1), "/etc/passwd": torch.ones(1), "\0": torch.ones(1)}
    assert equal(unpack(data_of({}, names), "checkpoint")[1], names)
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    data = data_of()
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    for use in (data_of, lambda: unpack(data, "checkpoint")):
        with pytest.raises(ImportError, match=r"skorchlike\[safetensors\]"):
            use()


@pytest.mark.parametrize("dtype", sorted(DTYPES, key=str), ids=str)
def test_every_dtype_comes_back_bit_for_bit(dtype):
    raw = torch.arange(6 * dtype.itemsize, dtype=torch.uint8)
    raw = raw & (1 if dtype == torch.bool else 255)
    got = read_tensors(write_tensors({"x": raw.view(dtype).reshape(2, 3)}, {"a": "b"}))["x"]
    assert (got.dtype, got.shape) == (dtype, (2, 3))
    assert torch.equal(got.reshape(-1).view(torch.uint8), raw)


def test_absent_file_is_the_usual_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        unpack(tmp_path / "absent", "estimator")


# ------------------------------------------------------------------- writing files


def test_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"one")
    write_atomically(str(path), b"two" * 1000)
    assert path.read_bytes() == b"two" * 1000
    assert os.listdir(tmp_path) == ["file"]


def test_empty_file_and_long_name(tmp_path):
    path = tmp_path / ("x" * 255)
    write_atomically(path, b"")
    assert path.read_bytes() == b""


def test_file_has_the_usual_rights(tmp_path):
    write_atomically(tmp_path / "one", b"")
    (tmp_path / "other").write_bytes(b"")
    rights = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("one", "other")}
    assert len(rights) == 1


def test_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "file")
    write_atomically(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_bytes() == b"x"


OPERATIONS = ["create", "write", "sync", "close", "rename", "sync_folder"]


def test_all_operations_go_through_the_storage_in_their_order(tmp_path, monkeypatch):
    called = []
    for name in OPERATIONS:
        real = getattr(storage, name)
        monkeypatch.setattr(
            storage, name, lambda *a, n=name, real=real: called.append(n) or real(*a)
        )
    write_atomically(tmp_path / "file", b"x")
    assert called == OPERATIONS


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_operation_that_fails_leaves_the_old_file_or_the_new_one(
    operation, after, error, tmp_path, monkeypatch
):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    real = getattr(storage, operation)

    def fail(*args):
        if after:
            real(*args)
        elif operation == "close":
            os.close(*args)
        raise error

    monkeypatch.setattr(storage, operation, fail)
    with pytest.raises(type(error)) as raised:
        write_atomically(path, b"new")
    done = operation == "sync_folder" or (operation == "rename" and after)
    assert path.read_bytes() == (b"new" if done else b"old")
    if not (operation == "create" and after):  # then nobody knows that there is one
        assert os.listdir(tmp_path) == ["file"]
    if isinstance(error, OSError):
        assert str(path) in " ".join(raised.value.__notes__)


@pytest.mark.parametrize("n", [0, 1, 5, 9])
def test_write_that_is_cut_short_leaves_the_old_file(n, tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def cut(descriptor, data):
        os.write(descriptor, data[:n])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "write", cut)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new content")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_write_that_takes_less_at_a_time_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "write", lambda d, data: os.write(d, data[:3]))
    write_atomically(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_write_that_takes_nothing_is_an_error_and_not_an_endless_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "write", lambda d, data: 0)
    with pytest.raises(OSError, match="took 0 of 3 bytes"):
        write_atomically(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == []


def test_unfinished_file_that_cannot_be_removed_is_named(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(storage, "sync", fail)
    monkeypatch.setattr(storage, "remove", fail)
    with pytest.raises(OSError, match="broken") as raised:
        write_atomically(tmp_path / "file", b"new")
    assert "could not be removed" in " ".join(raised.value.__notes__)


def test_folder_that_does_not_exist_is_named(tmp_path):
    path = tmp_path / "absent" / "file"
    with pytest.raises(FileNotFoundError) as raised:
        write_atomically(path, b"new")
    assert raised.value.filename == str(path)
    assert ".tmp" not in str(raised.value)
    [note] = raised.value.__notes__
    assert note.startswith(f"Raised while writing {path} (3 bytes). The folder {path.parent} does")


def test_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "data").write_bytes(b"old")
    with pytest.raises(NotADirectoryError) as raised:
        write_atomically(tmp_path / "data" / "file", b"new")
    assert f"{tmp_path / 'data'} is no folder." in raised.value.__notes__[0]
    assert (tmp_path / "data").read_bytes() == b"old"


def test_folder_in_the_place_of_the_file_is_left_alone(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file") as raised:
        write_atomically(tmp_path / "file", b"new")
    assert "That is a folder: name a file in it." in raised.value.__notes__[0]
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("n_bytes", "told"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (82_000, "82.0 kB"), (3_449_999, "3.4 MB")],
)
def test_size_of_a_file_that_cannot_be_written_is_told(n_bytes, told, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "sync", full)
    with pytest.raises(OSError, match="No space") as raised:
        write_atomically(
            tmp_path / "file", [b"x" * (n_bytes // 2), b"x" * (n_bytes - n_bytes // 2)]
        )
    assert raised.value.__notes__ == [f"Raised while writing {tmp_path / 'file'} ({told})."]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_file_system_that_cannot_sync_folders_is_no_error(number, tmp_path, monkeypatch):
    def refuse(descriptor):
        raise OSError(number, "not here")

    monkeypatch.setattr(os, "fsync", refuse)
    storage.sync_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda d: (_ for _ in ()).throw(OSError(errno.EIO, "bad")))
    with pytest.raises(OSError, match="bad"):
        storage.sync_folder(tmp_path)


def test_small_operations_do_what_they_say(tmp_path):
    storage.make_folder(tmp_path / "a" / "b")
    storage.make_folder(tmp_path / "a" / "b")
    (tmp_path / "a" / "y").write_bytes(b"1")
    assert list(storage.names(tmp_path / "a")) == ["b", "y"]
    assert storage.read(tmp_path / "a" / "y") == b"1"
    storage.remove(tmp_path / "a" / "y")
    assert list(storage.names(tmp_path / "a")) == ["b"]
    with pytest.raises(FileExistsError):
        storage.create(tmp_path / "a")
