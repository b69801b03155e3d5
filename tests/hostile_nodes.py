"""What a hostile author writes into the JSON of a file, with a right checksum."""

import math

from guarded_reading import DESCRIPTOR

HUGE = 2**62
DEEP = 900


def named(name):
    return {"$": "name", "name_of": name}


def thing(name, **state):
    return {"$": "object", "class": name, "state": state}


def module(name="torch.nn.modules.linear:Linear", parameters=(), children=(), **state):
    empty = {"_parameters": dict(parameters), "_buffers": {}, "_modules": dict(children)}
    return {"$": "module", "class": name, **empty, "state": state}


def items(tag, *parts, **more):
    return {"$": tag, "items": list(parts), **more}


def pairs(**parts):
    return [[key, value] for key, value in parts.items()]


def partial(function, *args):
    return items("partial", named(function), items("tuple", *args), {})


def nested(depth, leaf=1):
    node = leaf
    for _ in range(depth):
        node = items("tuple", node)
    return node


def laughs(wrap, depth=60):
    """Return something small whose parts, counted one by one, are 2 ** depth."""
    node = wrap(1, 2)
    for i in range(depth):
        again = {"$": "again", "id": i}
        node = wrap({"$": "shared", "id": i, "value": node}, again)
    return node


def array(dtype, *parts, **more):
    return {"$": "array", "shape": [len(parts)], "dtype": dtype, "items": list(parts), **more}


def dtype(description):
    return {"$": "dtype", "description": description}


ENDLESS = items("range", 0, HUGE, 1)
PATH = {"$": "as text", "kind": "Path", "text": "written-by-a-file"}
CALLS = items("defaultdict", factory=partial("skorchlike.model.checkpoint_lock:FolderLock", PATH))
DUCK = thing("skorchlike.callbacks.early_stopping:EarlyStopping", keys=named("torch:relu"))
TENSOR = {"$": "tensor", "name": "module.0.weight"}
BUNCH = "sklearn.utils._bunch:Bunch"
EMPTY = thing("skorchlike.model.trained:TrainedModel")
ENTRY = "skorchlike.model.checkpoint_manifest:Entry"
LOCK = "skorchlike.model.checkpoint_lock:FolderLock"

PATHS = """
    os:system posix:system builtins:eval builtins:exec builtins:__import__ builtins:open
    builtins:getattr subprocess:Popen torch.hub:load torch:load torch.serialization:load
    pickle:loads _pickle:loads importlib:import_module torch.nn.functional:torch.hub.load
    torch.nn.functional.torch.hub:load torch.nn.modules.module:torch
    torch.nn.modules.module:torch.load torch.nn.modules.module:functools.partial
    torch.nn.functional:importlib.import_module torch.nn.functional:boolean_dispatch.__globals__
    torch.nn:Module.__subclasses__ torch.nn.modules.module:Module.__init__.__globals__
    torch.nn:modules.module.torch skorchlike.exceptions:importlib.import_module
    skorchlike.model.files:os.system skorchlike.model.files:os skorchlike.model.storage:remove
    skorchlike:save skorchlike.model.persistence:Path skorchlike.__main__:x
    torch.utils.cpp_extension:load torch.multiprocessing:spawn
    torch.distributed:init_process_group canary:strike torch.nn.canary:strike
    skorchlike.canary:strike canary:Thing : os :eval .canary:strike torch.nn.:Linear
    torch.nn..modules:Linear torch/nn:Linear torch.nn.modules.linear:Linear:x
    torch.nn.modules.linear:__class__ torch.nn:Nothing numpy.ctypeslib:load_library ctypes:CDLL
    webbrowser:open functools:reduce operator:attrgetter operator:methodcaller numpy:load
    joblib:load timeit:main sklearn.utils:Bunch.__init__ sklearn.externals:joblib pandas:eval
    antigravity:x
""".split()  # noqa: SIM905

NODES = {
    "import path": {
        **{f"function {path}": named(path) for path in PATHS},
        **{f"class {path}": thing(path) for path in PATHS[::4]},
        "module os:system": module("os:system"),
        "module subprocess:Popen": module("subprocess:Popen", args=["touch", "canary"]),
        "module canary:Thing": module("canary:Thing"),
        "enum canary:Thing": {"$": "enum", "class": "canary:Thing", "value": 1},
        "tensor canary:Thing": {**TENSOR, "class": "canary:Thing"},
        "unsized canary:Thing": {
            **{"$": "unsized", "class": "canary:Thing"},
            **{"dtype": "torch.float32", "requires_grad": False},
        },
        "partial canary:strike": partial("canary:strike", 1),
        "name is a list": named(["os", "system"]),
        "name is a number": named(5),
        "name is missing": {"$": "name"},
        "name is empty": named(""),
    },
    "class that does not fit": {
        "a function as a class": thing("torch.nn.functional:relu"),
        "a function as a module": module("torch.nn.functional:relu"),
        "a callback as a module": module("skorchlike.callbacks.early_stopping:EarlyStopping"),
        "a module as a tensor": {**TENSOR, "class": "torch.nn.modules.linear:Linear"},
        "a module as an enum": {
            **{"$": "enum", "class": "torch.nn.modules.linear:Linear"},
            "value": 1,
        },
        "builtins:type": thing("builtins:type"),
        "builtins:int with a state": thing("builtins:int", real=5),
        "an abstract class": thing("skorchlike.estimator:BaseNeuralNet"),
        "a lock that closes a file": thing(LOCK, descriptor=DESCRIPTOR),
        "an optimizer whose state is another": thing(
            "torch.optim.adam:Adam", param_groups=[{"params": [1]}], state=CALLS, defaults=DUCK
        ),
        "an optimizer whose defaults call": thing(
            "torch.optim.sgd:SGD",
            defaults=thing(
                "skorchlike.callbacks.early_stopping:EarlyStopping",
                setdefault=partial(LOCK, PATH),
            ),
            state={},
            param_groups=[],
        ),
    },
    "overridden": {
        "forward by a function": module(forward=named("torch.nn.functional:relu")),
        "__call__ by a function": module(__call__=named("torch.nn.functional:relu")),
        "forward by a class": module(forward=named("torch.nn.modules.linear:Linear")),
        "a method by a partial": module(train=partial("torch.nn.functional:relu", 1)),
        "a method of a callback": thing(
            "skorchlike.callbacks.early_stopping:EarlyStopping",
            on_begin=named("torch.nn.functional:relu"),
        ),
        "__class__": module(__class__=named("torch.nn.modules.activation:ReLU")),
        "__dict__": module(__dict__={}),
        "__setstate__": thing(
            "skorchlike.callbacks.early_stopping:EarlyStopping",
            __setstate__=named("torch.nn.functional:relu"),
        ),
        "_parameters in the state": module(_parameters=5),
        "_modules in the state": module(_modules=CALLS),
        "hooks are a list": module(_forward_hooks=[named("torch.nn.functional:relu")]),
        "hooks are names": module(_forward_hooks=items("ordered", [0, "os.system"])),
        "a hook of os": module(_forward_hooks=items("ordered", [0, named("os:system")])),
        "hooks that make files": module(
            _forward_pre_hooks=items("ordered", [0, partial(LOCK, PATH)])
        ),
        "a wrapped hook of nothing": module(
            _forward_pre_hooks=items(
                "ordered",
                [0, thing("torch.nn.modules.module:_WrappedHook", hook=None, with_module=True)],
            )
        ),
        "a method that does not exist": {"$": "method", "name": "no_such", "of": module()},
        "a method of a number": {"$": "method", "name": "bit_length", "of": 5},
        "a dunder method": {"$": "method", "name": "__reduce_ex__", "of": module()},
    },
    "something is called": {
        "a factory that makes a file": items(
            "set", items("defaultdict", factory=partial(LOCK, PATH))
        ),
        "a missing key of a generator": {"$": "Generator", "state": CALLS, "seed": None},
        "a missing key of a random state": {"$": "RandomState", "state": CALLS, "seed": None},
        "a missing key of a seed": {
            "$": "RandomState",
            "state": {"bit_generator": "MT19937"},
            "seed": CALLS,
        },
        "a state that is an object": {**thing("skorchlike.inputs:Inputs"), "state": DUCK},
        "a state with keys of its own": {
            "$": "object",
            "class": "skorchlike.callbacks.early_stopping:EarlyStopping",
            "state": DUCK,
        },
        "slots that are an object": {
            "$": "object",
            "class": "skorchlike.callbacks.early_stopping:EarlyStopping",
            "state": items("tuple", {}, DUCK),
        },
        "slots with dunder names": {
            "$": "object",
            "class": "skorchlike.callbacks.early_stopping:EarlyStopping",
            "state": items("tuple", {}, {"__class__": named("torch.nn.modules.linear:Linear")}),
        },
        "a state that is a list": {**EMPTY, "state": [1, 2]},
        "a state with numbers for names": {
            **EMPTY,
            "state": items("dict", [1, 2]),
        },
        "a lazy attribute of torch": {"$": "constant", "name": "torch.onnx"},
        "a function of torch as a constant": {"$": "constant", "name": "torch.load"},
        "an old attribute of torch": {"$": "constant", "name": "torch.has_mps"},
        "a module whose __setstate__ is cut off": {
            "$": "module",
            "class": "torch.nn.modules.rnn:LSTM",
            "state": {"_all_weights": [[0]], "num_layers": HUGE, "bidirectional": False},
        },
        "a recurrent module of many layers": module(
            "torch.nn.modules.rnn:LSTM",
            all_weights=[[0]],
            num_layers=HUGE,
            bidirectional=False,
            bias=True,
            proj_size=0,
        ),
        "a module of other processes": module(
            "torch.nn.parallel.distributed:DistributedDataParallel"
        ),
    },
    "endless": {
        **{f"{tag} of a range": {"$": tag, "items": ENDLESS} for tag in ("set", "tuple", "list")},
        "frozenset of a range": {"$": "frozenset", "items": ENDLESS},
        "deque of a range": {"$": "deque", "items": ENDLESS, "maxlen": None},
        "slice of a range": {"$": "slice", "items": ENDLESS},
        "range of a range": {"$": "range", "items": ENDLESS},
        "complex of a range": {"$": "complex", "items": ENDLESS},
        "partial of a range": items("partial", named("torch:relu"), ENDLESS, {}),
        "bunch of a range": {
            "$": "object",
            "class": BUNCH,
            "items": ENDLESS,
        },
        "random of a range": {"$": "Random", "state": items("tuple", 2, ENDLESS, None)},
        "seed of a range": {
            "$": "RandomState",
            "state": {"bit_generator": "MT19937", "state": {"key": ENDLESS, "pos": 1}},
            "seed": {"entropy": ENDLESS, "spawn_key": ENDLESS, "pool_size": 4},
        },
        "key of a range": {
            "$": "RandomState",
            "state": {
                **{"bit_generator": "MT19937", "state": {"key": ENDLESS, "pos": 1}},
                **{"has_gauss": 0, "gauss": 0.0},
            },
            "seed": None,
        },
        "pool of a seed": {
            "$": "RandomState",
            "state": {"bit_generator": "MT19937"},
            "seed": {"entropy": 1, "spawn_key": items("tuple"), "pool_size": HUGE},
        },
        "series over a range": {
            "$": "series",
            "index": {"$": "index", "range": [0, 10**9, 1], "label": None},
            "label": None,
            "dtype": dtype("<f8"),
            "values": 5,
        },
        "frame over a range": {
            "$": "frame",
            "index": {"$": "index", "range": [0, 10**9, 1], "label": None},
            "columns": {"$": "index", "range": [0, 1, 1], "label": None},
            "values": [{"$": "column", "dtype": dtype("<f8"), "values": 5}],
        },
        "codes of a range": {
            "$": "series",
            "index": {"$": "index", "range": [0, 10**9, 1], "label": None},
            "label": None,
            "dtype": {
                "$": "categories",
                "categories": {"$": "index", "range": [0, HUGE, 1], "label": None},
                "ordered": False,
            },
            "codes": ENDLESS,
        },
        "fraction with a huge exponent": {
            "$": "as text",
            "kind": "Fraction",
            "text": "1e999999999",
        },
        "dtype of two gigabytes": array(dtype([["a", "|O"], ["b", "|V2000000000"]]), 1),
        "array of two gigabytes": array(dtype("|V2000000000"), 1),
        "set of laughs": items("set", laughs(lambda a, b: thing(ENTRY, head=a, sha256=b))),
        "enum of laughs": {
            "$": "enum",
            "class": "skorchlike.model.trained:TrainedModel",
            "value": laughs(lambda a, b: [a, b]),
        },
        "dtype of laughs": array(laughs(lambda a, b: [a, b]), 1),
        "strings of laughs": {
            "$": "dtype of strings",
            "missing": [laughs(lambda a, b: [a, b])],
        },
        "pandas strings of laughs": {
            "$": "strings",
            "storage": "python",
            "missing": laughs(lambda a, b: [a, b]),
        },
        "random of laughs": {
            "$": "Random",
            "state": items("tuple", laughs(lambda a, b: [a, b]), None, None),
        },
        "arrow strings": {"$": "strings", "storage": "pyarrow_numpy", "missing": None},
    },
    "tags": {
        **{
            f"unknown {tag!r:.20}": {"$": tag}
            for tag in ("pickle", "", "__reduce__", None, 5, True, ["list"], {"a": 1}, "x" * 10**5)
        },
        **{
            f"nothing beside {tag}": {"$": tag}
            for tag in (
                *("bytes", "set", "tensor", "array", "object", "module", "generator", "shared"),
                *("again", "partial", "method", "enum", "scalar", "as text", "frame", "dict"),
                *("defaultdict", "deque", "range", "int", "float", "Random", "Size", "device"),
            )
        },
        "again of nothing": {"$": "again", "id": 999},
        "again of itself": {"$": "shared", "id": 7, "value": {"$": "again", "id": 7}},
        "a list that holds itself": {
            "$": "shared",
            "id": 7,
            "value": [{"$": "again", "id": 7}],
        },
        "shared is plain": {"$": "shared", "id": 7, "value": 5},
        "shared without a number": {"$": "shared", "id": "x", "value": []},
        "shared twice under one id": [
            {"$": "shared", "id": 7, "value": [1]},
            {"$": "shared", "id": 7, "value": [2]},
        ],
        "a set that holds itself": {
            "$": "shared",
            "id": 7,
            "value": items("set", {"$": "again", "id": 7}),
        },
        "nested too deeply": nested(DEEP),
        "a dtype nested too deeply": dtype(nested(DEEP)["items"]),
        "dtype that holds itself": dtype([["a", [["a", "x"]]]]),
        "set of lists": items("set", [1]),
        "set of dicts": items("set", {"a": 1}),
        "dict with a list as key": items("dict", [[1], 2]),
        "dict entries of three": items("dict", [1, 2, 3]),
        "dict entries are a number": {"$": "dict", "items": 5},
        "tuple of a string": {"$": "tuple", "items": "abc"},
        "tuple of a dict": {"$": "tuple", "items": {"a": 1}},
        "bytes that are no base64": {"$": "bytes", "base64": "!!"},
        "bytes that are a number": {"$": "bytes", "base64": 12},
        "int with letters": {"$": "int", "hex": "0xzz"},
        "int that is a list": {"$": "int", "hex": [1]},
        "float of two bytes": {"$": "float", "bytes": "7ff0"},
        "float that is a number": {"$": "float", "bytes": 7},
        "complex of three": items("complex", 1, 2, 3),
        "range of strings": items("range", "a", "b", 1),
        "range without steps": items("range", 0, 5, 0),
        "size of strings": {"$": "Size", "sizes": ["a"]},
        "deque with a negative length": {"$": "deque", "items": [], "maxlen": -1},
        "factory that is a number": items("defaultdict", factory=5),
        "device that does not exist": {"$": "device", "name": "toaster"},
        "device that is a list": {"$": "device", "name": ["cpu"]},
        "dtype that does not exist": {"$": "constant", "name": "torch.float33"},
        "kind of text unknown": {"$": "as text", "kind": "eval", "text": "1"},
        "date in no calendar": {"$": "as text", "kind": "date", "text": "2024-13-45"},
        "duration of ages": {"$": "timedelta", "parts": [HUGE, HUGE, HUGE]},
        "pandas dtype unknown": {"$": "dtype of pandas", "name": "Sparse[__import__]"},
        "a time zone that is a file": {
            "$": "dtype of pandas",
            "name": "datetime64[ns, dateutil//etc/passwd]",
        },
    },
    "tensor": {
        "missing": {"$": "tensor", "name": "no.such.tensor"},
        "name is a list": {"$": "tensor", "name": ["module"]},
        "strides with gaps": {**TENSOR, "strides": [6, 2]},
        "strides that overlap": {**TENSOR, "strides": [0, 0]},
        "strides too few": {**TENSOR, "strides": [1]},
        "strides negative": {**TENSOR, "strides": [-3, -1]},
        "strides huge": {**TENSOR, "strides": [HUGE, HUGE]},
        "strides of strings": {**TENSOR, "strides": ["3", "1"]},
        "dtype unknown": {**TENSOR, "dtype": "torch.nothing", "shape": [1]},
        "dtype a function": {**TENSOR, "dtype": "torch.load", "shape": [1]},
        "shape too large": {**TENSOR, "dtype": "torch.float32", "shape": [HUGE]},
        "shape overflows": {**TENSOR, "dtype": "torch.float32", "shape": [2**31, 2**33]},
        "shape of strings": {**TENSOR, "dtype": "torch.float32", "shape": ["2", "3"]},
        "on a device of nothing": {**TENSOR, "device": "meta"},
        "on a device unknown": {**TENSOR, "device": "toaster"},
        "gradients of whole numbers": {
            **{"$": "tensor", "name": "estimator.classes_"},
            "requires_grad": True,
        },
        "attributes that steer torch": {
            **{**TENSOR, "class": "torch.nn.parameter:Buffer"},
            "attributes": {"__torch_function__": partial(LOCK, PATH)},
        },
        "attributes are a list": {**TENSOR, "parameter": True, "attributes": [1]},
        "unsized of another class": {
            **{"$": "unsized", "class": "torch.nn.parameter:Parameter"},
            **{"dtype": "torch.float32", "requires_grad": False},
        },
        "array of another length": {
            **{"$": "array", "shape": [99], "dtype": "<i8"},
            "name": "estimator.classes_",
        },
        "array of negative lengths": {
            **{"$": "array", "shape": [-1, -2], "dtype": "<i8"},
            "name": "estimator.classes_",
        },
        "array of endless nothing": {
            **{"$": "array", "shape": [0, HUGE, HUGE], "dtype": dtype("|O")},
            "items": [],
        },
        "array of objects as bytes": {
            **{"$": "array", "shape": [2], "dtype": "|O"},
            "name": "estimator.classes_",
        },
        "array of records with objects": {
            **{"$": "array", "shape": [2], "dtype": [["a", "|O"]]},
            "name": "estimator.classes_",
        },
        "array of an unknown unit": {
            **{"$": "array", "shape": [2], "dtype": "<M8[fortnight]"},
            "name": "estimator.classes_",
        },
        "array in an unknown dtype": array(5, 1),
        "array of objects too few": {**array(dtype("|O"), 1), "shape": [3]},
        "scalar too short": {"$": "scalar", "dtype": "<f8", "bytes": "00"},
        "scalar of an object": {"$": "scalar", "dtype": "|O", "bytes": "0" * 16},
        "text that is a number": {"$": "text", "value": 10**9},
    },
    "generator": {
        "state too short": {"$": "generator", "device": "cpu", "state": TENSOR},
        "state is a number": {"$": "generator", "device": "cpu", "state": 5},
        "device that is not here": {"$": "generator", "device": "toaster", "state": TENSOR},
        "numpy's unknown": {"$": "Generator", "state": {"bit_generator": "seed"}, "seed": None},
        "numpy's is a list": {"$": "Generator", "state": [1], "seed": None},
        "numpy's key too short": {
            "$": "RandomState",
            "state": {
                **{"bit_generator": "MT19937", "state": {"key": [1], "pos": 0}},
                **{"has_gauss": 0, "gauss": 0.0},
            },
            "seed": None,
        },
        "numpy's place beyond the end": {
            "$": "RandomState",
            "state": {
                **{"bit_generator": "MT19937", "has_gauss": 0, "gauss": 0.0},
                "state": {
                    "key": {"$": "array", "shape": [624], "dtype": "<u4", "name": "key"},
                    "pos": 2**30,
                },
            },
            "seed": None,
        },
        "numpy's place before the start": {
            "$": "Generator",
            "state": {
                **{"bit_generator": "Philox", "has_uint32": 0, "uinteger": 0},
                **{"buffer": [0, 0, 0, 0], "buffer_pos": -(2**30)},
                "state": {"counter": [0, 0, 0, 0], "key": [0, 0]},
            },
            "seed": None,
        },
        "Python's of another version": {"$": "Random", "state": items("tuple", 9, None, None)},
        "Python's too short": {
            "$": "Random",
            "state": items("tuple", 3, items("tuple", 1, 2), None),
        },
    },
}


def _model(**parts):
    def change(plain):
        plain["estimator"]["state"]["model_"]["state"].update(parts)

    return change


def _state(**parts):
    return lambda plain: plain["estimator"]["state"].update(parts)


def _without(*path):
    def change(plain):
        for key in path[:-1]:
            plain = plain[key]
        del plain[path[-1]]

    return change


def _put(value, *path):
    def change(plain):
        for key in path[:-1]:
            plain = plain[key]
        plain[path[-1]] = value

    return change


in_estimator = {
    "no estimator": _without("estimator"),
    "estimator is a number": _put(5, "estimator"),
    "estimator is a list": _put([1], "estimator"),
    "estimator is a class": _put(named("skorchlike.classifier:NeuralNetClassifier"), "estimator"),
    "estimator is a module": _put(module(get_params=5), "estimator"),
    "estimator is a dict with get_params": _put(
        items("object", *pairs(get_params=1), **{"class": BUNCH}),
        "estimator",
    ),
    "estimator without a state": _without("estimator", "state"),
    "state is a string": _put("lr", "estimator", "state"),
    "a parameter is missing": _without("estimator", "state", "lr"),
    "a parameter that does not exist": _state(no_such_parameter=1),
    "a method overridden": _state(predict=named("torch.nn.functional:relu")),
    "get_params overridden": _state(get_params=named("torch.nn.functional:relu")),
    "routed is a list": _state(_routed=[1]),
    "routed to nothing": _state(_routed={"nothing__at__all": 1}),
    "model is a number": _state(model_=5),
    "model is a dict": _state(model_={"place_": 5}),
    "model of another class": _state(model_=thing("skorchlike.data.rows:Placement", place_=1)),
    "model without a module": _without("estimator", "state", "model_", "state", "module_"),
    "model without inputs": _without("estimator", "state", "model_", "state", "inputs_"),
    "module is a list": _model(module_=[]),
    "module is a class": _model(module_=named("torch.nn.modules.linear:Linear")),
    "criterion is a string": _model(criterion_="mse"),
    "optimizer is a list": _model(optimizer_=[]),
    "callbacks are a list": _model(callbacks_=[1]),
    "history is a string": _model(history_="good"),
    "history has a number": _model(history_=[1]),
    "epochs are a string": _model(n_epochs_="2"),
    "epochs are negative": _model(n_epochs_=-1),
    "epochs are enormous": _model(n_epochs_=10**30),
    "seed is a list": _model(seed_=[1]),
    "place is a number": _model(place_=5),
    "place is a module": _model(place_=module()),
    "place has a string": _model(
        place_=thing("skorchlike.data.rows:Placement", device="cpu", dtype=1, input_dtype=1)
    ),
    "inputs are a number": _model(inputs_=5),
    "what continues is a list": _model(continuation_=[]),
}


def _position(**parts):
    def change(plain):
        plain["snapshot"]["position"].update(parts)

    return change


def _head(**parts):
    return lambda plain: plain["head"].update(parts)


in_snapshot = {
    "no snapshot": _without("snapshot"),
    "no head": _without("head"),
    "head is a list": _put([], "head"),
    "head without a score": _without("head", "score"),
    "snapshot is a number": _put(5, "snapshot"),
    "snapshot is a list": _put([1], "snapshot"),
    "snapshot is a module": _put(module(), "snapshot"),
    **{
        f"without {key}": _without("snapshot", key)
        for key in (
            *("module", "buffers", "criterion", "optimizer", "gradients", "callbacks", "history"),
            *("position", "data", "rng", "seed", "start", "max_epochs", "run_id", "identity"),
        )
    },
    **{
        f"{key} is a string": _put("x", "snapshot", key)
        for key in (
            *("module", "buffers", "criterion", "optimizer", "gradients", "callbacks", "history"),
            *("position", "rng", "seed", "start", "max_epochs", "identity"),
        )
    },
    "module has other tensors": _put({"0.weight": TENSOR}, "snapshot", "module"),
    "module has strings": _put({"0.weight": "x", "0.bias": "x"}, "snapshot", "module"),
    "optimizer has no groups": _put({"state": {}, "param_groups": []}, "snapshot", "optimizer"),
    "optimizer has groups of numbers": _put([1], "snapshot", "optimizer", "param_groups"),
    "gradients of other shapes": _put({"0.bias": TENSOR, "0.weight": 5}, "snapshot", "gradients"),
    "buffers that do not exist": _put({"no.such": TENSOR}, "snapshot", "buffers"),
    "a callback is a number": _put({"a": 5}, "snapshot", "callbacks"),
    "history is too short": _put([], "snapshot", "history"),
    "history of numbers": _put([1, 2], "snapshot", "history"),
    "random numbers are too few": _put(TENSOR, "snapshot", "rng", "torch"),
    "random numbers are a list": _put([1], "snapshot", "rng", "shuffle"),
    "NumPy's global generator beyond its end": _put(
        {
            "numpy": items(
                "tuple",
                "MT19937",
                {"$": "array", "shape": [624], "dtype": "<u4", "name": "key"},
                2**30,
            )
        },
        *("snapshot", "rng", "globals"),
    ),
    "global generators are a number": _put(5, "snapshot", "rng", "globals"),
    "seed is negative": _put(-5, "snapshot", "seed"),
    "seed is another": _put(77, "snapshot", "seed"),
    "start is later than the end": _put(10**6, "snapshot", "start"),
    "run is a number": _put(5, "snapshot", "run_id"),
    "data is a number": _put(5, "snapshot", "data"),
    "identity without data": _put({}, "snapshot", "identity"),
    "identity of lists": _put({"data": [], "parameters": [], "split": 1}, "snapshot", "identity"),
    "place is missing a part": _without("snapshot", "position", "step"),
    "place has another part": _position(no_such=1),
    "epoch is a string": _position(epoch="2"),
    "epoch is true": _position(epoch=True),
    "epoch is enormous": _position(epoch=10**30),
    "epoch is negative": _position(epoch=-1),
    "epoch is not that of the head": _position(epoch=1),
    "step is enormous": _position(step=10**30, in_epoch=True),
    "global step is a float": _position(global_step=6.5),
    "elapsed is a string": _position(elapsed="x"),
    "finished is not that of the head": _position(finished=True),
    "in an epoch without data": _position(in_epoch=True, step=1),
    "head's epoch is a string": _head(epoch="2"),
    "head's epoch is true": _head(epoch=True),
    "head's epoch is enormous": _head(epoch=10**300),
    "head's epoch is negative": _head(epoch=-2),
    "head's run is a number": _head(run_id=5),
    "head's score is a list": _head(score=[]),
}


def _entry(**parts):
    return lambda text: text["checkpoints"][0].update(parts)


in_manifest = {
    "file above": _entry(file="../../outside.safetensors"),
    "file absolute": _entry(file="/etc/passwd"),
    "file with a null": _entry(file="epoch-000002.safetensors\0"),
    "file is a number": _entry(file=5),
    "file is the manifest": _entry(file="manifest.json"),
    "file is missing": lambda text: text["checkpoints"][0].pop("file"),
    "epoch above": _entry(epoch="../../2", file="epoch-../../2.safetensors"),
    "epoch is a string": _entry(epoch="2"),
    "epoch is enormous": _entry(epoch=10**300, file=f"epoch-{10**300}.safetensors"),
    "epoch is true": _entry(epoch=True, file="epoch-000001.safetensors"),
    "epoch is negative": _entry(epoch=-1),
    "step is a list": _entry(step=[]),
    "size is negative": _entry(size=-1),
    "size is enormous": _entry(size=10**30),
    "size is a string": _entry(size="10"),
    "sha256 is a number": _entry(sha256=5),
    "sha256 of something else": _entry(sha256="0" * 64),
    "score is a string": _entry(score="best"),
    "best is a string": _entry(best="yes"),
    "an entry is a number": lambda text: text.update(checkpoints=[5]),
    "entries are a dict": lambda text: text.update(checkpoints={"a": 1}),
    "entries are missing": lambda text: text.pop("checkpoints"),
    "entries of files that are not there": lambda text: text["checkpoints"].append(
        {**text["checkpoints"][0], "epoch": 99, "file": "epoch-000099.safetensors"}
    ),
    "run is a list": lambda text: text.update(run_id=[]),
    "run is another": lambda text: text.update(run_id="another"),
    "version 2": lambda text: text.update(version=2),
    "version '1'": lambda text: text.update(version="1"),
    "version true": lambda text: text.update(version=True),
    "version 10**30": lambda text: text.update(version=10**30),
    "format of another": lambda text: text.update(format="another"),
    "identity is deep": lambda text: text.update(identity=nested(100)),
    "score is infinite": _entry(score=math.inf),
}
