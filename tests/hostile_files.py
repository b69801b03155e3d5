"""Damaged and hostile files: what they are, and what becomes of reading them.

    python tests/hostile_files.py

writes the corpus to a temporary folder, reads it in a process of its own (`guarded_reading`),
and prints for every kind how many were refused, by which error, and the memory it took.
"""

import copy
import hashlib
import io
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import guarded_reading
import joblib
import numpy as np
import torch
from hostile_nodes import NODES, in_estimator, in_manifest, in_snapshot

from skorchlike import Checkpoint
from skorchlike.model import checkpoint_manifest
from skorchlike.model.checkpoints import CheckpointFolder
from skorchlike.model.files import pack, unpack
from skorchlike.model.persistence import save, save_weights

CANARY = "import sys; sys.canary = True\nclass Thing: pass\ndef strike(*args): pass\n"
CHECKPOINT = "epoch-000002.safetensors"
KIND_OF = {"load": "estimator", "weights": "weights", "checkpoint": "checkpoint"}
HUGE = 2**62


# ---------------------------------------------------------------------- good files


class Samples:
    """Good files: an estimator's, its weights', and a folder with one checkpoint."""

    def __init__(self, folder):
        self.paths = {
            "load": folder / "estimator.safetensors",
            "weights": folder / "weights.safetensors",
            "checkpoint": folder / "run" / CHECKPOINT,
            "folder": folder / "run",
            "claim": folder / "run",
            "resume": folder / "run" / CHECKPOINT,
        }
        net = guarded_reading.estimator().fit(
            *guarded_reading.data(), callbacks={"checkpoint": Checkpoint(folder / "first")}
        )
        save(net, self.paths["load"])
        save_weights(net, self.paths["weights"])
        snapshot = CheckpointFolder(folder / "first").newest(finished=False)
        snapshot["run_id"] = guarded_reading.RUN
        run = CheckpointFolder(folder / "run")
        run.claim(guarded_reading.RUN)
        run.save(snapshot)
        run.release()
        self.bytes = {name: self.paths[name].read_bytes() for name in KIND_OF}
        plain, tensors = unpack(self.paths["load"], "estimator")
        tensors["key"] = torch.zeros(624, dtype=torch.uint32)
        self.base = {"load": pack(plain, tensors, "estimator")}
        plain, tensors = unpack(self.paths["checkpoint"], "checkpoint")
        tensors["key"] = torch.zeros(624, dtype=torch.uint32)
        self.base["checkpoint"] = pack(plain, tensors, "checkpoint")


# ------------------------------------------------------- files of a hostile author


def parts(data):
    """Return header and tensors' bytes of a file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def joined(header, body, length=None):
    """Return a file with this header, as it is."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def signed(header, body):
    """Return a file with this header and a right checksum."""
    header["__metadata__"]["sha256"] = "0" * 64
    data = joined(json.dumps(header, separators=(",", ":")).encode(), body)
    checksum = hashlib.sha256(data).hexdigest().encode()
    return data.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + checksum)


def with_header(data, change):
    """Return a file whose header was changed by a function, with a right checksum."""
    header, body = parts(data)
    change(header)
    return signed(header, body)


def with_content(samples, reader, change):
    """Return a file whose JSON was changed by a function, with a right checksum."""
    data = samples.base[reader]
    content = json.loads(parts(data)[0]["__metadata__"]["content"])
    change(content["plain"])
    return with_text(data, json.dumps(content))


def with_text(data, text):
    """Return a file whose content is this text, with a right checksum."""
    return with_header(data, lambda header: header["__metadata__"].update(content=text))


# -------------------------------------------------------------------- damaged files


def cut_off(samples):
    for reader, data in samples.bytes.items():
        end = 8 + int.from_bytes(data[:8], "little")
        places = [0, 1, 7, 8, 9, end // 3, end - 1, end, end + 1, (end + len(data)) // 2]
        places += [len(data) - 8, len(data) - 1]
        for place in places:
            yield reader, f"{reader} at byte {place} of {len(data)}", data[:place]
        yield reader, f"{reader} without its start", data[8:]
        yield reader, f"{reader} without its header", data[:8] + data[end:]
        yield reader, f"{reader} with a hole", data[: end + 4] + data[end + 8 :]


def flipped(samples):
    chance = random.Random(0)
    for reader, data in samples.bytes.items():
        end = 8 + int.from_bytes(data[:8], "little")
        places = [chance.randrange(8) for _ in range(3)]
        places += [chance.randrange(8, end) for _ in range(8)]
        places += [chance.randrange(end, len(data)) for _ in range(5)]
        places += [data.index(b'"sha256":"') + 12, len(data) - 1, end - 1]
        for place in places:
            bit = chance.randrange(8)
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            yield reader, f"{reader} bit {bit} of byte {place}", bytes(changed)


def joined_up(samples):
    for reader, data in samples.bytes.items():
        header, body = parts(data)
        yield reader, f"{reader} with a byte more", data + b"\0"
        yield reader, f"{reader} twice", data + data
        yield reader, f"{reader} with a page of zeros", data + bytes(4096)
        yield reader, f"{reader} of zeros", bytes(len(data))
        yield reader, f"{reader} of random bytes", random.Random(1).randbytes(len(data))
        yield reader, f"{reader} in capitals", data.upper()
        first, second = [name for name in header if name != "__metadata__"][:2]
        swapped = {**header, first: header[second], second: header[first]}
        yield reader, f"{reader} with tensors swapped", joined(swapped, body)
        other = samples.bytes["load" if reader == "weights" else "weights"]
        yield reader, f"{reader} with the tensors of another", joined(header, parts(other)[1])
        if reader != "weights":  # it reads the others too
            yield reader, f"{reader} of another kind", other


# --------------------------------------------------------------- headers and metadata


def lengths(samples):
    data = samples.bytes["load"]
    header, body = parts(data)
    for length in (2**63, 2**64 - 1, 2**32, 10**8, len(data), len(data) - 7, 0, 1):
        yield "load", f"length {length}", joined(header, body, length)
    yield "weights", "length 2**63", joined(header, body, 2**63)
    yield "folder", "length 2**63", joined(header, body, 2**63)


def headers(samples):
    data = samples.bytes["load"]
    header, body = parts(data)
    meta = json.dumps({"__metadata__": header["__metadata__"]}).encode()
    bad = {
        "not UTF-8": b'{"\xff\xfe": 1}',
        "a list": b"[]",
        "a number": b"5",
        "nothing": b"",
        "deep": b"[" * 10**5 + b"]" * 10**5,
        "deep in metadata": b'{"__metadata__":' + b'{"a":' * 5000 + b"1" + b"}" * 5001,
        "a number of 5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
        "NaN": b'{"a": NaN}',
        "no metadata": b"{}",
        "metadata are a list": b'{"__metadata__": []}',
        "metadata with numbers": b'{"__metadata__": {"version": 1}}',
        "metadata with true": meta.replace(b'"version": "1"', b'"version": true'),
        "metadata twice": meta[:-1] + b', "__metadata__": {}}',
        "a long string": b'{"' + b"a" * 10**6 + b'": 1}',
        "half a pair": b'{"__metadata__": {"format": "\\ud800"}}',
    }
    for name, text in bad.items():
        yield "load", name, joined(text, body)
        yield "weights", name, joined(text, body)


def tensors(samples):
    offsets = [
        *([-8, 0], [8, 0], [0, 2**40], [0, 2**63], [2**63, 2**64], [0, 2**70], [0.0, 8.0]),
        *(["0", "8"], [0], [], None, "0:8", [[0], [8]], [0, 8, 16]),
    ]
    shapes = [[HUGE], [2**31, 2**31], [2**32, 2**32], [0, HUGE], [-1], ["2"], [2.0], "x", None]
    shapes += [[[2]], [10**30], [True], [1] * 5000, {}]
    types = ["F64", "BF16", "X99", "", 5, None, ["F32"], "float32", "F4"]
    changes = [("data_offsets", offsets), ("shape", shapes), ("dtype", types)]
    for key, values in changes:
        for value in values:
            for reader, name in (("load", "module.0.weight"), ("weights", "0.weight")):
                changed = (
                    with_header(samples.bytes[reader], lambda h: h[name].update({key: value}))
                    if reader == "load"
                    else _plain_weights(samples, name, {key: value})
                )
                yield reader, f"{reader}: {key} {str(value)[:40]}", changed
    for key in ("dtype", "shape", "data_offsets"):
        yield (
            "load",
            f"no {key}",
            with_header(samples.bytes["load"], lambda h: h["module.0.weight"].pop(key)),
        )
    changes = {
        "another name": lambda h: h.update(x=h.pop("module.0.weight")),
        "a tensor less": lambda h: h.pop("module.0.weight"),
        "overlapping": lambda h: h.update(x=dict(h["module.0.weight"])),
        "a list as a tensor": lambda h: h.update(x=[]),
        "one more key": lambda h: h["module.0.weight"].update(extra=1),
    }
    for name, change in changes.items():
        yield "load", name, with_header(samples.bytes["load"], change)


def _plain_weights(samples, name, change):
    """Return a file of weights by another writer, without a checksum."""
    header, body = parts(samples.bytes["weights"])
    header["__metadata__"] = {"format": "pt"}
    header[name].update(change)
    return joined(header, body)


def metadata(samples):
    versions = ("0", "2", "-1", "1.0", " 1", "01", "", "one", str(10**30), "999999999", "²", "١")
    for reader in ("load", "checkpoint"):
        data = samples.bytes[reader]
        for version in versions:
            change = {"version": version}
            yield (
                reader,
                f"{reader}: version {version!r:.20}",
                with_header(data, lambda h: h["__metadata__"].update(change)),
            )
    changes = [{"kind": kind} for kind in ("weights", "checkpoint", "", "x" * 10**5, "Estimator")]
    changes += [{"format": name} for name in ("pt", "", "skorchlike ", "\ud800")]
    changes += [{"content": text} for text in _CONTENTS]
    for change in changes:
        name = f"{next(iter(change.items()))!r:.60}"
        yield (
            "load",
            name,
            with_header(samples.bytes["load"], lambda h: h["__metadata__"].update(change)),
        )
    for key in ("format", "kind", "version", "content"):
        yield (
            "load",
            f"without {key}",
            with_header(samples.bytes["load"], lambda h: h["__metadata__"].pop(key)),
        )
    header, body = parts(samples.bytes["load"])
    for checksum in ("", "0" * 64, "0" * 63, "\ud800" * 64, "é" * 64):
        header["__metadata__"]["sha256"] = checksum
        yield "load", f"checksum {checksum!a:.20}", joined(header, body)


_CONTENTS = [
    *("", "null", "5", "[]", '"x"', "{", "{'plain': 1}", '{"plain": 1}', '{"aliases": {}}'),
    *('{"plain": {}, "aliases": []}', '{"plain": {}, "aliases": {"a": "b"}}'),
    *('{"plain": {}, "aliases": {"a": ["b"]}}', '{"plain": {}, "aliases": {"a": {}}}'),
    *('{"plain": {"estimator": NaN}, "aliases": {}}',),
    *('{"plain": {"estimator": 1, "estimator": 2}, "aliases": {}}',),
    '{"plain": ' + "[" * 10**5 + "]" * 10**5 + ', "aliases": {}}',
    '{"plain": {"estimator": ' + "[" * 950 + "]" * 950 + '}, "aliases": {}}',
    '{"plain": ' + "9" * 10**5 + ', "aliases": {}}',
    '{"plain": {"estimator": "' + "a" * 10**6 + '"}, "aliases": {}}',
    '{"plain": {"estimator": {"$": "' + "a" * 10**6 + '"}}, "aliases": {}}',
    '{"plain": {"estimator": "\\ud800"}, "aliases": {}}',
]


# -------------------------------------------------------------------- other contents


class Evil:
    def __reduce__(self):
        return exec, ("import sys; sys.canary = True",)


def other_formats(samples):
    made = {"pickle": pickle.dumps(Evil()), "pickle, old": pickle.dumps(Evil(), protocol=0)}
    for name, write in {
        "torch.save": lambda file: torch.save({"0.weight": torch.zeros(2, 3), "x": Evil()}, file),
        "joblib": lambda file: joblib.dump(Evil(), file),
        "npy": lambda file: np.save(file, np.array([Evil()], dtype=object), allow_pickle=True),
        "npz": lambda file: np.savez(file, a=np.zeros(3)),
        "zip": lambda file: zipfile.ZipFile(file, "w").writestr("../x", "x"),
    }.items():
        buffer = io.BytesIO()
        write(buffer)
        made[name] = buffer.getvalue()
    made["text"] = b"import sys; sys.canary = True\n" * 9
    made["nothing"] = b""
    made["a pickle behind the length"] = len(made["pickle"]).to_bytes(8, "little") + made["pickle"]
    for name, data in made.items():
        for reader in ("load", "weights", "checkpoint", "folder", "resume"):
            yield reader, f"{name} for {reader}", data


def nodes_of(kind):
    def files(samples):
        for i, (name, node) in enumerate(NODES[kind].items()):
            yield (
                "load",
                name,
                with_content(
                    samples, "load", lambda plain: plain["estimator"]["state"].update(verbose=node)
                ),
            )
            if i % 2 == 0:
                yield (
                    "checkpoint",
                    name,
                    with_content(
                        samples, "checkpoint", lambda plain: plain["snapshot"].update(data=node)
                    ),
                )

    return files


def estimators(samples):
    for name, change in in_estimator.items():
        yield "load", name, with_content(samples, "load", change)


def snapshots(samples):
    for name, change in in_snapshot.items():
        data = with_content(samples, "checkpoint", change)
        yield "resume", name, data
        if any(part in name for part in ("head", "epoch is", "snapshot is")):
            yield "folder", name, data


def weights_of(samples):
    plain, given = unpack(samples.paths["weights"], "weights")
    changes = {
        "other shapes": {"0.weight": torch.zeros(7, 7)},
        "other numbers": {"0.weight": torch.zeros(2, 3, dtype=torch.int64)},
        "complex numbers": {"0.weight": torch.zeros(2, 3, dtype=torch.complex64)},
        "one tensor more": {"no.such": torch.zeros(1)},
        "a name with dots": {"..": torch.zeros(1)},
        "a name of a method": {"0.forward": torch.zeros(1)},
    }
    for name, change in changes.items():
        yield "weights", name, pack(plain, {**given, **change}, "weights")
    yield "weights", "a tensor less", pack(plain, {"0.weight": given["0.weight"]}, "weights")
    contents = {"a list": [], "a number": 5, "no extra": {}, "extra is a list": {"extra": []}}
    contents["extra is a number"] = {"extra": 5}
    contents["extra replaces a tensor"] = {"extra": {"0.weight": 5}}
    contents["extra names os.system"] = {"extra": {"x": {"$": "name", "name_of": "os:system"}}}
    contents["extra of an unknown kind"] = {"extra": {"x": {"$": "unknown"}}}
    for name, content in contents.items():
        yield "weights", name, pack(content, given, "weights")
    yield "weights", "an estimator without a model", pack({"estimator": 1}, {}, "estimator")


# ---------------------------------------------------------------------------- folders


def manifests(samples):
    """Yield functions that change a copy of the good folder."""
    text = json.loads((samples.paths["folder"] / "manifest.json").read_text())
    for name, change in in_manifest.items():
        changed = copy.deepcopy(text)
        changed.pop("sha256")
        change(changed)
        changed["sha256"] = checkpoint_manifest._checksum(changed)
        data = json.dumps(changed).encode()
        for reader in ("folder", "claim"):
            yield reader, f"{name} for {reader}", _with_manifest(data)
    raw = {
        "nothing": b"",
        "a list": b"[]",
        "cut off": json.dumps(text).encode()[:-5],
        "not UTF-8": b"\xff\xfe\xfd",
        "a pickle": pickle.dumps(Evil()),
        "deep": b"[" * 10**5,
        "a number of 5000 digits": b"9" * 5000,
        "wrong checksum": json.dumps({**text, "run_id": "x"}).encode(),
    }
    for depth in range(960, 1000, 3):  # at the limit, what can be read cannot be written
        open_, close = b'{"format": "skorchlike checkpoints", "a": ', b"}"
        raw[f"{depth} deep"] = open_ + b"[" * depth + b"]" * depth + close
    for name, data in raw.items():
        yield "folder", f"{name}", _with_manifest(data)


def _with_manifest(data):
    return lambda folder: (folder / "manifest.json").write_bytes(data)


def places(samples):
    """Yield folders in which something is not a file, or leads out."""

    def link_out(folder):
        (folder / CHECKPOINT).unlink()
        (folder / CHECKPOINT).symlink_to("/etc/passwd")

    def link_to_itself(folder):
        (folder / CHECKPOINT).unlink()
        (folder / CHECKPOINT).symlink_to(CHECKPOINT)

    def pipe(folder):
        (folder / CHECKPOINT).unlink()
        os.mkfifo(folder / CHECKPOINT)

    def pipe_for_manifest(folder):
        (folder / "manifest.json").unlink()
        os.mkfifo(folder / "manifest.json")

    def folder_for_manifest(folder):
        (folder / "manifest.json").unlink()
        (folder / "manifest.json").mkdir()

    def folder_for_checkpoint(folder):
        (folder / CHECKPOINT).unlink()
        (folder / CHECKPOINT).mkdir()

    def endless(folder):
        (folder / CHECKPOINT).unlink()
        (folder / CHECKPOINT).symlink_to("/dev/zero")

    def endless_manifest(folder):
        (folder / "manifest.json").unlink()
        (folder / "manifest.json").symlink_to("/dev/zero")

    def sparse(folder):
        os.truncate(folder / CHECKPOINT, 2**36)

    def sparse_manifest(folder):
        os.truncate(folder / "manifest.json", 2**36)

    def another_name(folder):
        (folder / CHECKPOINT).rename(folder / "epoch-000099.safetensors")

    def gone(folder):
        (folder / CHECKPOINT).unlink()

    for change in (
        *(link_out, link_to_itself, pipe, pipe_for_manifest, folder_for_manifest),
        *(folder_for_checkpoint, endless, endless_manifest, sparse, sparse_manifest),
        *(another_name, gone),
    ):
        yield "folder", change.__name__.replace("_", " "), change


def single_places(samples):
    def sparse(path):
        with path.open("wb") as file:
            file.truncate(2**36)

    for reader in ("load", "weights", "checkpoint", "resume"):
        yield reader, f"a hole of 64 GiB for {reader}", sparse


KINDS = {
    "cut off": cut_off,
    "a bit flipped": flipped,
    "put together wrongly": joined_up,
    "length of the header": lengths,
    "header": headers,
    "tensors in the header": tensors,
    "metadata": metadata,
    "other format": other_formats,
    **{f"content: {kind}": nodes_of(kind) for kind in NODES},
    "estimator": estimators,
    "weights": weights_of,
    "snapshot": snapshots,
    "manifest": manifests,
    "no plain file": places,
    "hole": single_places,
}


def write(folder, kinds=tuple(KINDS)):
    """Write the corpus and the list of it; return the cases."""
    folder = Path(folder)
    sys.setrecursionlimit(10_000)  # what is to be refused has to be written
    samples = Samples(folder)
    (folder / "canary.py").write_text(CANARY)
    cases = []
    for kind in kinds:
        for reader, name, made in KINDS[kind](samples):
            path = folder / f"{len(cases):04d}"
            cases.append({"kind": kind, "reader": reader, "name": name})
            cases[-1]["path"] = str(_put(path, reader, made, samples))
    good = {reader: str(path) for reader, path in samples.paths.items()}
    (folder / "cases.json").write_text(json.dumps({"good": good, "cases": cases}))
    return cases


def _put(path, reader, made, samples):
    """Write one case; return what is to be read."""
    if reader not in ("folder", "claim"):
        made(path) if callable(made) else path.write_bytes(made)
        return path
    shutil.copytree(samples.paths["folder"], path)
    made(path) if callable(made) else (path / CHECKPOINT).write_bytes(made)
    return path


def read(folder, seconds=500):
    """Read the corpus in a process of its own; return what became of each case, and the memory."""
    command = [sys.executable, guarded_reading.__file__, str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, check=False, cwd=folder
    )
    said = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode or "peak" not in said[-1]:
        last = said[-1] if said else "the start"
        raise RuntimeError(f"The reading process ended at {last}:\n{done.stderr[-3000:]}")
    return [case for case in said if "outcome" in case], said[-1]


def is_good(case):
    """Whether a case was refused by the right error or read as it was, and nothing was run."""
    refused = case["outcome"].startswith("refused") or case["outcome"] == "equal"
    return refused and not case["events"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        write(folder)
        results, memory = read(folder)
    print(f"{'kind':34}{'files':>7}  outcomes")
    for kind in KINDS:
        outcomes = Counter(case["outcome"] for case in results if case["kind"] == kind)
        told = ", ".join(f"{n} {what:.60}" for what, n in outcomes.most_common())
        print(f"{kind:34}{outcomes.total():7}  {told}")
    bad = [case for case in results if not is_good(case)]
    for case in bad:
        print(f"BAD: {case['kind']} | {case['reader']} | {case['name']!r:.70}")
        print(f"     {case['outcome']} {case['events'] or ''}")
    print(f"all: {len(results)} files in {len(KINDS)} kinds, {len(bad)} bad; peak memory", end=" ")
    print(f"{memory['peak'] / 2**20:.0f} MiB over the start, limit {memory['room'] / 2**20:.0f}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
