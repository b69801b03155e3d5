"""Random values survive a file to the bit; random changes of a file are refused."""

import copy
import datetime
import enum
import hashlib
import json
import math
import os
import random
import signal
import string
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath

import guarded_reading
import hostile_files
import hostile_nodes
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.utils import Bunch
from torch import nn

from skorchlike.exceptions import CheckpointError, FormatError
from skorchlike.model.codec import decode, encode
from skorchlike.model.files import pack, unpack
from skorchlike.model.trust import Trusted

FEW = settings(
    max_examples=150,
    deadline=None,
    database=None,
    # the same examples in each run; with FUZZ=1 in the environment others
    derandomize="FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MANY = settings(FEW, max_examples=5000)

# ------------------------------------------------------------------------- values

FLOATING = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64]
FLOATING += [torch.float8_e4m3fn, torch.float8_e5m2]
DTYPES = [*FLOATING, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
DTYPES += [torch.uint16, torch.uint32, torch.uint64, torch.complex128]


@st.composite
def tensors(draw):
    """Tensors of every dtype, whose dimensions may lie in another order."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    raw = draw(st.binary(min_size=n_bytes(shape, dtype), max_size=n_bytes(shape, dtype)))
    if dtype == torch.bool:
        raw = bytes(byte & 1 for byte in raw)
    value = torch.empty(shape, dtype=dtype)
    if raw:
        value = torch.frombuffer(bytearray(raw), dtype=dtype).reshape(shape)
    value = value.permute(draw(st.permutations(range(len(shape)))))
    kind = draw(st.sampled_from(["plain", "requires_grad", "parameter"]))
    if kind == "parameter":
        floating = value.is_floating_point() or value.is_complex()
        return nn.Parameter(value, requires_grad=floating and draw(st.booleans()))
    if kind == "requires_grad" and (value.is_floating_point() or value.is_complex()):
        value.requires_grad_()
    return value


def n_bytes(shape, dtype):
    return math.prod(shape) * dtype.itemsize


def advanced(generator, n):
    draw = getattr(generator, "random", None)
    for _ in range(n):
        torch.rand(1, generator=generator) if draw is None else draw()
    return generator


SMALL_SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
PLAIN_DTYPES = st.one_of(
    hnp.scalar_dtypes().filter(lambda dtype: dtype.itemsize > 0),
    hnp.unicode_string_dtypes(max_len=4),
    hnp.byte_string_dtypes(max_len=4),
)
ARRAYS = hnp.arrays(PLAIN_DTYPES, SMALL_SHAPES)
GENERATORS = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 5)).flatmap(
    lambda said: st.sampled_from(
        [
            lambda: advanced(torch.Generator().manual_seed(said[0]), said[1]),
            lambda: advanced(np.random.default_rng(said[0]), said[1]),
            lambda: advanced(np.random.RandomState(said[0]), said[1]),
            lambda: advanced(np.random.Generator(np.random.Philox(said[0])), said[1]),
            lambda: advanced(random.Random(said[0]), said[1]),
        ]
    ).map(lambda make: make())
)
KEYS = st.one_of(
    st.text(max_size=5),
    st.sampled_from(["$", "$tag", "id", "value", ""]),
    st.integers(),
    st.none(),
    st.tuples(st.integers(), st.text(max_size=2)),
    st.booleans(),
    st.floats(allow_nan=False),
)
NAMED = [nn.Linear, torch.optim.AdamW, torch.tanh, nn.functional.gelu, float, dict, OrderedDict]
PANDAS = [pd.CategoricalDtype(["a", "b"]), pd.Int64Dtype(), pd.DatetimeTZDtype("ns", "UTC")]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**20_000), 2**20_000),
    st.floats(),
    st.floats(width=64).map(lambda value: -value),
    st.complex_numbers(),
    st.text(max_size=8),
    st.text(st.characters(), max_size=4),
    st.binary(max_size=8),
    st.binary(max_size=8).map(bytearray),
    tensors(),
    ARRAYS,
    ARRAYS.filter(lambda array: array.size > 0).map(lambda array: array.reshape(-1)[0]),
    GENERATORS,
    st.lists(st.integers(0, 9), max_size=3).map(torch.Size),
    st.sampled_from([*DTYPES, torch.strided, torch.channels_last, torch.device("cpu")]),
    PLAIN_DTYPES,
    st.sampled_from(NAMED),
    st.sampled_from(PANDAS),
    st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
    st.dates(),
    st.datetimes(timezones=st.just(datetime.UTC) | st.none()).map(lambda d: d.replace(fold=0)),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.text(string.ascii_letters + "/.", min_size=1, max_size=6).map(PurePosixPath),
    st.just(...),
    st.just(pd.NA),
)


def containers(parts):
    lists = st.lists(parts, max_size=3)
    return st.one_of(
        lists,
        lists.map(tuple),
        st.dictionaries(KEYS, parts, max_size=3),
        st.dictionaries(KEYS, parts, max_size=3).map(OrderedDict),
        st.dictionaries(st.text(max_size=3), parts, max_size=3).map(lambda d: Bunch(**d)),
        st.sets(KEYS, max_size=3),
        st.frozensets(KEYS, max_size=3),
        lists.map(deque),
        st.dictionaries(KEYS, parts, max_size=2).map(lambda d: defaultdict(list, d)),
        st.builds(slice, parts, st.integers(), st.none()),
        lists.map(objects),
        st.builds(lambda weight: with_parameter(weight), tensors()),
        lists.map(lambda values: [values, values, {"again": values}]),
    )


def objects(values):
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def with_parameter(weight):
    module = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(2))
    module.register_buffer("extra", weight.detach())
    return module


VALUES = st.recursive(LEAVES, containers, max_leaves=8)


# --------------------------------------------------------------------- the same bits


def same(one, other):
    """Whether two values are the same, to the bit: written without the codec."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return (
            (one.dtype, one.shape, one.requires_grad, one.device)
            == (other.dtype, other.shape, other.requires_grad, other.device)
            and strides(one) == strides(other)
            and bits(one) == bits(other)
        )
    if isinstance(one, np.ndarray):
        described = (one.dtype, one.shape, one.flags.writeable)
        if described != (other.dtype, other.shape, other.flags.writeable):
            return False
        if one.dtype.hasobject:
            return all(map(same, one.ravel().tolist(), other.ravel().tolist()))
        return one.tobytes() == other.tobytes()
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, nn.Module):
        return str(one) == str(other) and same(dict(one.state_dict()), dict(other.state_dict()))
    return same_plain(one, other)


def same_plain(one, other):
    if isinstance(one, Mapping):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (set, frozenset)):
        return one == other and sorted(map(repr, one)) == sorted(map(repr, other))
    if isinstance(one, slice):
        return same([one.start, one.stop, one.step], [other.start, other.stop, other.step])
    if isinstance(one, (float, complex)):
        return bits_of_numbers(one) == bits_of_numbers(other)
    if isinstance(one, torch.Generator):
        return same(one.get_state(), other.get_state())
    if isinstance(one, np.random.Generator):
        return str(one.bit_generator.state) == str(other.bit_generator.state)
    if isinstance(one, np.random.RandomState):
        return str(one.get_state()) == str(other.get_state())
    if isinstance(one, random.Random):
        return one.getstate() == other.getstate()
    if isinstance(one, (Decimal, Fraction, enum.Enum)):
        return repr(one) == repr(other)
    return one is other or bool(one == other)


def strides(tensor):
    sizes = zip(tensor.stride(), tensor.shape, strict=True)
    return [stride for stride, size in sizes if size > 1] if tensor.numel() else []


def bits(tensor):
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""


def bits_of_numbers(value):
    return np.array([value.real, value.imag]).tobytes() if value == value else repr(value)


def check_round_trip(value):
    plain, named = encode(value, "x")
    back = decode(*unpack(pack(plain, named, "estimator"), "estimator"), Trusted())
    assert same(value, back)
    assert canonical(encode(back, "x")[0]) == canonical(plain)


def canonical(node):
    """Return JSON as text, in which the order of sets does not count."""
    if isinstance(node, dict):
        parts = {key: canonical(part) for key, part in node.items()}
        if node.get("$") in ("set", "frozenset"):
            parts["items"] = sorted(map(canonical, node["items"]))
        return json.dumps(parts)
    return json.dumps([canonical(part) for part in node] if isinstance(node, list) else node)


@FEW
@given(VALUES)
def test_any_value_survives_a_file_to_the_bit(value):
    check_round_trip(value)


@pytest.mark.slow
@MANY
@given(VALUES)
def test_many_values_survive_a_file_to_the_bit(value):
    check_round_trip(value)


@FEW
@given(st.lists(st.integers(), max_size=3), st.integers(2, 4))
def test_what_is_one_object_is_one_again(value, n):
    back = decode(*encode([value] * n + [list(value)]), Trusted())
    assert all(part is back[0] for part in back[:n])
    assert back[n] is not back[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0.0, -0.0),
        (1, 1.0),
        ([1], (1,)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (np.zeros(2, ">f8"), np.zeros(2, "<f8")),
        (torch.zeros(2, 3), torch.zeros(3, 2).T),
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (torch.zeros(1), nn.Parameter(torch.zeros(1))),
        (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
        (with_parameter(torch.zeros(1)), with_parameter(torch.ones(1))),
        (OrderedDict(), {}),
    ],
)
def test_the_comparison_sees_differences(one, other):
    assert same(one, one)
    assert not same(one, other)


# ----------------------------------------------------------------------- changed files


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return hostile_files.Samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="module")
def good(samples):
    """Return what the good files hold, in short."""
    return {
        reader: in_short(guarded_reading.READERS[reader](samples.paths[reader]))
        for reader in hostile_files.KIND_OF
    }


def in_short(value):
    # what a failing example prints should be readable
    return hashlib.sha256(guarded_reading.fingerprint(value).encode()).hexdigest()


class Slow(BaseException):
    """Reading took too long."""


def stop(*_):
    raise Slow


def read(reader, data, folder):
    """Return what a file holds as text, or None if it was refused."""
    path = folder / "changed"
    path.write_bytes(data)
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(10)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return guarded_reading.READERS[reader](path)
    except (FormatError, CheckpointError):
        return None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "remove", "copy"]),
        st.integers(0, 2**16),
        st.integers(0, 40),
        st.binary(max_size=6),
    ),
    min_size=1,
    max_size=3,
)


def changed(data, changes):
    for what, place, n, new in changes:
        place %= len(data) + 1
        start, rest = data[:place], data[place:]
        if what == "flip" and rest:
            data = start + bytes([rest[0] ^ (n % 255 + 1)]) + rest[1:]
        elif what == "cut":
            data = start
        elif what == "insert":
            data = start + new + rest
        elif what == "remove":
            data = start + rest[n:]
        elif what == "copy":
            data = start + data[:n] + rest
    return data


def check_changed_bytes(reader, changes, samples, good, folder):
    data = changed(samples.bytes[reader], changes)
    value = read(reader, data, folder)
    if value is not None:
        assert in_short(value) == good[reader]


READERS = st.sampled_from(["load", "weights", "checkpoint"])


@FEW
@given(READERS, CHANGES)
def test_changed_bytes_are_refused(samples, good, tmp_path_factory, reader, changes):
    check_changed_bytes(reader, changes, samples, good, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@MANY
@given(READERS, CHANGES)
def test_many_changed_bytes_are_refused(samples, good, tmp_path_factory, reader, changes):
    check_changed_bytes(reader, changes, samples, good, tmp_path_factory.getbasetemp())


HOSTILE = [
    node
    for nodes in hostile_nodes.NODES.values()
    for name, node in nodes.items()
    if "deeply" not in name  # those cannot be copied
]
NODES = st.one_of(
    st.sampled_from(HOSTILE),
    st.sampled_from(["", "x", "cpu", "torch.float32", "module.0.weight", [], {}, [[]], None]),
    st.sampled_from([0, 1, -1, 2**31, 2**62, 2**64, 10**30, 0.5, 1e308, True, False]),
)


def places(node, path=()):
    """Yield the paths of all parts."""
    yield path
    if isinstance(node, (dict, list)):
        for key, part in node.items() if isinstance(node, dict) else enumerate(node):
            yield from places(part, (*path, key))


def check_changed_json(reader, draw, samples, folder):
    """Change parts of the JSON, sign it anew, and read it."""

    def change(plain):
        for _ in range(draw(st.integers(1, 3))):
            paths = list(places(plain))[1:]
            if not paths:
                return
            *path, last = draw(st.sampled_from(paths))
            node = plain
            for key in path:
                node = node[key]
            action = draw(st.sampled_from(["replace", "drop", "swap", "add"]))
            if action == "replace":
                node[last] = copy.deepcopy(draw(NODES))
            elif action == "drop":
                del node[last]
            elif action == "swap":
                node[last] = part_at(plain, draw(st.sampled_from(paths)))
            elif isinstance(node[last], dict):
                key = draw(st.sampled_from(["$", "class", "state", "name"]))
                node[last][key] = copy.deepcopy(draw(NODES))

    # json.dumps takes what is in two places for two
    value = read(reader, hostile_files.with_content(samples, reader, change), folder)
    if value is not None:
        check_can_be_kept(value)


def part_at(node, path):
    for key in path:
        node = node[key]
    return json.loads(json.dumps(node))


def check_can_be_kept(value):
    """What was accepted is nothing that could not have been written."""
    plain, named = encode(value, "x")
    back = decode(*unpack(pack(plain, named, "estimator"), "estimator"), Trusted())
    assert canonical(encode(back, "x")[0]) == canonical(plain)


TREES = st.sampled_from(["load", "checkpoint"])


@settings(FEW, max_examples=100)
@given(TREES, st.data())
def test_changed_content_is_refused_or_could_have_been_written(
    samples, tmp_path_factory, reader, data
):
    check_changed_json(reader, data.draw, samples, tmp_path_factory.getbasetemp())


@pytest.mark.slow
@MANY
@given(TREES, st.data())
def test_much_changed_content_is_refused_or_could_have_been_written(
    samples, tmp_path_factory, reader, data
):
    check_changed_json(reader, data.draw, samples, tmp_path_factory.getbasetemp())
