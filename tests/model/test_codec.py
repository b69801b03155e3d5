"""Values become JSON and tensors, and come back to the bit."""

import contextlib
import enum
import functools
import json
import math
import random
import struct
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch
from torch import nn

from skorchlike.exceptions import DamagedFileError, FormatError, UntrustedError
from skorchlike.model.codec import DECODERS, Encoder, decode, encode
from skorchlike.model.objects import MAKERS
from skorchlike.model.trust import Trusted

HERE = [__name__]  # everything in this file


def through(value, trusted=HERE):
    """Return what comes out of a file: JSON is text in between, tensors lose their identity."""
    plain, tensors = encode(value, "value")
    assert all(t.is_contiguous() and t.device.type == "cpu" for t in tensors.values())
    text = json.dumps(plain, allow_nan=False)
    return decode(json.loads(text), dict(tensors), Trusted(trusted))


def bits(value):
    """Return a nest of types and bytes that is equal only for values of the same bits."""
    kind = type(value)
    if kind is float:
        return kind, struct.pack(">d", value)
    if isinstance(value, torch.Tensor):
        raw = value.detach().clone(memory_format=torch.contiguous_format).as_subclass(torch.Tensor)
        raw = raw.reshape(-1).view(torch.uint8).numpy().tobytes()
        return kind, value.dtype, value.shape, value.stride(), value.requires_grad, raw
    if isinstance(value, np.ndarray):
        flags = value.flags
        layout = flags.f_contiguous, flags.c_contiguous, flags.writeable
        data = bits(value.tolist()) if value.dtype.kind in "OTV" else value.tobytes()
        return kind, value.dtype, value.shape, layout, data
    if isinstance(value, np.generic):
        return kind, value.dtype, value.tobytes()
    if isinstance(value, dict):
        return kind, [(bits(key), bits(part)) for key, part in value.items()]
    if isinstance(value, (list, tuple, deque)):
        return kind, [bits(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return kind, sorted(map(repr, value))
    if kind is complex:
        return kind, bits(value.real), bits(value.imag)
    return kind, value


class Color(enum.Enum):
    RED = "r"
    BLUE = (1, 2)


class Level(enum.IntFlag):
    LOW = 1
    HIGH = 2


Point = namedtuple("Point", ["x", "y"])


@dataclass
class Record:
    name: str
    numbers: list = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Slotted:
    a: int
    b: object = None


class Plain:
    def __init__(self, **attributes):
        vars(self).update(attributes)


class WithState(Plain):
    def __getstate__(self):
        return ["mine", vars(self)["a"]]

    def __setstate__(self, state):
        self.a = state[1]


class Table(dict):
    pass


class Row(list):
    pass


def function(x):
    return x


class Holder:
    class Inner:
        @staticmethod
        def method(x):
            return x


NAN = struct.unpack(">d", bytes.fromhex("7ff8dead0000beef"))[0]

VALUES = {
    "none": None,
    "booleans": [True, False],
    "integers": [0, -1, 2**63, -(2**70)],
    "an integer of 30,000 bits": 3**20000,
    "its opposite": -(3**20000),
    "floats": [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3],
    "infinities": [math.inf, -math.inf],
    "nan with a payload": [math.nan, NAN],
    "strings": ["", "ä☃\x00", "\ud800", "$", "x" * 1000],
    "bytes": [b"", b"\x00\xff", bytearray(b"ab")],
    "complex": [1 + 2j, complex(math.nan, -0.0)],
    "tuple": (1, (2.0, ("a",)), ()),
    "empty": [[], {}, set(), frozenset(), ()],
    "keys": {1: "a", "1": "b", 2.5: "c", None: "d", (1, "x"): "e", False: "f", b"k": "g"},
    "order of keys": {"z": 1, "a": 2, "m": 3},
    "a key that begins with the tag": {"$": "tensor", "$x": 1},
    "ordered": OrderedDict([("b", 1), ("a", [2])]),
    "sets": [{1, 2}, {"a"}, frozenset([(1, 2)])],
    "defaultdict": defaultdict(list, {"a": [1]}),
    "counter": Counter("abca"),
    "deque": deque([1, 2, 3], maxlen=3),
    "bunch": Bunch(a=1, b=Bunch(c=[2.0])),
    "slices": [slice(None), slice(1, None, 2), range(3), range(5, -5, -2), ...],
    "numpy numbers": [
        np.float32(0.1),
        np.float64(math.nan),
        np.int8(-3),
        np.bool_(True),
        np.uint64(2**64 - 1),
        np.complex64(1 + 2j),
        np.longdouble(1) / 3,
    ],
    "numpy texts": [np.str_("ä"), np.str_(""), np.bytes_(b"x"), np.bytes_(b"")],
    "numpy times": [
        np.datetime64("2020-01-01T00:00:01.5"),
        np.datetime64("NaT"),
        np.timedelta64(3),
    ],
    "dates": [date(2020, 2, 29), datetime(2020, 1, 1, 2, 3, 4, 5), time(1, 2), timedelta(-1, 2, 3)],
    "zoned": [datetime(2020, 1, 1, tzinfo=UTC), time(1, tzinfo=timezone(timedelta(hours=-5.5)))],
    "exact": [Decimal("1.10"), Decimal("NaN").__class__("-0"), Fraction(1, 3), UUID(int=7)],
    "paths": [Path("a/../b"), PurePosixPath("/x"), PureWindowsPath(r"c:\x")],
    "enums": [Color.RED, Color.BLUE, Level.HIGH, Level.LOW | Level.HIGH],
    "namedtuple": Point(1, [2.0]),
    "classes": [int, dict, nn.Linear, Plain, Holder.Inner, ValueError, torch.optim.SGD],
    "functions": [
        function,
        torch.tanh,
        nn.functional.relu,
        nn.functional.gelu,
        nn.init.zeros_,
        Holder.Inner.method,
    ],
    "torch": [torch.Size([2, 3]), torch.float16, torch.device("cuda:1"), torch.channels_last],
    "pandas dtypes": [
        pd.CategoricalDtype(["a", "b"], ordered=True),
        pd.Int64Dtype(),
        pd.StringDtype("python"),
        pd.DatetimeTZDtype("ns", "UTC"),
    ],
    "numpy dtypes": [np.dtype("<f4"), np.dtype([("a", "<i4"), ("b", "<f8", (2,))]), np.dtype("O")],
    "subclasses": [Table(a=1), Row([1, 2])],
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_value_comes_back_to_the_bit(value):
    assert bits(through(value)) == bits(value)


def test_nan_keys_and_infinite_keys_come_back():
    keys = list(through({math.inf: 1, NAN: 2}))
    assert bits(keys) == bits([math.inf, NAN])


RECORD = [("a", "i4"), ("b", "f8", (2,)), ("c", "U3")]
ARRAYS = {
    **{
        np.dtype(kind).name: np.arange(6).reshape(2, 3).astype(kind)
        for kind in ["?", "b", "B", "h", "H", "i", "I", "l", "L", "e", "f", "d", "F", "D", "g"]
    },
    "zero-dimensional": np.array(1.5),
    "empty": np.empty((0, 3), np.float32),
    "big-endian": np.arange(3, dtype=">i4"),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strings": np.array(["a", "äöü", ""]),
    "bytes": np.array([b"a", b"bc"]),
    "objects": np.array([None, "a", 1.5, [1]], dtype=object),
    "matrix of objects": np.array([["a", 1], [None, 2.0]], dtype=object),
    "times": np.array(["2020-01-01", "NaT"], dtype="datetime64[ns]"),
    "durations": np.array([1, 2], dtype="timedelta64[ms]"),
    "records": np.array(
        [(1, [2.0, 3.0], "x")], dtype=[("a", "i4"), ("b", "f8", (2,)), ("c", "U3")]
    ),
    "variable strings": np.array(["a", "long" * 20], dtype=np.dtypes.StringDType()),
    "nan": np.array([math.nan, NAN, -0.0]),
}


@pytest.mark.parametrize("value", ARRAYS.values(), ids=ARRAYS)
def test_array_comes_back_to_the_bit(value):
    assert bits(through(value)) == bits(value)


def test_read_only_array_stays_so_and_others_can_be_written_to():
    fixed, free = np.arange(3), np.arange(3)
    fixed.flags.writeable = False
    fixed, free = through([fixed, free])
    free[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        fixed[0] = 5


def test_array_in_a_file_becomes_one_in_memory(tmp_path):
    mapped = np.memmap(tmp_path / "x", dtype=np.float32, mode="w+", shape=(4,))
    mapped[:] = range(4)
    got = through(mapped)
    assert type(got) is np.ndarray
    assert got.tolist() == [0, 1, 2, 3]


DTYPES = [
    *[torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8],
    *[torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64],
    *[torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz],
    *[torch.complex64, torch.complex128],
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensor_of_every_dtype_comes_back_to_the_bit(dtype):
    n_bytes = torch.empty(0, dtype=dtype).element_size() * 6
    raw = torch.arange(n_bytes, dtype=torch.uint8) * 37
    value = torch.tensor([0, 1, 1, 0, 1, 0]).bool() if dtype == torch.bool else raw.view(dtype)
    value = value.reshape(2, 3)
    assert bits(through(value)) == bits(value)


TENSORS = {
    "scalar": torch.tensor(1.5),
    "empty": torch.empty(0, 3),
    "gradients": torch.ones(2, requires_grad=True),
    "parameter": nn.Parameter(torch.ones(2)),
    "frozen": nn.Parameter(torch.ones(2), requires_grad=False),
    "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "channels last with ones": torch.randn(2, 1, 4, 1).to(memory_format=torch.channels_last),
    "transposed": torch.randn(2, 3).T,
    "permuted": torch.randn(2, 3, 4).permute(2, 0, 1),
    "parameter, permuted": nn.Parameter(torch.randn(2, 3).T),
    "conjugate": torch.conj(torch.tensor([1 + 2j])).resolve_conj(),
}


@pytest.mark.parametrize("value", TENSORS.values(), ids=TENSORS)
def test_tensor_keeps_strides_and_gradients(value):
    assert bits(through(value)) == bits(value)


def test_part_of_a_tensor_is_written_without_the_rest():
    value = torch.arange(10)[::3]
    assert through(value).tolist() == [0, 3, 6, 9]
    assert torch.equal(through(torch.ones(1).expand(3)), torch.ones(3))
    lazy = torch.conj(torch.tensor([1 + 2j]))
    assert torch.equal(through(lazy), lazy)


def test_attributes_of_a_parameter_are_kept():
    value = nn.Parameter(torch.ones(2))
    value.weight_decay = 0.5
    assert through(value).weight_decay == 0.5


@pytest.mark.parametrize(
    "value",
    [torch.ones(2, device="meta"), torch.ones(2).to_mkldnn()],
    ids=["meta", "mkldnn"],
)
def test_tensor_without_plain_numbers_is_refused(value):
    with pytest.raises(FormatError, match=r"x\.0 is a tensor of layout"):
        encode([value], "x")


def test_names_of_tensors_are_their_places():
    value = {"layers": [nn.Linear(2, 1)], 3: torch.ones(1), ("a",): torch.ones(1)}
    names = list(encode(value, "module")[1])
    assert names == ["module.layers.0.weight", "module.layers.0.bias", "module.3", "module.tuple-2"]
    assert list(encode({"w": torch.ones(1)}, "")[1]) == ["w"]


def test_places_of_one_name_get_two_names():
    value = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}, "__metadata__": torch.zeros(1)}
    got = decode(*encode(value), Trusted())
    assert got == value
    assert "__metadata__" not in encode(value)[1]


def test_tensors_can_be_renamed_by_place():
    encoder = Encoder({"model.net": "module", "": "rest"})
    encoder({"model": {"net": {"w": torch.ones(1)}, "network": torch.ones(1)}}, "")
    assert list(encoder.tensors) == ["module.w", "rest.model.network"]


# ------------------------------------------------------------------------ identity


def test_what_stands_at_two_places_is_one_object_again():
    tensor, array, items, state = torch.ones(2), np.ones(2), [1], {"a": 1}
    thing = Plain(a=1)
    value = [(x, x) for x in (tensor, array, items, state, thing, {1}, bytearray(b"x"))]
    got = through([value, value])
    assert got[0] is got[1]
    assert all(a is b for a, b in got[0])
    assert len({id(a) for a, _ in got[0]}) == len(value)


def test_equal_things_that_are_two_stay_two():
    a, b = through([[1], [1]])
    assert a is not b
    a, b = through([torch.ones(1), torch.ones(1)])
    assert a is not b
    a.add_(1)
    assert b.item() == 1


def test_what_was_shared_is_changed_at_once():
    shared = []
    got = through({"a": shared, "b": [shared]})
    got["a"].append(1)
    assert got["b"] == [[1]]


def test_objects_may_point_to_one_another():
    parent, child = Plain(), Plain()
    parent.child, child.parents = child, [parent]
    got = through(parent)
    assert got.child.parents[0] is got


def test_module_may_point_to_itself():
    module = nn.Sequential(nn.Linear(1, 1))
    module[0].owner = [module]
    got = through(module)
    assert got[0].owner[0] is got


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_container_in_itself_is_refused(kind):
    value = [1] if kind == "list" else {"a": 1}
    value.append(value) if kind == "list" else value.update(b=value)
    with pytest.raises(FormatError, match="contains itself"):
        encode(value, "x")


def test_nesting_has_a_limit_at_which_it_can_still_be_read():
    def nest(depth):
        value = ()
        for _ in range(depth):
            value = (value,)
        return value

    assert through(nest(140)) == nest(140)
    with pytest.raises(FormatError, match="nested too deeply"):
        encode(nest(1000), "x")


def test_no_wrong_identity_after_objects_have_gone():
    class Fresh:
        """Its state is made anew whenever it is asked for, so addresses come again."""

    value = [WithState(a=[i]) for i in range(200)]
    assert [thing.a for thing in through(value)] == [[i] for i in range(200)]


# ------------------------------------------------------------------------- objects


def test_objects_come_back_by_their_state():
    value = [Record("a", [1.5]), Slotted(1, [2]), Plain(a=torch.ones(1)), WithState(a=3)]
    record, slotted, plain, with_state = through(value)
    assert record == value[0]
    assert slotted == value[1]
    assert plain.a.item() == 1
    assert with_state.a == 3


def test_attributes_of_a_dict_of_ones_own_are_kept():
    value = Table(a=1)
    value.note = "x"
    assert through(value).note == "x"


def test_fitted_estimator_of_scikit_learn_comes_back():
    X = np.random.default_rng(0).normal(size=(20, 3))
    scaler = StandardScaler(with_mean=False).fit(X)
    got = through(scaler, ["sklearn"])
    assert got.get_params() == scaler.get_params()
    assert np.array_equal(got.transform(X), scaler.transform(X))


def test_partial_and_random_generators_go_on():
    partial = functools.partial(function, 1, key=[2])
    got = through(partial)
    assert (got.func, got.args, got.keywords) == (function, (1,), {"key": [2]})
    legacy, new, python = np.random.RandomState(1), np.random.default_rng(2), random.Random(3)
    on_torch = torch.Generator().manual_seed(4)
    draw = [
        lambda g: g.normal(size=3).tolist(),
        lambda g: [g.normal(), g.spawn(1)[0].normal()],
        lambda g: g.random(),
        lambda g: torch.randn(3, generator=g).tolist(),
    ]
    generators = [legacy, new, python, on_torch]
    for generator, numbers in zip(generators, draw, strict=True):
        numbers(generator)
    for generator, copied, numbers in zip(generators, through(generators), draw, strict=True):
        assert type(copied) is type(generator)
        assert numbers(copied) == numbers(generator)


@pytest.mark.parametrize("name", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_every_bit_generator_goes_on(name):
    generator = np.random.Generator(getattr(np.random, name)(5))
    generator.random(3)
    assert through(generator).random(4).tolist() == generator.random(4).tolist()


def test_pandas_objects_come_back():
    frame = pd.DataFrame(
        {
            "n": [1.5, None],
            "s": ["a", "b"],
            "c": pd.Categorical(["x", None], categories=["y", "x"]),
            "i": pd.array([1, None], dtype="Int64"),
            "t": pd.to_datetime(["2020-01-01", None]).tz_localize("Europe/Berlin"),
            3: [True, False],
        },
        index=["r", "q"],
    )
    got = through(frame)
    pd.testing.assert_frame_equal(got, frame)
    pd.testing.assert_series_equal(through(frame["c"]), frame["c"])
    for index in (pd.RangeIndex(3), pd.Index(["a"], name="n"), frame.index, frame.columns):
        pd.testing.assert_index_equal(through(index), index, exact=True)
    assert through([pd.NA, pd.NaT]) == [pd.NA, pd.NaT]


# ------------------------------------------------------------------------- modules


class Tied(nn.Module):
    """Has a tied weight, a buffer that is not kept, and attributes of many kinds."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 3, bias=False)
        self.two = nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight
        self.same = self.one
        self.register_buffer("mask", torch.ones(3), persistent=False)
        self.register_buffer("nothing", None)
        self.register_parameter("absent", None)
        self.act = torch.tanh
        self.sizes = {"a": (1, 2)}
        self.extra = [torch.arange(2)]

    def forward(self, x):
        return self.act(self.two(self.same(x))) * self.mask


def test_module_comes_back_with_ties_buffers_and_attributes():
    module = Tied().eval()
    got = through(module)
    assert not got.training
    assert got.two.weight is got.one.weight
    assert got.same is got.one
    assert got.act is torch.tanh
    assert got.sizes == {"a": (1, 2)}
    assert got.extra[0].tolist() == [0, 1]
    assert list(got.state_dict()) == list(module.state_dict())
    assert [name for name, _ in got.named_buffers()] == ["mask"]
    assert vars(got).keys() == vars(module).keys()
    x = torch.randn(4, 3)
    assert torch.equal(got(x), module(x))
    got(x).sum().backward()
    assert got.one.weight.grad is not None


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.LSTM(3, 4, num_layers=2, bidirectional=True), torch.randn(5, 2, 3)),
        (nn.TransformerEncoderLayer(4, 2, 8, dropout=0), torch.randn(5, 2, 4)),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()),
            torch.randn(2, 1, 5, 5),
        ),
        (nn.ModuleDict({"a": nn.Embedding(5, 2, padding_idx=0)})["a"], torch.tensor([1, 0])),
        (nn.Bilinear(2, 3, 4).double(), None),
        (nn.ParameterList([torch.ones(2)]), None),
        (nn.Sequential(nn.LayerNorm(3), nn.GELU(), nn.MultiheadAttention(4, 2)), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_modules_of_torch_come_back(module, x):
    got = through(module, [])
    assert repr(got) == repr(module)
    assert bits(dict(got.state_dict())) == bits(dict(module.state_dict()))
    if x is not None:
        first, second = module(x), got(x)
        if isinstance(first, tuple):
            first, second = first[0], second[0]
        assert torch.equal(first, second)


def test_module_whose_sizes_are_still_to_be_told_comes_back():
    got = through(nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d()), [])
    assert got(torch.ones(3, 5)).shape == (3, 2)
    assert got[0].in_features == 5


def test_hook_of_a_module_comes_back():
    module = nn.Linear(1, 1)
    module.register_forward_hook(_double)
    got = through(module)
    assert torch.equal(got(torch.ones(1)), module(torch.ones(1)))
    assert not torch.equal(got(torch.ones(1)), got.forward(torch.ones(1)))


def _double(module, args, output):
    return 2 * output


# ------------------------------------------------------------------- what is refused


class Refuses:
    def __reduce__(self):
        return print, ("run",)


def with_method_of_its_own():
    return types.MethodType(function, Plain())


def _open_file():
    return open(__file__)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: lambda x: x, r"<lambda> cannot be written"),
        (lambda: type("Local", (), {})(), r"Local cannot be written"),
        (lambda: Refuses(), r"its state is no dict"),
        (lambda: (i for i in []), r"generator, which cannot be written"),
        (lambda: sys, r"module, which cannot be written"),
        (lambda: np.ma.masked_array([1], mask=[True]), r"MaskedArray"),
        (lambda: datetime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), r"Convert it to UTC"),
        (lambda: with_method_of_its_own(), r"the method"),
        (lambda: pd.MultiIndex.from_tuples([(1, 2)]), r"MultiIndex of pandas"),
    ],
    ids=["lambda", "local", "reduce", "generator", "module", "masked", "zone", "method", "multi"],
)
def test_what_cannot_be_written_is_named_by_its_place(make, told):
    value = {"model_": {"module_": Plain(act=make())}}
    with pytest.raises(FormatError, match=rf"^model_\.module_\.act.*{told}"):
        encode(value)


def test_open_file_is_named_by_its_place():
    with _open_file() as file, pytest.raises(FormatError, match=r"^x\.0 is a _io"):
        encode([file], "x")


def test_function_that_is_hidden_by_another_is_refused(monkeypatch):
    hidden = function
    monkeypatch.setattr(sys.modules[__name__], "function", _double)
    with pytest.raises(FormatError, match="another object has that name"):
        encode(hidden, "x")


@pytest.mark.parametrize(
    "plain",
    [
        {"$": "unknown"},
        {"$": 5},
        {"$": "tuple"},
        {"$": "tensor", "name": "absent"},
        {"$": "again", "id": 3},
        {"$": "shared", "id": 0, "value": {"$": "tuple", "items": []}},
        {"$": "shared", "id": 0, "value": "x"},
        {"$": "int", "hex": "zz"},
        {"$": "bytes", "base64": "é"},
        {"$": "float", "bytes": "00"},
        {"$": "dict", "items": [[[], 1]]},
        {"$": "dict", "items": [1]},
        {"$": "array", "shape": [2**40], "dtype": "<f8", "name": "t"},
        {"$": "array", "shape": [-1], "dtype": "<f8", "name": "t"},
        {"$": "array", "shape": [2], "dtype": "|O", "name": "t"},
        {"$": "array", "shape": [2**40], "dtype": {"$": "dtype", "description": "|O"}, "items": []},
        {"$": "array", "shape": [2], "dtype": [["a", "|O"]], "name": "t"},
        {"$": "array", "shape": [0], "dtype": "<U0", "name": "t"},
        {"$": "scalar", "dtype": "|O", "bytes": "00" * 8},
        {"$": "scalar", "dtype": "<f8", "bytes": "00"},
        {"$": "tensor", "name": "t", "strides": [2**40]},
        {"$": "tensor", "name": "t", "strides": [0]},
        {"$": "tensor", "name": "t", "class": "builtins:int"},
        {"$": "tensor", "name": "t", "dtype": "torch.load", "shape": [2]},
        {"$": "tensor", "name": "t", "dtype": "torch.int32", "shape": [2**60]},
        {"$": "constant", "name": "torch.hub"},
        {"$": "device", "name": "nonsense"},
        {"$": "module", "class": "builtins:dict"},
        {"$": "object", "class": "builtins:int"},
        {"$": "object", "class": "builtins:type", "state": {}},
        {"$": "object", "class": "torch.nn.functional:relu"},
        {"$": "enum", "class": "builtins:int", "value": 3},
        {"$": "method", "of": 1, "name": "__class__"},
        {"$": "partial", "items": [1, [], {}]},
        {"$": "path", "kind": "os", "path": "x"},
        {"$": "as text", "kind": "eval", "text": "1"},
        {"$": "as text", "kind": "date", "text": "soon"},
        {"$": "RandomState", "state": {"bit_generator": "seed"}, "seed": None},
        {
            "$": "Generator",
            "state": {"bit_generator": "PCG64"},
            "seed": {"pool_size": 2**30, "entropy": 1},
        },
        {"$": "dtype of pandas", "name": "nonsense"},
        {"$": "unsized", "class": "torch.nn.parameter:Parameter", "dtype": "torch.float32"},
    ],
    ids=lambda plain: "-".join(map(str, plain.values()))[:60],
)
def test_content_that_is_wrong_is_refused_as_damaged(plain):
    with pytest.raises(DamagedFileError):
        decode([plain], {"t": torch.zeros(2)}, Trusted())


def test_content_that_is_nested_without_end_is_refused():
    plain = []
    for _ in range(100_000):
        plain = [plain]
    with pytest.raises(DamagedFileError):
        decode(plain, {}, Trusted())


def test_nothing_is_made_if_one_name_is_not_trusted():
    made = []

    class Spy(Trusted):
        def find(self, name):
            made.append(name)
            return super().find(name)

    plain = encode([nn.Linear(1, 1), Plain(a=1), function])[0]
    with pytest.raises(UntrustedError) as error:
        decode(plain, {}, Spy())
    assert made == []
    assert f"'{__name__}.Plain', '{__name__}.function'" in str(error.value)


def test_tensor_of_a_device_that_is_not_there_is_on_the_cpu():
    plain, tensors = encode(nn.Parameter(torch.ones(2)), "x")
    got = decode({**plain, "device": "xpu:3"}, tensors, Trusted())
    assert got.device.type == "cpu"
    assert isinstance(got, nn.Parameter)
    assert got.requires_grad


# ------------------------------------------------------------------------- in general

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers()
)
keys = st.text() | st.integers() | st.floats(allow_nan=False) | st.tuples(st.text(), st.integers())
nests = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(keys, inner)
        | st.lists(inner).map(tuple)
        | st.frozensets(st.text() | st.integers())
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(nests)
def test_any_nest_comes_back_to_the_bit(value):
    assert bits(through(value)) == bits(value)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["items", "name", "id", "value", "class", "state", "$"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


PARTS = ["items", "name", "id", "value", "class", "state", "shape", "dtype", "kind", "text"]
PARTS += ["parts", "hex", "base64", "bytes", "strides", "device", "of", "name_of", "seed"]
PARTS += ["missing", "factory", "maxlen", "_parameters", "codes", "values", "range", "index"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted([*DECODERS, *MAKERS])),
    st.dictionaries(st.sampled_from(PARTS), junk, max_size=6),
)
def test_junk_is_refused_or_read_but_never_breaks_anything(tag, parts):
    with contextlib.suppress(FormatError):
        decode({"$": tag, **parts}, {"t": torch.zeros(2)}, Trusted())
